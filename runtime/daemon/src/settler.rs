//! Records how runs ended, in batches: one call is under way for each tenant, and what ends meanwhile goes with the
//! next. So a call carries one settlement when little goes on, and hundreds under load.

use std::sync::Arc;

use sandhog_broker::{Broker, Settle};
use sandhog_core::attempt::SettleReply;
use sandhog_core::id::TenantId;
use tokio::sync::{mpsc, oneshot};

use crate::ambient::Ambient;
use crate::outage::{Outage, Tries};

/// Settlements that one call carries at most.
const BATCH_MAX: usize = 256;

/// A settlement on its way.
#[derive(Debug)]
pub(crate) struct Sent {
    settle: Settle,
    reply: oneshot::Sender<Answer>,
}

/// What came of it: the broker's reply, or the settlement back, if the broker couldn't be reached.
pub(crate) type Answer = Result<SettleReply, Box<Settle>>;

/// Hands settlements to a tenant's settler.
#[derive(Debug, Clone)]
pub(crate) struct Settler {
    queue: mpsc::UnboundedSender<Sent>,
}

impl Settler {
    /// A settler, and the loop that has to be run for it. The queue needs no bound of its own: there is at most one
    /// settlement a run in it, and runs are bounded by permits that they hold until they are settled.
    pub(crate) fn new(
        tenant: TenantId,
        broker: Arc<dyn Broker>,
        outage: Arc<Outage>,
        ambient: Ambient,
    ) -> (Self, impl Future<Output = ()>) {
        let (queue, waiting) = mpsc::unbounded_channel();
        (Self { queue }, work_off(tenant, broker, outage, ambient, waiting))
    }

    /// Sends a settlement. If the answer's sender is dropped instead, the loop is gone.
    pub(crate) fn send(&self, settle: Settle) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        // A failed send drops `reply`, which is how the caller hears of it.
        let _ = self.queue.send(Sent { settle, reply });
        answer
    }
}

async fn work_off(
    tenant: TenantId,
    broker: Arc<dyn Broker>,
    outage: Arc<Outage>,
    ambient: Ambient,
    mut waiting: mpsc::UnboundedReceiver<Sent>,
) {
    let mut tries = Tries::default();
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let (settles, replies): (Vec<_>, Vec<_>) = batch
            .drain(..)
            // Whoever lost its lease meanwhile waits for no answer, and must not settle.
            .filter(|sent: &Sent| !sent.reply.is_closed())
            .map(|sent| (sent.settle, sent.reply))
            .unzip();
        if settles.is_empty() {
            continue;
        }
        match broker.settle(&tenant, &settles).await {
            Ok(answers) => {
                outage.over();
                tries.succeeded();
                answer(replies, answers.into_iter().map(Ok));
            }
            Err(error) => {
                outage.note(&error);
                let wait = tries.failed(&ambient);
                answer(replies, settles.into_iter().map(|settle| Err(Box::new(settle))));
                tokio::time::sleep(wait).await;
            }
        }
    }
}

fn answer(replies: Vec<oneshot::Sender<Answer>>, answers: impl Iterator<Item = Answer>) {
    for (reply, answer) in replies.into_iter().zip(answers) {
        // A closed channel is an attempt that has given up meanwhile.
        let _ = reply.send(answer);
    }
}
