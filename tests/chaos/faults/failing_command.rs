//! A command that the broker sends, or its functions call, is refused for a while, as by a user whose rights were changed.

use std::time::Duration;

use async_trait::async_trait;
use rand::RngExt;
use sandhog_broker::redis::{Role, acl_rules};
use sandhog_tests::tenant;
use tokio::time::sleep;

use super::{Fault, Kind, connection, with_redis};
use crate::plan::{TENANTS, millis};
use crate::world::World;

pub(crate) const KIND: Kind = Kind {
    name: "failing-command",
    fits: with_redis,
    draw: |r, _| {
        let commands = commands();
        let command = commands[r.random_range(0..commands.len())].clone();
        Box::new(FailingCommand { command, time: millis(r, 100, 2_000) })
    },
};

#[derive(Debug)]
struct FailingCommand {
    command: String,
    time: Duration,
}

/// All commands that it takes to work for a tenant.
fn commands() -> Vec<String> {
    let rules = acl_rules(&tenant(TENANTS[0]), Role::Worker);
    rules.iter().filter_map(|rule| rule.strip_prefix('+')).map(str::to_owned).collect()
}

#[async_trait]
impl Fault for FailingCommand {
    fn name(&self) -> &'static str {
        KIND.name
    }

    async fn strike(&self, world: &World) -> anyhow::Result<()> {
        let rights = world.rights.write().await;
        let redis = world.redis().await;
        let trouble = world.trouble_of_all();
        let mut connection = connection(&redis).await?;
        let mut set = async |rule: String| {
            let mut command = redis::cmd("ACL");
            command.arg("SETUSER").arg("default").arg(rule).query_async::<()>(&mut connection).await
        };
        set(format!("-{}", self.command)).await?;
        sleep(self.time).await;
        set(format!("+{}", self.command)).await?;
        drop(trouble);
        drop(redis);
        drop(rights);
        world.probe_all(KIND.name).await
    }
}
