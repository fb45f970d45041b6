//! Passes news of work on to the intakes of the tenants that it is about.

use std::collections::BTreeMap;
use std::sync::Arc;

use sandhog_broker::{Broker, Wake};
use sandhog_core::id::TenantId;
use tokio::sync::watch;

use crate::ambient::Ambient;
use crate::outage::{Outage, Tries};

/// The sending ends of the intakes' bells. A bell is a counter, so that a ring during a call to the broker is not
/// missed: whoever waits compares it with what it was before the call.
pub(crate) type Bells = BTreeMap<TenantId, watch::Sender<u64>>;

/// Rings until the process ends. A stream of wakes that can't be had, or breaks off, is opened again; until then the
/// intakes' own polling finds the work.
pub(crate) async fn ring(broker: Arc<dyn Broker>, bells: Bells, outage: Arc<Outage>, ambient: Ambient) {
    let mut tries = Tries::default();
    loop {
        match broker.wakes(bells.keys().cloned().collect()).await {
            Ok(mut wakes) => {
                tries.succeeded();
                while let Some(wake) = wakes.next().await {
                    pass_on(&bells, &wake);
                }
            }
            Err(error) => outage.note(&error),
        }
        tokio::time::sleep(tries.failed(&ambient)).await;
    }
}

fn pass_on(bells: &Bells, wake: &Wake) {
    match wake {
        Wake::Ready(tenant) => bells.get(tenant).into_iter().for_each(strike),
        Wake::All => bells.values().for_each(strike),
    }
}

fn strike(bell: &watch::Sender<u64>) {
    bell.send_modify(|rings| *rings = rings.wrapping_add(1));
}
