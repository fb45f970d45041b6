//! What a run leaves behind, in its memory or elsewhere, the next one doesn't find.

use std::fs;

use sandhog_core::id::Kind;
use sandhog_core::job::{NewJob, State};
use sandhog_guests::{Guest, RESULT};
use sandhog_tests::{Backend, Site, component, finished, hog_job, tenant};

/// Many times as many as there are instances, so that each of them is used again and again.
const JOBS: usize = 100;

/// Runs a plugin's kind [`JOBS`] times in a row, one after the other, and returns the outputs.
async fn outputs(site: &Site, kind: &str) -> Vec<String> {
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let jobs: Vec<NewJob> = (0..JOBS)
        .map(|_| NewJob { kind: Kind::parse(kind).expect("valid"), ..hog_job("hog.echo", "null") })
        .collect();
    let _daemon = site.daemon();
    broker.enqueue(&acme, &jobs).await.expect("the broker is up");
    let mut outputs = Vec::new();
    for job in &jobs {
        let record = finished(&*broker, &acme, job.id).await;
        assert_eq!(record.state, State::Succeeded, "{:?}", record.message);
        outputs.push(String::from_utf8(record.output.expect("it succeeded")).expect("text"));
    }
    outputs
}

fn site(component: &std::path::Path, kind: &str) -> Site {
    let site = Site::new(Backend::Embedded, "concurrency = 2");
    let toml = format!(
        "[plugin]\nname = \"hog\"\ntenant = \"acme\"\ncomponent = \"{}\"\nkinds = [\"{kind}\"]\nqueue = \"hogs\"\n\n[limits]\nconcurrency = 1\n",
        component.display()
    );
    fs::write(site.path().join("plugins.d/hog.toml"), toml).expect("a file");
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn statics_heap_environment_and_files_are_fresh_in_every_run() {
    let site = site(&component("rogue"), "rogue.leave");
    let fresh = r#"{"counter":0,"heap":0,"thread_local":0,"variable":false,"files":0,"memory":0}"#;
    assert_eq!(outputs(&site, "rogue.leave").await, vec![fresh; JOBS]);
}

#[tokio::test(flavor = "multi_thread")]
async fn globals_memory_and_tables_are_fresh_in_every_run() {
    // Returns as many bytes as places in which an earlier run has left something, and leaves something there: in a
    // global, in memory that it has from the start and in memory that it gets, in a table and in its size.
    let body = format!(
        "(local $found i32)
         (local.set $found (i32.ne (global.get $left) (i32.const 0)))
         (local.set $found (i32.add (local.get $found) (i32.load8_u (i32.const 60000))))
         (drop (memory.grow (i32.const 8)))
         (local.set $found (i32.add (local.get $found) (i32.load8_u (i32.const 589800))))
         (local.set $found (i32.add (local.get $found) (i32.eqz (ref.is_null (table.get $t (i32.const 3))))))
         (local.set $found (i32.add (local.get $found) (i32.ne (table.size $t) (i32.const 8))))
         (global.set $left (i32.const 7))
         (memory.fill (i32.const 16384) (i32.const 1) (i32.const 573000))
         (table.fill $t (i32.const 0) (ref.func $f) (i32.const 8))
         (drop (table.grow $t (ref.func $f) (i32.const 8)))
         (i32.store (i32.const {}) (i32.const 1024)) (i32.store (i32.const {}) (local.get $found))",
        RESULT + 8,
        RESULT + 12
    );
    let fields =
        "(global $left (mut i32) (i32.const 0)) (table $t 8 funcref) (func $f) (elem declare func $f)";
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("leaves.wat");
    fs::write(&path, Guest::that(&body).with_fields(fields).text()).expect("a file");
    let site = site(&path, "wat.leave");
    assert_eq!(outputs(&site, "wat.leave").await, vec![""; JOBS]);
}
