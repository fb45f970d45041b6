//! The configuration: whatever stands in its files, either it is right, or everything that is wrong has its place.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use sandhog_config::{self as config, Problem};
use tempfile::TempDir;

use crate::Target;

/// The daemon's file, then a zero, then the file of a plugin.
pub const TARGET: Target = Target { name: "config", run, seeds, words: WORDS };

const WORDS: &[&str] = &[
    "[",
    "]",
    "{",
    "}",
    "=",
    "\n",
    "\"",
    "'",
    "\"\"\"",
    "#",
    ".",
    ",",
    "\\u0000",
    "inf",
    "nan",
    "0x",
    "1e999",
    "-1",
    "18446744073709551616",
    "\"64MiB\"",
    "\"9999999999TiB\"",
    "\"30s\"",
    "\"99999999999999999999d\"",
    "\"1.5GiB\"",
    "true",
    "1979-05-27",
    "[plugin]\n",
    "[limits]\n",
    "[retry]\n",
    "[grants]\n",
    "[broker]\n",
    "[engine]\n",
    "[tenants.acme]\n",
    "[lease]\n",
    "[shutdown]\n",
    "[keep]\n",
    "weight = ",
    "memory = ",
    "fuel = ",
    "timeout = ",
    "name = ",
    "kinds = ",
    "tenant = ",
    "queue = ",
    "component = ",
    "sha256 = ",
    "concurrency = ",
    "host = ",
    "env = ",
    "file = ",
    "url = ",
    "type = ",
    "redis://user:hunter2@host:1/0",
    "plugins = ",
    "\u{feff}",
    "ä",
    "😀",
    "\u{0}",
];

const DAEMON: &str = r#"
[broker]
type = "redis"
url = "redis://user:hunter2@host:6379/0"

[lease]
ttl = "30s"
margin = "5s"
renew_every = "5s"

[engine]
concurrency = 8
stack = "512KiB"

[limits]
fuel = 1_000_000
memory = "64MiB"
timeout = "1m"

[shutdown]
grace = "10s"

[tenants.acme]
weight = 3
concurrency = 4

[tenants.acme.limits]
timeout = "30s"

[tenants.acme.secrets]
TOKEN = { file = "token" }
"#;

const PLUGIN: &str = r#"
[plugin]
name = "hog"
tenant = "acme"
component = "hog.wasm"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
kinds = ["hog.spin", "hog.echo"]
queue = "hogs"

[limits]
fuel = 1000
memory = "32MiB"
payload = "1MiB"
concurrency = 2

[retry]
max_attempts = 3
backoff = { base = "2s", factor = 2.0, max = "10m", jitter = "full" }
on_limit = "bury"

[keep]
done = "1h"

[grants]
dirs = [{ host = "/srv", guest = "/data", access = "read" }]
secrets = ["TOKEN"]
env = { LANG = "C" }
"#;

fn seeds() -> Vec<Vec<u8>> {
    let pair = |daemon: &str, plugin: &str| [daemon.as_bytes(), b"\0", plugin.as_bytes()].concat();
    vec![
        pair(DAEMON, PLUGIN),
        pair("", PLUGIN),
        pair(DAEMON, ""),
        pair("[tenants.acme]\nwieght = 3\n", "[plugin]\nname = \"a\"\n"),
        pair("[broker]\ntype = \"embedded\"\npath = \"jobs.db\"\n", PLUGIN),
        // Files without end, and files that have nothing for anybody who would wait.
        pair(&DAEMON.replace("\"token\"", "\"/dev/zero\""), &PLUGIN.replace("hog.wasm", "/dev/zero")),
        pair(&DAEMON.replace("\"token\"", "\"/proc/kcore\""), &PLUGIN.replace("hog.wasm", "/dev/tty")),
    ]
}

/// A folder of this process's, for its files.
fn folder() -> &'static TempDir {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("plugins.d")).expect("a folder");
        folder
    })
}

fn run(input: &[u8]) {
    let mut halves = input.splitn(2, |byte| *byte == 0);
    let (daemon, plugin) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
    let folder = folder().path();
    let (daemon_file, plugin_file) = (folder.join("sandhog.toml"), folder.join("plugins.d/hog.toml"));
    fs::write(&daemon_file, daemon).expect("a file");
    fs::write(&plugin_file, plugin).expect("a file");
    let files = [(daemon_file.clone(), daemon), (plugin_file, plugin)];
    let loaded = config::load(&daemon_file);
    let problems = match &loaded {
        Ok(config) => config.problems(),
        Err(problems) => Some(problems.clone()),
    };
    if let Some(problems) = problems {
        let shown = problems.to_string();
        // A mutation may have torn it apart, and a part of a URL is none.
        let is_whole = times(input, PASSWORD) == times(input, CREDENTIALS);
        assert!(!is_whole || !shown.contains(PASSWORD), "a password is shown:\n{shown}");
        problems.iter().for_each(|problem| has_its_place(problem, &files));
    }
    if let Ok(config) = loaded {
        // What is right can be worked with.
        let _ = (sandhog_daemon::deploy::engine_settings(&config), config.memory_at_worst());
        for plugin in &config.plugins {
            assert!(config.tenants.contains_key(&plugin.tenant), "a plugin without its tenant");
            let budget = config.budget(plugin);
            assert!(budget.memory <= config.limits.memory && budget.fuel <= config.limits.fuel);
        }
        assert!(config.lease.margin + config.lease.renew_every < config.lease.ttl);
    }
}

/// A URL's user and password, which nobody but Redis is to see.
const CREDENTIALS: &str = "redis://user:hunter2@";
const PASSWORD: &str = "hunter2";

fn times(text: &[u8], part: &str) -> usize {
    text.windows(part.len()).filter(|at| *at == part.as_bytes()).count()
}

fn has_its_place(problem: &Problem, files: &[(PathBuf, &[u8])]) {
    assert!(!problem.problem.is_empty(), "{problem:?}");
    let Some((_, bytes)) = files.iter().find(|(path, _)| *path == problem.file) else {
        panic!("a problem of no file: {problem:?}");
    };
    let Some(place) = &problem.place else { return };
    let text = String::from_utf8_lossy(bytes);
    assert!((1..=text.split('\n').count()).contains(&place.line), "no such line: {problem:?}");
    let line = text.split('\n').nth(place.line - 1).unwrap_or_default();
    assert!((1..=line.chars().count() + 1).contains(&place.column), "no such column: {problem:?}");
}
