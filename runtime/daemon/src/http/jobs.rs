//! Routes of jobs and flows.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::{Duration, Instant};

use axum::extract::State as Extracted;
use axum::response::{IntoResponse, Response};
use hyper::{HeaderMap, StatusCode};
use sandhog_api::{
    ActedDocument, AllCountsDocument, Answer, BulkAsk, BulkDocument, CountsDocument, DoneDocument, EditAsk,
    EnqueuedDocument, FailuresDocument, FlowAsk, FlowDocument, JobAsk, JobDocument, JobsAsk, PageDocument,
    Payloads, Problem, Slug, UnreadDocument, parse_time as parse_at,
};
use sandhog_broker::{Changed, Cursor, Filter, JobAction, LastTimes, Query as Asked};
use sandhog_config::units::parse_time;
use sandhog_core::id::{GroupKey, JobId, Kind, QueueName, TenantId};
use sandhog_core::job::{JobRecord, State as JobState};
use sandhog_core::labels::Labels;
use sandhog_core::reason::Reason;
use sandhog_core::time::Timestamp;

use super::query::Query;
use super::router::{Asks, Json, Part, Refused, Shared, answered};
use crate::service::bulk::{Bulk, BulkSummary, Place};
use crate::service::failures::{FAILURES_SHOWN_MAX, Failed};
use crate::service::flows::FlowPart;
use crate::service::{Caller, asks, failures, flows, jobs, labels_of, malformed, parsed, tenants};

/// Header by which a request is known when it is repeated.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Number of jobs on a page, if nothing else is said.
const LIMIT: u32 = 50;

/// Longest time for which a request waits for a job.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Time and number of jobs after which a command on many jobs ends, to be gone on with by the next request.
const BULK_MAX: (Duration, u64) = (Duration::from_secs(20), 50_000);

pub(super) async fn enqueue(
    caller: Asks,
    headers: HeaderMap,
    Extracted(state): Shared,
    Json(ask): Json<JobAsk>,
) -> Result<Response, Refused> {
    let key = key(&headers)?;
    Ok(stored(&asks::enqueue_one(&state.service, &caller.0, &state.clock, ask, key).await?))
}

pub(super) async fn enqueue_many(
    caller: Asks,
    headers: HeaderMap,
    Extracted(state): Shared,
    Json(JobsAsk { jobs }): Json<JobsAsk>,
) -> Result<Response, Refused> {
    let key = key(&headers)?;
    Ok(stored(&asks::enqueue(&state.service, &caller.0, &state.clock, &jobs, key).await?))
}

fn stored(document: &EnqueuedDocument) -> Response {
    let any = document.jobs.iter().any(|job| job.answer == Answer::Stored);
    answered(if any { StatusCode::CREATED } else { StatusCode::OK }, document)
}

fn key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let told = headers.get(IDEMPOTENCY_KEY).map(|key| key.to_str());
    told.transpose().map_err(|_| Problem::new(Slug::MalformedRequest, "Idempotency-Key isn't visible text"))
}

pub(super) async fn list(
    caller: Asks,
    mut query: Query,
    Extracted(state): Shared,
) -> Result<Json<PageDocument>, Refused> {
    let (service, caller) = (&state.service, &caller.0);
    let tenant = query.take("tenant", TenantId::parse)?;
    let of_state = query.take("state", state_of)?;
    let filter = filter(&mut query)?;
    let limit = query.take("limit", str::parse::<u32>)?.unwrap_or(LIMIT);
    let after = query.take("after", cursor)?;
    let payloads = query.flag("payloads")?;
    query.end()?;
    let malformed = |text: &str| Err(Problem::new(Slug::MalformedRequest, text).into());
    if !(1..=Asked::LIMIT_MAX).contains(&limit) {
        return malformed("the parameter `limit` is 1 to 1000");
    }
    let tenants = tenants::find(service, caller, tenant.as_ref())?;
    if after.is_some() && (of_state.is_none() || tenants.len() > 1) {
        return malformed("a cursor is a place in the list of one tenant and one state; name both");
    }
    let mut page = PageDocument::default();
    let shown = if payloads && caller.sees_payloads() { Payloads::Shown } else { Payloads::Left };
    for tenant in &tenants {
        let asked = Asked {
            filter: filter.clone(),
            after,
            payloads,
            ..Asked::of(of_state.unwrap_or(JobState::Ready), limit)
        };
        let listed = match of_state {
            Some(_) => jobs::list(service, caller, tenant, asked).await?,
            None => jobs::list_all(service, caller, tenant, &asked).await?,
        };
        let waits = jobs::waits_of_list(service, caller, tenant, &listed.jobs).await;
        let with_waits = listed.jobs.into_iter().zip(&waits);
        page.jobs
            .extend(with_waits.map(|(job, waits)| JobDocument::new(job, None, shown).waiting_for(waits)));
        page.unread.extend(
            listed.unread.into_iter().map(|unread| UnreadDocument::new(tenant, unread.id, unread.problem)),
        );
        let counts = jobs::counts(service, caller, tenant).await?;
        page.tenants.push(CountsDocument::new(tenant, counts.iter().collect(), listed.next.map(show_cursor)));
    }
    Ok(Json(page))
}

fn state_of(slug: &str) -> Result<JobState, String> {
    JobState::from_slug(slug)
        .ok_or_else(|| format!("it is one of {}", JobState::ALL.map(JobState::slug).join(", ")))
}

fn reason_of(slug: &str) -> Result<Reason, &'static str> {
    Reason::from_slug(slug).ok_or("there is no such reason")
}

/// Formats a cursor: its rank and its job.
fn show_cursor(cursor: Cursor) -> String {
    format!("{}.{}", cursor.rank, cursor.id)
}

/// Parses a cursor as [`show_cursor`] formats it.
fn cursor(text: &str) -> Result<Cursor, &'static str> {
    let parse = || {
        let (rank, id) = text.split_once('.')?;
        Some(Cursor { rank: rank.parse().ok()?, id: JobId::parse(id).ok()? })
    };
    parse().ok_or("it is a place in a list, as `next` of the last page names it")
}

fn filter(query: &mut Query) -> Result<Filter, Problem> {
    let labels = query.all("label", Labels::parse)?;
    Ok(Filter {
        queue: query.take("queue", QueueName::parse)?,
        kind: query.take("kind", Kind::parse)?,
        reason: query.take("reason", reason_of)?,
        enqueued_from: query.take("since", parse_at)?,
        enqueued_until: query.take("until", parse_at)?,
        group: query.take("group", GroupKey::parse)?,
        labels: Labels::of(labels)
            .map_err(|error| Problem::new(Slug::MalformedRequest, error.to_string()))?,
        message: query.take("message", str::parse::<String>)?.unwrap_or_default(),
        last: LastTimes::default(),
    })
}

pub(super) async fn get(
    caller: Asks,
    Part(id): Part<JobId>,
    mut query: Query,
    Extracted(state): Shared,
) -> Result<Json<JobDocument>, Refused> {
    let (service, caller) = (&state.service, &caller.0);
    let tenant = query.take("tenant", TenantId::parse)?;
    let wait = query.take("wait", parse_time)?.unwrap_or_default().min(WAIT_MAX);
    query.end()?;
    let job = jobs::wait(service, caller, id, tenant.as_ref(), wait).await?;
    let log = jobs::log(service, caller, &job.tenant, id).await?;
    let waits = jobs::waits(service, caller, &job).await?;
    Ok(Json(JobDocument::new(job, Some(log), payloads(caller)).waiting_for(&waits)))
}

fn payloads(caller: &Caller) -> Payloads {
    if caller.sees_payloads() { Payloads::Shown } else { Payloads::Left }
}

pub(super) async fn edit(
    caller: Asks,
    Part(id): Part<JobId>,
    mut query: Query,
    Extracted(state): Shared,
    Json(ask): Json<EditAsk>,
) -> Result<Json<DoneDocument>, Refused> {
    let tenant = query.take("tenant", TenantId::parse)?;
    query.end()?;
    let tenant = jobs::edit(&state.service, &caller.0, id, tenant.as_ref(), &asks::edit(&ask)?).await?;
    Ok(Json(DoneDocument::new(id, Some(&tenant), Ok("edited"))))
}

/// Creates the handler of an action on one job.
macro_rules! act {
    ($($name:ident = $action:expr;)*) => {
        $(pub(super) async fn $name(
            caller: Asks,
            Part(id): Part<JobId>,
            query: Query,
            state: Shared,
        ) -> Result<Json<DoneDocument>, Refused> {
            act_on(caller, id, query, state, $action).await
        })*
    };
}

act! {
    cancel = JobAction::Cancel;
    redrive = JobAction::Redrive;
    run_now = JobAction::RunNow;
    remove = JobAction::Remove;
}

async fn act_on(
    caller: Asks,
    id: JobId,
    mut query: Query,
    Extracted(state): Shared,
    action: JobAction,
) -> Result<Json<DoneDocument>, Refused> {
    let tenant = query.take("tenant", TenantId::parse)?;
    query.end()?;
    let (tenant, done) = jobs::act_on_one(&state.service, &caller.0, action, id, tenant.as_ref()).await?;
    Ok(Json(DoneDocument::new(id, Some(&tenant), Ok(done))))
}

pub(super) async fn bulk(
    caller: Asks,
    Extracted(state): Shared,
    Json(ask): Json<BulkAsk>,
) -> Result<Json<BulkDocument>, Refused> {
    let (service, caller) = (&state.service, &caller.0);
    let (tenant, action, of_state, filter) = bulk_of(&ask)?;
    if ask.limit == Some(0) {
        return Err(malformed("limit", &"it is 1 at least").into());
    }
    let tenant = tenants::one(service, caller, tenant.as_ref())?;
    let place = parsed("after", ask.after.as_deref(), place)?;
    let mut bulk = Bulk::begin(service, caller, &tenant, action, of_state, filter).await?;
    if let Some(place) = place {
        bulk = bulk.from(place);
    }
    let (started, mut summary, mut would) = (Instant::now(), BulkSummary::default(), 0_u64);
    let most_of_all = ask.limit.unwrap_or(BULK_MAX.1).min(BULK_MAX.1);
    let (mut told, mut states) = (Vec::new(), BTreeMap::new());
    while bulk.place().is_some() && started.elapsed() <= BULK_MAX.0 && summary.total() + would < most_of_all {
        let most =
            if ask.dry_run { Asked::LIMIT_MAX } else { u32::try_from(jobs::ACT_MAX).unwrap_or(u32::MAX) };
        let left = most_of_all - (summary.total() + would);
        let most = most.min(u32::try_from(left).unwrap_or(u32::MAX));
        let Some(found) = bulk.find(service, caller, most).await? else { break };
        if ask.dry_run {
            would += found.jobs.len() as u64;
            let room = BulkDocument::JOBS_MAX.saturating_sub(told.len());
            told.extend(found.jobs.iter().take(room).map(|(id, state)| DoneDocument {
                state: Some(state.slug().into()),
                ..DoneDocument::would(*id, &tenant)
            }));
            for (_, state) in &found.jobs {
                *states.entry(state.slug().into()).or_default() += 1;
            }
            continue;
        }
        match bulk.act(service, caller, found).await {
            Ok(step) => {
                summary.add(&step);
                let room = BulkDocument::JOBS_MAX.saturating_sub(told.len());
                let done = step.jobs.iter().take(room);
                told.extend(done.map(|(id, changed)| done_to(action, *id, &tenant, *changed)));
            }
            Err(problem) => {
                summary.audit(&bulk, Some(caller.name()), false);
                return Err(problem.into());
            }
        }
    }
    let next = bulk.place().map(show_place);
    let complete = next.is_none();
    if !ask.dry_run {
        summary.audit(&bulk, Some(caller.name()), complete);
    }
    Ok(Json(BulkDocument {
        tenant: tenant.to_string(),
        done: summary.done + summary.requested + would,
        refused: summary.left_out(),
        left_out: summary.left_out.iter().map(|(reason, n)| (reason.slug().into(), *n)).collect(),
        complete,
        next,
        states,
        jobs: told,
    }))
}

/// Formats the place that a command on many jobs has come to.
fn show_place(Place { begun, state, after }: Place) -> String {
    let after = after.map(show_cursor).unwrap_or_default();
    format!("{}-{state}-{after}", begun.as_millis())
}

/// Parses a place as [`show_place`] formats it.
fn place(text: &str) -> Result<Place, &'static str> {
    let parse = || {
        let mut parts = text.splitn(3, '-');
        let begun = Timestamp::from_millis(parts.next()?.parse().ok()?);
        let state = JobState::from_slug(parts.next()?)?;
        let after = parts.next()?;
        let after = if after.is_empty() { None } else { Some(cursor(after).ok()?) };
        Some(Place { begun, state, after })
    };
    parse().ok_or("it is the place that `next` of the request before has named")
}

/// Makes the document of what became of one of many jobs.
fn done_to(action: JobAction, id: JobId, tenant: &TenantId, changed: Changed) -> DoneDocument {
    let outcome = jobs::told(action, id, changed).map_err(|problem| problem.detail);
    DoneDocument::new(id, Some(tenant), outcome)
}

type BulkOf = (Option<TenantId>, JobAction, Option<JobState>, Filter);

fn bulk_of(ask: &BulkAsk) -> Result<BulkOf, Problem> {
    let action = match ask.action.as_str() {
        "cancel" => JobAction::Cancel,
        "redrive" => JobAction::Redrive,
        "run-now" => JobAction::RunNow,
        "remove" => JobAction::Remove,
        _ => return Err(malformed("action", &"it is one of cancel, redrive, run-now, remove")),
    };
    let filter = Filter {
        queue: parsed("queue", ask.queue.as_deref(), QueueName::parse)?,
        kind: parsed("kind", ask.kind.as_deref(), Kind::parse)?,
        reason: parsed("reason", ask.reason.as_deref(), reason_of)?,
        enqueued_from: ask.since.map(|at| at.0),
        enqueued_until: ask.until.map(|at| at.0),
        group: parsed("group", ask.group.as_deref(), GroupKey::parse)?,
        labels: labels_of(&ask.labels)?,
        message: ask.message.clone().unwrap_or_default(),
        last: LastTimes::default(),
    };
    let tenant = parsed("tenant", ask.tenant.as_deref(), TenantId::parse)?;
    Ok((tenant, action, parsed("state", ask.state.as_deref(), state_of)?, filter))
}

pub(super) async fn counts(
    caller: Asks,
    mut query: Query,
    Extracted(state): Shared,
) -> Result<Json<AllCountsDocument>, Refused> {
    let tenant = query.take("tenant", TenantId::parse)?;
    query.end()?;
    let mut all = Vec::new();
    for tenant in tenants::find(&state.service, &caller.0, tenant.as_ref())? {
        let counts = jobs::counts(&state.service, &caller.0, &tenant).await?;
        all.push(CountsDocument::new(&tenant, counts.iter().collect(), None));
    }
    Ok(Json(AllCountsDocument { tenants: all }))
}

pub(super) async fn store_flow(
    caller: Asks,
    headers: HeaderMap,
    Extracted(state): Shared,
    Json(ask): Json<FlowAsk>,
) -> Result<Response, Refused> {
    let key = key(&headers)?;
    let stored = asks::store_flow(&state.service, &caller.0, &state.clock, ask, key).await?;
    Ok(answered(StatusCode::CREATED, &stored))
}

/// Number of groups of failures, if nothing else is said.
const GROUPS: usize = 50;

pub(super) async fn failures_of(
    caller: Asks,
    mut query: Query,
    Extracted(state): Shared,
) -> Result<Json<FailuresDocument>, Refused> {
    let tenant = query.take("tenant", TenantId::parse)?;
    let failed = Failed {
        kind: query.take("kind", Kind::parse)?,
        reason: query.take("reason", reason_of)?,
        since: query.take("since", parse_at)?,
        until: query.take("until", parse_at)?,
    };
    let limit = query.take("limit", str::parse::<usize>)?.unwrap_or(GROUPS);
    query.end()?;
    if !(1..=FAILURES_SHOWN_MAX).contains(&limit) {
        return Err(malformed("the parameter `limit`", &"it is 1 to 1000").into());
    }
    Ok(Json(failures::find(&state.service, &caller.0, tenant.as_ref(), &failed, limit).await?))
}

pub(super) async fn flow(
    caller: Asks,
    Part(id): Part<JobId>,
    mut query: Query,
    Extracted(state): Shared,
) -> Result<Json<FlowDocument>, Refused> {
    let tenant = query.take("tenant", TenantId::parse)?;
    query.end()?;
    let found = flows::find(&state.service, &caller.0, id, tenant.as_ref()).await?;
    let unread = found.view.unread.iter().map(|unread| unread.id);
    Ok(Json(FlowDocument::new(&found.tenant, found.id, &found.view.jobs, unread)))
}

pub(super) async fn cancel_flow(
    caller: Asks,
    part: Part<JobId>,
    query: Query,
    state: Shared,
) -> Result<Response, Refused> {
    act_on_flow(caller, part, query, state, JobAction::Cancel, None).await
}

pub(super) async fn redrive_flow(
    caller: Asks,
    part: Part<JobId>,
    mut query: Query,
    state: Shared,
) -> Result<Response, Refused> {
    let from = query.take("from", FlowPart::from_str)?;
    act_on_flow(caller, part, query, state, JobAction::Redrive, from).await
}

async fn act_on_flow(
    caller: Asks,
    Part(id): Part<JobId>,
    mut query: Query,
    Extracted(state): Shared,
    action: JobAction,
    from: Option<FlowPart>,
) -> Result<Response, Refused> {
    let tenant = query.take("tenant", TenantId::parse)?;
    query.end()?;
    let (found, done) =
        flows::act(&state.service, &caller.0, id, tenant.as_ref(), action, from.as_ref()).await?;
    let was_done = |job: &JobRecord| done.contains(&job.id);
    let jobs = found.view.jobs.iter().filter(|view| was_done(&view.job));
    let word = if action == JobAction::Cancel { "cancelled" } else { "redriven" };
    Ok(Json(ActedDocument::new(&found.tenant, found.id, word, jobs)).into_response())
}
