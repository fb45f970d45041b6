//! `sandhog flow`, on an embedded broker and with no daemon.

use serde_json::{Value, json};

use crate::site::Site;

const PAGE: &str = include_str!("../../../../docs/flows.md");

/// The code blocks of the page in a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let opening = format!("```{language}\n");
    PAGE.split(opening.as_str()).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

fn states(site: &Site, flow: &str) -> Vec<(String, String)> {
    let shown = site.json(&["flow", "show", flow]);
    let jobs = shown["jobs"].as_array().expect("a list").iter();
    let text = |job: &Value, key: &str| job[key].as_str().expect("a text").to_owned();
    jobs.map(|job| (text(job, "name"), text(job, "state"))).collect()
}

fn of(named: &[(&str, &str)]) -> Vec<(String, String)> {
    named.iter().map(|(name, state)| ((*name).to_owned(), (*state).to_owned())).collect()
}

#[test]
fn the_flows_of_the_page_can_be_run() {
    let site = Site::new();
    let flows: Vec<&str> =
        blocks("toml").into_iter().chain(blocks("json")).filter(|text| text.contains("jobs")).collect();
    assert!(flows.len() >= 3, "the page has flows");
    for text in flows {
        site.write("flow", text);
        let stored = site.json(&["flow", "run", "flow"]);
        let id = stored["flow"].as_str().expect("an id");
        assert_eq!(stored["jobs"][0]["id"], id, "a flow has the id of its first job");
        let count = stored["jobs"].as_array().expect("a list").len();
        assert_eq!(states(&site, id).len(), count);
    }
}

#[test]
fn jobs_wait_for_those_that_they_come_after_and_are_shown_so() {
    let site = Site::new();
    site.write("flow.toml", blocks("toml")[0]);
    let stored = site.json(&["flow", "run", "flow.toml"]);
    let ids: Vec<&str> = (0..4).map(|n| stored["jobs"][n]["id"].as_str().expect("an id")).collect();
    let expected = of(&[("a", "ready"), ("b", "blocked"), ("c", "blocked"), ("d", "blocked")]);
    assert_eq!(states(&site, ids[3]), expected, "it is found by any of its jobs");
    let shown = site.run(&["flow", "show", ids[0]]);
    let lines: Vec<&str> = shown.out.lines().collect();
    assert!(lines[0].contains(ids[0]), "{shown:?}");
    for (line, parts) in lines[1..].iter().zip([
        &["a", "ready", "echo.run"][..],
        &["└ b", "blocked", "waits for a (ready)"],
        &["└ d", "also after c", "waits for b (blocked), c (blocked)"],
        &["└ c", "blocked"],
    ]) {
        assert!(parts.iter().all(|part| line.contains(part)), "{parts:?}: {line}");
    }
    let job = site.json(&["job", "show", ids[3]]);
    assert_eq!((&job["state"], &job["flow"]), (&"blocked".into(), &ids[0].into()));
    assert_eq!(job["waits_for"].as_array().map(Vec::len), Some(2));
    assert!(site.run(&["job", "show", ids[3]]).out.contains("b (blocked)"));
    let listed = site.json(&["jobs", "--state", "blocked"]);
    assert_eq!(listed["jobs"].as_array().map(Vec::len), Some(3));
    assert_eq!(listed["tenants"][0]["counts"]["blocked"], 3);
}

#[test]
fn a_flow_is_stored_once_however_often_it_is_run_with_its_id() {
    let site = Site::new();
    site.write("flow.toml", blocks("toml")[0]);
    let id = "01J8Z4W2Q2V7H7WQ8X3R0N5T6A";
    let run = || site.json(&["flow", "run", "flow.toml", "--id", id]);
    assert_eq!(run(), run());
    assert_eq!(site.json(&["jobs"])["jobs"].as_array().map(Vec::len), Some(4));
}

#[test]
fn what_is_no_flow_is_told_with_the_job_that_is_wrong_and_nothing_is_stored() {
    let site = Site::new();
    site.enqueue(&["--unique-key", "nightly"]);
    let job = |name: &str, more: Value| {
        let mut job = json!({ "name": name, "kind": "echo.run" });
        job.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        job
    };
    let wrong = [
        (json!({ "jobs": [] }), "a flow has one job at least"),
        (
            json!({ "jobs": [job("a", json!({ "after": ["b"] }))] }),
            "job `a` comes after `b`, and there is no job",
        ),
        (
            json!({ "jobs": [job("a", json!({ "after": ["b"] })), job("b", json!({ "after": ["a"] }))] }),
            "its jobs wait for each other: `a` after `b` after `a`",
        ),
        (json!({ "jobs": [job("A", json!({}))] }), "job `A`"),
        (json!({ "jobs": [job("a", json!({ "delay": "soon" }))] }), "job `a`: delay"),
        (json!({ "jobs": [job("a", json!({ "dleay": "5s" }))] }), "unknown field `dleay`"),
        (
            json!({ "jobs": [job("a", json!({})), job("b", json!({ "after": [{ "job": "a", "on_failure": "wait" }] }))] }),
            "on_failure: it is `wait`, and may be fail, ignore or hold",
        ),
        (json!({ "jobs": [job("a", json!({ "kind": "other.run" }))] }), "no plugin"),
        (
            json!({ "jobs": [job("a", json!({})), job("b", json!({ "unique_key": "nightly", "after": ["a"] }))] }),
            "job `b`: job ",
        ),
        (
            json!({ "jobs": [job("a", json!({})), job("b", json!({ "payload": "x".repeat(20_000), "after": ["a"] }))] }),
            "job `b`: its payload is larger than",
        ),
    ];
    for (flow, said) in wrong {
        site.write("flow.json", &flow.to_string());
        site.run(&["flow", "run", "flow.json"]).fails(1, &[said]);
    }
    assert_eq!(
        site.json(&["jobs"])["jobs"].as_array().map(Vec::len),
        Some(1),
        "but for the one that holds the key"
    );
    site.run(&["flow", "run", "absent.json"]).fails(1, &["absent.json"]);
    site.run(&["flow", "show", "01ARZ3NDEKTSV4RRFFQ69G5FAV"]).fails(5, &["there is no job"]);
}

#[test]
fn all_jobs_of_a_flow_are_cancelled_at_once() {
    let site = Site::new();
    site.write("flow.toml", blocks("toml")[0]);
    let stored = site.json(&["flow", "run", "flow.toml"]);
    let id = stored["flow"].as_str().expect("an id");
    site.run(&["flow", "redrive", id, "--from", "nobody"]).fails(5, &["has no job `nobody`"]);
    assert_eq!(site.json(&["flow", "redrive", id, "--from", "a"])["jobs"].as_array().map(Vec::len), Some(0));
    let cancelled = site.json(&["flow", "cancel", id]);
    assert_eq!(
        (&cancelled["done"], cancelled["jobs"].as_array().map(Vec::len)),
        (&"cancelled".into(), Some(4))
    );
    assert!(states(&site, id).iter().all(|(_, state)| state == "cancelled"));
    let reasons = site.json(&["jobs", "--reason", "cancelled"]);
    assert_eq!(reasons["jobs"].as_array().map(Vec::len), Some(4), "none is cancelled for another");
    let redriven = site.json(&["flow", "redrive", id]);
    assert_eq!(redriven["jobs"], json!([]), "they were wanted cancelled");
}

#[test]
fn a_blocked_job_can_be_run_now() {
    let site = Site::new();
    site.write("flow.toml", blocks("toml")[0]);
    let stored = site.json(&["flow", "run", "flow.toml"]);
    let last = stored["jobs"][3]["id"].as_str().expect("an id");
    assert_eq!(site.json(&["job", "run-now", last])["done"], "ready");
    assert_eq!(site.json(&["job", "show", last])["state"], "ready");
}
