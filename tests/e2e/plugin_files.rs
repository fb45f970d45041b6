//! What lies in a plugin's folder may be anything, and come there in any way: it is the business of that plugin alone.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use rustix::fs::{CWD, Mode, mkfifoat};
use sandhog_core::id::QueueName;
use sandhog_core::job::{NewJob, State};
use sandhog_tests::{
    Backend, Daemon, ECHO, HungDisk, PATIENCE, Reply, Site, StallingDisk, TRAP, Web, all_final, component,
    component_of, finished, hog_job, tenant, under_way, with_section,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::deploys::{CANARY, deployed, echo, echo_job, ran_on, reload, revision, runs_on, until_decided};

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

/// Folder of the copies of what was deployed, in that of a site.
const KEPT: &str = "deploys/components";

/// Reloads beside somebody who replaces a component all the time.
const RACES: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn whoever_replaces_a_component_meanwhile_gets_one_deployed_whole_or_none() {
    let site = Site::new(Backend::Embedded, "[deploy]\nlook_every = \"1h\"");
    let folder = site.path().join("plugins.d");
    let (a, b) = (echo("a"), echo("b"));
    site.plugin("a", &a, &["a.run"], "");
    let _daemon = site.daemon();
    let ends = AtomicBool::new(false);
    let (mut seen, swaps) = thread::scope(|threads| {
        let replacing = threads.spawn(|| {
            let mut swaps = 0;
            while !ends.load(Ordering::Relaxed) {
                let aside = folder.join("replacement");
                match swaps % 3 {
                    0 => fs::write(&aside, &a).expect("a file"),
                    1 => mkfifoat(CWD, &aside, Mode::RUSR | Mode::WUSR).expect("a pipe"),
                    _ => fs::write(&aside, &b).expect("a file"),
                }
                fs::rename(&aside, folder.join("a.wasm")).expect("one folder");
                swaps += 1;
            }
            swaps
        });
        let mut seen = BTreeSet::new();
        for _ in 0..RACES {
            reload(&site);
            seen.insert(site.standing("a")["revision"].as_str().expect("one is in force").to_owned());
        }
        ends.store(true, Ordering::Relaxed);
        (seen, replacing.join().expect("it has replaced"))
    });
    assert!(swaps > RACES, "{swaps} replacements are too few to meet a reload");
    for whole in [&a, &b] {
        seen.remove(&revision(whole));
    }
    assert!(seen.is_empty(), "what nobody has put there was deployed: {seen:?}");
    site.component("a", &b);
    deployed(&site, "a", &b);
    let kept = fs::read_dir(site.path().join(KEPT)).expect("what was deployed is kept");
    let kept: Vec<PathBuf> = kept.map(|entry| entry.expect("a file").path()).collect();
    assert!(!kept.is_empty());
    for copy in kept {
        let name = copy.file_stem().and_then(|name| name.to_str()).expect("a revision").to_owned();
        assert_eq!(revision(&fs::read(&copy).expect("a file")), name, "{}", copy.display());
    }
}

/// Plugins with something on a disk that doesn't answer, and what of theirs is there.
const ON_DISK: [(&str, &str); 3] = [
    ("component", "[plugin]\ncomponent = \"../hung/a.wasm\"\n"),
    (
        "secret",
        "[plugin]\ncomponent = \"b.wasm\"\n[grants]\nsecrets = [\"KEY\"]\n[secrets]\nKEY = { file = \"../hung/key\" }\n",
    ),
    (
        "directory",
        "[plugin]\ncomponent = \"b.wasm\"\n[grants]\ndirs = [{ host = \"../hung\", guest = \"/data\", access = \"read-write\" }]\n",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_does_not_answer_costs_its_own_plugins_alone() {
    let site = Site::new(Backend::Embedded, "");
    let Some(disk) = HungDisk::mount(&site.path().join("hung")) else { return };
    site.plugin("b", &echo("b"), &["a.run"], "");
    for (name, rest) in ON_DISK {
        let rest = rest.replace(
            "[plugin]\n",
            &format!("[plugin]\nname = \"{name}\"\ntenant = \"acme\"\nkinds = [\"{name}.run\"]\n"),
        );
        site.write(&format!("plugins.d/{name}.toml"), rest.as_bytes());
    }
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let mut daemon = Daemon::start_with(disk.sandhog(&site));
    for round in 0..3 {
        for (name, _) in ON_DISK {
            let standing = site.standing(name);
            assert_eq!(standing["state"], "failed", "{standing}");
            assert!(
                standing["message"].as_str().is_some_and(|why| why.contains("doesn't answer")),
                "{standing}"
            );
        }
        assert_eq!(runs_on(broker.as_ref(), &acme, echo_job()).await, site.standing("b")["revision"]);
        let changed = echo(&format!("b{round}"));
        site.component("b", &changed);
        let (code, outcome) = reload(&site);
        assert_eq!(
            (code, &site.standing("b")["revision"]),
            (Some(1), &revision(&changed).into()),
            "{outcome}"
        );
    }
    // It says so, but no process that has asked can end.
    let mut check = disk.sandhog(&site);
    let check = check.args(["check", "--offline"]).stderr(Stdio::piped()).spawn();
    let mut check = check.expect("it can be started");
    let mut lines = BufReader::new(check.stderr.take().expect("it is piped")).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line.contains("doesn't answer"))));

    // It is gone for good; what is said of it now is what the system says.
    drop(disk);
    assert!(!check.wait().expect("it can be waited for").success());
    let asked = Instant::now();
    while ON_DISK.iter().any(|(name, _)| site.standing(name).to_string().contains("doesn't answer")) {
        assert!(asked.elapsed() < PATIENCE, "{}", site.json(&["plugins"]));
        reload(&site);
    }
    daemon.signal("TERM");
    assert_eq!(daemon.wait().code(), Some(0));
}

/// Writes of a tenant whose disk doesn't answer: more at once than it has threads for.
const STALLED: usize = 20;

/// Maximum number of threads that a disk holds which stops answering: eight of the tenant's, and one of each place of the daemon
/// that asks for the folder.
const HELD_MAX: usize = 8 + 4;

#[tokio::test(flavor = "multi_thread")]
async fn runs_whose_disk_stops_answering_hold_up_nobody_elses() {
    let web = Web::start(|_| Reply::Body(b"hello".to_vec())).await;
    let site = Site::new(Backend::Embedded, "");
    let Some(mut disk) = StallingDisk::mount(&site.path().join("stalls")) else { return };
    fs::create_dir(site.path().join("good")).expect("a folder");
    site.write("good/file", b"1");
    let grants = |folder: &str| {
        format!(
            "[grants]\ndirs = [{{ host = \"../{folder}\", guest = \"/data\", access = \"read-write\" }}]\n\
             http = [{{ to = \"127.0.0.1:{}\", private = \"allow\" }}]\n[retry]\nmax_attempts = 1",
            web.port()
        )
    };
    let site = site.with_hog("acme", &grants("stalls")).with_hog("globex", &grants("good"));
    site.plugin("b", &echo("b"), &["a.run"], "");
    let (broker, acme, globex) = (site.broker().await, tenant("acme"), tenant("globex"));
    let mut daemon = Daemon::start_with(disk.sandhog(&site));
    let url = format!(r#"{{"url": "http://127.0.0.1:{}/"}}"#, web.port());
    let others = async || {
        for (kind, payload) in [("hog.cat", r#"{"path": "/data/file"}"#), ("hog.fetch", &url)] {
            let job = hog_job(kind, payload);
            broker.enqueue(&globex, std::slice::from_ref(&job)).await.expect("the broker is up");
            let record = finished(&*broker, &globex, job.id).await;
            assert_eq!(record.state, State::Succeeded, "{kind}: {:?}", record.message);
        }
    };
    others().await;
    // It answers: there is no such file.
    let absent = hog_job("hog.cat", r#"{"path": "/data/file"}"#);
    broker.enqueue(&acme, std::slice::from_ref(&absent)).await.expect("the broker is up");
    let record = finished(&*broker, &acme, absent.id).await;
    assert!(record.message.as_ref().is_some_and(|why| why.contains("No such file")), "{record:?}");

    let at_rest = daemon.threads();
    disk.stall();
    let writes: Vec<NewJob> =
        (0..STALLED).map(|_| hog_job("hog.write", r#"{"path": "/data/new", "bytes": 1}"#)).collect();
    broker.enqueue(&acme, &writes).await.expect("the broker is up");
    under_way(&*broker, &acme, writes[0].id).await;
    for round in 0..3 {
        others().await;
        let changed = echo(&format!("b{round}"));
        site.component("b", &changed);
        reload(&site);
        assert_eq!(site.standing("b")["revision"], revision(&changed));
    }
    let held = daemon.threads().saturating_sub(at_rest);
    assert!(held <= HELD_MAX, "{held} threads more than at rest");

    drop(disk);
    assert_eq!(all_final(&*broker, &acme).await[State::Dead], 1 + STALLED as u64);
    others().await;
    daemon.signal("TERM");
    assert_eq!(daemon.wait().code(), Some(0));
}

/// Replaces a link in one step, as deploy tools do.
fn relink(link: &Path, to: &str) {
    let aside = link.with_file_name("aside");
    symlink(to, &aside).expect("a link");
    fs::rename(aside, link).expect("one folder");
}

/// The files of a plugin of tenant `acme`, in a folder.
fn files(folder: &Path, name: &str, wasm: &[u8], kinds: &[&str], more: &str) {
    let kinds = kinds.iter().map(|kind| format!("\"{kind}\"")).collect::<Vec<_>>().join(", ");
    let head = format!("[plugin]\nname = \"{name}\"\ntenant = \"acme\"\ncomponent = \"{name}.wasm\"\n");
    fs::create_dir_all(folder).expect("a folder");
    fs::write(folder.join(format!("{name}.wasm")), wasm).expect("a file");
    fs::write(folder.join(format!("{name}.toml")), format!("{head}kinds = [{kinds}]\n{more}\n"))
        .expect("a file");
}

/// Has a site take its plugins from behind a link, which is returned.
fn releases(site: &Site) -> PathBuf {
    let text = fs::read_to_string(site.config()).expect("it is there");
    site.write("sandhog.toml", format!("plugins = \"current\"\n{text}").as_bytes());
    site.path().join("current")
}

fn hog() -> Vec<u8> {
    fs::read(component("hog")).expect("it was built")
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
        files(&volume.join(version), "a", &wasm, &["a.run"], "");
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
    let current = releases(&site);
    for version in ["1", "2", "3"] {
        files(&site.path().join("releases").join(version), "a", &echo(version), &["a.run"], "");
    }
    relink(&current, "releases/1");
    let mut daemon = site.daemon();
    for version in ["2", "3"] {
        relink(&current, &format!("releases/{version}"));
        is_deployed(&mut daemon, &echo(version));
    }
}

/// A mistake in a plugin of tenant `acme`: what its TOML says beyond its head, what lies in the place of its files, and
/// what is said of it.
struct Mistake {
    more: &'static str,
    make: fn(&Site),
    said: &'static str,
}

const MISTAKES: [Mistake; 6] = [
    Mistake { more: "not TOML", make: |_| {}, said: "this is not TOML" },
    Mistake { more: "[retry]\nbackof = 1", make: |_| {}, said: "did you mean `backoff`?" },
    Mistake {
        more: "[grants]\nsecrets = [\"KEY\"]\n[secrets]\nKEY = { file = \"none\" }",
        make: |_| {},
        said: "grants.secrets[0]: can't read",
    },
    Mistake {
        more: "[grants]\ndirs = [{ host = \"none\", guest = \"/none\" }]",
        make: |_| {},
        said: "can't grant",
    },
    Mistake { more: "", make: |site| site.component("bad", b"garbage"), said: "plugin acme/bad" },
    Mistake {
        more: "",
        make: |site| {
            let file = site.path().join("plugins.d/bad.toml");
            // In one step: a file that is gone for a moment is a plugin that was removed.
            let aside = file.with_extension("aside");
            mkfifoat(CWD, &aside, Mode::RUSR | Mode::WUSR).expect("a pipe");
            fs::rename(aside, file).expect("one folder");
        },
        said: "a named pipe",
    },
];

/// Whatever is in force of other tenants, this is.
fn good(site: Site) -> Site {
    let good = "kinds = [\"hog.echo\"]\nqueue = \"hogs\"";
    site.with_plugin("good", "globex", &component("hog"), good)
}

fn good_job() -> NewJob {
    hog_job("hog.echo", "7")
}

/// What `sandhog plugins` says of the plugin that fails, however much is known of it.
fn failure(site: &Site) -> String {
    let plugins = site.json(&["plugins"]);
    let plugins = plugins["plugins"].as_array().expect("a list");
    let failed: Vec<_> = plugins.iter().filter(|plugin| plugin["state"] == "failed").collect();
    let [failed] = failed[..] else { panic!("one has failed: {plugins:?}") };
    failed["message"].as_str().expect("it says why").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_one_plugin_keeps_the_daemon_from_starting_only_if_that_is_wanted() {
    for Mistake { more, make, said } in MISTAKES {
        let site = good(Site::new(Backend::Embedded, ""));
        site.plugin("bad", &echo("1"), &["a.run"], more);
        make(&site);
        let strict = site.sandhog(&["run", "--strict"]);
        let stderr = String::from_utf8_lossy(&strict.stderr);
        assert!(!strict.status.success() && stderr.contains(said), "{said}: {stderr}");
        let check = site.sandhog(&["check"]);
        let stderr = String::from_utf8_lossy(&check.stderr);
        assert!(!check.status.success() && stderr.contains(said), "{said}: {stderr}");

        let mut daemon = site.daemon();
        daemon.has_said("deploy failed");
        assert!(failure(&site).contains(said), "{said}: {}", failure(&site));
        let broker = site.broker().await;
        runs_on(&*broker, &tenant("globex"), good_job()).await;
        // Mended, it is as good as any other.
        let file = site.path().join("plugins.d/bad.toml");
        remove(&file);
        site.plugin("bad", &echo("2"), &["a.run"], "");
        deployed(&site, "bad", &echo("2"));
        assert_eq!(runs_on(&*broker, &tenant("acme"), echo_job()).await, revision(&echo("2")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_one_plugin_holds_no_other_change_back_and_what_it_had_in_force_stays() {
    for Mistake { more, make, said } in MISTAKES {
        let site = good(Site::new(Backend::Embedded, ""));
        site.plugin("bad", &echo("1"), &["a.run"], "");
        site.plugin("other", &echo("other 1"), &["b.run"], "");
        let _daemon = site.daemon();
        let broker = site.broker().await;
        site.plugin("bad", &echo("1"), &["a.run"], more);
        make(&site);
        site.component("other", &echo("other 2"));
        let (code, outcome) = reload(&site);
        assert_eq!((code, &outcome["outcome"]), (Some(1), &"applied".into()), "{outcome}");
        assert_eq!(site.standing("other")["revision"], revision(&echo("other 2")));
        assert!(failure(&site).contains(said), "{said}: {}", failure(&site));
        assert_eq!(site.standing("bad")["revision"], revision(&echo("1")));
        assert_eq!(runs_on(&*broker, &tenant("acme"), echo_job()).await, revision(&echo("1")));
        runs_on(&*broker, &tenant("globex"), good_job()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_whose_file_is_wrong_is_served_across_restarts_as_it_was_when_it_was_right() {
    let site = good(Site::new(Backend::Embedded, ""));
    site.plugin("a", &echo("1"), &["a.run"], "");
    let broker = site.broker().await;
    let mut daemon = site.daemon();
    site.write("plugins.d/a.toml", b"not TOML");
    for _ in 0..2 {
        assert_eq!(reload(&site).0, Some(1));
        let standing = site.standing("a");
        assert_eq!(
            (&standing["state"], &standing["revision"]),
            (&"failed".into(), &revision(&echo("1")).into())
        );
        let message = standing["message"].as_str().expect("it says why");
        assert!(message.contains("a.toml") && message.contains("it serves what the file said"), "{message}");
        assert_eq!(runs_on(&*broker, &tenant("acme"), echo_job()).await, revision(&echo("1")));
        daemon.signal("TERM");
        assert_eq!(daemon.wait().code(), Some(0));
        daemon = site.daemon();
    }
    assert_eq!(runs_on(&*broker, &tenant("acme"), echo_job()).await, revision(&echo("1")));
    // It is mended.
    site.plugin("a", &echo("2"), &["a.run"], "");
    assert_eq!(reload(&site).0, Some(0));
    assert_eq!(site.standing("a")["state"], "serving");
    assert_eq!(runs_on(&*broker, &tenant("acme"), echo_job()).await, revision(&echo("2")));
    // And what is gone is gone.
    std::fs::remove_file(site.path().join("plugins.d/a.toml")).expect("it is there");
    assert_eq!(reload(&site).0, Some(0));
    daemon.signal("TERM");
    assert_eq!(daemon.wait().code(), Some(0));
    site.write("plugins.d/a.toml", b"not TOML");
    let _daemon = site.daemon();
    let plugins = site.json(&["plugins"]);
    let of_acme =
        plugins["plugins"].as_array().expect("a list").iter().filter(|plugin| plugin["tenant"] == "acme");
    assert_eq!(of_acme.count(), 0, "{plugins}");
}

/// A smoke run that goes on until the test lets it go.
struct SmokeRun {
    waited_for: TcpListener,
}

impl SmokeRun {
    /// The daemon's file has to let it last.
    const LIMITS: &str = "[limits]\ntimeout = \"1h\"\nhttp_timeout = \"1h\"";

    async fn new() -> Self {
        Self { waited_for: TcpListener::bind("127.0.0.1:0").await.expect("a port") }
    }

    /// What the TOML of its plugin says of it.
    fn toml(&self) -> String {
        let address = self.waited_for.local_addr().expect("it is bound");
        format!(
            "[grants]\nhttp = [{{ to = \"{address}\", private = \"allow\" }}]\n\
             [smoke]\nkind = \"hog.fetch\"\npayload = '{{\"url\": \"http://{address}/\"}}'\n"
        )
    }

    /// Waits until it goes on.
    async fn begun(&self) -> TcpStream {
        let began = tokio::time::timeout(PATIENCE, self.waited_for.accept()).await;
        began.expect("the smoke run began").expect("a connection").0
    }
}

/// Lets a smoke run go. Its request is read first: a connection that is closed with something unread takes the answer back.
async fn let_go(mut smoke_run: TcpStream) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        assert!(smoke_run.read_buf(&mut request).await.expect("it asks") > 0, "it asks");
    }
    smoke_run.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.expect("it waits");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_smoke_run_of_one_plugin_holds_up_no_deploy_rollback_or_verdict_of_another() {
    let site = Site::new(Backend::Embedded, SmokeRun::LIMITS);
    site.plugin("a", &echo("a1"), &["a.run"], CANARY);
    site.plugin("b", &echo("b1"), &["b.run"], "");
    let mut daemon = site.daemon();
    site.component("b", &echo("b2"));
    deployed(&site, "b", &echo("b2"));
    let (smoke, slow) = (SmokeRun::new().await, with_section(&hog(), "slow"));
    site.plugin("slow", &slow, &["hog.fetch"], &smoke.toml());
    let smoke_run = smoke.begun().await;

    site.component("b", &echo("b3"));
    is_deployed(&mut daemon, &echo("b3"));
    let back = site.json(&["plugin", "rollback", "b"]);
    assert_eq!(back["revision"], revision(&echo("b2")));
    site.component("a", &component_of(TRAP, "a2"));
    daemon.has_said("canary-started");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    until_decided(&site, &*broker, &acme).await;
    assert_eq!(site.standing("a")["state"], "rolled-back");

    let plugins = site.json(&["plugins"]);
    assert_eq!(plugins["plugins"].as_array().map(Vec::len), Some(2), "it is not deployed yet: {plugins}");
    let_go(smoke_run).await;
    is_deployed(&mut daemon, &slow);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_smoke_run_holds_up_no_start() {
    let site = good(Site::new(Backend::Embedded, SmokeRun::LIMITS));
    let smoke = SmokeRun::new().await;
    let (first, second) = (with_section(&hog(), "first"), with_section(&hog(), "second"));
    site.plugin("slow", &first, &["hog.fetch"], &smoke.toml());
    let mut daemon = site.daemon();
    let smoke_run = smoke.begun().await;
    let broker = site.broker().await;
    runs_on(&*broker, &tenant("globex"), good_job()).await;
    let_go(smoke_run).await;
    is_deployed(&mut daemon, &first);
    daemon.signal("TERM");
    assert_eq!(daemon.wait().code(), Some(0));
    // Of a plugin that was in force before, that is, meanwhile.
    site.component("slow", &second);
    let mut daemon = site.daemon();
    let smoke_run = smoke.begun().await;
    assert_eq!(site.standing("slow")["revision"], revision(&first));
    let_go(smoke_run).await;
    is_deployed(&mut daemon, &second);
    assert_eq!(site.standing("slow")["revision"], revision(&second));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_last_is_deployed_whatever_goes_on_of_the_same_plugin() {
    let site = Site::new(Backend::Embedded, SmokeRun::LIMITS);
    site.plugin("a", &hog(), &["hog.fetch", "hog.echo"], "");
    let mut daemon = site.daemon();
    let smoke = SmokeRun::new().await;
    site.plugin("a", &hog(), &["hog.fetch", "hog.echo"], &smoke.toml());
    let _goes_on = smoke.begun().await;
    let mended = with_section(&hog(), "mended");
    site.component("a", &mended);
    let_go(smoke.begun().await).await;
    is_deployed(&mut daemon, &mended);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_goes_to_another_plugin_is_handled_until_that_is_ready() {
    let site =
        Site::new(Backend::Embedded, &format!("{}\n[deploy]\nlook_every = \"100ms\"", SmokeRun::LIMITS));
    let current = releases(&site);
    let release = |name: &str| site.path().join("releases").join(name);
    files(&release("1"), "gone", &echo("1"), &["hog.sleep"], "");
    files(&release("1"), "old", &hog(), &["hog.echo", "hog.fetch"], "");
    let (smoke, new) = (SmokeRun::new().await, with_section(&hog(), "new"));
    files(&release("2"), "new", &new, &["hog.sleep", "hog.fetch"], &smoke.toml());
    files(&release("2"), "old", &hog(), &["hog.echo"], "");
    relink(&current, "releases/1");
    let mut daemon = site.daemon();
    daemon.has_said("nothing has changed");
    relink(&current, "releases/2");
    let smoke_run = smoke.begun().await;
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let job =
        NewJob { queue: QueueName::parse("default").expect("valid"), ..hog_job("hog.sleep", r#"{"ms": 1}"#) };
    assert_eq!(runs_on(&*broker, &acme, job).await, revision(&echo("1")));
    let_go(smoke_run).await;
    is_deployed(&mut daemon, &new);
    daemon.has_said("deploy: removed");
    let plugins = site.json(&["plugins"]);
    assert_eq!(plugins["plugins"].as_array().map(Vec::len), Some(2), "{plugins}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_revision_that_can_not_be_loaded_just_now_is_loaded_when_it_can_be() {
    let site = Site::new(Backend::Embedded, "");
    let (granted, away) = (site.path().join("granted"), site.path().join("away"));
    fs::create_dir(&granted).expect("a folder");
    let grants = "[grants]\ndirs = [{ host = \"../granted\", guest = \"/granted\" }]";
    site.plugin("a", &echo("1"), &["a.run"], grants);
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let mut daemon = site.daemon();
    site.component("a", &echo("2"));
    deployed(&site, "a", &echo("2"));
    fs::rename(&granted, &away).expect("one folder");
    let pinned = NewJob { pinned: Some(sandhog_engine::revision_of(&echo("1"))), ..echo_job() };
    broker.enqueue(&acme, std::slice::from_ref(&pinned)).await.expect("the broker is up");
    daemon.has_said("a kept revision can't be loaded");
    fs::rename(&away, &granted).expect("one folder");
    assert_eq!(ran_on(&*broker, &acme, &pinned).await, revision(&echo("1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn compiled_code_that_was_damaged_is_compiled_again_and_no_job_notices() {
    let site = Site::new(Backend::Embedded, "");
    // A cache of its own, which nobody else is hurt by.
    let text = fs::read_to_string(site.config()).expect("it is there");
    let own = text.lines().map(|line| if line.starts_with("cache =") { "cache = \"cache\"" } else { line });
    site.write("sandhog.toml", own.collect::<Vec<_>>().join("\n").as_bytes());
    site.plugin("a", &component_of(ECHO, "only here"), &["a.run"], "");
    let mut daemon = site.daemon();
    daemon.signal("TERM");
    assert_eq!(daemon.wait().code(), Some(0));
    let mut daemon = site.daemon();
    for entry in fs::read_dir(site.path().join("cache")).expect("it is there") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|kind| kind == "cwasm") {
            let mut bytes = fs::read(&path).expect("ours");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&path, bytes).expect("ours");
        }
    }
    let (broker, acme) = (site.broker().await, tenant("acme"));
    runs_on(&*broker, &acme, echo_job()).await;
    daemon.has_said("compiling a component again");
    assert!(!daemon.log().iter().any(|line| line.contains("host fault")), "{:?}", daemon.log());
}
