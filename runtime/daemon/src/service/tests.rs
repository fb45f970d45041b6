//! Scope and roles, over the model of a broker.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sandhog_broker::memory::Memory;
use sandhog_broker::{Changed, Filter, JobAction, LeaseAsk, Query, Settle, Sweep, SystemClock, WallClock};
use sandhog_core::edit::JobEdit;
use sandhog_core::flow::{After, Flow, FlowJob, OnFailure};
use sandhog_core::id::{FlowJobName, JobId, Kind, QueueName, TenantId};
use sandhog_core::job::{NewJob, State};
use sandhog_core::quota::QueueBounds;
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;
use sandhog_core::time::Timestamp;

use super::bulk::{Bulk, BulkSummary, LeftOut, Step};
use super::enqueue::Wanted;
use super::*;

const DAEMON: &str = "[tenants.acme]\n[tenants.globex]\n";

fn plugin(tenant: &str) -> String {
    format!(
        "[plugin]\nname = \"hog\"\ntenant = \"{tenant}\"\ncomponent = \"x.wasm\"\nkinds = [\"hog.run\"]\n"
    )
}

fn service() -> Service {
    service_at(Arc::new(SystemClock))
}

fn service_at(clock: Arc<dyn WallClock>) -> Service {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sandhog.toml");
    fs::write(&file, DAEMON).expect("ours");
    fs::create_dir(folder.path().join("plugins.d")).expect("ours");
    for tenant in ["acme", "globex"] {
        let path = folder.path().join(format!("plugins.d/{tenant}.toml"));
        fs::write(path, plugin(tenant)).expect("ours");
    }
    let config = sandhog_config::load_for_broker(&file).expect("it is right");
    assert!(config.broken.is_empty(), "{:?}", config.broken);
    Service::without_daemon(Arc::new(config), Arc::new(Memory::new(clock)))
}

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).expect("valid")
}

fn kind() -> Kind {
    Kind::parse("hog.run").expect("valid")
}

fn of(name: &str, role: Role) -> Caller {
    Caller::new("test", Scope::Tenants(BTreeSet::from([tenant(name)])), role)
}

fn id(n: u64) -> JobId {
    JobId::from_parts(Timestamp::from_millis(n), u128::from(n))
}

/// Enqueues a job where its caller's jobs of the kind go.
async fn enqueued(service: &Service, caller: &Caller, id: JobId) {
    let anywhere = Wanted { tenant: None, queue: None };
    let route = enqueue::route(service, caller, &kind(), anywhere).expect("one tenant is in scope");
    let job = NewJob::new(id, route.queue.clone(), kind(), b"hunter2".to_vec());
    enqueue::enqueue(service, caller, &route, &[job]).await.expect("the model takes it");
}

#[tokio::test]
async fn what_is_another_tenants_is_not_there() {
    let (service, ours, theirs) = (service(), of("acme", Role::Admin), of("globex", Role::Admin));
    enqueued(&service, &ours, id(1)).await;
    assert_eq!(jobs::find(&service, &ours, id(1), None).await.expect("ours").tenant, tenant("acme"));
    let found = jobs::find(&service, &theirs, id(1), None).await;
    assert_eq!(found.expect_err("not theirs").slug, Slug::UnknownJob);
    let acme = tenant("acme");
    let unknown = |problem: Option<Problem>| {
        let problem = problem.expect("it is refused");
        assert_eq!(problem.slug, Slug::UnknownTenant, "{problem}");
        assert!(!problem.help.iter().any(|help| help.contains("acme")), "{:?}", problem.help);
    };
    unknown(jobs::find(&service, &theirs, id(1), Some(&acme)).await.err());
    unknown(jobs::get(&service, &theirs, &acme, id(1)).await.err());
    unknown(jobs::log(&service, &theirs, &acme, id(1)).await.err());
    unknown(jobs::counts(&service, &theirs, &acme).await.err());
    unknown(jobs::list(&service, &theirs, &acme, Query::of(State::Ready, 10)).await.err());
    unknown(jobs::act(&service, &theirs, &acme, JobAction::Cancel, &[id(1)]).await.err());
    let wanted = Wanted { tenant: Some(&acme), queue: None };
    unknown(enqueue::route(&service, &theirs, &kind(), wanted).err());
    let route = enqueue::route(&service, &ours, &kind(), wanted).expect("ours");
    unknown(enqueue::enqueue(&service, &theirs, &route, &[]).await.err());
    assert_eq!(tenants::find(&service, &theirs, None), Ok(vec![tenant("globex")]));
    let done = jobs::act(&service, &ours, &acme, JobAction::Cancel, &[id(1)]).await;
    assert_eq!(done, Ok(vec![Changed::Done]), "it is still there");
}

#[tokio::test]
async fn a_role_goes_so_far_and_no_further() {
    let (service, acme) = (service(), tenant("acme"));
    enqueued(&service, &of("acme", Role::Produce), id(1)).await;
    let observer = of("acme", Role::Observe);
    let job = jobs::find(&service, &observer, id(1), None).await.expect("it is there");
    assert_eq!((job.payload, job.output), (Vec::new(), None), "payloads are for operators");
    let listed = jobs::list(&service, &observer, &acme, Query::of(State::Ready, 10)).await.expect("ours");
    assert!(listed.jobs.len() == 1 && listed.jobs[0].payload.is_empty());
    let anywhere = Wanted { tenant: None, queue: None };
    let refused = enqueue::route(&service, &observer, &kind(), anywhere).expect_err("it only looks");
    assert_eq!(refused.slug, Slug::Forbidden);
    let producer = of("acme", Role::Produce);
    let refused = jobs::act(&service, &producer, &acme, JobAction::Cancel, &[id(1)]).await;
    assert_eq!(refused.expect_err("it only enqueues").slug, Slug::Forbidden);
    let operator = of("acme", Role::Operate);
    let job = jobs::find(&service, &operator, id(1), None).await.expect("it is there");
    assert_eq!(job.payload, b"hunter2");
    let many: Vec<JobId> = (0..=jobs::ACT_MAX as u64).map(id).collect();
    let refused = jobs::act(&service, &operator, &acme, JobAction::Cancel, &many).await;
    assert_eq!(refused.expect_err("too many").slug, Slug::RequestTooLarge);
    let refused = plugins::reload(&service, &of("acme", Role::Admin)).await;
    assert_eq!(refused.expect_err("it concerns others").slug, Slug::Forbidden);
    let refused = plugins::reload(&service, &Caller::operator()).await;
    assert_eq!(refused.expect_err("no daemon runs here").slug, Slug::NoDaemon);
}

#[tokio::test]
async fn whose_job_it_is_is_open_if_several_handle_it() {
    let (service, all) = (service(), Caller::operator());
    let anywhere = Wanted { tenant: None, queue: None };
    let refused = enqueue::route(&service, &all, &kind(), anywhere).expect_err("two tenants handle it");
    assert_eq!(
        (refused.slug, refused.help),
        (Slug::Ambiguous, vec!["name one: --tenant acme, globex".to_owned()])
    );
    let queue = QueueName::parse("elsewhere").expect("valid");
    let wanted = Wanted { tenant: Some(&tenant("acme")), queue: Some(&queue) };
    let route = enqueue::route(&service, &all, &kind(), wanted).expect("the queue is named");
    let job = NewJob::new(id(1), queue.clone(), kind(), Vec::new());
    enqueue::enqueue(&service, &all, &route, &[job]).await.expect("the model takes it");
    let told = enqueue::unserved(&service, &all, &route.tenant, &queue, &kind());
    assert!(matches!(&told[..], [only] if only.contains("nobody leases from it")), "{told:?}");
    let job = jobs::find(&service, &all, id(1), None).await.expect("it is there");
    assert_eq!(job.reason, Some(Reason::NoPlugin));
}

/// A clock that a test moves by hand.
#[derive(Debug, Default)]
struct TestClock(AtomicU64);

impl WallClock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

impl TestClock {
    fn advance(&self) {
        self.0.fetch_add(1000, Ordering::SeqCst);
    }
}

/// Leases the jobs that are ready, and buries them.
async fn all_die(service: &Service) -> Vec<JobId> {
    let (acme, queue) = (tenant("acme"), QueueName::parse("default").expect("valid"));
    let queues = [(queue, 100)];
    let ask = LeaseAsk::new(&acme, &queues, Duration::from_secs(60));
    let leases = service.broker.lease(ask).await.expect("the model answers").leases;
    for lease in &leases {
        let bury = Settlement::Bury { reason: Reason::Failed, message: "no luck".to_owned() };
        service.broker.settle(&acme, &[Settle::new(lease.token, bury)]).await.expect("the model answers");
    }
    leases.iter().map(|lease| lease.token.job).collect()
}

async fn step(bulk: &mut Bulk, service: &Service, caller: &Caller, most: u32) -> Option<Vec<JobId>> {
    let found = bulk.find(service, caller, most).await.expect("the model answers")?;
    let step = bulk.act(service, caller, found).await.expect("the model answers");
    assert!(step.jobs.iter().all(|(_, changed)| *changed == Changed::Done), "{step:?}");
    Some(step.jobs.iter().map(|(id, _)| *id).collect())
}

#[tokio::test]
async fn a_bulk_command_is_about_the_jobs_that_there_are_when_it_begins_and_each_once() {
    let clock = Arc::new(TestClock::default());
    let (service, ours) = (service_at(Arc::clone(&clock) as Arc<dyn WallClock>), of("acme", Role::Operate));
    let acme = tenant("acme");
    for n in 1..=3 {
        enqueued(&service, &ours, id(n)).await;
    }
    clock.advance();
    assert_eq!(all_die(&service).await.len(), 3);
    let begin = async || {
        let begun = Bulk::begin(&service, &ours, &acme, JobAction::Redrive, None, Filter::default()).await;
        begun.expect("the model answers")
    };
    let mut bulk = begin().await;
    clock.advance();
    let first = step(&mut bulk, &service, &ours, 1).await.expect("there are some");
    assert_eq!(first.len(), 1);
    // It dies again, and another one as well, which has come by now.
    enqueued(&service, &ours, id(9)).await;
    assert_eq!(all_die(&service).await, [first[0], id(9)]);
    let mut redriven = Vec::new();
    while let Some(some) = step(&mut bulk, &service, &ours, 1).await {
        redriven.extend(some);
    }
    let mut all: Vec<JobId> = redriven.into_iter().chain(first).collect();
    all.sort_unstable();
    assert_eq!(all, [1, 2, 3].map(id));
    let mut again = begin().await;
    let found = again.find(&service, &ours, 100).await.expect("the model answers").expect("some are dead");
    assert_eq!(found.jobs.len(), 2, "the next one is about those");
}

#[tokio::test]
async fn a_bulk_command_leaves_out_what_has_changed_and_says_so() {
    let clock = Arc::new(TestClock::default());
    let (service, ours) = (service_at(Arc::clone(&clock) as Arc<dyn WallClock>), of("acme", Role::Operate));
    let acme = tenant("acme");
    enqueued(&service, &ours, id(1)).await;
    let (cancel, ready) = (JobAction::Cancel, Some(State::Ready));
    let wrong = Bulk::begin(&service, &ours, &acme, cancel, Some(State::Dead), Filter::default()).await;
    assert_eq!(wrong.expect_err("the dead can't be cancelled").slug, Slug::Conflict);
    let begun = Bulk::begin(&service, &ours, &acme, cancel, ready, Filter::default()).await;
    let mut bulk = begun.expect("the model answers");
    let mut summary = BulkSummary::default();
    while let Some(found) = bulk.find(&service, &ours, 10).await.expect("the model answers") {
        summary.add(&bulk.act(&service, &ours, found).await.expect("the model answers"));
    }
    assert_eq!((summary.done, summary.left_out()), (1, 0));
    summary.add(&Step {
        jobs: vec![
            (id(2), Changed::Not(State::Leased)),
            (id(3), Changed::Touched),
            (id(4), Changed::Duplicate(id(1))),
        ],
        unread: Vec::new(),
    });
    let reasons = [(LeftOut::State(State::Leased), 1), (LeftOut::Touched, 1), (LeftOut::UniqueKey, 1)];
    assert_eq!(summary.left_out, BTreeMap::from(reasons));
    let observer = of("acme", Role::Observe);
    let refused = Bulk::begin(&service, &observer, &acme, cancel, None, Filter::default()).await;
    assert_eq!(refused.expect_err("it may only look").slug, Slug::Forbidden);
}

#[tokio::test]
async fn a_job_is_edited_by_those_who_may_and_within_bounds() {
    let (service, ours) = (service(), of("acme", Role::Edit));
    enqueued(&service, &ours, id(1)).await;
    let edit = |payload: Vec<u8>| JobEdit { payload: Some(payload), ..JobEdit::default() };
    let refused = jobs::edit(&service, &of("acme", Role::Operate), id(1), None, &edit(Vec::new())).await;
    assert_eq!(refused.expect_err("it may only act on it").slug, Slug::Forbidden);
    let unknown = jobs::edit(&service, &of("globex", Role::Admin), id(1), None, &edit(Vec::new())).await;
    assert_eq!(unknown.expect_err("not theirs").slug, Slug::UnknownJob);
    let large = jobs::edit(&service, &ours, id(1), None, &edit(vec![b'1'; 10_241])).await;
    assert_eq!(large.expect_err("10 KiB is the most").slug, Slug::RequestTooLarge);
    let edited = jobs::edit(&service, &ours, id(1), None, &edit(b"2".to_vec())).await;
    assert_eq!(edited.expect("it waits"), tenant("acme"));
    assert_eq!(jobs::find(&service, &ours, id(1), None).await.expect("ours").payload, b"2");
    jobs::act(&service, &ours, &tenant("acme"), JobAction::Cancel, &[id(1)])
        .await
        .expect("the model answers");
    let ended = jobs::edit(&service, &ours, id(1), None, &edit(b"3".to_vec())).await;
    assert_eq!(ended.expect_err("it is final").slug, Slug::Conflict);
}

#[tokio::test]
async fn a_flow_is_redriven_from_a_job_on_and_its_other_branches_are_left_alone() {
    let (service, caller, acme) = (service(), of("acme", Role::Operate), tenant("acme"));
    // b and c after a, then d after b alone.
    let node = |n: u64, name: &str, after: &[&str]| FlowJob {
        name: FlowJobName::parse(name).expect("valid"),
        job: NewJob::new(id(n), QueueName::parse("default").expect("valid"), kind(), Vec::new()),
        after: after.iter().map(|name| after_ok(name)).collect(),
        takes_outputs: false,
    };
    let flow =
        Flow::new(vec![node(1, "a", &[]), node(2, "b", &["a"]), node(3, "c", &["a"]), node(4, "d", &["b"])])
            .expect("it is one");
    service.broker.store_flow(&acme, &flow, &QueueBounds::default()).await.expect("the model answers");
    let queues = [(QueueName::parse("default").expect("valid"), 1)];
    let ask = LeaseAsk::new(&acme, &queues, Duration::from_secs(60));
    for lease in service.broker.lease(ask).await.expect("the model answers").leases {
        let bury = Settlement::Bury { reason: Reason::Failed, message: "no luck".to_owned() };
        service.broker.settle(&acme, &[Settle::new(lease.token, bury)]).await.expect("the model answers");
    }
    service.broker.sweep(&acme, Sweep::new(3)).await.expect("the model answers");
    let redrive = async |from: &str| {
        let from = from.parse().expect("it may be a part");
        flows::act(&service, &caller, id(1), None, JobAction::Redrive, Some(&from)).await
    };
    let problem = redrive("e").await.expect_err("there is no such job");
    assert_eq!(problem.slug, Slug::UnknownJob);
    let (_, done) = redrive("b").await.expect("the model answers");
    assert_eq!(done, [id(2), id(4)]);
    let (_, done) = redrive(&id(1).to_string()).await.expect("the model answers");
    assert_eq!(done, [id(1), id(3)], "the others wait for it already");
}

fn after_ok(name: &str) -> After {
    After { job: FlowJobName::parse(name).expect("valid"), on_failure: OnFailure::Fail }
}
