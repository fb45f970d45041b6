//! The binary `sandhog`.

use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::thread;

use anyhow::Context;
use sandhog::cli::{Cli, Exit, LogFormat, Logging};
use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == sandhog_engine::COMPILE) {
        return sandhog_engine::compile_child(arguments);
    }
    let cli = Cli::from_process();
    let console = cli.console();
    if let Err(error) = start_logging(&cli.logging()) {
        console.complain(&format!("error: {error:#}"));
        return Exit::Failed.into();
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            console.complain(&format!("error: can't start the runtime: {error}"));
            return Exit::Failed.into();
        }
    };
    let ended = runtime.block_on(cli.execute());
    // Whatever still runs, say a guest after a second signal, doesn't keep the process.
    runtime.shutdown_background();
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if let Some(text) = failure.report(console.paint_remarks()) {
                console.complain(&text);
            }
            failure.exit.into()
        }
    }
}

/// Guests have a thread a core of their own, and what leases, settles and renews for them takes less than half as much. Of
/// more threads than needed, each job wakes several in vain.
fn runtime() -> io::Result<Runtime> {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    Builder::new_multi_thread().worker_threads((cores / 2).max(1)).enable_all().build()
}

/// Everything that is logged goes to standard error; standard output is for results.
fn start_logging(logging: &Logging) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&logging.filter)
        .with_context(|| format!("--log-level `{}` is not a level or filter", logging.filter))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match logging.format {
        LogFormat::Pretty => log.with_ansi(io::stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}
