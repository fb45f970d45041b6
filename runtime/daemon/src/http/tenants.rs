//! Routes of tenants, what they have spent, and what has become of their jobs.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State as Extracted;
use axum::response::{IntoResponse, Response};
use futures::stream;
use hyper::HeaderMap;
use hyper::header::{ACCEPT, CONTENT_TYPE};
use sandhog_api::{
    EventDocument, EventsDocument, GapDocument, PlaceDocument, Problem, Slug, TenantDocument,
    TenantsDocument, UsageBy, UsageReport, UsageRow, parse_day, show_day,
};
use sandhog_broker::Wakes;
use sandhog_core::account::Day;
use sandhog_core::event::{EventCursor, EventPage};
use sandhog_core::id::TenantId;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::query::Query;
use super::router::{Asks, Json, Refused, Shared};
use super::server::{Phase, stopping};
use crate::service::{Caller, Service, events, jobs, tenants};

/// Number of days of which usage is told, if nothing else is said.
const DAYS: u32 = 30;

/// Maximum number of days of which usage is told at once.
const DAYS_MAX: u32 = 400;

pub(super) async fn list(
    caller: Asks,
    query: Query,
    Extracted(state): Shared,
) -> Result<Json<TenantsDocument>, Refused> {
    query.end()?;
    let config = state.service.config();
    let mut all = Vec::new();
    for tenant in tenants::find(&state.service, &caller.0, None)? {
        let (counts, problem) = match jobs::counts(&state.service, &caller.0, &tenant).await {
            Ok(counts) => (Some(counts.iter().collect()), None),
            Err(problem) => (None, Some(problem.detail)),
        };
        let plugins = config.plugins.iter().filter(|plugin| plugin.tenant == tenant).count() as u64;
        all.push(TenantDocument { tenant: tenant.to_string(), configured: true, plugins, counts, problem });
    }
    Ok(Json(TenantsDocument { tenants: all }))
}

pub(super) async fn usage(
    caller: Asks,
    mut query: Query,
    Extracted(state): Shared,
) -> Result<Json<UsageReport>, Refused> {
    let malformed = |text: String| Err(Problem::new(Slug::MalformedRequest, text).into());
    let tenant = query.take("tenant", TenantId::parse)?;
    let to = query.take("to", parse_day)?.unwrap_or_else(|| Day::of(state.clock.now()));
    let from = query.take("from", parse_day)?.unwrap_or_else(|| to.before(DAYS - 1));
    let by = query.take("by", str::parse::<String>)?.unwrap_or_else(|| "day,tenant,plugin".to_owned());
    query.end()?;
    let by: Option<Vec<UsageBy>> = by.split(',').map(UsageBy::from_slug).collect();
    let Some(by) = by else { return malformed("the parameter `by`: some of day, tenant, plugin".to_owned()) };
    if from > to || to.0 - from.0 >= DAYS_MAX {
        return malformed(format!("`from` is before `to`, by less than {DAYS_MAX} days"));
    }
    let mut rows = Vec::new();
    for tenant in tenants::find(&state.service, &caller.0, tenant.as_ref())? {
        let usage = tenants::usage(&state.service, &caller.0, &tenant, from..=to).await?;
        rows.extend(usage.into_iter().map(|of| UsageRow {
            day: Some(show_day(of.day)),
            tenant: Some(tenant.to_string()),
            plugin: Some(of.plugin.to_string()),
            account: of.account,
        }));
    }
    Ok(Json(UsageReport::new(show_day(from), show_day(to), by, rows)))
}

/// Header with the cursor behind which a stream goes on.
const LAST_EVENT_ID: &str = "last-event-id";

/// Time after which something is said in any case, so that nobody in between takes the connection for dead.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// Time after which a broker that is away is asked again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

pub(super) async fn events_of(
    caller: Asks,
    headers: HeaderMap,
    mut query: Query,
    Extracted(state): Shared,
) -> Result<Response, Refused> {
    let tenant = query.take("tenant", TenantId::parse)?;
    let since = query.take("since", str::parse::<String>)?;
    query.end()?;
    let (service, caller) = (&state.service, caller.0);
    let tenant = tenants::one(service, &caller, tenant.as_ref())?;
    let last = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
    let place = last.or(since).map(|text| {
        EventCursor::parse(&text, &tenant)
            .map_err(|error| Problem::new(Slug::MalformedRequest, error.to_string()))
    });
    let place = place.transpose()?;
    let accepts = headers.get(ACCEPT).and_then(|kinds| kinds.to_str().ok()).unwrap_or_default();
    if !accepts.contains("text/event-stream") {
        events::record(service, &caller, &tenant).await?;
        let page = events::page(service, &caller, &tenant, place.unwrap_or(EventCursor::START)).await?;
        let next =
            PlaceDocument { tenant: tenant.to_string(), next: page.next.to_text(&tenant), gap: page.has_gap };
        let events = page.events.iter().map(|event| EventDocument::new(&tenant, event)).collect();
        return Ok(Json(EventsDocument { events, tenants: vec![next] }).into_response());
    }
    let Ok(permit) = state.streams.clone().try_acquire_owned() else {
        return Err(Problem::new(Slug::Busy, "there are as many streams of events as there may be").into());
    };
    // Listening before looking: what comes in between is heard of.
    let wakes = events::watch(service, &caller, std::slice::from_ref(&tenant)).await?;
    let end = events::record(service, &caller, &tenant).await?;
    let renew_every = events::renew_every(service, &caller, &tenant)?;
    let follower = Follower {
        service: service.clone(),
        caller,
        place: place.unwrap_or(end),
        wakes,
        renew_every,
        renew_at: Instant::now() + renew_every,
        phase: state.phase(),
        said: VecDeque::from([format!(": from {}\n\n", place.unwrap_or(end).to_text(&tenant))]),
        tenant,
        has_more: true,
        _permit: permit,
    };
    let stream = stream::unfold(follower, async |mut follower| {
        let said = follower.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(said)), follower))
    });
    Ok(([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(stream)).into_response())
}

/// Somebody who follows the events of a tenant.
struct Follower {
    service: Service,
    caller: Caller,
    tenant: TenantId,
    place: EventCursor,
    wakes: Wakes,
    renew_every: Duration,
    renew_at: Instant,
    phase: watch::Receiver<Phase>,
    /// Events that are still to be sent.
    said: VecDeque<String>,
    /// Whether there are more events already.
    has_more: bool,
    _permit: OwnedSemaphorePermit,
}

fn event(id: &str, name: &str, document: &impl Serialize) -> String {
    let data = serde_json::to_string(document).unwrap_or_default();
    format!("id: {id}\nevent: {name}\ndata: {data}\n\n")
}

impl Follower {
    /// Returns what is to be sent next. `None` once the server stops, or the tenant is gone.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(said) = self.said.pop_front() {
                return Some(said);
            }
            if Instant::now() >= self.renew_at {
                // If the broker is away, it is asked again with the next page.
                let renewed = events::record(&self.service, &self.caller, &self.tenant).await;
                self.renew_at = Instant::now() + if renewed.is_ok() { self.renew_every } else { AGAIN_AFTER };
            }
            if !self.has_more {
                let quiet = Instant::now() + SIGN_OF_LIFE;
                tokio::select! {
                    biased;
                    () = stopping(&mut self.phase) => return None,
                    wake = self.wakes.next() => {
                        wake?;
                    }
                    () = sleep_until(quiet.min(self.renew_at)) => self.said.push_back(": \n\n".to_owned()),
                }
            }
            match events::page(&self.service, &self.caller, &self.tenant, self.place).await {
                Ok(EventPage { events, next, has_more, has_gap }) => {
                    if has_gap {
                        let gap = GapDocument::new(&self.tenant, next);
                        self.said.push_back(event(&next.to_text(&self.tenant), "gap", &gap));
                    }
                    let told = |happened: &sandhog_core::event::JobEvent| {
                        let document = EventDocument::new(&self.tenant, happened);
                        event(&document.cursor, &document.event, &document)
                    };
                    self.said.extend(events.iter().map(told));
                    (self.place, self.has_more) = (next, has_more);
                }
                Err(problem) if problem.slug == Slug::BrokerUnavailable => {
                    sleep(AGAIN_AFTER).await;
                    self.said.push_back(": the broker is away\n\n".to_owned());
                }
                Err(_) => return None,
            }
        }
    }
}
