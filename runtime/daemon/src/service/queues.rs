//! Use cases on queues: the numbers of their jobs.

use std::fmt;
use std::str::FromStr;

use sandhog_api::{Problem, QueueDocument, QueueJobsDocument, QueuesDocument, Slug};
use sandhog_broker::{QUEUES_PAGE_MAX, QueueCensus};
use sandhog_core::id::{InvalidName, QueueName, TenantId};

use super::{Caller, Role, Service, of_broker, tenants};

/// Maximum number of tenants that are asked about for one page.
const TENANTS_MAX: usize = 100;

/// Place in the list of queues: behind a queue of a tenant, or before all of them. Its text is opaque to callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    tenant: TenantId,
    after: Option<QueueName>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.after.as_ref().map_or("", QueueName::as_str))
    }
}

impl FromStr for Place {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (tenant, queue) = text.split_once('/').unwrap_or((text, ""));
        let after = (!queue.is_empty()).then(|| QueueName::parse(queue)).transpose()?;
        Ok(Self { tenant: TenantId::parse(tenant)?, after })
    }
}

/// Lists queues with the numbers of their jobs, by tenant and name: those of one tenant, or of all in scope, behind a place, at most
/// `limit`, which is 1 to [`QUEUES_PAGE_MAX`]. A page may have fewer and still not be the last.
///
/// # Errors
/// There is no such tenant in scope, the limit is out of bounds, or the broker can't be asked.
pub async fn list(
    service: &Service,
    caller: &Caller,
    wanted: Option<&TenantId>,
    from: Option<&Place>,
    limit: usize,
) -> Result<QueuesDocument, Problem> {
    caller.needs(Role::Observe)?;
    if !(1..=QUEUES_PAGE_MAX).contains(&limit) {
        return Err(Problem::new(Slug::MalformedRequest, format!("the limit is 1 to {QUEUES_PAGE_MAX}")));
    }
    let mut document = QueuesDocument { queues: Vec::new(), next: None };
    let tenants = tenants::find(service, caller, wanted)?;
    let ahead = tenants.into_iter().filter(|tenant| from.is_none_or(|from| *tenant >= from.tenant));
    for (nth, tenant) in ahead.enumerate() {
        let room = limit - document.queues.len();
        if room == 0 || nth == TENANTS_MAX {
            document.next = Some(Place { tenant, after: None }.to_string());
            break;
        }
        let after = from.filter(|from| from.tenant == tenant).and_then(|from| from.after.clone());
        let page = service.broker.queues(&tenant, after, room).await.map_err(of_broker)?;
        let holds = match page.queues.is_empty() {
            true => Vec::new(),
            false => service.broker.holds(&tenant).await.map_err(of_broker)?,
        };
        document.queues.extend(page.queues.into_iter().map(|census| {
            let held = holds.iter().any(|hold| hold.scope.covers_queue(&census.queue));
            document_of(&tenant, &census, held)
        }));
        if page.next.is_some() {
            document.next = Some(Place { tenant, after: page.next }.to_string());
            break;
        }
    }
    Ok(document)
}

fn document_of(tenant: &TenantId, census: &QueueCensus, held: bool) -> QueueDocument {
    let QueueCensus { queue, ready, scheduled, blocked, leased, oldest_ready } = census;
    let jobs = QueueJobsDocument { scheduled: *scheduled, ready: *ready, blocked: *blocked, leased: *leased };
    QueueDocument::new(tenant, queue, jobs, *oldest_ready, held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        for text in ["acme/", "acme/mail"] {
            assert_eq!(text.parse::<Place>().expect("it is one").to_string(), text);
        }
        assert!("!/mail".parse::<Place>().is_err() && "acme/!".parse::<Place>().is_err());
    }
}
