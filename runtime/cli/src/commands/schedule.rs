//! `sandhog schedules` and `sandhog schedule`: lists schedules, shows one, and acts on it.

use std::num::NonZeroU64;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use sandhog_api::{Request, ScheduleAsk, route};
use sandhog_config::units::{parse_time, time};
use sandhog_core::id::{Kind, QueueName, ScheduleName, TenantId};
use sandhog_core::job::Priority;
use sandhog_core::schedule::{CatchUp, Cron, Overlap, Zone};
use sandhog_daemon::broker::Access;
use sandhog_daemon::clock::Clock;
use sandhog_daemon::service::schedules::{Change, Definition, Nominal, point};

use crate::client::{self, Client};
use crate::commands::payload::{self, Check};
use crate::exit::{Exit, Failure};
use crate::output::console::Console;
use crate::output::schedule::{self as render, ScheduleChangedDocument, SchedulesDocument};
use crate::target::Target;

/// Look at schedules, and act on them
#[derive(Debug, Subcommand)]
pub(crate) enum Schedule {
    Show(Show),
    Next(Next),
    Pause(Pause),
    Resume(Resume),
    Run(Run),
    Backfill(Backfill),
    Add(Box<Add>),
    Remove(Remove),
}

/// List schedules
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Of one tenant only
    #[arg(long, short, value_name = "NAME")]
    tenant: Option<TenantId>,
}

/// The schedule that a command is about.
#[derive(Debug, Args)]
struct Which {
    /// The schedule
    name: ScheduleName,
    /// Its tenant, if several have one of this name
    #[arg(long, short, value_name = "NAME")]
    tenant: Option<TenantId>,
}

/// Show a schedule: its last and its next ten times
#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    which: Which,
}

/// Show the next times of a schedule, or of a cron expression
#[derive(Debug, Args)]
#[command(after_help = NEXT)]
pub(crate) struct Next {
    /// A schedule; otherwise the times are given by options
    #[arg(conflicts_with_all = ["cron", "every", "exclude", "timezone", "start", "end"], required_unless_present_any = ["cron", "every"])]
    name: Option<ScheduleName>,
    /// Its tenant, if several have one of this name
    #[arg(long, short, value_name = "NAME")]
    tenant: Option<TenantId>,
    #[command(flatten)]
    times: TimesOptions,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    count: u16,
    /// After this time [default: now]
    #[arg(long, value_name = "WHEN")]
    after: Option<String>,
}

const NEXT: &str = "\
Examples:
  sandhog schedule next --cron '0 9 * * mon-fri' --timezone Europe/Berlin
  sandhog schedule next --cron '30 2 * * *' --timezone America/New_York --after 2026-03-06 --count 4
  sandhog schedule next nightly --count 20";

/// Pause a schedule: it enqueues nothing until it is resumed, whatever is deployed
#[derive(Debug, Args)]
pub(crate) struct Pause {
    #[command(flatten)]
    which: Which,
    /// Why, for those who wonder
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
    /// Who does it
    #[arg(long, value_name = "NAME", env = "USER", hide_env_values = true)]
    by: Option<String>,
}

/// Resume a schedule that was paused; what has passed meanwhile isn't caught up
#[derive(Debug, Args)]
pub(crate) struct Resume {
    #[command(flatten)]
    which: Which,
}

/// Enqueue a job of a schedule now
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    which: Which,
}

/// Enqueue the jobs of the times in a range of the past; those that are there already stay as they are
#[derive(Debug, Args)]
pub(crate) struct Backfill {
    #[command(flatten)]
    which: Which,
    /// From this time on, such as 2026-11-24T18:00:00Z, or 2026-11-24T18:00 by the schedule's clock
    #[arg(long, value_name = "WHEN")]
    from: String,
    /// Up to this time, which isn't included
    #[arg(long, value_name = "WHEN")]
    to: String,
}

/// Add a schedule, or change one that was added so
#[derive(Debug, Args)]
#[command(after_help = ADD)]
pub(crate) struct Add {
    /// Its name
    name: ScheduleName,
    /// Kind of its jobs
    #[arg(long, value_name = "KIND")]
    kind: Kind,
    /// Payload of its jobs, as JSON [default: null]
    #[arg(long, value_name = "JSON", conflicts_with = "file")]
    payload: Option<String>,
    /// Read the payload from a file
    #[arg(long, value_name = "FILE")]
    file: Option<std::path::PathBuf>,
    /// Take the payload as it is, without a check that it is JSON
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    times: TimesOptions,
    /// Whose jobs they are [default: the only tenant that handles the kind]
    #[arg(long, short, value_name = "NAME")]
    tenant: Option<TenantId>,
    /// Queue in which they wait [default: that of the plugin]
    #[arg(long, value_name = "NAME")]
    queue: Option<QueueName>,
    /// 0 to 255; the highest goes first
    #[arg(long, value_name = "N", default_value_t = Priority::default().0)]
    priority: u8,
    /// Put each job off by a part of this, different each time and never to the next time
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "0s")]
    spread: Duration,
    /// Enqueue no more jobs than this
    #[arg(long = "times", value_name = "N")]
    times_max: Option<NonZeroU64>,
    /// Catch up times for which there was no daemon if they aren't longer ago
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "1h")]
    catch_up_window: Duration,
    /// Catch up the latest so many
    #[arg(long, value_name = "N", default_value_t = CatchUp::default().most)]
    catch_up_most: u32,
    /// What to do while an earlier job isn't finished
    #[arg(long, value_name = "WHAT", value_parser = overlaps(), default_value = "skip")]
    overlap: Overlap,
    /// Don't begin yet: add it again without this
    #[arg(long)]
    paused: bool,
}

const ADD: &str = "\
Examples:
  sandhog schedule add nightly --kind report.make --cron '0 2 * * *' --timezone Europe/Berlin
  sandhog schedule add poll --kind feed.poll --every 90s --payload '{\"feed\": 7}' --overlap allow";

/// Remove a schedule; jobs that it has enqueued stay
#[derive(Debug, Args)]
pub(crate) struct Remove {
    #[command(flatten)]
    which: Which,
}

/// Nominal times, by options.
#[derive(Debug, Args)]
#[group(skip)]
struct TimesOptions {
    /// A cron expression, such as '0 9 * * mon-fri'; may be repeated
    #[arg(long, value_name = "CRON", value_parser = parse_cron, conflicts_with = "every")]
    cron: Vec<Cron>,
    /// An interval, such as 90s
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    every: Option<Duration>,
    /// Offset of the interval
    #[arg(long, value_name = "TIME", value_parser = parse_time, requires = "every")]
    phase: Option<Duration>,
    /// A cron expression whose times are left out; may be repeated
    #[arg(long, value_name = "CRON", value_parser = parse_cron)]
    exclude: Vec<Cron>,
    /// The time zone by whose clock it goes, such as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE", value_parser = parse_zone)]
    timezone: Option<Zone>,
    /// No time before this
    #[arg(long, value_name = "WHEN")]
    start: Option<String>,
    /// No time from this on
    #[arg(long, value_name = "WHEN")]
    end: Option<String>,
}

fn parse_cron(text: &str) -> Result<Cron, String> {
    Cron::parse(text).map_err(|invalid| invalid.why)
}

fn parse_zone(text: &str) -> Result<Zone, String> {
    Zone::parse(text).map_err(|unknown| unknown.to_string())
}

fn overlaps() -> impl TypedValueParser<Value = Overlap> {
    let slugs = PossibleValuesParser::new(Overlap::ALL.map(Overlap::slug));
    slugs.map(|slug| Overlap::from_slug(&slug).expect("it is one of them"))
}

impl TimesOptions {
    fn nominal(self) -> Nominal {
        let Self { cron, every, phase, exclude, timezone, start, end } = self;
        Nominal { cron, every, phase, exclude, zone: timezone, start, end }
    }
}

impl List {
    pub(crate) async fn execute(self, target: &Target, console: &Console) -> Result<Exit, Failure> {
        let client = Client::connect(target, Access::Look).await?;
        let mut all = SchedulesDocument { schedules: Vec::new(), unread: Vec::new() };
        for tenant in client.tenants(self.tenant.as_ref()).await? {
            let SchedulesDocument { schedules, unread } = client.schedules(&tenant).await?;
            all.schedules.extend(schedules);
            all.unread.extend(unread);
        }
        console.show(&all, || render::table_of(&all, console.paint()))?;
        Ok(Exit::Ok)
    }
}

impl Schedule {
    pub(crate) async fn execute(self, target: &Target, console: &Console) -> Result<Exit, Failure> {
        match self {
            Self::Show(Show { which }) => {
                let client = Client::connect(target, Access::Look).await?;
                let document = client.schedule(which.tenant.as_ref(), &which.name).await?;
                console.show(&document, || render::whole(&document, console.paint()))?;
                Ok(Exit::Ok)
            }
            Self::Next(next) => next.execute(target, console).await,
            Self::Pause(Pause { which, note, by }) => {
                which.change(target, console, Change::Pause { by, note }).await
            }
            Self::Resume(Resume { which }) => which.change(target, console, Change::Resume).await,
            Self::Run(Run { which }) => {
                let id = Clock::system().job_id();
                which.change(target, console, Change::RunNow { id }).await
            }
            Self::Backfill(Backfill { which, from, to }) => {
                let client = Client::connect(target, Access::Serve).await?;
                let zone =
                    client.schedule(which.tenant.as_ref(), &which.name).await.map(|it| render::zone(&it))?;
                let change = Change::Backfill { from: point(&zone, &from)?, to: point(&zone, &to)? };
                which.apply(&client, console, change).await
            }
            Self::Add(add) => add.execute(target, console).await,
            Self::Remove(Remove { which }) => {
                let client = Client::connect(target, Access::Serve).await?;
                let removed = client.remove_schedule(which.tenant.as_ref(), &which.name).await?;
                render::tell(console, &removed)
            }
        }
    }
}

impl Which {
    async fn change(self, target: &Target, console: &Console, change: Change) -> Result<Exit, Failure> {
        let client = Client::connect(target, Access::Serve).await?;
        self.apply(&client, console, change).await
    }

    async fn apply(&self, client: &Client, console: &Console, change: Change) -> Result<Exit, Failure> {
        let changed = client.change_schedule(self.tenant.as_ref(), &self.name, change).await?;
        render::tell(console, &changed)
    }
}

impl Next {
    async fn execute(self, target: &Target, console: &Console) -> Result<Exit, Failure> {
        let Self { name, tenant, times, count, after } = self;
        let count = usize::from(count);
        let (zone, document) = match name {
            Some(name) => {
                let client = Client::connect(target, Access::Look).await?;
                let found = client.schedule(tenant.as_ref(), &name).await?;
                let zone = render::zone(&found);
                let after = after.as_deref().map(|text| point(&zone, text)).transpose()?;
                (zone, client.next_times(tenant.as_ref(), &name, after, count).await?)
            }
            None => {
                let times = times.nominal().times()?;
                let zone = times.zone().clone();
                let now = Clock::system().now();
                let after = after.as_deref().map_or(Ok(now), |text| point(&zone, text))?;
                let next: Vec<_> = times.after(after).take(count).map(|nominal| (nominal, nominal)).collect();
                let document = render::NextDocument::new(&zone, &next);
                (zone, document)
            }
        };
        console.show(&document, || render::next_table(&zone, &document.next, console.paint()))?;
        Ok(Exit::Ok)
    }
}

impl Add {
    async fn execute(self: Box<Self>, target: &Target, console: &Console) -> Result<Exit, Failure> {
        let client = Client::connect(target, Access::Serve).await?;
        let definition = self.definition()?;
        let added = match &client {
            Client::Over(client) => {
                client.call(&Request::to(route::ADD_SCHEDULE).body(&ask(definition))).await?
            }
            Client::Beside(beside) => {
                let (route, schedule) = beside.define_schedule(definition)?;
                for warning in beside.unserved(&route.tenant, &route.queue, &schedule.job.kind) {
                    console.warn(&warning);
                }
                beside.add_schedule(&route.tenant, &schedule).await?;
                let (tenant, schedule) = (route.tenant.to_string(), schedule.name.to_string());
                let done = "added".to_owned();
                ScheduleChangedDocument { tenant, schedule, done, jobs: Vec::new() }
            }
        };
        render::tell(console, &added)
    }

    fn definition(self) -> Result<Definition, Failure> {
        let Self {
            name,
            kind,
            payload,
            file,
            raw,
            times,
            tenant,
            queue,
            priority,
            spread,
            times_max,
            catch_up_window,
            catch_up_most,
            overlap,
            paused,
        } = self;
        let payload = match (&payload, &file) {
            (None, None) => b"null".to_vec(),
            (inline, file) => payload::read(inline.as_deref(), file.as_deref(), Check::unless(raw))?,
        };
        let catch_up = CatchUp { window: catch_up_window, most: catch_up_most };
        let (nominal, priority) = (times.nominal(), Priority(priority));
        Ok(Definition {
            name,
            nominal,
            kind,
            payload,
            tenant,
            queue,
            priority,
            spread,
            times_max,
            catch_up,
            overlap,
            paused,
        })
    }
}

/// Returns the request for a schedule of this definition.
fn ask(definition: Definition) -> ScheduleAsk {
    let Definition {
        name,
        nominal,
        kind,
        payload,
        tenant,
        queue,
        priority,
        spread,
        times_max,
        catch_up,
        overlap,
        paused,
    } = definition;
    let Nominal { cron, every, phase, exclude, zone, start, end } = nominal;
    let texts = |crons: Vec<Cron>| crons.iter().map(ToString::to_string).collect();
    let (text, hex) = client::payload(&payload);
    ScheduleAsk {
        name: name.to_string(),
        kind: kind.to_string(),
        payload: None,
        text,
        hex,
        cron: texts(cron),
        every: every.map(time),
        phase: phase.map(time),
        exclude: texts(exclude),
        timezone: zone.map(|zone| zone.name().to_owned()),
        start,
        end,
        tenant: tenant.map(|tenant| tenant.to_string()),
        queue: queue.map(|queue| queue.to_string()),
        priority: Some(priority.0),
        spread: Some(time(spread)),
        times: times_max,
        catch_up_window: Some(time(catch_up.window)),
        catch_up_most: Some(catch_up.most),
        overlap: Some(overlap.slug().to_owned()),
        paused,
    }
}
