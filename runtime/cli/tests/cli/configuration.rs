//! `sandhog check`, and what every command says of a configuration that is wrong.

use proptest::prelude::*;
use serde_json::Value;

use crate::site::Site;

#[test]
fn a_configuration_that_is_right_is_shown_as_it_would_be_in_force() {
    let site = Site::new();
    site.write("sandhog.toml", "[tenants.acme]\nweight = 3\n[limits]\ntimeout = \"1m\"\n");
    let said = site.run(&["check"]);
    assert_eq!(said.code, 0, "{said:?}");
    for part in ["acme/echo", "echo.run", "128 MiB", "1m", "embedded in sandhog.db", "all is right"] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    let document = site.json(&["check"]);
    assert_eq!(document["ok"], true);
    assert_eq!(document["config"]["tenants"][0]["weight"], 3);
    let plugin = &document["config"]["plugins"][0];
    assert_eq!((&plugin["name"], &plugin["budget"]["timeout_ms"]), (&"echo".into(), &60_000.into()));
    let digest = site.json(&["plugin", "inspect", "plugins.d/echo.wasm"])["sha256"].clone();
    assert_eq!(plugin["revision"], digest);
    assert!(!site.path("sandhog.db").exists(), "to check is to change nothing");
}

#[test]
fn more_tenants_than_seats_are_warned_of() {
    let site = Site::new();
    site.write("sandhog.toml", "[engine]\nconcurrency = 1\n");
    let other = "name = \"other\"\ntenant = \"globex\"\ncomponent = \"echo.wasm\"\nkinds = [\"other.run\"]";
    site.write("plugins.d/other.toml", &format!("[plugin]\n{other}\n"));
    let said = site.run(&["check"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("raise engine.concurrency to 2 or more"), "{}", said.out);
}

#[test]
fn a_configuration_that_is_wrong_ends_every_command_with_64_and_names_the_place() {
    let site = Site::new();
    site.write("sandhog.toml", "[lease]\nttl = \"5 parsecs\"\n[tenants.acme]\nwieght = 3\n");
    for command in [&["check"][..], &["run"], &["jobs"], &["enqueue", "echo.run"]] {
        let said = site.run(command);
        said.fails(64, &["sandhog.toml:2:7", "5 parsecs", "did you mean `weight`?", "2 problems"]);
        assert_eq!(said.out, "");
    }
    let said = site.run(&["check", "--json"]);
    assert_eq!(said.code, 64);
    let document: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!((&document["ok"], &document["config"]), (&false.into(), &Value::Null));
    let problem = &document["problems"][0];
    assert_eq!((&problem["file"], &problem["line"]), (&"sandhog.toml".into(), &2.into()));
    assert!(!site.path("sandhog.db").exists());
}

#[test]
fn a_plugin_file_that_is_wrong_stops_no_other_teams_commands() {
    let of_globex =
        "[plugin]\nname = \"g\"\ntenant = \"globex\"\ncomponent = \"echo.wasm\"\nkinds = [\"g.run\"]\n";
    for (daemon, wrong) in [
        ("[tenants.acme]\n[tenants.globex]\n", format!("{of_globex}[limits]\nmemory = \"64Mib\"\n")),
        ("[tenants.acme]\n[tenants.globex]\n", "this is not TOML".to_owned()),
        // Left behind when its tenant went.
        ("[tenants.acme]\n[tenants.other]\n", of_globex.to_owned()),
    ] {
        let site = Site::new();
        site.write("sandhog.toml", daemon);
        site.write("plugins.d/g.toml", &wrong);
        for command in [&["enqueue", "echo.run"][..], &["jobs"], &["jobs", "-t", "acme"], &["usage"]] {
            let said = site.run(command);
            assert_eq!(said.code, 0, "{command:?}: {said:?}");
            assert!(said.err.contains("a plugin file is left out: plugins.d/g.toml:"), "{}", said.err);
        }
        // Whose job this is may stand in that file, so it is no guess.
        site.run(&["enqueue", "g.run"]).fails(64, &["plugins.d/g.toml", "`g.run`"]);
        site.run(&["enqueue", "g.run", "--queue", "q"]).fails(64, &["plugins.d/g.toml", "--tenant"]);
        assert_eq!(site.run(&["enqueue", "g.run", "--queue", "q", "--tenant", "acme"]).code, 0);
        for command in [&["check"][..], &["run", "--strict"]] {
            site.run(command).fails(64, &["plugins.d/g.toml"]);
        }
    }
}

#[test]
fn components_that_can_not_be_loaded_are_all_named() {
    let site = Site::new();
    site.write("plugins.d/broken.wasm", "\0asm garbage");
    for name in ["one", "two"] {
        site.write(
            &format!("plugins.d/{name}.toml"),
            &format!(
                "[plugin]\nname = \"{name}\"\ntenant = \"acme\"\ncomponent = \"broken.wasm\"\nkinds = [\"{name}\"]\n"
            ),
        );
    }
    let said = site.run(&["check"]);
    said.fails(1, &["acme/one", "plugins.d/one.toml", "acme/two", "2 plugins can't be loaded"]);
    let document: Value = serde_json::from_str(&site.run(&["check", "--json"]).out).expect("JSON");
    assert_eq!(document["ok"], false);
    assert_eq!(document["config"]["plugins"][0]["name"], "echo", "what could be loaded is shown");
    assert_eq!(document["errors"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_broker_that_can_not_be_reached_is_said_so_without_its_password() {
    let site = Site::new();
    site.write(
        "sandhog.toml",
        "[broker]\ntype = \"redis\"\nurl = { env = \"URL\" }\nconnect_timeout = \"200ms\"\n",
    );
    // Nothing listens on port 1.
    let run = |arguments: &[&str]| {
        let output = site.command(arguments).env("URL", "redis://me:hunter2@127.0.0.1:1").output();
        let output = output.expect("the command starts");
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!said.contains("hunter2"), "{said}");
        (output.status.code(), said)
    };
    let (code, said) = run(&["check"]);
    assert!(code == Some(1) && said.contains("127.0.0.1:1"), "{said}");
    assert_eq!(run(&["jobs"]).0, Some(1));
    let (code, said) = run(&["check", "--offline"]);
    assert!(code == Some(0) && said.contains("redis://…@127.0.0.1:1"), "{said}");
}

#[test]
fn secrets_are_needed_to_run_and_not_to_enqueue_and_are_shown_nowhere() {
    let site = Site::new();
    let secret = "[grants]\nsecrets = [\"KEY\"]\n[secrets]\nKEY = { env = \"KEY\" }";
    site.plugin("echo", &format!("queue = \"q\"\n{secret}"));
    site.run(&["check"]).fails(64, &["the environment variable KEY is not set"]);
    assert_eq!(site.run(&["enqueue", "echo.run"]).code, 0);
    for arguments in [&["check"][..], &["check", "--json"]] {
        let output = site.command(arguments).env("KEY", "hunter2").output().expect("the command starts");
        assert!(output.status.success());
        assert!(!String::from_utf8_lossy(&output.stdout).contains("hunter2"));
    }
}

#[test]
fn the_command_line_itself_is_checked_first() {
    let site = Site::empty();
    for wrong in [&["nonsense"][..], &[], &["enqueue"], &["job", "show", "x"], &["jobs", "--limit", "0"]] {
        assert_eq!(site.run(wrong).code, 2, "{wrong:?}");
    }
    let help = site.run(&["--help"]);
    assert_eq!(help.code, 0);
    for part in ["Daemon:", "Jobs:", "Plugins:", "Examples:", "Exit codes:", "--config"] {
        assert!(help.out.contains(part), "{part}: {}", help.out);
    }
    site.run(&["jobs"]).fails(64, &["sandhog.toml", "`sandhog dev` writes one"]);
}

/// Where an operator may write a URL, or what was meant for one: the daemon's file, and what stands in a plugin's `[grants]`.
fn places(url: &str) -> Vec<(String, String)> {
    let quoted = serde_json::to_string(url).expect("text");
    let redis = "[broker]\ntype = \"redis\"\nconnect_timeout = \"200ms\"\n";
    let other = format!("{redis}url = \"redis://127.0.0.1:1\"\n");
    let daemon = [
        format!("{redis}url = {quoted}\n"),
        format!("{redis}url = {url}\n"),
        format!("{redis}url = [{quoted}]\n"),
        format!("{redis}url = {{ env = \"REDIS_URL\" }}\n"),
        format!("{redis}url = {{ env = {quoted} }}\n"),
        format!("{redis}url = {{ file = {quoted} }}\n"),
        format!("{redis}ulr = {quoted}\n"),
        format!("{other}sentinels = [\n  {quoted},\n]\n"),
        format!("{other}sentinels = {quoted}\n"),
        format!("{other}cluster = [{quoted}]\n"),
        format!("{other}cluster = {quoted}\n"),
        format!("{other}authority = {quoted}\n"),
        format!("{other}[tenants.acme.broker]\nurl = {quoted}\n"),
        format!("{other}[tenants.acme]\nbroker = {{ url = {{ env = \"REDIS_URL\" }} }}\n"),
        format!("{other}[tenants.acme]\nbroker = {quoted}\n"),
        format!("[broker]\ntype = {quoted}\n"),
        format!("[broker]\ntype = \"embedded\"\nurl = {quoted}\n"),
        format!("broker = {quoted}\n"),
        format!("{quoted} = 1\n"),
    ];
    let in_grants = (other, format!("[grants]\nhttp = [{quoted}]\n"));
    daemon.into_iter().map(|text| (text, String::new())).chain([in_grants]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_password_is_ever_printed_wherever_its_url_is_written_and_whatever_is_wrong_with_it(
        password in "[!-~]{0,6}hunter2[!-~]{0,6}",
        before in prop::sample::select(vec!["redis://", "rediss://", "http://", "redis:", "//", ""]),
        user in prop::sample::select(vec!["me:", ":", ""]),
        after in prop::sample::select(vec!["@127.0.0.1:1/0", "@127.0.0.1:1", "@127.0.0.1:x", "@127.0.0.1:1/x?db=1"]),
        place in any::<prop::sample::Index>(),
        json: bool,
    ) {
        let url = format!("{before}{user}{password}{after}");
        let places = places(&url);
        let (daemon, plugin) = place.get(&places);
        let site = Site::new();
        site.write("sandhog.toml", daemon);
        site.plugin("echo", plugin);
        let arguments = if json { &["check", "--json"][..] } else { &["check"] };
        let output = site.command(arguments).env("REDIS_URL", &url).output().expect("the command starts");
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        prop_assert!(!output.status.success(), "{said}");
        prop_assert!(!said.contains("hunter2"), "{daemon}{plugin}\n{said}");
    }
}
