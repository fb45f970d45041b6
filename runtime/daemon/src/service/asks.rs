//! Jobs as programs ask for them, made into jobs.

use std::time::Duration;

use sandhog_api::{
    Answer, AnswerDocument, EditAsk, EnqueuedDocument, FlowAsk, JobAsk, Problem, ScheduleAsk, Slug,
    StoredFlowDocument,
};
use sandhog_broker::Enqueued;
use sandhog_config::units::parse_time;
use sandhog_core::edit::{Due, JobEdit};
use sandhog_core::id::{
    ContentType, GroupKey, JobId, Kind, QueueName, Revision, ScheduleName, TenantId, TraceParent, TraceState,
    UniqueKey,
};
use sandhog_core::job::{JobOptions, NewJob, Priority, TraceContext};
use sandhog_core::schedule::{CatchUp, Cron, Overlap, Zone};
use sandhog_core::time::Timestamp;
use sandhog_core::unique::{Debounce, OnClash, UniqueRule, UniqueUntil};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::enqueue::{self, Route, Wanted};
use super::schedules::{Definition, Nominal};
use super::{Caller, Service, flows, labels_of, malformed, parsed};
use crate::clock::Clock;
use crate::unique;

/// Maximum number of jobs that one request enqueues.
pub const ENQUEUE_MAX: usize = 1000;

/// Maximum length of the key by which a request is known when it is repeated, in bytes.
pub const IDEMPOTENCY_KEY_MAX: usize = 255;

/// Longest wait of a debounced job, in multiples of its delay, if nothing else is said.
const DEBOUNCE_MAX: u32 = 10;

/// Terms of a job that was asked for.
struct Terms {
    route: Route,
    /// Whether it is refused if another job holds its key.
    rejects: bool,
}

/// Enqueues the jobs that a request asks for, each by itself. `key` is what the request is known by when it is repeated.
///
/// # Errors
/// One of the jobs can't be understood, or its tenant or queue is open: then nothing is stored. Or the broker can't be asked: then
/// it is open which of them are.
pub async fn enqueue(
    service: &Service,
    caller: &Caller,
    clock: &Clock,
    asks: &[JobAsk],
    key: Option<&str>,
) -> Result<EnqueuedDocument, Problem> {
    Ok(enqueue_each(service, caller, clock, asks, key).await?.0)
}

/// Enqueues the only job of a request, as [`enqueue()`] does.
///
/// # Errors
/// As of [`enqueue()`]; and the job was refused.
pub async fn enqueue_one(
    service: &Service,
    caller: &Caller,
    clock: &Clock,
    ask: JobAsk,
    key: Option<&str>,
) -> Result<EnqueuedDocument, Problem> {
    let (document, refused) = enqueue_each(service, caller, clock, &[ask], key).await?;
    match (refused, document.jobs.first().and_then(|job| job.problem.as_ref())) {
        (Some(slug), Some(why)) => Err(Problem::new(slug, format!("nothing was enqueued: {why}"))),
        _ => Ok(document),
    }
}

/// Enqueues jobs. Returns the answers, and the kind of problem of the first one that was refused.
async fn enqueue_each(
    service: &Service,
    caller: &Caller,
    clock: &Clock,
    asks: &[JobAsk],
    key: Option<&str>,
) -> Result<(EnqueuedDocument, Option<Slug>), Problem> {
    if asks.len() > ENQUEUE_MAX {
        let message = format!("{} jobs are more than {ENQUEUE_MAX} at once", asks.len());
        return Err(Problem::new(Slug::RequestTooLarge, message));
    }
    check_key(key)?;
    let (mut jobs, mut terms) = (Vec::with_capacity(asks.len()), Vec::with_capacity(asks.len()));
    for (n, ask) in asks.iter().enumerate() {
        let made = make(service, caller, clock, ask, key.map(|key| (key, n)));
        let (job, of_job) = made.map_err(|mut problem| {
            if asks.len() > 1 {
                problem.detail = format!("jobs[{n}]: {}", problem.detail);
            }
            problem
        })?;
        jobs.push(job);
        terms.push(of_job);
    }
    let Some(Terms { route: first, .. }) = terms.first() else {
        return Err(Problem::new(Slug::MalformedRequest, "there are no jobs in it"));
    };
    let (tenant, queue) = (first.tenant.clone(), first.queue.clone());
    let warnings = warnings(service, caller, &jobs, &terms);
    let mut answers: Vec<AnswerDocument> = Vec::with_capacity(jobs.len());
    let (mut left, mut refused) = (&jobs[..], None);
    // One call for each stretch of jobs that share their tenant and their bounds.
    for stretch in terms.chunk_by(|a, b| a.route.tenant == b.route.tenant && a.route.bounds == b.route.bounds)
    {
        let (jobs, rest) = left.split_at(stretch.len());
        left = rest;
        let said = enqueue::enqueue(service, caller, &stretch[0].route, jobs).await?;
        for ((job, terms), said) in jobs.iter().zip(stretch).zip(said) {
            let (answer, slug) = answer(job.id, terms, said);
            answers.push(answer);
            refused = refused.or(slug);
        }
    }
    Ok((EnqueuedDocument::new(&tenant, &queue, answers, warnings), refused))
}

fn warnings(service: &Service, caller: &Caller, jobs: &[NewJob], terms: &[Terms]) -> Vec<String> {
    let mut warnings: Vec<String> = Vec::new();
    let mut seen: Option<(&TenantId, &QueueName, &Kind)> = None;
    for (job, Terms { route, .. }) in jobs.iter().zip(terms) {
        let of = (&route.tenant, &route.queue, &job.kind);
        if seen.replace(of) != Some(of) {
            let found = enqueue::unserved(service, caller, of.0, of.1, of.2);
            warnings
                .extend(found.into_iter().filter(|warning| !warnings.contains(warning)).collect::<Vec<_>>());
        }
    }
    warnings
}

/// Makes the answer for a job from what the broker says, with the kind of problem if it is refused.
fn answer(job: JobId, terms: &Terms, said: Enqueued) -> (AnswerDocument, Option<Slug>) {
    let Route { tenant, bounds, .. } = &terms.route;
    let refused = |id, slug, why| (id, Answer::Refused, Some((slug, why)));
    let (id, answer, refusal) = match said {
        Enqueued::Stored => (job, Answer::Stored, None),
        Enqueued::Duplicate(holder) if terms.rejects => {
            refused(holder, Slug::Conflict, format!("job {holder} holds the unique key of this kind"))
        }
        Enqueued::Duplicate(holder) => (holder, Answer::Duplicate, None),
        Enqueued::Replaced(holder) => (holder, Answer::Replaced, None),
        Enqueued::TooLarge => {
            refused(job, Slug::RequestTooLarge, format!("its payload is larger than {}", bounds.payload))
        }
        Enqueued::Full(excess) => {
            refused(job, Slug::QueueFull, format!("{} of tenants.{tenant}", bounds.explain(excess)))
        }
    };
    let (slug, problem) = refusal.unzip();
    (AnswerDocument { line: None, id: id.to_string(), answer, problem }, slug)
}

fn make(
    service: &Service,
    caller: &Caller,
    clock: &Clock,
    ask: &JobAsk,
    key: Option<(&str, usize)>,
) -> Result<(NewJob, Terms), Problem> {
    let kind = Kind::parse(&ask.kind).map_err(|error| malformed("kind", &error))?;
    let tenant = parsed("tenant", ask.tenant.as_deref(), TenantId::parse)?;
    let queue = parsed("queue", ask.queue.as_deref(), QueueName::parse)?;
    let route =
        enqueue::route(service, caller, &kind, Wanted { tenant: tenant.as_ref(), queue: queue.as_ref() })?;
    let id = match (parsed("id", ask.id.as_deref(), JobId::parse)?, key) {
        (Some(id), _) => id,
        (None, Some((key, n))) => id_of(&route.tenant, key, n),
        (None, None) => clock.job_id(),
    };
    let rejects = ask.on_clash.as_deref() == Some("reject");
    Ok((job(ask, id, &route, clock.now())?, Terms { route, rejects }))
}

/// Makes the job that is asked for, with this id and of this route.
///
/// # Errors
/// The request can't be understood.
pub fn job(ask: &JobAsk, id: JobId, route: &Route, now: Timestamp) -> Result<NewJob, Problem> {
    let kind = Kind::parse(&ask.kind).map_err(|error| malformed("kind", &error))?;
    let time = |what, text: &Option<String>| parsed(what, text.as_deref(), parse_time);
    let (unique, debounced) = rule(ask)?;
    let unique_key = parsed("unique_key", ask.unique_key.as_deref(), UniqueKey::parse)?;
    let needs_key = ask.unique_until.is_some()
        || ask.unique_for.is_some()
        || ask.on_clash.is_some()
        || ask.debounce.is_some();
    if needs_key && unique_key.is_none() {
        return Err(malformed("unique_key", &"which jobs are the same is told by it, and it is missing"));
    }
    let delay = match (debounced, time("delay", &ask.delay)?, ask.at) {
        (None, Some(_), Some(_)) => return Err(malformed("at", &"there is a delay as well")),
        (Some(delay), None, None) => delay,
        (Some(_), ..) => return Err(malformed("debounce", &"it is the delay, and there is another")),
        (None, Some(delay), None) => delay,
        (None, None, Some(at)) => at.0.since(now),
        (None, None, None) => Duration::ZERO,
    };
    let parent = parsed("traceparent", ask.traceparent.as_deref(), TraceParent::parse)?;
    let state = parsed("tracestate", ask.tracestate.as_deref(), TraceState::parse)?;
    let trace = match (parent, state) {
        (None, Some(_)) => return Err(malformed("tracestate", &"there is no traceparent")),
        (parent, state) => parent.map(|parent| TraceContext { parent, state }),
    };
    let is_keyed = unique_key.is_some();
    let payload = bytes(ask.payload.as_deref(), ask.text.as_deref(), ask.hex.as_deref())?;
    let payload = payload.unwrap_or_else(|| b"null".to_vec());
    let job = NewJob {
        priority: ask.priority.map(Priority).unwrap_or_default(),
        unique_key: unique_key.map(|key| unique::stored(&kind, &key)),
        pinned: parsed("revision", ask.revision.as_deref(), Revision::parse)?,
        options: JobOptions {
            group: parsed("group", ask.group.as_deref(), GroupKey::parse)?,
            start_within: time("start_within", &ask.start_within)?,
            labels: labels_of(&ask.labels)?,
            content_type: parsed("content_type", ask.content_type.as_deref(), ContentType::parse)?,
            trace,
            deadline: time("deadline", &ask.deadline)?,
            flow: None,
            unique: if is_keyed { unique } else { UniqueRule::default() },
        },
        ..NewJob::new(id, route.queue.clone(), kind, payload)
    };
    Ok(job.starting_after(delay))
}

/// Checks what a request is known by when it is repeated.
fn check_key(key: Option<&str>) -> Result<(), Problem> {
    if key.is_some_and(|key| key.is_empty() || key.len() > IDEMPOTENCY_KEY_MAX) {
        let message = format!("an idempotency key has 1 to {IDEMPOTENCY_KEY_MAX} bytes");
        return Err(Problem::new(Slug::MalformedRequest, message));
    }
    Ok(())
}

/// Stores the flow that a request asks for. `key` is what the request is known by when it is repeated.
///
/// # Errors
/// It can't be understood, is no flow, or was refused: then nothing of it is stored. Or the broker can't be asked: then it is open
/// whether it is.
pub async fn store_flow(
    service: &Service,
    caller: &Caller,
    clock: &Clock,
    ask: FlowAsk,
    key: Option<&str>,
) -> Result<StoredFlowDocument, Problem> {
    check_key(key)?;
    let ask = ask.with_payloads(|payload| Ok::<_, Problem>(payload.get().as_bytes().to_vec()))?;
    let id = |tenant: &TenantId| key.map_or_else(|| clock.job_id(), |key| id_of(tenant, key, 0));
    let routed = flows::make(service, caller, ask, id)?;
    let stored = flows::store(service, caller, &routed.flow, &routed.routes).await?;
    match (flows::refused(&routed, stored), routed.routes.first()) {
        (None, Some(first)) => Ok(StoredFlowDocument::new(&first.tenant, &routed.flow)),
        (Some(problem), _) => Err(problem),
        (None, None) => Err(Problem::new(Slug::MalformedRequest, "a flow has one job at least")),
    }
}

/// Returns the definition of a schedule that is asked for.
///
/// # Errors
/// The request can't be understood.
pub fn schedule(ask: &ScheduleAsk) -> Result<Definition, Problem> {
    let time = |what, text: &Option<String>| parsed(what, text.as_deref(), parse_time);
    let crons = |what: &str, texts: &[String]| {
        let parse = |text: &String| Cron::parse(text).map_err(|invalid| malformed(what, &invalid.why));
        texts.iter().map(parse).collect::<Result<Vec<_>, Problem>>()
    };
    let overlap = |slug: &str| {
        let known = || format!("it is one of {}", Overlap::ALL.map(Overlap::slug).join(", "));
        Overlap::from_slug(slug).ok_or_else(known)
    };
    let nominal = Nominal {
        cron: crons("cron", &ask.cron)?,
        every: time("every", &ask.every)?,
        phase: time("phase", &ask.phase)?,
        exclude: crons("exclude", &ask.exclude)?,
        zone: parsed("timezone", ask.timezone.as_deref(), Zone::parse)?,
        start: ask.start.clone(),
        end: ask.end.clone(),
    };
    let usual = CatchUp::default();
    let payload = bytes(ask.payload.as_deref(), ask.text.as_deref(), ask.hex.as_deref())?;
    Ok(Definition {
        name: ScheduleName::parse(&ask.name).map_err(|error| malformed("name", &error))?,
        nominal,
        kind: Kind::parse(&ask.kind).map_err(|error| malformed("kind", &error))?,
        payload: payload.unwrap_or_else(|| b"null".to_vec()),
        tenant: parsed("tenant", ask.tenant.as_deref(), TenantId::parse)?,
        queue: parsed("queue", ask.queue.as_deref(), QueueName::parse)?,
        priority: ask.priority.map(Priority).unwrap_or_default(),
        spread: time("spread", &ask.spread)?.unwrap_or_default(),
        times_max: ask.times,
        catch_up: CatchUp {
            window: time("catch_up_window", &ask.catch_up_window)?.unwrap_or(usual.window),
            most: ask.catch_up_most.unwrap_or(usual.most),
        },
        overlap: parsed("overlap", ask.overlap.as_deref(), overlap)?.unwrap_or_default(),
        paused: ask.paused,
    })
}

/// Returns the id of a job of a request that is known by its key. The same request has the same ids, whenever it comes.
fn id_of(tenant: &TenantId, key: &str, n: usize) -> JobId {
    let mut hash = Sha256::new();
    hash.update(tenant.as_str());
    hash.update([0]);
    hash.update(key);
    hash.update([0]);
    hash.update((n as u64).to_be_bytes());
    let chance = hash.finalize().iter().take(10).fold(0u128, |chance, byte| chance << 8 | u128::from(*byte));
    JobId::from_parts(Timestamp::from_millis(0), chance)
}

/// Returns the bytes of a payload in one of its three forms. `None` if there is none of them.
fn bytes(json: Option<&RawValue>, text: Option<&str>, hex: Option<&str>) -> Result<Option<Vec<u8>>, Problem> {
    match (json, text, hex) {
        (None, None, None) => Ok(None),
        (Some(json), None, None) => Ok(Some(json.get().as_bytes().to_vec())),
        (None, Some(text), None) => Ok(Some(text.as_bytes().to_vec())),
        (None, None, Some(hex)) => {
            let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(hex.as_bytes());
            bytes.map(Some).map_err(|error| malformed("hex", &error))
        }
        _ => Err(malformed("payload", &"there is one of payload, text and hex at most")),
    }
}

/// Returns the rule of a job's key, and the delay of a debounced job.
fn rule(ask: &JobAsk) -> Result<(UniqueRule, Option<Duration>), Problem> {
    let on_clash = match ask.on_clash.as_deref() {
        None | Some("existing" | "reject") => OnClash::Keep,
        Some("replace") => OnClash::Replace,
        Some(_) => return Err(malformed("on_clash", &"it is existing, reject or replace")),
    };
    let until = match ask.unique_until.as_deref() {
        None => UniqueUntil::default(),
        Some(slug) => UniqueUntil::from_slug(slug).ok_or_else(|| {
            malformed(
                "unique_until",
                &format!("it is one of {}", UniqueUntil::ALL.map(UniqueUntil::slug).join(", ")),
            )
        })?,
    };
    let lasts = parsed("unique_for", ask.unique_for.as_deref(), parse_time)?;
    let Some(delay) = parsed("debounce", ask.debounce.as_deref(), parse_time)? else {
        return Ok((UniqueRule { until, lasts, on_clash }, None));
    };
    if ask.on_clash.is_some() {
        return Err(malformed("on_clash", &"debouncing says what becomes of a job whose key is held"));
    }
    let longest = parsed("debounce_max", ask.debounce_max.as_deref(), parse_time)?;
    let longest = longest.unwrap_or_else(|| delay.saturating_mul(DEBOUNCE_MAX));
    let debounce = Debounce::new(delay, longest).map_err(|error| malformed("debounce", &error))?;
    Ok(match ask.debounce_leading {
        true => (UniqueRule::leading(debounce), None),
        false => (UniqueRule::trailing(debounce), Some(delay)),
    })
}

/// Returns the edit that is asked for.
///
/// # Errors
/// The request can't be understood, or changes nothing.
pub fn edit(ask: &EditAsk) -> Result<JobEdit, Problem> {
    let payload = bytes(ask.payload.as_deref(), ask.text.as_deref(), ask.hex.as_deref())?;
    let due = match (parsed("delay", ask.delay.as_deref(), parse_time)?, ask.at) {
        (Some(_), Some(_)) => return Err(malformed("at", &"there is a delay as well")),
        (delay, at) => delay.map(Due::After).or_else(|| at.map(|at| Due::At(at.0))),
    };
    let edit = JobEdit { payload, priority: ask.priority.map(Priority), due };
    match edit.is_empty() {
        true => Err(Problem::new(Slug::MalformedRequest, "it changes nothing")),
        false => Ok(edit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_is_repeated_has_the_same_ids_and_no_other_has() {
        let tenant = |name: &str| TenantId::parse(name).expect("valid");
        let id = id_of(&tenant("acme"), "k", 0);
        assert_eq!(id, id_of(&tenant("acme"), "k", 0));
        for other in
            [id_of(&tenant("acme"), "k", 1), id_of(&tenant("acme"), "l", 0), id_of(&tenant("acme2"), "k", 0)]
        {
            assert_ne!(id, other);
        }
    }
}
