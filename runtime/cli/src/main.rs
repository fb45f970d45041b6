//! The binary `sandhog`.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::thread;

use anyhow::Context;
use sandhog::{Cli, Exit, LogFormat, LoggedBy, Logging};
use sandhog_daemon::telemetry::log::{FlushLimit, Log, write_field};
use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::debug_fn;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == sandhog_engine::COMPILE) {
        return sandhog_engine::compile_child(arguments);
    }
    let cli = Cli::from_process();
    let console = cli.console();
    // Dropped last, which waits until the log is written.
    let log = match start_logging(&cli.logging()) {
        Ok(log) => log,
        Err(error) => {
            console.complain(&format!("error: {error:#}"));
            return Exit::Failed.into();
        }
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            log.say(&format!("error: can't start the runtime: {error}"));
            return Exit::Failed.into();
        }
    };
    let ended = runtime.block_on(cli.execute());
    // Nothing that still runs, say a guest after a second signal, keeps the process.
    runtime.shutdown_background();
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if let Some(text) = failure.report(console.paint_remarks()) {
                log.say(&text);
            }
            failure.exit.into()
        }
    }
}

/// Creates the runtime, with half as many threads as cores, but at least one. Guests have a thread per core of their own, and
/// leasing, settling and renewing for them takes less than half as much. With more threads than needed, each job wakes several
/// in vain.
fn runtime() -> io::Result<Runtime> {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    Builder::new_multi_thread().worker_threads((cores / 2).max(1)).enable_all().build()
}

/// Starts logging to standard error; standard output is for results.
fn start_logging(logging: &Logging) -> anyhow::Result<Log> {
    let filter = EnvFilter::try_new(&logging.filter)
        .with_context(|| format!("--log-level `{}` is not a level or filter", logging.filter))?;
    let flush_limit = match logging.by {
        LoggedBy::Daemon => FlushLimit::DAEMON,
        LoggedBy::Command => FlushLimit::Unlimited,
    };
    let log = Log::to_stderr(flush_limit).context("can't start to log")?;
    // Errors of the log itself would otherwise be written to standard error in a way that panics if that fails.
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    match logging.format {
        LogFormat::Pretty => subscriber
            .with_ansi(io::stderr().is_terminal())
            .with_target(false)
            .fmt_fields(debug_fn(write_field).delimited(" "))
            .with_writer(log.writer())
            .init(),
        LogFormat::Json => subscriber.json().flatten_event(true).with_writer(log.json_writer()).init(),
    }
    if logging.by == LoggedBy::Daemon {
        log.report_panics();
    }
    Ok(log)
}
