//! Schedules: a record and the jobs that it enqueues change in one step, once, whoever is faster.

use sandhog_core::id::{JobId, ScheduleName};
use sandhog_core::job::NewJob;
use sandhog_core::quota::{QueueBounds, QueueExcess};
use sandhog_core::schedule::SCHEDULES_MAX;
use sandhog_core::time::Timestamp;

use super::case::Case;
use super::script::{new_job, secs};
use crate::{
    Enqueued, SCHEDULES_PAGE, ScheduleQuery, ScheduleRecord, ScheduleWrite, ScheduleWritten, StoredSchedule,
    Wake,
};

fn name(text: &str) -> ScheduleName {
    ScheduleName::parse(text).expect("a valid name")
}

fn record(text: &str, due_at: Option<Timestamp>) -> Option<ScheduleRecord> {
    Some(ScheduleRecord { bytes: text.as_bytes().to_vec(), due_at })
}

/// A write of the schedule `nightly`, which is to have this version, without jobs.
fn write(expected: Option<u64>, record: Option<ScheduleRecord>) -> ScheduleWrite {
    let (name, bounds) = (name("nightly"), QueueBounds::default());
    ScheduleWrite { name, expected, record, jobs: Vec::new(), bounds }
}

async fn put(case: &Case, write: ScheduleWrite) -> ScheduleWritten {
    case.broker.write_schedule(&case.tenant, write).await.expect("a write succeeds")
}

async fn look(case: &Case, query: ScheduleQuery) -> Vec<StoredSchedule> {
    let found = case.broker.schedules(&case.tenant, query).await.expect("a look succeeds");
    assert_eq!(found.now, case.now(), "decisions go by the store's clock");
    found.schedules
}

async fn stored(case: &Case) -> Option<StoredSchedule> {
    look(case, ScheduleQuery::Named(name("nightly"))).await.pop()
}

async fn version(case: &Case) -> u64 {
    stored(case).await.expect("it is stored").version
}

/// A job with an id of its own.
fn job(n: u128) -> NewJob {
    new_job(JobId::from_parts(Timestamp::from_millis(1000), n))
}

/// A record is stored and found as it was written. Each write raises its version.
pub async fn a_record_is_stored_and_found_as_it_is(case: Case) {
    assert_eq!(stored(&case).await, None);
    let due = case.now().after(secs(60));
    assert_eq!(put(&case, write(None, record("a", Some(due)))).await, ScheduleWritten::Done);
    let first = stored(&case).await.expect("it is stored");
    assert_eq!((first.name.as_str(), first.due_at, first.record), ("nightly", Some(due), Ok(b"a".to_vec())));
    assert_eq!(put(&case, write(Some(first.version), record("b", None))).await, ScheduleWritten::Done);
    let second = stored(&case).await.expect("it is stored");
    assert!(second.version > first.version, "also within the same millisecond");
    assert_eq!((second.due_at, second.record), (None, Ok(b"b".to_vec())));
}

/// A write succeeds only with the latest version: of several that have read the same, the first one.
pub async fn only_who_has_read_the_latest_version_writes(case: Case) {
    assert_eq!(put(&case, write(Some(7), record("x", None))).await, ScheduleWritten::Stale, "there is none");
    put(&case, write(None, record("a", None))).await;
    let read = version(&case).await;
    assert_eq!(put(&case, write(None, record("x", None))).await, ScheduleWritten::Stale, "there is one");
    let firing = |n| ScheduleWrite { jobs: vec![job(n)], ..write(Some(read), record("b", None)) };
    assert_eq!(put(&case, firing(1)).await, ScheduleWritten::Done);
    assert_eq!(put(&case, firing(2)).await, ScheduleWritten::Stale, "a repetition as well");
    assert_eq!(case.drain().await, [job(1).id]);
    assert_eq!(stored(&case).await.and_then(|schedule| schedule.record.ok()), Some(b"b".to_vec()));
}

/// A record and its jobs are written together: if one of the jobs is refused, nothing is.
pub async fn record_and_jobs_are_one_step(case: Case) {
    put(&case, write(None, record("a", None))).await;
    let read = version(&case).await;
    let firing = |jobs, bounds| ScheduleWrite { jobs, bounds, ..write(Some(read), record("b", None)) };
    let two = QueueBounds { jobs: 2, ..QueueBounds::default() };
    let full = ScheduleWritten::Refused(Enqueued::Full(QueueExcess::Jobs));
    assert_eq!(put(&case, firing(vec![job(1), job(2), job(3)], two)).await, full);
    let large = NewJob { payload: vec![b'x'; 2000], ..job(2) };
    let small = QueueBounds { payload: sandhog_core::budget::Bytes(1000), ..QueueBounds::default() };
    let too_large = ScheduleWritten::Refused(Enqueued::TooLarge);
    assert_eq!(put(&case, firing(vec![job(1), large], small)).await, too_large);
    assert_eq!(case.drain().await, []);
    assert_eq!(version(&case).await, read, "nothing was changed");
    assert_eq!(put(&case, firing(vec![job(1), job(2)], two)).await, ScheduleWritten::Done);
    assert_eq!(case.drain().await, [job(1).id, job(2).id]);
}

/// A job whose id is there already keeps its payload and state: it is taken for the schedule's own.
pub async fn a_job_that_is_there_already_stays_as_it_is(case: Case) {
    case.enqueue(NewJob { payload: b"mine".to_vec(), ..job(1) }).await;
    let token = case.lease_one().await;
    let firing = ScheduleWrite { jobs: vec![job(1), job(2)], ..write(None, record("a", None)) };
    assert_eq!(put(&case, firing).await, ScheduleWritten::Done);
    assert_eq!(case.record(token.job).await.payload, b"mine");
    assert_eq!(case.drain().await, [job(2).id]);
}

/// A sweep tells when the next schedule is due, apart from when the next job is.
pub async fn a_sweep_tells_when_the_next_schedule_is_due(case: Case) {
    assert_eq!(case.sweep().await.next_schedule, None);
    put(&case, write(None, record("a", Some(case.now().after(secs(60)))))).await;
    let late =
        ScheduleWrite { name: name("weekly"), ..write(None, record("b", Some(case.now().after(secs(90))))) };
    put(&case, late).await;
    put(&case, ScheduleWrite { name: name("paused"), ..write(None, record("c", None)) }).await;
    let swept = case.sweep().await;
    assert_eq!((swept.next_schedule, swept.next_due, swept.has_ready), (Some(secs(60)), None, false));
    case.pass(secs(45));
    assert_eq!(case.sweep().await.next_schedule, Some(secs(15)));
    assert_eq!(look(&case, ScheduleQuery::Due).await, []);
    case.pass(secs(45));
    assert_eq!(case.sweep().await.next_schedule, Some(secs(0)));
    let due = look(&case, ScheduleQuery::Due).await;
    let names: Vec<&str> = due.iter().map(|schedule| schedule.name.as_str()).collect();
    assert_eq!(names, ["nightly", "weekly"], "the first one first");
    put(&case, write(Some(due[0].version), None)).await;
    put(&case, ScheduleWrite { name: name("weekly"), ..write(Some(due[1].version), None) }).await;
    assert_eq!(case.sweep().await.next_schedule, None);
}

/// A schedule can be removed. One of the same name that is made later is another: versions of the former don't write it.
pub async fn a_schedule_can_be_removed(case: Case) {
    put(&case, write(None, record("a", Some(case.now())))).await;
    let read = version(&case).await;
    assert_eq!(put(&case, write(Some(read), None)).await, ScheduleWritten::Done);
    assert_eq!(stored(&case).await, None);
    assert_eq!(put(&case, write(Some(read), None)).await, ScheduleWritten::Stale);
    case.pass(secs(1));
    put(&case, write(None, record("b", None))).await;
    assert_eq!(put(&case, write(Some(read), record("x", None))).await, ScheduleWritten::Stale);
}

/// Schedules of a tenant are listed by name, in pages of [`SCHEDULES_PAGE`].
pub async fn schedules_are_listed_by_name_in_pages(case: Case) {
    let names: Vec<String> = (0..SCHEDULES_PAGE + 5).map(|n| format!("s{n:04}")).collect();
    for text in names.iter().rev() {
        let due = text.ends_with('3').then(|| case.now());
        let write = ScheduleWrite { name: name(text), ..write(None, record(text, due)) };
        assert_eq!(put(&case, write).await, ScheduleWritten::Done);
    }
    let mut found: Vec<StoredSchedule> = Vec::new();
    for length in [SCHEDULES_PAGE, 5, 0] {
        let after = found.last().map(|schedule| schedule.name.clone());
        let page = look(&case, ScheduleQuery::After(after)).await;
        assert_eq!(page.len(), length);
        found.extend(page);
    }
    let found: Vec<&str> = found.iter().map(|schedule| schedule.name.as_str()).collect();
    assert_eq!(found, names);
    assert_eq!(look(&case.of_another_tenant(), ScheduleQuery::After(None)).await, []);
}

/// A tenant has at most [`SCHEDULES_MAX`] schedules; a further one is refused, and those that are there can be written.
pub async fn a_tenant_has_no_more_schedules_than_that(case: Case) {
    for n in 0..SCHEDULES_MAX {
        let write = ScheduleWrite { name: name(&format!("s{n}")), ..write(None, record("", None)) };
        assert_eq!(put(&case, write).await, ScheduleWritten::Done);
    }
    assert_eq!(put(&case, write(None, record("a", None))).await, ScheduleWritten::TooMany);
    let read = look(&case, ScheduleQuery::Named(name("s7"))).await[0].version;
    let again = ScheduleWrite { name: name("s7"), ..write(Some(read), record("b", None)) };
    assert_eq!(put(&case, again).await, ScheduleWritten::Done, "those that are there go on");
}

/// A purge removes the tenant's schedules.
pub async fn schedules_are_purged(case: Case) {
    put(&case, write(None, record("a", Some(case.now())))).await;
    assert_eq!(case.broker.purge(&case.tenant, 10).await.expect("a purge succeeds"), 0);
    assert!(!case.broker.tenants().await.expect("a look succeeds").contains(&case.tenant));
    assert_eq!((stored(&case).await, case.sweep().await.next_schedule), (None, None));
}

/// A schedule that is due earlier than all others wakes every listener.
pub async fn a_schedule_that_is_due_earlier_wakes(case: Case) {
    let due = |seconds| Some(case.now().after(secs(seconds)));
    put(&case, write(None, record("a", due(60)))).await;
    let mut wakes = case.broker.watch(vec![case.tenant.clone()]).await.expect("it can be listened to");
    assert_eq!(wakes.next().await, Some(Wake::All));
    put(&case, write(Some(version(&case).await), record("a", due(120)))).await;
    put(&case, ScheduleWrite { name: name("weekly"), ..write(None, record("b", due(90))) }).await;
    assert_eq!(wakes.next().await, Some(Wake::Due(case.tenant.clone())), "the one before was later");
    case.enqueue(case.new_job()).await;
    assert_eq!(wakes.next().await, Some(Wake::Ready { tenant: case.tenant.clone(), named: None }));
}
