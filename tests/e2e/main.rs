//! Real daemons, a real Redis, real components.

mod capabilities;
mod crash;
mod deploys;
mod drain;
mod effects;
mod fresh;
mod hostile;
mod kill;
mod languages;
mod limits;
mod malformed;
mod outage;
mod templates;
mod tenants;
