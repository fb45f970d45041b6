//! Words to systemd: that the daemon is ready, reads its configuration again, stops; and that it is alive.
//!
//! Without systemd (`NOTIFY_SOCKET` isn't set) all of them go nowhere. One that can't be sent is no reason to end: systemd acts by
//! itself on what it doesn't hear.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use sandhog_daemon::vitals::Vitals;
use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

/// Says that jobs and requests are served.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Says that the configuration is being read again. [`ready`] has to follow.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        // Without the time systemd would wait for it in vain.
        Err(error) => tracing::debug!(%error, "systemd can't be told of a reload without the time"),
    }
}

/// Says that the daemon is on its way down.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Feeds systemd's watchdog, if it has one for this process, for as long as the loops that fetch jobs come round.
pub(crate) async fn feed_watchdog(vitals: &Vitals) -> Infallible {
    let Some(patience) = sd_notify::watchdog_enabled() else { return pending().await };
    let mut every = interval(feeding(patience));
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_alive = true;
    loop {
        every.tick().await;
        match (is_alive, vitals.is_alive()) {
            (true, false) => tracing::error!(
                ?patience,
                "no loop that fetches jobs has come round for too long; systemd's watchdog isn't fed any more"
            ),
            (false, true) => tracing::warn!("jobs are fetched again; systemd's watchdog is fed"),
            _ => {}
        }
        is_alive = vitals.is_alive();
        if is_alive {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

/// Returns how often a watchdog of this patience is fed: twice within it, as systemd advises.
fn feeding(patience: Duration) -> Duration {
    (patience / 2).max(Duration::from_millis(1))
}

fn tell(words: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(words) {
        tracing::debug!(%error, ?words, "systemd can't be told");
    }
}
