//! What operators write, and what they are told.

mod limits_page;
mod page;
mod schedules_page;

use std::collections::BTreeMap;
use std::fs;
use std::num::{NonZeroU16, NonZeroU32};

use proptest::prelude::*;
use sandhog_core::access::{Role, Scope};
use sandhog_core::budget::Fuel;
use sandhog_core::fair::{FairRule, Weight};
use sandhog_core::grants::{Access, DirGrant, EnvValue, Grants, Private, Ranges};
use sandhog_core::group::{GroupRule, OnDead, QueueRule};
use sandhog_core::id::{FailureCode, GroupKey, RateName};
use sandhog_core::rate::RateOf;
use sandhog_core::reason::Reason;
use sandhog_core::redis::{Address, Topology};
use sandhog_core::retry::{Backoff, Growth, Jitter, OnExhausted, OnLimit, RetryRule};
use sandhog_core::secret::Secret;

use super::*;

/// A folder with configuration, and an environment.
struct Site {
    folder: tempfile::TempDir,
    env: BTreeMap<&'static str, &'static str>,
}

impl Site {
    /// `files`: name and text each; a file that isn't TOML is for a component to be there.
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("it is in the folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        Self { folder, env: BTreeMap::from([("HOME", "/home/op")]) }
    }

    /// A daemon file, and the plugin file `a.toml` with its component.
    fn with_plugin(daemon: &str, plugin: &str) -> Self {
        Self::new(&[("sandhog.toml", daemon), ("plugins.d/a.toml", plugin), ("plugins.d/a.wasm", "")])
    }

    fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.env.insert(name, value);
        self
    }

    fn load(&self) -> Result<Config, Problems> {
        self.load_over(None)?.strict()
    }

    /// As a daemon does, which had that one before.
    fn load_over(&self, before: Option<&Config>) -> Result<Config, Problems> {
        let env = |name: &str| self.env.get(name).map(|&value| value.to_owned());
        let outside = Outside { env: &env, follow: Follow::All };
        load_from(&self.folder.path().join("sandhog.toml"), outside, before)
    }

    /// What the operator is told, with paths from the folder on.
    fn told(&self) -> String {
        let told = self.load().expect_err("it is wrong").to_string();
        told.replace(&format!("{}/", self.folder.path().display()), "")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

const PLUGIN: &str = r#"
[plugin]
name = "a"
tenant = "acme"
component = "a.wasm"
kinds = ["a.run"]
"#;

/// What an operator is told of a daemon file and a plugin file, up to the closing line.
fn told(daemon: &str, plugin: &str) -> String {
    let told = Site::with_plugin(daemon, plugin).told();
    let end = told.rfind("\n\nthere ").expect("it ends with their number");
    told[..=end].to_owned()
}

#[test]
fn all_problems_of_all_files_come_at_once_each_with_its_place() {
    let daemon = "[lease]\nttl = \"5 parsecs\"\n\n[tenants.acme]\nwieght = 3\n";
    let plugin = format!("{PLUGIN}\n[limits]\nmemory = \"64mb\"\nfuel = 0\n");
    let expected = r#"error: lease.ttl: "5 parsecs" is not a time
 --> sandhog.toml:2:7
  |
2 | ttl = "5 parsecs"
  |       ^^^^^^^^^^^ whole numbers, each with one of d, h, m, s, ms, such as "30s" or "1h30m"

error: tenants.acme.wieght: there is no such key
 --> sandhog.toml:5:1
  |
5 | wieght = …
  | ^^^^^^
  = help: did you mean `weight`?

error: limits.memory: "64mb" is not a size
 --> plugins.d/a.toml:9:10
  |
9 | memory = "64mb"
  |          ^^^^^^ a number and one of B, KiB, MiB, GiB, TiB, such as "64MiB" or "1.5GiB"
  = help: did you mean "64MiB"?

error: limits.fuel: it can't be zero
  --> plugins.d/a.toml:10:8
   |
10 | fuel = 0
   |        ^ more than zero, such as 1000

there are 4 problems in the configuration"#;
    assert_eq!(Site::with_plugin(daemon, &plugin).told(), expected);
}

#[test]
fn a_key_that_is_not_there_yet_or_stands_elsewhere_says_so() {
    let plugin = format!("{PLUGIN}\nmemory = \"1MiB\"\n[grants]\nnetwork = [\"api.acme.example:443\"]\n");
    assert_eq!(
        told("", &plugin),
        r#"error: plugin.memory: there is no such key
 --> plugins.d/a.toml:8:1
  |
8 | memory = …
  | ^^^^^^
  = help: `memory` belongs to [limits]

error: grants.network: there is no such key
  --> plugins.d/a.toml:10:1
   |
10 | network = …
   | ^^^^^^^
   = help: there are no sockets; requests are granted by host: http = ["api.acme.example:443"]
"#
    );
}

#[test]
fn hosts_are_granted_by_text_or_table_and_a_wrong_one_says_what_was_meant() {
    let grants = |grants: &str| format!("{PLUGIN}\n[grants]\n{grants}\n");
    let http = r#"http = ["API.acme.example:443", { to = "db.acme.example:80", private = "allow" }]"#;
    let config = Site::with_plugin("", &grants(http)).load().expect("it is right");
    let granted: Vec<String> = config.plugins[0]
        .grants
        .http
        .iter()
        .map(|grant| format!("{} {:?}", grant.to, grant.private))
        .collect();
    assert_eq!(granted, ["api.acme.example:443 Refuse", "db.acme.example:80 Allow"]);
    let wrong = told("", &grants(r#"http = ["https://api.acme.example/v1"]"#));
    assert!(wrong.contains("did you mean \"api.acme.example:443\"?"), "{wrong}");
    let read_only = told("", &grants(r#"dirs = [{ host = "/srv", guest = "/srv", quota = "1MiB" }]"#));
    assert!(read_only.contains("access = \"read-write\""), "{read_only}");
}

#[test]
fn ranges_of_addresses_are_lists_and_a_wrong_one_says_what_was_meant() {
    let terms = |private: &str| {
        format!("{PLUGIN}\n[grants]\nhttp = [{{ to = \"db.acme.example:80\", private = {private} }}]\n")
    };
    let daemon = "[grants]\nhttp_deny = [\"10.0.0.0/8\", \"fd12::/16\"]";
    let config = Site::with_plugin(daemon, &terms(r#"["10.1.0.0/16"]"#)).load().expect("it is right");
    let lies_in = |ranges: &Ranges, address: &str| ranges.contain(address.parse().expect("an address"));
    let denied = ["10.1.2.3", "fd12::1", "11.0.0.0"].map(|address| lies_in(&config.http_deny, address));
    assert_eq!(denied, [true, true, false]);
    let Private::Within(granted) = &config.plugins[0].grants.http[0].private else { panic!("{config:?}") };
    assert!(lies_in(granted, "10.1.2.3") && !lies_in(granted, "10.2.0.0"));
    let many: Vec<String> = (0..257).map(|n| format!("\"10.{}.{}.0/24\"", n / 256, n % 256)).collect();
    for (private, says) in [
        (r#"["10.1.2.3"]"#, "did you mean \"10.1.2.3/32\"?"),
        (r#"["10.1.2.3/16"]"#, "did you mean \"10.1.0.0/16\"?"),
        (r#"["db.acme.example"]"#, "is no range of addresses"),
        (
            r#"["10.1.0.0/16", "8.8.8.0/24"]"#,
            "grants.http[0].private[1]: no private address lies in 8.8.8.0/24",
        ),
        (r#""some""#, "is not a choice"),
        (&format!("[{}]", many.join(", ")), "257 ranges are too many"),
    ] {
        let told = told("", &terms(private));
        assert!(told.contains(says), "{private}: {told}");
    }
    let told = told("[grants]\nhttp_deny = \"10.0.0.0/8\"", PLUGIN);
    assert!(told.contains("grants.http_deny: \"10.0.0.0/8\" is not a list"), "{told}");
}

#[test]
fn a_clock_can_be_made_coarser_and_never_finer() {
    let daemon = "[tenants.acme.limits]\nclock_resolution = \"10ms\"";
    let plugin = |resolution: &str| format!("{PLUGIN}\n[limits]\nclock_resolution = \"{resolution}\"\n");
    assert!(Site::with_plugin(daemon, &plugin("20ms")).load().is_ok());
    let finer = told(daemon, &plugin("5ms"));
    assert!(finer.contains("at least 10ms, by tenants.acme.limits.clock_resolution"), "{finer}");
}

#[test]
fn a_limit_over_that_of_the_daemon_names_both_places() {
    let plugin = format!("{PLUGIN}\n[limits]\nmemory = \"1GiB\"\ntimeout = \"10m\"\n");
    let daemon = "[limits]\nmemory = \"128MiB\"\n";
    assert_eq!(
        told(daemon, &plugin),
        r#"error: limits.memory: 1GiB is more than is allowed
 --> plugins.d/a.toml:9:10
  |
9 | memory = "1GiB"
  |          ^^^^^^ at most 128MiB, by limits.memory in sandhog.toml:2
  = help: lower it, or raise limits.memory

error: limits.timeout: 10m is more than is allowed
  --> plugins.d/a.toml:10:11
   |
10 | timeout = "10m"
   |           ^^^^^ at most 5m, by the default of limits.timeout in sandhog.toml
   = help: lower it, or raise limits.timeout
"#
    );
}

#[test]
fn a_plugin_may_have_more_runs_on_all_daemons_than_its_tenant_has_on_one() {
    let daemon = "[engine]\nconcurrency = 8\n[tenants.acme]\nconcurrency = 4\n";
    let of = |concurrency: u32| format!("{PLUGIN}\n[limits]\nconcurrency = {concurrency}\n");
    let config = Site::with_plugin(daemon, &of(20)).load().expect("ten daemons can run as many");
    assert_eq!(config.plugins[0].concurrency, NonZeroU32::new(20));
    assert_eq!(Site::with_plugin(daemon, PLUGIN).load().expect("it is right").plugins[0].concurrency, None);
    assert!(told(daemon, &of(1_000_001)).contains("at most 1000000"));
}

#[test]
fn what_no_machine_has_can_not_be_promised() {
    let daemon = "[limits]\nmemory = \"5GiB\"\ntable_elements = 10_000_001\ninstances = 1001\neffects = \"65MiB\"\nenqueues = 10_001\nstate_writes = 10_001\n[engine]\nconcurrency = 4097\nstack = \"17MiB\"\n";
    let told = told(daemon, PLUGIN);
    for (key, most) in [
        ("limits.memory: 5GiB", "at most 4GiB"),
        ("limits.table_elements: 10000001", "at most 10000000"),
        ("limits.instances: 1001", "at most 1000"),
        ("limits.effects: 65MiB", "at most 64MiB"),
        ("limits.enqueues: 10001", "at most 10000"),
        ("limits.state_writes: 10001", "at most 10000"),
        ("engine.concurrency: 4097", "at most 4096"),
        ("engine.stack: 17MiB", "at most 16MiB"),
    ] {
        let problem = told.split("\n\n").find(|part| part.contains(&format!("{key} is too much")));
        assert!(problem.is_some_and(|problem| problem.contains(most)), "{key}: {told}");
    }
}

#[test]
fn a_payload_is_bounded_by_the_plugin_else_by_its_tenant() {
    let payload = |daemon: &str, plugin: &str| {
        let config = Site::with_plugin(daemon, &format!("{PLUGIN}\n[limits]\n{plugin}\n")).load();
        config.expect("it is right").plugins[0].payload
    };
    let tenant = "[tenants.acme]\nqueue.payload = \"5KiB\"";
    assert_eq!(payload("", ""), Bytes::kib(10));
    assert_eq!(payload(tenant, ""), Bytes::kib(5));
    assert_eq!(payload(tenant, "payload = \"8MiB\""), Bytes::mib(8));
    let tenant = told("[tenants.acme]\nqueue.payload = \"9MiB\"", PLUGIN);
    assert!(
        tenant.contains("tenants.acme.queue.payload: 9MiB is too much") && tenant.contains("at most 8MiB")
    );
    let plugin = told("", &format!("{PLUGIN}\n[limits]\npayload = \"9MiB\"\n"));
    assert!(
        plugin.contains("limits.payload: 9MiB is too much") && plugin.contains("at most 8MiB"),
        "{plugin}"
    );
}

#[test]
fn events_are_kept_within_bounds() {
    let of = |events: &str| told(&format!("[tenants.acme.events]\n{events}"), PLUGIN);
    let (long, short) = (of("keep = \"8d\""), of("keep = \"1s\""));
    assert!(
        long.contains("tenants.acme.events.keep: 8d is too much") && long.contains("at most 7d"),
        "{long}"
    );
    assert!(short.contains("tenants.acme.events.keep") && short.contains("at least 1m"), "{short}");
    let many = of("keep_max = 1_000_001");
    assert!(many.contains("tenants.acme.events.keep_max") && many.contains("at most 1000000"), "{many}");
    assert!(of("keep_max = 0").contains("tenants.acme.events.keep_max"));
}

#[test]
fn a_limit_of_the_tenant_counts_for_its_plugins() {
    let plugin = format!("{PLUGIN}\n[limits]\nmemory = \"65MiB\"\n");
    let daemon = "[tenants.acme.limits]\nmemory = \"64MiB\"\n";
    assert!(told(daemon, &plugin).contains("at most 64MiB, by tenants.acme.limits.memory in sandhog.toml:2"));
    let daemon = "[tenants.acme.limits]\nmemory = \"1GiB\"\n";
    assert!(told(daemon, PLUGIN).contains("tenants.acme.limits.memory: 1GiB is more than is allowed"));
}

#[test]
fn what_is_wrong_with_a_limit_is_said_once() {
    let plugin = format!("{PLUGIN}\n[limits]\nmemory = \"1GiB\"\n");
    let problems =
        Site::with_plugin("[limits]\nmemory = \"2 gigs\"\n", &plugin).load().expect_err("it is wrong");
    assert_eq!(problems.len(), 1, "{problems}");
}

#[test]
fn a_plugin_of_an_undeclared_tenant_is_refused_unless_no_tenant_is_declared() {
    assert!(Site::with_plugin("", PLUGIN).load().is_ok());
    assert_eq!(
        told("[tenants.acm]\n", PLUGIN),
        r#"error: plugin.tenant: there is no tenant "acme" in sandhog.toml
 --> plugins.d/a.toml:4:10
  |
4 | tenant = "acme"
  |          ^^^^^^
  = help: did you mean "acm"?
  = help: or add to sandhog.toml: [tenants.acme]
"#
    );
}

#[test]
fn a_lease_that_can_not_be_renewed_in_time_is_refused() {
    assert_eq!(
        told("[lease]\nmargin = \"25s\"\n", PLUGIN),
        r#"error: lease.margin: a lease of 30s can't be renewed in time, 5s apart and 25s before its end
 --> sandhog.toml:2:10
  |
2 | margin = "25s"
  |          ^^^^^ margin + renew_every is less than ttl
"#
    );
}

#[test]
fn two_plugins_of_a_tenant_can_not_share_a_name_or_a_kind() {
    let site = Site::with_plugin("", PLUGIN);
    fs::write(site.path("plugins.d/b.toml"), PLUGIN).expect("a file");
    assert_eq!(
        site.told(),
        r#"error: plugin.name: tenant "acme" has a plugin "a" already
 --> plugins.d/b.toml:3:8
  |
3 | name = "a"
  |        ^^^ the other one is in plugins.d/a.toml:3

error: plugin.kinds[0]: tenant "acme" has a plugin for "a.run" already
 --> plugins.d/b.toml:6:10
  |
6 | kinds = ["a.run"]
  |          ^^^^^^^ the other one is in plugins.d/a.toml:6

there are 2 problems in the configuration"#
    );
    let other = PLUGIN.replace("acme", "globex").replace("\"a\"", "\"a\" # the same name");
    fs::write(site.path("plugins.d/b.toml"), other).expect("a file");
    assert!(site.load().is_ok(), "another tenant may use both");
}

#[test]
fn what_is_missing_is_named_with_an_example() {
    assert_eq!(
        told("[broker]\ntype = \"redis\"\n", "[plugin]\nname = \"a\"\ntenant = \"acme\"\nkinds = []\n"),
        r#"error: broker.url: a broker of type "redis" needs a `url`
 --> sandhog.toml:2:8
  |
2 | type = "redis"
  |        ^^^^^^^
  = help: add it, such as: url = { env = "REDIS_URL" }, or url = "redis://127.0.0.1:6379"

error: plugin.component: it is missing
 --> plugins.d/a.toml:1:1
  |
1 | [plugin]
  | ^^^^^^^^
  = help: add it, such as: component = "thumbnail.wasm"

error: plugin.kinds: it is empty, so the plugin would never run
 --> plugins.d/a.toml:4:9
  |
4 | kinds = []
  |         ^^ at least one kind
"#
    );
    let wasm = told("", &PLUGIN.replace("a.wasm", "b.wasm"));
    assert!(wasm.contains("plugin.component: there is no file plugins.d/b.wasm"), "{wasm}");
}

#[test]
fn files_that_are_not_toml_are_shown_where_that_begins() {
    assert_eq!(
        told("[lease\nttl = \"30s\"\n", "name = [1,\n\n"),
        r#"error: this is not TOML: unclosed table, expected `]`
 --> sandhog.toml:1:7
  |
1 | [lease
  |       ^
"#
    );
    assert!(told("", "x = \"").contains("plugins.d/a.toml:1:"));
    let site = Site::new(&[]);
    fs::write(site.path("sandhog.toml"), b"a = 1\nb = \"\xff\"").expect("a file");
    assert!(site.told().contains("sandhog.toml\n"), "{}", site.told());
    assert!(site.told().contains("line 2 is not UTF-8"), "{}", site.told());
    assert!(Site::new(&[]).told().contains("`sandhog dev` writes one to start with"));
}

#[test]
fn nesting_without_end_is_refused_rather_than_followed() {
    let deep = format!("x = {}", "[".repeat(100_000));
    assert!(told(&deep, PLUGIN).contains("this is not TOML"));
    let dotted = format!("{}x = 1", "a.".repeat(100_000));
    assert!(Site::with_plugin(&dotted, PLUGIN).load().is_err());
}

#[test]
fn a_missing_folder_of_plugins_is_a_problem_only_if_it_was_named() {
    assert!(Site::new(&[("sandhog.toml", "")]).load().is_ok());
    let told = Site::new(&[("sandhog.toml", "plugins = \"handlers\"")]).told();
    assert!(told.contains("plugins: can't list the folder handlers"), "{told}");
    let site = Site::new(&[
        ("sandhog.toml", "plugins = \"handlers\""),
        ("handlers/.#a.toml", "?"),
        ("handlers/b.md", "?"),
    ]);
    assert_eq!(site.load().expect("neither is a plugin file").plugins.len(), 0);
}

#[test]
fn a_secret_is_shown_nowhere() {
    let plugin = format!(
        "{PLUGIN}\n[grants]\nsecrets = [\"KEY\", \"TOKEN\"]\n[secrets]\nTOKEN = {{ env = \"TOKEN\" }}\nKEY = \"hunter2\"\n"
    );
    for daemon in [
        "[broker]\ntype = \"redis\"\nurl = \"http://me:hunter2@host\"",
        "[broker]\ntype = \"redis\"\nurl = redis://me:hunter2@host",
        "[broker]\ntype = \"redis\"\nurl = \"redis://me:hunter2@host",
        "[broker]\ntype = \"redis\"\nurl = \"redis://me:hunter2@host\"\npassword = \"hunter2\"",
        "[broker]\ntype = \"embedded\"\nurl = \"redis://me:hunter2@host\"",
        "[broker]\ntype = \"rdis\"\nurl = \"redis://me:hunter2@host\"",
        "[broker]\ntype = \"redis\"\nurl = \"redis://me:hunter2@host:1\"\nsentinels = [\"redis://:hunter2@host\"]",
        "[broker]\ntype = \"redis\"\nurl = \"redis://host\"\ncluster = [\"redis://me:hunter2@host:1\"]",
        "[broker]\ntype = \"redis\"\nurl = \"redis://name\"\nsentinels = [\"redis://me:hunter2@host:port\"]",
        "[tenants.acme.secrets]\nKEY = hunter2",
        "[tenants.acme.secrets]\nKEY = [\"hunter2\"]",
        "[tenants]\nacme = { secrets = { KEY = \"hunter2\" } }",
    ] {
        let site = Site::with_plugin(daemon, &plugin).env("TOKEN", "hunter2");
        let told = site.told();
        assert!(!told.contains("hunter2"), "{told}");
        assert!(!format!("{:?}", site.load()).contains("hunter2"));
    }
    let good = Site::with_plugin(
        "[broker]\ntype = \"redis\"\nurl = { env = \"REDIS_URL\" }",
        &plugin.replace("\"hunter2\"", "{ env = \"KEY_OF_A\" }"),
    );
    let config =
        good.env("TOKEN", "hunter2").env("KEY_OF_A", "hunter2").env("REDIS_URL", "redis://:hunter2@host");
    let config = config.load().expect("it is right");
    assert_eq!(config.plugins[0].grants.secrets["KEY"].reveal(), "hunter2");
    assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
}

#[test]
fn a_secret_comes_from_the_plugin_or_the_tenant_and_not_from_the_environment_unasked() {
    let grants = format!("{PLUGIN}\n[grants]\nsecrets = [\"KEY\"]\n");
    let of_plugin = format!("{grants}[secrets]\nKEY = {{ file = \"key\" }}\n");
    let of_tenant = "[tenants.acme.secrets]\nKEY = { env = \"KEY_OF_ACME\" }";
    let told = Site::with_plugin("", &grants).env("KEY", "hunter2").told();
    for part in [
        "grants.secrets[0]: nothing says where \"KEY\" is kept",
        "add KEY = { env = \"KEY\" } or { file = \"path\" } under [secrets] here, or [tenants.acme.secrets] in",
    ] {
        assert!(told.contains(part), "{told}");
    }
    for (daemon, plugin, value) in [(of_tenant, &grants, "tenant"), (of_tenant, &of_plugin, "plugin")] {
        let site = Site::with_plugin(daemon, plugin).env("KEY_OF_ACME", "tenant");
        fs::write(site.path("plugins.d/key"), "plugin\n").expect("a file");
        let config = site.load().expect("it is right");
        assert_eq!(config.plugins[0].grants.secrets["KEY"].reveal(), value);
    }
}

#[test]
fn a_secret_that_can_not_be_had_is_a_problem_unless_only_the_broker_is_wanted() {
    let plugin =
        format!("{PLUGIN}\n[grants]\nsecrets = [\"KEY\"]\n[secrets]\nKEY = {{ env = \"KEY_OF_A\" }}\n");
    let site = Site::with_plugin("", &plugin);
    let told = site.told();
    assert!(told.contains("grants.secrets[0]: the environment variable KEY_OF_A is not set"), "{told}");
    let config =
        load_from(&site.path("sandhog.toml"), Outside { env: &|_| None, follow: Follow::BrokerAlone }, None);
    assert!(config.expect("it is right").plugins[0].grants.secrets.is_empty());
    let unused = format!("{PLUGIN}\n[secrets]\nKEY = {{ env = \"KEY\" }}\n");
    assert!(Site::with_plugin("", &unused).told().contains("secrets.KEY: it is not granted"));
}

#[test]
fn a_grant_is_checked_before_the_daemon_starts() {
    let dirs = r#"dirs = [{ host = "x", guest = "images" }, { host = "/y", guest = "/a", access = "write" }, { host = "/z", guest = "/a" }]"#;
    let told = told("", &format!("{PLUGIN}\n[grants]\n{dirs}\n"));
    for part in [
        "grants.dirs[0].guest: \"images\" is not a path that a guest can see",
        "grants.dirs[1].access: \"write\" is not a choice",
        "grants.dirs[2].guest: two directories are granted as \"/a\"",
    ] {
        assert!(told.contains(part), "{told}");
    }
}

/// A tenant's ceilings, and grants of a plugin of its, each with what is refused of it.
#[test]
fn grants_are_within_what_the_tenant_may_be_granted() {
    let caps = r#"
[tenants.acme.grants]
dirs = [{ host = "data", access = "read-write" }, "/srv/public"]
http = ["*.acme.example:443", { to = "db.acme.example:80", private = ["10.1.0.0/16"] }]
secrets = ["TOKEN"]
[tenants.acme.secrets]
TOKEN = { env = "TOKEN_OF_ACME" }
KEY = { env = "TOKEN_OF_ACME" }
"#;
    let more = "is more than this tenant may be granted";
    let elsewhere = "what is kept elsewhere is not for this file to name";
    for (terms, problem) in [
        ("[grants]\ndirs = [{ host = \"../data/a\", guest = \"/a\", access = \"read-write\" }]", None),
        ("[grants]\ndirs = [{ host = \"/srv/public/a\", guest = \"/a\" }]", None),
        (
            "[grants]\ndirs = [{ host = \"/srv/public\", guest = \"/a\", access = \"read-write\" }]",
            Some(more),
        ),
        ("[grants]\ndirs = [{ host = \"../data/../other\", guest = \"/a\" }]", Some(more)),
        ("[grants]\ndirs = [{ host = \"/srv/public/../acme\", guest = \"/a\" }]", Some(more)),
        ("[grants]\ndirs = [{ host = \"/\", guest = \"/a\" }]", Some(more)),
        ("[grants]\nhttp = [\"api.acme.example:443\"]", None),
        ("[grants]\nhttp = [\"api.globex.example:443\"]", Some(more)),
        ("[grants]\nhttp = [{ to = \"api.acme.example:443\", private = \"allow\" }]", Some(more)),
        ("[grants]\nhttp = [{ to = \"db.acme.example:80\", private = [\"10.1.2.0/24\"] }]", None),
        ("[grants]\nhttp = [{ to = \"db.acme.example:80\", private = [\"10.0.0.0/8\"] }]", Some(more)),
        ("[grants]\nhttp = [{ to = \"db.acme.example:80\", private = \"allow\" }]", Some(more)),
        ("[grants]\nsecrets = [\"TOKEN\"]", None),
        ("[grants]\nsecrets = [\"KEY\"]", Some(more)),
        ("[grants]\nsecrets = [\"TOKEN\"]\n[secrets]\nTOKEN = { env = \"REDIS_URL\" }", Some(elsewhere)),
        ("[grants]\nenv = { A = \"plain\" }", None),
        ("[grants]\nenv = { A = { env = \"REDIS_URL\" } }", Some(elsewhere)),
        ("[grants]\nenv = { A = { file = \"/nowhere\" } }", Some(elsewhere)),
        ("[smoke]\nkind = \"a.run\"\npayload = { file = \"/nowhere\" }", Some(elsewhere)),
        ("[smoke]\nkind = \"a.run\"\npayload = \"{}\"", None),
    ] {
        let site = Site::with_plugin(caps, &format!("{PLUGIN}\n{terms}\n"));
        let site = site.env("TOKEN_OF_ACME", "its token").env("REDIS_URL", "hunter2");
        match (site.load(), problem) {
            (Ok(_), None) => {}
            (Ok(_), Some(problem)) => panic!("{terms}\nis taken, and should be refused: {problem}"),
            (Err(problems), None) => panic!("{terms}\n{problems}"),
            (Err(problems), Some(problem)) => {
                let told = problems.to_string();
                assert!(told.contains(problem), "{told}");
                // What such a file names isn't even looked at.
                assert!(!told.contains("hunter2") && !told.contains("can't read"), "{told}");
            }
        }
    }
    let unbound = format!("{PLUGIN}\n[grants]\ndirs = [{{ host = \"/\", guest = \"/a\" }}]\n");
    assert!(Site::with_plugin("[tenants.acme]\n", &unbound).load().is_ok(), "what isn't said caps nothing");
}

/// A plugin that is in force goes out of force, if its tenant may not be granted as much any more.
#[test]
fn a_plugin_with_more_than_its_tenant_may_be_granted_now_does_not_stay() {
    let terms = format!("{PLUGIN}\n[grants]\nhttp = [\"api.acme.example:443\"]\n");
    let site = Site::with_plugin("[tenants.acme]\n", &terms);
    let before = site.load().expect("it is right");
    fs::write(site.path("plugins.d/a.toml"), format!("{terms}nonsense")).expect("a file");
    let stays = site.load_over(Some(&before)).expect("the daemon's file is right");
    assert_eq!((stays.plugins.len(), stays.broken.len()), (1, 1), "its file is wrong, and nothing else");
    fs::write(site.path("plugins.d/a.toml"), &terms).expect("a file");
    fs::write(site.path("sandhog.toml"), "[tenants.acme.grants]\nhttp = []\n").expect("a file");
    let narrowed = site.load_over(Some(&before)).expect("the daemon's file is right");
    assert_eq!((narrowed.plugins.len(), narrowed.broken.len()), (0, 1));
}

#[test]
fn everything_can_be_said() {
    let daemon = r#"
plugins = "handlers"
[broker]
type = "embedded"
path = "jobs/jobs.db"
[lease]
ttl = "1m"
margin = "2s"
renew_every = "20s"
expiries_max = 3
[engine]
threads = 7
concurrency = 99
stack = "1MiB"
idle_memory = "200MiB"
cache = "/var/cache/sandhog"
[limits]
fuel = 20_000_000_000
memory = "1GiB"
enqueues = 0
instances = 200
component = "8MiB"
compile_time = "3m"
[shutdown]
grace = "0s"
[tenants.acme]
weight = 3
concurrency = 50
memory = "2GiB"
queue = { jobs = 7, bytes = "1MiB", payload = "20KiB", keep_done = 0, keep_dead = 9 }
events = { keep = "10m", keep_max = 500 }
limits = { timeout = "1m", compile_time = "1m", host_calls = 5_000 }
[tenants.globex]
"#;
    let plugin = r#"
[plugin]
name = "thumbnail"
tenant = "acme"
component = "../a.wasm"
sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
kinds = ["image.thumbnail", "image.crop"]
queue = "images"
[limits]
fuel = 5_000_000_000
memory = "128MiB"
payload = "2MiB"
concurrency = 16
state_writes = 3
[retry]
max_attempts = 2
backoff = { base = "1s", factor = 3, max = "5m", jitter = "none" }
retry_after_max = "1h"
on_limit = "retry"
on_exhausted = "pause"
[[retry.rules]]
on = ["timed-out", "queue-full"]
max_attempts = 9
backoff = { type = "linear", max = "10m", jitter = "equal" }
[[retry.rules]]
on = ["trapped"]
codes = ["smtp-550"]
action = "bury"
[keep]
done = "1h"
dead = { for = "2d", most = 7 }
[grants]
dirs = [{ host = "pictures", guest = "/pictures" }, { host = "/srv", guest = "/srv", access = "read-write" }]
env = { TZ = "UTC", LANG = { env = "LANG" }, EMPTY = "" }
"#;
    let site = Site::new(&[("sandhog.toml", daemon), ("handlers/thumbnail.toml", plugin), ("a.wasm", "")]);
    let site = site.env("LANG", "C");
    let config = site.load().expect("it is right");

    assert!(matches!(&config.broker, Broker::Embedded { path } if *path == site.path("jobs/jobs.db")));
    assert_eq!(config.lease.ttl, Duration::from_secs(60));
    assert_eq!(
        (config.lease.margin, config.lease.renew_every),
        (Duration::from_secs(2), Duration::from_secs(20))
    );
    assert_eq!((config.lease.expiries_max, config.grace), (3, Duration::ZERO));
    assert_eq!((config.engine.threads.get(), config.engine.concurrency.get()), (7, 99));
    assert_eq!((config.engine.stack, config.engine.idle_memory), (Bytes::mib(1), Bytes::mib(200)));
    let compile = config.compile_budget(&config.plugins[0]);
    assert_eq!((compile.component, compile.time), (Bytes::mib(8), Duration::from_secs(60)));
    assert_eq!(config.engine.cache, PathBuf::from("/var/cache/sandhog"));
    let names: Vec<&str> = config.tenants.keys().map(TenantId::as_str).collect();
    assert_eq!(names, ["acme", "globex"]);
    let (acme, globex) = (config.tenants.values().next(), config.tenants.values().last());
    let terms =
        |tenant: Option<&Tenant>| tenant.map(|tenant| (tenant.weight.get(), tenant.concurrency.get()));
    assert_eq!((terms(acme), terms(globex)), (Some((3, 50)), Some((1, 99))));
    let memory = |tenant: Option<&Tenant>| tenant.map(|tenant| tenant.memory);
    assert_eq!((memory(acme), memory(globex)), (Some(Bytes::mib(2048)), Some(daemon::TENANT_MEMORY)));

    let queue = |tenant: Option<&Tenant>| tenant.map(|tenant| (tenant.queue, tenant.keep_max));
    let bounds = QueueBounds { jobs: 7, bytes: Bytes::mib(1), payload: Bytes::kib(20) };
    assert_eq!(queue(acme), Some((bounds, KeepMax { done: 0, dead: 9 })));
    assert_eq!(queue(globex), Some((daemon::QUEUE, KeepMax::default())));
    let events = |tenant: Option<&Tenant>| tenant.map(|tenant| tenant.events);
    assert_eq!(events(acme), Some(EventKeep { time: Duration::from_secs(600), max: 500 }));
    assert_eq!(events(globex), Some(EventKeep::default()));

    let [plugin] = &config.plugins[..] else { panic!("one plugin: {config:?}") };
    assert_eq!(
        (plugin.name.as_str(), plugin.tenant.as_str(), plugin.queue.as_str()),
        ("thumbnail", "acme", "images")
    );
    assert_eq!(plugin.component, site.path("handlers/../a.wasm"));
    assert!(plugin.sha256.is_some_and(|digest| digest.short() == "e3b0c44298fc"));
    assert_eq!(plugin.kinds.iter().map(Kind::as_str).collect::<Vec<_>>(), ["image.thumbnail", "image.crop"]);
    assert_eq!((plugin.payload, plugin.concurrency), (Bytes::mib(2), NonZeroU32::new(16)));
    let second = Duration::from_secs(1);
    let growth = Growth::Exponential { factor: 3.0 };
    let backoff = Backoff { base: second, growth, max: second * 300, jitter: Jitter::None };
    let patient = RetryRule::Retry {
        max_attempts: const { NonZeroU32::new(9).expect("not zero") },
        backoff: Backoff { growth: Growth::Linear, max: second * 600, jitter: Jitter::Equal, ..backoff },
    };
    let rules =
        [(Reason::TimedOut, patient), (Reason::QueueFull, patient), (Reason::Trapped, RetryRule::Bury)];
    let retry = RetryPolicy {
        max_attempts: NonZeroU32::MIN.saturating_add(1),
        backoff,
        retry_after_max: second * 3600,
        on_limit: OnLimit::Retry,
        on_exhausted: OnExhausted::Pause,
        rules: BTreeMap::from(rules),
        codes: [(FailureCode::parse("smtp-550").expect("valid"), RetryRule::Bury)].into(),
    };
    assert_eq!(plugin.retry, retry);
    assert_eq!(plugin.keep, Keep { done: second * 3600, dead: second * 2 * 86400, is_counted: true });
    assert_eq!(plugin.keep_max, Some(KeepMax { done: u64::MAX, dead: 7 }));
    let dirs = [
        DirGrant {
            host: site.path("handlers/pictures"),
            guest: "/pictures".into(),
            access: Access::Read,
            quota: None,
        },
        DirGrant { host: "/srv".into(), guest: "/srv".into(), access: Access::ReadWrite, quota: None },
    ];
    assert_eq!(plugin.grants.dirs, dirs);
    let env = [
        ("EMPTY", EnvValue::Plain(String::new())),
        ("LANG", EnvValue::Secret(Secret::new("C".into()))),
        ("TZ", EnvValue::Plain("UTC".into())),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(plugin.grants.env, env);

    let budget = config.budget(plugin);
    assert_eq!((budget.fuel, budget.memory), (Fuel(5_000_000_000), Bytes::mib(128)));
    assert_eq!((budget.timeout, budget.output), (second * 60, Budget::DEFAULT.output));
    assert_eq!((budget.instances, budget.host_calls), (200, 5_000));
    assert_eq!((budget.enqueues, budget.state_writes), (0, 3));
    let host = budget.host_memory(plugin.payload, &plugin.grants);
    assert_eq!(config.memory_at_worst(), Bytes(16 * (Bytes::mib(128).0 + host.0)));
}

#[test]
fn final_jobs_are_kept_by_time_and_by_number() {
    let kept = |keep: &str| {
        let site = Site::with_plugin("", &format!("{PLUGIN}\n[keep]\n{keep}"));
        let plugin = site.load().expect("it is right").plugins.remove(0);
        (plugin.keep, plugin.keep_max)
    };
    let default = Keep::default();
    assert_eq!(kept(""), (default, None));
    let hour = Duration::from_secs(3600);
    assert_eq!(kept("done = \"1h\""), (Keep { done: hour, ..default }, None));
    assert_eq!(kept("done = { for = \"1h\" }"), (Keep { done: hour, ..default }, None));
    let counted = Keep { is_counted: true, ..default };
    assert_eq!(kept("done.most = 0"), (counted, Some(KeepMax { done: 0, dead: u64::MAX })));
    let both = "done = { for = \"1h\", most = 5 }\ndead.most = 9";
    assert_eq!(kept(both), (Keep { done: hour, ..counted }, Some(KeepMax { done: 5, dead: 9 })));
    for (wrong, problem) in [
        ("done = 7", "7 has no unit"),
        ("done = { for = \"1 day\" }", "\"1 day\" is not a time"),
        ("dead = { most = -1 }", "-1 is out of range"),
        ("dead = { number = 1 }", "keep.dead.number"),
    ] {
        let told = told("", &format!("{PLUGIN}\n[keep]\n{wrong}"));
        assert!(told.contains(problem), "{wrong}\n{told}");
    }
}

#[test]
fn waits_are_of_three_types_and_four_jitters_and_what_has_no_meaning_is_refused() {
    let load = |retry: &str| Site::with_plugin("", &format!("{PLUGIN}\n[retry]\n{retry}")).load();
    let backoff =
        |text: &str| load(&format!("backoff = {text}")).expect("it is right").plugins[0].retry.backoff;
    let hour = Duration::from_secs(3600);
    let fixed = backoff("{ type = \"fixed\", base = \"1h\" }");
    assert_eq!((fixed.base, fixed.growth, fixed.max), (hour, Growth::Fixed, hour));
    assert_eq!(backoff("{ type = \"linear\", jitter = \"equal\" }").growth, Growth::Linear);
    assert_eq!(backoff("{ type = \"exponential\" }"), Backoff::default());
    assert_eq!(backoff("{ jitter = \"decorrelated\" }").jitter, Jitter::Decorrelated);
    for (wrong, problem) in [
        ("backoff = { type = \"lineal\" }", "did you mean \"linear\"?"),
        ("backoff = { type = \"fixed\", factor = 2 }", "only exponential waits have a factor"),
        ("backoff = { factor = 0.5 }", "0.5 is out of range"),
        ("backoff = { type = \"linear\", jitter = \"decorrelated\" }", "grow in their own way"),
        ("backoff = { jitter = \"decorrelated\", factor = 3 }", "grow in their own way"),
        ("backoff = { max = \"366d\" }", "at most 365d"),
        ("rules = [{}]", "on = [\"timed-out\"]"),
        ("rules = [{ on = [] }]", "about nothing"),
        ("rules = [{ on = [\"timed_out\"] }]", "did you mean \"timed-out\"?"),
        ("rules = [{ on = [\"failed-permanently\"] }]", "is not a choice"),
        ("rules = [{ on = [\"trapped\"] }, { on = [\"failed\", \"trapped\"] }]", "has a rule already"),
        ("rules = [{ codes = [] }]", "about nothing"),
        ("rules = [{ codes = [\"SMTP 550\"] }]", "not a valid failure code"),
        ("rules = [{ codes = [\"a\", \"a\"] }]", "one rule for each code"),
        ("rules = [{ on = [\"trapped\"], action = \"bury\", max_attempts = 2 }]", "not tried again"),
        ("rules = [{ on = [\"trapped\"], action = \"bury\", backoff = {} }]", "not tried again"),
    ] {
        let told = told("", &format!("{PLUGIN}\n[retry]\n{wrong}"));
        assert!(told.contains(problem), "{wrong}\n{told}");
    }
}

#[test]
fn memory_at_worst_is_that_of_the_largest_runs_that_can_be_under_way_together() {
    let plugin = |name: &str, tenant: &str, limits: &str| {
        format!(
            "[plugin]\nname = \"{name}\"\ntenant = \"{tenant}\"\ncomponent = \"c\"\nkinds = [\"{name}\"]\n[limits]\n{limits}"
        )
    };
    let site = Site::new(&[
        ("sandhog.toml", "[engine]\nconcurrency = 10\n[tenants.one]\nconcurrency = 4\n[tenants.two]\n"),
        ("plugins.d/c", ""),
        ("plugins.d/a.toml", &plugin("a", "one", "memory = \"100MiB\"\nconcurrency = 3")),
        ("plugins.d/b.toml", &plugin("b", "one", "memory = \"10MiB\"")),
        ("plugins.d/d.toml", &plugin("d", "two", "memory = \"1MiB\"")),
    ]);
    // Each run with what the host holds for it, which no tenant's bound is about.
    let host = Budget::DEFAULT.host_memory(Bytes::kib(10), &Grants::default()).0;
    let worst = site.load().expect("it is right").memory_at_worst();
    assert_eq!(worst, Bytes(Bytes::mib(3 * 100 + 10 + 6).0 + 10 * host));
    let daemon = "[tenants.one]\nmemory = \"150MiB\"\n[tenants.two]\nmemory = \"3MiB\"\n";
    fs::write(site.path("sandhog.toml"), daemon).expect("a file");
    let config = site.load().expect("it is right");
    let together = Bytes(Bytes::mib(150 + 3).0 + 64 * host);
    assert_eq!(config.memory_at_worst(), together, "what tenants may take together counts too");
    let large =
        plugin("d", "two", "memory = \"1MiB\"\npayload = \"1MiB\"\noutput = \"8MiB\"\nconcurrency = 1");
    let large = format!("{large}\n[grants]\nhttp = [\"api.acme.example:443\"]\n");
    fs::write(site.path("sandhog.toml"), format!("[limits]\noutput = \"8MiB\"\n{daemon}")).expect("a file");
    fs::write(site.path("plugins.d/d.toml"), large).expect("a file");
    let config = site.load().expect("it is right");
    let of = |name: &str| {
        let plugin = config.plugins.iter().find(|plugin| plugin.name.as_str() == name).expect("it is there");
        config.budget(plugin).host_memory(plugin.payload, &plugin.grants).0
    };
    assert!(of("d") > of("a"), "a larger payload, and requests");
    assert_eq!(config.memory_at_worst(), Bytes(Bytes::mib(150 + 1).0 + of("d") + 63 * of("a")));
}

#[test]
fn what_a_tenant_may_take_together_no_run_of_it_may_take_alone() {
    let site = Site::with_plugin("[tenants.acme]\nmemory = \"50MiB\"\n", PLUGIN);
    let config = site.load().expect("it is right");
    assert_eq!(config.budget(&config.plugins[0]).memory, Bytes::mib(50));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(daemon in TEXT, plugin in TEXT) {
        match Site::with_plugin(&daemon, &plugin).load() {
            Ok(config) => prop_assert!(config.plugins.len() <= 1),
            Err(problems) => prop_assert!(problems.len() > 0 && !problems.to_string().is_empty()),
        }
    }

    #[test]
    fn any_value_of_any_key_is_read_or_refused(key in 0..200usize, value in VALUE) {
        let rows = page::rows("## The daemon's file");
        let key = rows[key % rows.len()].key.replace("NAME", "acme");
        let _ = Site::with_plugin(&format!("{key} = {value}"), PLUGIN).load();
        let rows = page::rows("## A plugin's file");
        let key = &rows[key.len() % rows.len()].key;
        let _ = Site::with_plugin("", &format!("{PLUGIN}\n[limits]\n[retry]\n[keep]\n[grants]\n{key} = {value}")).load();
    }
}

const TEXT: &str = "(\\[[a-z.]{1,8}\\]\n|[a-z]{1,8} = |\"[^\"]{0,8}\"|[0-9]{1,20}|\\{|\\}|=|,|\n|.){0,30}";
const VALUE: &str = "[0-9]{1,25}|-?[0-9.e]{1,5}|\"[^\"\\\\]{0,10}\"|\"[0-9.]{1,20}[a-zA-Z]{0,3}\"|\\[\\]|\\{\\}|true|\\[\\{\\}, 1\\]";

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

#[test]
fn a_tenants_keys_are_read_and_a_wrong_one_is_not_shown() {
    let daemon = "[tenants.acme.encryption]\nactive = \"2026-11\"\n\
                  keys = { \"2026-11\" = { env = \"NEW\" }, \"2025-01\" = { env = \"OLD\" } }\n";
    let site = || Site::with_plugin(daemon, PLUGIN).env("OLD", KEY);
    let config = site().env("NEW", KEY).load().expect("it is right");
    let acme = TenantId::parse("acme").expect("a valid name");
    let keys = config.tenants[&acme].encryption.as_ref().expect("it has keys");
    assert_eq!(keys.active().as_str(), "2026-11");
    assert!(!format!("{config:?}").contains(KEY));
    let told = site().env("NEW", "hunter2").told();
    assert!(told.contains("tenants.acme.encryption.keys.2026-11: it is not a key"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
    let told = site().told();
    assert!(told.contains("the environment variable NEW is not set"), "{told}");
}

#[test]
fn what_is_wrong_with_a_tenants_own_is_told() {
    let of = |text: &str| told(text, PLUGIN);
    let literal = of("[tenants.acme.encryption]\nactive = \"a\"\nkeys = { a = \"hunter2hunter2\" }\n");
    assert!(literal.contains("does not belong into this file") && !literal.contains("hunter2"), "{literal}");
    let misspelt =
        of("[tenants.acme.encryption]\nactive = \"2026-12\"\nkeys = { \"2026-11\" = { env = \"HOME\" } }\n");
    assert!(misspelt.contains("did you mean \"2026-11\"?"), "{misspelt}");
    let file = of("[tenants.acme.broker]\npassword = { env = \"HOME\" }\n");
    assert!(file.contains("only a broker of type \"redis\""), "{file}");
    let redis = "[broker]\ntype = \"redis\"\nurl = \"redis://127.0.0.1\"\n[tenants.acme.broker]\n";
    let unclear = of(&format!("{redis}username = \"acme\"\n"));
    assert!(unclear.contains("it is not clear how to log in"), "{unclear}");
    let literal = of(&format!("{redis}password = \"hunter2\"\n"));
    assert!(literal.contains("does not belong into this file") && !literal.contains("hunter2"), "{literal}");
    let nowhere = of(&format!("{redis}url = \"127.0.0.1\"\n"));
    assert!(nowhere.contains("tenants.acme.broker.url"), "{nowhere}");
}

#[test]
fn a_tenants_login_goes_before_that_of_all_and_keeps_the_rest() {
    let daemon = "[broker]\ntype = \"redis\"\nurl = \"redis://all:one@127.0.0.1\"\nping_interval = \"3s\"\n\
                  [tenants.acme.broker]\npassword = { env = \"PASSWORD\" }\n\
                  [tenants.globex.broker]\nurl = { env = \"URL\" }\n[tenants.other]\n";
    let site =
        Site::with_plugin(daemon, PLUGIN).env("PASSWORD", "two").env("URL", "redis://g:three@127.0.0.2");
    let config = site.load().expect("it is right");
    let of = |name: &str| config.tenants[&TenantId::parse(name).expect("a valid name")].broker.clone();
    let known = |name: &str| match of(name) {
        Some(OwnBroker::Known(server)) => server,
        other => panic!("{name}: {other:?}"),
    };
    let (acme, globex) = (known("acme"), known("globex"));
    let login = acme.effective_login().expect("it has one");
    assert_eq!((login.username.as_str(), login.password.as_str()), ("acme", "two"));
    assert_eq!(globex.effective_login().map(|login| login.username).as_deref(), Some("g"));
    assert_eq!((acme.ping_interval, globex.ping_interval), (acme.ping_interval, acme.ping_interval));
    assert_eq!(acme.ping_interval.as_secs(), 3);
    assert!(of("other").is_none());
    let shown = format!("{config:?}");
    assert!(
        ["one", "two", "three"].iter().all(|password| !shown.contains(&format!("{password}\""))),
        "{shown}"
    );
}

#[test]
fn a_smoke_run_and_a_canary_are_read_and_what_is_wrong_with_them_is_said() {
    let files = "[smoke]\nkind = \"a.run\"\npayload = { file = \"sample.json\" }\n[canary]\nshare = 0.25\nruns_min = 7\n";
    let site = Site::with_plugin("[deploy]\nkeep = 2\n", &format!("{PLUGIN}{files}"));
    fs::write(site.path("plugins.d/sample.json"), "{}").expect("a file");
    let config = site.load().expect("it is right");
    assert_eq!((config.deploy.folder, config.deploy.keep.get()), (site.path("deploys"), 2));
    let plugin = &config.plugins[0];
    assert_eq!(plugin.smoke.as_ref().map(|smoke| smoke.payload.as_slice()), Some(&b"{}"[..]));
    let canary = plugin.canary.expect("it is there");
    assert_eq!((canary.share.part(), canary.runs_min.get()), (0.25, 7));

    let wrong = "[smoke]\nkind = \"b.run\"\npayload = 7\n[canary]\nshare = 1.0\nfuel_ratio = -1\n";
    let told = told("[deploy]\nkeep = 0\n", &format!("{PLUGIN}{wrong}"));
    for part in [
        "deploy.keep: it can't be zero",
        "smoke.kind: the plugin doesn't handle \"b.run\"",
        "smoke.payload: 7 is not a payload",
        "canary.share: 1 is out of range",
        "canary.fuel_ratio: -1 is out of range",
    ] {
        assert!(told.contains(part), "{part}:\n{told}");
    }
    let told = self::told("", &format!("{PLUGIN}[smoke]\npayload = \"1\"\n[canary]\nruns_min = 1\n"));
    assert!(
        told.contains("smoke.kind: it is missing") && told.contains("canary.share: it is missing"),
        "{told}"
    );
}

#[test]
fn a_primary_is_found_by_sentinels_and_by_a_tenants_own_login_too() {
    let daemon = "[broker]\ntype = \"redis\"\nurl = \"rediss://all:one@mymaster\"\n\
                  sentinels = [\"redis://s1:26379\", { env = \"S2\" }]\n\
                  [tenants.acme.broker]\npassword = { env = \"PASSWORD\" }\n\
                  [tenants.globex.broker]\nurl = \"rediss://g:three@other\"\n";
    let config =
        Site::with_plugin(daemon, PLUGIN).env("PASSWORD", "two").env("S2", "redis://:four@s2").load();
    let config = config.expect("it is right");
    let Broker::Redis(common) = &config.broker else { panic!("it is Redis") };
    let sentinels = Topology::Sentinels(vec!["redis://s1:26379".to_owned(), "redis://:four@s2".to_owned()]);
    assert_eq!(common.topology, sentinels);
    for (name, url) in [("acme", "rediss://…@mymaster"), ("globex", "rediss://…@other")] {
        match &config.tenants[&TenantId::parse(name).expect("a valid name")].broker {
            Some(OwnBroker::Known(own)) => {
                assert_eq!((&own.topology, own.shown_url().as_str()), (&sentinels, url))
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(!format!("{config:?}").contains("four"));
}

#[test]
fn the_nodes_of_a_cluster_are_those_of_its_url_alone() {
    let daemon = "[broker]\ntype = \"redis\"\nurl = \"redis://n1:6379\"\ncluster = [\"n2:6379\", \"[::1]:7000\"]\n\
                  [tenants.acme.broker]\npassword = { env = \"PASSWORD\" }\n\
                  [tenants.globex.broker]\nurl = \"redis://g:three@elsewhere\"\n";
    let config = Site::with_plugin(daemon, PLUGIN).env("PASSWORD", "two").load().expect("it is right");
    let nodes = ["n2:6379", "[::1]:7000"].map(|node| Address::parse(node).expect("an address"));
    let cluster = Topology::Cluster(nodes.into());
    let Broker::Redis(common) = &config.broker else { panic!("it is Redis") };
    assert_eq!(common.topology, cluster);
    for (name, topology) in [("acme", cluster), ("globex", Topology::Server)] {
        match &config.tenants[&TenantId::parse(name).expect("a valid name")].broker {
            Some(OwnBroker::Known(own)) => assert_eq!(own.topology, topology),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn what_is_wrong_with_a_url_is_told_by_its_part_and_where_it_stands() {
    let of = |text: &str| told(&format!("[broker]\ntype = \"redis\"\n{text}"), PLUGIN);
    let password = of("url = \"rediss://:F6tM/t41SZ/c57sr2KFt0=@myredis:6380/0\"\n");
    for part in ["broker.url: the URL can't be used", "percent-encoded: / is %2F", "jq -sRr @uri", "url = …"]
    {
        assert!(password.contains(part), "{part}: {password}");
    }
    assert!(!password.contains("F6tM") && !password.contains("myredis"), "{password}");
    let query = of("url = \"redis://host/1?foo=bar\"\n");
    assert!(query.contains("`foo`, which is unknown") && !query.contains("jq"), "{query}");
    for (authority, what) in
        [("\"sandhog.toml\"", "is no certificate in PEM"), ("\"nowhere.pem\"", "can't read nowhere.pem")]
    {
        let told = of(&format!("url = \"rediss://host\"\nauthority = {authority}\n"));
        assert!(told.contains(what) && told.contains("sandhog.toml:4:13"), "{told}");
    }
    let pem = include_str!("../../broker/tests/redis/tls/authority.pem");
    let daemon = "[broker]\ntype = \"redis\"\nurl = \"redis://host\"\nauthority = \"a.pem\"\n";
    let site = Site::new(&[("sandhog.toml", daemon), ("a.pem", pem)]);
    let plain = site.told();
    assert!(plain.contains("doesn't begin with rediss://") && plain.contains("sandhog.toml:4:13"), "{plain}");
}

#[test]
fn what_is_wrong_with_sentinels_and_nodes_is_told() {
    let of = |text: &str| told(&format!("[broker]\ntype = \"redis\"\n{text}"), PLUGIN);
    let none = of("url = \"redis://mymaster\"\nsentinels = []\n");
    assert!(none.contains("broker.sentinels: it names nobody") && none.contains("sandhog.toml:4"), "{none}");
    let no_urls = of("url = \"redis://mymaster\"\nsentinels = [\"s1:26379\", \"s2\"]\n");
    for nth in ["broker.sentinels[0]", "broker.sentinels[1]"] {
        assert!(no_urls.contains(nth), "{no_urls}");
    }
    let port = of("url = \"redis://mymaster:6379\"\nsentinels = [\"redis://s1\"]\n");
    assert!(port.contains("broker.url") && port.contains("it names a port, which they know"), "{port}");
    let no_node = of("url = \"redis://n1\"\ncluster = [\"redis://n2:6379\", \"n3\"]\n");
    for problem in ["broker.cluster[0]: it is not the address of a node", "broker.cluster[1]"] {
        assert!(no_node.contains(problem), "{no_node}");
    }
    let both = of("url = \"redis://n1\"\nsentinels = [\"redis://s1\"]\ncluster = [\"n2:6379\"]\n");
    assert!(both.contains("sandhog.toml:5") && both.contains("either `sentinels` or `cluster`"), "{both}");
    let embedded = told("[broker]\ntype = \"embedded\"\nsentinels = [\"redis://s1\"]\n", PLUGIN);
    assert!(embedded.contains("only a broker of type \"redis\" has it"), "{embedded}");
}

/// A plugin of tenant `globex`, of that name.
fn other(name: &str) -> String {
    PLUGIN.replace("\"acme\"", "\"globex\"").replace("\"a\"", &format!("\"{name}\""))
}

fn named(config: &Config) -> Vec<String> {
    config.plugins.iter().map(|plugin| format!("{}/{}", plugin.tenant, plugin.name)).collect()
}

#[test]
fn a_plugin_file_that_is_wrong_is_left_out_alone_and_says_whose_it_is_if_it_can() {
    let site = Site::with_plugin("", PLUGIN);
    fs::write(site.path("plugins.d/b.toml"), format!("{}[limits]\nfuel = 0\n", other("b"))).expect("a file");
    fs::write(site.path("plugins.d/c.toml"), "not TOML").expect("a file");
    // The plugin of another file.
    fs::write(site.path("plugins.d/d.toml"), PLUGIN).expect("a file");
    let config = site.load_over(None).expect("the daemon's file is right");
    assert_eq!(named(&config), ["acme/a"]);
    let broken: Vec<_> = config.broken.iter().map(|broken| broken.plugin.clone()).collect();
    let b = (TenantId::parse("globex").expect("valid"), PluginName::parse("b").expect("valid"));
    assert_eq!(broken, [Some(b), None, None]);
    assert_eq!(config.strict().expect_err("three files are wrong").len(), 4);
    assert!(
        Site::with_plugin("lease.ttl = 1", PLUGIN).load_over(None).is_err(),
        "the daemon's is all or nothing"
    );
}

#[test]
fn a_plugin_whose_file_is_wrong_is_as_its_kept_text_has_it_if_that_is_still_right() {
    let site = Site::with_plugin("", PLUGIN);
    let b = site.path("plugins.d/b.toml");
    fs::write(&b, other("b")).expect("a file");
    let right = site.load_over(None).expect("it is right");
    assert_eq!(right.texts.0.keys().collect::<Vec<_>>(), [&site.path("plugins.d/a.toml"), &b]);
    assert!(!format!("{:?}", right.texts).contains("kinds"), "it may hold a payload");
    let load_with = |kept: &FileTexts| {
        let env = |_: &str| None;
        load_with(&site.path("sandhog.toml"), Outside { env: &env, follow: Follow::All }, kept)
    };
    for wrong in ["not TOML".to_owned(), format!("{}[limits]\nfuel = 0\n", other("b"))] {
        fs::write(&b, wrong).expect("a file");
        let now = load_with(&right.texts).expect("the daemon's file is right");
        assert_eq!((&now.plugins, &now.tenants), (&right.plugins, &right.tenants));
        assert_eq!(now.broken[0].plugin.as_ref().map(|(_, name)| name.as_str()), Some("b"));
        assert!(!now.texts.0.contains_key(&b), "what is wrong is never kept");
        let without = load_with(&FileTexts::default()).expect("the daemon's file is right");
        assert_eq!(named(&without), ["acme/a"]);
    }
    // What is right is as it is, whatever was kept.
    let renamed = PLUGIN.replace("\"a\"", "\"renamed\"");
    fs::write(site.path("plugins.d/a.toml"), renamed).expect("a file");
    assert_eq!(named(&load_with(&right.texts).expect("right")), ["acme/renamed", "globex/b"]);
    // It may have less by now.
    fs::write(site.path("sandhog.toml"), "[tenants.acme]\n[tenants.globex.limits]\nfuel = 1")
        .expect("a file");
    fs::write(&b, "not TOML").expect("a file");
    let much = FileTexts([(b.clone(), format!("{}[limits]\nfuel = 2\n", other("b")).into())].into());
    assert_eq!(named(&load_with(&much).expect("the daemon's file is right")), ["acme/renamed"]);
    // Its file is gone.
    fs::remove_file(&b).expect("ours");
    assert_eq!(named(&load_with(&right.texts).expect("right")), ["acme/renamed"]);
}

#[test]
fn a_plugin_whose_file_is_wrong_now_stays_as_it_was_before() {
    let site = Site::with_plugin("", PLUGIN);
    fs::write(site.path("plugins.d/b.toml"), other("b")).expect("a file");
    let before = site.load_over(None).expect("it is right");
    for wrong in ["not TOML".to_owned(), format!("{}[limits]\nfuel = 0\n", other("renamed"))] {
        fs::write(site.path("plugins.d/b.toml"), wrong).expect("a file");
        let now = site.load_over(Some(&before)).expect("the daemon's file is right");
        assert_eq!((&now.plugins, &now.tenants), (&before.plugins, &before.tenants));
        assert_eq!(now.broken[0].plugin.as_ref().map(|(_, name)| name.as_str()), Some("b"));
    }
    // Unless another file has it, or its tenant is gone.
    fs::write(site.path("plugins.d/e.toml"), other("b")).expect("a file");
    let now = site.load_over(Some(&before)).expect("the daemon's file is right");
    assert_eq!((named(&now), now.broken[0].plugin.clone()), (vec!["acme/a".into(), "globex/b".into()], None));
    fs::remove_file(site.path("plugins.d/e.toml")).expect("ours");
    fs::write(site.path("sandhog.toml"), "[tenants.acme]").expect("a file");
    let now = site.load_over(Some(&before)).expect("the daemon's file is right");
    assert_eq!(named(&now), ["acme/a"]);
    // Its file is gone.
    fs::remove_file(site.path("plugins.d/b.toml")).expect("ours");
    assert!(site.load_over(Some(&before)).expect("it is right").broken.is_empty());
}

#[test]
fn queues_have_rules_for_groups_and_plugins_rates() {
    let daemon = "[tenants.acme.queues]\ninvoices = { order = \"strict\" }\nmails = { group_concurrency = 5 }\n\
                  quick = { order = \"strict\", on_dead = \"skip\", group_concurrency = 1 }\nplain = { order = \"any\" }\n\
                  chains = { order = \"strict\", on_dead = \"cancel-rest\" }\n\
                  shared = { order = \"fair\", weights = { acme = 3, globex = 1 } }\n\
                  [tenants.acme.rates]\nstripe = \"100/s\"\n";
    let load =
        |rate: &str| Site::with_plugin(daemon, &format!("{PLUGIN}[limits]\nrate = \"{rate}\"\n")).load();
    let config = load("stripe").expect("it is right");
    let acme = config.tenants.values().next().expect("a tenant");
    let five = GroupRule::Concurrency(NonZeroU16::new(5).expect("not 0"));
    let weights = [(GroupKey::parse("acme").expect("a key"), Weight::new(3).expect("in range"))];
    let fair = FairRule::new(weights.into()).expect("they are few");
    let rules = [
        ("chains", GroupRule::Strict(OnDead::CancelRest).into()),
        ("invoices", GroupRule::Strict(OnDead::Hold).into()),
        ("mails", five.into()),
        ("quick", GroupRule::Strict(OnDead::Skip).into()),
        ("shared", QueueRule::Fair(fair)),
    ];
    let rules = rules.map(|(queue, rule)| (QueueName::parse(queue).expect("a name"), rule));
    assert_eq!(acme.group_rules, rules.into());
    let stripe = RateOf::Named(RateName::parse("stripe").expect("a name"));
    assert_eq!(config.plugins[0].rate.as_ref().map(|limit| &limit.of), Some(&stripe));
    let own = load("5/m").expect("it is right").plugins[0].rate.clone().expect("it has one");
    assert_eq!((own.of, own.rate.interval()), (RateOf::Plugin(config.plugins[0].name.clone()), 12_000_000));
    let wrong = "[tenants.acme.queues]\na = { order = \"strict\", group_concurrency = 2 }\nb = { on_dead = \"skip\" }\n\
                 c = { group_concurrency = 1001 }\nd = { order = \"fair\", group_concurrency = 2 }\n\
                 e = { weights = { acme = 2 } }\nf = { order = \"fair\", weights = { acme = 101 } }\n[tenants.acme.rates]\nstripe = \"100/x\"\n";
    let told = told(wrong, &format!("{PLUGIN}[limits]\nrate = \"strip\"\n"));
    let parts = [
        "one job of a group run at a time",
        "without a strict order",
        "at most 1000",
        "100/x",
        "any number of jobs of a group run at once",
        "in a fair order alone",
        "from 1 to 100",
    ];
    for part in parts {
        assert!(told.contains(part), "{part}: {told}");
    }
    let told = self::told(daemon, &format!("{PLUGIN}[limits]\nrate = \"strip\"\n"));
    assert!(told.contains("has no rate `strip`") && told.contains("did you mean \"stripe\"?"), "{told}");
}

#[test]
fn plugins_and_what_they_call_have_breakers() {
    let daemon = "[tenants.acme.breakers]\nstripe = { rate = 20, min = 5, open = \"1h\" }\n";
    let load =
        |more: &str| Site::with_plugin(daemon, &format!("{PLUGIN}{more}")).load().expect("it is right");
    let acme = TenantId::parse("acme").expect("valid");
    let breakers = |more: &str| -> Vec<(String, u8, Duration)> {
        let config = load(more);
        let told = config.breakers(&acme).into_iter().map(|(name, terms)| {
            assert_eq!(terms.kinds, config.plugins[0].kinds.iter().cloned().collect());
            let (rate, _, _, (_, longest), _) = terms.rule.parts();
            (name.to_string(), rate.get(), longest)
        });
        told.collect()
    };
    assert_eq!(breakers(""), []);
    let own = format!("plugin/{}", load("").plugins[0].name);
    let (minutes, hour) = (Duration::from_secs(600), Duration::from_secs(3600));
    assert_eq!(breakers("[breaker]\n").len(), 1, "by its being there");
    let all = breakers("calls = [\"stripe\", \"smtp\"]\n[breaker]\nrate = 90\n");
    let expected = [(own, 90, minutes), ("smtp".into(), 50, minutes), ("stripe".into(), 20, hour)];
    assert_eq!(all, expected, "the longest time is no shorter than the first");
    let wrong = "[tenants.acme.breakers]\nstripe = { rate = 101 }\nsmtp = { probes = 20000 }\n\"A b\" = {}\n";
    let told = told(
        wrong,
        &format!("{PLUGIN}calls = [\"x\", \"x\"]\n[breaker]\nopen = \"2m\"\nopen_max = \"1m\"\n"),
    );
    for part in ["from 1 to 100", "at most 10000", "A b", "stands here twice", "shorter than `open`"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

/// The SHA-256 of nothing.
const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn what_listens_for_others_has_tls_and_tokens_unless_it_is_told_otherwise() {
    let tls = "[http.tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n";
    let token = format!("[[http.tokens]]\nname = \"ci\"\nhash = \"{HASH}\"\nrole = \"admin\"\n");
    let of = |listen: &str, rest: &str| {
        let daemon = format!("[http]\nlisten = \"{listen}\"\n{rest}");
        Site::with_plugin(&daemon, PLUGIN)
    };
    for right in ["127.0.0.1:7070", "[::1]:7070"] {
        assert!(of(right, "").load().is_ok(), "{right}");
    }
    for (rest, lacks) in
        [(String::new(), "neither TLS nor tokens"), (tls.to_owned(), "no tokens"), (token.clone(), "no TLS")]
    {
        let told = of("0.0.0.0:7070", &rest).told();
        assert!(told.contains(&format!("there are {lacks}")), "{told}");
        assert!(of("0.0.0.0:7070", &format!("insecure = true\n{rest}")).load().is_ok());
    }
    let both = of("[::]:7070", &format!("{tls}{token}")).load().expect("it is right");
    let http = both.http.expect("there is one");
    assert_eq!((http.tokens.len(), http.tokens[0].scope.clone()), (1, Scope::All));
    assert!(http.tls.is_some_and(|tls| tls.certificate.ends_with("c.pem") && tls.clients.is_none()));
    assert_eq!(Site::with_plugin("", PLUGIN).load().expect("it is right").http, None);
}

#[test]
fn tokens_stand_in_the_daemons_file_or_in_one_of_their_own() {
    let tokens = |table: &str| {
        format!(
            "[[{table}]]\nname = \"ci\"\nhash = \"{HASH}\"\nrole = \"produce\"\ntenants = [\"acme\"]\n\
             expires = 2027-01-01T00:00:00Z\nrate = \"5/s\"\n"
        )
    };
    let listen = "[http]\nlisten = \"127.0.0.1:7070\"\n";
    let within = Site::with_plugin(&format!("{listen}{}", tokens("http.tokens")), PLUGIN);
    let within = within.load().expect("it is right").http.expect("there is one");
    let apart = Site::new(&[
        ("sandhog.toml", &format!("{listen}tokens = \"tokens.toml\"\n")),
        ("tokens.toml", &tokens("tokens")),
        ("plugins.d/a.toml", PLUGIN),
        ("plugins.d/a.wasm", ""),
    ]);
    let file = apart.path("tokens.toml");
    let apart = apart.load().expect("it is right").http.expect("there is one");
    assert_eq!(apart, Http { tokens_file: Some(file), ..within.clone() });
    let [token] = &within.tokens[..] else { panic!("one token") };
    let acme = TenantId::parse("acme").expect("valid");
    assert_eq!((token.role, &token.scope), (Role::Produce, &Scope::Tenants([acme].into())));
    assert!(token.expires.is_some() && token.rate.is_some_and(|rate| rate.burst() == NonZeroU32::MIN));
}

#[test]
fn what_is_wrong_with_tokens_is_told_and_no_token_is_shown() {
    let listen = "[http]\nlisten = \"127.0.0.1:7070\"\n";
    let token = |text: &str| format!("{listen}[[http.tokens]]\n{text}\n");
    for (text, problem) in [
        ("name = \"a\"\nhash = \"shg_hunter2\"\nrole = \"admin\"", "it is not the hash of a token"),
        ("name = \"a\"\nrole = \"admin\"", "http.tokens[0].hash: it is missing"),
        (
            &format!("name = \"a\"\nhash = \"{HASH}\"\nrole = \"observe\""),
            "http.tokens[0].tenants: it is missing",
        ),
        (&format!("name = \"a\"\nhash = \"{HASH}\"\nrole = \"admin\"\ntenants = []"), "it has no tenant"),
        (
            &format!("name = \"a\"\nhash = \"{HASH}\"\nrole = \"operate\"\ntenants = \"all\""),
            "a token of the role operate is not for all tenants",
        ),
        (
            &format!("name = \"a\"\nhash = \"{HASH}\"\nrole = \"observe\"\ntenants = \"some\""),
            "is not a list",
        ),
        (&format!("name = \"a\"\nhash = \"{HASH}\"\nrole = \"admn\""), "did you mean \"admin\"?"),
        (
            &format!("name = \"a\"\nhash = \"{HASH}\"\nrole = \"admin\"\nexpires = \"soon\""),
            "no point in time",
        ),
        (
            &format!(
                "name = \"a\"\nhash = \"{HASH}\"\nrole = \"admin\"\n[[http.tokens]]\nname = \"b\"\nhash = \"{HASH}\"\nrole = \"admin\""
            ),
            "another token has this hash",
        ),
    ] {
        let told = told(&token(text), PLUGIN);
        assert!(told.contains(problem) && !told.contains("hunter2"), "{problem}: {told}");
    }
    let daemon = format!(
        "{listen}[[http.tokens]]\nname = \"a\"\nhash = \"{HASH}\"\nrole = \"observe\"\ntenants = [\"acne\"]\n[tenants.acme]\n"
    );
    assert!(told(&daemon, PLUGIN).contains("token \"a\": there is no tenant `acne`"));
    assert!(told("[http]\ninsecure = true\n", PLUGIN).contains("http.listen: it is missing"));
}
