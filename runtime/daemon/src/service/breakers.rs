//! Use cases on circuit breakers: looking at them, and changing them by hand.

use std::collections::BTreeMap;

use sandhog_api::{Problem, Slug};
use sandhog_broker::{BreakerRecord, BreakerWrite, BreakerWritten, StoredBreaker};
use sandhog_config::nearest;
use sandhog_core::breaker::{BREAKERS_MAX, Breaker, BreakerTerms, Forced};
use sandhog_core::hold::{HOLD_TEXT_MAX, HoldEnd};
use sandhog_core::id::{BreakerName, TenantId};
use sandhog_core::time::Timestamp;

use super::{Caller, Role, Service, list as list_names, of_broker, tenants};

/// Maximum number of tries to change a breaker that daemons change as well.
const TRIES_MAX: usize = 20;

/// Breaker that was found.
#[derive(Debug)]
pub struct Found {
    /// Its name.
    pub name: BreakerName,
    /// Terms of it in the configuration; `None` if it is there no more.
    pub terms: Option<BreakerTerms>,
    /// Its record, or the reason why it can't be read. One of which nothing is known is closed.
    pub record: Result<Breaker, String>,
}

/// Change of a breaker by a person.
#[derive(Debug, Clone)]
pub enum Change {
    /// The breaker is open or closed from now on, whatever runs say.
    Force {
        /// Whether it is open: none of its jobs is run.
        is_open: bool,
        /// Who does it.
        by: Option<String>,
        /// Their remark.
        note: Option<String>,
        /// End of that.
        end: HoldEnd,
    },
    /// All that is known of it is forgotten: it is closed, and counts anew.
    Reset,
}

/// Lists a tenant's breakers by name, those of the configuration and those of which anything is known. Returns the time by the store's
/// clock as well.
///
/// # Errors
/// There is no such tenant in scope, or the broker can't be asked.
pub async fn list(
    service: &Service,
    caller: &Caller,
    tenant: &TenantId,
) -> Result<(Timestamp, Vec<Found>), Problem> {
    caller.needs(Role::Observe)?;
    let config = service.config();
    let tenant = tenants::known(&config, caller, tenant)?;
    let stored = service.broker.breakers(&tenant, None).await.map_err(of_broker)?;
    let found = |name, terms, record| (BreakerName::clone(&name), Found { name, terms, record });
    let known = config.breakers(&tenant).into_iter();
    let mut all: BTreeMap<BreakerName, Found> =
        known.map(|(name, terms)| found(name, Some(terms), Ok(Breaker::default()))).collect();
    for breaker in stored.breakers {
        let record = breaker.read();
        match all.get_mut(&breaker.name) {
            Some(found) => found.record = record,
            None => all.extend([found(breaker.name, None, record)]),
        }
    }
    Ok((stored.now, all.into_values().collect()))
}

/// Changes a breaker. Returns it as it is then, with the time by the store's clock; `None` if nothing is known of it any more.
///
/// # Errors
/// There is no such tenant in scope, or no such breaker; a text is too long; or the broker can't be asked.
pub async fn change(
    service: &Service,
    caller: &Caller,
    tenant: &TenantId,
    name: &BreakerName,
    change: Change,
) -> Result<(Timestamp, Option<Found>), Problem> {
    caller.needs(Role::Operate)?;
    let config = service.config();
    let tenant = tenants::known(&config, caller, tenant)?;
    check(&change)?;
    let known = config.breakers(&tenant);
    for _ in 0..TRIES_MAX {
        let mut found = service.broker.breakers(&tenant, Some(name.clone())).await.map_err(of_broker)?;
        let stored = found.breakers.pop();
        if stored.is_none() && !known.contains_key(name) {
            return Err(unknown(&tenant, name, known.keys()));
        }
        let write = BreakerWrite {
            name: name.clone(),
            expected: stored.as_ref().map(|stored| stored.version),
            record: record(&change, known.get(name), stored.as_ref(), found.now),
        };
        match service.broker.write_breaker(&tenant, write).await.map_err(of_broker)? {
            BreakerWritten::Done => {
                let (now, found) = list(service, caller, &tenant).await?;
                return Ok((now, found.into_iter().find(|found| found.name == *name)));
            }
            BreakerWritten::Stale => {}
            BreakerWritten::TooMany => {
                let message = format!("tenant {tenant} has {BREAKERS_MAX} breakers, and can have no more");
                let help = "`sandhog breaker list` lists them; `sandhog breaker reset` removes one";
                return Err(Problem::new(Slug::RequestTooLarge, message).help(help));
            }
        }
    }
    let message = format!("breaker {name} changes too often: try again");
    Err(Problem::new(Slug::BrokerUnavailable, message))
}

fn check(change: &Change) -> Result<(), Problem> {
    let Change::Force { by, note, .. } = change else { return Ok(()) };
    for (what, text) in [("the note", note), ("the name of who does it", by)] {
        let bytes = text.as_ref().map_or(0, String::len);
        if bytes > HOLD_TEXT_MAX {
            let message =
                format!("{what} has {bytes} bytes, and at most {HOLD_TEXT_MAX} are kept: shorten it");
            return Err(Problem::new(Slug::RequestTooLarge, message));
        }
    }
    Ok(())
}

/// Returns what is to be stored after a change; `None` if nothing is.
fn record(
    change: &Change,
    terms: Option<&BreakerTerms>,
    stored: Option<&StoredBreaker>,
    now: Timestamp,
) -> Option<BreakerRecord> {
    let Change::Force { is_open, by, note, end } = change else { return None };
    let until = match *end {
        HoldEnd::Lifted => None,
        HoldEnd::After(time) => Some(now.after(time)),
        HoldEnd::At(until) => Some(until),
    };
    let kinds = match (terms, stored.map(StoredBreaker::read)) {
        (Some(terms), _) => terms.kinds.clone(),
        (None, Some(Ok(breaker))) => breaker.kinds().clone(),
        (None, _) => return None,
    };
    let (by, note) = (by.clone(), note.clone());
    let breaker = Breaker::force(kinds, Forced { is_open: *is_open, by, note, since: now, until });
    BreakerRecord::of(&breaker, now)
}

fn unknown<'n>(
    tenant: &TenantId,
    name: &BreakerName,
    known: impl Iterator<Item = &'n BreakerName> + Clone,
) -> Problem {
    let problem = Problem::new(Slug::UnknownBreaker, format!("tenant {tenant} has no breaker `{name}`"));
    match nearest(name.as_str(), known.clone().map(BreakerName::as_str)) {
        Some(meant) => problem.help(format!("did you mean `{meant}`?")),
        None if known.clone().next().is_none() => problem
            .help("a plugin has one with `[breaker]`, and for each downstream that it names in `calls`"),
        None => problem.help(format!("it has {}", list_names(known.map(BreakerName::as_str)))),
    }
}
