//! Use case on the fleet: which daemons there are, and what they serve.

use sandhog_api::{DaemonDocument, DaemonsDocument, Problem, ServedQueueDocument};
use sandhog_broker::{DaemonSeen, Fleet};

use super::{Caller, Role, Service, of_broker};

/// Lists the daemons that have told of themselves lately: for a caller who speaks for some tenants, those that serve one of them,
/// without their names.
///
/// # Errors
/// The caller may not look, or the broker can't be asked.
pub async fn list(service: &Service, caller: &Caller) -> Result<DaemonsDocument, Problem> {
    caller.needs(Role::Observe)?;
    let fleet = service.broker.daemons().await.map_err(of_broker)?;
    Ok(document(&fleet, caller))
}

fn document(fleet: &Fleet, caller: &Caller) -> DaemonsDocument {
    DaemonsDocument {
        time: fleet.now.into(),
        daemons: fleet.daemons.iter().filter_map(|daemon| of_daemon(daemon, caller)).collect(),
        unreadable: if caller.sees_all() { fleet.unreadable as u64 } else { 0 },
    }
}

fn of_daemon(daemon: &DaemonSeen, caller: &Caller) -> Option<DaemonDocument> {
    let report = &daemon.report;
    let served = report.served.queues().iter().filter(|(tenant, _)| caller.sees(tenant));
    let tenants: Vec<String> = served.clone().map(|(tenant, _)| tenant.to_string()).collect();
    let queues = served.flat_map(|(tenant, queues)| {
        queues
            .iter()
            .map(move |queue| ServedQueueDocument { tenant: tenant.to_string(), queue: queue.to_string() })
    });
    let document = DaemonDocument {
        id: daemon.id.to_string(),
        name: caller.sees_all().then(|| report.name.clone()),
        version: report.version.clone(),
        started: daemon.started().into(),
        seen: daemon.seen.into(),
        last_fetch: daemon.last_fetch().map(Into::into),
        slots: report.slots,
        slots_used: report.slots_used,
        draining: report.is_draining,
        plugins: report.plugins,
        queues: queues.collect(),
        complete: !report.served.is_cut(),
        tenants,
    };
    (caller.sees_all() || !document.tenants.is_empty()).then_some(document)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use sandhog_broker::{DaemonReport, Served};
    use sandhog_core::id::{DaemonId, QueueName, TenantId};
    use sandhog_core::time::Timestamp;

    use super::*;
    use crate::service::Scope;

    fn queue(tenant: &str, queue: &str) -> (TenantId, QueueName) {
        (TenantId::parse(tenant).expect("valid"), QueueName::parse(queue).expect("valid"))
    }

    #[test]
    fn a_caller_of_a_tenant_sees_its_daemons_and_neither_names_nor_other_tenants() {
        let seen = |nth: u128, served: &[(TenantId, QueueName)]| DaemonSeen {
            id: DaemonId::from_parts(Timestamp::from_millis(1), nth),
            seen: Timestamp::from_millis(60_000),
            report: DaemonReport {
                name: format!("machine {nth}"),
                version: "1.0.0".into(),
                age: Duration::from_secs(50),
                fetched: Some(Duration::from_secs(2)),
                slots: 8,
                slots_used: 1,
                is_draining: false,
                plugins: 2,
                served: Served::of(served.iter().cloned()),
            },
        };
        let both = [queue("acme", "default"), queue("globex", "mail")];
        let daemons = vec![seen(1, &both), seen(2, &both[1..]), seen(3, &[])];
        let fleet = Fleet { now: Timestamp::from_millis(61_000), daemons, unreadable: 1 };
        let all = document(&fleet, &Caller::operator());
        assert_eq!((all.daemons.len(), all.unreadable), (3, 1));
        assert_eq!(all.daemons[0].name.as_deref(), Some("machine 1"));
        assert_eq!(all.daemons[0].last_fetch.map(|at| at.0), Some(Timestamp::from_millis(58_000)));
        assert_eq!(all.daemons[0].started.0, Timestamp::from_millis(10_000));
        assert!(all.daemons[0].serves() && !all.daemons[2].serves());
        let acme = Scope::Tenants(BTreeSet::from([TenantId::parse("acme").expect("valid")]));
        let some = document(&fleet, &Caller::new("x", acme, Role::Admin));
        let [one] = &some.daemons[..] else { panic!("the one that serves acme: {some:?}") };
        assert_eq!((&one.name, &one.tenants[..], some.unreadable), (&None, &["acme".to_owned()][..], 0));
        assert_eq!(one.queues, [ServedQueueDocument { tenant: "acme".into(), queue: "default".into() }]);
    }
}
