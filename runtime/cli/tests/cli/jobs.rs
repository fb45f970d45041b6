//! `sandhog enqueue`, `job` and `jobs`, on an embedded broker and with no daemon.

use std::fs;
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
    let id = site.enqueue(&["{\"n\": 1}", "--priority", "7", "--unique-key", "once", "--group", "acme ü"]);
    let job = site.json(&["job", "show", &id]);
    assert_eq!(
        (&job["state"], &job["tenant"], &job["queue"]),
        (&"ready".into(), &"acme".into(), &"default".into())
    );
    assert_eq!((&job["payload"]["json"]["n"], &job["priority"]), (&1.into(), &7.into()));
    assert_eq!((&job["unique_key"], &job["attempts"]), (&"once".into(), &0.into()));
    assert_eq!(job["group"], "acme ü");
    let said = site.run(&["job", "show", &id]);
    for part in [id.as_str(), "ready", "echo.run", "\"n\": 1", "once"] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    assert!(!said.out.contains('\x1b'), "no colours where no terminal is");
    assert!(site.run(&["job", "show", &id, "--color", "always"]).out.contains('\x1b'));
}

#[test]
fn labels_content_type_trace_and_times_are_shown() {
    let site = Site::new();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let id = site.enqueue(&[
        "--label",
        "env=prod",
        "--label",
        "customer=ü",
        "--content-type",
        "text/csv",
        "--traceparent",
        parent,
        "--delay",
        "1h",
        "--start-within",
        "10m",
        "--deadline",
        "2h",
    ]);
    let job = site.json(&["job", "show", &id]);
    assert_eq!((&job["labels"]["env"], &job["labels"]["customer"]), (&"prod".into(), &"ü".into()));
    assert_eq!((&job["content_type"], &job["traceparent"]), (&"text/csv".into(), &parent.into()));
    let minutes = |at: &str| job[at].as_str().and_then(|at| at.get(14..16)).map(str::to_owned);
    assert_ne!(minutes("start_by"), minutes("due_at"), "ten minutes later: {job}");
    assert_eq!(minutes("deadline"), minutes("due_at"), "two hours later: {job}");
    let said = site.run(&["job", "show", &id]);
    for part in ["customer=ü, env=prod", "text/csv", parent, "start by", "deadline"] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    for wrong in [["--label", "env"], ["--content-type", "csv"], ["--traceparent", "00-1-2-3"]] {
        assert_eq!(site.run(&["enqueue", "echo.run", wrong[0], wrong[1]]).code, 2, "{wrong:?}");
    }
    let twice = site.run(&["enqueue", "echo.run", "--label", "a=1", "--label", "a=2"]);
    assert!(twice.code == 1 && twice.err.contains("already"), "{twice:?}");
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
fn jobs_are_listed_by_state() {
    let site = Site::new();
    let ids: Vec<String> = (0..5).map(|n| site.enqueue(&[&n.to_string()])).collect();
    site.enqueue(&["--delay", "1h"]);
    let page = site.json(&["jobs", "--state", "ready", "--payloads"]);
    assert_eq!(
        (&page["jobs"][3]["id"], &page["jobs"][3]["payload"]["json"]),
        (&ids[3].as_str().into(), &3.into())
    );
    assert_eq!(page["tenants"][0]["counts"]["ready"], 5);
    assert_eq!(site.json(&["jobs"])["jobs"].as_array().map(Vec::len), Some(6));
    let text = site.run(&["jobs"]).out;
    assert!(text.contains("acme: 1 scheduled, 5 ready") && text.contains(&ids[4]), "{text}");
    assert_eq!(site.run(&["jobs", "--state", "nowhere"]).code, 2);
    assert_eq!(site.run(&["jobs", "--after", "1.x", "--state", "ready"]).code, 2);
    assert_eq!(site.run(&["jobs", "--after", &format!("1.{}", ids[0])]).code, 2, "of which state?");
}

#[test]
fn a_list_is_gone_through_page_by_page() {
    let site = Site::new();
    let ids: Vec<String> = (0..5).map(|n| site.enqueue(&[&n.to_string()])).collect();
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let cursor = after.iter().flat_map(|after: &String| ["--after", after]);
        let page = [&["jobs", "--state", "ready", "--limit", "2"][..], &cursor.collect::<Vec<_>>()].concat();
        let page = site.json(&page);
        let jobs = page["jobs"].as_array().expect("a list");
        assert!(jobs.len() <= 2 && jobs.iter().all(|job| job.get("payload").is_none()), "{page}");
        listed.extend(jobs.iter().filter_map(|job| job["id"].as_str().map(str::to_owned)));
        match page["tenants"][0]["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    assert_eq!(listed, ids);
    let said = site.run(&["jobs", "--state", "ready", "--limit", "2"]);
    assert!(said.err.contains("--state ready --after "), "{said:?}");
}

#[test]
fn jobs_are_listed_by_what_they_are_like() {
    let site = Site::new();
    site.plugin("other", "");
    let echo = site.enqueue(&["--queue", "slow"]);
    let other = site.run(&["enqueue", "other.run"]).out.trim().to_owned();
    let dead = site.enqueue(&[]);
    site.run(&["job", "cancel", &dead]);
    for (filter, found) in [
        (&["--queue", "slow"][..], vec![&echo]),
        (&["--kind", "other.run"], vec![&other]),
        (&["--reason", "cancelled"], vec![&dead]),
        (&["--state", "ready", "--kind", "echo.run"], vec![&echo]),
        (&["--since", "1h", "--queue", "slow"], vec![&echo]),
        (&["--until", "1h"], vec![]),
        (&["--since", "2100-01-01"], vec![]),
    ] {
        let page = site.json(&[&["jobs"], filter].concat());
        let ids: Vec<&str> =
            page["jobs"].as_array().expect("a list").iter().filter_map(|job| job["id"].as_str()).collect();
        assert_eq!(ids, found, "{filter:?}");
    }
    let text = site.run(&["jobs"]).out;
    for part in ["queue", "when", "slow", "enqueued ", "finished ", " ago"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    site.run(&["jobs", "--since", "yesterday"]).fails(2, &["2026-11-24", "90m"]);
}

#[test]
fn a_time_that_never_comes_is_null_and_said_to_be_never() {
    let site = Site::new();
    let id = site.enqueue(&["--delay", "213503982334d"]);
    let job = site.json(&["job", "show", &id]);
    assert_eq!((&job["due_at"], &job["never"]), (&().into(), &serde_json::json!(["due_at"])));
    assert!(site.run(&["jobs"]).out.contains("due never"));
    let soon = site.enqueue(&["--delay", "90m"]);
    let job = site.json(&["job", "show", &soon]);
    assert!(job["due_at"].is_string() && job["never"] == serde_json::json!([]), "{job}");
    assert!(site.run(&["jobs"]).out.contains("due in 1h"));
    let said = site.run(&["jobs", "--wait", "--timeout", "30ms"]);
    said.fails(6, &["2 jobs to go: 2 scheduled", "2 jobs of them due in more than 1h", id.as_str()]);
    let said = site.run(&["job", "show", &soon, "--wait", "--timeout", "30ms"]);
    said.fails(6, &["is still scheduled after 30ms", "it is due at", "run-now"]);
}

#[test]
fn a_long_payload_is_shown_in_part_and_printed_in_full() {
    let site = Site::new();
    let payload = format!("\"{}\"", "x".repeat(10_000));
    let id = site.enqueue(&[&payload]);
    let shown = site.run(&["job", "show", &id]).out;
    assert!(shown.len() < payload.len() && shown.contains("--payload prints it"), "{shown}");
    assert_eq!(site.run(&["job", "show", &id, "--payload"]).out, payload);
}

#[test]
fn something_is_done_to_many_jobs_and_each_is_answered_for() {
    let site = Site::new();
    let ids: Vec<String> = (0..3).map(|n| site.enqueue(&[&n.to_string()])).collect();
    let [one, two, three] = [0, 1, 2].map(|n| ids[n].as_str());
    site.run(&["job", "cancel", one]);
    let said = site.run(&["job", "redrive", one, two, NO_JOB]);
    said.fails(1, &["it is cancelled, not dead", "it is ready, not dead", NO_JOB]);
    assert_eq!(said.out, "");
    let said = site.run(&["--json", "job", "cancel", two, NO_JOB, two]);
    let document: serde_json::Value = serde_json::from_str(&said.out).expect("one JSON document");
    assert_eq!((said.code, &document["done"], &document["refused"]), (5, &1.into(), &1.into()));
    assert_eq!(
        (&document["jobs"][0]["id"], &document["jobs"][0]["done"]),
        (&two.into(), &"cancelled".into())
    );
    assert!(document["jobs"][1]["refused"].as_str().is_some_and(|why| why.contains(NO_JOB)), "{document}");
    assert_eq!(site.json(&["job", "cancel", three, "--wait"])["done"], "cancelled");
    assert_eq!(site.run(&["job", "cancel"]).code, 2, "no job is named");
    assert_eq!(site.run(&["job", "cancel", one, "--all"]).code, 2);
}

#[test]
fn jobs_that_are_picked_are_counted_and_asked_about() {
    let site = Site::new();
    site.plugin("other", "");
    let ids: Vec<String> = (0..3).map(|_| site.enqueue(&[])).collect();
    site.run(&["enqueue", "other.run"]);
    let pick = ["job", "cancel", "--kind", "echo.run"];
    let said = site.run(&pick);
    said.fails(1, &["cancel 3 jobs (3 ready of tenant acme)?", "--yes"]);
    let said = site.run(&[&pick[..], &["--dry-run"]].concat());
    assert!(said.code == 0 && ids.iter().all(|id| said.out.contains(id)), "{said:?}");
    assert!(said.err.contains("3 jobs would be cancelled") && site.count("ready") == 4, "{said:?}");
    let said = site.run(&[&pick[..], &["--yes"]].concat());
    assert_eq!((said.code, said.out.as_str()), (0, "3 jobs cancelled\n"));
    assert_eq!((site.count("ready"), site.count("cancelled")), (1, 3));
    assert_eq!(site.run(&[&pick[..], &["--yes"]].concat()).out, "0 jobs cancelled\n");
    site.run(&["job", "cancel", "--state", "dead"]).fails(1, &["dead jobs can't be cancelled"]);
}

#[test]
fn a_scheduled_job_is_run_now_and_a_final_one_removed() {
    let site = Site::new();
    let id = site.enqueue(&["--delay", "1h"]);
    site.run(&["job", "remove", &id]).fails(1, &["can't be removed: it is scheduled"]);
    assert_eq!(site.json(&["job", "run-now", &id])["done"], "ready");
    assert_eq!(site.count("ready"), 1);
    site.run(&["job", "cancel", &id]);
    site.run(&["job", "run-now", &id]).fails(1, &["can't be run now: it is cancelled"]);
    assert_eq!(site.json(&["job", "remove", "--all", "--yes"])["done"], 1);
    site.run(&["job", "show", &id]).fails(5, &[&id]);
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
fn a_payload_has_one_bound_however_it_comes_in() {
    let site = Site::new();
    let bounds = [("10KiB", ""), ("11KiB", "[tenants.acme.queue]\npayload = \"11KiB\"\n")];
    for (most, daemon) in bounds {
        site.write("sandhog.toml", daemon);
        let length = most.trim_end_matches("KiB").parse::<usize>().expect("a number") << 10;
        for (size, code) in [(length, 0), (length + 1, 1)] {
            let payload = format!("\"{}\"", "x".repeat(size - 2));
            site.write("payload", &payload);
            // Known to a plugin or to nobody: what holds is the tenant's.
            for (kind, key) in [("echo.run", "limits.payload"), ("no.such", "tenants.acme.queue.payload")] {
                let enqueue = ["enqueue", kind, "--queue", "default"];
                let said = [
                    site.run(&[&enqueue[..], &[payload.as_str()]].concat()),
                    site.run_with_input(&[&enqueue[..], &["-"]].concat(), &site.path("payload")),
                    site.run(&[&enqueue[..], &["--file", "payload"]].concat()),
                    site.run(&[&enqueue[..], &["--raw", "--file", "payload"]].concat()),
                    site.run(&[&enqueue[..], &["--bulk", "payload"]].concat()),
                ];
                for said in said {
                    assert_eq!(said.code, code, "{kind} of {size}: {said:?}");
                    if code > 0 {
                        said.fails(1, &["is larger than", most, key, "by reference"]);
                    }
                }
            }
        }
    }
    fs::write(site.path("huge"), vec![b' '; (8 << 20) + 1]).expect("a file");
    site.run(&["enqueue", "echo.run", "--file", "huge"]).fails(1, &["larger than 8MiB"]);
    site.run(&["enqueue", "echo.run", "--bulk", "huge"]).fails(1, &["line 1 of huge", "larger than 8MiB"]);
}

#[test]
fn a_payload_is_json_on_every_way_in_unless_it_is_taken_as_it_is() {
    let site = Site::new();
    let cases: [(&[u8], &str); 4] = [
        (b"hello", "expected value at"),
        (b"", "it is empty"),
        (b"\"\xff\"", "it is not UTF-8"),
        (b"{\"a\": 1}}", "trailing characters at"),
    ];
    for (payload, told) in cases {
        fs::write(site.path("payload"), payload).expect("a file");
        site.run(&["enqueue", "echo.run", "--file", "payload"])
            .fails(1, &["in payload is not JSON", told, "--raw"]);
        let said = site.run_with_input(&["enqueue", "echo.run", "-"], &site.path("payload"));
        said.fails(1, &["on standard input is not JSON", told, "--raw"]);
        let said = site.run(&["enqueue", "echo.run", "--raw", "--file", "payload"]);
        assert_eq!(said.code, 0, "{said:?}");
    }
    site.run(&["enqueue", "echo.run", "hello"]).fails(1, &["not JSON", "quote it for the shell"]);
    // What editors put before a text is no part of it.
    fs::write(site.path("payload"), b"\xef\xbb\xbf{\"a\": 1.10}").expect("a file");
    for way in ["--file", "--bulk"] {
        let ids = site.json(&["enqueue", "echo.run", way, "payload"])["ids"].clone();
        let shown = site.run(&["job", "show", ids[0].as_str().expect("an id")]);
        assert!(shown.out.contains("\"a\": 1.10"), "{shown:?}");
    }
}

#[test]
fn what_is_shown_of_a_payload_is_what_was_sent() {
    let site = Site::new();
    let payload = r#"{"z":18446744073709551616,"f":0.1000000000000000055511151231257827,"a":1,"a":2,"m":1.10,"e":1e400}"#;
    let id = site.enqueue(&[payload]);
    let said = site.run(&["--json", "job", "show", &id]);
    assert!(said.out.contains(payload), "{}", said.out);
    let said = site.run(&["job", "show", &id]);
    for part in
        ["18446744073709551616", "0.1000000000000000055511151231257827", "\"a\": 1,", "\"a\": 2,", "1e400"]
    {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    let deep = "[".repeat(200) + &"]".repeat(200);
    let id = site.enqueue(&[&deep]);
    assert!(site.run(&["--json", "job", "show", &id]).out.contains(&format!("\"json\": {deep}")));
}

#[test]
fn a_job_has_the_id_that_its_producer_gives_it_and_is_there_once() {
    let site = Site::new();
    assert_eq!(site.enqueue(&["1", "--id", NO_JOB]), NO_JOB);
    assert_eq!(site.enqueue(&["1", "--id", NO_JOB]), NO_JOB);
    assert_eq!(site.count("ready"), 1);
    assert_eq!(site.run(&["enqueue", "echo.run", "--id", "mine"]).code, 2);
}

#[test]
fn the_id_is_told_before_the_wait() {
    let site = Site::new();
    let said = site.run(&["enqueue", "echo.run", "--id", NO_JOB, "--wait", "--timeout", "30ms"]);
    assert_eq!((said.code, said.out.as_str()), (6, format!("{NO_JOB}\n").as_str()));
    let said = site.run(&["--json", "enqueue", "echo.run", "--id", NO_JOB, "--wait", "--timeout", "30ms"]);
    let document: serde_json::Value = serde_json::from_str(&said.out).expect("one JSON document");
    assert_eq!((said.code, &document["ids"][0]), (6, &NO_JOB.into()));
}

#[test]
fn keys_of_different_kinds_do_not_meet_and_a_duplicate_is_told_as_such() {
    let site = Site::new();
    site.plugin("other", "");
    let first = site.enqueue(&["--unique-key", "k"]);
    let other = site.run(&["enqueue", "other.run", "--unique-key", "k"]);
    assert_eq!(other.code, 0, "{other:?}");
    assert_ne!(other.out.trim(), first);
    let said = site.run(&["enqueue", "echo.run", "--unique-key", "k", "--quiet"]);
    assert_eq!((said.code, said.out.trim()), (0, first.as_str()));
    assert!(said.err.contains("nothing was enqueued"), "{said:?}");
    site.run(&["job", "cancel", &first]);
    let third = site.enqueue(&["--unique-key", "k"]);
    assert_ne!(third, first);
    let waited = ["--json", "enqueue", "echo.run", "--unique-key", "k", "--wait", "--timeout", "30ms"];
    let said = site.run(&waited);
    let document: serde_json::Value = serde_json::from_str(&said.out).expect("one JSON document");
    assert_eq!(
        (said.code, &document["jobs"][0]["answer"], &document["ids"][0]),
        (6, &"duplicate".into(), &third.into())
    );
    let long = "k".repeat(256);
    let id = site.enqueue(&["--unique-key", &long]);
    assert_eq!(site.enqueue(&["--unique-key", &long]), id);
}

#[test]
fn a_queue_or_kind_that_nobody_serves_is_warned_of() {
    let site = Site::new();
    let said = site.run(&["enqueue", "echo.run", "--queue", "defualt"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.err.contains("queue `defualt`") && said.err.contains("did you mean `default`?"), "{said:?}");
    let said = site.run(&["enqueue", "ehco.run", "--queue", "default", "--wait", "--timeout", "30ms"]);
    said.fails(6, &["warning: no plugin of tenant acme handles `ehco.run`", "did you mean `echo.run`?"]);
    assert!(!said.err.contains("is a daemon running?"), "{said:?}");
    let document = site.json(&["enqueue", "echo.run", "--queue", "nowhere"]);
    assert_eq!(document["warnings"].as_array().map(Vec::len), Some(1), "{document}");
    assert_eq!(site.json(&["enqueue", "echo.run"])["warnings"], serde_json::json!([]));
}

#[test]
fn a_time_can_be_said_and_one_that_can_not_be_read_says_what_was_meant() {
    let site = Site::new();
    let id = site.enqueue(&["--at", "2100-01-01T01:00:00+01:00"]);
    let due: jiff::Timestamp =
        site.json(&["job", "show", &id])["due_at"].as_str().expect("a time").parse().expect("RFC 3339");
    let at: jiff::Timestamp = "2100-01-01T00:00:00Z".parse().expect("RFC 3339");
    assert!((due - at).as_secs().abs() < 60, "{due}");
    let past = site.enqueue(&["--at", "2020-01-01T00:00:00Z"]);
    assert_eq!(site.json(&["job", "show", &past])["state"], "ready");
    for (arguments, told) in [
        (["--delay", "1w"], "did you mean 7d?"),
        (["--delay", "1.5h"], "did you mean 1h30m?"),
        (["--delay", "-5s"], "\"-5s\" is not a time"),
        (["--at", "2100-01-01 12:00"], "did you mean 2100-01-01T12:00:00Z?"),
        (["--at", "5m"], "--delay 5m"),
    ] {
        site.run(&[&["enqueue", "echo.run"], &arguments[..]].concat()).fails(2, &[told]);
    }
}

#[test]
fn a_file_that_is_enqueued_twice_by_the_same_ids_is_there_once() {
    let site = Site::new();
    site.write("jobs.jsonl", "1\n\n2\n3\n");
    let first = site.json(&["enqueue", "echo.run", "--bulk", "jobs.jsonl", "--ids", NO_JOB]);
    assert_eq!(first["ids_from"], NO_JOB);
    let lines: Vec<u64> =
        first["jobs"].as_array().expect("a list").iter().filter_map(|job| job["line"].as_u64()).collect();
    assert_eq!(lines, [1, 3, 4]);
    let again = site.json(&["enqueue", "echo.run", "--bulk", "jobs.jsonl", "--ids", NO_JOB]);
    assert_eq!((&again["ids"], site.count("ready")), (&first["ids"], 3));
    let other = site.json(&["enqueue", "echo.run", "--bulk", "jobs.jsonl"]);
    assert!(other["ids_from"].is_string() && other["ids"] != first["ids"], "{other}");
    assert_eq!(site.run(&["enqueue", "echo.run", "--ids", NO_JOB]).code, 2);
}

#[test]
fn a_tenant_has_so_much_waiting_and_no_more() {
    let site = Site::new();
    site.write("sandhog.toml", "[tenants.acme.queue]\njobs = 1\n");
    site.enqueue(&["1"]);
    site.run(&["enqueue", "echo.run", "2"])
        .fails(1, &["1 jobs wait already", "raise queue.jobs of tenants.acme"]);
    site.write("sandhog.toml", "[tenants.acme.queue]\nbytes = \"4B\"\n");
    site.run(&["enqueue", "echo.run", "1234"])
        .fails(1, &["4B together", "raise queue.bytes of tenants.acme"]);
    assert_eq!(site.count("ready"), 1);
}

#[test]
fn a_file_that_is_stored_in_part_says_how_far_it_came_and_how_to_go_on() {
    let site = Site::new();
    site.write("sandhog.toml", "[tenants.acme.queue]\njobs = 3\n");
    site.write("jobs.jsonl", "1\n2\n3\n4\n5\n");
    let said = site.run(&["--json", "enqueue", "echo.run", "--bulk", "jobs.jsonl"]);
    said.fails(
        1,
        &["line 4 of jobs.jsonl", "3 of 5 jobs are stored", "queue.jobs of tenants.acme", "--ids "],
    );
    let document: serde_json::Value = serde_json::from_str(&said.out).expect("one JSON document");
    let answer = |line: usize| document["jobs"][line - 1]["answer"].as_str();
    assert_eq!((answer(3), answer(4), answer(5)), (Some("stored"), Some("refused"), Some("refused")));
    let seed = document["ids_from"].as_str().expect("a ULID");
    assert!(said.err.contains(&format!("--ids {seed}")), "{said:?}");
    site.write("sandhog.toml", "");
    let whole = site.json(&["enqueue", "echo.run", "--bulk", "jobs.jsonl", "--ids", seed]);
    assert_eq!((whole["ids"].as_array().map(Vec::len), site.count("ready")), (Some(5), 5));
    assert_eq!(whole["ids"][2], document["ids"][2]);
}

#[test]
fn lines_may_have_unique_keys_of_their_own() {
    let site = Site::new();
    site.write("jobs.jsonl", "{\"id\": 1}\n{\"id\": \"1\"}\n{\"id\": null}\n{\"id\": null}\n{\"id\": 2}\n");
    let arguments = ["enqueue", "echo.run", "--bulk", "jobs.jsonl", "--unique-key-at", "/id"];
    let document = site.json(&arguments);
    let answers: Vec<&str> = document["jobs"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|job| job["answer"].as_str())
        .collect();
    assert_eq!(answers, ["stored", "duplicate", "stored", "stored", "stored"]);
    assert_eq!((&document["duplicates"], &document["ids"][0]), (&1.into(), &document["ids"][1]));
    assert_eq!(site.count("ready"), 4);
    let said = site.run(&arguments);
    assert_eq!(said.out, "2 jobs enqueued for tenant acme, on queue default\n");
    assert!(said.err.contains("nothing was enqueued for 3 lines"), "{said:?}");
    site.write("jobs.jsonl", "{\"id\": 7}\n{}\n");
    site.run(&arguments).fails(1, &["line 2 of jobs.jsonl", "nothing at /id", "nothing was enqueued"]);
    assert_eq!(site.count("ready"), 6);
}

#[test]
fn lines_may_have_groups_of_their_own() {
    let site = Site::new();
    site.write("jobs.jsonl", "{\"for\": \"acme\"}\n{\"for\": 7}\n{\"for\": null}\n");
    let document = site.json(&["enqueue", "echo.run", "--bulk", "jobs.jsonl", "--group-at", "/for"]);
    let ids: Vec<&str> =
        document["ids"].as_array().expect("a list").iter().filter_map(serde_json::Value::as_str).collect();
    let groups: Vec<serde_json::Value> =
        ids.iter().map(|id| site.json(&["job", "show", id])["group"].clone()).collect();
    assert_eq!(groups, ["acme".into(), "7".into(), serde_json::Value::Null]);
    let listed = site.json(&["jobs", "--state", "ready"]);
    assert_eq!(listed["jobs"][0]["group"], "acme");
    site.write("jobs.jsonl", "{\"for\": true}\n");
    site.run(&["enqueue", "echo.run", "--bulk", "jobs.jsonl", "--group-at", "/for"])
        .fails(1, &["line 1 of jobs.jsonl", "neither a text nor a number, so no group"]);
}

#[test]
fn lines_come_through_a_pipe_and_a_folder_that_can_not_keep_them_is_named() {
    let site = Site::new();
    site.write("jobs.jsonl", "1\n2\n");
    let said =
        site.run_with_input(&["enqueue", "echo.run", "--bulk", "/dev/stdin"], &site.path("jobs.jsonl"));
    assert_eq!(said.code, 0, "{said:?}");
    let pipe = site.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there").success());
    let (from, to) = (site.path("jobs.jsonl"), pipe);
    let writer = std::thread::spawn(move || fs::copy(from, to).expect("the command reads it"));
    let said = site.run(&["enqueue", "echo.run", "--bulk", "pipe"]);
    assert_eq!((said.code, said.out.as_str()), (0, "2 jobs enqueued for tenant acme, on queue default\n"));
    writer.join().expect("it was written");
    assert_eq!(site.count("ready"), 4);
    let output = site
        .command(&["enqueue", "echo.run", "--bulk", "-"])
        .env("TMPDIR", "/nonexistent")
        .output()
        .expect("the command starts");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("temporary file in /nonexistent") && told.contains("TMPDIR"), "{told}");
    site.run(&["enqueue", "echo.run", "--bulk", "plugins.d"]).fails(1, &["read plugins.d"]);
    site.write("empty", "");
    let said = site.run(&["enqueue", "echo.run", "--bulk", "empty", "--wait"]);
    assert_eq!((said.code, said.out.as_str()), (0, "0 jobs enqueued for tenant acme, on queue default\n"));
    assert!(said.err.contains("no job to wait for") && !said.err.contains("succeeded"), "{said:?}");
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

#[test]
fn a_job_that_waits_is_edited_and_no_other() {
    let site = Site::new();
    let id = site.enqueue(&["1"]);
    let done =
        site.json(&["job", "edit", &id, "--payload", "{\"n\": 2}", "--priority", "7", "--delay", "1h"]);
    assert_eq!((&done["done"], &done["id"]), (&"edited".into(), &id.as_str().into()));
    let job = site.json(&["job", "show", &id]);
    assert_eq!((&job["payload"]["json"]["n"], &job["priority"]), (&2.into(), &7.into()));
    assert!(job["state"] == "scheduled" && job["due_at"].is_string(), "{job}");
    site.json(&["job", "edit", &id, "--at", "2126-11-24T18:00:00Z"]);
    assert_eq!(site.json(&["job", "show", &id])["due_at"], "2126-11-24T18:00:00Z");
    assert_eq!(site.run(&["job", "edit", &id, "--delay", "0s"]).out, format!("{id} is edited\n"));
    assert_eq!(site.count("ready"), 1);
    site.run(&["job", "edit", &id, "--payload", "{"]).fails(1, &["the payload is not JSON"]);
    site.json(&["job", "edit", &id, "--payload", "{", "--raw"]);
    let long = "1".repeat(10_241);
    site.run(&["job", "edit", &id, "--payload", &long]).fails(1, &["`echo.run` may be 10KiB at most"]);
    assert_eq!(site.run(&["job", "edit", &id]).code, 2, "there is nothing to change");
    assert_eq!(site.run(&["job", "edit", &id, "--at", "2126-11-24T18:00:00Z", "--delay", "1s"]).code, 2);
    site.run(&["job", "edit", NO_JOB, "--priority", "1"]).fails(5, &[NO_JOB]);
    site.run(&["job", "cancel", &id]);
    site.run(&["job", "edit", &id, "--priority", "1"]).fails(1, &["it is cancelled", "as long as they wait"]);
}

#[test]
fn jobs_are_picked_by_group_label_and_age() {
    let site = Site::new();
    let acme = site.enqueue(&["--group", "acme", "--label", "env=prod", "--label", "region=eu"]);
    let test = site.enqueue(&["--group", "acme", "--label", "env=test"]);
    let plain = site.enqueue(&[]);
    let listed = |options: &[&str]| {
        let document = site.json(&[&["jobs"], options].concat());
        let jobs = document["jobs"].as_array().expect("a list").clone();
        jobs.iter().filter_map(|job| job["id"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(listed(&["--group", "acme"]), [test.as_str(), acme.as_str()]);
    assert_eq!(listed(&["--label", "env=prod", "--label", "region=eu"]), [acme.as_str()]);
    assert_eq!(listed(&["--older-than", "1h"]), [] as [&str; 0]);
    assert_eq!(listed(&["--older-than", "0s"]).len(), 3);
    assert_eq!(listed(&["--message", "no luck"]), [] as [&str; 0]);
    for wrong in [
        &["jobs", "--label", "env"][..],
        &["jobs", "--older-than", "1h", "--until", "2h"],
        &["jobs", "--message", ""],
        &["job", "cancel", &plain, "--label", "env=prod"],
    ] {
        assert_eq!(site.run(wrong).code, 2, "{wrong:?}");
    }
    site.run(&["jobs", "--label", "a=1", "--label", "a=2"]).fails(1, &["already"]);
    let would = site.json(&["job", "cancel", "--group", "acme", "--dry-run"]);
    assert_eq!((&would["would"], would["jobs"].as_array().map(Vec::len)), (&2.into(), Some(2)));
    let done = site.json(&["job", "cancel", "--label", "env=test", "--yes"]);
    assert_eq!(
        (&done["done"], &done["refused"], &done["jobs"][0]["id"]),
        (&1.into(), &0.into(), &test.into())
    );
    assert_eq!(done["left_out"], serde_json::json!({}));
    assert_eq!((site.count("ready"), site.count("cancelled")), (2, 1));
}

#[test]
fn of_many_jobs_the_first_are_named_and_all_are_counted() {
    let site = Site::new();
    site.write("jobs.jsonl", &"1\n".repeat(1100));
    site.run(&["enqueue", "echo.run", "--bulk", "jobs.jsonl"]);
    let said = site.run(&["job", "cancel", "--all", "--dry-run"]);
    assert_eq!(said.out.lines().count(), 21, "{said:?}");
    assert!(said.out.ends_with("… and 1080 more\n") && said.err.contains("1100 jobs would be"), "{said:?}");
    let done = site.json(&["job", "cancel", "--all", "--yes", "--rate", "10000/s"]);
    assert_eq!((&done["done"], done["jobs"].as_array().map(Vec::len)), (&1100.into(), Some(1000)));
    assert_eq!(site.count("cancelled"), 1100);
    assert_eq!(
        site.run(&["job", "cancel", NO_JOB, "--rate", "1/s"]).code,
        2,
        "there is nothing to slow down"
    );
}

#[test]
fn a_command_on_many_jobs_can_be_ended_and_goes_on_when_it_is_repeated() {
    let site = Site::new();
    (0..3).for_each(|_| drop(site.enqueue(&[])));
    let mut slow = site.command(&["job", "cancel", "--all", "--yes", "--rate", "1/h"]);
    let slow = slow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    while site.count("cancelled") == 0 {}
    let sent = std::process::Command::new("kill").args(["-INT", &slow.id().to_string()]).status();
    assert!(sent.expect("kill is there").success());
    let said = slow.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&said.stderr);
    assert!(told.contains("stopped after 1 job") && told.contains("repeat the command"), "{told}");
    assert_eq!(
        (said.status.code(), String::from_utf8_lossy(&said.stdout).as_ref()),
        (Some(1), "1 job cancelled\n")
    );
    assert_eq!(site.run(&["job", "cancel", "--all", "--yes"]).out, "2 jobs cancelled\n");
}
