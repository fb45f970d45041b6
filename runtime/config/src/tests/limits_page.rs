//! `docs/limits.md` and the code say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use sandhog_core::outcome::Limit;
use sandhog_core::reason::Reason;

use super::page;

const PAGE: &str = include_str!("../../../../docs/limits.md");

/// A row of a table of keys: key, default, who sets it, what is past it, what proves it.
struct Row {
    key: &'static str,
    cells: [&'static str; 4],
}

fn rows() -> Vec<Row> {
    let lines = PAGE.lines().filter_map(|line| line.strip_prefix("| `"));
    lines
        .map(|line| {
            let cells: Vec<_> = line.trim_end_matches(" |").split(" | ").collect();
            let [key, cells @ ..] = &cells[..] else { panic!("no cells: {line}") };
            let cells = cells.try_into().unwrap_or_else(|_| panic!("five cells each: {line}"));
            Row { key: key.trim_end_matches('`'), cells }
        })
        .collect()
}

/// What stands in backticks.
fn quoted(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.split('`').skip(1).step_by(2)
}

/// For each key that the page of the configuration has: who may set it, with the defaults. A tenant's and a plugin's
/// limits go by the daemon's name for them.
fn keys() -> BTreeMap<String, Vec<(&'static str, &'static str)>> {
    let mut keys: BTreeMap<String, Vec<_>> = BTreeMap::new();
    let daemon = page::rows("## The daemon's file").into_iter().map(|row| {
        match row.key.strip_prefix("tenants.NAME.") {
            None => (row.key.clone(), "daemon", row.shown),
            Some(key) if key.starts_with("limits.") => (key.to_owned(), "tenant", row.shown),
            Some(_) => (row.key.clone(), "tenant", row.shown),
        }
    });
    let plugin = page::rows("## A plugin's file").into_iter().map(|row| (row.key, "plugin", row.shown));
    for (key, owner, default) in daemon.chain(plugin) {
        keys.entry(key).or_default().push((owner, default));
    }
    keys
}

#[test]
fn each_limit_is_on_the_page_with_its_default_and_whose_it_is() {
    let (rows, keys) = (rows(), keys());
    for Row { key, cells: [default, set_by, ..] } in &rows {
        let owners = keys.get(*key).unwrap_or_else(|| panic!("there is no key {key}"));
        let names: Vec<&str> = owners.iter().map(|(owner, _)| *owner).collect();
        assert_eq!(*set_by, names.join(", "), "who may set {key}");
        assert_eq!(*default, owners[0].1, "the default of {key}");
    }
    let there: BTreeSet<&str> = rows.iter().map(|row| row.key).collect();
    assert_eq!(there.len(), rows.len(), "each key once");
    let missing: Vec<&String> =
        keys.keys().filter(|key| key.starts_with("limits.") && !there.contains(key.as_str())).collect();
    assert!(missing.is_empty(), "limits that are not on the page: {missing:?}");
}

#[test]
fn each_slug_on_the_page_is_one_that_a_job_can_get_and_none_of_a_limit_is_missing() {
    let is_slug =
        |text: &&str| text.contains('-') && text.bytes().all(|b| b == b'-' || b.is_ascii_lowercase());
    let slugs: BTreeSet<&str> = quoted(PAGE).filter(is_slug).collect();
    for slug in &slugs {
        assert!(Reason::from_slug(slug).is_some(), "no job gets the reason {slug}");
    }
    for limit in Limit::ALL {
        let slug = limit.reason().slug();
        assert!(slugs.contains(slug), "{slug} is not on the page");
    }
}

#[test]
fn each_limit_names_tests_and_each_test_on_the_page_exists() {
    for Row { key, cells: [.., proved_by] } in rows() {
        assert!(quoted(proved_by).any(|name| name.contains("::")), "{key} names no test");
    }
    let unproved: Vec<&str> = PAGE.lines().filter(|line| line.ends_with("| – |")).collect();
    assert!(unproved.is_empty(), "what proves these: {unproved:?}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (file, test) in quoted(PAGE).filter_map(|name| name.split_once("::")) {
        let text = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(text.contains(&format!("fn {test}(")), "there is no test {test} in {file}");
    }
}
