//! Components that a running daemon must not take: made to break its compiler, or not signed as their tenant demands.

use std::fs;

use sandhog_core::job::State;
use sandhog_tests::{Backend, ECHO, Site, component_of, finished, hog_job, tenant};
use serde_json::Value;

/// Has the daemon read its configuration again: the exit code, and what is said of it.
fn reload(site: &Site) -> (Option<i32>, String) {
    let output = site.sandhog(&["--json", "reload"]);
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A job for the plugin `a` that has to succeed.
async fn still_serves(site: &Site) {
    let (broker, acme, job) = (site.broker().await, tenant("acme"), hog_job("a.run", "7"));
    broker.enqueue(&acme, std::slice::from_ref(&job)).await.expect("the broker is up");
    assert_eq!(finished(&*broker, &acme, job.id).await.state, State::Succeeded);
}

/// So many functions that compiling them takes many seconds, or one so large that it takes hundreds of MiB.
fn bomb(functions: usize, steps: usize) -> Vec<u8> {
    let step = "(if (local.get 0) (then (local.set 1 (i32.add (local.get 1) (local.get 0)))))\n";
    let function = format!("(func (param i32 i32) {})\n", step.repeat(steps));
    format!("(component (core module {}))", function.repeat(functions)).into_bytes()
}

/// What compiling may add to the memory of the daemon: the component itself, some times over.
const GROWTH_MAX: u64 = 200 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_is_made_to_break_the_compiler_is_refused_and_nobody_notices() {
    let site = Site::new(Backend::Embedded, "");
    site.plugin("a", &component_of(ECHO, "a"), &["a.run"], "");
    let daemon = site.daemon();
    still_serves(&site).await;
    let at_rest = daemon.resident();
    for (name, wasm, limit, says) in [
        ("long", bomb(3000, 100), "compile_time = \"300ms\"", "raise limits.compile_time"),
        ("large", bomb(1, 150_000), "compile_memory = \"64MiB\"", "raise limits.compile_memory"),
        ("big", bomb(1, 10_000), "component = \"100KiB\"", "raise limits.component"),
    ] {
        site.plugin(name, &wasm, &[&format!("{name}.run")], &format!("[limits]\n{limit}\n"));
        let (code, said) = reload(&site);
        assert!(code == Some(1) && said.contains(says), "{name}: {said}");
        assert!(said.contains(&format!("plugin acme/{name}")), "{name}: {said}");
        still_serves(&site).await;
        let grown = daemon.resident().saturating_sub(at_rest);
        assert!(grown < GROWTH_MAX, "{name}: the daemon has grown by {grown} bytes");
    }
}

/// Components of one tenant that take longer to compile than a start waits, whatever the number of cores: each is a single
/// function, and a tenant's are compiled one after the other.
const SLOW: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn components_that_take_long_to_compile_hold_up_no_start() {
    let site = Site::new(Backend::Embedded, "");
    let config = fs::read_to_string(site.config()).expect("it is there");
    let of_engine = config.lines().find(|line| line.starts_with("cache")).expect("sites share a cache");
    site.write("sandhog.toml", config.replace(of_engine, "cache = \"cache\"").as_bytes());
    for n in 0..SLOW {
        let slow = bomb(1, 60_000 + n);
        site.plugin(&format!("slow{n}"), &slow, &[&format!("slow{n}.run")], "");
    }
    let echo = site.path().join("echo.wasm");
    fs::write(&echo, component_of(ECHO, "globex")).expect("a file");
    let site = site.with_plugin("zz", "globex", &echo, "kinds = [\"a.run\"]\nqueue = \"hogs\"");
    let mut daemon = site.daemon();
    daemon.has_said("the start doesn't wait for it");
    let (broker, globex, job) = (site.broker().await, tenant("globex"), hog_job("a.run", "7"));
    broker.enqueue(&globex, std::slice::from_ref(&job)).await.expect("the broker is up");
    assert_eq!(finished(&*broker, &globex, job.id).await.state, State::Succeeded);
    // The deployer goes on with them: each is found to be no handler.
    daemon.has_said(&format!("plugin acme/slow{}", SLOW - 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_demands_signatures_gets_no_other_code_deployed() {
    let site = Site::new(Backend::Embedded, "");
    let (key, wasm) = (site.path().join("ann.pem"), site.path().join("plugins.d/a.wasm"));
    let (key, wasm) = (key.to_str().expect("text"), wasm.to_str().expect("text"));
    let ann = site.json(&["plugin", "key", key])["signer"].as_str().expect("a text").to_owned();
    let config = std::fs::read_to_string(site.config()).expect("it is there");
    site.write("sandhog.toml", format!("{config}\n[tenants.acme]\nsigners = [\"{ann}\"]\n").as_bytes());
    site.plugin("a", &component_of(ECHO, "signed"), &["a.run"], "");
    site.json(&["plugin", "sign", wasm, "--plugin", "acme/a", "--key", key]);
    let _daemon = site.daemon();
    still_serves(&site).await;
    let signed = site.standing("a")["revision"].clone();

    site.component("a", &component_of(ECHO, "not signed"));
    let (code, said) = reload(&site);
    assert!(code == Some(1) && said.contains("it was changed since it was signed"), "{said}");
    let standing = site.standing("a");
    assert_eq!((&standing["state"], &standing["revision"]), (&Value::from("failed"), &signed));
    still_serves(&site).await;

    site.json(&["plugin", "sign", wasm, "--plugin", "acme/a", "--key", key]);
    let (code, said) = reload(&site);
    assert_eq!(code, Some(0), "{said}");
    assert_ne!(site.standing("a")["revision"], signed);
    still_serves(&site).await;
}
