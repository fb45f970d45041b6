//! `sandhog check`: checks the configuration, the components and the broker, and shows what would be in force.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use clap::Args;
use sandhog_broker::{Cursor, Query, UNREADABLE_COUNTED_MAX};
use sandhog_config::{self as config, Broker, Config, Problems};
use sandhog_core::id::{JobId, Kind, QueueName, TenantId};
use sandhog_core::job::State;
use sandhog_core::reason::Reason;
use sandhog_daemon::broker::Access;
use sandhog_daemon::deploy;
use sandhog_daemon::http::check_tls;
use sandhog_engine::Engine;

use crate::client::Beside;
use crate::commands::daemon::warnings;
use crate::commands::loading::{failure, load_all};
use crate::exit::{Exit, Failure};
use crate::output::check::{self as render, CheckDocument, LoadedDocument, ProblemDocument};
use crate::output::console::{Console, Format};
use crate::output::of;

/// Check the configuration, every component and the broker; print what would be in force
#[derive(Debug, Args)]
#[command(after_help = "Nothing is changed, and nothing that runs is disturbed. Secrets are not printed.")]
pub(crate) struct Check {
    /// Leave the broker alone
    #[arg(long)]
    offline: bool,
}

impl Check {
    pub(crate) async fn execute(self, path: &Path, console: &Console) -> Result<Exit, Failure> {
        let config = match config::load(path) {
            Ok(config) => config,
            Err(problems) => {
                if console.format == Format::Json {
                    console.json(&CheckDocument::of_problems(
                        problems.iter().map(ProblemDocument::from).collect(),
                    ))?;
                }
                return Err(problems.into());
            }
        };
        let (loaded, errors) = load(&config, console).await?;
        let mut failures: Vec<Failure> = Vec::new();
        let problems = config.problems();
        failures.extend(problems.clone().map(Failure::from));
        if !errors.is_empty() {
            failures.push(failure(&errors));
        }
        let tls = config.http.as_ref().and_then(|http| http.tls.as_ref());
        if let Some(Err(error)) = tls.map(check_tls) {
            failures.push(Failure::new(error.to_string()).help("a daemon doesn't start with it"));
        }
        let mut warnings = warnings(&config);
        if !self.offline {
            match broker(&config).await {
                Ok(of_broker) => warnings.extend(of_broker),
                Err(failed) => failures.push(failed),
            }
        }
        let mut document = CheckDocument::new(path, &config, loaded, warnings);
        let beyond = failures.iter().skip(usize::from(problems.is_some()));
        document.errors = beyond.map(|failure| failure.message.clone()).collect();
        document.problems = problems.iter().flat_map(Problems::iter).map(ProblemDocument::from).collect();
        document.ok = failures.is_empty();
        if document.ok || console.format == Format::Json {
            console.show(&document, || render::check(&config, &document, console.paint()))?;
        }
        match failures.into_iter().reduce(Failure::and) {
            Some(failure) => Err(failure),
            None => Ok(Exit::Ok),
        }
    }
}

/// Loads every component, as a daemon would.
async fn load(
    config: &Config,
    console: &Console,
) -> Result<(Vec<LoadedDocument>, Vec<deploy::Error>), Failure> {
    let engine = Engine::new(deploy::engine_settings(config))?;
    let bar = console.bar(config.plugins.len() as u64, "loading components");
    let documents = RefCell::new(Vec::new());
    let loaded = load_all(&engine, config, |terms, result| {
        bar.inc(1);
        if let Ok(plugin) = result {
            documents.borrow_mut().push(LoadedDocument::new(config, terms, plugin.revision()));
        }
    });
    let loaded = loaded.await;
    bar.finish_and_clear();
    Ok((documents.into_inner(), loaded.err().unwrap_or_default()))
}

/// Returns the warnings of the broker's own check and of its jobs. A broker file that doesn't exist is not created.
async fn broker(config: &Config) -> Result<Vec<String>, Failure> {
    if let Broker::Embedded { path } = &config.broker
        && !path.exists()
    {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new("."));
        if !folder.is_dir() {
            let message = format!("there is no folder {} for the broker's file", folder.display());
            return Err(Failure::new(message).help("make it, or change broker.path"));
        }
        return Ok(Vec::new());
    }
    let broker = sandhog_daemon::broker::connect(config, Access::Change).await?.broker;
    let mut warnings = broker.check().await?;
    let client = Beside::of(config.clone(), broker);
    warnings.extend(strangers(&client).await?);
    for tenant in config.tenants.keys() {
        match waiting(&client, tenant).await {
            Ok(told) => warnings.extend(told),
            Err(error) => warnings.push(format!("the jobs of tenant {tenant} can't be looked at: {error}")),
        }
    }
    Ok(warnings)
}

/// Returns a warning for each tenant that the broker keeps something of and the configuration doesn't have.
async fn strangers(client: &Beside) -> Result<Vec<String>, sandhog_broker::Error> {
    let mut told = Vec::new();
    for tenant in client.broker.tenants().await? {
        if !client.config.tenants.contains_key(&tenant) {
            let jobs = of(client.broker.counts(&tenant).await?.total(), "job");
            told.push(format!(
                "the broker keeps {jobs} of tenant {tenant}, which is not in the configuration; \
                 `sandhog tenant purge {tenant}` removes all that there is of it"
            ));
        }
    }
    Ok(told)
}

/// Maximum number of pages of a tenant's ready jobs, and of its scheduled ones, that are checked for jobs that nothing
/// serves.
const PAGES_MAX: u32 = 20;

/// Returns warnings of a tenant's jobs that wait and that nothing serves, and of those that can't be read.
async fn waiting(client: &Beside, tenant: &TenantId) -> Result<Vec<String>, sandhog_broker::Error> {
    let mut found = Found::default();
    let mut told = Vec::new();
    for state in [State::Ready, State::Scheduled] {
        let mut query = Query { payloads: false, ..Query::of(state, Query::LIMIT_MAX) };
        query.after = found.read(client, tenant, &query).await?;
        if query.after.is_some() {
            let most = PAGES_MAX * Query::LIMIT_MAX;
            told.push(format!(
                "tenant {tenant} has more than {most} {state} jobs; whether anything serves those behind them was not looked at"
            ));
            // Daemons have noted this reason with those of them that they have met.
            query.filter.reason = Some(Reason::NoPlugin);
            found.read(client, tenant, &query).await?;
        }
    }
    let known = client.broker.counts(tenant).await?.unreadable;
    told.extend(found.tell(client, tenant, known));
    Ok(told)
}

/// The jobs found waiting.
#[derive(Default)]
struct Found {
    /// Number of jobs of each kind in a queue.
    jobs: BTreeMap<(QueueName, Kind), u64>,
    /// Jobs that can't be read, with the problem.
    unread: BTreeMap<JobId, String>,
}

impl Found {
    /// Reads up to [`PAGES_MAX`] pages. Returns the place where the list goes on, or `None` at its end.
    async fn read(
        &mut self,
        client: &Beside,
        tenant: &TenantId,
        query: &Query,
    ) -> Result<Option<Cursor>, sandhog_broker::Error> {
        let mut after = query.after;
        for _ in 0..PAGES_MAX {
            let page = client.broker.jobs(tenant, Query { after, ..query.clone() }).await?;
            for job in page.jobs {
                *self.jobs.entry((job.queue, job.kind)).or_default() += 1;
            }
            self.unread.extend(page.unread.into_iter().map(|unread| (unread.id, unread.problem)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(after)
    }

    /// Returns the warnings. `known` is the number of unreadable jobs that the broker knows, as some of them are in no list.
    fn tell(self, client: &Beside, tenant: &TenantId, known: u64) -> Vec<String> {
        let mut unserved = BTreeMap::<String, u64>::new();
        for ((queue, kind), n) in &self.jobs {
            for problem in client.unserved(tenant, queue, kind) {
                *unserved.entry(problem).or_default() += n;
            }
        }
        let wait = |n: u64| if n == 1 { "1 job waits".to_owned() } else { format!("{n} jobs wait") };
        let in_vain = |(problem, n)| format!("{} in vain: {problem}", wait(n));
        let mut told: Vec<String> = unserved.into_iter().map(in_vain).collect();
        let unreadable = known.max(self.unread.len() as u64);
        if unreadable == 0 {
            return told;
        }
        let (jobs, more) =
            (of(unreadable, "job"), if known >= UNREADABLE_COUNTED_MAX { " or more" } else { "" });
        let such = self.unread.first_key_value();
        let such = such.map(|(id, problem)| format!(", such as {id}: {problem}")).unwrap_or_default();
        told.push(format!(
            "{jobs}{more} of tenant {tenant} can't be read by this version, and stay as they are until one can{such}"
        ));
        told
    }
}
