//! A wake goes to one daemon of those that wait: what it costs the server and the daemons, and what becomes of it when that
//! one is gone. The rules that hold for every broker are in `conformance/waking.rs`.

use std::time::Duration;

use sandhog_broker::redis::testing::{Durability, Server};
use sandhog_broker::redis::{Redis, Role, acl_rules};
use sandhog_broker::{Asker, Broker, LeaseAsk, Wake, Wakes};
use sandhog_core::id::{DaemonId, TenantId};
use sandhog_core::time::Timestamp;

use crate::work::{TTL, Work, broker, connection, job, jobs, next, queue, tenant};

/// A daemon as far as wakes go: it listens, and looks when it is told to.
struct Daemon {
    id: DaemonId,
    broker: Redis,
    tenant: TenantId,
    wakes: Wakes,
    room: u32,
    asks: u64,
}

impl Daemon {
    /// One that has looked once and found nothing.
    async fn waiting(server: &Server, tenant: &TenantId, nth: u128, room: u32) -> Self {
        let broker = broker(server);
        let mut wakes = broker.watch(vec![tenant.clone()]).await.expect("listening succeeds");
        assert_eq!(next(&mut wakes).await, Wake::All);
        let id = DaemonId::from_parts(Timestamp::from_millis(1), nth);
        let mut daemon = Self { id, broker, tenant: tenant.clone(), wakes, room, asks: 0 };
        assert_eq!(daemon.ask().await, 0);
        daemon
    }

    /// Asks for as many as it has room for; says how many came.
    async fn ask(&mut self) -> u32 {
        self.asks += 1;
        let queues = [(queue(), self.room)];
        let asker = Some(Asker { daemon: self.id, number: self.asks, repeats: false });
        let ask = LeaseAsk { asker, ..LeaseAsk::new(&self.tenant, &queues, TTL) };
        let came = self.broker.lease(ask).await.expect("the server is there").leases.len();
        let came = u32::try_from(came).expect("no more than were asked for");
        self.room -= came;
        came
    }

    /// Waits for news of work; says whom it names.
    async fn hear(&mut self) -> Option<DaemonId> {
        loop {
            if let Wake::Ready { tenant, named } = next(&mut self.wakes).await
                && tenant == self.tenant
            {
                return named;
            }
        }
    }
}

async fn waiting(server: &Server, tenant: &TenantId, rooms: &[u32]) -> Vec<Daemon> {
    let mut daemons = Vec::new();
    for (nth, room) in rooms.iter().enumerate() {
        daemons.push(Daemon::waiting(server, tenant, nth as u128, *room).await);
    }
    daemons
}

/// Whom all of them hear to be named next, who does what it is told.
async fn named_next(daemons: &mut [Daemon]) -> usize {
    let mut named = Vec::new();
    for daemon in daemons.iter_mut() {
        named.push(daemon.hear().await.expect("somebody waits"));
    }
    assert!(named.iter().all(|one| *one == named[0]), "all hear the same");
    daemons.iter().position(|daemon| daemon.id == named[0]).expect("it is one of them")
}

#[tokio::test]
async fn a_job_costs_one_look_however_many_daemons_there_are() {
    let (server, tenant) = (Server::shared(), tenant());
    let mut daemons = waiting(&server, &tenant, &[200; 10]).await;
    for nth in 1..=20 {
        broker(&server).store(&tenant, &jobs(1)).await;
        let named = named_next(&mut daemons).await;
        assert_eq!(daemons[named].ask().await, 1);
        let looks: u64 = daemons.iter().map(|daemon| daemon.asks).sum();
        assert_eq!(looks, 10 + nth, "one for each job, beside the first of each daemon");
    }
}

#[tokio::test]
async fn a_burst_brings_in_as_many_daemons_as_there_is_work_for() {
    let (server, tenant) = (Server::shared(), tenant());
    let mut daemons = waiting(&server, &tenant, &[5; 10]).await;
    broker(&server).store(&tenant, &jobs(32)).await;
    let mut came = 0;
    while came < 32 {
        let named = named_next(&mut daemons).await;
        came += daemons[named].ask().await;
    }
    let looked = daemons.iter().filter(|daemon| daemon.asks == 2).count();
    assert_eq!(looked, 7, "each takes five, and nobody looks in vain");
}

/// The one that was told first passes it on, whether it is the bytes or the room that it hasn't got.
#[tokio::test]
async fn what_is_too_much_for_one_is_passed_on() {
    let (server, tenant) = (Server::shared(), tenant());
    let mut daemons = waiting(&server, &tenant, &[9, 9]).await;
    let long: Vec<_> = jobs(2)
        .into_iter()
        .map(|job| sandhog_core::job::NewJob { payload: vec![b'x'; 3 << 20], ..job })
        .collect();
    broker(&server).store(&tenant, &long).await;
    for _ in 0..2 {
        let named = named_next(&mut daemons).await;
        assert_eq!(daemons[named].ask().await, 1);
    }
    assert_eq!(daemons.iter().map(|daemon| daemon.asks).sum::<u64>(), 4);
}

/// It is told once, and then forgotten; whoever hears that another is named looks a while later.
#[tokio::test]
async fn a_daemon_that_is_gone_is_named_once() {
    let (server, tenant) = (Server::shared(), tenant());
    let mut daemons = waiting(&server, &tenant, &[200, 200]).await;
    let gone = daemons.remove(0).id;
    let live = &mut daemons[0];
    let mut named_gone = 0;
    for _ in 0..20 {
        broker(&server).store(&tenant, &jobs(1)).await;
        named_gone += usize::from(live.hear().await == Some(gone));
        assert_eq!(live.ask().await, 1, "nothing is lost on the one that is gone");
    }
    assert!(named_gone <= 1, "it was named {named_gone} times");
}

#[tokio::test]
async fn where_nobody_is_known_to_wait_all_are_told_and_wait_again() {
    let (server, tenant) = (Server::start(Durability::None, &[]), tenant());
    let mut daemons = waiting(&server, &tenant, &[200; 3]).await;
    let key = format!("sandhog:{{{tenant}}}:waiters:default");
    let mut connection = connection(&server).await;
    let kept: i64 = redis::cmd("TTL").arg(&key).query_async(&mut connection).await.expect("it is there");
    assert!((1..=3600).contains(&kept), "they are forgotten after a while: {kept}");
    redis::cmd("DEL").arg(&key).exec_async(&mut connection).await.expect("it is there");
    broker(&server).store(&tenant, &jobs(1)).await;
    for daemon in &mut daemons {
        assert_eq!(daemon.hear().await, None);
        daemon.ask().await;
    }
    broker(&server).store(&tenant, &jobs(1)).await;
    named_next(&mut daemons).await;
}

/// A retry or a job of another run is news as well, and so is what a producer's own user puts there.
#[tokio::test]
async fn a_producers_user_takes_out_whom_it_tells() {
    let (server, tenant) = (Server::start(Durability::None, &[]), tenant());
    let mut daemons = waiting(&server, &tenant, &[200; 2]).await;
    let rules = acl_rules(&tenant, Role::Producer);
    let mut setuser = redis::cmd("ACL");
    setuser.arg("SETUSER").arg("producer").arg(">secret").arg(&rules);
    setuser.exec_async(&mut connection(&server).await).await.expect("it is there");
    let url = server.url().replace("redis://", "redis://producer:secret@");
    let config = sandhog_broker::redis::Config::new(url);
    let producer = Redis::of_tenant(&config, tenant.clone(), None).expect("the url is right");
    for _ in 0..2 {
        producer.store(&tenant, &[job()]).await;
        let named = named_next(&mut daemons).await;
        assert_eq!(daemons[named].ask().await, 1);
    }
}

/// Deadlines of the daemons' leases have nothing to do with it.
#[tokio::test]
async fn an_earlier_time_is_news_for_all() {
    let (server, tenant) = (Server::shared(), tenant());
    let mut daemons = waiting(&server, &tenant, &[200; 3]).await;
    let later = sandhog_core::job::NewJob { delay: Duration::from_secs(60), ..job() };
    broker(&server).store(&tenant, &[later]).await;
    for daemon in &mut daemons {
        assert_eq!(daemon.hear().await, None);
    }
}
