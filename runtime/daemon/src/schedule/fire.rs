//! Enqueueing of what is due. The janitor calls this when a sweep tells that a schedule is due.

use std::time::Duration;

use sandhog_broker::{Broker, Error, JobAction, Result, ScheduleQuery, ScheduleWritten, StoredSchedule};
use sandhog_core::id::{JobId, TenantId};
use sandhog_core::quota::QueueBounds;
use sandhog_core::schedule::Room;
use sandhog_core::time::Timestamp;

use super::step::{self, Known};
use crate::telemetry::{Event, Observer};

/// Time after which schedules that can't be read are tried again. Meanwhile, they don't keep the others from firing.
const UNREADABLE_REST: Duration = Duration::from_secs(10);

/// Does what is due of a tenant's schedules. Returns the time after which to look again: zero if the store tells best.
///
/// Another daemon may do the same at the same time: each step is done by the one that is faster. The other's write is refused.
pub(crate) async fn fire_due(
    broker: &dyn Broker,
    observer: &dyn Observer,
    tenant: &TenantId,
    bounds: &QueueBounds,
) -> Result<Duration> {
    let due = broker.schedules(tenant, ScheduleQuery::Due).await?;
    let mut is_stuck = false;
    for stored in &due.schedules {
        is_stuck |= !fire(broker, observer, tenant, bounds, stored, due.now).await?;
    }
    if is_stuck { rest(broker, tenant).await } else { Ok(Duration::ZERO) }
}

/// Does what is due of one schedule. Returns whether that is done now, by whomever.
async fn fire(
    broker: &dyn Broker,
    observer: &dyn Observer,
    tenant: &TenantId,
    bounds: &QueueBounds,
    stored: &StoredSchedule,
    now: Timestamp,
) -> Result<bool> {
    let Known { version, record } = match Known::read(stored) {
        Ok(known) => known,
        Err(why) => {
            observer.on(&Event::ScheduleUnreadable { tenant, schedule: &stored.name, why: &why });
            return Ok(false);
        }
    };
    let mut unfinished = Vec::new();
    for job in record.open_jobs() {
        if is_unfinished(broker, tenant, job).await? {
            unfinished.push(job);
        }
    }
    let mut decision = record.due(now, &unfinished, Room::There);
    if !decision.cancel.is_empty() {
        broker.act(tenant, JobAction::Cancel, &decision.cancel).await?;
    }
    let mut written = step::write(broker, tenant, Some(version), &decision, bounds, now).await?;
    if let ScheduleWritten::Refused(_) = written {
        decision = record.due(now, &unfinished, Room::None);
        written = step::write(broker, tenant, Some(version), &decision, bounds, now).await?;
    }
    match written {
        ScheduleWritten::Done => {
            for past in &decision.told {
                observer.on(&Event::Scheduled { tenant, schedule: &stored.name, past });
            }
            Ok(true)
        }
        ScheduleWritten::Stale => Ok(true),
        ScheduleWritten::TooMany | ScheduleWritten::Refused(_) => Ok(false),
    }
}

/// A job that can't be read by this version is taken for finished, as it might never be otherwise.
async fn is_unfinished(broker: &dyn Broker, tenant: &TenantId, job: JobId) -> Result<bool> {
    match broker.job(tenant, job).await {
        Ok(found) => Ok(found.is_some_and(|job| !job.state.is_final())),
        Err(Error::Corrupt { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns the time until the first schedule is due that isn't now, as those that are can't be read.
async fn rest(broker: &dyn Broker, tenant: &TenantId) -> Result<Duration> {
    let (now, all) = step::all(broker, tenant).await?;
    let later = all.iter().filter_map(|schedule| schedule.due_at).filter(|due| *due > now).min();
    Ok(later.map_or(UNREADABLE_REST, |due| due.since(now).min(UNREADABLE_REST)))
}
