//! The log as an observer of the daemon's events.

use std::fmt;

use sandhog_api::{DeployEvent, DeployEventKind};
use sandhog_core::breaker::Turn;
use sandhog_core::id::{ScheduleName, TenantId};
use sandhog_core::outcome::Outcome;
use sandhog_core::schedule::{Past, What};
use tracing::field::display;

use super::observer::{Event, Observer, Registration, Trouble};

/// Observer that writes what matters to an operator into the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogEvents;

impl Observer for LogEvents {
    fn on(&self, event: &Event<'_>) {
        match *event {
            Event::Leased { tenant, kind, token } => {
                tracing::trace!(%tenant, job = %token.job, %kind, %token, "leased");
            }
            Event::Started { tenant, plugin, job, kind } => {
                tracing::trace!(%tenant, %plugin, %job, %kind, "started");
            }
            Event::Ended { tenant, plugin, job, failure, usage } => {
                let (fuel, memory, wall, cpu) = (usage.fuel.0, usage.memory_peak.0, usage.wall, usage.cpu);
                match failure {
                    None => {
                        tracing::debug!(%tenant, %plugin, %job, fuel, memory, ?wall, ?cpu, "succeeded");
                    }
                    Some(Outcome::HostFault { message }) => {
                        tracing::error!(%tenant, %plugin, %job, %message, "host fault; the job is given back unharmed");
                    }
                    // A guest's failure is no matter for the operator's pager.
                    Some(outcome) => {
                        tracing::info!(%tenant, %plugin, %job, fuel, memory, ?wall, ?cpu, %outcome, "did not succeed");
                    }
                }
            }
            Event::Deferred { tenant, job, after, reason } => {
                tracing::trace!(%tenant, %job, ?after, reason = reason.slug(), "goes back without a run");
            }
            Event::Settled { tenant, token, settlement, plugin: _, reply } => {
                tracing::trace!(%tenant, %token, settlement, ?reply, "settled");
            }
            // Told by the events before it.
            Event::Finished(_) => {}
            Event::LeaseLost { tenant, token } => {
                tracing::warn!(%tenant, job = %token.job, %token, "the lease was lost; whatever this attempt did is dropped");
            }
            Event::Expired { tenant, job } => {
                tracing::warn!(%tenant, %job, "buried: its leases ran out too often, so it seems to kill its daemons");
            }
            Event::FuelUsedUp { tenant, window, consequence } => {
                tracing::info!(%tenant, "the tenant's fuel of this {window} is used up; {consequence}; tenants.{tenant}.fuel sets it");
            }
            Event::BreakerTurned { tenant, breaker, turn: Turn::Opened { until, tally } } => {
                let until = sandhog_api::Time(until);
                tracing::warn!(%tenant, %breaker, %until, "the breaker is open, as {tally}: its jobs wait, and keep their attempts");
            }
            Event::BreakerTurned { tenant, breaker, turn: Turn::Closed } => {
                tracing::info!(%tenant, %breaker, "the breaker is closed: its jobs run");
            }
            Event::Scheduled { tenant, schedule, past } => scheduled(tenant, schedule, past),
            Event::ScheduleRegistered { tenant, schedule, plugin, registration } => match registration {
                Registration::Added => tracing::info!(%tenant, %plugin, %schedule, "schedule added"),
                Registration::Changed => {
                    tracing::info!(%tenant, %plugin, %schedule, "schedule changed; its progress is kept");
                }
                Registration::Removed => {
                    tracing::info!(%tenant, %plugin, %schedule, "schedule removed, as the plugin's file has it no more");
                }
                Registration::Taken => {
                    tracing::warn!(%tenant, %plugin, %schedule, "another plugin or a command has a schedule of this name, which stays; choose another name, or remove that one");
                }
                Registration::TooMany => {
                    tracing::warn!(%tenant, %plugin, %schedule, "the tenant has as many schedules as it may; this one doesn't fire");
                }
            },
            Event::ScheduleUnreadable { tenant, schedule, why } => {
                tracing::error!(%tenant, %schedule, why, "a schedule can't be read, and doesn't fire");
            }
            Event::Deploy(event) => deploy(event),
            Event::BrokerDown { tenant: None, trouble: Trouble::Gone, error, .. } => {
                tracing::error!(%error, "waiting for the broker to be heard again; until then work is found by looking for it");
            }
            Event::BrokerDown { tenant: None, trouble: Trouble::Unusable, error, .. } => {
                tracing::error!(%error, "the broker can't be listened to until this is put right; work is found by looking for it");
            }
            Event::BrokerDown { tenant: Some(tenant), trouble, tenants, error } if is_told(tenants) => {
                match trouble {
                    Trouble::Gone => {
                        tracing::error!(%tenant, tenants, %error, "waiting for the broker; nothing is lost, running jobs go on as long as their leases can be trusted");
                    }
                    Trouble::Unusable => {
                        tracing::error!(%tenant, tenants, %error, "the tenant's jobs wait until this is put right");
                    }
                }
            }
            Event::BrokerDown { tenant: Some(tenant), error, .. } => {
                tracing::debug!(%tenant, %error, "the broker can't be used");
            }
            Event::BrokerUp { tenant: None, after, .. } => {
                tracing::info!(?after, "the broker wakes the daemon again");
            }
            Event::BrokerUp { tenant: Some(tenant), after, tenants_left }
                if tenants_left == 0 || is_told(tenants_left) =>
            {
                tracing::info!(%tenant, tenants_left, ?after, "the broker is back");
            }
            Event::BrokerUp { tenant: Some(tenant), after, .. } => {
                tracing::debug!(%tenant, ?after, "the broker is back");
            }
        }
    }
}

/// A guest's fields as `key=value`, in quotes where there is anything in a key or value that would mislead: a blank, an equals sign,
/// a quote or a control character.
pub(crate) struct LogFields<'a>(&'a [(String, String)]);

impl<'a> LogFields<'a> {
    /// Returns the fields to show, if there are any.
    pub(crate) fn of(fields: &'a [(String, String)]) -> Option<Self> {
        (!fields.is_empty()).then_some(Self(fields))
    }
}

impl fmt::Display for LogFields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |text: &str| {
            !text.is_empty()
                && !text.contains(|c: char| c.is_whitespace() || c.is_control() || "=\"\\".contains(c))
        };
        for (nth, (key, value)) in self.0.iter().enumerate() {
            let gap = if nth == 0 { "" } else { " " };
            match (is_plain(key), is_plain(value)) {
                (true, true) => write!(f, "{gap}{key}={value}")?,
                (true, false) => write!(f, "{gap}{key}={value:?}")?,
                (false, true) => write!(f, "{gap}{key:?}={value}")?,
                (false, false) => write!(f, "{gap}{key:?}={value:?}")?,
            }
        }
        Ok(())
    }
}

/// Whether the log has a line when `tenants` tenants are in trouble: one for each of the first few, then ever fewer.
fn is_told(tenants: usize) -> bool {
    tenants.is_power_of_two()
}

fn scheduled(tenant: &TenantId, schedule: &ScheduleName, past: &Past) {
    let nominal = sandhog_api::Time(past.nominal);
    let job = past.what.job().map(display);
    match past.what {
        What::Fired(_) | What::ByHand(_) | What::Waited(_) => {
            tracing::debug!(%tenant, %schedule, %nominal, job, "scheduled job enqueued");
        }
        What::CaughtUp(_) => {
            tracing::info!(%tenant, %schedule, %nominal, job, "scheduled job enqueued late: no daemon was there");
        }
        What::Skipped => {
            tracing::info!(%tenant, %schedule, %nominal, "scheduled time skipped, as an earlier job isn't finished");
        }
        What::Missed(count) => {
            tracing::warn!(%tenant, %schedule, %nominal, count, "scheduled times missed: no daemon was there");
        }
        What::NoRoom => {
            tracing::warn!(%tenant, %schedule, %nominal, "scheduled time missed: the tenant's queue has no room for its job");
        }
    }
}

fn deploy(event: &DeployEvent) {
    let DeployEvent { what, tenant, plugin, revision, was, message, .. } = event;
    let (tenant, plugin) = (tenant.as_deref().map(display), plugin.as_deref().map(display));
    let (revision, was) = (revision.as_deref().map(display), was.as_deref().map(display));
    let because = message.as_deref();
    match what {
        DeployEventKind::Failed => {
            tracing::warn!(tenant, plugin, because, "deploy failed; what was in force stays");
        }
        DeployEventKind::Rejected => tracing::warn!(because, "reload rejected; nothing was changed"),
        DeployEventKind::RolledBack => {
            tracing::warn!(tenant, plugin, revision, was, because, "deploy: {}", what.slug());
        }
        _ => tracing::info!(tenant, plugin, revision, was, because, "deploy: {}", what.slug()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_a_guest_can_be_told_apart() {
        let shown = |fields: &[(&str, &str)]| {
            let fields: Vec<_> =
                fields.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            LogFields::of(&fields).map(|fields| fields.to_string())
        };
        assert_eq!(shown(&[]), None);
        assert_eq!(shown(&[("attempt", "1"), ("who", "Ann B")]).as_deref(), Some(r#"attempt=1 who="Ann B""#));
        let forged = [("a", "1 b=2"), ("c d", ""), ("e", "\"\n")];
        assert_eq!(shown(&forged).as_deref(), Some(r#"a="1 b=2" "c d"="" e="\"\n""#));
    }

    #[test]
    fn a_broker_that_many_share_makes_few_lines() {
        let told: Vec<usize> = (1..=1000).filter(|tenants| is_told(*tenants)).collect();
        assert_eq!(told, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
    }
}
