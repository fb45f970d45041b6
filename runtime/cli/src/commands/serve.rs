//! `sandhog serve`: serves the interface over the network in a process that runs no jobs.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use clap::Args;
use sandhog_broker::Served;
use sandhog_config::{Config, load_to_serve};
use sandhog_daemon::clock::Clock;
use sandhog_daemon::http::Server;
use sandhog_daemon::service::Service;
use sandhog_daemon::shutdown::Shutdown;
use sandhog_daemon::telemetry::metrics::Metrics;
use sandhog_daemon::telemetry::metrics::measured::Measured;
use sandhog_daemon::vitals::{self, Vitals};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;

use crate::commands::daemon::{Log, Signals};
use crate::commands::notify;
use crate::exit::{Exit, Failure};
use crate::{LogFormat, LoggedBy, Logging};

/// Serve the interface over the network in a process that runs no jobs, so that the way in and the work are apart
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct Serve {
    #[command(flatten)]
    log: Log,
    /// For whom to log, on standard error
    #[arg(long, value_name = "FORMAT", default_value = "pretty")]
    log_format: LogFormat,
}

const NOTES: &str = "\
It listens as [http] of the daemon's file says, and needs the broker and nothing else: no components, no secrets. What plugins
and deploys are about is for daemons to answer. The configuration is read again when it has changed, or on SIGHUP.";

impl Serve {
    pub(crate) fn logging(&self) -> Logging {
        Logging { filter: self.log.log_level.clone(), format: self.log_format, by: LoggedBy::Daemon }
    }

    pub(crate) async fn execute(self, path: &Path) -> Result<Exit, Failure> {
        let config = load_to_serve(path)?;
        let Some(http) = config.http.clone() else {
            return Err(Failure::new(format!(
                "{} has no [http], so there is nothing to serve",
                path.display()
            ))
            .help("add it, such as: [http] with listen = \"127.0.0.1:7070\""));
        };
        let unheard = |cause| Failure::io("listen for signals", &cause);
        let mut signals = Signals::new().map_err(unheard)?;
        let mut hangups = signal(SignalKind::hangup()).map_err(unheard)?;
        let (in_force, followed) = watch::channel(Arc::new(config.clone()));
        let (mut told, shutdown) = (None, Shutdown::default());
        let metrics = Metrics::new(Clock::system().now(), 0);
        let server = Server::start(&config, &http, |broker| {
            told = Some(Arc::clone(&broker));
            let broker = Measured::new(broker, Arc::clone(&metrics));
            Service::following(followed, broker).with_metrics(metrics)
        });
        let server = server.await.map_err(|error| Failure::new(error.to_string()))?;
        let vitals = Vitals::of_this_machine(Clock::system());
        let mut roll_call = JoinSet::new();
        if let Some(broker) = told.clone() {
            let (vitals, phase) = (Arc::clone(&vitals), shutdown.follow());
            let about = || (0, Served::default());
            roll_call.spawn(async move { vitals::roll_call(&*broker, &vitals, &phase, about).await });
        }
        tracing::info!("ready");
        notify::ready();
        let mut feeding = pin!(notify::feed_watchdog(&vitals));
        loop {
            let every = in_force.borrow().deploy.look_every;
            let is_asked_for = tokio::select! {
                name = signals.next() => {
                    tracing::info!(signal = name, "stopping");
                    break;
                }
                never = &mut feeding => match never {},
                _ = hangups.recv() => true,
                () = sleep(every) => false,
            };
            if is_asked_for {
                notify::reloading();
            }
            reload(path.to_owned(), &in_force).await;
            if is_asked_for {
                notify::ready();
            }
        }
        notify::stopping();
        server.drain();
        drop(roll_call);
        if let Some(broker) = &told {
            vitals::leave(&**broker, &vitals).await;
        }
        server.stop().await;
        tracing::info!("stopped");
        Ok(Exit::Ok)
    }
}

/// Reads the configuration again, and puts it into force if it is right and another one.
async fn reload(path: PathBuf, in_force: &watch::Sender<Arc<Config>>) {
    let read = match spawn_blocking(move || load_to_serve(&path)).await {
        Ok(read) => read,
        Err(panic) => {
            tracing::error!(%panic, "the configuration can't be read");
            return;
        }
    };
    match read {
        Ok(config) => {
            in_force.send_if_modified(|before| {
                let differs = **before != config;
                if differs {
                    tracing::info!("the configuration has changed");
                    *before = Arc::new(config);
                }
                differs
            });
        }
        Err(problems) => {
            tracing::warn!(problems = %problems, "the configuration is wrong; the one before it stays in force")
        }
    }
}
