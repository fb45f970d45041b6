//! `sandhog tenant`, and what commands see of a tenant with keys.

use std::fs;
use std::time::Duration;

use sandhog_broker::redis::testing::{Durability, Server};
use sandhog_broker::redis::{Config, Redis};
use sandhog_broker::{Broker, LeaseAsk};
use sandhog_core::id::{QueueName, TenantId};

use crate::site::Site;

const MARK: &str = "marker-7f3a9c";

/// A site whose tenant seals with the named one of two keys.
fn with_keys(active: &str) -> Site {
    let site = Site::new();
    for name in ["one", "two"] {
        site.write(&format!("{name}.key"), &site.run(&["tenant", "key"]).out);
    }
    seal_with(&site, active, "one = { file = \"one.key\" }, two = { file = \"two.key\" }");
    site
}

fn seal_with(site: &Site, active: &str, keys: &str) {
    site.write(
        "sandhog.toml",
        &format!("[tenants.acme.encryption]\nactive = \"{active}\"\nkeys = {{ {keys} }}\n"),
    );
}

#[test]
fn a_key_is_made_anew_each_time() {
    let site = Site::empty();
    let (one, two) = (site.run(&["tenant", "key"]).out, site.json(&["tenant", "key"]));
    let two = two["key"].as_str().expect("a text");
    assert_eq!((one.trim().len(), two.len()), (44, 44));
    assert_ne!(one.trim(), two);
}

#[test]
fn the_acl_of_a_tenant_names_its_keys_and_its_users() {
    let site = Site::new();
    let said = site.run(&["tenant", "acl", "acme"]);
    assert_eq!(said.code, 0, "{said:?}");
    let [producer, worker] = said.out.lines().collect::<Vec<_>>()[..] else {
        panic!("two commands: {said:?}")
    };
    let head = "on clearselectors resetkeys";
    assert!(producer.starts_with(&format!("ACL SETUSER acme-producer {head} %R~sandhog:{{acme}}:after:*")));
    assert!(worker.starts_with(&format!("ACL SETUSER acme {head} ~sandhog:{{acme}}:* resetchannels")));
    for line in [producer, worker] {
        assert!(line.contains(" -@all ") && !line.contains("+@"), "{line}");
        assert!(!line.contains("eval") && !line.contains("function") && !line.contains("script"), "{line}");
    }
    assert!(said.err.contains("SETUSER acme '>PASSWORD'"), "{said:?}");
    assert!(said.err.contains("SETUSER acme-producer '>PASSWORD'"), "{said:?}");

    let document = site.json(&["tenant", "acl", "acme", "--user", "ours"]);
    for (n, role, name) in [(0, "producer", "ours-producer"), (1, "worker", "ours")] {
        let user = &document["users"][n];
        assert_eq!((&user["role"], &user["user"]), (&role.into(), &name.into()));
        assert_eq!(user["command"][2], name);
    }
    let document = site.json(&["tenant", "acl", "acme", "--role", "producer", "--user", "ours"]);
    assert_eq!(document["users"].as_array().map(Vec::len), Some(1));
    assert_eq!(document["users"][0]["command"][2], "ours");
    site.run(&["tenant", "acl", "acne"]).fails(1, &["no tenant `acne`", "did you mean `acme`?"]);
    assert_eq!(site.run(&["tenant", "acl", "acme", "--user", "a b"]).code, 2);
    assert_eq!(site.run(&["tenant", "acl", "acme", "--role", "operator"]).code, 2);
}

#[test]
fn the_acl_has_the_digest_of_the_password_that_the_configuration_names() {
    let site = Site::new();
    site.write("password", "hunter2\n");
    // `printf hunter2 | sha256sum`
    let digest = "#f52fbd32b2b3b86ff88ef6c490628285f482af15ddcb29541f94bcf526a3f6c7";
    // A producer's own configuration has the producer's login.
    for (name, others) in [("worker", "acme-producer"), ("acme-producer", "acme")] {
        let own =
            format!("[tenants.acme.broker]\nusername = \"{name}\"\npassword = {{ file = \"password\" }}\n");
        let broker = "[broker]\ntype = \"redis\"\nurl = \"redis://127.0.0.1\"\n";
        site.write("sandhog.toml", &format!("{broker}{own}"));
        let said = site.run(&["tenant", "acl", "acme"]);
        assert!(said.out.contains(&format!("SETUSER {name} resetpass {digest} on ")), "{said:?}");
        assert!(said.out.contains(&format!("SETUSER {others} on ")), "{said:?}");
        assert!(!said.out.contains("hunter2") && said.err.matches("password").count() == 1, "{said:?}");
    }
}

/// What `redis-cli` is given makes both users, and the one for producers is refused what takes the other.
#[test]
fn the_users_work_as_they_come_out() {
    let server = Server::start(Durability::None, &[]);
    let site = Site::new();
    let broker = format!("[broker]\ntype = \"redis\"\nurl = \"{}\"\n", server.url());
    site.write("sandhog.toml", &broker);
    for line in site.run(&["tenant", "acl", "acme"]).out.lines() {
        // As redis-cli cuts a line into words.
        let words: Vec<&str> = line.split_whitespace().collect();
        let () = server.ask(&words).expect("the rules are right");
    }
    site.write("password", "hunter2\n");
    let log_in_as = |name: &str| {
        let () = server.ask(&["ACL", "SETUSER", name, ">hunter2"]).expect("it is there");
        let own =
            format!("[tenants.acme.broker]\nusername = \"{name}\"\npassword = {{ file = \"password\" }}\n");
        site.write("sandhog.toml", &format!("{broker}{own}"));
    };
    log_in_as("acme-producer");
    let id = site.enqueue(&["--delay", "1h"]);
    assert_eq!(site.json(&["job", "show", &id])["state"], "scheduled");
    assert_eq!(site.count("scheduled"), 1);
    site.json(&["usage"]);
    let who_may = "sandhog tenant acl acme --role worker";
    site.run(&["job", "cancel", &id]).fails(1, &["may enqueue jobs and look at them at most", who_may]);
    site.run(&["tenant", "purge", "acme", "--yes"]).fails(1, &[who_may]);
    site.run(&["check"]).fails(1, &["the user is a producer's", who_may]);
    site.run(&["run"]).fails(1, &["the user is a producer's", who_may]);
    assert_eq!(site.count("scheduled"), 1);
    log_in_as("acme");
    assert_eq!(site.json(&["job", "cancel", &id])["done"], "cancelled");
    site.json(&["check"]);
}

#[test]
fn with_the_keys_a_job_is_shown_and_the_file_has_nothing_of_it() {
    let site = with_keys("one");
    let id = site.enqueue(&[&format!("\"{MARK}\"")]);
    let shown = site.json(&["job", "show", &id]);
    assert_eq!((&shown["payload"]["json"], &shown["unreadable"]), (&MARK.into(), &().into()));
    let mut files = 0;
    for file in ["sandhog.db", "sandhog.db-wal"] {
        let Ok(bytes) = fs::read(site.path(file)) else { continue };
        files += 1;
        assert!(!bytes.windows(MARK.len()).any(|window| window == MARK.as_bytes()), "{file}");
    }
    assert!(files > 0, "the jobs are somewhere");
}

#[test]
fn keys_are_rotated_without_a_break() {
    let site = with_keys("one");
    let old = site.enqueue(&["1"]);
    seal_with(&site, "two", "one = { file = \"one.key\" }, two = { file = \"two.key\" }");
    let new = site.enqueue(&["2"]);
    for (id, payload) in [(&old, 1), (&new, 2)] {
        assert_eq!(site.json(&["job", "show", id])["payload"]["json"], payload);
    }
    seal_with(&site, "two", "two = { file = \"two.key\" }");
    let shown = site.json(&["job", "show", &old]);
    let why = shown["unreadable"].as_str().expect("it says why");
    assert!(why.contains("key `one`") && why.contains("tenant acme"), "{why}");
    assert!(site.run(&["job", "show", &old]).out.contains(why));
    assert_eq!(site.json(&["job", "show", &new])["payload"]["json"], 2);
    // Others are shown as well, and what can't be read can be cancelled.
    assert_eq!(site.json(&["jobs"])["jobs"].as_array().map(Vec::len), Some(2));
    assert_eq!(site.json(&["job", "cancel", &old])["done"], "cancelled");
}

#[test]
fn a_producer_without_the_active_key_enqueues_nothing() {
    let site = with_keys("one");
    seal_with(&site, "three", "three = { file = \"three.key\" }");
    let said = site.run(&["enqueue", "echo.run", "1"]);
    said.fails(1, &["tenant acme", "key `three`", "tenants.acme.encryption.keys"]);
    assert_eq!(site.count("ready"), 0);
    // A daemon has to have all of them.
    site.run(&["check", "--offline"]).fails(64, &["sandhog.toml:3", "three.key"]);
}

#[test]
fn plain_data_that_is_still_read_is_warned_of() {
    let site = with_keys("one");
    site.write("sandhog.toml", "");
    let id = site.enqueue(&["1"]);
    let strict = "[tenants.acme.encryption]\nactive = \"one\"\nkeys = { one = { file = \"one.key\" } }\n";
    site.write("sandhog.toml", strict);
    let shown = site.json(&["job", "show", &id]);
    assert!(shown["unreadable"].as_str().is_some_and(|why| why.contains("encryption.plain")), "{shown}");
    site.write("sandhog.toml", &format!("{strict}plain = \"read\"\n"));
    assert_eq!(site.json(&["job", "show", &id])["payload"]["json"], 1);
    let warnings = site.json(&["check"])["warnings"].to_string();
    assert!(warnings.contains("tenants.acme.encryption.plain"), "{warnings}");
}

/// A site without the tenant that it had, of which the broker still keeps something.
fn abandoned() -> Site {
    let site = Site::new();
    let ids: Vec<String> = (0..3).map(|_| site.enqueue(&[])).collect();
    site.run(&["job", "cancel", &ids[0]]);
    site.write("sandhog.toml", "[tenants.globex]\n");
    fs::remove_file(site.path("plugins.d/echo.toml")).expect("it is there");
    site
}

#[test]
fn tenants_are_listed_whether_or_not_the_configuration_has_them() {
    let site = abandoned();
    let listed = site.json(&["tenant", "list"])["tenants"].clone();
    assert_eq!((&listed[0]["tenant"], &listed[0]["configured"]), (&"acme".into(), &false.into()));
    assert_eq!((&listed[0]["plugins"], &listed[0]["counts"]["ready"]), (&0.into(), &2.into()));
    assert_eq!((&listed[1]["tenant"], &listed[1]["configured"]), (&"globex".into(), &true.into()));
    assert!(site.run(&["tenant", "list"]).out.contains("2 ready, 1 cancelled"));
    let warnings = site.json(&["check"])["warnings"].to_string();
    assert!(
        warnings.contains("3 jobs of tenant acme") && warnings.contains("tenant purge acme"),
        "{warnings}"
    );
}

#[test]
fn a_tenant_is_purged_though_the_configuration_has_it_no_more() {
    let site = abandoned();
    site.run(&["tenant", "purge", "acme"]).fails(1, &["remove 3 jobs of tenant acme", "--yes"]);
    site.run(&["tenant", "purge", "acne", "--yes"])
        .fails(1, &["nothing of tenant acne", "did you mean `acme`?"]);
    assert_eq!(site.json(&["tenant", "purge", "acme", "--yes"])["jobs"], 3);
    site.run(&["tenant", "purge", "acme", "--yes"]).fails(1, &["nothing of tenant acme"]);
}

#[test]
fn jobs_that_nobody_serves_are_told_by_the_check() {
    let site = Site::new();
    site.enqueue(&["--queue", "defualt"]);
    site.run(&["enqueue", "no.such", "--queue", "default", "--delay", "1h"]);
    let warnings = site.json(&["check"])["warnings"].to_string();
    for part in ["1 job waits in vain", "queue `defualt`", "did you mean `default`?", "handles `no.such`"] {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
}

/// A file with so many payloads for `sandhog enqueue --bulk`.
fn bulk(site: &Site, count: usize) {
    site.write("payloads", &"1\n".repeat(count));
    let said = site.run(&["enqueue", "echo.run", "--bulk", "payloads"]);
    assert_eq!(said.code, 0, "{said:?}");
}

#[test]
fn jobs_that_nobody_serves_are_found_behind_many_others_up_to_a_bound_that_is_told() {
    let site = Site::new();
    bulk(&site, 1_500);
    site.run(&["enqueue", "no.such", "--queue", "default"]);
    let warnings = site.json(&["check"])["warnings"].to_string();
    assert!(warnings.contains("1 job waits in vain") && warnings.contains("handles `no.such`"), "{warnings}");
    assert!(!warnings.contains("was not looked at"), "{warnings}");
    bulk(&site, 18_500);
    site.run(&["enqueue", "no.such.either", "--queue", "default"]);
    let warnings = site.json(&["check"])["warnings"].to_string();
    assert!(warnings.contains("handles `no.such`") && !warnings.contains("no.such.either"), "{warnings}");
    assert!(warnings.contains("tenant acme has more than 20000 ready jobs"), "{warnings}");
}

#[test]
fn jobs_that_can_not_be_read_are_counted_whether_or_not_they_are_in_a_list() {
    let server = Server::start(Durability::None, &[]);
    let site = Site::new();
    site.write("sandhog.toml", &format!("[broker]\ntype = \"redis\"\nurl = \"{}\"\n", server.url()));
    let ids: Vec<String> = (0..3).map(|_| site.enqueue(&[])).collect();
    for id in &ids[..2] {
        let () = server
            .ask(&["SET", &format!("sandhog:{{acme}}:job:{id}"), "\t of another version"])
            .expect("it is there");
    }
    let told = "2 jobs of tenant acme can't be read";
    let warnings = site.json(&["check"])["warnings"].to_string();
    assert!(warnings.contains(told) && warnings.contains(&ids[0]), "{warnings}");

    // A lease that meets them puts them aside.
    let acme = TenantId::parse("acme").expect("a name");
    let queues = [(QueueName::parse("default").expect("a name"), 3)];
    let broker = Redis::new(&Config::new(server.url())).expect("the url is right");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let leased = runtime.block_on(broker.lease(LeaseAsk::new(&acme, &queues, Duration::from_secs(60))));
    assert_eq!(leased.expect("the server is there").leases.len(), 1);
    let warnings = site.json(&["check"])["warnings"].to_string();
    assert!(warnings.contains(told), "{warnings}");
}
