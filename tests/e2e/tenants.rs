//! What is a tenant's own at the broker: data that Redis can't read, and a user who reaches nobody else's.

use std::collections::{BTreeSet, HashMap};
use std::fs;

use redis::{Cmd, Connection, FromRedisValue};
use sandhog_core::id::{PluginName, StateKey};
use sandhog_core::job::State;
use sandhog_tests::{Backend, Fsync, Site, all_final, finished, hog_job, tenant};
use serde_json::json;

/// What handlers write, and nobody else does.
const MARK: &str = "marker-7f3a9c";

const ENCRYPTED: &str = r#"
[tenants.acme.encryption]
active = "2026-11"
keys = { "2026-11" = { file = "acme.key" } }

[tenants.open]
"#;

fn admin(site: &mut Site) -> Connection {
    let client = redis::Client::open(site.redis().url()).expect("the url is right");
    client.get_connection().expect("the server is up")
}

fn ask<T: FromRedisValue>(server: &mut Connection, words: &[&str]) -> T {
    Cmd::new().arg(words).query(server).expect("the server is up")
}

/// Every key of the server with all that is in it, and the file that it appends to.
fn everything(site: &mut Site) -> Vec<u8> {
    let mut server = admin(site);
    let keys: Vec<String> = ask(&mut server, &["KEYS", "*"]);
    let mut seen = Vec::new();
    for key in &keys {
        seen.extend_from_slice(key.as_bytes());
        let kind: String = ask(&mut server, &["TYPE", key]);
        let values: Vec<Vec<u8>> = match kind.as_str() {
            "string" => vec![ask(&mut server, &["GET", key])],
            "list" => ask(&mut server, &["LRANGE", key, "0", "-1"]),
            "set" => ask(&mut server, &["SMEMBERS", key]),
            "zset" => ask(&mut server, &["ZRANGE", key, "0", "-1"]),
            "hash" => ask(&mut server, &["HGETALL", key]),
            other => panic!("`{key}` is a {other}, which nobody looks into here"),
        };
        seen.extend(values.concat());
    }
    let written = fs::read_dir(site.path().join("appendonlydir")).expect("the server keeps such files");
    let mut appended = 0;
    for file in written {
        let file = fs::read(file.expect("a file").path()).expect("it can be read");
        appended += file.len();
        seen.extend(file);
    }
    assert!(appended > 1000, "there is something in the append-only file");
    seen
}

fn holds(seen: &[u8], text: &str) -> bool {
    seen.windows(text.len()).any(|window| window == text.as_bytes())
}

fn write_key(site: &Site, name: &str) {
    let made = site.sandhog(&["tenant", "key"]);
    assert!(made.status.success(), "{made:?}");
    fs::write(site.path().join(name), made.stdout).expect("a file");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_never_sees_plain_text_of_a_tenant_with_keys() {
    let mut site =
        Site::new(Backend::Redis(Fsync::Always), ENCRYPTED).with_hog("acme", "").with_hog("open", "");
    write_key(&site, "acme.key");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let note = |fail: bool| hog_job("hog.note", &json!({"text": MARK, "fail": fail}).to_string());
    let (good, bad, slow) = (note(false), note(true), hog_job("hog.echo", &json!(MARK).to_string()));
    broker.enqueue(&acme, &[good.clone(), bad.clone(), slow.clone()]).await.expect("the broker is up");
    let waiting = everything(&mut site);
    assert!(holds(&waiting, "hog.note") && !holds(&waiting, MARK), "while they wait");

    let daemon = site.daemon();
    let done = finished(&*broker, &acme, good.id).await;
    assert_eq!((done.state, done.output), (State::Succeeded, Some(json!(MARK).to_string().into_bytes())));
    assert_eq!(done.progress.and_then(|progress| progress.message).as_deref(), Some(MARK));
    let failed = finished(&*broker, &acme, bad.id).await;
    assert!(failed.message.is_some_and(|message| message.contains(MARK)), "those with the keys are told");
    let counts = all_final(&*broker, &acme).await;
    assert_eq!((counts[State::Succeeded], counts[State::Dead]), (3, 1), "with what it enqueued");
    let (hog, key) = (PluginName::parse("hog").expect("valid"), StateKey::parse("note").expect("valid"));
    let stored = broker.state(&acme, &hog, &key).await.expect("the broker is up");
    assert_eq!(stored, Some(json!(MARK).to_string().into_bytes()));

    // A producer with the keys sees its own; its enqueue is sealed as well.
    let shown = site.json(&["job", "show", &good.id.to_string()]);
    assert_eq!((&shown["output"]["json"], &shown["log"][0]["message"]), (&MARK.into(), &MARK.into()));
    let payload = json!({"text": MARK}).to_string();
    let shown = site.json(&["enqueue", "hog.note", &payload, "--tenant", "acme", "--wait"]);
    assert_eq!(shown["output"]["json"], MARK);
    all_final(&*broker, &acme).await;

    let seen = everything(&mut site);
    assert!(holds(&seen, "hog.note") && !holds(&seen, MARK), "neither in a key nor in the file");
    drop(daemon);

    // The same of a tenant without keys is found: the look is a good one.
    let _daemon = site.daemon();
    broker.enqueue(&tenant("open"), &[note(false)]).await.expect("the broker is up");
    all_final(&*broker, &tenant("open")).await;
    assert!(holds(&everything(&mut site), MARK));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tenants_run_by_users_of_their_own_with_the_default_user_off() {
    let own = "[tenants.acme.broker]\npassword = { file = \"acme.password\" }\n\n\
               [tenants.globex.broker]\nurl = { file = \"globex.url\" }\n";
    let mut site = Site::new(Backend::Redis(Fsync::Always), own).with_hog("acme", "").with_hog("globex", "");
    let address = site.redis().url();
    fs::write(site.path().join("acme.password"), "p@ss:word/1\n").expect("a file");
    let url = address.replace("//", "//worker:secret@");
    fs::write(site.path().join("globex.url"), url).expect("a file");
    let mut server = admin(&mut site);
    for name in ["acme", "globex"] {
        let printed = site.json(&["tenant", "acl", name, "--role", "worker"]);
        let words = printed["users"][0]["command"].as_array().expect("words");
        let words: Vec<&str> = words.iter().filter_map(|word| word.as_str()).collect();
        assert!(!words.iter().any(|word| word.contains("p@ss") || word.contains("secret")), "{words:?}");
        let () = ask(&mut server, &words);
    }
    // The functions are loaded by the default user, which then can be off.
    let checked = site.sandhog(&["check"]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let () = ask(&mut server, &["ACL", "SETUSER", "default", "off"]);
    let users: Vec<String> = ask(&mut server, &["ACL", "USERS"]);
    assert_eq!(users, ["acme", "default", "worker"]);

    let mut daemon = site.daemon();
    let broker = site.broker().await;
    for name in ["acme", "globex"] {
        // The daemon is idle when it comes, and hears of it by push.
        let job = hog_job("hog.note", &json!({"text": name}).to_string());
        broker.enqueue(&tenant(name), std::slice::from_ref(&job)).await.expect("its user may");
        let record = finished(&*broker, &tenant(name), job.id).await;
        assert_eq!((record.state, record.reason), (State::Succeeded, None), "{:?}", record.message);
        assert_eq!(all_final(&*broker, &tenant(name)).await[State::Succeeded], 2);
    }
    // The daemon has asked for INFO to look at the server, and nobody for anything else that it may not have.
    let refused: Vec<HashMap<String, redis::Value>> = ask(&mut server, &["ACL", "LOG"]);
    let refused: BTreeSet<String> = refused.iter().map(|entry| format!("{:?}", entry["object"])).collect();
    assert_eq!(refused, BTreeSet::from(["bulk-string('\"info\"')".to_owned()]));
    let clients: String = ask(&mut server, &["CLIENT", "LIST"]);
    for user in ["user=acme", "user=worker"] {
        assert!(clients.contains(user), "{user}: {clients}");
    }
    daemon.signal("TERM");
    assert_eq!(daemon.wait().code(), Some(0));
}
