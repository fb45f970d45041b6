//! `sandhog pause`, `resume` and `holds`, and what jobs say that they wait for.

use crate::site::Site;

#[test]
fn what_is_paused_is_listed_until_it_is_resumed() {
    let site = Site::new();
    site.run(&["holds"]).fails(1, &["sandhog.db` isn't there"]);
    let said = site.run(&[
        "pause",
        "--queue",
        "default",
        "--for",
        "1h",
        "--note",
        "provider is down",
        "--by",
        "ana",
    ]);
    assert_eq!(said.code, 0, "{said:?}");
    for part in ["paused queue default by ana since 2", " until 2", "(\"provider is down\")"] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    site.json(&["pause", "--kind", "echo.run", "--until", "2126-11-24T18:00:00Z", "--by", "ben"]);
    let holds = site.json(&["holds"])["holds"].clone();
    assert_eq!((&holds[0]["queue"], &holds[0]["kind"]), (&serde_json::Value::Null, &"echo.run".into()));
    assert_eq!((&holds[0]["until"], &holds[0]["reason"]), (&"2126-11-24T18:00:00Z".into(), &"paused".into()));
    assert_eq!((&holds[1]["queue"], &holds[1]["by"]), (&"default".into(), &"ana".into()));
    let text = site.run(&["holds"]).out;
    assert!(text.contains("echo.run") && text.contains("provider is down"), "{text}");
    site.run(&["resume"])
        .fails(1, &["all jobs of tenant acme: nobody has paused exactly that", "sandhog holds"]);
    assert_eq!(site.run(&["resume", "--queue", "default"]).out, "queue default goes on\n");
    site.run(&["resume", "--queue", "default"]).fails(1, &["nobody has paused exactly that"]);
    assert_eq!(site.run(&["resume", "--all"]).out, "kind echo.run goes on\n");
    assert_eq!(site.run(&["resume", "--all"]).code, 0, "it may be said twice");
    assert_eq!(site.run(&["holds"]).out, "nothing is held back\n");
}

#[test]
fn a_pause_says_for_how_long_in_one_way() {
    let site = Site::new();
    assert_eq!(site.run(&["pause", "--for", "1h", "--until", "2126-11-24T18:00:00Z"]).code, 2);
    assert_eq!(site.run(&["pause", "--for", "soon"]).code, 2);
    assert_eq!(site.run(&["resume", "--all", "--queue", "default"]).code, 2);
    let long = "x".repeat(501);
    site.run(&["pause", "--note", &long]).fails(1, &["the note of a hold has 501 bytes"]);
    site.write("sandhog.toml", "[tenants.acme]\n[tenants.globex]\n");
    site.run(&["pause"]).fails(1, &["there are several tenants", "--tenant"]);
}

#[test]
fn a_job_says_what_it_waits_for() {
    let site = Site::new();
    let first = site.enqueue(&[]);
    let (second, later) = (site.enqueue(&[]), site.enqueue(&["--at", "2126-11-24T18:00:00Z"]));
    let line = |id: &str| site.run(&["job", "show", id]).out;
    let waits = |id: &str| site.json(&["job", "show", id])["waits"].clone();
    assert!(line(&first).contains("first of its queue: waits for a daemon with room"), "{}", line(&first));
    assert!(line(&second).contains("behind 1 job\n"), "{}", line(&second));
    assert_eq!((&waits(&second)[0]["reason"], &waits(&second)[0]["ahead"]), (&"turn".into(), &1.into()));
    let until = waits(&later)[0]["until"].clone();
    assert!(until.as_str().is_some_and(|until| until.starts_with("2126-11-24T18:00:00")), "{until}");

    site.json(&["pause", "--queue", "default", "--by", "ana", "--note", "provider is down"]);
    let held = waits(&second);
    assert_eq!((&held[0]["reason"], &held[0]["hold"]["by"]), (&"paused".into(), &"ana".into()));
    assert!(held[0]["text"].as_str().is_some_and(|text| text.ends_with("(\"provider is down\")")), "{held}");
    let both = waits(&later);
    assert_eq!((&both[0]["reason"], &both[1]["reason"]), (&"paused".into(), &"time".into()));
    let listed = site.run(&["jobs", "--state", "ready"]).out;
    assert!(listed.contains("paused queue default by ana"), "{listed}");
    assert_eq!(site.json(&["jobs", "--state", "ready"])["jobs"][0]["waits"][0]["reason"], "paused");

    site.json(&["resume", "--all"]);
    let unserved = site.run(&["enqueue", "later.kind", "--queue", "later"]).out;
    assert_eq!(waits(unserved.trim())[0]["reason"], "no-plugin");
    site.json(&["job", "cancel", &first]);
    assert_eq!(waits(&first), serde_json::json!([]), "nothing any more");
}
