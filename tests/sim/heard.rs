//! What a daemon's observer hears, held against what the broker has told that daemon.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};

use sandhog_broker::Settle;
use sandhog_core::attempt::SettleReply;
use sandhog_core::id::{JobId, LeaseToken, TenantId};
use sandhog_daemon::telemetry::{Event, Observer};

/// An answer of the broker to a settlement: of whose lease, what was to be recorded, and the answer.
type Answer = (TenantId, LeaseToken, &'static str, SettleReply);

/// What one daemon was told, and what was heard of it.
#[derive(Default)]
pub(crate) struct Heard(Mutex<Noted>);

#[derive(Default)]
struct Noted {
    told: Vec<Answer>,
    settled: Vec<Answer>,
    leased: HashSet<(TenantId, LeaseToken)>,
    /// Handlers that are at work, by job.
    running: HashMap<(TenantId, JobId), u32>,
}

impl Heard {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().expect("one thread")
    }

    /// Takes in what the broker has told the daemon.
    pub(crate) fn tell(&self, tenant: &TenantId, settlements: &[Settle], replies: &[SettleReply]) {
        let answers = settlements
            .iter()
            .zip(replies)
            .map(|(settle, reply)| (tenant.clone(), settle.token, settle.settlement.slug(), reply.clone()));
        self.noted().told.extend(answers);
    }

    /// Invariant 12. Says how many settlements were heard of.
    pub(crate) fn check(&self) -> usize {
        let noted = self.noted();
        assert_eq!(noted.settled, noted.told, "what is observed is what was settled");
        noted.settled.len()
    }
}

impl Observer for Heard {
    fn on(&self, event: &Event<'_>) {
        let mut noted = self.noted();
        match *event {
            Event::Leased { tenant, token, .. } => {
                noted.leased.insert((tenant.clone(), token));
            }
            Event::Started { tenant, job, .. } => {
                let is_leased = noted.leased.iter().any(|(of, token)| (of, token.job) == (tenant, job));
                assert!(is_leased, "{job} was started without a lease");
                *noted.running.entry((tenant.clone(), job)).or_default() += 1;
            }
            Event::Ended { tenant, job, .. } => {
                let running = noted.running.get_mut(&(tenant.clone(), job)).filter(|running| **running > 0);
                *running.expect("what ends was started") -= 1;
            }
            Event::Settled { tenant, token, settlement, plugin, reply } => {
                assert!(noted.leased.contains(&(tenant.clone(), token)), "{token} was never leased");
                assert!(settlement != "succeed" || plugin.is_some(), "something has run");
                noted.settled.push((tenant.clone(), token, settlement, reply.clone()));
            }
            Event::Finished(_)
            | Event::Deferred { .. }
            | Event::LeaseLost { .. }
            | Event::Expired { .. }
            | Event::BreakerTurned { .. }
            | Event::FuelUsedUp { .. }
            | Event::Deploy(_)
            | Event::BrokerDown { .. }
            | Event::BrokerUp { .. }
            | Event::Scheduled { .. }
            | Event::ScheduleRegistered { .. }
            | Event::ScheduleUnreadable { .. } => {}
        }
    }
}
