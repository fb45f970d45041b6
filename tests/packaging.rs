//! What the files of `packaging/` name is there: keys, commands, times, metrics, pages.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sandhog_tests::binary;
use tempfile::TempDir;

/// The checkout.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Seconds that a daemon is given at least after `shutdown.grace`: five to give its runs back, one to write its log, and some to spare.
const AFTER_GRACE: u64 = 10;

/// Configurations that are handed out, each with the file that runs a daemon by it, and the words before the number of seconds that
/// the daemon has there to end.
const CONFIGURATIONS: [(&str, &str, &str); 3] = [
    ("sandhog.toml", "systemd/sandhog.service", "TimeoutStopSec="),
    ("docker/sandhog.toml", "docker/compose.yaml", "stop_grace_period: "),
    ("kubernetes/sandhog.toml", "kubernetes/daemon.yaml", "terminationGracePeriodSeconds: "),
];

/// A certificate and its key, which the tests of HTTPS have.
const CERTIFICATE: &str = "runtime/daemon/src/http/fixtures/certificate.pem";
const KEY: &str = "runtime/daemon/src/http/fixtures/key.pem";

/// Folders of a machine that the configurations name, each with where a test has it.
const FOLDERS: [(&str, &str); 6] = [
    ("/var/lib/sandhog", "state"),
    ("/var/cache/sandhog", "cache"),
    ("/srv/sandhog/plugins.d", "plugins.d"),
    ("/run/secrets/sandhog", "secrets"),
    ("/run/secrets/tls", "secrets"),
    ("/run/secrets", "secrets"),
];

fn read(file: &str) -> String {
    let path = Path::new(ROOT).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn packaging(file: &str) -> String {
    read(&format!("packaging/{file}"))
}

/// All files of `packaging/`.
fn files() -> Vec<PathBuf> {
    let (mut found, mut left) = (Vec::new(), vec![Path::new(ROOT).join("packaging")]);
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).expect("it is there") {
            let path = entry.expect("it is there").path();
            if path.is_dir() {
                left.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found
}

/// Takes the `#` away from lines that begin with it and no space.
fn with_suggestions(text: &str) -> String {
    let is_setting = |rest: &&str| rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase());
    let lines = text.lines().map(|line| line.strip_prefix('#').filter(is_setting).unwrap_or(line));
    lines.collect::<Vec<&str>>().join("\n")
}

/// The exit code of `sandhog check` with a configuration, and what it says, on a machine that has the folders and secrets that are named.
fn check(text: &str) -> (Option<i32>, String) {
    let machine = TempDir::new().expect("a temporary folder");
    let mut text = text.to_owned();
    for (folder, here) in FOLDERS {
        let here = machine.path().join(here);
        fs::create_dir_all(&here).expect("a folder");
        for end in ["/", "\""] {
            text = text.replace(&format!("\"{folder}{end}"), &format!("\"{}{end}", here.display()));
        }
    }
    let tokens = format!("[[tokens]]\nname = \"ci\"\nrole = \"admin\"\nhash = \"{}\"\n", "0".repeat(64));
    let (certificate, key) = (read(CERTIFICATE), read(KEY));
    for (name, content) in [
        ("redis-url", "redis://sandhog:hunter2@127.0.0.1:6379\n"),
        ("tokens.toml", &tokens),
        ("tls.crt", &certificate),
        ("tls.key", &key),
    ] {
        fs::write(machine.path().join("secrets").join(name), content).expect("a file");
    }
    let file = machine.path().join("sandhog.toml");
    fs::write(&file, text).expect("a file");
    let output = Command::new(binary()).arg("--config").arg(&file).args(["check", "--offline"]).output();
    let output = output.expect("it can be started");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn configurations_that_are_handed_out_are_right() {
    for (file, ..) in CONFIGURATIONS {
        let text = packaging(file);
        assert_eq!(check(&text), (Some(0), String::new()), "{file}");
        let suggested = with_suggestions(&text);
        assert_eq!(check(&suggested), (Some(0), String::new()), "{file} with all that it suggests");
    }
    let wrong = packaging("sandhog.toml").replace("#concurrency", "#concurency");
    assert_eq!(check(&with_suggestions(&wrong)).0, Some(64), "a suggestion is looked at");
}

#[test]
fn daemons_are_given_the_time_to_drain() {
    let number = |text: &str, before: &str| -> u64 {
        let after = text.split_once(before).unwrap_or_else(|| panic!("there is no {before}")).1;
        let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().expect("a number")
    };
    for (configuration, starter, key) in CONFIGURATIONS {
        let grace = number(&packaging(configuration), "grace = \"");
        let starter_text = packaging(starter);
        // In a file with several services, the daemon's.
        let of_daemon =
            starter_text.split_once("\n  daemon:").map_or(starter_text.as_str(), |(_, rest)| rest);
        let given = number(of_daemon, key);
        assert!(
            given >= grace + AFTER_GRACE,
            "{starter} gives {given} s, and {configuration} takes {grace} s and more"
        );
    }
}

/// The arguments of the commands that a file of `packaging/` starts, options of its own first.
fn commands(text: &str) -> Vec<Vec<String>> {
    let words =
        |text: &str| text.split([' ', ',', '"']).filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let of_units = text.lines().filter_map(|line| {
        let (key, command) = line.split_once("=/usr/bin/sandhog ")?;
        key.starts_with("Exec").then(|| words(command))
    });
    let of_containers = text.lines().filter_map(|line| {
        let line = line.trim();
        let list = ["CMD [", "command: [", "args: ["].iter().find_map(|key| line.strip_prefix(key))?;
        let command: Vec<String> = words(list.strip_suffix(']')?);
        (command[0] != "redis-server" && command[0] != "curl").then_some(command)
    });
    of_units.chain(of_containers).collect()
}

#[test]
fn commands_that_are_started_are_there() {
    let mut found = 0;
    for file in [
        "systemd/sandhog.service",
        "docker/Dockerfile",
        "docker/compose.yaml",
        "kubernetes/daemon.yaml",
        "kubernetes/serve.yaml",
    ] {
        let commands = commands(&packaging(file));
        assert!(!commands.is_empty(), "{file}");
        for command in commands {
            // Options are looked at before the help is shown.
            let output =
                Command::new(binary()).args(&command).arg("--help").output().expect("it can be started");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{file}: sandhog {command:?}: {said}");
            found += 1;
        }
    }
    assert_eq!(found, 7);
    let wrong = Command::new(binary()).args(["run", "--log-fromat", "json", "--help"]).output();
    assert_eq!(wrong.expect("it can be started").status.code(), Some(2), "what isn't there is found");
}

#[test]
fn folders_that_configurations_name_are_made() {
    for (configuration, starter, _) in CONFIGURATIONS {
        let (text, starter_text) = (packaging(configuration), packaging(starter));
        let named = FOLDERS.iter().map(|(folder, _)| *folder);
        let named = named.filter(|folder| {
            text.contains(&format!("\"{folder}/")) || text.contains(&format!("\"{folder}\""))
        });
        for folder in named {
            let is_made = match folder {
                "/var/lib/sandhog" => {
                    starter_text.contains("StateDirectory=sandhog") || starter_text.contains(folder)
                }
                "/var/cache/sandhog" => {
                    starter_text.contains("CacheDirectory=sandhog") || starter_text.contains(folder)
                }
                // Compose puts secrets there; the image has the other.
                "/run/secrets" => starter_text.contains("secrets:") || starter_text.contains("/run/secrets/"),
                "/srv/sandhog/plugins.d" => packaging("docker/Dockerfile").contains(folder),
                _ => starter_text.contains(folder),
            };
            assert!(is_made, "{configuration} names {folder}, which {starter} doesn't make");
        }
    }
}

/// The files of the checkout that texts of `packaging/` name.
fn named_files(text: &str) -> Vec<&str> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let words = text.split(|c| !is_of_name(c)).map(|word| word.trim_end_matches('.'));
    words
        .filter(|word| ["docs/", "packaging/", "scripts/"].iter().any(|folder| word.starts_with(folder)))
        .filter(|word| Path::new(word).extension().is_some())
        // Those are of a machine's own.
        .filter(|word| !word.contains("/secrets/"))
        .collect()
}

#[test]
fn files_that_are_named_are_there() {
    let mut found = BTreeSet::new();
    for file in files() {
        // `secrets/` of a checkout that was tried has no texts of ours.
        let Ok(text) = fs::read_to_string(&file) else { continue };
        for name in named_files(&text) {
            assert!(Path::new(ROOT).join(name).exists(), "{} names {name}", file.display());
            found.insert(name.to_owned());
        }
    }
    assert!(found.contains("docs/production.md"), "{found:?}");
}

/// The metrics of `docs/metrics.md`, each with its type and its labels.
fn metrics() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let page = read("docs/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `sandhog_"));
    let metric = |row: &str| {
        let mut cells = row.split('|').map(str::trim);
        let name = format!("sandhog_{}", cells.next()?.trim_matches('`'));
        let of = cells.next()?.to_owned();
        let labels = cells.next()?.split(", ").map(|label| label.trim_matches('`').to_owned());
        Some((name, (of, labels.filter(|label| !label.is_empty()).collect())))
    };
    rows.filter_map(metric).collect()
}

/// Labels that Prometheus gives, or that go with a part of a histogram.
const LABELS_OF_OTHERS: [&str; 3] = ["instance", "job", "le"];

/// What is wrong with the metrics that a text names: those that there aren't, and, of those that are asked for with labels in
/// braces, the labels that they haven't.
fn strange_metrics(text: &str) -> Vec<String> {
    let metrics = metrics();
    let mut found = Vec::new();
    for (at, _) in text.match_indices("sandhog_") {
        // A part of a longer word, or a name of Sandhog's own rules.
        if text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &text[at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let part_of = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        let is_histogram = |of: &str| metrics.get(of).is_some_and(|(of, _)| of == "histogram");
        let metric = match part_of {
            Some(of) if is_histogram(of) => of,
            _ if is_histogram(name) => {
                found.push(format!("{name} is a histogram, of which there are parts alone"));
                continue;
            }
            _ => name,
        };
        let Some((_, labels)) = metrics.get(metric) else {
            found.push(format!("there is no {name}"));
            continue;
        };
        let Some(asked) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) else { continue };
        let asked = asked.0.split(',').filter_map(|pair| pair.split(['=', '!']).next()).map(str::trim);
        let strange = asked.filter(|label| !LABELS_OF_OTHERS.contains(label) && !labels.contains(*label));
        found.extend(strange.map(|label| format!("{name} has no label {label}")));
    }
    found
}

#[test]
fn metrics_that_are_asked_for_are_there() {
    for file in ["prometheus/alerts.yml", "prometheus/alerts_test.yml", "grafana/sandhog.json"] {
        let text = packaging(file);
        assert!(text.matches("sandhog_").count() > 5, "{file}");
        assert_eq!(strange_metrics(&text), Vec::<String>::new(), "{file}");
    }
    assert_eq!(
        strange_metrics(
            "sandhog_jobz + sandhog_jobs{job=\"x\",color!=\"y\"} + sandhog_job_run_seconds{le=\"1\"}"
        ),
        [
            "there is no sandhog_jobz",
            "sandhog_jobs has no label color",
            "sandhog_job_run_seconds is a histogram, of which there are parts alone"
        ]
    );
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| -> String {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn each_alert_says_for_how_long_how_bad_it_is_and_what_to_do() {
    let anchors = anchors(&read("docs/runbook.md"));
    let text = packaging("prometheus/alerts.yml");
    let alerts: Vec<&str> = text.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 15, "{}", alerts.len());
    for alert in alerts {
        let name = alert.lines().next().unwrap_or_default();
        let value = |key: &str| {
            alert
                .lines()
                .find_map(|line| line.trim().strip_prefix(key))
                .unwrap_or_else(|| panic!("{name} has no {key}"))
        };
        assert!(value("for: ").ends_with('m') || value("for: ").ends_with('h'), "{name}");
        assert!(["info", "warning", "critical"].contains(&value("severity: ")), "{name}");
        let anchor = value("runbook_url: ").split_once("/docs/runbook.md#").map(|(_, anchor)| anchor);
        assert!(
            anchor.is_some_and(|anchor| anchors.contains(anchor)),
            "{name}: {anchor:?} isn't in the runbook"
        );
    }
}

#[test]
fn places_that_the_operators_pages_lead_to_are_there() {
    for name in ["runbook.md", "production.md"] {
        let text = read(&format!("docs/{name}"));
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let page = if file.is_empty() { text.clone() } else { read(&format!("docs/{file}")) };
            assert!(anchor.is_empty() || anchors(&page).contains(anchor), "{name} leads to {link}");
        }
    }
}

#[test]
fn versions_are_those_of_the_workspace() {
    let workspace = read("Cargo.toml");
    let value = |key: &str| {
        let line = workspace.lines().find_map(|line| line.strip_prefix(&format!("{key} = \"")));
        line.and_then(|rest| rest.split('"').next()).expect("it is said").to_owned()
    };
    assert!(packaging("docker/Dockerfile").contains(&format!("FROM rust:{}-", value("rust-version"))));
    assert!(packaging("kubernetes/kustomization.yaml").contains(&format!("newTag: {}\n", value("version"))));
}
