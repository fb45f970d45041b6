//! `sandhog events`: what has happened, from where one has read before, and what happens.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::site::Site;

#[test]
fn events_are_told_from_where_one_has_read_before() {
    let site = Site::new();
    site.run(&["events"]).fails(1, &["sandhog.db` isn't there"]);
    site.enqueue(&[]);
    let nothing = site.json(&["events"]);
    assert_eq!(nothing["events"], serde_json::json!([]), "nobody had asked for them");
    let next = nothing["tenants"][0]["next"].as_str().expect("a place").to_owned();
    assert!(next.starts_with("acme@"), "{next}");

    let id = site.enqueue(&["--queue", "other"]);
    site.json(&["job", "cancel", &id]);
    let told = site.json(&["events", "--since", &next]);
    let events: Vec<(&str, &str)> = told["events"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|event| (event["event"].as_str().expect("a text"), event["job"].as_str().expect("a text")))
        .collect();
    assert_eq!(events, [("created", id.as_str()), ("cancelled", id.as_str())]);
    let last = &told["events"][1];
    assert_eq!((&last["reason"], &last["queue"]), (&"cancelled".into(), &"other".into()));
    assert_eq!((&last["attempt"], &last["group"]), (&Value::Null, &Value::Null));
    assert_eq!(told["tenants"][0]["gap"], false);
    assert_eq!(told["tenants"][0]["next"], last["cursor"]);

    let of = |more: &[&str]| {
        let all = [&["events", "--since", "10m"][..], more].concat();
        site.json(&all)["events"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(of(&[]), 2);
    assert_eq!(of(&["--event", "created"]), 1);
    assert_eq!(of(&["--event", "created", "--event", "cancelled", "--job", &id]), 2);
    assert_eq!((of(&["--queue", "default"]), of(&["--kind", "other.kind"])), (0, 0));
    let text = site.run(&["events"]);
    assert!(text.out.contains(&format!("cancelled     {id} acme/other echo.run")), "{text:?}");
    assert!(text.err.contains("sandhog events --since acme@"), "{text:?}");
}

#[test]
fn a_place_is_one_that_was_told() {
    let site = Site::new();
    site.enqueue(&[]);
    for wrong in ["acme@", "acme@zz", "soon"] {
        assert_eq!(site.run(&["events", "--since", wrong]).code, 2, "{wrong}");
    }
    site.run(&["events", "--since", "globex@1"]).fails(1, &["there is no tenant `globex`"]);
    site.write("sandhog.toml", "[tenants.acme]\n[tenants.globex]\n");
    site.run(&["events", "--since", "globex@1", "--tenant", "acme"])
        .fails(1, &["a place in the events of another tenant"]);
    assert_eq!(site.run(&["events", "--event", "leased"]).code, 2);
    let gap = site.json(&["events", "--since", "acme@1"]);
    assert_eq!(gap["tenants"][0]["gap"], true, "what was before isn't known: {gap}");
    let text = site.run(&["events", "--since", "acme@1"]);
    assert!(text.err.contains("events of tenant acme are missing here"), "{text:?}");
}

#[test]
fn events_are_followed_as_they_come() {
    let site = Site::new();
    site.enqueue(&[]);
    let next = site.json(&["events"])["tenants"][0]["next"].as_str().expect("a place").to_owned();
    let first = site.enqueue(&[]);
    let mut command = site.command(&["events", "--follow", "--json", "--since", &next]);
    let mut follower = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(follower.stdout.take().expect("it is piped")).lines();
    let mut line = || -> Value {
        let line = lines.next().expect("it goes on").expect("it can be read");
        serde_json::from_str(&line).expect("a document a line")
    };
    let told = line();
    assert_eq!((&told["event"], &told["job"]), (&"created".into(), &first.as_str().into()));
    let second = site.enqueue(&[]);
    let told = line();
    assert_eq!((&told["event"], &told["job"]), (&"created".into(), &second.as_str().into()));
    site.json(&["job", "cancel", &first]);
    assert_eq!(line()["event"], "cancelled");
    follower.kill().expect("it runs");
    follower.wait().expect("it ends");
}
