//! The command as its users meet it: the real binary, its output, its exit codes.

mod compiling;
mod configuration;
mod daemon;
mod events;
mod flows;
mod holds;
mod http;
mod jobs;
mod manual;
mod plugins;
mod remote;
mod signing;
mod site;
mod tenants;
mod unique;
