//! What is malformed is refused with its place named, and leaves nothing lost or half done.

use std::fs;

use sandhog_core::job::State;
use sandhog_core::reason::Reason;
use sandhog_tests::{Backend, Site, finished, hog_job, tenant};

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_payload_buries_its_job_and_names_the_place() {
    let site = Site::new(Backend::Embedded, "").with_hog("acme", "");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let _daemon = site.daemon();
    for (payload, place) in [("{\"counter\": 7}", "line 1"), ("{", "line 1"), ("\u{0}", "line 1")] {
        let job = hog_job("hog.count", payload);
        broker.enqueue(&acme, std::slice::from_ref(&job)).await.expect("the broker is up");
        let record = finished(&*broker, &acme, job.id).await;
        assert_eq!((record.state, record.reason), (State::Dead, Some(Reason::FailedPermanently)));
        let message = record.message.expect("it says why");
        assert!(message.contains(place), "{message}");
    }
}

#[test]
fn malformed_configuration_is_refused_with_file_and_line_before_anything_starts() {
    let site = Site::new(Backend::Embedded, "[lease]\nttl = \"5 parsecs\"\n\n[tenants.acme]\nwieght = 3\n");
    for command in ["run", "check"] {
        let output = site.sandhog(&[command]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{command}: {stderr}");
        for place in ["sandhog.toml:", "5 parsecs", "wieght", "weight"] {
            assert!(stderr.contains(place), "{command} names `{place}`:\n{stderr}");
        }
    }
    assert!(!site.path().join("jobs.db").exists(), "nothing was begun");
}

#[test]
fn a_malformed_component_is_refused_by_name() {
    let site = Site::new(Backend::Embedded, "").with_hog("acme", "");
    let wasm = site.path().join("broken.wasm");
    fs::write(&wasm, b"\0asm\x0d\0\x01\0garbage").expect("a file");
    let toml = "[plugin]\nname = \"broken\"\ntenant = \"acme\"\ncomponent = \"../broken.wasm\"\nkinds = [\"broken.run\"]\nqueue = \"broken\"\n";
    fs::write(site.path().join("plugins.d/broken.toml"), toml).expect("a file");
    for command in [&["run", "--strict"][..], &["check"]] {
        let output = site.sandhog(command);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{command:?}: {stderr}");
        for part in ["broken.toml", "acme/broken"] {
            assert!(stderr.contains(part), "{command:?} names `{part}`:\n{stderr}");
        }
    }
}

#[test]
fn a_component_that_is_not_the_pinned_one_is_refused() {
    let pin = "0".repeat(64);
    let site = Site::new(Backend::Embedded, "").with_hog("acme", "");
    let path = site.path().join("plugins.d/hog-acme.toml");
    let text = fs::read_to_string(&path).expect("it is there");
    fs::write(&path, text.replace("[plugin]\n", &format!("[plugin]\nsha256 = \"{pin}\"\n"))).expect("a file");
    let output = site.sandhog(&["check"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains(&pin) && stderr.contains("sha256"), "{stderr}");
}
