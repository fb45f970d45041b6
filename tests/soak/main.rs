//! Two daemons at work for as long as wanted, with deploys all the while: nothing may grow.
//!
//! `make soak SECONDS=3600`. Three tenants have jobs of every shape ([`load`]), new revisions are deployed every 20 s
//! ([`deploys`]), finished jobs are kept for 20 s. Every 10 s the memory, open files and threads of the daemons are looked
//! at, and the keys, memory and clients of their Redis ([`samples`]). In the end a table says which of them are flat, by
//! the rule in [`trend`]; exits 1 if one isn't, or if a job that counts has not counted exactly once.
//!
//! It takes some minutes until memory has settled, so a run of less than 20 says little.

mod deploys;
mod load;
mod samples;
mod trend;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use sandhog_broker::Broker;
use sandhog_core::id::{PluginName, StateKey, TenantId};
use sandhog_tests::{Backend, BackgroundWeb, Daemon, Fsync, Reply, Site, all_final, component, tenant};
use tokio::time::{Duration, Instant, interval_at};

use samples::Samples;

const EVERY: Duration = Duration::from_secs(10);

/// The folder of a daemon is its own; all else is shared.
const FIRST_FOLDER: &str = "deploys-1";
const SECOND_FOLDER: &str = "deploys-2";

/// What follows the first line of `[engine]`. Nothing is kept of a run's memory: what a place keeps, it keeps from the first large
/// run that it happens to have, which looks like growth for as long as some have had none.
const DAEMON: &str = r#"concurrency = 32
idle_memory = "0B"

[deploy]
folder = "deploys-1"

[limits]
fuel = 100_000_000
memory = "32MiB"
timeout = "5s"
"#;

const TENANTS: [&str; 3] = ["acme", "globex", "initech"];

const HOG: &str = r#"kinds = [
    "hog.allocate", "hog.count", "hog.echo", "hog.exchange", "hog.fail", "hog.keep", "hog.log", "hog.note", "hog.output",
    "hog.panic", "hog.recurse", "hog.sleep", "hog.spawn", "hog.spin", "hog.write",
]
queue = "hogs"
"#;
const CHURN: &str = "kinds = [\"churn.run\"]\nqueue = \"hogs\"\n";
const TERMS: &str = r#"
[limits]
payload = "1MiB"

[keep]
done = "20s"
dead = "20s"

[retry]
max_attempts = 3
backoff = { base = "500ms", factor = 2.0, max = "2s", jitter = "full" }
"#;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let seconds = std::env::args().nth(1).context("for how many seconds?")?;
    let length = Duration::from_secs(seconds.parse().context("the first argument is a number of seconds")?);
    let tenants = TENANTS.map(tenant);
    let web = BackgroundWeb::start(|_| Reply::Body(b"hello".to_vec()));
    let mut site = site(web.port())?;
    let client = redis::Client::open(site.redis().url())?;
    let mut redis = client.get_multiplexed_async_connection().await?;
    let broker = site.broker().await;
    let second = second_config(&site)?;
    let daemons = [Daemon::start(&site.config()), Daemon::start(&second)];

    load::warm_up(&*broker, &tenants).await?;
    let began = Instant::now();
    let until = began + length;
    let mut samples = Samples::default();
    let sampling = async {
        let mut ticks = interval_at(began + EVERY, EVERY);
        while ticks.tick().await < until {
            let at = began.elapsed();
            let taken = samples.take(at, &daemons, &mut redis, &*broker, &tenants).await;
            let shown =
                taken.map_or_else(|error| format!("no look was had: {error:#}"), |()| samples.latest());
            println!("{:>5} s  {shown}", at.as_secs());
        }
        Ok(())
    };
    let first = site.config();
    let configs = [first.as_path(), second.as_path()];
    let (enqueued, deploys, ()) = tokio::try_join!(
        load::enqueue(&*broker, &tenants, web.port(), until),
        deploys::deploy(&site, &configs, until),
        sampling
    )?;

    let mut counted = 0;
    for tenant in &tenants {
        all_final(&*broker, tenant).await;
        counted += counter(&*broker, tenant).await?;
    }
    for mut daemon in daemons {
        daemon.signal("TERM");
        ensure!(daemon.wait().success(), "a daemon didn't stop in good order");
    }
    let (table, all_flat) = samples.verdict();
    println!("\n{} jobs and {deploys} deploys in {} s\n{table}", enqueued.jobs, length.as_secs());
    println!("{counted} of {} jobs that count have counted", enqueued.counting);
    let is_well = all_flat && counted == enqueued.counting;
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Makes the site; handlers may send requests to the server at `port`, and have a folder each.
fn site(port: u16) -> anyhow::Result<Site> {
    let site = Site::new(Backend::Redis(Fsync::EverySecond), DAEMON);
    let (hog, churn) = (fs::read(component("hog")).expect("it was built"), deploys::churn(0));
    site.component("hog", &hog);
    site.component("churn", &churn);
    let path = |name: &str| site.path().join(format!("plugins.d/{name}.wasm"));
    let (hog, churn) = (path("hog"), path("churn"));
    TENANTS.iter().try_fold(site, |site, tenant| {
        let folder = site.path().join(format!("data-{tenant}"));
        fs::create_dir(&folder)?;
        let grants = format!(
            "\n[grants]\ndirs = [{{ host = \"{}\", guest = \"/data\", access = \"read-write\", quota = \"64MiB\" }}]
             http = [{{ to = \"127.0.0.1:{port}\", private = \"allow\" }}]\n",
            folder.display()
        );
        let site = site.with_plugin("hog", tenant, &hog, &format!("{HOG}{TERMS}{grants}"));
        Ok(site.with_plugin("churn", tenant, &churn, &format!("{CHURN}{TERMS}")))
    })
}

/// The second daemon's file, which is the first one's but for the folder.
fn second_config(site: &Site) -> anyhow::Result<PathBuf> {
    let path = site.path().join("second.toml");
    let text = fs::read_to_string(site.config())?.replace(FIRST_FOLDER, SECOND_FOLDER);
    fs::write(&path, text)?;
    Ok(path)
}

async fn counter(broker: &dyn Broker, of: &TenantId) -> anyhow::Result<u64> {
    let stored = broker.state(of, &PluginName::parse("hog")?, &StateKey::parse(load::COUNTER)?).await?;
    stored.map_or(Ok(0), |number| Ok(String::from_utf8(number)?.parse()?))
}
