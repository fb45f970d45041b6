//! The disk is full: what can't be kept is refused, what was acknowledged isn't lost, and all goes on when there is room.

use std::fs;

use sandhog_core::job::State;
use sandhog_tests::{Backend, Daemon, Site, SmallDisk, component, with_section};
use serde_json::Value;

const SIZE: &str = "24m";

/// Half of what a handler of these sites may be given: a handful of them make a file grow.
const PAYLOAD: usize = 512 << 10;

/// More of them than there is room for.
const JOBS_MOST: usize = 100;

/// A site with something of it on a small disk: what the configuration says instead, and the disk.
fn on_small_disk(site: &Site, was: &str, is: &str) -> Option<SmallDisk> {
    let disk = SmallDisk::mount(&site.path().join("small"), SIZE)?;
    let text = fs::read_to_string(site.config()).expect("the site's file");
    assert!(text.contains(was), "{text}");
    site.write("sandhog.toml", text.replace(was, is).as_bytes());
    Some(disk)
}

/// Enqueues a job by the command, as somebody on that machine would. Its id, or why it was refused.
fn enqueue(site: &Site, disk: &SmallDisk, payload: &str) -> Result<String, String> {
    let arguments = ["--json", "enqueue", "hog.echo", "--raw", "--file", payload];
    let output = disk.sandhog(site).args(arguments).output().expect("the command can be started");
    if output.status.success() {
        let enqueued: Value = serde_json::from_slice(&output.stdout).expect("JSON on standard output");
        Ok(enqueued["ids"][0].as_str().expect("an id").to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
fn a_full_disk_refuses_jobs_loses_none_and_the_daemon_goes_on_when_there_is_room() {
    let site = Site::new(Backend::Embedded, "").with_hog("acme", "[limits]\npayload = \"1MiB\"");
    let Some(disk) = on_small_disk(&site, "\"jobs.db\"", "\"small/jobs.db\"") else { return };
    site.write("payload", &vec![b'x'; PAYLOAD]);
    let payload = site.path().join("payload").display().to_string();
    let mut daemon = Daemon::start_with(disk.sandhog(&site));

    let mut acknowledged = vec![enqueue(&site, &disk, &payload).expect("there is room")];
    disk.fill();
    let refused = (0..JOBS_MOST).find_map(|_| match enqueue(&site, &disk, &payload) {
        Ok(id) => {
            acknowledged.push(id);
            None
        }
        Err(why) => Some(why),
    });
    let refused = refused.expect("there is no room for so many");
    assert!(refused.contains("disk is full"), "it says why: {refused}");

    disk.empty();
    acknowledged.push(enqueue(&site, &disk, &payload).expect("there is room again"));
    for id in &acknowledged {
        let arguments = ["--json", "job", "show", id, "--wait", "--timeout", "2m"];
        let output = disk.sandhog(&site).args(arguments).output().expect("the command can be started");
        let job: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        assert_eq!(
            job["state"],
            State::Succeeded.slug(),
            "{id}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    daemon.signal("TERM");
    assert!(daemon.wait().success(), "the same daemon was there all the time");
}

#[test]
fn code_that_can_not_be_kept_in_the_cache_is_compiled_all_the_same() {
    let site = Site::new(Backend::Embedded, "");
    let hog = fs::read(component("hog")).expect("it was built");
    site.plugin("hog", &with_section(&hog, "disk"), &["hog.echo"], "");
    let cache = component("hog").with_file_name("sandhog-test-cache");
    let small = site.path().join("small/cache");
    let Some(disk) = on_small_disk(&site, &cache.display().to_string(), &small.display().to_string()) else {
        return;
    };
    disk.fill();
    let mut daemon = Daemon::start_with(disk.sandhog(&site));
    daemon.has_said("can't be kept in the cache");
    assert_eq!(site.json(&["enqueue", "hog.echo", "1", "--wait"])["state"], State::Succeeded.slug());

    // The next one has room, and is kept.
    disk.empty();
    site.component("hog", &with_section(&hog, "more"));
    assert!(site.sandhog(&["reload"]).status.success());
    let kept = fs::read_dir(disk.path().join("cache")).expect("it is there");
    assert!(kept.count() > 0, "what there is room for is kept");
}
