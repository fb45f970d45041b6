//! `sandhog dev` and `run`, as processes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sandhog_guests::{ECHO, TRAP};
use serde_json::{Value, json};

use crate::site::{Site, component};

/// A daemon; killed when this is dropped.
struct Daemon {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
}

impl Daemon {
    fn start(site: &Site, arguments: &[&str]) -> Self {
        Self::of(site.command(arguments))
    }

    fn of(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the command starts");
        let log = BufReader::new(child.stderr.take().expect("it is piped"));
        Self { child, log }
    }

    /// Reads the log up to a line with `text`, and returns what was read. The log ends when the daemon does.
    fn wait_for(&mut self, text: &str) -> String {
        let mut read = String::new();
        while !read.contains(text) {
            let length = self.log.read_line(&mut read).expect("the log is text");
            assert!(length > 0, "the daemon ended without `{text}`:\n{read}");
        }
        read
    }

    fn terminate(&self) {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(sent.expect("kill is there").success());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The command, started by `prlimit` with a limit of its resources.
fn limited(limit: &str, command: &Command) -> Command {
    let mut limited = Command::new("prlimit");
    limited.arg(limit).arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited.current_dir(command.get_current_dir().expect("the site's folder"));
    limited
}

#[test]
fn too_few_open_files_for_its_plugins_are_told_once_with_what_to_raise() {
    let site = Site::new();
    for n in 0..100 {
        site.plugin(&format!("p{n}"), "");
    }
    let mut daemon = Daemon::of(limited("--nofile=64:64", &site.command(&["run"])));
    let said = daemon.wait_for("LimitNOFILE=");
    assert!(
        said.contains("101 plugins") && said.contains("this process may have 64 (RLIMIT_NOFILE)"),
        "{said}"
    );
    assert!(!said.contains("Too many open files"), "it comes first: {said}");
}

#[test]
fn too_little_address_space_is_told_with_what_to_raise() {
    let site = Site::new();
    let output = limited("--as=4294967296", &site.command(&["run"])).output().expect("prlimit is there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("4GiB of address space"), "{said}");
    assert!(said.contains("ulimit -v unlimited"), "{said}");
}

/// A user who isn't the system's administrator.
const NOBODY: u32 = 65534;

/// Root may read any process's memory. So if this is root, the daemon is run by somebody else.
#[test]
fn a_daemon_leaves_no_core_and_its_memory_is_closed_to_its_own_user() {
    let site = Site::new();
    let mut command = site.command(&["run"]);
    let own = fs::metadata("/proc/self").expect("Linux has it").uid();
    let user = if own == 0 { NOBODY } else { own };
    if own == 0 {
        // The program may be where nobody else gets.
        let program = site.path("program");
        fs::copy(command.get_program(), &program).expect("there is room");
        for path in ["", "sandhog.toml", "plugins.d", "plugins.d/echo.wasm", "plugins.d/echo.toml", "program"]
        {
            chown(site.path(path), Some(NOBODY), Some(NOBODY)).expect("this is root");
        }
        let mut as_nobody = Command::new(program);
        as_nobody.arg("run").current_dir(site.path("")).stdin(Stdio::null()).uid(NOBODY).gid(NOBODY);
        as_nobody.env("SANDHOG_CACHE", site.path("cache"));
        command = as_nobody;
    }
    let mut daemon = Daemon::of(command);
    daemon.wait_for("ready");
    let of_daemon = |file: &str| format!("/proc/{}/{file}", daemon.child.id());
    let limits = fs::read_to_string(of_daemon("limits")).expect("it runs");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("Linux has it");
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    let process = fs::metadata(of_daemon("stat")).expect("it runs").uid();
    let memory = fs::metadata(of_daemon("mem")).expect("it runs").uid();
    assert!(memory != user, "its memory belongs to {memory}, its process to {process}");
    // What it needs of `/proc/self` it has, and so has the process that compiles.
    assert!(site.json(&["plugins"])["plugins"][0]["state"] == "serving", "{}", site.json(&["plugins"]));
    daemon.terminate();
    daemon.wait_for("stopped");
}

#[test]
fn dev_makes_what_it_needs_runs_jobs_and_stops_in_good_order() {
    let site = Site::empty();
    let mut first = Daemon::start(&site, &["dev", "."]);
    let said = first.wait_for("ready");
    assert!(said.contains("wrote ./sandhog.toml to start with"), "{said}");
    assert!(said.contains("there are no plugins yet"), "{said}");
    first.terminate();
    assert!(first.child.wait().expect("it ends").success());

    site.write("plugins.d/echo.wasm", &component(ECHO));
    site.plugin("echo", "");
    let mut daemon = Daemon::start(&site, &["dev"]);
    let said = daemon.wait_for("ready");
    assert!(!said.contains("wrote"), "what is there stays as it is: {said}");
    let said = site.run(&["enqueue", "echo.run", "{\"n\": 7}", "--wait"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("succeeded") && said.out.ends_with("{\n  \"n\": 7\n}\n"), "{}", said.out);
    let document = site.json(&["enqueue", "echo.run", "8", "--wait"]);
    assert_eq!((&document["output"]["json"], &document["attempts"]), (&8.into(), &1.into()));
    let id = document["id"].as_str().expect("an id");
    assert_eq!(site.run(&["job", "show", id, "--output"]).out, "8");
    daemon.terminate();
    daemon.wait_for("stopped");
    assert!(daemon.child.wait().expect("it ends").success());
}

#[test]
fn a_daemon_that_was_stopped_leaves_one_file_that_holds_all_jobs() {
    let site = Site::new();
    let mut daemon = Daemon::start(&site, &["run"]);
    daemon.wait_for("ready");
    site.write("jobs.jsonl", &"1\n".repeat(100));
    let said = site.run(&["enqueue", "echo.run", "--bulk", "jobs.jsonl", "--delay", "1h"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(site.run(&["enqueue", "echo.run", "--wait"]).code, 0);
    daemon.terminate();
    daemon.wait_for("stopped");
    assert!(daemon.child.wait().expect("it ends").success());
    for beside in ["sandhog.db-wal", "sandhog.db-shm"] {
        assert!(!site.path(beside).exists(), "{beside} is left");
    }
    let elsewhere = Site::new();
    std::fs::copy(site.path("sandhog.db"), elsewhere.path("sandhog.db")).expect("a copy");
    assert_eq!((elsewhere.count("scheduled"), elsewhere.count("succeeded")), (100, 1));
}

#[test]
fn a_daemon_is_reached_however_long_the_path_of_its_socket_is() {
    let site = Site::new();
    let folder = format!("{}/{}", "x".repeat(120), "y".repeat(120));
    let text = std::fs::read_to_string(site.path("sandhog.toml")).expect("it is there");
    site.write("sandhog.toml", &format!("{text}\n[deploy]\nfolder = \"{folder}\"\n"));
    let mut daemon = Daemon::start(&site, &["run"]);
    daemon.wait_for("ready");
    assert_eq!(site.json(&["plugins"])["plugins"][0]["state"], "serving");
    assert!(site.path(&folder).join("control.sock").exists());
}

#[test]
fn a_job_that_dies_tells_by_its_exit_code_and_can_be_redriven() {
    let site = Site::new();
    site.write("plugins.d/echo.wasm", &component(TRAP));
    site.plugin("echo", "[retry]\nmax_attempts = 1");
    let mut daemon = Daemon::start(&site, &["run", "--log-format", "json"]);
    let ready = daemon.wait_for("ready");
    assert!(ready.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{ready}");
    let said = site.run(&["enqueue", "echo.run", "--wait"]);
    assert!(said.code == 3 && said.out.contains("dead: trapped"), "{said:?}");
    site.write("jobs.jsonl", "1\n2\n3\n");
    let said = site.run(&["enqueue", "echo.run", "--bulk", "jobs.jsonl", "--wait"]);
    said.fails(3, &["3 of 3 jobs did not succeed"]);
    assert_eq!(site.run(&["jobs", "--wait"]).code, 0);
    assert_eq!(site.count("dead"), 4);
    let page = site.json(&["jobs", "--state", "dead"]);
    let id = page["jobs"][0]["id"].as_str().expect("an id");
    assert_eq!(site.json(&["job", "redrive", id])["done"], "redriven");
    assert_eq!(site.run(&["job", "show", id, "--wait"]).code, 3, "it dies again");
    let history = &site.json(&["job", "show", id])["history"];
    let of = |nth: usize| (&history[nth]["attempt"], &history[nth]["reason"]);
    assert_eq!((of(0), of(1)), ((&1.into(), &"trapped".into()), (&1.into(), &"trapped".into())), "{history}");
    assert_eq!(history[0]["daemon"], history[1]["daemon"]);
    assert!(history[0]["daemon"].as_str().is_some_and(|id| id.len() == 26), "{history}");
}

#[test]
fn a_job_ends_by_the_time_in_which_it_has_to_start_and_by_its_deadline() {
    let site = Site::new();
    site.write("plugins.d/echo.wasm", &component(TRAP));
    site.plugin("echo", "[retry]\nbackoff = { type = \"fixed\", base = \"1h\", jitter = \"none\" }");
    let mut daemon = Daemon::start(&site, &["run"]);
    daemon.wait_for("ready");
    let said = site.run(&["enqueue", "nobody.has", "--queue", "later", "--start-within", "300ms", "--wait"]);
    assert!(said.code == 4 && said.out.contains("cancelled: expired"), "{said:?}");
    let said = site.run(&["enqueue", "echo.run", "--deadline", "30m", "--wait"]);
    assert!(
        said.code == 3 && said.out.contains("dead: deadline-exceeded"),
        "an hour's wait is too long: {said:?}"
    );
}

#[test]
fn dev_leaves_a_redis_configuration_to_run() {
    let site = Site::new();
    site.write("sandhog.toml", "[broker]\ntype = \"redis\"\nurl = \"redis://127.0.0.1:1\"\n");
    site.run(&["dev"]).fails(1, &["names a Redis broker", "sandhog run"]);
}

#[test]
fn the_fleet_is_shown_and_the_exit_code_says_whether_anybody_serves() {
    let site = Site::new();
    site.enqueue(&[]);
    let nobody = site.run(&["status"]);
    assert_eq!(nobody.code, 1, "{nobody:?}");
    assert!(nobody.out.contains("nobody serves"), "{nobody:?}");
    let mut daemon = Daemon::start(&site, &["run"]);
    daemon.wait_for("ready");
    // Its first word to the broker is on its way.
    let shown = (0..100).map(|_| site.run(&["--json", "status"])).find(|said| said.code == 0);
    let shown: Value = serde_json::from_str(&shown.expect("it serves").out).expect("one JSON document");
    let of_daemon = &shown["daemons"][0];
    assert_eq!((&shown["serves"], &of_daemon["tenants"]), (&json!(true), &json!(["acme"])));
    assert_eq!(
        (&of_daemon["version"], &of_daemon["plugins"]),
        (&json!(env!("CARGO_PKG_VERSION")), &json!(1))
    );
    assert!(of_daemon["slots"].as_u64() > Some(0) && of_daemon["name"].is_string(), "{shown}");
    let table = site.run(&["status"]);
    assert!(table.out.contains("serving") && table.out.contains("acme"), "{table:?}");
    daemon.terminate();
    daemon.wait_for("stopped");
    daemon.child.wait().expect("it was started");
    assert_eq!(site.run(&["status"]).code, 1, "one that ends says so, and is gone at once");
}

/// Reads words to systemd until one of them is `word`, and returns those before it.
fn hear(systemd: &UnixDatagram, word: &str) -> Vec<String> {
    let (mut before, mut datagram) = (Vec::new(), [0; 1024]);
    loop {
        let length =
            systemd.recv(&mut datagram).unwrap_or_else(|error| panic!("{word}: {error}: {before:?}"));
        let words = String::from_utf8_lossy(&datagram[..length]).into_owned();
        if words.lines().any(|said| said == word) {
            return before;
        }
        before.extend(words.lines().map(str::to_owned));
    }
}

#[test]
fn systemd_hears_when_the_daemon_is_ready_alive_reloading_and_stopping() {
    let site = Site::new();
    let systemd = UnixDatagram::bind(site.path("notify")).expect("a socket");
    systemd.set_read_timeout(Some(Duration::from_secs(60))).expect("a time");
    let mut command = site.command(&["run"]);
    command.env("NOTIFY_SOCKET", site.path("notify")).env("WATCHDOG_USEC", "20000");
    let mut daemon = Daemon::of(command);
    assert_eq!(hear(&systemd, "READY=1"), [""; 0], "it says nothing before");
    hear(&systemd, "WATCHDOG=1");
    hear(&systemd, "WATCHDOG=1");
    let hung_up = Command::new("kill").args(["-HUP", &daemon.child.id().to_string()]).status();
    assert!(hung_up.expect("kill is there").success());
    hear(&systemd, "RELOADING=1");
    hear(&systemd, "READY=1");
    daemon.terminate();
    hear(&systemd, "STOPPING=1");
    daemon.wait_for("stopped");
}
