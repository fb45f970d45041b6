//! What lies in a plugin's folder may be anything, and come there in any way: it is the business of that plugin alone.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, mkfifoat};
use sandhog_tests::{Backend, Daemon, Site};

use crate::deploys::{echo, reload, revision};

/// Something that is no regular file, and how it is called.
struct Special {
    make: fn(&Path),
    called: &'static str,
}

/// Whoever opens the first waits for a writer, and whoever reads the second never comes to its end.
const SPECIALS: [Special; 3] = [
    Special {
        make: |path| mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR).expect("a pipe"),
        called: "a named pipe",
    },
    Special { make: |path| symlink("/dev/zero", path).expect("a link"), called: "a device" },
    Special { make: |path| fs::create_dir(path).expect("a directory"), called: "a directory" },
];

/// Removes whatever it is.
fn remove(path: &Path) {
    if fs::remove_file(path).is_err() {
        fs::remove_dir(path).expect("it is there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_regular_file_is_an_error_of_its_plugin_and_nobody_waits_for_it() {
    let site = Site::new(Backend::Embedded, "");
    let (component, signature): (PathBuf, PathBuf) =
        (site.path().join("plugins.d/a.wasm"), site.path().join("plugins.d/a.wasm.sig"));
    site.plugin("a", &echo("a"), &["a.run"], "");
    site.plugin("b", &echo("b"), &["b.run"], "");
    let mut daemon = site.daemon();
    let mut good = 0;
    for path in [&component, &signature] {
        for Special { make, called } in SPECIALS {
            good += 1;
            let (a, b) = (echo(&format!("a{good}")), echo(&format!("b{good}")));
            let is_right = |said: &str| said.contains("acme/a") && said.contains(called);
            if path == &component {
                remove(path);
            } else {
                site.component("a", &a);
            }
            make(path);
            site.component("b", &b);
            let (code, outcome) = reload(&site);
            assert_eq!(code, Some(1), "{outcome}");
            let standing = site.standing("a");
            assert_eq!(standing["state"], "failed");
            assert!(is_right(standing["message"].as_str().expect("it says why")), "{standing}");
            assert_eq!(site.standing("b")["revision"], revision(&b), "{outcome}");
            let check = site.sandhog(&["check", "--offline"]);
            let said = String::from_utf8_lossy(&check.stderr).into_owned();
            assert!(!check.status.success() && said.contains(called), "{said}");
            daemon.signal("TERM");
            assert_eq!(daemon.wait().code(), Some(0));

            daemon = site.daemon();
            let said = daemon.has_said("starting with the revision that is kept");
            assert!(is_right(&said), "{said}");
            remove(path);
            site.component("a", &a);
            assert_eq!(reload(&site).0, Some(0));
            assert_eq!(site.standing("a")["revision"], revision(&a));
        }
    }
}

/// Replaces a link in one step, as deploy tools do.
fn relink(link: &Path, to: &str) {
    let aside = link.with_file_name("aside");
    symlink(to, &aside).expect("a link");
    fs::rename(aside, link).expect("one folder");
}

/// The files of a plugin, in a folder of their own.
fn files(folder: &Path, wasm: &[u8]) {
    let toml = "[plugin]\nname = \"a\"\ntenant = \"acme\"\ncomponent = \"a.wasm\"\nkinds = [\"a.run\"]\n";
    fs::create_dir_all(folder).expect("a folder");
    fs::write(folder.join("a.wasm"), wasm).expect("a file");
    fs::write(folder.join("a.toml"), toml).expect("a file");
}

fn is_deployed(daemon: &mut Daemon, wasm: &[u8]) {
    daemon.has_said(&format!("\"revision\":\"{}\"", revision(wasm)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_of_kubernetes_is_deployed_when_its_data_is_replaced() {
    // By what is heard of it alone.
    let site = Site::new(Backend::Embedded, "[deploy]\nlook_every = \"1h\"");
    let volume = site.path().join("plugins.d");
    for (version, wasm) in [("..1", echo("1")), ("..2", echo("2"))] {
        files(&volume.join(version), &wasm);
    }
    symlink("..1", volume.join("..data")).expect("a link");
    for name in ["a.toml", "a.wasm"] {
        symlink(format!("..data/{name}"), volume.join(name)).expect("a link");
    }
    let mut daemon = site.daemon();
    relink(&volume.join("..data"), "..2");
    is_deployed(&mut daemon, &echo("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_deployed_when_the_link_to_the_current_one_is_replaced() {
    let site = Site::new(Backend::Embedded, "[deploy]\nlook_every = \"100ms\"");
    let text = fs::read_to_string(site.config()).expect("it is there");
    site.write("sandhog.toml", format!("plugins = \"current\"\n{text}").as_bytes());
    let releases = site.path().join("releases");
    for version in ["1", "2", "3"] {
        files(&releases.join(version), &echo(version));
    }
    let current = site.path().join("current");
    relink(&current, "releases/1");
    let mut daemon = site.daemon();
    for version in ["2", "3"] {
        relink(&current, &format!("releases/{version}"));
        is_deployed(&mut daemon, &echo(version));
    }
}
