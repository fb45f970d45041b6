//! Steps of a schedule: its record is read, what is to be done is decided, and the new record is written with the jobs, if
//! nobody was faster.

use sandhog_broker::{
    Broker, Result, ScheduleQuery, ScheduleRecord, ScheduleWrite, ScheduleWritten, StoredSchedule,
};
use sandhog_core::id::{ScheduleName, TenantId};
use sandhog_core::quota::QueueBounds;
use sandhog_core::schedule::{Decision, Record};
use sandhog_core::time::Timestamp;

/// Schedule as it is stored: its record and the version of it.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) version: u64,
    pub(crate) record: Record,
}

impl Known {
    /// Reads a stored record.
    ///
    /// # Errors
    /// Reason why it can't be read, as text for people.
    pub(crate) fn read(stored: &StoredSchedule) -> std::result::Result<Self, String> {
        let bytes = stored.record.as_ref().map_err(Clone::clone)?;
        let record = Record::from_bytes(bytes).map_err(|error| error.to_string())?;
        Ok(Self { version: stored.version, record })
    }
}

/// Looks up a schedule. Returns the time of the store, and the schedule if there is one.
pub(crate) async fn look_up(
    broker: &dyn Broker,
    tenant: &TenantId,
    name: &ScheduleName,
) -> Result<(Timestamp, Option<StoredSchedule>)> {
    let mut found = broker.schedules(tenant, ScheduleQuery::Named(name.clone())).await?;
    Ok((found.now, found.schedules.pop()))
}

/// Looks up all schedules of a tenant, in order of name.
pub(crate) async fn all(broker: &dyn Broker, tenant: &TenantId) -> Result<(Timestamp, Vec<StoredSchedule>)> {
    let mut all: Vec<StoredSchedule> = Vec::new();
    loop {
        let after = all.last().map(|schedule| schedule.name.clone());
        let page = broker.schedules(tenant, ScheduleQuery::After(after)).await?;
        if page.schedules.is_empty() {
            return Ok((page.now, all));
        }
        all.extend(page.schedules);
    }
}

/// Writes a record and its jobs in place of the version that was read; `None` where there is to be none.
pub(crate) async fn write(
    broker: &dyn Broker,
    tenant: &TenantId,
    expected: Option<u64>,
    decision: &Decision,
    bounds: &QueueBounds,
    now: Timestamp,
) -> Result<ScheduleWritten> {
    let Decision { record, jobs, .. } = decision;
    let write = ScheduleWrite {
        name: record.schedule.name.clone(),
        expected,
        record: Some(ScheduleRecord { bytes: record.to_bytes(), due_at: record.next_due(now) }),
        jobs: jobs.clone(),
        bounds: *bounds,
    };
    broker.write_schedule(tenant, write).await
}

/// Removes a schedule, if it has this version.
pub(crate) async fn remove(
    broker: &dyn Broker,
    tenant: &TenantId,
    name: &ScheduleName,
    version: u64,
) -> Result<ScheduleWritten> {
    let write = ScheduleWrite {
        name: name.clone(),
        expected: Some(version),
        record: None,
        jobs: Vec::new(),
        bounds: QueueBounds::default(),
    };
    broker.write_schedule(tenant, write).await
}
