//! Registration of the schedules of the plugins in force.
//!
//! **What was put into force last holds.** A daemon registers the schedules of a plugin when the plugin comes into force on it,
//! with a definition that this daemon hasn't registered before, and never again by itself. So while daemons are brought up
//! to date one by one, the new definitions come with the first, and the old daemons don't bring theirs back.
//!
//! A schedule that the file of its plugin has no more is removed. Those of plugins that this daemon doesn't have are left alone:
//! others may have them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sandhog_broker::{Broker, Result, ScheduleWritten, StoredSchedule};
use sandhog_core::id::{PluginName, ScheduleName, TenantId};
use sandhog_core::quota::QueueBounds;
use sandhog_core::retry::{Backoff, Growth, Jitter};
use sandhog_core::schedule::{Decision, Record, Schedule, Source};

use super::step::{self, Known};
use crate::catalog::{Catalog, Current};
use crate::clock::Clock;
use crate::telemetry::{Event, Observer, Registration};

/// Backoff of registrations that have failed.
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(200),
    growth: Growth::Exponential { factor: 2.0 },
    max: Duration::from_secs(30),
    jitter: Jitter::Full,
};

/// Maximum number of tries to write a schedule that others write as well. Each of theirs is a step of it.
const TRIES_MAX: usize = 20;

/// Schedules by plugin.
pub(super) type ByPlugin = BTreeMap<PluginName, Vec<Schedule>>;

/// Schedules of a tenant that this daemon has registered last, by plugin. `None` if that was begun and hasn't succeeded: some of it may
/// have been done, so that it has to be done again even if it is to be as it was before.
pub(super) type Registered = BTreeMap<PluginName, Option<Vec<Schedule>>>;

/// Loop that registers the schedules of plugins as they come into force.
pub(crate) struct Registrar<P> {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) catalog: Current<P>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) clock: Clock,
}

impl<P> Registrar<P> {
    /// Registers schedules until the process ends.
    pub(crate) async fn run(mut self) {
        let mut registered: BTreeMap<TenantId, Registered> = BTreeMap::new();
        let mut failures = 0;
        loop {
            let wanted = wanted(&self.catalog.borrow_and_update());
            let tenants: BTreeSet<TenantId> = wanted.keys().chain(registered.keys()).cloned().collect();
            let (none, mut has_failed) = (ByPlugin::new(), false);
            for tenant in tenants {
                let wanted = wanted.get(&tenant).unwrap_or(&none);
                let registered = registered.entry(tenant.clone()).or_default();
                if let Err(error) =
                    register(&*self.broker, &*self.observer, &tenant, registered, wanted).await
                {
                    has_failed = true;
                    tracing::warn!(%tenant, %error, "schedules can't be registered yet");
                }
            }
            registered.retain(|_, of_tenant| !of_tenant.is_empty());
            failures = if has_failed { failures + 1 } else { 0 };
            let wait = BACKOFF.wait(failures, self.clock.chance()).max(Duration::from_millis(50));
            tokio::select! {
                biased;
                changed = self.catalog.changed() => if changed.is_err() { std::future::pending::<()>().await },
                () = tokio::time::sleep(wait), if has_failed => {}
            }
        }
    }
}

/// Registers what is wanted for a tenant and isn't what this daemon has registered last.
pub(super) async fn register(
    broker: &dyn Broker,
    observer: &dyn Observer,
    tenant: &TenantId,
    registered: &mut Registered,
    wanted: &ByPlugin,
) -> Result<()> {
    let plugins: BTreeSet<PluginName> = registered.keys().chain(wanted.keys()).cloned().collect();
    let is_changed =
        |plugin: &PluginName| registered.get(plugin).map(Option::as_ref) != wanted.get(plugin).map(Some);
    let changed: Vec<PluginName> = plugins.into_iter().filter(is_changed).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let (_, stored) = step::all(broker, tenant).await?;
    for plugin in changed {
        registered.insert(plugin.clone(), None);
        let of_plugin = OfPlugin { broker, observer, tenant, plugin: &plugin };
        let schedules = wanted.get(&plugin).map(Vec::as_slice).unwrap_or_default();
        for schedule in schedules {
            of_plugin.put(schedule).await?;
        }
        for stored in stored.iter().filter(|stored| !schedules.iter().any(|new| new.name == stored.name)) {
            of_plugin.remove(stored).await?;
        }
        match wanted.get(&plugin) {
            Some(schedules) => registered.insert(plugin, Some(schedules.clone())),
            None => registered.remove(&plugin),
        };
    }
    Ok(())
}

/// A plugin whose schedules are registered.
struct OfPlugin<'r> {
    broker: &'r dyn Broker,
    observer: &'r dyn Observer,
    tenant: &'r TenantId,
    plugin: &'r PluginName,
}

impl OfPlugin<'_> {
    fn tell(&self, schedule: &ScheduleName, registration: Registration) {
        let Self { tenant, plugin, .. } = *self;
        self.observer.on(&Event::ScheduleRegistered { tenant, schedule, plugin, registration });
    }

    async fn put(&self, schedule: &Schedule) -> Result<()> {
        let Self { broker, tenant, .. } = *self;
        for _ in 0..TRIES_MAX {
            let (now, stored) = step::look_up(broker, tenant, &schedule.name).await?;
            let known = match stored.as_ref().map(Known::read).transpose() {
                Ok(known) => known,
                Err(why) => {
                    let schedule = &schedule.name;
                    self.observer.on(&Event::ScheduleUnreadable { tenant, schedule, why: &why });
                    return Ok(());
                }
            };
            let (expected, record, registration) = match known {
                None => (None, Record::new(schedule.clone(), now), Registration::Added),
                Some(known) if known.record.schedule.source != schedule.source => {
                    self.tell(&schedule.name, Registration::Taken);
                    return Ok(());
                }
                Some(Known { version, record }) => match record.redefined(schedule.clone(), now) {
                    None => return Ok(()),
                    Some(record) => (Some(version), record, Registration::Changed),
                },
            };
            let decision = Decision::of(record);
            let registration =
                match step::write(broker, tenant, expected, &decision, &QueueBounds::default(), now).await? {
                    ScheduleWritten::Stale => continue,
                    ScheduleWritten::TooMany => Registration::TooMany,
                    ScheduleWritten::Done | ScheduleWritten::Refused(_) => registration,
                };
            self.tell(&schedule.name, registration);
            return Ok(());
        }
        tracing::warn!(%tenant, schedule = %schedule.name, "others change a schedule all the time; it isn't registered");
        Ok(())
    }

    /// Removes a stored schedule, if it comes from this plugin.
    async fn remove(&self, stored: &StoredSchedule) -> Result<()> {
        let Self { broker, tenant, plugin, .. } = *self;
        let mut stored = Some(stored.clone());
        while let Some(known) = &stored {
            match Known::read(known) {
                Ok(Known { record, .. }) if record.schedule.source == Source::Plugin(plugin.clone()) => {}
                _ => return Ok(()),
            }
            let name = known.name.clone();
            match step::remove(broker, tenant, &name, known.version).await? {
                ScheduleWritten::Stale => stored = step::look_up(broker, tenant, &name).await?.1,
                _ => {
                    self.tell(&name, Registration::Removed);
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Returns the schedules of the plugins in force.
fn wanted<P>(catalog: &Catalog<P>) -> BTreeMap<TenantId, ByPlugin> {
    let tenants = catalog.tenants().filter_map(|id| Some((id, catalog.tenant(id)?)));
    let with_plugins = tenants.filter(|(_, tenant)| !tenant.schedules.is_empty());
    with_plugins.map(|(id, tenant)| (id.clone(), tenant.schedules.clone())).collect()
}
