//! The command as its users meet it: the real binary, its output, its exit codes.

mod configuration;
mod daemon;
mod jobs;
mod plugins;
mod site;
mod tenants;
