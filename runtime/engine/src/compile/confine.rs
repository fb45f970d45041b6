//! Confinement of a process that compiles: it is left with memory, threads, and the files that it has open.
//!
//! A component is an attack on the compiler, and a compiler that is taken over would have all that its user may do. So before
//! it sees a byte, it gives up the rest: with Landlock, every file and every port, where the kernel has that (5.13 and
//! later); with seccomp, all system calls but those in [`ALLOWED`]. Others fail as not permitted.

use std::collections::BTreeMap;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetError,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// System calls that compiling takes: reading and writing what is open, memory, threads and what they wait by, clocks, and its
/// end. Those that aren't there on all architectures are in [`ALLOWED_OF_OLD`].
const ALLOWED: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_ftruncate,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getpriority,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_prctl,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_setpriority,
    libc::SYS_sigaltstack,
    libc::SYS_statx,
    libc::SYS_tgkill,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Allowed system calls of architectures that have had them from the start.
#[cfg(target_arch = "x86_64")]
const ALLOWED_OF_OLD: &[i64] = &[libc::SYS_poll, libc::SYS_time];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_OF_OLD: &[i64] = &[libc::SYS_ppoll];

/// Confines this thread, and those that it starts from now on, for the rest of their lives.
///
/// # Errors
/// The kernel can't; the text says what.
pub(super) fn confine() -> Result<(), String> {
    give_up_files().map_err(|error| format!("can't give up files by landlock: {error}"))?;
    give_up_system_calls().map_err(|error| format!("can't give up system calls by seccomp: {error}"))
}

/// Gives up access to every file and port, as far as the kernel knows of such access.
fn give_up_files() -> Result<(), RulesetError> {
    let abi = ABI::V5;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .create()?
        .restrict_self()?;
    Ok(())
}

fn give_up_system_calls() -> Result<(), seccompiler::Error> {
    let allowed = ALLOWED.iter().chain(ALLOWED_OF_OLD).map(|call| (*call, Vec::new()));
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let rules: BTreeMap<_, _> = allowed.collect();
    let filter =
        SeccompFilter::new(rules, refused, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?;
    seccompiler::apply_filter(&BpfProgram::try_from(filter)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::io::{self, ErrorKind, Read, Seek, Write};
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;
    use std::thread;

    use crate::compile::on_threads;
    use crate::settings::compiling_engine;

    /// Does something on a thread of its own that was confined by `give_up` first, with a file that it had open.
    fn confined<T: Send + 'static>(
        give_up: impl FnOnce() -> Result<(), String> + Send + 'static,
        then: impl FnOnce(File) -> T + Send + 'static,
    ) -> T {
        let open = tempfile::tempfile().expect("a file");
        let confined = thread::spawn(move || {
            give_up().expect("this kernel can");
            then(open)
        });
        confined.join().expect("it doesn't panic")
    }

    #[test]
    fn what_is_confined_reaches_nothing_and_can_still_compile() {
        let folder = tempfile::tempdir().expect("a folder");
        let (there, new) = (folder.path().join("there"), folder.path().join("new"));
        fs::write(&there, "hunter2").expect("ours");
        let kinds = confined(confine, move |mut open| {
            let engine = compiling_engine(false).expect("it can be made");
            let artefact = on_threads(&engine, b"(component)").expect("it compiles");
            open.write_all(&artefact).expect("it was open");
            open.rewind().expect("it was open");
            let mut read = Vec::new();
            open.read_to_end(&mut read).expect("it was open");
            assert_eq!(read, artefact);
            let parent = rustix::process::getppid();
            let done: [(&str, io::Result<()>); 9] = [
                ("read a file", fs::read(&there).map(drop)),
                ("list a folder", fs::read_dir("/").map(drop)),
                ("make a file", File::create(&new).map(drop)),
                ("remove a file", fs::remove_file(&there)),
                ("listen", TcpListener::bind("127.0.0.1:0").map(drop)),
                ("send", UdpSocket::bind("127.0.0.1:0").map(drop)),
                ("speak to a neighbour", UnixDatagram::unbound().map(drop)),
                ("start a program", Command::new("/bin/true").status().map(drop)),
                (
                    "signal its parent",
                    parent.map_or(Ok(()), |parent| {
                        rustix::process::test_kill_process(parent).map_err(io::Error::from)
                    }),
                ),
            ];
            done.map(|(what, result)| (what, result.map_err(|error| error.kind())))
        });
        for (what, result) in kinds {
            assert_eq!(result, Err(ErrorKind::PermissionDenied), "{what}");
        }
    }

    #[test]
    fn files_are_out_of_reach_by_landlock_alone() {
        let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        if ruleset.handle_access(AccessFs::from_all(ABI::V1)).is_err() {
            // The kernel has no Landlock.
            return;
        }
        let result = confined(
            || give_up_files().map_err(|error| error.to_string()),
            |_| fs::read("/proc/self/status").map_err(|error| error.kind()),
        );
        assert_eq!(result, Err(ErrorKind::PermissionDenied));
    }
}
