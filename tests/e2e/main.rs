//! Real daemons, a real Redis, real components.

mod crash;
mod drain;
mod effects;
mod hostile;
mod limits;
mod malformed;
mod outage;
mod tenants;
