//! Routes of holds, breakers, groups and schedules.

use axum::extract::State as Extracted;
use sandhog_api::{
    BackfillAsk, BreakerDocument, BreakersDocument, ForceBreakerAsk, HeldDocument, HeldGroupsDocument,
    HoldAsk, HoldDocument, HoldsDocument, LimitAsk, LimitsDocument, NextDocument, PauseScheduleAsk,
    PausedDocument, Problem, ReleaseAsk, ReleasedDocument, ResetBreakerAsk, ResumedDocument, ScheduleAsk,
    ScheduleChangedDocument, ScheduleDocument, SchedulesDocument, Slug, SwitchLimitAsk, Time,
    UnreadScheduleDocument, parse_time as parse_at,
};
use sandhog_config::units::parse_time;
use sandhog_core::group_limit::{GroupLimitChange, NewGroupLimit};
use sandhog_core::hold::{HoldEnd, HoldReason, HoldScope, NewHold};
use sandhog_core::id::{BreakerName, GroupKey, Kind, QueueName, ScheduleName, TenantId};
use sandhog_core::time::Timestamp;

use super::query::Query;
use super::router::{Asks, Json, Part, Refused, Shared};
use crate::service::schedules::Change;
use crate::service::{
    Caller, Service, asks, breakers, groups, holds, limits, malformed, parsed, schedules, tenants,
};

/// Number of the next times of a schedule, if nothing else is said, and at most.
const NEXT: (usize, usize) = (10, 1000);

/// Returns when what somebody does ends by itself.
fn end_of(lasts: Option<&str>, until: Option<Time>) -> Result<HoldEnd, Problem> {
    match (parsed("for", lasts, parse_time)?, until) {
        (Some(_), Some(_)) => Err(malformed("until", &"there is `for` as well")),
        (Some(time), None) => Ok(HoldEnd::After(time)),
        (None, Some(until)) => Ok(HoldEnd::At(until.0)),
        (None, None) => Ok(HoldEnd::Lifted),
    }
}

pub(super) async fn holds_of(
    caller: Asks,
    mut query: Query,
    Extracted(state): Shared,
) -> Result<Json<HoldsDocument>, Refused> {
    let tenant = query.take("tenant", TenantId::parse)?;
    query.end()?;
    let mut all = Vec::new();
    for tenant in tenants::find(&state.service, &caller.0, tenant.as_ref())? {
        let held = holds::list(&state.service, &caller.0, &tenant).await?;
        all.extend(held.into_iter().map(|hold| HoldDocument::new(tenant.as_str(), hold)));
    }
    Ok(Json(HoldsDocument { holds: all }))
}

pub(super) async fn hold(
    caller: Asks,
    Extracted(state): Shared,
    Json(ask): Json<HoldAsk>,
) -> Result<Json<PausedDocument>, Refused> {
    let (service, caller) = (&state.service, &caller.0);
    let tenant = parsed("tenant", ask.tenant.as_deref(), TenantId::parse)?;
    let tenant = tenants::one(service, caller, tenant.as_ref())?;
    let scope = HoldScope {
        queue: parsed("queue", ask.queue.as_deref(), QueueName::parse)?,
        kind: parsed("kind", ask.kind.as_deref(), Kind::parse)?,
    };
    let end = end_of(ask.lasts.as_deref(), ask.until)?;
    let by = Some(caller.name().to_owned());
    let hold = NewHold { scope: scope.clone(), reason: HoldReason::Paused, by, end, note: ask.note };
    holds::hold(service, caller, &tenant, hold).await?;
    let made = holds::list(service, caller, &tenant).await?.into_iter().find(|hold| hold.scope == scope);
    Ok(Json(PausedDocument { hold: made.map(|hold| HoldDocument::new(tenant.as_str(), hold)) }))
}

pub(super) async fn lift(
    caller: Asks,
    mut query: Query,
    Extracted(state): Shared,
) -> Result<Json<ResumedDocument>, Refused> {
    let (service, caller) = (&state.service, &caller.0);
    let tenant = query.take("tenant", TenantId::parse)?;
    let scope =
        HoldScope { queue: query.take("queue", QueueName::parse)?, kind: query.take("kind", Kind::parse)? };
    query.end()?;
    let tenant = tenants::one(service, caller, tenant.as_ref())?;
    let held = holds::list(service, caller, &tenant).await?.into_iter().find(|hold| hold.scope == scope);
    let was_lifted = holds::lift(service, caller, &tenant, scope.clone()).await?;
    let Some(hold) = held.filter(|_| was_lifted) else {
        let message = format!("{scope} of tenant {tenant}: nobody has paused exactly that");
        return Err(Problem::new(Slug::Conflict, message).into());
    };
    Ok(Json(ResumedDocument { lifted: vec![HoldDocument::new(tenant.as_str(), hold)] }))
}

pub(super) async fn limits_of(
    caller: Asks,
    mut query: Query,
    Extracted(state): Shared,
) -> Result<Json<LimitsDocument>, Refused> {
    let tenant = query.take("tenant", TenantId::parse)?;
    query.end()?;
    let mut all = LimitsDocument::default();
    for tenant in tenants::find(&state.service, &caller.0, tenant.as_ref())? {
        all.append(limits::list(&state.service, &caller.0, &tenant).await?);
    }
    Ok(Json(all))
}

pub(super) async fn set_limit(
    caller: Asks,
    Extracted(state): Shared,
    Json(ask): Json<LimitAsk>,
) -> Result<Json<LimitsDocument>, Refused> {
    let LimitAsk { tenant, queue, group, concurrency, lasts, until, note } = ask;
    let (by, end) = (Some(caller.0.name().to_owned()), end_of(lasts.as_deref(), until)?);
    let change = GroupLimitChange::Set(NewGroupLimit { concurrency, by, end, note });
    let tenant = parsed("tenant", tenant.as_deref(), TenantId::parse)?;
    let group =
        (group_part("queue", &queue, QueueName::parse)?, group_part("group", &group, GroupKey::parse)?);
    change_limit(&state.service, &caller.0, tenant.as_ref(), group, change).await
}

pub(super) async fn switch_limit(
    caller: Asks,
    Extracted(state): Shared,
    Json(ask): Json<SwitchLimitAsk>,
) -> Result<Json<LimitsDocument>, Refused> {
    let SwitchLimitAsk { tenant, queue, group, enabled } = ask;
    let tenant = parsed("tenant", tenant.as_deref(), TenantId::parse)?;
    let group =
        (group_part("queue", &queue, QueueName::parse)?, group_part("group", &group, GroupKey::parse)?);
    let change = GroupLimitChange::Switch { is_on: enabled };
    change_limit(&state.service, &caller.0, tenant.as_ref(), group, change).await
}

pub(super) async fn unset_limit(
    caller: Asks,
    mut query: Query,
    Extracted(state): Shared,
) -> Result<Json<LimitsDocument>, Refused> {
    let tenant = query.take("tenant", TenantId::parse)?;
    let (queue, group) = (query.take("queue", QueueName::parse)?, query.take("group", GroupKey::parse)?);
    query.end()?;
    let group = match (queue, group) {
        (Some(queue), Some(group)) => (queue, group),
        (None, _) => return Err(malformed("queue", &"it is missing").into()),
        (_, None) => return Err(malformed("group", &"it is missing").into()),
    };
    change_limit(&state.service, &caller.0, tenant.as_ref(), group, GroupLimitChange::Unset).await
}

fn group_part<T, E: std::fmt::Display>(
    what: &str,
    text: &str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<T, Problem> {
    parse(text).map_err(|error| malformed(what, &error))
}

async fn change_limit(
    service: &Service,
    caller: &Caller,
    tenant: Option<&TenantId>,
    (queue, group): (QueueName, GroupKey),
    change: GroupLimitChange,
) -> Result<Json<LimitsDocument>, Refused> {
    let tenant = tenants::one(service, caller, tenant)?;
    limits::change(service, caller, &tenant, &queue, &group, change).await?;
    let mut groups = limits::list(service, caller, &tenant).await?.groups;
    groups.retain(|limit| limit.queue == queue.as_str() && limit.group == group.as_str());
    Ok(Json(LimitsDocument { groups, ..LimitsDocument::default() }))
}

pub(super) async fn breakers_of(
    caller: Asks,
    mut query: Query,
    Extracted(state): Shared,
) -> Result<Json<BreakersDocument>, Refused> {
    let tenant = query.take("tenant", TenantId::parse)?;
    query.end()?;
    let mut all = Vec::new();
    for tenant in tenants::find(&state.service, &caller.0, tenant.as_ref())? {
        let (now, found) = breakers::list(&state.service, &caller.0, &tenant).await?;
        all.extend(found.iter().map(|found| document(&tenant, found, now)));
    }
    Ok(Json(BreakersDocument { breakers: all }))
}

pub(super) async fn force_breaker(
    caller: Asks,
    Extracted(state): Shared,
    Json(ask): Json<ForceBreakerAsk>,
) -> Result<Json<BreakersDocument>, Refused> {
    let (by, end) = (Some(caller.0.name().to_owned()), end_of(ask.lasts.as_deref(), ask.until)?);
    let change = breakers::Change::Force { is_open: ask.open, by, note: ask.note, end };
    change_breaker(&state.service, &caller.0, ask.tenant.as_deref(), &ask.name, change).await
}

pub(super) async fn reset_breaker(
    caller: Asks,
    Extracted(state): Shared,
    Json(ask): Json<ResetBreakerAsk>,
) -> Result<Json<BreakersDocument>, Refused> {
    let ResetBreakerAsk { tenant, name } = ask;
    change_breaker(&state.service, &caller.0, tenant.as_deref(), &name, breakers::Change::Reset).await
}

async fn change_breaker(
    service: &Service,
    caller: &Caller,
    tenant: Option<&str>,
    name: &str,
    change: breakers::Change,
) -> Result<Json<BreakersDocument>, Refused> {
    let tenant = parsed("tenant", tenant, TenantId::parse)?;
    let tenant = tenants::one(service, caller, tenant.as_ref())?;
    let name = BreakerName::parse(name).map_err(|error| malformed("name", &error))?;
    let (now, changed) = breakers::change(service, caller, &tenant, &name, change).await?;
    let documents = changed.iter().map(|found| document(&tenant, found, now)).collect();
    Ok(Json(BreakersDocument { breakers: documents }))
}

fn document(tenant: &TenantId, found: &breakers::Found, now: Timestamp) -> BreakerDocument {
    BreakerDocument::new(tenant, &found.name, found.terms.as_ref(), &found.record, now)
}

pub(super) async fn groups_of(
    caller: Asks,
    mut query: Query,
    Extracted(state): Shared,
) -> Result<Json<HeldGroupsDocument>, Refused> {
    let tenant = query.take("tenant", TenantId::parse)?;
    query.end()?;
    let mut all = Vec::new();
    for tenant in tenants::find(&state.service, &caller.0, tenant.as_ref())? {
        let held = groups::held(&state.service, &caller.0, &tenant).await?;
        let document = held
            .iter()
            .map(|held| HeldDocument::new(&tenant, &held.queue, &held.group, held.job, held.since));
        all.extend(document);
    }
    Ok(Json(HeldGroupsDocument { groups: all }))
}

pub(super) async fn release(
    caller: Asks,
    Extracted(state): Shared,
    Json(ask): Json<ReleaseAsk>,
) -> Result<Json<ReleasedDocument>, Refused> {
    let tenant = parsed("tenant", ask.tenant.as_deref(), TenantId::parse)?;
    let tenant = tenants::one(&state.service, &caller.0, tenant.as_ref())?;
    let queue = QueueName::parse(&ask.queue).map_err(|error| malformed("queue", &error))?;
    let group = GroupKey::parse(&ask.group).map_err(|error| malformed("group", &error))?;
    let released = groups::release(&state.service, &caller.0, &tenant, &queue, &group).await?;
    Ok(Json(ReleasedDocument { released }))
}

pub(super) async fn schedules_of(
    caller: Asks,
    mut query: Query,
    Extracted(state): Shared,
) -> Result<Json<SchedulesDocument>, Refused> {
    let tenant = query.take("tenant", TenantId::parse)?;
    query.end()?;
    let mut all = SchedulesDocument { schedules: Vec::new(), unread: Vec::new() };
    for tenant in tenants::find(&state.service, &caller.0, tenant.as_ref())? {
        let (now, found) = schedules::list(&state.service, &caller.0, &tenant).await?;
        for found in found {
            match found.record {
                Ok(record) => all.schedules.push(ScheduleDocument::new(&tenant, &record, now)),
                Err(problem) => all.unread.push(UnreadScheduleDocument {
                    tenant: tenant.to_string(),
                    schedule: found.name.to_string(),
                    problem,
                }),
            }
        }
    }
    Ok(Json(all))
}

pub(super) async fn add_schedule(
    caller: Asks,
    Extracted(state): Shared,
    Json(ask): Json<ScheduleAsk>,
) -> Result<Json<ScheduleChangedDocument>, Refused> {
    let (service, caller) = (&state.service, &caller.0);
    let (route, schedule) = schedules::define(service, caller, state.clock.now(), asks::schedule(&ask)?)?;
    schedules::add(service, caller, &route.tenant, &schedule).await?;
    Ok(Json(ScheduleChangedDocument {
        tenant: route.tenant.to_string(),
        schedule: schedule.name.to_string(),
        done: "added".to_owned(),
        jobs: Vec::new(),
    }))
}

pub(super) async fn schedule(
    caller: Asks,
    Part(name): Part<ScheduleName>,
    mut query: Query,
    Extracted(state): Shared,
) -> Result<Json<ScheduleDocument>, Refused> {
    let tenant = query.take("tenant", TenantId::parse)?;
    query.end()?;
    let tenant = schedules::find(&state.service, &caller.0, tenant.as_ref(), &name).await?;
    let (now, record) = schedules::get(&state.service, &caller.0, &tenant, &name).await?;
    Ok(Json(ScheduleDocument::new(&tenant, &record, now)))
}

pub(super) async fn next(
    caller: Asks,
    Part(name): Part<ScheduleName>,
    mut query: Query,
    Extracted(state): Shared,
) -> Result<Json<NextDocument>, Refused> {
    let tenant = query.take("tenant", TenantId::parse)?;
    let count = query.take("count", str::parse::<usize>)?.unwrap_or(NEXT.0);
    let after = query.take("after", parse_at)?;
    query.end()?;
    if !(1..=NEXT.1).contains(&count) {
        return Err(malformed("the parameter `count`", &"it is 1 to 1000").into());
    }
    let tenant = schedules::find(&state.service, &caller.0, tenant.as_ref(), &name).await?;
    let (now, record) = schedules::get(&state.service, &caller.0, &tenant, &name).await?;
    let next = match after {
        None => record.next(now, count),
        Some(after) => record.schedule.next(after, count),
    };
    Ok(Json(NextDocument::new(record.schedule.times.zone(), &next)))
}

pub(super) async fn pause(
    caller: Asks,
    part: Part<ScheduleName>,
    query: Query,
    state: Shared,
    Json(ask): Json<PauseScheduleAsk>,
) -> Result<Json<ScheduleChangedDocument>, Refused> {
    let change = Change::Pause { by: Some(caller.0.name().to_owned()), note: ask.note };
    changed(caller, part, query, state, change, "paused").await
}

pub(super) async fn resume(
    caller: Asks,
    part: Part<ScheduleName>,
    query: Query,
    state: Shared,
) -> Result<Json<ScheduleChangedDocument>, Refused> {
    changed(caller, part, query, state, Change::Resume, "resumed").await
}

pub(super) async fn run(
    caller: Asks,
    part: Part<ScheduleName>,
    query: Query,
    Extracted(state): Shared,
) -> Result<Json<ScheduleChangedDocument>, Refused> {
    let change = Change::RunNow { id: state.clock.job_id() };
    changed(caller, part, query, Extracted(state), change, "enqueued").await
}

pub(super) async fn backfill(
    caller: Asks,
    part: Part<ScheduleName>,
    query: Query,
    state: Shared,
    Json(ask): Json<BackfillAsk>,
) -> Result<Json<ScheduleChangedDocument>, Refused> {
    let change = Change::Backfill { from: ask.from.0, to: ask.to.0 };
    changed(caller, part, query, state, change, "enqueued").await
}

async fn changed(
    caller: Asks,
    Part(name): Part<ScheduleName>,
    mut query: Query,
    Extracted(state): Shared,
    change: Change,
    done: &str,
) -> Result<Json<ScheduleChangedDocument>, Refused> {
    let tenant = query.take("tenant", TenantId::parse)?;
    query.end()?;
    let tenant = schedules::find(&state.service, &caller.0, tenant.as_ref(), &name).await?;
    let decision = schedules::change(&state.service, &caller.0, &tenant, &name, &change).await?;
    Ok(Json(ScheduleChangedDocument {
        tenant: tenant.to_string(),
        schedule: name.to_string(),
        done: done.to_owned(),
        jobs: decision.jobs.iter().map(|job| job.id.to_string()).collect(),
    }))
}

pub(super) async fn remove(
    caller: Asks,
    Part(name): Part<ScheduleName>,
    mut query: Query,
    Extracted(state): Shared,
) -> Result<Json<ScheduleChangedDocument>, Refused> {
    let tenant = query.take("tenant", TenantId::parse)?;
    query.end()?;
    let tenant = schedules::find(&state.service, &caller.0, tenant.as_ref(), &name).await?;
    schedules::remove(&state.service, &caller.0, &tenant, &name).await?;
    Ok(Json(ScheduleChangedDocument {
        tenant: tenant.to_string(),
        schedule: name.to_string(),
        done: "removed".to_owned(),
        jobs: Vec::new(),
    }))
}
