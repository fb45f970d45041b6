//! Passes news on: of work to the intakes of the tenants that it is about, of cancellations to the heartbeat.

use std::collections::BTreeMap;
use std::sync::Arc;

use sandhog_broker::{Broker, Wake, Wakes};
use sandhog_core::id::TenantId;
use tokio::sync::watch;

use crate::ambient::Ambient;
use crate::heartbeat::Live;
use crate::outage::{Caller, Outage, Tries};

/// The sending ends of the intakes' bells. A bell is a counter, so that a ring during a call to the broker is not
/// missed: whoever waits compares it with what it was before the call.
pub(crate) type Bells = BTreeMap<TenantId, Arc<watch::Sender<u64>>>;

/// Rings until the process ends. A stream of wakes that can't be had, or breaks off, is opened again; until then the
/// janitor finds the work. Another set of bells needs another stream, whose first wake is for all.
pub(crate) async fn ring(
    broker: Arc<dyn Broker>,
    mut bells: watch::Receiver<Bells>,
    live: Arc<Live>,
    outage: Arc<Outage>,
    ambient: Ambient,
) {
    let mut tries = Tries::default();
    loop {
        let of_now = bells.borrow_and_update().clone();
        match broker.watch(of_now.keys().cloned().collect()).await {
            Ok(wakes) => {
                tries.succeeded();
                outage.over(Caller::Listener);
                tokio::select! {
                    biased;
                    Ok(()) = bells.changed() => continue,
                    () = pass_all_on(wakes, &of_now, &live) => {}
                }
            }
            Err(error) => outage.note(Caller::Listener, &error),
        }
        tokio::time::sleep(tries.failed(&ambient)).await;
    }
}

/// Until the stream ends.
async fn pass_all_on(mut wakes: Wakes, bells: &Bells, live: &Live) {
    while let Some(wake) = wakes.next().await {
        match wake {
            Wake::Ready(tenant) => bells.get(&tenant).into_iter().for_each(strike),
            Wake::Cancel(tenant, job) => live.hurry(tenant, job),
            Wake::All => {
                bells.values().for_each(strike);
                live.hurry_all();
            }
        }
    }
}

pub(crate) fn strike(bell: &Arc<watch::Sender<u64>>) {
    bell.send_modify(|rings| *rings = rings.wrapping_add(1));
}
