//! `sandhog enqueue`, `job` and `jobs`, on an embedded broker and with no daemon.

use std::process::Stdio;

use crate::site::Site;

/// A well-formed id of no job.
const NO_JOB: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

#[test]
fn a_look_at_a_broker_that_is_not_there_says_so_and_makes_nothing() {
    let site = Site::new();
    let looks: [&[&str]; 5] = [
        &["jobs"],
        &["usage"],
        &["job", "show", NO_JOB],
        &["job", "cancel", NO_JOB],
        &["job", "redrive", NO_JOB],
    ];
    for look in looks {
        site.run(look).fails(1, &["sandhog.db` isn't there"]);
    }
    for name in ["sandhog.db", "sandhog.db.wakes"] {
        assert!(!site.path(name).exists(), "{name}");
    }
}

#[test]
fn a_job_that_was_enqueued_can_be_looked_up() {
    let site = Site::new();
    let id = site.enqueue(&["{\"n\": 1}", "--priority", "7", "--unique-key", "once"]);
    let job = site.json(&["job", "show", &id]);
    assert_eq!(
        (&job["state"], &job["tenant"], &job["queue"]),
        (&"ready".into(), &"acme".into(), &"default".into())
    );
    assert_eq!((&job["payload"]["json"]["n"], &job["priority"]), (&1.into(), &7.into()));
    assert_eq!((&job["unique_key"], &job["attempts"]), (&"once".into(), &0.into()));
    let said = site.run(&["job", "show", &id]);
    for part in [id.as_str(), "ready", "echo.run", "\"n\": 1", "once"] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    assert!(!said.out.contains('\x1b'), "no colours where no terminal is");
    assert!(site.run(&["job", "show", &id, "--color", "always"]).out.contains('\x1b'));
}

#[test]
fn a_delayed_job_is_scheduled() {
    let site = Site::new();
    let id = site.enqueue(&["--delay", "1h30m"]);
    let job = site.json(&["job", "show", &id]);
    assert_eq!(job["state"], "scheduled");
    assert!(job["due_at"].is_string());
    assert_eq!(site.run(&["enqueue", "echo.run", "--delay", "soon"]).code, 2);
}

#[test]
fn a_unique_key_that_is_held_enqueues_nothing_and_names_its_holder() {
    let site = Site::new();
    let first = site.enqueue(&["1", "--unique-key", "k"]);
    assert_eq!(site.enqueue(&["2", "--unique-key", "k"]), first);
    let document = site.json(&["enqueue", "echo.run", "3", "--unique-key", "k"]);
    assert_eq!((&document["ids"][0], &document["duplicates"]), (&first.into(), &1.into()));
    assert_eq!(site.count("ready"), 1);
}

#[test]
fn a_job_is_cancelled_and_only_once_final() {
    let site = Site::new();
    let id = site.enqueue(&[]);
    assert_eq!(site.json(&["job", "cancel", &id])["done"], "cancelled");
    assert_eq!(site.json(&["job", "show", &id])["state"], "cancelled");
    assert_eq!(site.run(&["job", "show", &id, "--wait"]).code, 4);
    site.run(&["job", "redrive", &id]).fails(1, &["is cancelled, not dead"]);
    site.run(&["job", "show", &id, "--output"]).fails(1, &["has no output: it is cancelled"]);
}

#[test]
fn a_job_that_is_not_there_ends_with_5() {
    let site = Site::new();
    site.enqueue(&[]);
    for command in ["show", "cancel", "redrive"] {
        site.run(&["job", command, NO_JOB]).fails(5, &[NO_JOB, "acme"]);
    }
}

#[test]
fn a_wait_that_takes_too_long_ends_with_6_and_the_job_stays() {
    let site = Site::new();
    let said = site.run(&["enqueue", "echo.run", "--wait", "--timeout", "30ms"]);
    said.fails(6, &["is still ready after 30ms", "is a daemon running?"]);
    assert_eq!(site.count("ready"), 1);
    site.run(&["jobs", "--wait", "--timeout", "30ms"]).fails(6, &["1 job to go"]);
    assert_eq!(site.run(&["enqueue", "echo.run", "--timeout", "1s"]).code, 2, "there is nothing to time");
}

#[test]
fn where_a_job_goes_is_found_out_or_asked_for() {
    let site = Site::new();
    site.run(&["enqueue", "ehco.run"]).fails(1, &["tenant acme", "did you mean `echo.run`?", "--queue"]);
    let id = site.run(&["enqueue", "later.kind", "--queue", "later"]).out;
    assert_eq!(site.json(&["job", "show", id.trim()])["queue"], "later");
    site.run(&["enqueue", "echo.run", "--tenant", "acne"])
        .fails(1, &["no tenant `acne`", "did you mean `acme`?"]);

    site.write("sandhog.toml", "[tenants.acme]\n[tenants.globex]\n");
    assert_eq!(site.json(&["job", "show", &site.enqueue(&[])])["tenant"], "acme");
    site.run(&["enqueue", "later.kind", "--queue", "q"]).fails(1, &["--tenant acme, globex"]);
}

#[test]
fn jobs_are_listed_by_state_and_page() {
    let site = Site::new();
    let ids: Vec<String> = (0..5).map(|n| site.enqueue(&[&n.to_string()])).collect();
    site.enqueue(&["--delay", "1h"]);
    let page = site.json(&["jobs", "--state", "ready", "--limit", "2", "--offset", "1"]);
    let listed: Vec<&str> =
        page["jobs"].as_array().expect("a list").iter().filter_map(|job| job["id"].as_str()).collect();
    assert_eq!(listed, [ids[1].as_str(), ids[2].as_str()]);
    assert_eq!(page["tenants"][0]["counts"]["ready"], 5);
    assert_eq!(site.json(&["jobs"])["jobs"].as_array().map(Vec::len), Some(6));
    let text = site.run(&["jobs"]).out;
    assert!(text.contains("acme: 1 scheduled, 5 ready") && text.contains(&ids[4]), "{text}");
    assert_eq!(site.run(&["jobs", "--state", "nowhere"]).code, 2);
}

#[test]
fn many_jobs_come_from_one_file_or_from_standard_input() {
    let site = Site::new();
    let lines: String = (0..2500).map(|n| format!("{{\"n\": {n}}}\n\n")).collect();
    site.write("jobs.jsonl", &lines);
    let said = site.run(&["enqueue", "echo.run", "--bulk", "jobs.jsonl"]);
    assert_eq!((said.code, said.out.as_str()), (0, "2500 jobs enqueued for tenant acme, on queue default\n"));
    assert_eq!(site.count("ready"), 2500);
    let said =
        site.run_with_input(&["--json", "enqueue", "echo.run", "--bulk", "-"], &site.path("jobs.jsonl"));
    let document: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(document["ids"].as_array().map(Vec::len), Some(2500));
    assert_eq!(site.count("ready"), 5000);
}

#[test]
fn one_malformed_line_among_many_enqueues_none_of_them() {
    let site = Site::new();
    let lines: String =
        (0..1500).map(|n| if n == 1200 { "{oops}\n".to_owned() } else { format!("{n}\n") }).collect();
    site.write("jobs.jsonl", &lines);
    let said = site.run(&["enqueue", "echo.run", "--bulk", "jobs.jsonl"]);
    said.fails(1, &["line 1201 of jobs.jsonl", "not JSON", "nothing was enqueued"]);
    assert_eq!(site.count("ready"), 0);
    site.plugin("echo", "[limits]\npayload = \"10B\"");
    site.write("jobs.jsonl", "1\n\"0123456789\"\n");
    let said = site.run(&["enqueue", "echo.run", "--bulk", "jobs.jsonl"]);
    said.fails(1, &["line 2 of jobs.jsonl", "12B is larger", "10B", "limits.payload"]);
    assert_eq!(site.count("ready"), 0);
}

#[test]
fn whoever_stops_reading_ends_the_command_quietly() {
    let site = Site::new();
    site.enqueue(&[]);
    let mut child = site
        .command(&["jobs", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn quiet_leaves_nothing_but_the_result() {
    let site = Site::new();
    let said = site.run(&["enqueue", "echo.run"]);
    assert!(said.err.contains("enqueued for tenant acme"), "{said:?}");
    let said = site.run(&["enqueue", "echo.run", "--quiet"]);
    assert_eq!((said.err.as_str(), said.out.trim().len()), ("", 26));
}
