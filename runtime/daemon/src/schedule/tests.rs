//! Registration and firing on the reference model, by one daemon and by several.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sandhog_broker::conformance::ManualClock;
use sandhog_broker::faulty::{Faults, Faulty};
use sandhog_broker::memory::Memory;
use sandhog_broker::{Broker, ScheduleRecord, ScheduleWrite, ScheduleWritten, WallClock};
use sandhog_core::budget::Bytes;
use sandhog_core::id::{JobId, Kind, PluginName, QueueName, ScheduleName, TenantId};
use sandhog_core::job::{Priority, State};
use sandhog_core::quota::QueueBounds;
use sandhog_core::schedule::{
    Base, CatchUp, Overlap, Pause, Record, Schedule, Source, Template, Times, What, Zone,
};

use super::fire::fire_due;
use super::register::{ByPlugin, Registered, register};
use super::step;
use crate::telemetry::{Event, Observer, Registration};

/// What was told, in order.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Observer for Told {
    fn on(&self, event: &Event<'_>) {
        let line = match event {
            Event::ScheduleRegistered { schedule, registration, .. } => {
                format!("{schedule} {registration:?}")
            }
            Event::Scheduled { schedule, past, .. } => match past.what {
                What::Fired(_) => format!("{schedule} fired"),
                what => format!("{schedule} {what:?}"),
            },
            Event::ScheduleUnreadable { schedule, .. } => format!("{schedule} unreadable"),
            _ => return,
        };
        self.0.lock().expect("nothing panics here").push(line);
    }
}

struct World {
    broker: Arc<dyn Broker>,
    clock: Arc<ManualClock>,
    tenant: TenantId,
    told: Told,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let broker = Arc::new(Memory::new(Arc::clone(&clock) as Arc<dyn WallClock>));
        Self { broker, clock, tenant: TenantId::parse("acme").expect("valid"), told: Told::default() }
    }

    /// A daemon that has registered `before` comes to have `wanted`.
    async fn register(&self, before: &ByPlugin, wanted: &ByPlugin) {
        let mut registered = before.iter().map(|(of, all)| (of.clone(), Some(all.clone()))).collect();
        let done = register(&*self.broker, &self.told, &self.tenant, &mut registered, wanted).await;
        done.expect("the model answers");
    }

    async fn fire(&self) -> Duration {
        self.fire_within(&QueueBounds::default()).await
    }

    async fn fire_within(&self, bounds: &QueueBounds) -> Duration {
        fire_due(&*self.broker, &self.told, &self.tenant, bounds).await.expect("the model answers")
    }

    async fn record(&self, name: &str) -> Option<Record> {
        let name = ScheduleName::parse(name).expect("valid");
        let (_, stored) = step::look_up(&*self.broker, &self.tenant, &name).await.expect("the model answers");
        stored.map(|stored| step::Known::read(&stored).expect("it can be read").record)
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.0.lock().expect("nothing panics here"))
    }

    async fn ready(&self) -> u64 {
        self.broker.counts(&self.tenant).await.expect("the model answers")[State::Ready]
    }
}

fn plugin(name: &str) -> PluginName {
    PluginName::parse(name).expect("valid")
}

fn schedule(of: &str, name: &str, seconds: u64) -> Schedule {
    let base = Base::Every { period: Duration::from_secs(seconds), phase: Duration::ZERO };
    Schedule {
        name: ScheduleName::parse(name).expect("valid"),
        source: Source::Plugin(plugin(of)),
        times: Times::new(base, Vec::new(), Zone::utc(), None, None).expect("valid"),
        job: Template {
            kind: Kind::parse("report.make").expect("valid"),
            queue: QueueName::parse("default").expect("valid"),
            payload: b"{}".to_vec(),
            priority: Priority::default(),
        },
        spread: Duration::ZERO,
        times_max: None,
        catch_up: CatchUp::default(),
        overlap: Overlap::Allow,
        paused: false,
    }
}

fn of(name: &str, schedules: &[Schedule]) -> ByPlugin {
    BTreeMap::from([(plugin(name), schedules.to_vec())])
}

#[tokio::test]
async fn what_a_file_has_is_registered_changed_and_removed() {
    let (world, none) = (World::new(), ByPlugin::new());
    let (one, two) =
        (of("a", &[schedule("a", "x", 60)]), of("a", &[schedule("a", "x", 30), schedule("a", "y", 60)]));
    world.register(&none, &one).await;
    world.register(&one, &two).await;
    world.register(&none, &two).await;
    assert_eq!(world.told(), ["x Added", "x Changed", "y Added"], "what is there already is left alone");
    world.register(&two, &of("a", &[schedule("a", "y", 60)])).await;
    assert_eq!((world.told(), world.record("x").await), (vec!["x Removed".to_owned()], None));
    world.register(&two, &none).await;
    assert_eq!(world.told(), ["y Removed"]);
}

#[tokio::test]
async fn a_schedule_that_comes_back_is_there_whatever_was_lost_while_it_was_to_go() {
    let mut removed = 0;
    for seed in 0..40 {
        let (world, mut registered) = (World::new(), Registered::new());
        let there = of("a", &[schedule("a", "x", 60)]);
        let lossy =
            Faulty::new(Arc::clone(&world.broker), Faults { seed, lost_after: 0.5, ..Faults::default() });
        let steps: [(&dyn Broker, &ByPlugin); 3] =
            [(&*world.broker, &there), (&lossy, &ByPlugin::new()), (&*world.broker, &there)];
        for (broker, wanted) in steps {
            let _may_be_lost = register(broker, &world.told, &world.tenant, &mut registered, wanted).await;
            removed += u32::from(world.record("x").await.is_none());
        }
        assert!(world.record("x").await.is_some(), "seed {seed}: {:?}", world.told());
    }
    assert!(removed > 0, "it was gone in between");
}

#[tokio::test]
async fn the_progress_of_a_schedule_outlives_its_definition_and_so_does_its_pause() {
    let (world, none) = (World::new(), ByPlugin::new());
    let one = of("a", &[schedule("a", "x", 60)]);
    world.register(&none, &one).await;
    world.clock.advance(Duration::from_secs(60));
    world.fire().await;
    let name = ScheduleName::parse("x").expect("valid");
    let (now, stored) = step::look_up(&*world.broker, &world.tenant, &name).await.expect("it answers");
    let known = step::Known::read(&stored.expect("it is there")).expect("it can be read");
    let paused =
        sandhog_core::schedule::Decision::of(known.record.paused(Pause::new(Some("ann"), now, "why")));
    let bounds = QueueBounds::default();
    let written =
        step::write(&*world.broker, &world.tenant, Some(known.version), &paused, &bounds, now).await;
    assert_eq!(written.expect("it answers"), ScheduleWritten::Done);
    world.register(&one, &of("a", &[schedule("a", "x", 30)])).await;
    let record = world.record("x").await.expect("it is there");
    assert!(record.is_paused() && record.progress.counts.fired == 1 && record.progress.last.len() == 1);
}

/// Old daemons go on with what they have, and don't bring it back.
#[tokio::test]
async fn daemons_with_different_files_do_not_go_back_and_forth() {
    let (world, none) = (World::new(), ByPlugin::new());
    let (old, new) =
        (of("a", &[schedule("a", "x", 60), schedule("a", "y", 60)]), of("a", &[schedule("a", "x", 30)]));
    world.register(&none, &old).await;
    // Another daemon starts with the new file; then something else changes on the old one, which has another plugin.
    world.register(&none, &new).await;
    let mut old_and_other = old.clone();
    old_and_other.extend(of("b", &[schedule("b", "z", 60)]));
    world.register(&old, &old_and_other).await;
    assert_eq!(world.told(), ["x Added", "y Added", "x Changed", "y Removed", "z Added"]);
    // A daemon without plugin `b` leaves its schedules alone.
    world.register(&none, &new).await;
    assert_eq!(world.told(), [] as [String; 0]);
}

#[tokio::test]
async fn a_name_that_is_taken_stays_with_whom_it_is() {
    let (world, none) = (World::new(), ByPlugin::new());
    world.register(&none, &of("a", &[schedule("a", "x", 60)])).await;
    world.register(&none, &of("b", &[schedule("b", "x", 30)])).await;
    assert_eq!(world.told(), ["x Added".to_owned(), format!("x {:?}", Registration::Taken)]);
    assert_eq!(world.record("x").await.expect("it is there").schedule.source, Source::Plugin(plugin("a")));
    world.register(&of("b", &[schedule("b", "x", 30)]), &none).await;
    assert!(world.record("x").await.is_some(), "it isn't removed by another");
}

/// They read the same and write in any order, some of their calls are lost, and some of the answers: each nominal time makes one
/// job, and is counted once.
#[tokio::test(start_paused = true)]
async fn each_nominal_time_makes_one_job_whatever_daemons_and_calls_do() {
    for seed in 0..100 {
        let mut world = World::new();
        world.register(&ByPlugin::new(), &of("a", &[schedule("a", "x", 1)])).await;
        let behind = Arc::clone(&world.broker);
        let faults = Faults { seed, delay_max: Duration::from_millis(20), lost_before: 0.1, lost_after: 0.2 };
        world.broker = Arc::new(Faulty::new(Arc::clone(&behind), faults));
        let daemon = async || {
            let bounds = QueueBounds::default();
            while fire_due(&*world.broker, &world.told, &world.tenant, &bounds).await.is_err() {}
        };
        for n in 1..=20 {
            world.clock.advance(Duration::from_secs(1));
            tokio::join!(daemon(), daemon(), daemon());
            let counts = behind.counts(&world.tenant).await.expect("the model answers");
            assert_eq!(counts[State::Ready], n, "seed {seed}");
        }
        world.broker = behind;
        let progress = world.record("x").await.expect("it is there").progress;
        assert_eq!((progress.counts.fired, progress.counts.missed), (20, 0), "seed {seed}");
    }
}

#[tokio::test]
async fn a_full_queue_costs_a_time_and_is_told() {
    let (world, none) = (World::new(), ByPlugin::new());
    world.register(&none, &of("a", &[schedule("a", "x", 60)])).await;
    world.clock.advance(Duration::from_secs(60));
    let full = QueueBounds { jobs: 0, ..QueueBounds::default() };
    assert_eq!(world.fire_within(&full).await, Duration::ZERO);
    world.clock.advance(Duration::from_secs(60));
    let small = QueueBounds { payload: Bytes(1), ..QueueBounds::default() };
    world.fire_within(&small).await;
    assert_eq!(world.told(), ["x Added", "x NoRoom", "x NoRoom"]);
    assert_eq!((world.ready().await, world.record("x").await.expect("there").progress.counts.missed), (0, 2));
}

#[tokio::test]
async fn what_waits_runs_when_the_run_before_is_finished_and_the_other_is_cancelled() {
    let (world, none) = (World::new(), ByPlugin::new());
    let overlap = Overlap::CancelOther;
    world.register(&none, &of("a", &[Schedule { overlap, ..schedule("a", "x", 60) }])).await;
    world.clock.advance(at(60).since(world.clock.now()));
    world.fire().await;
    world.clock.advance(Duration::from_secs(60));
    world.fire().await;
    let first = world.record("x").await.expect("there").schedule.job_id(at(60));
    let cancelled = world.broker.job(&world.tenant, first).await.expect("it answers").expect("it is there");
    assert_eq!(cancelled.state, State::Cancelled);
    world.clock.advance(Duration::from_secs(1));
    world.fire().await;
    assert_eq!(
        world.told()[1..],
        ["x fired".to_owned(), format!("x {:?}", What::Waited(job(&world, 120).await))]
    );
}

fn at(seconds: u64) -> sandhog_core::time::Timestamp {
    sandhog_core::time::Timestamp::from_millis(ManualClock::default().now().as_millis() / 60_000 * 60_000)
        .after(Duration::from_secs(seconds))
}

async fn job(world: &World, seconds: u64) -> JobId {
    world.record("x").await.expect("it is there").schedule.job_id(at(seconds))
}

/// It waits for a version that can read it, and keeps no other from firing.
#[tokio::test]
async fn a_schedule_that_can_not_be_read_is_told_and_costs_the_others_nothing() {
    let (world, none) = (World::new(), ByPlugin::new());
    let write = ScheduleWrite {
        name: ScheduleName::parse("alien").expect("valid"),
        expected: None,
        record: Some(ScheduleRecord { bytes: b"of tomorrow".to_vec(), due_at: Some(world.clock.now()) }),
        jobs: Vec::new(),
        bounds: QueueBounds::default(),
    };
    world.broker.write_schedule(&world.tenant, write).await.expect("the model answers");
    world.register(&none, &of("a", &[schedule("a", "alien", 60), schedule("a", "x", 3)])).await;
    assert_eq!(world.told(), ["alien unreadable", "x Added"]);
    let wait = world.fire().await;
    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(3), "{wait:?}");
    world.clock.advance(Duration::from_secs(3));
    let wait = world.fire().await;
    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(3), "{wait:?}");
    assert_eq!(world.ready().await, 1);
}
