//! Commands over the network: what they give by a server, and what they give beside it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::http::{Daemon, token};
use crate::site::{Said, Site};

const CERTIFICATE: &str = include_str!("../../../daemon/src/http/fixtures/certificate.pem");
const KEY: &str = include_str!("../../../daemon/src/http/fixtures/key.pem");

/// A daemon that is asked over TLS, by an admin's token or an observer's.
struct Scene {
    site: Site,
    daemon: Daemon,
    admin: String,
    observer: String,
}

impl Scene {
    fn new() -> Self {
        Self::with("run")
    }

    /// A scene with a process of this command.
    fn with(command: &str) -> Self {
        let site = Site::new();
        site.plugin("echo", "[breaker]");
        let (admin, of_admin) = token(&site, &["ann", "--role", "admin"]);
        let (observer, of_observer) = token(&site, &["bob", "--role", "observe", "--tenant", "acme"]);
        site.write("tls/certificate.pem", CERTIFICATE);
        site.write("tls/key.pem", KEY);
        site.write("admin.token", &format!("{admin}\n"));
        site.write(
            "sandhog.toml",
            &format!(
                "[http]\nlisten = \"127.0.0.1:0\"\n[http.tls]\ncertificate = \"tls/certificate.pem\"\n\
                 key = \"tls/key.pem\"\n{of_admin}{of_observer}"
            ),
        );
        let mut daemon = Daemon::start(&site, command);
        daemon.wait_for("ready");
        Self { site, daemon, admin, observer }
    }

    fn url(&self) -> String {
        let (_, port) = self.daemon.address.rsplit_once(':').expect("a port");
        format!("https://localhost:{port}")
    }

    /// The command, ready to be started where nothing is known but the server, its authority, and a token.
    fn command(&self, token: &str, arguments: &[&str]) -> Command {
        let mut command = self.site.command(arguments);
        command.current_dir(self.site.path("tls"));
        command
            .env("SANDHOG_URL", self.url())
            .env("SANDHOG_TOKEN", token)
            .env("SANDHOG_CA", "certificate.pem");
        command
    }

    fn by(&self, token: &str, arguments: &[&str]) -> Said {
        Said::new(self.command(token, arguments).output().expect("the command starts"))
    }

    fn over(&self, arguments: &[&str]) -> Said {
        self.by(&self.admin, arguments)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let said = self.over(&[&["--json"], arguments].concat());
        assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
        serde_json::from_str(&said.out).expect("one JSON document")
    }

    /// Asserts that a command gives over the network, for programs, what it gives beside the daemon.
    fn same(&self, arguments: &[&str]) {
        assert_eq!(self.json(arguments), self.site.json(arguments), "{arguments:?}");
    }

    /// Asserts the same, and that it is so for people.
    fn alike(&self, arguments: &[&str]) {
        self.same(arguments);
        self.told(arguments);
    }

    /// Asserts that a command gives over the network, for people, what it gives beside the daemon.
    fn told(&self, arguments: &[&str]) {
        let (over, beside) = (self.over(arguments), self.site.run(arguments));
        assert_eq!((over.code, &over.out), (beside.code, &beside.out), "{arguments:?}: {over:?}");
    }

    /// Enqueues a job over the network, and returns its id.
    fn enqueue(&self, more: &[&str]) -> String {
        let said = self.over(&[&["enqueue", "echo.run"], more].concat());
        assert_eq!(said.code, 0, "{said:?}");
        said.out.trim().to_owned()
    }
}

#[test]
fn what_is_looked_at_over_the_network_is_what_is_seen_beside_the_daemon() {
    let scene = Scene::new();
    let Scene { site, .. } = &scene;
    site.json(&["events"]);
    let large = "{\"n\": 18446744073709551615, \"n\": 1.50}";
    let said =
        scene.over(&["--json", "enqueue", "echo.run", large, "--label", "a=b", "--group", "g", "--wait"]);
    assert_eq!(said.code, 0, "{said:?}");
    let done: Value = serde_json::from_str(&said.out).expect("JSON");
    let done = done["id"].as_str().expect("an id").to_owned();
    let delayed = scene.enqueue(&["--delay", "400d", "--unique-key", "echo.run/k", "--deadline", "1h"]);
    site.write(
        "flow.toml",
        "[[jobs]]\nname = \"a\"\nkind = \"echo.run\"\ndelay = \"1h\"\n\
                             [[jobs]]\nname = \"b\"\nkind = \"echo.run\"\nafter = [\"a\"]\n",
    );
    let flow = site.json(&["flow", "run", "flow.toml"])["flow"].as_str().expect("an id").to_owned();
    let add = ["schedule", "add", "yearly", "--kind", "echo.run", "--cron", "0 0 1 1 *", "--spread", "1h"];
    assert_eq!(site.run(&[&add[..], &["--timezone", "Europe/Berlin", "--times", "9"]].concat()).code, 0);
    site.json(&["pause", "--kind", "other.kind", "--note", "for now"]);
    site.json(&["breaker", "open", "plugin/echo", "--for", "9h"]);
    for id in [&done, &delayed, &flow] {
        scene.alike(&["job", "show", id]);
        scene.told(&["job", "show", id, "--payload"]);
    }
    let output = scene.over(&["job", "show", &done, "--output"]);
    assert_eq!(output.out, large, "to the last digit");
    for listed in [
        &["jobs"][..],
        &["jobs", "--payloads"],
        &["jobs", "--state", "scheduled", "-n", "1"],
        &["jobs", "--label", "a=b", "--group", "g", "--since", "1h"],
        &["groups"],
        &["events"],
        &["events", "--event", "created", "--job", &done],
        &["usage", "--by", "day,plugin"],
        &["tenant", "list"],
        &["queues"],
        &["queues", "--tenant", "acme", "--limit", "1"],
        &["plugins"],
        &["plugins", "--events"],
    ] {
        scene.same(listed);
    }
    for shown in [
        &["flow", "show", &flow][..],
        &["holds"],
        &["breaker", "list"],
        &["schedules"],
        &["schedule", "show", "yearly"],
        &["schedule", "next", "yearly", "--count", "3"],
        &["schedule", "next", "yearly", "--after", "2030-06-01", "--count", "2"],
        &["tenant", "list"],
    ] {
        scene.alike(shown);
    }
    scene.told(&["usage", "--by", "tenant", "--format", "csv"]);
    let status = scene.json(&["status"]);
    assert_eq!((&status["serves"], status["daemons"][0]["slots"].is_u64()), (&json!(true), true), "{status}");
    assert!(scene.over(&["queues"]).out.contains("default"));
    let page = scene.json(&["jobs", "--state", "scheduled", "-n", "1"]);
    let next = page["tenants"][0]["next"].as_str().expect("there are more").to_owned();
    scene.same(&["jobs", "--state", "scheduled", "-n", "1", "--after", &next]);
}

#[test]
fn what_is_changed_over_the_network_is_changed() {
    let scene = Scene::new();
    let Scene { site, .. } = &scene;
    let id = scene.enqueue(&["--delay", "1h"]);
    assert_eq!(scene.json(&["job", "edit", &id, "--payload", "[1]", "--priority", "9"])["done"], "edited");
    assert_eq!(site.json(&["job", "show", &id])["payload"], json!({ "json": [1] }));
    assert_eq!(scene.json(&["job", "run-now", &id])["done"], "ready");
    assert_eq!(scene.over(&["job", "show", &id, "--wait"]).code, 0);
    scene.over(&["job", "cancel", &id]).fails(1, &[&format!("job {id} can't be cancelled: it is succeeded")]);
    assert_eq!(scene.json(&["job", "remove", &id])["done"], "removed");
    scene.over(&["job", "show", &id]).fails(5, &["there is no job"]);

    site.write("lines", "{\"id\": 1}\n{\"id\": 2}\n{\"id\": 1}\n");
    let bulk = ["enqueue", "echo.run", "--bulk", "../lines", "--unique-key-at", "/id", "--delay", "1h"];
    let stored = scene.json(&bulk);
    assert_eq!((&stored["tenant"], &stored["duplicates"]), (&json!("acme"), &json!(1)), "{stored}");
    assert_eq!(stored["jobs"][2], json!({ "line": 3, "id": stored["ids"][0], "answer": "duplicate" }));
    let repeated = [&bulk[..], &["--ids", stored["ids_from"].as_str().expect("an id")]].concat();
    assert_eq!(scene.json(&repeated)["ids"], stored["ids"], "nothing is stored twice");
    let which = ["--queue", stored["queue"].as_str().expect("a queue"), "--state", "scheduled"];
    let dry = [&["job", "cancel", "--dry-run"], &which[..]].concat();
    scene.alike(&dry);
    assert_eq!(scene.json(&dry)["would"], 2);
    let done = scene.json(&[&["job", "cancel", "--yes", "--rate", "1000/s"], &which[..]].concat());
    assert_eq!(
        (&done["done"], &done["refused"], done["jobs"].as_array().map(Vec::len)),
        (&json!(2), &json!(0), Some(2))
    );
    assert_eq!(site.count("cancelled"), 2);

    assert_eq!(scene.json(&["pause", "--queue", "mail", "--for", "1h"])["hold"]["by"], "ann");
    scene.over(&["resume", "--queue", "other"]).fails(1, &["nobody has paused exactly that"]);
    assert_eq!(scene.json(&["resume", "--all"])["lifted"][0]["queue"], "mail");
    assert_eq!(scene.json(&["breaker", "open", "plugin/echo"])["breakers"][0]["state"], "open");
    assert_eq!(scene.json(&["breaker", "reset", "plugin/echo"])["breakers"][0]["state"], "closed");
    assert_eq!(scene.json(&["groups", "release", "default", "g"])["released"], false);

    assert_eq!(site.run(&["schedule", "add", "hourly", "--kind", "echo.run", "--every", "1h"]).code, 0);
    assert_eq!(scene.json(&["schedule", "pause", "hourly", "--note", "x"])["done"], "paused");
    assert_eq!(site.json(&["schedule", "show", "hourly"])["paused"]["by"], "ann");
    assert_eq!(scene.json(&["schedule", "resume", "hourly"])["done"], "resumed");
    assert_eq!(scene.json(&["schedule", "run", "hourly"])["jobs"].as_array().map(Vec::len), Some(1));
    let range = ["schedule", "backfill", "hourly", "--from", "2026-01-01T00:00", "--to", "2026-01-01T02:30"];
    assert_eq!(scene.json(&range)["jobs"].as_array().map(Vec::len), Some(3));
    assert_eq!(scene.json(&["schedule", "remove", "hourly"])["done"], "removed");
    let daily = ["schedule", "add", "daily", "--kind", "echo.run", "--cron", "30 6 * * mon-fri"];
    let times = ["--timezone", "Europe/Berlin", "--start", "2030-01-01T00:00", "--spread", "1s"];
    let more = ["--overlap", "allow", "--payload", "{\"n\": 1.50}"];
    assert_eq!(scene.json(&[&daily[..], &times, &more].concat())["done"], "added");
    scene.alike(&["schedule", "show", "daily"]);
    let run = scene.json(&["schedule", "run", "daily"])["jobs"][0].take();
    let shown = scene.over(&["job", "show", run.as_str().expect("an id"), "--payload"]);
    assert_eq!(shown.out, "{\"n\": 1.50}", "to the last digit");
    let never = ["schedule", "add", "never", "--kind", "echo.run", "--every", "1h", "--end", "2001-01-01"];
    scene.over(&never).fails(1, &["never fire"]);

    site.write("flow.toml", "[[jobs]]\nname = \"a\"\nkind = \"echo.run\"\ndelay = \"1h\"\n");
    let flow = site.json(&["flow", "run", "flow.toml"])["flow"].as_str().expect("an id").to_owned();
    assert_eq!(scene.json(&["flow", "cancel", &flow])["jobs"].as_array().map(Vec::len), Some(1));
    assert_eq!(scene.json(&["flow", "redrive", &flow])["jobs"], json!([]));
    site.write(
        "flow.json",
        r#"{"jobs": [{"name": "a", "kind": "echo.run", "payload": {"n": 1.50}}, {"name": "b", "kind": "echo.run", "after": ["a"]}]}"#,
    );
    let flow =
        scene.json(&["flow", "run", "../flow.json", "--wait"])["flow"].as_str().expect("an id").to_owned();
    let first = scene.over(&["job", "show", &flow, "--payload"]);
    assert_eq!(first.out, "{\"n\": 1.50}", "to the last digit");
    assert_eq!(scene.json(&["flow", "run", "../flow.json", "--id", &flow])["flow"], flow.as_str(), "once");
    assert_eq!(scene.json(&["flow", "show", &flow])["jobs"].as_array().map(Vec::len), Some(2));
    assert_eq!(scene.json(&["flow", "redrive", &flow, "--from", "b"])["jobs"], json!([]));
    scene.over(&["flow", "redrive", &flow, "--from", "c"]).fails(5, &["c"]);
    site.write("flow.toml", "[[jobs]]\nname = \"a\"\nkind = \"echo.run\"\nafter = [\"x\"]\n");
    scene.over(&["flow", "run", "../flow.toml"]).fails(1, &["../flow.toml is no flow"]);
    assert_eq!(scene.json(&["reload"])["outcome"], "unchanged");
    scene.over(&["plugin", "rollback", "echo"]).fails(1, &["echo"]);
    assert_eq!(scene.over(&["jobs", "--wait", "--timeout", "1m"]).code, 0);
}

#[test]
fn events_are_followed_over_the_network() {
    let scene = Scene::new();
    scene.site.json(&["events"]);
    let first = scene.enqueue(&["--delay", "1h"]);
    let places = scene.json(&["events"]);
    let next = places["events"][0]["cursor"].as_str().expect("a place").to_owned();
    scene.json(&["job", "cancel", &first]);
    let arguments = ["events", "--follow", "--json", "--since", &next, "--event", "cancelled"];
    let mut command = scene.command(&scene.admin, &arguments);
    let mut follower = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(follower.stdout.take().expect("it is piped")).lines();
    let mut job = || -> Value {
        let line = lines.next().expect("it goes on").expect("it can be read");
        serde_json::from_str::<Value>(&line).expect("a document a line")["job"].take()
    };
    assert_eq!(job(), first.as_str());
    let second = scene.enqueue(&["--delay", "1h"]);
    scene.json(&["job", "cancel", &second]);
    assert_eq!(job(), second.as_str());
    follower.kill().expect("it runs");
    follower.wait().expect("it ends");
}

#[test]
fn who_may_not_or_asks_nobody_is_told_what_to_do() {
    let scene = Scene::new();
    let id = scene.enqueue(&["[\"secret\"]", "--wait"]).lines().next().expect("an id").to_owned();
    let Scene { site, observer, admin, .. } = &scene;
    assert_eq!(scene.by(observer, &["jobs"]).code, 0);
    let shown = scene.by(observer, &["job", "show", &id]);
    assert!(shown.code == 0 && !shown.out.contains("secret") && !shown.out.contains("payload"), "{shown:?}");
    scene.by(observer, &["job", "show", &id, "--payload"]).fails(1, &["to this token", "operate"]);
    scene.by(observer, &["job", "remove", &id]).fails(1, &["operate"]);
    scene.by(observer, &["enqueue", "echo.run"]).fails(1, &["produce"]);
    scene.by(observer, &["jobs", "--tenant", "globex"]).fails(1, &["there is no tenant `globex`"]);
    scene.by("sandhog_wrong", &["jobs"]).fails(1, &["--token @FILE"]);
    let said = scene.by("no token", &["jobs"]);
    said.fails(1, &["--token isn't one"]);
    assert!(!said.err.contains("no token"), "{said:?}");

    let (url, ca) = (scene.url(), "tls/certificate.pem");
    let of_file = site.run(&["--url", &url, "--ca", ca, "--token", "@admin.token", "jobs"]);
    assert!(of_file.code == 0 && of_file.err.is_empty(), "{of_file:?}");
    let in_clear = site.run(&["jobs", "--url", &url, "--ca", ca, "--token", admin]);
    assert!(in_clear.code == 0 && in_clear.err.contains("--token @FILE"), "{in_clear:?}");
    assert!(!in_clear.err.contains(admin.as_str()), "{in_clear:?}");
    site.run(&["--url", &url, "--token", "@admin.token", "jobs"]).fails(1, &["certificate", "--ca FILE"]);
    site.run(&["--url", "https://localhost:1", "jobs"]).fails(1, &["can't connect to https://localhost:1"]);
    site.run(&["--url", "localhost", "jobs"]).fails(1, &["is no address of a server"]);
    site.run(&["--url", &url, "--token", "@nothing", "jobs"]).fails(1, &["can't read nothing"]);
    site.run(&["--token", "@admin.token", "jobs"]).fails(1, &["none is named"]);
    for local in [
        &["check"][..],
        &["run"],
        &["dev"],
        &["plugin", "new", "x"],
        &["token", "new", "--role", "admin"],
        &["tenant", "purge", "acme", "--yes"],
    ] {
        site.run(&[&["--url", &url, "--ca", ca], local].concat())
            .fails(1, &["can't be done over the network"]);
    }
    // An address in the environment is for the commands that can use it.
    let new = scene.over(&["token", "new", "--role", "admin"]);
    assert_eq!(new.code, 0, "{new:?}");
}

#[test]
fn where_no_jobs_are_run_they_come_in_all_the_same() {
    let scene = Scene::with("serve");
    let id = scene.enqueue(&[]);
    assert_eq!(scene.json(&["job", "show", &id])["state"], "ready");
    scene.over(&["jobs", "--wait", "--timeout", "10ms"]).fails(6, &["still has 1 job"]);
    scene.over(&["plugins"]).fails(1, &["name a daemon's address"]);
}
