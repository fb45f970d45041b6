//! Real daemons, a real Redis, real components.

mod cancel;
mod capabilities;
mod clock;
mod components;
mod crash;
mod deploys;
mod disk;
mod drain;
mod effects;
mod fresh;
mod fuel;
mod grants;
mod hostile;
mod kill;
mod languages;
mod limits;
mod log;
mod malformed;
mod outage;
mod plugin_files;
mod queues;
mod quotas;
mod templates;
mod tenants;
mod upgrade;
mod usage;
