//! Plays a plan in a world of its own, and checks what has come of it.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rand::SeedableRng;
use rand::rngs::StdRng;
use sandhog_broker::{Broker, Query};
use sandhog_core::account::{Account, Day};
use sandhog_core::id::{JobId, PluginName, StateKey, TenantId};
use sandhog_core::job::{JobRecord, State};
use sandhog_tests::tenant;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::check::{Found, OfTenant, violations};
use crate::history::{self, Entry, Event};
use crate::holder::hold;
use crate::plan::{Hold, Job, Plan, TENANTS};
use crate::recovery::{self, Recoveries};
use crate::workload::produce;
use crate::world::{LIMITS, World, new_job, until_answered};

/// However slow the machine, what isn't done by then never will be.
const PATIENCE: Duration = Duration::from_secs(90);

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What was played, in words.
    pub(crate) what: String,
    /// How many faults struck.
    pub(crate) faults: usize,
    pub(crate) recoveries: Recoveries,
    /// Everything that didn't hold.
    pub(crate) wrong: Vec<String>,
    pub(crate) took: Duration,
    /// The folder with history and logs, if something is wrong.
    pub(crate) kept: Option<PathBuf>,
}

/// Plays the plan of a seed, on threads of its own. A panic is as wrong as anything else.
pub(crate) fn play(seed: u64) -> Outcome {
    let playing = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build();
        runtime.expect("a runtime").block_on(play_plan(Plan::of_seed(seed)))
    });
    playing.join().unwrap_or_else(|_| Outcome {
        what: format!("seed {seed}"),
        faults: 0,
        recoveries: Recoveries::new(),
        wrong: vec!["the test itself has panicked".to_owned()],
        took: Duration::ZERO,
        kept: None,
    })
}

async fn play_plan(plan: Plan) -> Outcome {
    let (started, what) = (Instant::now(), in_words(&plan));
    let (seed, faults, plan) = (plan.seed, plan.faults.len(), Arc::new(plan));
    let world = match World::start(&plan).await {
        Ok(world) => Arc::new(world),
        Err(error) => {
            let wrong = vec![format!("the world doesn't start: {error:#}")];
            return Outcome {
                what,
                faults,
                recoveries: Recoveries::new(),
                wrong,
                took: started.elapsed(),
                kept: None,
            };
        }
    };
    let found = in_world(&world, &plan).await;
    let entries = world.history.entries();
    let wrong = match &found {
        Ok((found, planned)) => violations(&entries, planned, &LIMITS, found),
        Err(error) => vec![format!("{error:#}")],
    };
    let found = found.map(|(found, _)| format!("{found:#?}")).unwrap_or_default();
    let texts = [("history", history::text(&entries)), ("found", found), ("wrong", wrong.join("\n"))];
    let kept = (!wrong.is_empty()).then(|| keep(seed, &world, &texts));
    Outcome { what, faults, recoveries: recovery::of(&entries), wrong, took: started.elapsed(), kept }
}

/// The plan, for people.
fn in_words(plan: &Plan) -> String {
    let jobs = plan.jobs().count();
    let mut text = format!("seed {}: {:?}, {} daemons, {jobs} jobs", plan.seed, plan.backend, plan.daemons);
    for (at, fault) in &plan.faults {
        let _ = write!(text, "\n  {:.3} s {}: {fault:?}", at.as_secs_f64(), fault.name());
    }
    text
}

type FoundAndPlanned = (Found, HashMap<JobId, Job>);

async fn in_world(world: &Arc<World>, plan: &Arc<Plan>) -> anyhow::Result<FoundAndPlanned> {
    let (over, is_over) = watch::channel(false);
    let holding: JoinHandle<()> = tokio::spawn(hold(Arc::clone(world), is_over));
    timeout(PATIENCE, produce_and_strike(world, plan)).await.context("faults and producers don't end")??;
    world.probe_all("the end").await?;
    all_settled(world).await?;
    let filling = fill(world).await?;
    over.send_replace(true);
    timeout(PATIENCE, holding).await.context("the two holders don't end")??;
    all_settled(world).await?;
    world.end().await?;
    let mut planned: HashMap<JobId, Job> = plan.jobs().map(|(_, job)| (job.id, job.clone())).collect();
    planned.extend(filling);
    let mut found = Found::default();
    for tenant in TENANTS.map(tenant) {
        let of_tenant = collect(&*world.direct, &tenant, &planned).await?;
        found.tenants.insert(tenant, of_tenant);
    }
    Ok((found, planned))
}

async fn produce_and_strike(world: &Arc<World>, plan: &Arc<Plan>) -> anyhow::Result<()> {
    let mut faults = JoinSet::new();
    for nth in 0..plan.faults.len() {
        let (world, plan) = (Arc::clone(world), Arc::clone(plan));
        faults.spawn(async move {
            let (at, fault) = &plan.faults[nth];
            sleep(*at).await;
            world.history.note(Event::Struck { fault: fault.name(), what: format!("{fault:?}") });
            fault.strike(&world).await.with_context(|| format!("{fault:?}"))
        });
    }
    produce(world, plan).await?;
    while let Some(struck) = faults.join_next().await {
        struck??;
    }
    Ok(())
}

/// Waits until nothing is under way any more.
async fn all_settled(world: &World) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    for tenant in TENANTS.map(tenant) {
        loop {
            let counts = until_answered(|| world.direct.counts(&tenant)).await;
            if counts.unfinished() == 0 {
                break;
            }
            if Instant::now() > until {
                bail!("jobs of {tenant} are still under way: {counts:?}");
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

/// Asks for as many runs at once as the daemons have room for: none may have been lost to what has failed.
async fn fill(world: &World) -> anyhow::Result<HashMap<JobId, Job>> {
    let (of, limit) = LIMITS.tenants[0];
    let of = tenant(of);
    let room = limit * world.daemons.len();
    let mut random = StdRng::from_rng(&mut rand::rng());
    let jobs: Vec<Job> = (0..room).map(|_| Job::of_hold(&mut random, Hold::Until(room))).collect();
    let new: Vec<_> = jobs.iter().map(new_job).collect();
    for job in &new {
        world.history.note(Event::Asked { tenant: of.clone(), job: job.id });
    }
    until_answered(|| world.direct.enqueue(&of, &new)).await;
    let ids: Vec<String> = new.iter().map(|job| job.id.to_string()).collect();
    let begun = |entries: &[Entry]| {
        let runs =
            entries.iter().filter(|(_, event)| matches!(event, Event::Began(run) if ids.contains(&run.job)));
        runs.map(|(_, event)| match event {
            Event::Began(run) => run.job.clone(),
            _ => String::new(),
        })
        .collect::<std::collections::BTreeSet<_>>()
        .len()
    };
    let full = world.history.until(|entries| (begun(entries) == room).then_some(()));
    // They hold each other up until there are so many.
    timeout(PATIENCE, full).await.ok();
    world.history.note(Event::Filled { runs: begun(&world.history.entries()), room });
    Ok(jobs.into_iter().map(|job| (job.id, job)).collect())
}

async fn collect(
    broker: &dyn Broker,
    tenant: &TenantId,
    planned: &HashMap<JobId, Job>,
) -> anyhow::Result<OfTenant> {
    let mut records: Vec<JobRecord> = Vec::new();
    for state in State::ALL {
        let mut query = Query::of(state, Query::LIMIT_MAX);
        loop {
            let page = broker.jobs(tenant, query.clone()).await?;
            records.extend(page.jobs);
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
    }
    let mut state = BTreeMap::new();
    for key in keys(&records, planned) {
        let (plugin, stored) = (PluginName::parse("witness")?, StateKey::parse(&key)?);
        if let Some(value) = broker.state(tenant, &plugin, &stored).await? {
            state.insert(key, String::from_utf8_lossy(&value).into_owned());
        }
    }
    let usage = broker.usage(tenant, Day(0)..=Day(u32::MAX)).await?;
    let spent = usage.iter().fold(Account::default(), |sum, of_day| sum.and(&of_day.account));
    Ok(OfTenant { records, counts: broker.counts(tenant).await?, spent, state })
}

/// Wherever runs of these jobs may have left something.
fn keys(records: &[JobRecord], planned: &HashMap<JobId, Job>) -> Vec<String> {
    let mut keys = vec!["runs".to_owned(), "children".to_owned()];
    for record in records {
        let id = record.id;
        let Some(job) = planned.get(&id) else { continue };
        keys.extend([format!("runs/{id}"), format!("run/{id}")]);
        keys.extend((0..job.children).map(|number| format!("child/{id}/{number}")));
    }
    keys
}

/// Keeps all that tells what happened.
fn keep(seed: u64, world: &World, texts: &[(&str, String)]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos/{seed}"));
    let write = |(name, text): &(&str, String)| fs::write(folder.join(format!("{name}.txt")), text);
    let kept = fs::create_dir_all(&folder)
        .and_then(|()| texts.iter().try_for_each(write))
        .and_then(|()| world.keep_logs(&folder));
    if let Err(error) = kept {
        eprintln!("{} can't be kept: {error}", folder.display());
    }
    folder
}
