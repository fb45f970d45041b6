//! Producers: they enqueue, note what was acknowledged, and cancel some of it.

use std::sync::Arc;
use std::time::Duration;

use sandhog_broker::Changed;
use sandhog_core::job::NewJob;
use sandhog_tests::tenant;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::history::Event;
use crate::plan::{Insists, Plan};
use crate::world::{World, new_job};

/// The rest after a call that has failed.
const REST: Duration = Duration::from_millis(30);

/// Does what the plan has of it, and returns once all is acknowledged or given up.
pub(crate) async fn produce(world: &Arc<World>, plan: &Arc<Plan>) -> anyhow::Result<()> {
    let mut producers = JoinSet::new();
    for nth in 0..plan.batches.len() {
        producers.spawn(enqueue(Arc::clone(world), Arc::clone(plan), nth));
    }
    for nth in 0..plan.cancels.len() {
        producers.spawn(cancel(Arc::clone(world), Arc::clone(plan), nth));
    }
    while let Some(ended) = producers.join_next().await {
        ended?;
    }
    Ok(())
}

async fn enqueue(world: Arc<World>, plan: Arc<Plan>, nth: usize) {
    let batch = &plan.batches[nth];
    let (tenant, jobs) = (tenant(batch.tenant), batch.jobs.iter().map(new_job).collect::<Vec<NewJob>>());
    sleep(batch.at).await;
    for job in &jobs {
        world.history.note(Event::Asked { tenant: tenant.clone(), job: job.id });
    }
    loop {
        match world.client.enqueue(&tenant, &jobs).await {
            Ok(_) => {
                for job in &jobs {
                    world.history.note(Event::Acknowledged { tenant: tenant.clone(), job: job.id });
                }
                return;
            }
            Err(_) if batch.insists == Insists::No => return,
            Err(_) => sleep(REST).await,
        }
    }
}

async fn cancel(world: Arc<World>, plan: Arc<Plan>, nth: usize) {
    let cancel = &plan.cancels[nth];
    let (tenant, job) = (tenant(cancel.tenant), cancel.job);
    sleep(cancel.at).await;
    world.history.note(Event::CancelAsked { tenant: tenant.clone(), job });
    if let Ok(Changed::Done) = world.client.cancel(&tenant, job).await {
        world.history.note(Event::Cancelled { tenant, job });
    }
}
