//! Deploys in the middle of it all.

use std::fs;
use std::path::Path;

use anyhow::ensure;
use sandhog_tests::{ECHO, Site, binary, component, component_of, with_section};
use tokio::process::Command;
use tokio::time::{Duration, Instant, interval_at};

const EVERY: Duration = Duration::from_secs(20);
/// Each so many deploys, one is broken.
const BROKEN: u64 = 7;
/// After each so many, the daemons are told to look at their files, too.
const RELOADED: u64 = 3;

/// The component that changes with each deploy, and never comes back.
pub(crate) fn churn(revision: u64) -> Vec<u8> {
    component_of(ECHO, &revision.to_string())
}

/// Deploys until then; says how often.
///
/// The hog has two revisions that take turns, and now and then one that is refused.
pub(crate) async fn deploy(site: &Site, configs: &[&Path], until: Instant) -> anyhow::Result<u64> {
    let hog = fs::read(component("hog"))?;
    let turns = ["a", "b"].map(|text| with_section(&hog, text));
    let mut ticks = interval_at(Instant::now() + EVERY, EVERY);
    for deploy in 1_u64.. {
        if ticks.tick().await >= until {
            return Ok(deploy - 1);
        }
        site.component("churn", &churn(deploy));
        if deploy.is_multiple_of(BROKEN) {
            site.component("hog", b"\0asm\x0d\0\x01\0garbage");
            continue;
        }
        site.component("hog", &turns[usize::from(deploy.is_multiple_of(2))]);
        if deploy.is_multiple_of(RELOADED) {
            for config in configs {
                reload(config).await?;
            }
        }
    }
    unreachable!("there are more numbers than deploys")
}

async fn reload(config: &Path) -> anyhow::Result<()> {
    let output = Command::new(binary()).arg("--config").arg(config).arg("reload").output().await?;
    ensure!(output.status.success(), "a reload failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
