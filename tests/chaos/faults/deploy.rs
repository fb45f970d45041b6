//! Another revision for a daemon, in the middle of its work; it may be taken back, or a broken one may follow.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use async_trait::async_trait;
use rand::RngExt;
use sandhog_tests::binary;
use tokio::process::Command;
use tokio::time::timeout;

use super::{Fault, Kind, anywhere};
use crate::history::Event;
use crate::process::Log;
use crate::world::{Daemon, World};

/// Compiling takes its time on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// No version of the binary format has this bit.
const NO_VERSION: u32 = 1 << 31;

pub(crate) const KIND: Kind = Kind {
    name: "deploy",
    fits: anywhere,
    draw: |r, daemons| {
        let daemon = r.random_range(0..daemons);
        let then = match r.random_range(0..3) {
            0 => Then::Stays,
            1 => Then::IsTakenBack,
            _ => Then::IsFollowedByGarbage,
        };
        Box::new(Deploy { daemon, revision: r.random_range(1..=3), then })
    },
};

#[derive(Debug)]
struct Deploy {
    daemon: usize,
    revision: u8,
    then: Then,
}

/// What becomes of the revision.
#[derive(Debug)]
enum Then {
    Stays,
    IsTakenBack,
    IsFollowedByGarbage,
}

#[async_trait]
impl Fault for Deploy {
    fn name(&self) -> &'static str {
        KIND.name
    }

    async fn strike(&self, world: &World) -> anyhow::Result<()> {
        let daemon = &world.daemons[self.daemon];
        let deploying = daemon.deploying.lock().await;
        let wasm = daemon.revision(self.revision);
        if let Some(time) = deployed(world, daemon, &wasm).await? {
            world.history.note(Event::Took { fault: KIND.name, what: "until it is in force", time });
        }
        match self.then {
            Then::Stays => {}
            // If the daemon is gone by then, there is nobody to ask.
            Then::IsTakenBack => drop(take_back(&daemon.config()).await?),
            Then::IsFollowedByGarbage => {
                let (log, from) = mark(daemon);
                // Of a failure for the reason of the one before nothing would be said, and the reason names the version.
                let version = NO_VERSION | world.history.now().subsec_nanos();
                daemon.deploy(&[b"\0asm", &version.to_le_bytes()[..], b"garbage"].concat())?;
                said(&log, from, &["deploy failed", &format!("{version:#x}")]).await?;
                deployed(world, daemon, &wasm).await?;
            }
        }
        drop(deploying);
        world.probe(&[self.daemon], KIND.name).await
    }
}

/// Puts a component there, and waits until the daemon has taken it up; returns how long that took, unless it has ended
/// before, or has this revision in force already.
async fn deployed(world: &World, daemon: &Daemon, wasm: &[u8]) -> anyhow::Result<Option<Duration>> {
    let ((log, from), began) = (mark(daemon), world.history.now());
    daemon.deploy(wasm)?;
    let is_new = said(&log, from, &["deploy"]).await?;
    Ok(is_new.then(|| world.history.now().saturating_sub(began)))
}

/// The log of the daemon's process, and where it has got to.
fn mark(daemon: &Daemon) -> (Arc<Log>, usize) {
    let log = daemon.log();
    let from = log.length();
    (log, from)
}

async fn said(log: &Log, from: usize, texts: &[&str]) -> anyhow::Result<bool> {
    timeout(PATIENCE, log.says(from, texts)).await.with_context(|| format!("the daemon never says {texts:?}"))
}

async fn take_back(config: &Path) -> anyhow::Result<String> {
    let command = Command::new(binary())
        .arg("--config")
        .arg(config)
        .args(["plugin", "rollback", "acme/witness"])
        .output()
        .await?;
    let said = String::from_utf8_lossy(&command.stderr).into_owned();
    ensure!(command.status.code().is_some(), "the command was killed: {said}");
    Ok(said)
}
