//! Unique keys and debouncing, as producers ask for them.

use crate::site::Site;

#[test]
fn a_key_is_held_for_as_long_as_its_producer_says() {
    let site = Site::new();
    let keyed = |more: &[&str]| site.enqueue(&[&["--unique-key", "k"], more].concat());
    let first = keyed(&["1", "--unique-until", "over", "--unique-for", "1h"]);
    site.json(&["job", "cancel", &first]);
    assert_eq!(keyed(&["2"]), first, "its time isn't over");
    assert_eq!(site.run(&["enqueue", "echo.run", "--unique-key", "k", "--unique-until", "over"]).code, 2);
    assert_eq!(site.run(&["enqueue", "echo.run", "--unique-until", "soon", "--unique-key", "k"]).code, 2);
    site.run(&["enqueue", "echo.run", "--unique-for", "1h"])
        .fails(1, &["told by a unique key", "--unique-key KEY"]);
}

#[test]
fn a_clash_is_answered_as_its_producer_wants_it() {
    let site = Site::new();
    let keyed = |payload: &'static str, what: &'static str| {
        ["enqueue", "echo.run", payload, "--unique-key", "k", "--on-clash", what]
    };
    let first = site.json(&keyed("1", "replace"))["ids"][0].clone();
    let replaced = site.json(&keyed("2", "replace"));
    assert_eq!((&replaced["jobs"][0]["answer"], &replaced["ids"][0]), (&"replaced".into(), &first));
    let id = first.as_str().expect("an id");
    assert_eq!(site.json(&["job", "show", id])["payload"]["json"], 2);
    assert_eq!(site.json(&keyed("3", "existing"))["jobs"][0]["answer"], "duplicate");
    site.run(&keyed("4", "reject")).fails(1, &["nothing was enqueued", id]);
    assert_eq!(site.json(&["job", "show", id])["payload"]["json"], 2);
}

#[test]
fn events_in_a_row_make_one_debounced_job() {
    let site = Site::new();
    let event = |payload: &str, more: &[&str]| {
        site.json(
            &[&["enqueue", "echo.run", payload, "--unique-key", "k", "--debounce", "10m"], more].concat(),
        )
    };
    let first = event("1", &["--debounce-max", "1h"])["ids"][0].clone();
    let due =
        |id: &serde_json::Value| site.json(&["job", "show", id.as_str().expect("an id")])["due_at"].clone();
    let before = due(&first);
    assert_eq!(event("2", &[])["ids"][0], first);
    assert!(due(&first).as_str() > before.as_str(), "it waits anew");
    assert_eq!(site.count("scheduled"), 1);
    site.write("events.jsonl", "{\"user\": 7}\n{\"user\": 8}\n{\"user\": 7}\n");
    let bulk =
        ["enqueue", "echo.run", "--bulk", "events.jsonl", "--unique-key-at", "/user", "--debounce", "10m"];
    let answers: Vec<_> = (0..3).map(|nth| site.json(&bulk)["jobs"][nth]["answer"].clone()).collect();
    assert_eq!(answers, ["stored", "replaced", "replaced"], "of a first, a second and a third time");
    let one =
        site.json(&["enqueue", "echo.run", "{\"user\": 8}", "--unique-key-at", "/user", "--debounce", "10m"]);
    assert_eq!(one["jobs"][0]["answer"], "replaced", "a single one finds its key as well");
    let wrong = ["--unique-key", "l", "--debounce", "10m", "--debounce-max", "10m"];
    site.run(&[&["enqueue", "echo.run"], &wrong[..]].concat())
        .fails(1, &["shorter than its longest wait", "--debounce-max"]);
    let leading = ["--unique-key", "m", "--debounce", "10m", "--debounce-leading"];
    let (one, two) = (site.enqueue(&leading), site.enqueue(&leading));
    assert_eq!(one, two);
    assert_eq!(site.json(&["job", "show", &one])["state"], "ready", "at once");
}
