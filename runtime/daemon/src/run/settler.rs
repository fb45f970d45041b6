//! The settler, which records how runs ended, in batches: one call is under way for each tenant, and runs that end meanwhile go
//! with the next. So a call carries one settlement when little goes on, and hundreds under load. Settlements of a turn, in
//! which jobs run one after the other as tenants wait in line, go together at its end: by themselves they would take a call
//! each.
//!
//! A run needs its permit no longer once its guest has ended, but its job is leased until it is settled. So the permit is given
//! back when the call that settles the run is on its way: the next lease goes out right behind it. Where so few runs are under
//! way that the processors would wait for that, it is given back at once. The jobs leased and not settled yet are at most two
//! such calls more than there are permits for. While calls fail, permits stay where they are.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures::poll;
use sandhog_broker::{Broker, Settle};
use sandhog_core::attempt::SettleReply;
use sandhog_core::id::TenantId;
use tokio::sync::{mpsc, oneshot};

use crate::capacity::permits::RunPermit;
use crate::clock::Clock;
use crate::lease::broker_health::{BrokerHealth, Caller, Tries};
use crate::telemetry::{Event, Observer};

/// Maximum number of settlements that one call carries.
const BATCH_MAX: usize = 256;

/// Maximum time that the settlements of a turn wait for its last one.
const TURN_MAX: Duration = Duration::from_millis(250);

/// Number of a tenant's runs under way below which a run's permit is given back as soon as the run has ended.
const FEW: u32 = 16;

/// A settlement, and the permit of its run if that hasn't been given back.
#[derive(Debug)]
pub(crate) struct Unsettled {
    pub(crate) settle: Settle,
    pub(crate) permit: Option<RunPermit>,
}

/// Settlement that was handed to the loop.
#[derive(Debug)]
struct Sent {
    unsettled: Unsettled,
    reply: oneshot::Sender<Answer>,
    /// Whether the next job of its turn goes on in its permit by now: then it can wait for the settlement of that job.
    is_followed: bool,
}

/// Result of sending a settlement: the broker's reply, or the settlement back, if the broker couldn't be reached.
pub(crate) type Answer = Result<SettleReply, Box<Unsettled>>;

/// Handle that sends settlements to a tenant's settling loop.
#[derive(Debug, Clone)]
pub(crate) struct Settler {
    queue: mpsc::UnboundedSender<Sent>,
    load: Arc<Load>,
}

/// Load of the loop, shared with the handles.
#[derive(Debug, Default)]
struct Load {
    /// Number of settlements that are in no call yet.
    waiting: AtomicUsize,
    fails: AtomicBool,
}

impl Load {
    fn is_heavy(&self) -> bool {
        self.fails.load(Ordering::Relaxed) || self.waiting.load(Ordering::Relaxed) >= BATCH_MAX
    }
}

impl Settler {
    /// Creates a settler, and the loop that has to be run for it. The queue needs no bound of its own: there is at most one
    /// settlement a run in it, and each has its permit, but for those of two calls.
    pub(crate) fn new(
        tenant: TenantId,
        broker: Arc<dyn Broker>,
        health: Arc<BrokerHealth>,
        observer: Arc<dyn Observer>,
        clock: Clock,
    ) -> (Self, impl Future<Output = ()>) {
        let (queue, waiting) = mpsc::unbounded_channel();
        let load = Arc::new(Load::default());
        let settler = Self { queue, load: Arc::clone(&load) };
        (settler, work_off(tenant, broker, (health, observer), clock, waiting, load))
    }

    /// Sends a settlement. If the answer's sender is dropped instead of used, the loop is gone.
    pub(crate) fn send(&self, mut unsettled: Unsettled) -> oneshot::Receiver<Answer> {
        let leaves = |permit: &mut RunPermit| !self.load.is_heavy() && permit.runs() < FEW;
        let left = unsettled.permit.take_if(leaves);
        let is_followed = left.as_ref().is_some_and(RunPermit::is_passed_on);
        drop(left);
        self.load.waiting.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        // A failed send drops `reply`, which is how the caller hears of it.
        let _ = self.queue.send(Sent { unsettled, reply, is_followed });
        answer
    }
}

async fn work_off(
    tenant: TenantId,
    broker: Arc<dyn Broker>,
    (health, observer): (Arc<BrokerHealth>, Arc<dyn Observer>),
    clock: Clock,
    mut waiting: mpsc::UnboundedReceiver<Sent>,
    load: Arc<Load>,
) {
    let mut tries = Tries::default();
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
        if batch.iter().all(|sent| sent.is_followed) {
            fill_up(&mut batch, &mut waiting, &clock).await;
        }
        load.waiting.fetch_sub(batch.len(), Ordering::Relaxed);
        // An attempt that lost its lease meanwhile waits for no answer, and must not settle.
        batch.retain(|sent: &Sent| !sent.reply.is_closed());
        if batch.is_empty() {
            continue;
        }
        let mut settles = Vec::with_capacity(batch.len());
        let mut permits = Vec::with_capacity(batch.len());
        let mut replies = Vec::with_capacity(batch.len());
        for Sent { unsettled: Unsettled { settle, permit }, reply, .. } in batch.drain(..) {
            settles.push(settle);
            permits.push(permit);
            replies.push(reply);
        }
        let gives_permits = !load.fails.load(Ordering::Relaxed);
        let answers = {
            let mut call = broker.settle(&tenant, &settles);
            match poll!(&mut call) {
                Poll::Ready(answers) => answers,
                Poll::Pending => {
                    if gives_permits {
                        permits.fill_with(|| None);
                    }
                    call.await
                }
            }
        };
        match answers {
            Ok(answers) => {
                health.over(Caller::Tenant(&tenant));
                tries.succeeded();
                load.fails.store(false, Ordering::Relaxed);
                for (settle, reply) in settles.iter().zip(&answers) {
                    observer.on(&settled(&tenant, settle, reply));
                }
                answer(replies, answers.into_iter().map(Ok));
            }
            Err(error) => {
                health.note(Caller::Tenant(&tenant), &error);
                let wait = tries.failed(&clock);
                load.fails.store(true, Ordering::Relaxed);
                let unsettled = settles.into_iter().zip(permits);
                let unsettled = unsettled.map(|(settle, permit)| Box::new(Unsettled { settle, permit }));
                answer(replies, unsettled.map(Err));
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// Waits for the settlement that a turn ends with, or for as many as one call carries, for [`TURN_MAX`] at most.
async fn fill_up(batch: &mut Vec<Sent>, waiting: &mut mpsc::UnboundedReceiver<Sent>, clock: &Clock) {
    let mut overdue = pin!(clock.reached(Some(clock.mono().after(TURN_MAX))));
    while batch.len() < BATCH_MAX {
        let known = batch.len();
        tokio::select! {
            biased;
            came = waiting.recv_many(batch, BATCH_MAX - known) => {
                if came == 0 || batch[known..].iter().any(|sent| !sent.is_followed) {
                    return;
                }
            }
            () = &mut overdue => return,
        }
    }
}

fn settled<'e>(tenant: &'e TenantId, settle: &'e Settle, reply: &'e SettleReply) -> Event<'e> {
    let plugin = settle.ran.as_ref().map(|ran| &ran.plugin);
    Event::Settled { tenant, token: settle.token, settlement: settle.settlement.slug(), plugin, reply }
}

fn answer(replies: Vec<oneshot::Sender<Answer>>, answers: impl Iterator<Item = Answer>) {
    for (reply, answer) in replies.into_iter().zip(answers) {
        // A closed channel is an attempt that has given up meanwhile.
        let _ = reply.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    use futures::FutureExt;
    use sandhog_broker::SystemClock;
    use sandhog_broker::faulty::{Faults, Faulty};
    use sandhog_broker::memory::Memory;
    use sandhog_core::id::{JobId, LeaseNo, LeaseToken};
    use sandhog_core::settle::Settlement;
    use sandhog_core::time::Timestamp;

    use crate::capacity::concurrency::{ConcurrencyLimit, ConcurrencyLimits};

    fn acme() -> TenantId {
        TenantId::parse("acme").expect("valid")
    }

    fn concurrency_limit() -> Arc<ConcurrencyLimit> {
        ConcurrencyLimits::default().of(&acme(), None, NonZeroU32::MAX)
    }

    /// A settler whose calls don't come back at once.
    fn settler() -> (Settler, Arc<Faulty>) {
        let slow = Faults { delay_max: Duration::from_millis(1), ..Faults::default() };
        let broker = Arc::new(Faulty::new(Arc::new(Memory::new(Arc::new(SystemClock))), slow));
        let behind: Arc<dyn Broker> = Arc::clone(&broker) as _;
        let (settler, settling) = Settler::new(acme(), behind, Arc::default(), Arc::new(()), Clock::system());
        tokio::spawn(settling);
        (settler, broker)
    }

    async fn unsettled(concurrency_limit: &Arc<ConcurrencyLimit>) -> Unsettled {
        let job = JobId::from_parts(Timestamp::from_millis(1), 1);
        let settle = Settle::new(LeaseToken { job, lease: LeaseNo(1) }, Settlement::Cancel);
        Unsettled { settle, permit: Some(RunPermit::of(concurrency_limit, &acme()).await) }
    }

    #[tokio::test]
    async fn a_room_is_free_once_the_call_that_settles_its_run_is_on_its_way() {
        let (concurrency_limit, (settler, _broker)) = (concurrency_limit(), settler());
        let _others = concurrency_limit.take_up_to(FEW);
        let mut answer = settler.send(unsettled(&concurrency_limit).await);
        assert_eq!(concurrency_limit.used(), FEW + 1);
        concurrency_limit.freed().await;
        assert_eq!(concurrency_limit.used(), FEW);
        assert!((&mut answer).now_or_never().is_none(), "the broker hasn't answered yet");
        assert!(matches!(answer.await, Ok(Ok(_))));
    }

    #[tokio::test]
    async fn with_few_runs_a_room_is_free_at_once_until_a_calls_worth_of_settlements_waits() {
        let (concurrency_limit, (settler, _broker)) = (concurrency_limit(), settler());
        let mut answers = Vec::new();
        for _ in 0..BATCH_MAX {
            answers.push(settler.send(unsettled(&concurrency_limit).await));
            assert_eq!(concurrency_limit.used(), 0);
        }
        answers.push(settler.send(unsettled(&concurrency_limit).await));
        assert_eq!(concurrency_limit.used(), 1);
        for answer in answers {
            assert!(matches!(answer.await, Ok(Ok(_))));
        }
        assert_eq!(concurrency_limit.used(), 0);
    }

    fn sent(is_followed: bool) -> Sent {
        let job = JobId::from_parts(Timestamp::from_millis(1), 1);
        let settle = Settle::new(LeaseToken { job, lease: LeaseNo(1) }, Settlement::Cancel);
        Sent { unsettled: Unsettled { settle, permit: None }, reply: oneshot::channel().0, is_followed }
    }

    #[tokio::test]
    async fn settlements_of_a_turn_wait_for_its_last_one_and_not_for_long() {
        let (queue, mut waiting) = mpsc::unbounded_channel();
        let mut batch = vec![sent(true)];
        for is_followed in [true, true, false] {
            assert!(queue.send(sent(is_followed)).is_ok());
            tokio::task::yield_now().await;
        }
        fill_up(&mut batch, &mut waiting, &Clock::system()).await;
        assert_eq!(batch.len(), 4);
        // The next job of this one takes long.
        let mut batch = vec![sent(true)];
        fill_up(&mut batch, &mut waiting, &Clock::system()).await;
        assert_eq!(batch.len(), 1);
    }

    #[tokio::test]
    async fn a_settlement_says_whether_a_job_has_its_room_next() {
        let concurrency_limit = concurrency_limit();
        let (queue, mut waiting) = mpsc::unbounded_channel();
        let settler = Settler { queue, load: Arc::default() };
        let (mut followed, last) = (unsettled(&concurrency_limit).await, unsettled(&concurrency_limit).await);
        let next = followed.permit.as_mut().expect("it has room").pass_on();
        let _answers = [followed, last].map(|unsettled| settler.send(unsettled));
        next.await.expect("it was passed on");
        let is_followed = |sent: Option<Sent>| sent.expect("it was sent").is_followed;
        assert!(is_followed(waiting.recv().await) && !is_followed(waiting.recv().await));
    }

    #[tokio::test]
    async fn while_calls_fail_rooms_stay() {
        let (settler, broker) = settler();
        broker.down();
        let (first, second) = (concurrency_limit(), concurrency_limit());
        let failed = settler.send(unsettled(&first).await).await.expect("it goes on");
        assert!(failed.is_err_and(|unsettled| unsettled.permit.is_none()), "nobody knew yet");
        let failed = settler.send(unsettled(&second).await).await.expect("it goes on");
        assert_eq!(second.used(), 1);
        assert!(failed.is_err_and(|unsettled| unsettled.permit.is_some()));
    }
}
