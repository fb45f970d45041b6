//! The parent's side of compiling: starts the child, waits for its end or its deadline, and interprets that.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use super::child::{NO_FILES, NO_MEMORY, REFUSED, arguments};
use super::{Failure, Task};

/// Maximum length that is read of a child's standard error, in bytes.
const SAID_MAX: u64 = 16 << 10;

/// Beginning of the standard library's message when it aborts for want of memory.
const ABORTS_FOR_MEMORY: &str = "memory allocation of";

/// Compiles a component in a child process, into `artefact`.
pub(super) fn compile(
    program: &Path,
    before: &[OsString],
    task: &Task<'_>,
    artefact: &File,
) -> Result<(), Failure> {
    let component = file_of(task.wasm).map_err(Failure::Files)?;
    let mut said = tempfile::tempfile().map_err(Failure::Files)?;
    let (stdout, stderr) = artefact
        .try_clone()
        .and_then(|artefact| Ok((artefact, said.try_clone()?)))
        .map_err(Failure::Files)?;
    let deadline = Instant::now() + task.budget.time;
    let mut child = Command::new(program)
        .args(before)
        .args(arguments(task))
        .env_clear()
        .current_dir("/")
        .stdin(component)
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .map_err(Failure::NotStarted)?;
    match wait(&mut child, deadline).map_err(Failure::NotStarted)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => {
            let said = text_of(&mut said).map_err(Failure::Files)?;
            Err(failure(status, said))
        }
        None => Err(Failure::TooLong),
    }
}

/// Creates a file with no name that has these bytes, to be read from its beginning.
fn file_of(bytes: &[u8]) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

fn text_of(file: &mut File) -> io::Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(SAID_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// Waits for the end of a child. `None` if it hadn't ended by the deadline, and was killed.
fn wait(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    let ended = pidfd_open(Pid::from_child(child), PidfdFlags::empty())
        .map_err(io::Error::from)
        .and_then(|pidfd| is_ready_by(pidfd.as_fd(), deadline));
    if !matches!(ended, Ok(true)) {
        child.kill()?;
    }
    let status = child.wait()?;
    Ok(ended?.then_some(status))
}

/// Waits until there is something to read. Returns false if there was nothing by the deadline.
fn is_ready_by(file: BorrowedFd<'_>, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match poll(&mut [PollFd::new(&file, PollFlags::IN)], Some(&timespec(left))) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// Interprets a child's exit status, and its standard error.
fn failure(status: ExitStatus, said: String) -> Failure {
    match status.code().and_then(|code| u8::try_from(code).ok()) {
        Some(REFUSED) => return Failure::Refused(said),
        Some(NO_MEMORY) => return Failure::TooMuchMemory,
        Some(NO_FILES) => return Failure::Files(io::Error::other(said)),
        _ => {}
    }
    match status.signal().and_then(Signal::from_named_raw) {
        Some(Signal::XCPU) => Failure::TooLong,
        // An artefact may be no larger than the memory.
        Some(Signal::XFSZ) => Failure::TooMuchMemory,
        // Nobody but the kernel kills it, and that only if there is no memory left: of its own it would have found no more.
        Some(Signal::KILL) => Failure::NoMemoryLeft,
        // Text of a component comes with an exit code alone, so these are the library's own words.
        Some(Signal::ABORT) if said.starts_with(ABORTS_FOR_MEMORY) => Failure::TooMuchMemory,
        _ if said.is_empty() => Failure::Died(status.to_string()),
        _ => Failure::Died(format!("{status}, after saying: {said}")),
    }
}

#[cfg(test)]
mod tests {
    use sandhog_core::budget::Bytes;
    use sandhog_core::compile::CompileBudget;

    use super::*;

    fn task(budget: &CompileBudget) -> Task<'_> {
        Task { wasm: b"wasm", budget, backtrace_lines: true }
    }

    fn after(script: &str, time: Duration) -> (Result<(), Failure>, String) {
        let mut artefact = tempfile::tempfile().expect("a file");
        let budget = CompileBudget { time, memory: Bytes::mib(64), component: Bytes::mib(1) };
        let shell = ["-c".into(), script.into()];
        let result = compile(Path::new("/bin/sh"), &shell, &task(&budget), &artefact);
        (result, text_of(&mut artefact).expect("a file"))
    }

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn the_component_goes_in_and_the_artefact_comes_out() {
        let (result, artefact) = after("cat; echo \" $0 $1 $3\"", LONG);
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(artefact, format!("wasm {} 601 1", 64 << 20));
    }

    #[test]
    fn a_child_has_neither_our_environment_nor_our_files() {
        let ours = tempfile::NamedTempFile::new().expect("a file");
        let (result, seen) = after("cat /proc/$$/environ; /bin/ls -l /proc/$$/fd", LONG);
        assert!(result.is_ok(), "{result:?}");
        let begin = seen.lines().next().expect("it has some files");
        assert!(begin.starts_with("total"), "no variable comes before the list: {begin}");
        assert!(!seen.contains(ours.path().to_str().expect("text")), "{seen}");
    }

    #[test]
    fn each_way_to_end_has_its_name() {
        let ends = |script: &str| after(script, LONG).0.expect_err("no artefact");
        assert!(matches!(ends("echo no >&2; exit 3"), Failure::Refused(said) if said == "no"));
        assert!(matches!(
            ends("echo memory allocation of 9 bytes failed >&2; kill -ABRT $$"),
            Failure::TooMuchMemory
        ));
        assert!(matches!(ends("exit 4"), Failure::TooMuchMemory));
        assert!(
            matches!(ends("echo no space >&2; exit 5"), Failure::Files(error) if error.to_string() == "no space")
        );
        for said in ["memory allocation of 9 bytes failed", "no space (os error 28)", "(os error 12)"] {
            let refused = ends(&format!("echo '{said}' >&2; exit 3"));
            assert!(
                matches!(refused, Failure::Refused(words) if words == said),
                "a component may say that, too"
            );
        }
        assert!(matches!(ends("kill -KILL $$"), Failure::NoMemoryLeft));
        assert!(matches!(ends("kill -XCPU $$"), Failure::TooLong));
        assert!(matches!(ends("kill -SEGV $$"), Failure::Died(how) if how.contains("SIGSEGV")));
        assert!(
            matches!(ends("echo oh >&2; exit 7"), Failure::Died(how) if how.contains('7') && how.contains("oh"))
        );
    }

    #[test]
    fn a_child_that_does_not_end_is_killed_at_its_deadline() {
        // Even one that ignores what can be ignored, and says nothing.
        let (result, _) = after("trap '' TERM INT; while :; do :; done", Duration::from_millis(50));
        assert!(matches!(result, Err(Failure::TooLong)), "{result:?}");
    }

    #[test]
    fn a_program_that_is_not_there_can_not_be_started() {
        let artefact = tempfile::tempfile().expect("a file");
        let result = compile(Path::new("/no/such/program"), &[], &task(&CompileBudget::default()), &artefact);
        assert!(matches!(result, Err(Failure::NotStarted(_))), "{result:?}");
    }
}
