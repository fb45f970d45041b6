//! `docs/config.md` and the code say the same.

use std::collections::BTreeSet;

use super::super::{Config, File, Follow, Outside, daemon, plugin};
use super::{PLUGIN, Site};

const PAGE: &str = include_str!("../../../../docs/config.md");

/// A line of a table of keys.
pub(super) struct Row {
    /// The full name of the key; `NAME` stands for a name of the operator's.
    pub(super) key: String,
    /// Its default, as the page shows it.
    pub(super) shown: &'static str,
    /// The default, where it is a value of TOML.
    default: Option<String>,
}

/// The part of the page from a heading to the next one of its rank.
fn part(heading: &str) -> &'static str {
    let (_, part) = PAGE.split_once(heading).expect("the page has the heading");
    part.split("\n## ").next().unwrap_or(part)
}

pub(super) fn rows(heading: &str) -> Vec<Row> {
    let lines = part(heading).lines().filter_map(|line| line.strip_prefix("| `"));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.split(" | ").collect();
            assert_eq!(cells.len(), 4, "key, type, default, text: {line}");
            let value = cells[2].strip_prefix('`').and_then(|value| value.strip_suffix('`'));
            let value = value.filter(|value| toml::de::DeValue::parse(value).is_ok());
            let key = cells[0].trim_end_matches('`').to_owned();
            Row { key, shown: cells[2], default: value.map(str::to_owned) }
        })
        .collect()
}

fn example(heading: &str) -> &'static str {
    let (_, example) = part(heading).split_once("```toml\n").expect("the part has an example");
    example.split("```").next().unwrap_or(example)
}

/// The keys that the code asks for while it reads a text: those that have no others below them.
fn known<T>(text: &str, read: impl FnOnce(&mut super::super::fields::Fields<'_>) -> T) -> BTreeSet<String> {
    let file = File::new("x.toml".into(), text);
    file.read(read);
    let known = file.known();
    let has_more = |key: &String| known.iter().any(|other| other.starts_with(&format!("{key}.")));
    // A list of tables is a value as well, and so is what may be a table.
    let values = [
        "grants.dirs",
        "grants.http",
        "http.tokens",
        "keep.dead",
        "keep.done",
        "retry.rules",
        "tenants.*.grants.dirs",
        "tenants.*.grants.http",
    ];
    let leaf = |key: &&String| !has_more(key) || values.contains(&key.as_str());
    known.iter().filter(leaf).map(|key| key.replace('*', "NAME")).collect()
}

fn documented(heading: &str) -> BTreeSet<String> {
    rows(heading).into_iter().map(|row| row.key).collect()
}

const OUTSIDE: Outside<'static> = Outside { env: &|_| None, follow: Follow::BrokerAlone };

/// A tenant with tables in which there are keys only if they are there.
const TENANT: &str = "[http]\ntokens = [{}]\n[tenants.acme.broker]\n[tenants.acme.encryption]\n[tenants.acme.queues.mails]\n[tenants.acme.breakers.stripe]\n[tenants.acme.grants]\ndirs = [{}]\nhttp = [{}]";

/// Tables of a plugin's file in which there are keys only if they are there.
const PLUGIN_TABLES: &str = "[retry]\nrules = [{}]\n[schedules.nightly]\n[keep]\ndone = {}\ndead = {}\n[grants]\ndirs = [{}]\nhttp = [{}]";

#[test]
fn every_key_is_on_the_page_and_no_other() {
    let daemon = known(TENANT, |fields| daemon::read(fields, OUTSIDE));
    // Read for their type alone, a broker's keys are known only where there is a broker.
    let broker = known("[broker]\ntype = \"embedded\"", |fields| daemon::read(fields, OUTSIDE));
    let daemon: BTreeSet<String> = daemon.into_iter().filter(|key| key != "broker").chain(broker).collect();
    let daemon: BTreeSet<String> = daemon.into_iter().filter(|key| key != "tenants.NAME").collect();
    assert_eq!(documented("## The daemon's file"), daemon);
    let plugin = known(PLUGIN_TABLES, |fields| plugin::read(fields, OUTSIDE, |_| true).is_some());
    assert_eq!(documented("## A plugin's file"), plugin);
}

fn shown(config: Config) -> String {
    let folder =
        config.plugins[0].file.parent().and_then(|plugins| plugins.parent()).map(|f| f.display().to_string());
    format!("{config:#?}").replace(&folder.expect("plugins lie in a folder of the site"), "")
}

/// Lines that say what is said anyway.
fn defaults(heading: &str, wanted: impl Fn(&str) -> bool) -> String {
    let rows = rows(heading).into_iter().filter(|row| wanted(&row.key));
    rows.filter_map(|row| Some(format!("{} = {}\n", row.key, row.default?))).collect()
}

const SERVER_KEYS: [&str; 3] = ["broker.connect_timeout", "broker.command_timeout", "broker.ping_interval"];

#[test]
fn the_defaults_on_the_page_are_those_in_force() {
    let silent = shown(Site::with_plugin("", PLUGIN).load().expect("it is right"));
    let daemon = defaults("## The daemon's file", |key| {
        !key.starts_with("tenants.") && !key.starts_with("http.") && !SERVER_KEYS.contains(&key)
    });
    let apart = [
        "plugin.",
        "breaker.",
        "dirs.",
        "http.",
        "rules.",
        "canary.",
        "schedules.",
        "keep.done.",
        "keep.dead.",
    ];
    let rest = defaults("## A plugin's file", |key| !apart.iter().any(|part| key.contains(part)));
    let head = defaults("## A plugin's file", |key| key.starts_with("plugin.")).replace("plugin.", "");
    assert!(head.starts_with("queue") && daemon.lines().count() > 15 && rest.lines().count() > 10);
    let spoken = Site::with_plugin(&daemon, &format!("{rest}{PLUGIN}{head}")).load().expect("it is right");
    assert_eq!(shown(spoken), silent);
}

#[test]
fn the_defaults_of_a_server_on_the_page_are_those_in_force() {
    let server = "broker.type = \"redis\"\nbroker.url = \"redis://127.0.0.1\"\n";
    let silent = shown(Site::with_plugin(server, PLUGIN).load().expect("it is right"));
    let waits = defaults("## The daemon's file", |key| SERVER_KEYS.contains(&key));
    assert_eq!(waits.lines().count(), SERVER_KEYS.len());
    let spoken = Site::with_plugin(&format!("{server}{waits}"), PLUGIN).load().expect("it is right");
    assert_eq!(shown(spoken), silent);
}

#[test]
fn the_defaults_of_the_network_on_the_page_are_those_in_force() {
    let listen = "http.listen = \"127.0.0.1:7070\"\n";
    let silent = shown(Site::with_plugin(listen, PLUGIN).load().expect("it is right"));
    let spoken = defaults("## The daemon's file", |key| key.starts_with("http."));
    assert_eq!(spoken.lines().count(), 6);
    let spoken = Site::with_plugin(&format!("{listen}{spoken}"), PLUGIN).load().expect("it is right");
    assert_eq!(shown(spoken), silent);
}

#[test]
fn the_defaults_of_a_tenant_on_the_page_are_those_in_force() {
    let silent = shown(Site::with_plugin("[tenants.acme]", PLUGIN).load().expect("it is right"));
    // Without a key there is no encryption, whatever else is said of it; and of lists of tables, an element has the default.
    let apart = ["encryption.", "grants.dirs.", "grants.http.", "queues.", "breakers."];
    let terms = |key: &str| {
        let key = key.strip_prefix("tenants.NAME.");
        key.is_some_and(|key| !apart.iter().any(|table| key.starts_with(table)))
    };
    let terms = defaults("## The daemon's file", terms);
    assert!(terms.contains("NAME.weight") && terms.contains("NAME.memory"), "{terms}");
    let spoken = Site::with_plugin(&terms.replace("NAME", "acme"), PLUGIN).load();
    assert_eq!(shown(spoken.expect("it is right")), silent);
}

#[test]
fn the_defaults_of_a_canary_on_the_page_are_those_in_force() {
    let with = |canary: &str| {
        let plugin = format!("{PLUGIN}\n[canary]\nshare = 0.5\n{canary}");
        shown(Site::with_plugin("", &plugin).load().expect("it is right"))
    };
    let spoken = defaults("## A plugin's file", |key| key.starts_with("canary.")).replace("canary.", "");
    assert_eq!(spoken.lines().count(), 4);
    assert_eq!(with(&spoken), with(""));
}

#[test]
fn the_defaults_of_breakers_on_the_page_are_those_in_force() {
    let of_plugin = |rule: &str| {
        let plugin = format!("{PLUGIN}\n[breaker]\n{rule}");
        shown(Site::with_plugin("", &plugin).load().expect("it is right"))
    };
    let spoken = defaults("## A plugin's file", |key| key.starts_with("breaker.")).replace("breaker.", "");
    assert_eq!(spoken.lines().count(), 5);
    assert_eq!(of_plugin(&spoken), of_plugin(""));
    let of_downstream = |rule: &str| {
        let daemon = format!("[tenants.acme.breakers.stripe]\n{rule}");
        shown(Site::with_plugin(&daemon, PLUGIN).load().expect("it is right"))
    };
    let spoken = defaults("## The daemon's file", |key| key.contains(".breakers."));
    let spoken = spoken.replace("tenants.NAME.breakers.NAME.", "");
    assert_eq!(spoken.lines().count(), 5);
    assert_eq!(of_downstream(&spoken), of_downstream(""));
}

#[test]
fn the_defaults_of_a_schedule_on_the_page_are_those_in_force() {
    let with = |schedule: &str| {
        let plugin = format!("{PLUGIN}\n[schedules.nightly]\nevery = \"1h\"\n{schedule}");
        shown(Site::with_plugin("", &plugin).load().expect("it is right"))
    };
    let spoken = defaults("## A plugin's file", |key| key.starts_with("schedules."));
    let spoken = spoken.replace("schedules.NAME.", "");
    assert_eq!(spoken.lines().count(), 8);
    assert_eq!(with(&spoken), with(""));
}

#[test]
fn the_examples_on_the_page_are_right() {
    let (daemon, plugin) = (example("## The daemon's file"), example("## A plugin's file"));
    let site = Site::new(&[
        ("sandhog.toml", daemon.replace("/run/secrets/acme-api-token", "token").as_str()),
        ("token", "secret"),
        ("plugins.d/thumbnail.toml", plugin),
        ("plugins.d/thumbnail.wasm", ""),
    ]);
    let config = site.env("REDIS_URL", "redis://127.0.0.1:6379").load().expect("it is right");
    assert_eq!(config.plugins.len(), 1);
}
