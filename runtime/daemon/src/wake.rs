//! Passes news of work on to the intakes of the tenants that it is about.

use std::collections::BTreeMap;
use std::sync::Arc;

use sandhog_broker::{Broker, Wake, Wakes};
use sandhog_core::id::TenantId;
use tokio::sync::watch;

use crate::ambient::Ambient;
use crate::outage::{Outage, Tries};

/// The sending ends of the intakes' bells. A bell is a counter, so that a ring during a call to the broker is not
/// missed: whoever waits compares it with what it was before the call.
pub(crate) type Bells = BTreeMap<TenantId, Arc<watch::Sender<u64>>>;

/// Rings until the process ends. A stream of wakes that can't be had, or breaks off, is opened again; until then the
/// intakes' own polling finds the work. Another set of bells needs another stream, whose first wake is for all.
pub(crate) async fn ring(
    broker: Arc<dyn Broker>,
    mut bells: watch::Receiver<Bells>,
    outage: Arc<Outage>,
    ambient: Ambient,
) {
    let mut tries = Tries::default();
    loop {
        let of_now = bells.borrow_and_update().clone();
        match broker.wakes(of_now.keys().cloned().collect()).await {
            Ok(wakes) => {
                tries.succeeded();
                tokio::select! {
                    biased;
                    Ok(()) = bells.changed() => continue,
                    () = pass_all_on(wakes, &of_now) => {}
                }
            }
            Err(error) => outage.note(&error),
        }
        tokio::time::sleep(tries.failed(&ambient)).await;
    }
}

/// Until the stream ends.
async fn pass_all_on(mut wakes: Wakes, bells: &Bells) {
    while let Some(wake) = wakes.next().await {
        match wake {
            Wake::Ready(tenant) => bells.get(&tenant).into_iter().for_each(strike),
            Wake::All => bells.values().for_each(strike),
        }
    }
}

fn strike(bell: &Arc<watch::Sender<u64>>) {
    bell.send_modify(|rings| *rings = rings.wrapping_add(1));
}
