//! Scope and roles, over the model of a broker.

use std::collections::BTreeSet;
use std::fs;

use sandhog_broker::memory::Memory;
use sandhog_broker::{Changed, JobAction, Query, SystemClock};
use sandhog_core::id::{JobId, Kind, QueueName, TenantId};
use sandhog_core::job::{NewJob, State};
use sandhog_core::reason::Reason;
use sandhog_core::time::Timestamp;

use super::enqueue::Wanted;
use super::*;

const DAEMON: &str = "[tenants.acme]\n[tenants.globex]\n";

fn plugin(tenant: &str) -> String {
    format!(
        "[plugin]\nname = \"hog\"\ntenant = \"{tenant}\"\ncomponent = \"x.wasm\"\nkinds = [\"hog.run\"]\n"
    )
}

fn service() -> Service {
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
    Service::without_daemon(Arc::new(config), Arc::new(Memory::new(Arc::new(SystemClock))))
}

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).expect("valid")
}

fn kind() -> Kind {
    Kind::parse("hog.run").expect("valid")
}

fn of(name: &str, role: Role) -> Caller {
    Caller::new(Scope::Tenants(BTreeSet::from([tenant(name)])), role)
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
