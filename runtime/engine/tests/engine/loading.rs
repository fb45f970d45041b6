//! What can be loaded, what can't and why, and what is found again.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use sandhog_core::budget::Bytes;
use sandhog_core::compile::CompileBudget;
use sandhog_core::id::Revision;
use sandhog_core::outcome::Outcome;
use sandhog_engine::{Abort, Access, Components, Config, DirGrant, Grants, LoadSpec, Source};

use super::bed::{Bed, budget, config, output, spec};
use super::guests::{self, Guest};

fn refusal(bed: &Bed, wasm: impl Into<Vec<u8>>) -> String {
    bed.engine.load(spec(wasm, Grants::default())).expect_err("this must not load").to_string()
}

#[tokio::test]
async fn garbage_is_refused() {
    let bed = Bed::new();
    for garbage in [&b""[..], b"\0asm", b"\xff\xff", b"module"] {
        let refusal = refusal(&bed, garbage);
        assert!(refusal.starts_with("plugin acme/guest: not a component: "), "{refusal}");
    }
    for broken in [&b"\0asm\x0d\0\x01\0garbage"[..], b"(component"] {
        let refusal = refusal(&bed, broken);
        assert!(refusal.starts_with("plugin acme/guest: a component that can't be compiled: "), "{refusal}");
    }
}

#[tokio::test]
async fn a_core_module_is_refused_with_a_hint() {
    let bed = Bed::new();
    let refusal = refusal(&bed, b"\0asm\x01\0\0\0");
    assert_eq!(refusal, "plugin acme/guest: a core module, not a component; build it for wasm32-wasip2");
}

#[tokio::test]
async fn a_component_that_handles_nothing_is_told_what_is_missing() {
    let bed = Bed::new();
    assert_eq!(
        refusal(&bed, "(component)"),
        "plugin acme/guest: exports no function `handle`, as world `handler` of sandhog:job@0.2.0 has it, but nothing"
    );
    let other = r#"(component
        (core module $m (func (export "run")))
        (core instance $i (instantiate $m))
        (func (export "run") (canon lift (core func $i "run"))))"#;
    assert!(refusal(&bed, other).ends_with("but `run`"));
}

#[tokio::test]
async fn a_handle_of_another_kind_is_refused() {
    let bed = Bed::new();
    let other = r#"(component
        (core module $m (func (export "handle")))
        (core instance $i (instantiate $m))
        (func (export "handle") (canon lift (core func $i "handle"))))"#;
    let refusal = refusal(&bed, other);
    assert!(refusal.contains("its `handle` is not that of world `handler`"), "{refusal}");
}

#[tokio::test]
async fn a_handler_of_any_version_of_the_contract_is_one() {
    let bed = Bed::new();
    for types in [guests::TYPES, guests::TYPES_0_2] {
        let guest = Guest { types, ..Guest::that(guests::ECHO) }.text();
        assert_eq!(output(&bed.run(guest).await), b"payload");
    }
    // The interfaces of one, and the types of another.
    let mixed = Guest { types: guests::TYPES_0_2, ..Guest::default() }.importing(&guests::log());
    assert_eq!(output(&bed.run(mixed.text()).await), b"");
}

#[tokio::test]
async fn every_import_that_the_host_does_not_serve_is_named() {
    let bed = Bed::new();
    let guest = Guest {
        component: r#"(import "wasi:blobstore/container@0.2.0" (instance (export "f" (func))))
            (import "sandhog:job/telepathy@0.1.0" (instance (export "f" (func))))
            (import "else:where/thing" (instance (export "f" (func))))"#
            .to_owned(),
        ..Guest::default()
    };
    let refusal = refusal(&bed, guest.text());
    for part in [
        "imports `wasi:blobstore/container@0.2.0`, which the host does not serve: the host has sandhog:job, wasi:io",
        "imports `sandhog:job/telepathy@0.1.0`, which the host does not serve: the host has types, context, log",
        "imports `else:where/thing`, which the host does not serve: the host has sandhog:job, wasi:io",
    ] {
        assert!(refusal.contains(part), "{refusal}");
    }
}

#[tokio::test]
async fn an_import_that_is_not_what_the_host_has_is_refused() {
    let bed = Bed::new();
    let guest = Guest {
        component: r#"(import "wasi:clocks/monotonic-clock@0.2.0" (instance
            (export "now" (func (result string)))))"#
            .to_owned(),
        ..Guest::default()
    };
    let refusal = refusal(&bed, guest.text());
    assert!(refusal.contains("wasi:clocks/monotonic-clock@0.2.0"), "{refusal}");
}

#[tokio::test]
async fn a_component_has_its_limits() {
    let bed = Bed::new();
    let small = CompileBudget { component: Bytes(100), ..CompileBudget::default() };
    let refused = bed.engine.load(LoadSpec { compile: small, ..spec(guests::echo(), Grants::default()) });
    let refused = refused.expect_err("it has more than 100 bytes").to_string();
    assert!(refused.ends_with("is larger than 100B; raise limits.component"), "{refused}");
    let tables = |n: usize| Guest::default().with_fields(&"(table 1 funcref)".repeat(n)).text();
    assert!(refusal(&bed, tables(100)).contains("tables"));
    let memories = |n: usize| Guest::default().with_fields(&"(memory 1)".repeat(n)).text();
    assert!(refusal(&bed, memories(10)).contains("memories"));
    let few = Bed::with(Config { core_instances_max: 1, ..config() });
    let refused = refusal(&few, guests::echo());
    assert!(refused.ends_with("raise limits.instances"), "{refused}");
    // More memory at its start than any run may ever have.
    let refused = refusal(&bed, Guest { memory: "10000", ..Guest::default() }.text());
    assert!(refused.ends_with("raise limits.memory"), "{refused}");
}

#[tokio::test]
async fn proposals_that_no_handler_needs_are_off() {
    let bed = Bed::new();
    for (module, why) in [
        ("(memory i64 1)", "memory64"),
        ("(memory 1 1 shared)", "threads"),
        ("(type (struct))", "gc types are disabled"),
        ("(tag)", "exceptions"),
        ("(type $f (func)) (type (cont $f))", "stack switching"),
    ] {
        let component = format!("(core module {module})");
        let refused = refusal(&bed, Guest { component, ..Guest::default() }.text());
        assert!(refused.contains("can't be compiled") && refused.contains(why), "{module}: {refused}");
    }
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_named_with_its_line() {
    let bed = Bed::new();
    let dirs = vec![DirGrant {
        host: "/no/such/folder".into(),
        guest: "/data".to_owned(),
        access: Access::ReadWrite,
        quota: None,
    }];
    let refusal =
        bed.engine.load(spec(guests::echo(), Grants { dirs, ..Grants::default() })).expect_err("gone");
    let text = refusal.to_string();
    let expected =
        "plugin acme/guest: can't grant `dirs = [{ host = \"/no/such/folder\", … }]` under [grants]: ";
    assert!(text.starts_with(expected), "{text}");
}

#[tokio::test]
async fn a_component_is_inspected_whether_it_can_be_loaded_or_not() {
    let bed = Bed::new();
    let guest = Guest::default().importing(&guests::log()).text();
    let fine = bed.engine.inspect(guest.as_bytes(), &CompileBudget::default()).expect("a component");
    assert_eq!(fine.size, Bytes::of(guest.len()));
    assert_eq!(fine.revision, bed.load(guest).revision());
    let imports: Vec<_> = fine.imports.iter().map(|import| (import.name.as_str(), import.served)).collect();
    assert_eq!(imports, [("sandhog:job/types@0.1.0", true), ("sandhog:job/log@0.1.0", true)]);
    assert!(fine.exports.contains(&"handle".to_owned()) && fine.problems.is_empty());

    let other = br#"(component (import "a:b/c" (instance (export "f" (func)))))"#;
    let other = bed.engine.inspect(other, &CompileBudget::default());
    let other = other.expect("a component");
    assert!(!other.imports[0].served);
    assert_eq!(other.problems.len(), 2);
}

fn cached(folder: &std::path::Path) -> Bed {
    Bed::with(Config { cache: Some(folder.to_owned()), ..config() })
}

#[tokio::test]
async fn a_component_is_compiled_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("cache");
    assert_eq!(cached(&path).load(guests::echo()).source(), Source::Compiled);
    assert_eq!(fs::metadata(&path).expect("made").permissions().mode() & 0o777, 0o700);
    let bed = cached(&path);
    let plugin = bed.load(guests::echo());
    assert_eq!(plugin.source(), Source::Cached);
    bed.still_works().await;
    assert_eq!(bed.load(guests::idle()).source(), Source::Compiled);
}

#[tokio::test]
async fn a_damaged_or_foreign_entry_is_compiled_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    cached(folder.path()).load(guests::echo());
    let entries = || -> Vec<_> {
        let entries = fs::read_dir(folder.path()).expect("it is there");
        entries.map(|entry| entry.expect("readable").path()).collect()
    };
    type Damage = fn(&std::path::Path);
    let damages: [Damage; 4] = [
        |path| fs::write(path, b"").expect("ours"),
        |path| {
            let mut bytes = fs::read(path).expect("ours");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).expect("ours");
        },
        |path| {
            let bytes = fs::read(path).expect("ours");
            fs::write(path, &bytes[..bytes.len() / 2]).expect("ours");
        },
        |path| fs::remove_file(path).expect("ours"),
    ];
    for damage in damages {
        for entry in entries() {
            damage(&entry);
            let bed = cached(folder.path());
            let plugin = bed.load(guests::echo());
            let report = bed.start(&plugin, budget(), Abort::new()).await;
            // What can't be seen from outside is found when the code is needed: that is never the guest's fault.
            if let Outcome::HostFault { message } = &report.outcome {
                assert!(message.contains("compiled code is damaged"), "{}: {message}", entry.display());
                assert_eq!(bed.load(guests::echo()).source(), Source::Compiled, "{}", entry.display());
            }
            bed.still_works().await;
        }
    }
    assert_eq!(cached(folder.path()).load(guests::echo()).source(), Source::Cached);
}

/// Keeps one component.
struct Kept(String);

impl Components for Kept {
    fn get(&self, _revision: Revision) -> io::Result<Vec<u8>> {
        Ok(self.0.clone().into_bytes())
    }
}

#[tokio::test]
async fn code_that_was_damaged_since_it_was_deployed_is_compiled_again_where_its_component_is_kept() {
    let guest = Guest::default().with_fields("(func $damaged_here)").text();
    let folder = tempfile::tempdir().expect("a temporary folder");
    cached(folder.path()).load(guest.as_str());
    let damage = || {
        for entry in fs::read_dir(folder.path()).expect("it is there") {
            let path = entry.expect("readable").path();
            if path.extension().is_some_and(|kind| kind == "cwasm") {
                let mut bytes = fs::read(&path).expect("ours");
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(path, bytes).expect("ours");
            }
        }
    };
    let (keeps, mistaken) = (cached(folder.path()), cached(folder.path()));
    keeps.engine.keep_from(Arc::new(Kept(guest.clone())));
    mistaken.engine.keep_from(Arc::new(Kept(guests::echo())));
    let (plugin, of_mistaken) = (keeps.load(guest.as_str()), mistaken.load(guest.as_str()));
    assert_eq!(plugin.source(), Source::Cached);
    damage();
    let report = mistaken.start(&of_mistaken, budget(), Abort::new()).await;
    let Outcome::HostFault { message } = &report.outcome else { panic!("{report:?}") };
    assert!(message.contains("damaged") && message.contains("isn't what its name says"), "{message}");
    assert_eq!(output(&keeps.start(&plugin, budget(), Abort::new()).await), b"");
    assert_eq!(cached(folder.path()).load(guest.as_str()).source(), Source::Cached, "it is kept again");
}

#[tokio::test]
async fn code_that_is_only_deployed_is_not_loaded_and_runs_even_if_the_cache_is_gone_meanwhile() {
    // Like no other test's, which might have it mapped.
    let guest = Guest::default().with_fields("(func $only_here)").text();
    let folder = tempfile::tempdir().expect("a temporary folder");
    cached(folder.path()).load(guest.as_str());
    let bed = cached(folder.path());
    let plugin = bed.load(guest.as_str());
    let is_mapped = || {
        let maps = fs::read_to_string("/proc/self/maps").expect("Linux has it");
        maps.contains(&plugin.revision().to_string())
    };
    assert!(!is_mapped(), "it is left in the cache");
    fs::remove_dir_all(folder.path()).expect("ours");
    let report = bed.start(&plugin, budget(), Abort::new()).await;
    assert_eq!(output(&report), b"");
    assert!(is_mapped(), "it is at hand now");
}

#[tokio::test]
async fn what_is_known_of_a_component_is_the_same_from_the_cache() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let wasm = Guest::default().importing(&guests::log()).text();
    let compiled = cached(folder.path()).load(wasm.as_str());
    let found = cached(folder.path()).load(wasm.as_str());
    assert_eq!((compiled.source(), found.source()), (Source::Compiled, Source::Cached));
    assert_eq!(found.imports(), ["sandhog:job/types@0.1.0", "sandhog:job/log@0.1.0"]);
    assert_eq!(compiled.imports(), found.imports());
}

#[tokio::test]
async fn a_component_that_was_only_inspected_is_still_no_handler() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for _ in 0..2 {
        let bed = cached(folder.path());
        let compile = CompileBudget::default();
        assert_eq!(bed.engine.inspect(b"(component)", &compile).expect("a component").problems.len(), 1);
        assert!(refusal(&bed, "(component)").contains("exports no function `handle`"));
    }
}

#[tokio::test]
async fn a_component_that_claims_anothers_digest_gets_neither_its_name_nor_its_code() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bed = cached(folder.path());
    let echo = bed.load(guests::echo());
    // It has the digest in a section, which is all that a component can say of itself.
    let digest = echo.revision();
    let liar =
        guests::idle().replacen("(component", &format!("(component (@custom \"digest\" \"{digest}\")"), 1);
    let liar = bed.load(liar);
    assert_eq!(liar.source(), Source::Compiled);
    assert_ne!(liar.revision(), digest);
    let report = bed.start(&liar, budget(), Abort::new()).await;
    assert_ne!(output(&report), b"payload", "its code is its own");
}

#[tokio::test]
async fn an_engine_with_other_settings_compiles_for_itself() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    cached(folder.path()).load(guests::echo());
    let bed =
        Bed::with(Config { cache: Some(folder.path().to_owned()), memory_max: Bytes::mib(32), ..config() });
    let report = bed.run(guests::echo()).await;
    assert_eq!(output(&report), b"payload");
}

#[tokio::test]
async fn a_cache_that_can_not_be_used_is_left_alone_and_costs_a_compilation() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = cached(folder.path());
    assert_eq!(cache.load(guests::echo()).source(), Source::Compiled);
    assert_eq!(cached(folder.path()).load(guests::echo()).source(), Source::Cached);
    // What others have written there could be anything.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o770)).expect("ours");
    assert_eq!(cached(folder.path()).load(guests::echo()).source(), Source::Compiled);
    // Nothing can be made below a file, whoever asks.
    let file = folder.path().join("file");
    fs::write(&file, "").expect("a file");
    assert_eq!(cached(&file.join("cache")).load(guests::echo()).source(), Source::Compiled);
}
