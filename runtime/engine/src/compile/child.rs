//! The child's side of compiling: bounds its process, then compiles the component on its standard input.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::panic;
use std::process::ExitCode;
use std::thread;

use rustix::process::{Resource, Rlimit, Signal, getppid, setrlimit};

use super::{NICE, NoArtefact, Task, confine, on_threads};
use crate::priority;
use crate::settings::compiling_engine;

/// First argument by which a program is told to be the child: see [`compile_child`].
pub const COMPILE: &str = "compile-a-component";

/// Exit codes of the child, by why there is no artefact. The reason is on its standard error, and may be in the words of the
/// component: nothing is inferred from those.
pub(super) const REFUSED: u8 = 3;
pub(super) const NO_MEMORY: u8 = 4;
pub(super) const NO_FILES: u8 = 5;

/// Arguments that tell the child its budget, its parent and its task: memory in bytes, whole seconds, the parent's process id,
/// and 1 for an engine with lines in its backtraces, else 0.
pub(super) fn arguments(task: &Task<'_>) -> [String; 4] {
    let seconds = task.budget.time.as_secs().saturating_add(1);
    let (memory, lines) = (task.budget.memory.0, u64::from(task.backtrace_lines));
    [memory, seconds, u64::from(std::process::id()), lines].map(|number| number.to_string())
}

/// Compiles the component on standard input to standard output, in a process that is there for nothing else, bounded
/// by what [`Compiler`](super::Compiler) put behind its own arguments. The process is to exit with what this returns.
#[must_use]
pub fn compile_child(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    // A panic's message is part of the refusal.
    panic::set_hook(Box::new(|_| {}));
    match bound(arguments).and_then(compile) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let (code, reason) = match why {
                NoArtefact::Refused(reason) => (REFUSED, reason),
                NoArtefact::NoMemory => (NO_MEMORY, String::new()),
                NoArtefact::Files(error) => (NO_FILES, error.to_string()),
            };
            // Nobody is left to be told if this fails; the exit code says enough.
            let _ = io::stderr().write_all(reason.as_bytes());
            ExitCode::from(code)
        }
    }
}

/// Bounds this process for the rest of its life. Returns whether the artefact is for an engine with lines in its backtraces.
fn bound(arguments: impl Iterator<Item = OsString>) -> Result<bool, NoArtefact> {
    let numbers: Vec<u64> = arguments.filter_map(|argument| argument.to_str()?.parse().ok()).collect();
    let [memory, seconds, parent, lines] = numbers[..] else {
        return Err(NoArtefact::Refused("this command is for the daemon's own use".to_owned()));
    };
    priority::lower(NICE);
    // When the machine itself runs out of memory, this process goes rather than its parent. A kernel that won't have
    // it chooses by size.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let processors = thread::available_parallelism().map_or(1, |n| n.get() as u64);
    // Each processor can be busy for all of the time that the parent waits.
    let limits = [
        (Resource::Data, memory),
        (Resource::Cpu, seconds.saturating_mul(processors)),
        (Resource::Fsize, memory),
        (Resource::Core, 0),
    ];
    for (resource, most) in limits {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
            .map_err(|error| NoArtefact::Refused(format!("can't limit {resource:?} to {most}: {error}")))?;
    }
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| NoArtefact::Refused(format!("can't be bound to the parent: {error}")))?;
    // If the parent has ended before that, nobody is left to end this process.
    if getppid().is_none_or(|now| u64::from(now.as_raw_nonzero().get().unsigned_abs()) != parent) {
        return Err(NoArtefact::Refused("the parent has ended".to_owned()));
    }
    confine::confine().map_err(NoArtefact::Refused)?;
    Ok(lines == 1)
}

fn compile(backtrace_lines: bool) -> Result<(), NoArtefact> {
    let mut wasm = Vec::new();
    io::stdin().read_to_end(&mut wasm).map_err(NoArtefact::Files)?;
    let engine = compiling_engine(backtrace_lines).map_err(|error| NoArtefact::of(&error))?;
    let artefact = on_threads(&engine, &wasm)?;
    let out = io::stdout().as_fd().try_clone_to_owned().map_err(NoArtefact::Files)?;
    fs::File::from(out).write_all(&artefact).map_err(NoArtefact::Files)
}
