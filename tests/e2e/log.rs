//! A log that can't be written costs log lines, and nothing else.

use std::fs::File;
use std::io::{self, BufRead, BufReader, PipeReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};

use sandhog_core::job::{NewJob, State};
use sandhog_core::reason::Reason;
use sandhog_core::text::is_unsafe;
use sandhog_tests::{Backend, Fsync, Site, all_final, binary, finished, hog_job, tenant};
use serde_json::{Value, json};

/// `sandhog run` with a log that this process may or may not read; killed when this is dropped.
struct Unheard(Child);

impl Unheard {
    fn start(site: &Site, options: &[&str], stderr: impl Into<Stdio>) -> Self {
        let mut command = Command::new(binary());
        command.arg("--config").arg(site.config()).arg("run").args(options);
        Self(command.stdout(Stdio::null()).stderr(stderr).spawn().expect("the daemon can be started"))
    }

    /// Tells it to stop, and waits until it has.
    fn stop(mut self) -> ExitStatus {
        let sent = Command::new("kill").arg(self.0.id().to_string()).status();
        assert!(sent.expect("kill is there").success(), "the daemon is gone");
        self.0.wait().expect("a child can be waited for")
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        // It may have ended already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Reads a log up to a line that has `text` in it.
fn read_to(log: &mut BufReader<PipeReader>, text: &str) -> String {
    log.lines().map(|line| line.expect("text")).find(|line| line.contains(text)).expect("the log goes on")
}

/// Jobs that log several MiB together.
fn talkative(count: u64) -> Vec<NewJob> {
    (0..count).map(|_| hog_job("hog.log", r#"{"lines": 1000}"#)).collect()
}

/// A job that fails, which is logged, ends with its own reason at its first attempt.
async fn fails_as_it_should(site: &Site) {
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let job = hog_job("hog.fail", "\"permanent\"");
    broker.enqueue(&acme, std::slice::from_ref(&job)).await.expect("the broker is up");
    let record = finished(&*broker, &acme, job.id).await;
    assert_eq!(
        (record.state, record.reason, record.attempts, record.expiries),
        (State::Dead, Some(Reason::FailedPermanently), 1, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_gone_costs_no_job_and_no_daemon() {
    for backend in [Backend::Embedded, Backend::Redis(Fsync::EverySecond)] {
        let mut site = Site::new(backend, "").with_hog("acme", "");
        let (reader, writer) = io::pipe().expect("a pipe");
        let daemon = Unheard::start(&site, &["--log-level", "debug"], writer);
        let mut log = BufReader::new(reader);
        read_to(&mut log, "ready");
        drop(log);
        fails_as_it_should(&site).await;
        if backend != Backend::Embedded {
            // Loops that wait for the broker say so.
            site.redis().restart();
            fails_as_it_should(&site).await;
        }
        assert_eq!(daemon.stop().code(), Some(0), "{backend:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_for_the_log_costs_no_job_and_no_daemon() {
    let site = Site::new(Backend::Embedded, "").with_hog("acme", "");
    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
    let daemon = Unheard::start(&site, &[], full);
    fails_as_it_should(&site).await;
    assert_eq!(daemon.stop().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_holds_up_nothing_and_tells_later_what_was_lost() {
    const JOBS: u64 = 40;
    let site = Site::new(Backend::Embedded, "").with_hog("acme", "");
    let (reader, writer) = io::pipe().expect("a pipe");
    let daemon = Unheard::start(&site, &[], writer);
    let (broker, acme) = (site.broker().await, tenant("acme"));
    // Several times what fits into the pipe and into the daemon's queue.
    broker.enqueue(&acme, &talkative(JOBS)).await.expect("the broker is up");
    assert_eq!(all_final(&*broker, &acme).await[State::Succeeded], JOBS);
    fails_as_it_should(&site).await;

    // Somebody reads it after all.
    let mut log = BufReader::new(reader);
    let told = read_to(&mut log, "log lines were lost");
    assert!(told.contains("WARN") && told.contains("lost="), "{told}");

    // Nobody reads it again, and it has to end all the same.
    broker.enqueue(&acme, &talkative(JOBS)).await.expect("the broker is up");
    all_final(&*broker, &acme).await;
    assert_eq!(daemon.stop().code(), Some(0));
}

/// What a guest says that wants to be taken for somebody else: it ends lines, commands terminals, and turns text around.
const HOSTILE: &str =
    "quiet\n2026-01-01T00:00:00Z ERROR all leases are lost\r\u{1b}[2J\u{9b}31m\u{7f}\u{202e}\u{2066}\u{2028}";

fn commands(text: &str) -> Option<char> {
    text.chars().find(|c| is_unsafe(*c) && *c != '\n' && *c != '\t')
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_says_forges_no_line_and_commands_no_terminal() {
    for format in ["pretty", "json"] {
        let site = Site::new(Backend::Embedded, "").with_hog("acme", "[retry]\nmax_attempts = 1");
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let daemon = Unheard::start(&site, &["--log-format", format, "--log-level", "debug"], writer);
        let (broker, acme) = (site.broker().await, tenant("acme"));
        let jobs = [
            hog_job("hog.note", &json!({"text": HOSTILE, "fail": true}).to_string()),
            hog_job("hog.note", &json!({"text": HOSTILE}).to_string()),
            hog_job("hog.panic", &json!({"message": HOSTILE}).to_string()),
        ];
        broker.enqueue(&acme, &jobs).await.expect("the broker is up");
        for job in &jobs {
            finished(&*broker, &acme, job.id).await;
        }
        let ids = jobs.each_ref().map(|job| job.id.to_string());
        let (turned, label) = ("\u{202e}ann", "of=\u{202e}ann");
        let looks = [
            // What people say is text of theirs as well.
            vec!["pause", "--queue", "none", "--note", HOSTILE, "--by", HOSTILE],
            vec!["holds"],
            vec!["schedule", "add", "daily", "--kind", "hog.note", "--every", "1d"],
            vec!["schedule", "pause", "daily", "--note", HOSTILE, "--by", HOSTILE],
            vec!["schedule", "show", "daily"],
            vec!["schedules"],
            vec!["enqueue", "hog.note", "{}", "--queue", "none", "--group", turned, "--label", label],
            vec!["jobs", "--group", turned],
            vec!["events"],
            vec!["usage"],
            vec!["jobs"],
            vec!["jobs", "--state", "dead"],
            vec!["job", &ids[0]],
            vec!["job", &ids[1]],
            vec!["job", &ids[2]],
            vec!["plugins"],
            vec!["reload"],
        ];
        for look in looks {
            for form in [&[][..], &["--json"]] {
                let shown = site.sandhog(&[form, &look].concat());
                for text in [&shown.stdout, &shown.stderr] {
                    let text = String::from_utf8_lossy(text);
                    assert_eq!(commands(&text), None, "{form:?} {look:?}: {text:?}");
                    let forged = text.lines().find(|line| line.starts_with("2026-01-01T00:00:00Z ERROR"));
                    assert_eq!(forged, None, "{form:?} {look:?}: {text}");
                }
            }
        }
        assert_eq!(daemon.stop().code(), Some(0));
        let mut log = String::new();
        reader.read_to_string(&mut log).expect("text");
        assert!(log.contains("all leases are lost"), "what it says is logged: {log}");
        assert_eq!(commands(&log), None, "{log:?}");
        for line in log.lines() {
            match format {
                "json" => drop(serde_json::from_str::<Value>(line).expect("each line is a document")),
                _ => assert!(!line.starts_with("2026-01-01T00:00:00Z ERROR"), "{line}"),
            }
        }
    }
}
