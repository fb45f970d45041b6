//! `sandhog plugin run`: runs one component once, with no broker.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use sandhog_config::units::{parse_size, parse_time};
use sandhog_core::admit::{Admission, Choice, Offer, Plan, admit};
use sandhog_core::budget::{Budget, Bytes, Caps, Fuel};
use sandhog_core::compile::CompileBudget;
use sandhog_core::id::{Kind, PluginName, QueueName, TenantId};
use sandhog_core::job::{Job, NewJob};
use sandhog_core::outcome::Outcome;
use sandhog_daemon::clock::Clock;
use sandhog_daemon::off_thread::off_thread;
use sandhog_engine::{
    Abort, Access, Class, DirGrant, EnvValue, Grants, HttpGrant, Input, InvalidTarget, LoadSpec,
    MemoryAccount, Plugin, Private, Secret, Share,
};

use super::local_host::LocalHost;
use super::{engine_for_one, read};
use crate::commands::payload::{self, Check};
use crate::exit::{Exit, Failure};
use crate::output::console::Console;
use crate::output::run::{self as render, RunDocument};

/// Run a component once on a payload, with no daemon and no broker; print result, log and usage
#[derive(Debug, Args)]
#[command(after_help = ABOUT)]
pub(crate) struct Run {
    /// The component
    file: PathBuf,
    /// What is to be done: one of the kinds that the component handles
    #[arg(long, short)]
    kind: Kind,
    #[command(flatten)]
    payload: Payload,
    /// Print nothing but the output, as it is
    #[arg(long, conflicts_with = "json")]
    output: bool,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    grants: GrantArgs,
}

const ABOUT: &str = "\
State is empty, and nothing is written: what the run would have written is shown instead.

Exit codes:
  0  it returned a result
  1  it failed, and a daemon would try it again
  3  it failed, and a daemon would bury the job at once

Example:
  sandhog plugin run report.wasm --kind report.csv --dir ./tables:/data '{\"path\": \"/data\"}'";

/// The input.
#[derive(Debug, Args)]
struct Payload {
    /// The input, as JSON; `-` reads it from standard input [default: null]
    #[arg(conflicts_with = "payload_file")]
    payload: Option<String>,
    /// Read the payload from a file
    #[arg(long = "file", id = "payload_file", value_name = "FILE")]
    file: Option<PathBuf>,
    /// Take the payload as it is, even if it is no JSON
    #[arg(long)]
    raw: bool,
}

/// What the run may spend.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
struct Limits {
    /// Instructions, such as 5_000_000_000
    #[arg(long, value_name = "N", value_parser = parse_fuel)]
    fuel: Option<Fuel>,
    /// Memory, such as 128MiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory: Option<Bytes>,
    /// Time, such as 30s
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    timeout: Option<Duration>,
}

/// What the run may reach.
#[derive(Debug, Args)]
#[command(next_help_heading = "Grants")]
struct GrantArgs {
    /// Show a directory to the handler: HOST:GUEST to read, HOST:GUEST:rw to write as well
    #[arg(long = "dir", value_name = "HOST:GUEST[:rw]", value_parser = parse_dir)]
    dirs: Vec<DirGrant>,
    /// Let the handler send requests to HOST:PORT; with `:private`, even if that is an internal address
    #[arg(long = "http", value_name = "HOST:PORT[:private]", value_parser = parse_http)]
    http: Vec<HttpGrant>,
    /// Set an environment variable of the handler
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = parse_env)]
    env: Vec<(String, EnvValue)>,
    /// Grant a secret: from the environment variable NAME, or from elsewhere
    #[arg(long = "secret", value_name = "NAME[=env:NAME|=file:PATH]", value_parser = parse_secret)]
    secrets: Vec<(String, Secret)>,
}

fn parse_fuel(text: &str) -> Result<Fuel, String> {
    let fuel = text.replace('_', "").parse().map_err(|_| "a whole number, such as 5_000_000_000")?;
    Ok(Fuel(fuel))
}

fn parse_dir(text: &str) -> Result<DirGrant, String> {
    let (text, access) = match text.strip_suffix(":rw") {
        Some(rest) => (rest, Access::ReadWrite),
        None => (text, Access::Read),
    };
    match text.rsplit_once(':') {
        Some((host, guest)) if !host.is_empty() && guest.starts_with('/') => {
            Ok(DirGrant { host: host.into(), guest: guest.to_owned(), access, quota: None })
        }
        _ => Err("HOST:GUEST, such as ./pictures:/images".to_owned()),
    }
}

fn parse_http(text: &str) -> Result<HttpGrant, String> {
    let (to, private) = match text.strip_suffix(":private") {
        Some(rest) => (rest, Private::Allow),
        None => (text, Private::Refuse),
    };
    let to = to.parse().map_err(|invalid: InvalidTarget| invalid.to_string())?;
    Ok(HttpGrant { to, private })
}

fn parse_env(text: &str) -> Result<(String, EnvValue), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), EnvValue::Plain(value.to_owned()))),
        _ => Err("NAME=VALUE".to_owned()),
    }
}

/// Parses a secret's name and source. The value isn't written on the command line, where others would see it.
fn parse_secret(text: &str) -> Result<(String, Secret), String> {
    let (name, place) = match text.split_once('=') {
        Some((name, place)) => (name, place.to_owned()),
        None => (text, format!("env:{text}")),
    };
    let value = match place.split_once(':') {
        Some(("env", variable)) => {
            std::env::var(variable).map_err(|_| format!("the environment variable {variable} is not set"))?
        }
        Some(("file", path)) => {
            let text =
                std::fs::read_to_string(path).map_err(|cause| format!("can't read {path}: {cause}"))?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        _ => return Err("NAME, NAME=env:VARIABLE or NAME=file:PATH".to_owned()),
    };
    Ok((name.to_owned(), Secret::new(value)))
}

impl Run {
    pub(crate) async fn execute(self, console: &Console) -> Result<Exit, Failure> {
        let budget = self.limits.budget();
        let payload = self.payload.read()?;
        let engine = engine_for_one(&budget)?;
        let spec = LoadSpec {
            name: name_of(&self.file),
            tenant: TenantId::parse(LOCAL).expect("it is a valid name"),
            wasm: read(&self.file)?,
            compile: CompileBudget::default(),
            grants: self.grants.grants(),
        };
        let spinner = console.spinner("compiling");
        let loader = engine.clone();
        let plugin = off_thread(move || loader.load(spec)).await;
        spinner.finish_and_clear();
        let plugin = plugin.map_err(|error| Failure::new(format!("{}: {error}", self.file.display())))?;

        let clock = Clock::system();
        let job = job(&clock, self.kind.clone(), payload);
        let plan = plan(&job, Arc::new(plugin), budget)?;
        let host = Arc::new(LocalHost::new(clock.clone(), job.queue.clone(), *console));
        let share = Share {
            tenant: job.tenant.clone(),
            weight: NonZeroU32::MIN,
            class: Class::Normal,
            memory: MemoryAccount::default(),
            memory_max: plan.budget().memory,
        };
        let input = Input {
            id: job.id,
            kind: job.kind,
            payload: job.payload,
            tenant: job.tenant,
            queue: job.queue,
            attempt: 1,
            max_attempts: plan.retry().attempts_most().get(),
            deadline: clock.now().after(budget.timeout),
            enqueued_at: job.enqueued_at,
            options: job.options,
        };
        let report = engine.run(plan, input, Arc::clone(&host) as _, share, Abort::new()).await;
        let exit = Exit::of_outcome(&report.outcome);
        if self.output
            && let Outcome::Returned { output, .. } = &report.outcome
        {
            console.bytes(output)?;
            return Ok(exit);
        }
        let heard = host.take();
        let text = render::run(&report, console.paint());
        let document = RunDocument::new(report, heard.log, heard.progress);
        console.show(&document, || text)?;
        Ok(exit)
    }
}

/// The name of the tenant, the queue and, by default, the plugin of a job that no broker knows.
const LOCAL: &str = "local";

fn job(clock: &Clock, kind: Kind, payload: Vec<u8>) -> Job {
    Job::of(
        NewJob::new(clock.job_id(), QueueName::parse(LOCAL).expect("it is a valid name"), kind, payload),
        TenantId::parse(LOCAL).expect("it is a valid name"),
        clock.now(),
    )
}

fn plan(job: &Job, plugin: Arc<Plugin>, budget: Budget) -> Result<Plan<Arc<Plugin>>, Failure> {
    let payload_max = Bytes(u64::MAX);
    match admit(job, Choice::Offer(Offer { plugin, budget, retry: Arc::default(), payload_max })) {
        Admission::Run(plan) => Ok(plan),
        Admission::Defer { reason, .. } => Err(Failure::new(reason.slug())),
        Admission::Reject { message, .. } => Err(Failure::new(message)),
    }
}

/// Returns the file's name as the plugin's, or `local` if it can't be one.
fn name_of(file: &Path) -> PluginName {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or(LOCAL);
    PluginName::parse(&stem.to_ascii_lowercase())
        .unwrap_or_else(|_| PluginName::parse(LOCAL).expect("it is a valid name"))
}

impl Limits {
    fn budget(&self) -> Budget {
        // It is the caller's own machine, so the limits asked for may be higher than the default.
        let asked = Caps { fuel: self.fuel, memory: self.memory, timeout: self.timeout, ..Caps::default() };
        Budget::DEFAULT.replace(&asked)
    }
}

impl GrantArgs {
    fn grants(self) -> Grants {
        let secrets: BTreeMap<String, Secret> = self.secrets.into_iter().collect();
        Grants { dirs: self.dirs, http: self.http, env: self.env, secrets }
    }
}

impl Payload {
    fn read(&self) -> Result<Vec<u8>, Failure> {
        payload::read(self.payload.as_deref(), self.file.as_deref(), Check::unless(self.raw))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_granted_for_reading_unless_it_says_otherwise() {
        let dir = |host: &str, guest: &str, access| DirGrant {
            host: host.into(),
            guest: guest.into(),
            access,
            quota: None,
        };
        assert_eq!(parse_dir("./a:/b"), Ok(dir("./a", "/b", Access::Read)));
        assert_eq!(parse_dir("a:b:/c:rw"), Ok(dir("a:b", "/c", Access::ReadWrite)));
        for wrong in ["", "a", ":/b", "a:b", "a:", ":rw", "/a:rw"] {
            assert!(parse_dir(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn fuel_is_read_as_toml_has_it() {
        assert_eq!(parse_fuel("5_000"), Ok(Fuel(5000)));
        assert!(parse_fuel("5k").is_err());
    }
}
