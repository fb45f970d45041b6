//! `sandhog events`: what has happened to jobs, and what happens.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use sandhog_api::{self as api, Problem, Request, Slug, StreamItem, route};
use sandhog_broker::{Wake, Wakes};
use sandhog_core::event::{EventCursor, EventKind, EventPage, JobEvent};
use sandhog_core::id::{JobId, Kind, QueueName, TenantId};
use sandhog_core::text;
use sandhog_core::time::Timestamp;
use sandhog_daemon::broker::Access;
use sandhog_daemon::service::events;
use tokio::time::{Instant, sleep, timeout_at};

use crate::client::{Beside, Client};
use crate::commands::times::parse_past;
use crate::exit::{Exit, Failure};
use crate::output::console::{Console, Format};
use crate::output::events::{self as render, EventDocument, EventsDocument, GapDocument, PlaceDocument};
use crate::target::Target;

/// Show what has happened to jobs, and follow what happens
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct Events {
    /// Of one tenant only
    #[arg(long, short, value_name = "NAME")]
    tenant: Option<TenantId>,
    /// Go on, and print each event as it comes; with --json a document a line
    #[arg(long, short)]
    follow: bool,
    /// From this time on, such as 10m ago, or behind the place that the last event has named [default: all that is kept; with
    /// --follow: from now on]
    #[arg(long, value_name = "TIME|CURSOR", value_parser = Since::from_str)]
    since: Option<Since>,
    /// Of this job only
    #[arg(long, value_name = "ID")]
    job: Option<JobId>,
    /// Of jobs in this queue only
    #[arg(long, value_name = "NAME")]
    queue: Option<QueueName>,
    /// Of jobs of this kind only
    #[arg(long, value_name = "KIND")]
    kind: Option<Kind>,
    /// These events only
    #[arg(long = "event", value_name = "EVENT", value_parser = parse_event)]
    events: Vec<EventKind>,
}

const NOTES: &str = "\
Events are recorded from the first time that somebody asks for them, until nobody has for as long as they are kept
(events.keep of the tenant). Whoever comes later is told that some are missing.

Examples:
  sandhog events --follow --queue mails
  sandhog events --since 10m --event dead --event retried
  sandhog events --since acme@67ad4c2d3f402 --json";

/// The place or time from which events are shown.
#[derive(Debug, Clone)]
enum Since {
    At(Timestamp),
    /// A place, with the name of its tenant.
    Behind(String, TenantId),
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((tenant, _)) = text.split_once('@') else { return parse_past(text).map(Self::At) };
        let tenant = TenantId::parse(tenant).map_err(|invalid| invalid.to_string())?;
        EventCursor::parse(text, &tenant).map_err(|problem| problem.to_string())?;
        Ok(Self::Behind(text.to_owned(), tenant))
    }
}

fn parse_event(text: &str) -> Result<EventKind, String> {
    EventKind::from_slug(text).ok_or_else(|| {
        let all: Vec<&str> = EventKind::ALL.iter().map(|event| event.slug()).collect();
        format!("there is no such event; there are {}", all.join(", "))
    })
}

/// Time after which a broker that is away is asked again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

impl Events {
    pub(crate) async fn execute(self, target: &Target, console: &Console) -> Result<Exit, Failure> {
        let client = Client::connect(target, Access::Change).await?;
        let of_place = match &self.since {
            Some(Since::Behind(_, tenant)) => Some(tenant),
            _ => None,
        };
        let tenants = client.tenants(self.tenant.as_ref().or(of_place)).await?;
        let client = match client {
            Client::Over(client) if self.follow => return self.stream(&client, &tenants, console).await,
            client => client,
        };
        let mut places = BTreeMap::new();
        // Listening before looking: what comes in between is heard of.
        let beside = match &client {
            Client::Beside(beside) => Some(beside),
            Client::Over(_) => None,
        };
        let wakes = match beside.filter(|_| self.follow) {
            Some(Beside { service, caller, .. }) => Some(events::watch(service, caller, &tenants).await?),
            None => None,
        };
        for tenant in &tenants {
            let end = match beside {
                Some(Beside { service, caller, .. }) => events::record(service, caller, tenant).await?,
                // A server records them when it is asked for them.
                None => EventCursor::START,
            };
            let place = match &self.since {
                Some(Since::Behind(text, _)) => {
                    EventCursor::parse(text, tenant).map_err(|problem| Failure::new(problem.to_string()))?
                }
                None if self.follow => end,
                Some(Since::At(_)) | None => EventCursor::START,
            };
            places.insert(tenant.clone(), place);
        }
        match (wakes, beside) {
            (Some(wakes), Some(beside)) => self.follow(beside, places, wakes, console).await,
            _ => self.list(&client, places, console).await,
        }
    }

    fn passes(&self, event: &JobEvent) -> bool {
        let is_late_enough = match self.since {
            Some(Since::At(since)) => event.at >= since,
            Some(Since::Behind(..)) | None => true,
        };
        is_late_enough
            && self.job.is_none_or(|job| job == event.job)
            && self.queue.as_ref().is_none_or(|queue| *queue == event.queue)
            && self.kind.as_ref().is_none_or(|kind| *kind == event.kind)
            && (self.events.is_empty() || self.events.contains(&event.event))
    }

    async fn list(
        &self,
        client: &Client,
        places: BTreeMap<TenantId, EventCursor>,
        console: &Console,
    ) -> Result<Exit, Failure> {
        let (mut found, mut tenants): (Vec<(TenantId, JobEvent)>, Vec<PlaceDocument>) = Default::default();
        for (tenant, mut place) in places {
            let mut gap = false;
            loop {
                let EventPage { events, next, has_more, has_gap } = client.events(&tenant, place).await?;
                let passed = events.into_iter().filter(|event| self.passes(event));
                found.extend(passed.map(|event| (tenant.clone(), event)));
                gap |= has_gap;
                place = next;
                if !has_more {
                    break;
                }
            }
            if gap && console.format == Format::People {
                console.warn(&missed(&tenant));
            }
            tenants.push(PlaceDocument { tenant: tenant.to_string(), next: place.to_text(&tenant), gap });
        }
        found.sort_by_key(|(_, event)| event.at);
        match console.format {
            Format::Json => {
                let events = found.iter().map(|(tenant, event)| EventDocument::new(tenant, event)).collect();
                console.json(&EventsDocument { events, tenants })?;
            }
            Format::People => {
                for (tenant, event) in &found {
                    console.result(&render::line(tenant, event, console.paint()))?;
                }
                if found.is_empty() {
                    console.remark("nothing has happened since then, as far as it was recorded");
                }
                for PlaceDocument { next, .. } in tenants {
                    console.remark(&format!("to go on: sandhog events --since {next}"));
                }
            }
        }
        Ok(Exit::Ok)
    }

    /// Prints events as they come, until nobody reads them.
    async fn follow(
        &self,
        beside: &Beside,
        mut places: BTreeMap<TenantId, EventCursor>,
        mut wakes: Wakes,
        console: &Console,
    ) -> Result<Exit, Failure> {
        let mut renewals = BTreeMap::new();
        for tenant in places.keys() {
            let every = events::renew_every(&beside.service, &beside.caller, tenant)?;
            renewals.insert(tenant.clone(), (Instant::now() + every, every));
        }
        let mut due: Vec<TenantId> = places.keys().cloned().collect();
        loop {
            for tenant in due.drain(..) {
                if let Some(place) = places.get_mut(&tenant) {
                    let (at, every) =
                        renewals.entry(tenant.clone()).or_insert_with(|| (Instant::now(), AGAIN_AFTER));
                    self.catch_up(beside, &tenant, place, Instant::now() >= *at, console).await?;
                    if Instant::now() >= *at {
                        *at = Instant::now() + *every;
                    }
                }
            }
            let first = renewals.values().map(|(at, _)| *at).min().unwrap_or_else(Instant::now);
            match timeout_at(first, wakes.next()).await {
                Ok(None) => return Err(Failure::new("the broker is closed")),
                Ok(Some(Wake::Events(tenant))) => due.push(tenant),
                Ok(Some(Wake::All)) => due.extend(places.keys().cloned()),
                Ok(Some(Wake::Ready { .. } | Wake::Cancel(..) | Wake::Due(_))) => {}
                Err(_) => {
                    let now = Instant::now();
                    let to_renew = renewals.iter().filter(|(_, (at, _))| *at <= now);
                    due.extend(to_renew.map(|(tenant, _)| tenant.clone()));
                }
            }
        }
    }

    /// Prints events as a server tells them, until nobody reads them.
    async fn stream(
        &self,
        client: &api::Client,
        tenants: &[TenantId],
        console: &Console,
    ) -> Result<Exit, Failure> {
        let streams = tenants.iter().map(|tenant| self.stream_of(client, tenant, console));
        futures::future::try_join_all(streams).await?;
        Ok(Exit::Ok)
    }

    /// Prints the events of a tenant as they come. A stream that breaks off is opened again, behind the last event.
    async fn stream_of(
        &self,
        client: &api::Client,
        tenant: &TenantId,
        console: &Console,
    ) -> Result<(), Failure> {
        let mut place = match &self.since {
            Some(Since::Behind(text, _)) => Some(text.clone()),
            Some(Since::At(_)) => Some(EventCursor::START.to_text(tenant)),
            None => None,
        };
        let (mut was_open, mut is_away) = (false, false);
        loop {
            let request = Request::to(route::EVENTS).with("tenant", Some(tenant));
            let mut stream = match client.events(&request.with("since", place.as_ref())).await {
                Ok(stream) => stream,
                Err(error) => {
                    let problem = Problem::from(error);
                    let is_passing = matches!(
                        problem.slug,
                        Slug::NoDaemon | Slug::BrokerUnavailable | Slug::Busy | Slug::RateLimited
                    );
                    if !(was_open && is_passing) {
                        return Err(problem.into());
                    }
                    tell_once(&mut is_away, &problem, console);
                    sleep(AGAIN_AFTER).await;
                    continue;
                }
            };
            (was_open, is_away) = (true, false);
            // However it ends, the next one goes on behind what has come.
            while let Ok(Some(StreamItem { name, data })) = stream.next().await {
                let odd = |cause: serde_json::Error| Failure::new(format!("an event can't be read: {cause}"));
                if name == "gap" {
                    let gap: GapDocument = serde_json::from_str(&data).map_err(odd)?;
                    match console.format {
                        Format::Json => line_of(console, &gap)?,
                        Format::People => console.warn(&missed(tenant)),
                    }
                    continue;
                }
                let document: EventDocument = serde_json::from_str(&data).map_err(odd)?;
                let (tenant, event) =
                    document.read().map_err(|unreadable| Failure::new(unreadable.to_string()))?;
                if self.passes(&event) {
                    print(&tenant, &event, console)?;
                }
            }
            place = stream.place().map(str::to_owned).or(place);
            sleep(AGAIN_AFTER).await;
        }
    }

    /// Prints what has come since this place, and moves it on. A broker that is away is asked again until it is back.
    async fn catch_up(
        &self,
        Beside { service, caller, .. }: &Beside,
        tenant: &TenantId,
        place: &mut EventCursor,
        renews: bool,
        console: &Console,
    ) -> Result<(), Failure> {
        let mut is_away = false;
        loop {
            let read = async {
                if renews {
                    events::record(service, caller, tenant).await?;
                }
                events::page(service, caller, tenant, *place).await
            };
            let EventPage { events, next, has_more, has_gap } = match read.await {
                Ok(page) => page,
                Err(problem) if problem.slug == Slug::BrokerUnavailable => {
                    tell_once(&mut is_away, &problem, console);
                    sleep(AGAIN_AFTER).await;
                    continue;
                }
                Err(problem) => return Err(problem.into()),
            };
            if has_gap {
                match console.format {
                    Format::Json => {
                        let from = events.first().map_or(next, |first| EventCursor(first.cursor.0 - 1));
                        line_of(console, &GapDocument::new(tenant, from))?;
                    }
                    Format::People => console.warn(&missed(tenant)),
                }
            }
            for event in events.iter().filter(|event| self.passes(event)) {
                print(tenant, event, console)?;
            }
            *place = next;
            if !has_more {
                return Ok(());
            }
        }
    }
}

/// Prints an event that has come.
fn print(tenant: &TenantId, event: &JobEvent, console: &Console) -> Result<(), Failure> {
    match console.format {
        Format::Json => line_of(console, &EventDocument::new(tenant, event)),
        Format::People => console.result(&render::line(tenant, event, console.paint())),
    }
}

fn tell_once(is_told: &mut bool, problem: &Problem, console: &Console) {
    if !std::mem::replace(is_told, true) {
        console.warn(&format!("no events can be read: {problem}; trying again until they can"));
    }
}

fn missed(tenant: &TenantId) -> String {
    format!(
        "events of tenant {tenant} are missing here: they aren't kept any more, or weren't recorded; see events.keep and \
         events.keep_max"
    )
}

/// Prints a document in one line.
fn line_of(console: &Console, document: &impl serde::Serialize) -> Result<(), Failure> {
    let line = serde_json::to_string(document).map_err(|cause| Failure::new(cause.to_string()))?;
    console.result(&text::json(&line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_shown_since_a_time_or_behind_a_place() {
        assert!(matches!("10m".parse(), Ok(Since::At(_))));
        assert!(matches!("2026-11-24T18:00:00Z".parse(), Ok(Since::At(_))));
        assert!(matches!("acme@1f".parse(), Ok(Since::Behind(_, tenant)) if tenant.as_str() == "acme"));
        for wrong in ["", "acme", "acme@", "@1f", "acme@x"] {
            assert!(wrong.parse::<Since>().is_err(), "{wrong}");
        }
        assert_eq!(parse_event("lease-expired"), Ok(EventKind::LeaseExpired));
        assert!(parse_event("leased").is_err_and(|problem| problem.contains("started")));
    }
}
