//! The rules of the source tree that no compiler knows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{CargoOpt, DependencyKind, MetadataCommand};

/// The checkout.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Which of our crates each may know, itself and through others: `core ← {broker, files, api}, files ← {engine, config}, all ← daemon ← cli`. A
/// crate boundary is a ban on a dependency.
const EDGES: [(&str, &[&str]); 8] = [
    ("sandhog-core", &[]),
    ("sandhog-files", &["sandhog-core"]),
    ("sandhog-broker", &["sandhog-core"]),
    ("sandhog-engine", &["sandhog-core", "sandhog-files"]),
    ("sandhog-config", &["sandhog-core", "sandhog-files"]),
    ("sandhog-api", &["sandhog-core"]),
    (
        "sandhog-daemon",
        &[
            "sandhog-api",
            "sandhog-broker",
            "sandhog-config",
            "sandhog-core",
            "sandhog-engine",
            "sandhog-files",
        ],
    ),
    (
        "sandhog",
        &[
            "sandhog-api",
            "sandhog-broker",
            "sandhog-config",
            "sandhog-core",
            "sandhog-daemon",
            "sandhog-engine",
            "sandhog-files",
        ],
    ),
];

/// What must not be found below a crate, however far down, and why.
const BANS: [(&str, &[&str], &str); 5] = [
    ("sandhog-core", &["tokio", "wasmtime", "redis", "rusqlite", "tracing", "rand"], "core is pure"),
    ("sandhog-engine", &["redis", "rusqlite", "toml"], "the engine knows no queue and no TOML"),
    ("sandhog-broker", &["wasmtime", "wasmtime-wasi", "toml"], "a broker knows no Wasm"),
    (
        "sandhog-config",
        &["redis", "rusqlite", "wasmtime", "tokio"],
        "settings are read and checked, not used",
    ),
    ("sandhog-api", &["redis", "rusqlite", "wasmtime", "toml"], "a client needs neither broker nor engine"),
];

/// What a crate must not use itself. Others may, below it: with which features they are built depends on all that is built.
const OWN_BANS: [(&str, &[&str], &str); 2] = [
    ("sandhog-core", &["serde"], "how its types are written is for others to say"),
    ("sandhog-engine", &["serde_json"], "what guests say is bytes to it"),
];

/// Which of the daemon's rooms each may know: a room is a folder of `runtime/daemon/src`.
const ROOMS: [(&str, &[&str]); 9] = [
    ("capacity", &[]),
    ("telemetry", &[]),
    ("schedule", &["telemetry"]),
    ("lease", &["schedule", "telemetry"]),
    ("run", &["capacity", "lease", "telemetry"]),
    ("intake", &["capacity", "lease", "run", "telemetry"]),
    ("deploy", &["capacity", "telemetry"]),
    ("service", &["deploy", "schedule", "telemetry"]),
    ("http", &["service"]),
];

/// Names that were once in use, by images of this project's own, and have given way to those of the field. They don't come back.
const FORMER_NAMES: [&str; 29] = [
    "Ahead",
    "Alive",
    "Ambient",
    "Bells",
    "Bench",
    "Course",
    "Courtesy",
    "Draft",
    "Ear",
    "Floor",
    "Gate",
    "Gates",
    "Grain",
    "Lookout",
    "Outage",
    "Outlook",
    "Pace",
    "PlaceInLine",
    "Pulse",
    "Seat",
    "Seats",
    "Staffed",
    "Tally",
    "Ticket",
    "Vacancy",
    "Vault",
    "Wiper",
    "Workshop",
    "say_freed",
];

/// Where they don't come back.
const NAMED_BY_THE_FIELD: [&str; 7] = [
    "runtime/api",
    "runtime/broker",
    "runtime/cli",
    "runtime/config",
    "runtime/core",
    "runtime/daemon",
    "runtime/engine",
];

/// The dependencies of each package, those for tests left out.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// What cargo knows of a workspace's packages that are built for a platform.
fn metadata(manifest: &str, platform: String) -> cargo_metadata::Metadata {
    MetadataCommand::new()
        .manifest_path(Path::new(ROOT).join(manifest))
        .features(CargoOpt::AllFeatures)
        .other_options(["--locked".to_owned(), "--filter-platform".to_owned(), platform])
        .exec()
        .expect("cargo reads the workspace")
}

/// The dependencies of everything that is built here, as cargo resolves them.
fn graph() -> Graph {
    let metadata = metadata("Cargo.toml", platform());
    let resolved = metadata.resolve.as_ref().expect("cargo resolves the workspace");
    let mut graph = Graph::new();
    for node in &resolved.nodes {
        let is_built = |dependency: &&cargo_metadata::NodeDep| {
            dependency.dep_kinds.iter().any(|of| of.kind != DependencyKind::Development)
        };
        let built =
            node.deps.iter().filter(is_built).map(|dependency| metadata[&dependency.pkg].name.to_string());
        // Two versions of a package are one here: what either knows is known.
        graph.entry(metadata[&node.id].name.to_string()).or_default().extend(built);
    }
    graph
}

/// This machine, as cargo names it: packages for others need not be here.
fn platform() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// Everything that a package knows, itself or through others.
fn reachable<'g>(graph: &'g Graph, from: &str) -> BTreeSet<&'g str> {
    let mut found = BTreeSet::new();
    let mut left: Vec<&str> = graph[from].iter().map(String::as_str).collect();
    while let Some(next) = left.pop() {
        if found.insert(next) {
            left.extend(graph[next].iter().map(String::as_str));
        }
    }
    found
}

/// What is known against the rules.
fn violations(graph: &Graph) -> Vec<String> {
    let mut all = Vec::new();
    for (name, allowed) in EDGES {
        let ours = reachable(graph, name).into_iter().filter(|known| known.starts_with("sandhog"));
        all.extend(
            ours.filter(|known| !allowed.contains(known)).map(|known| format!("{name} knows {known}")),
        );
    }
    for (name, banned, why) in BANS {
        let known = reachable(graph, name);
        let found = banned.iter().filter(|banned| known.contains(**banned));
        all.extend(found.map(|banned| format!("{name} knows {banned}, but {why}")));
    }
    for (name, banned, why) in OWN_BANS {
        let found = banned.iter().filter(|banned| graph[name].contains(**banned));
        all.extend(found.map(|banned| format!("{name} uses {banned}, but {why}")));
    }
    all
}

#[test]
fn each_crate_knows_what_the_design_allows_and_no_more() {
    assert_eq!(violations(&graph()), Vec::<String>::new());
}

#[test]
fn each_crate_of_the_runtime_has_its_rule() {
    let runtime = fs::read_dir(Path::new(ROOT).join("runtime")).expect("it is there");
    let folders: BTreeSet<String> =
        runtime.map(|entry| entry.expect("it is there").file_name().to_string_lossy().into_owned()).collect();
    let of_rules = EDGES.iter().map(|(name, _)| name.strip_prefix("sandhog-").unwrap_or("cli").to_owned());
    assert_eq!(of_rules.collect::<BTreeSet<String>>(), folders);
}

#[test]
fn an_edge_that_is_added_is_found_however_long_the_way() {
    let found = |edges: &[(&str, &str)]| {
        let mut graph = graph();
        for (from, to) in edges {
            graph.entry((*from).to_owned()).or_default().insert((*to).to_owned());
            graph.entry((*to).to_owned()).or_default();
        }
        violations(&graph)
    };
    assert_eq!(found(&[("sandhog-config", "sandhog-engine")])[0], "sandhog-config knows sandhog-engine");
    assert_eq!(found(&[("sandhog-config", "sandhog-broker")])[0], "sandhog-config knows sandhog-broker");
    assert_eq!(found(&[("sandhog-engine", "sandhog-api")])[0], "sandhog-engine knows sandhog-api");
    let hidden = found(&[("thiserror", "between"), ("between", "tokio")]);
    assert!(hidden.contains(&"sandhog-core knows tokio, but core is pure".to_owned()), "{hidden:?}");
    let own = found(&[("sandhog-engine", "serde_json")]);
    assert!(own[0].starts_with("sandhog-engine uses serde_json"), "{own:?}");
    let through = found(&[("url", "sandhog-api")]);
    assert!(through.contains(&"sandhog-engine knows sandhog-api".to_owned()), "{through:?}");
}

/// The identifiers of a source text that are former names, with their lines.
fn former_names(text: &str) -> Vec<(usize, &str)> {
    let is_of_name = |c: char| c.is_alphanumeric() || c == '_';
    let words =
        |line: &'_ str| -> Vec<String> { line.split(|c| !is_of_name(c)).map(str::to_owned).collect() };
    let mut found = Vec::new();
    for (nth, line) in text.lines().enumerate() {
        let words = words(line);
        let here = FORMER_NAMES.iter().filter(|name| words.iter().any(|word| word == **name));
        found.extend(here.map(|name| (nth + 1, *name)));
    }
    found
}

/// The Rust files in a folder, and in those below it.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("it is there") {
        let path = entry.expect("it is there").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn former_names_do_not_come_back() {
    let mut files = Vec::new();
    for folder in NAMED_BY_THE_FIELD {
        sources(&Path::new(ROOT).join(folder), &mut files);
    }
    assert!(files.len() > 100, "all of them are looked at");
    for file in files {
        let text = fs::read_to_string(&file).expect("it is text");
        assert_eq!(former_names(&text), Vec::new(), "{}", file.display());
    }
}

#[test]
fn a_former_name_is_found_as_a_whole_word() {
    assert_eq!(former_names("let a = 1;\nstruct Gate;"), [(2, "Gate")]);
    assert_eq!(former_names("/// As a [`Seats`]\n Seatsy Gateway Unseat"), [(1, "Seats")]);
}

/// Words with which no doc comment of a public item begins: what the item is or does comes first.
const NO_BEGINNINGS: [&str; 8] = ["What", "How", "When", "As", "By", "Whoever", "It", "So"];

/// Traits of clap. The doc comments of types that derive one are the help of a command, and read as such.
const OF_COMMANDS: [&str; 4] = ["Parser", "Args", "Subcommand", "ValueEnum"];

/// The words with which paragraphs of doc comments wrongly begin in a source text, with their lines. It looks at all items that
/// are `pub` in some way, and at all that is in an enum or a trait that is.
fn wrong_beginnings(text: &str) -> Vec<(usize, &str)> {
    let (mut found, mut of_item) = (Vec::new(), Vec::new());
    let (mut begins, mut open_brackets, mut of_command) = (true, 0_usize, false);
    // The line that ends the body that is gone through, and whether what is in there is public.
    let mut body: Option<(String, bool)> = None;
    for (nth, line) in text.lines().enumerate() {
        let code = line.trim_start();
        if let Some(comment) = code.strip_prefix("///") {
            let word = comment.trim_start().split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            if begins && NO_BEGINNINGS.contains(&word) {
                of_item.push((nth + 1, word));
            }
            begins = comment.trim().is_empty();
            continue;
        }
        if open_brackets > 0 || code.starts_with("#[") {
            open_brackets =
                (open_brackets + code.matches('[').count()).saturating_sub(code.matches(']').count());
            of_command |= OF_COMMANDS.iter().any(|name| code.contains(name));
            continue;
        }
        if body.as_ref().is_some_and(|(end, _)| line.starts_with(end.as_str())) {
            body = None;
        }
        let is_public = (code.starts_with("pub ") || code.starts_with("pub(")) && !of_command;
        if body.as_ref().map_or(is_public, |(_, is_public)| *is_public) {
            found.append(&mut of_item);
        }
        let has_public_body =
            is_public && code.split(' ').take(3).any(|word| word == "enum" || word == "trait");
        if body.is_none() && code.ends_with('{') && (has_public_body || of_command) {
            let indent = &line[..line.len() - code.len()];
            body = Some((format!("{indent}}}"), has_public_body));
        }
        of_item.clear();
        (begins, of_command) = (true, false);
    }
    found
}

#[test]
fn docs_of_public_items_begin_with_what_these_are_or_do() {
    let runtime = fs::read_dir(Path::new(ROOT).join("runtime")).expect("it is there");
    let crates = runtime.map(|entry| entry.expect("it is there").path());
    let mut files = Vec::new();
    for folder in crates.chain([Path::new(ROOT).join("sdk")]) {
        sources(&folder.join("src"), &mut files);
    }
    assert!(files.len() > 100, "all of them are looked at");
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("it is text");
        let wrong = wrong_beginnings(&text).into_iter();
        found.extend(wrong.map(|(line, word)| format!("{}:{line}: {word}", file.display())));
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_doc_comment_that_begins_wrongly_is_found() {
    assert_eq!(wrong_beginnings("/// As one by one.\npub async fn f() {}"), [(1, "As")]);
    let cases: [(&str, &[usize]); 6] = [
        ("/// Asks it.\n///\n/// It is late.\n/// So there.\n#[x(\n[1],\n)]\npub(crate) fn f() {}", &[3]),
        ("/// By itself.\nfn f() {}\n/// Begins.\npub fn g() {\n    // It.\n}\n/// So.\nstruct S;", &[]),
        (
            "/// What.\npub enum E {\n    /// How.\n    #[x]\n    A {\n        /// It.\n        b: u8,\n    },\n}",
            &[1, 3, 6],
        ),
        ("pub trait T {\n    /// When.\n    fn f();\n}\n/// So.\nenum E {\n    /// It.\n    A,\n}", &[2]),
        (
            "/// What.\n#[derive(Args)]\npub struct S {\n    /// How.\n    pub a: u8,\n}\n/// By.\npub fn f() {}",
            &[7],
        ),
        ("pub struct S {\n    /// Whoever.\n    pub a: u8,\n    /// By.\n    b: u8,\n}", &[2]),
    ];
    for (text, lines) in cases {
        let found: Vec<usize> = wrong_beginnings(text).into_iter().map(|(line, _)| line).collect();
        assert_eq!(found, lines, "{text}");
    }
}

/// What `deny.toml` says of packages, as far as no network is needed for it.
#[derive(serde::Deserialize)]
struct PackageRules {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(serde::Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(serde::Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(serde::Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

/// One package that is built.
struct Package {
    name: String,
    /// An SPDX expression; none if the package says nothing.
    license: Option<String>,
    /// Where it comes from; none if it is ours.
    source: Option<String>,
}

/// All packages that a workspace is built of for a platform, those for tests included.
fn packages(manifest: &str, platform: String) -> Vec<Package> {
    let metadata = metadata(manifest, platform);
    let package = |package: &cargo_metadata::Package| Package {
        name: package.name.to_string(),
        license: package.license.clone(),
        source: package.source.as_ref().map(|source| source.repr.clone()),
    };
    let resolved = metadata.resolve.as_ref().expect("cargo resolves the workspace");
    resolved.nodes.iter().map(|node| package(&metadata[&node.id])).collect()
}

/// The packages that break a rule, each with the rule.
fn refused(packages: &[Package], rules: &PackageRules) -> Vec<String> {
    let allowed: Vec<spdx::Licensee> =
        rules.licenses.allow.iter().map(|text| spdx::Licensee::parse(text).expect("a licence")).collect();
    let is_allowed = |license: &str| {
        let expression = spdx::Expression::parse_mode(license, spdx::ParseMode::LAX);
        expression.is_ok_and(|expression| {
            expression.evaluate(|wanted| allowed.iter().any(|allowed| allowed.satisfies(wanted)))
        })
    };
    let mut all = Vec::new();
    for Package { name, license, source } in packages {
        match license {
            None => all.push(format!("{name} says nothing of its licence")),
            Some(license) if !is_allowed(license) => all.push(format!("{name} is under {license}")),
            Some(_) => {}
        }
        if let Some(ban) = rules.bans.deny.iter().find(|ban| ban.name == *name) {
            all.push(format!("{name} is banned: {}", ban.reason));
        }
        let is_known = |source: &str| {
            source
                .strip_prefix("registry+")
                .is_some_and(|url| rules.sources.allow_registry.iter().any(|known| known == url))
        };
        if let Some(source) = source.as_deref().filter(|source| !is_known(source)) {
            all.push(format!("{name} comes from {source}"));
        }
    }
    all
}

fn package_rules() -> PackageRules {
    let text = fs::read_to_string(Path::new(ROOT).join("deny.toml")).expect("it is there");
    toml::from_str(&text).expect("it has these rules")
}

#[test]
fn packages_have_licences_and_sources_that_are_allowed() {
    let rules = package_rules();
    for (manifest, platform) in
        [("Cargo.toml", platform()), ("plugins/Cargo.toml", "wasm32-wasip2".to_owned())]
    {
        let packages = packages(manifest, platform);
        assert!(packages.len() > 10, "{manifest}");
        assert_eq!(refused(&packages, &rules), Vec::<String>::new(), "{manifest}");
    }
}

#[test]
fn a_package_that_is_not_allowed_is_found() {
    let rules = package_rules();
    let package = |name: &str, license: Option<&str>, source: Option<&str>| Package {
        name: name.to_owned(),
        license: license.map(str::to_owned),
        source: source.map(str::to_owned),
    };
    let found = refused(
        &[
            package("fine", Some("AGPL-3.0 OR MIT/Apache-2.0"), None),
            package("strict", Some("MIT AND GPL-2.0"), None),
            package("silent", None, None),
            package("native-tls", Some("MIT"), None),
            package("forked", Some("MIT"), Some("git+https://example.com/forked")),
        ],
        &rules,
    );
    assert_eq!(
        found,
        [
            "strict is under MIT AND GPL-2.0",
            "silent says nothing of its licence",
            "native-tls is banned: rustls is what speaks TLS",
            "forked comes from git+https://example.com/forked",
        ]
    );
}

/// The daemon's rooms.
fn rooms() -> BTreeSet<String> {
    let inside = fs::read_dir(Path::new(ROOT).join("runtime/daemon/src")).expect("it is there");
    let folders = inside.map(|entry| entry.expect("it is there")).filter(|entry| entry.path().is_dir());
    folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The other rooms that a room's code names: after `crate::`, alone or in braces, and after two or more `super::`.
fn named_rooms(room: &str, text: &str) -> BTreeSet<String> {
    let of_crate = text.split("crate::").skip(1).flat_map(heads);
    let of_parents =
        text.split("super::super::").skip(1).flat_map(|rest| heads(rest.trim_start_matches("super::")));
    let rooms = rooms();
    let names = of_crate.chain(of_parents).filter(|name| *name != room && rooms.contains(*name));
    names.map(str::to_owned).collect()
}

/// The first names of the paths that stand here: one, or in braces several, with commas between them.
fn heads(paths: &str) -> Vec<&str> {
    let head = |path| str::split(path, |c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
    let Some(inside) = paths.strip_prefix('{') else { return vec![head(paths)] };
    let (mut depth, mut from, mut found) = (0_usize, 0, Vec::new());
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                found.push(head(inside[from..at].trim_start()));
                from = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    found
}

#[test]
fn each_room_of_the_daemon_knows_what_the_design_allows_and_no_more() {
    let of_rules: BTreeSet<String> = ROOMS.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!(rooms(), of_rules);
    let mut found = Vec::new();
    for (room, allowed) in ROOMS {
        let mut files = Vec::new();
        sources(&Path::new(ROOT).join("runtime/daemon/src").join(room), &mut files);
        assert!(!files.is_empty(), "{room} is empty");
        for file in files {
            let text = fs::read_to_string(&file).expect("it is text");
            let named = named_rooms(room, &text);
            let forbidden = named.iter().filter(|name| !allowed.contains(&name.as_str()));
            found.extend(forbidden.map(|name| format!("{} knows {name}", file.display())));
        }
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_room_that_knows_another_is_found() {
    let text =
        "use crate::run::turn::Turn;\nfn f(x: crate::http::X, y: crate::clock::Clock) { crate::lease::y() }";
    let named = |text| named_rooms("lease", text).into_iter().collect::<Vec<_>>();
    assert_eq!(named(text), ["http", "run"]);
    assert_eq!(
        named("use crate::{clock::{Clock, run}, deploy::Handle,\n    service};"),
        ["deploy", "service"]
    );
    assert_eq!(named("use super::super::super::http::X; use super::run::Y;"), ["http"]);
}

/// What a page has between backticks, code blocks left out.
fn quoted(page: &str) -> impl Iterator<Item = &str> {
    page.split("```").step_by(2).flat_map(|text| text.split('`').skip(1).step_by(2))
}

#[test]
fn the_architecture_names_files_and_folders_that_are_there() {
    let page = fs::read_to_string(Path::new(ROOT).join("ARCHITECTURE.md")).expect("it is there");
    let mut files = Vec::new();
    for folder in ["runtime", "tests"] {
        sources(&Path::new(ROOT).join(folder), &mut files);
    }
    let is_there = |name: &str| match name.strip_suffix(".rs") {
        Some(_) => files.iter().any(|file| file.ends_with(name)),
        None => Path::new(ROOT).join(name).is_dir(),
    };
    let is_file = |name: &&str| name.ends_with(".rs") && !name.contains(' ');
    let is_folder = |name: &&str| name.starts_with("runtime/") && name.ends_with('/');
    let named: Vec<&str> = quoted(&page).filter(|name| is_file(name) || is_folder(name)).collect();
    assert!(named.len() > 20, "{named:?}");
    // A table abbreviates where a crate has its sources in `src/`.
    let gone: Vec<&str> = named
        .into_iter()
        .filter(|name| !is_there(name) && !is_there(&name.replacen('/', "/src/", 1)))
        .collect();
    assert_eq!(gone, Vec::<&str>::new(), "ARCHITECTURE.md names what isn't there");
}
