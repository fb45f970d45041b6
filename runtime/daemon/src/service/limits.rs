//! Use cases on limits: looking up which there are and how far they are used, and limits of single groups.

use std::num::NonZeroU16;

use sandhog_api::{LimitsDocument, Problem, Slug};
use sandhog_broker::GroupLimited;
use sandhog_core::group::{GROUP_CONCURRENCY_MAX, GroupRule, QueueRule};
use sandhog_core::group_limit::{GROUP_LIMITS_MAX, GroupLimitChange};
use sandhog_core::id::{GroupKey, QueueName, TenantId};

use super::{Caller, Role, Service, of_broker, tenants};

/// Looks up the limits of a tenant, those of its configuration and those of single groups, and how far they are used.
///
/// # Errors
/// There is no such tenant in scope, or the broker can't be asked.
pub async fn list(service: &Service, caller: &Caller, tenant: &TenantId) -> Result<LimitsDocument, Problem> {
    caller.needs(Role::Observe)?;
    let config = service.config();
    let tenant = tenants::known(&config, caller, tenant)?;
    let used = service.broker.limits(&tenant).await.map_err(of_broker)?;
    let rules = config.tenants.get(&tenant).into_iter().flat_map(|terms| &terms.group_rules);
    let queues = rules.filter_map(|(queue, rule)| Some((queue, turns_of(rule)?)));
    let plugins = config.plugins.iter().filter(|plugin| plugin.tenant == tenant);
    let fleet = plugins.clone().filter_map(|plugin| Some((&plugin.name, plugin.concurrency?.get())));
    let rates = plugins.filter_map(|plugin| plugin.rate.as_ref());
    Ok(LimitsDocument::new(&tenant, used, &queues.collect(), &fleet.collect(), rates))
}

/// Changes the limit of a single group.
///
/// # Errors
/// There is no such tenant in scope, its queue gives no limit to its groups, a text or number is out of bounds, the tenant has too many
/// of these limits, the group has none, or the broker can't be asked.
pub async fn change(
    service: &Service,
    caller: &Caller,
    tenant: &TenantId,
    queue: &QueueName,
    group: &GroupKey,
    change: GroupLimitChange,
) -> Result<(), Problem> {
    caller.needs(Role::Operate)?;
    let config = service.config();
    let tenant = tenants::known(&config, caller, tenant)?;
    if let GroupLimitChange::Set(new) = &change {
        new.check().map_err(|error| Problem::new(Slug::RequestTooLarge, error.to_string()))?;
        if new.concurrency.get() > GROUP_CONCURRENCY_MAX {
            let message = format!("a group's limit is {GROUP_CONCURRENCY_MAX} at most");
            return Err(Problem::new(Slug::MalformedRequest, message));
        }
        let rules = config.tenants.get(&tenant).map(|terms| &terms.group_rules);
        if rules.and_then(|rules| rules.get(queue)).and_then(turns_of).is_none() {
            let message = format!("queue {queue} of tenant {tenant} limits none of its groups");
            let help = format!("give it tenants.{tenant}.queues.{queue}.group_concurrency first");
            return Err(Problem::new(Slug::Conflict, message).help(help));
        }
    }
    match service.broker.limit_group(&tenant, queue, group, change).await.map_err(of_broker)? {
        GroupLimited::Done => Ok(()),
        GroupLimited::NotLimited => {
            let message =
                format!("no group of queue {queue} of tenant {tenant} by this name has a limit of its own");
            Err(Problem::new(Slug::Conflict, message).help("`sandhog limit list` lists those that have"))
        }
        GroupLimited::TooMany => {
            let message = format!(
                "tenant {tenant} has {GROUP_LIMITS_MAX} limits of single groups, and can have no more"
            );
            let help =
                "`sandhog limit list` lists them; what most groups are to have is the limit of their queue";
            Err(Problem::new(Slug::RequestTooLarge, message).help(help))
        }
    }
}

fn turns_of(rule: &QueueRule) -> Option<NonZeroU16> {
    match rule {
        QueueRule::Turns(GroupRule::Concurrency(turns)) => Some(*turns),
        QueueRule::Turns(GroupRule::Strict(_)) | QueueRule::Fair(_) => None,
    }
}
