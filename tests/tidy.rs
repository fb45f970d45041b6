//! The rules of the source tree that no compiler knows.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Which of our crates each may build on. A crate boundary is a ban on a dependency.
const EDGES: [(&str, &[&str]); 7] = [
    ("sandhog-core", &[]),
    ("sandhog-broker", &["sandhog-core"]),
    ("sandhog-engine", &["sandhog-core"]),
    ("sandhog-config", &["sandhog-core"]),
    ("sandhog-api", &["sandhog-core"]),
    (
        "sandhog-daemon",
        &["sandhog-api", "sandhog-broker", "sandhog-config", "sandhog-core", "sandhog-engine"],
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
        ],
    ),
];

/// What must not be found below a crate, however far down, and why.
const BANS: [(&str, &[&str], &str); 3] = [
    ("sandhog-core", &["tokio", "wasmtime", "redis", "rusqlite", "tracing", "serde", "rand"], "core is pure"),
    ("sandhog-engine", &["redis", "rusqlite", "toml", "serde_json"], "the engine knows no queue and no TOML"),
    ("sandhog-broker", &["wasmtime", "wasmtime-wasi", "toml"], "a broker knows no Wasm"),
];

/// Direct dependencies of each workspace member, those for tests left out.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo reads the workspace");
    let direct = |package: &cargo_metadata::Package| {
        let kept =
            package.dependencies.iter().filter(|dependency| dependency.kind != DependencyKind::Development);
        kept.map(|dependency| dependency.name.clone()).collect()
    };
    metadata.packages.iter().map(|package| (package.name.to_string(), direct(package))).collect()
}

#[test]
fn the_arrows_between_the_crates_are_those_of_the_design() {
    let dependencies = dependencies();
    for (name, allowed) in EDGES {
        let ours = dependencies[name].iter().filter(|dependency| dependency.starts_with("sandhog"));
        let forbidden: Vec<_> = ours.filter(|dependency| !allowed.contains(&dependency.as_str())).collect();
        assert!(forbidden.is_empty(), "{name} must not depend on {forbidden:?}");
    }
}

#[test]
fn no_crate_depends_on_what_it_must_not_know() {
    let dependencies = dependencies();
    for (name, banned, why) in BANS {
        let found: Vec<_> = banned.iter().filter(|banned| dependencies[name].contains(**banned)).collect();
        assert!(found.is_empty(), "{name} must not depend on {found:?}: {why}");
    }
}
