//! `sandhog tenant`: which tenants the broker knows, and what is a tenant's own there.

use std::collections::BTreeSet;
use std::path::Path;

use clap::{Args, Subcommand};
use sandhog_broker::redis::acl_rules;
use sandhog_broker::sealed::Key;
use sandhog_core::id::TenantId;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::client::{Client, known_tenant, load};
use super::console::Console;
use super::exit::{Exit, Failure};
use super::render::{of, tenant as render};
use crate::broker::Access;
use crate::config::{OwnBroker, nearest};

/// See which tenants the broker knows; set up what is a tenant's own there, or remove it
#[derive(Debug, Subcommand)]
pub(super) enum Tenant {
    Acl(Acl),
    Key(NewKey),
    List(List),
    Purge(Purge),
}

/// Print the Redis command that makes a user who can work for one tenant, and reach nothing else
#[derive(Debug, Args)]
#[command(after_help = ACL)]
pub(super) struct Acl {
    /// Whose user it is
    tenant: TenantId,
    /// The user's name [default: the tenant's]
    #[arg(long, value_name = "NAME", value_parser = user_name)]
    user: Option<String>,
}

const ACL: &str = "\
Nothing is sent to the server. To make the user, and give it a password:
  sandhog tenant acl acme | redis-cli
  redis-cli ACL SETUSER acme '>PASSWORD'
If the configuration has the tenant's login ([tenants.acme.broker]), the command names that user and has the digest of
that password in it; otherwise a user that is made again keeps its passwords. Whatever else it was allowed is taken away.
It may not ask for INFO or CONFIG, which tell of the whole server, so a daemon that has no other user warns that it could
not check the server.";

/// Make a key by which a tenant's data is sealed
#[derive(Debug, Args)]
#[command(after_help = KEY)]
pub(super) struct NewKey {}

const KEY: &str = "\
The key is on standard output, and nowhere else. To keep it in a file that nobody else can read:
  (umask 077; sandhog tenant key > acme-2026-11.key)";

/// List the tenants of the configuration, and those of which the broker keeps something
#[derive(Debug, Args)]
pub(super) struct List {}

/// Remove all that the broker keeps of a tenant: jobs, state and usage
#[derive(Debug, Args)]
#[command(after_help = PURGE)]
pub(super) struct Purge {
    /// Whose; it need not be in the configuration any more
    tenant: TenantId,
    /// Don't ask
    #[arg(long, short)]
    yes: bool,
}

const PURGE: &str = "\
It is done in steps, so that other tenants' jobs go on meanwhile. If it is interrupted, the same command goes on with what
is left. A tenant whose jobs are still run or enqueued gets new ones: take it out of the configuration first.";

/// Jobs and values of state that one step removes at most.
const STEP: usize = 1000;

/// A key, for programs.
#[derive(Debug, Serialize)]
struct KeyDocument<'k> {
    key: &'k str,
}

/// A user of Redis, for programs.
#[derive(Debug, Serialize)]
struct AclDocument {
    tenant: String,
    user: String,
    /// The words of the command, `ACL` and `SETUSER` among them.
    command: Vec<String>,
}

/// A name that is one word, to Redis and to a shell.
fn user_name(name: &str) -> Result<String, &'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
    match !name.is_empty() && name.chars().all(plain) {
        true => Ok(name.to_owned()),
        false => Err("letters, digits, `.`, `_`, `-` and `@`"),
    }
}

impl Tenant {
    pub(super) async fn execute(self, config: &Path, console: &Console) -> Result<Exit, Failure> {
        match self {
            Self::Acl(acl) => acl.execute(config, console),
            Self::List(List {}) => list(config, console).await,
            Self::Purge(purge) => purge.execute(config, console).await,
            Self::Key(NewKey {}) => {
                let key = Key::random().reveal();
                console.show(&KeyDocument { key: &key }, || key.to_string())?;
                Ok(Exit::Ok)
            }
        }
    }
}

async fn list(config: &Path, console: &Console) -> Result<Exit, Failure> {
    let client = Client::connect(config, Access::Look).await?;
    let mut tenants: BTreeSet<TenantId> = client.broker.tenants().await?.into_iter().collect();
    tenants.extend(client.config.tenants.keys().cloned());
    let mut documents = Vec::new();
    for tenant in tenants {
        let counts = client.broker.counts(&tenant).await;
        documents.push(render::TenantDocument::new(&client.config, &tenant, counts));
    }
    let text = render::tenants(&documents, console.paint());
    console.show(&render::TenantsDocument { tenants: documents }, || text)?;
    Ok(Exit::Ok)
}

impl Purge {
    async fn execute(self, config: &Path, console: &Console) -> Result<Exit, Failure> {
        let client = Client::connect(config, Access::Change).await?;
        let tenant = &self.tenant;
        let counts = client.broker.counts(tenant).await?;
        let known = client.broker.tenants().await?;
        if counts.total() == 0 && !known.contains(tenant) {
            let failure = Failure::new(format!("the broker keeps nothing of tenant {tenant}"));
            return Err(match nearest(tenant.as_str(), known.iter().map(TenantId::as_str)) {
                Some(meant) => failure.help(format!("did you mean `{meant}`?")),
                None => failure.help("`sandhog tenant list` shows of whom it keeps something"),
            });
        }
        if client.config.tenants.contains_key(tenant) {
            console
                .warn(&format!("tenant {tenant} is in the configuration, so a daemon may store more of it"));
        }
        let jobs = of(counts.total(), "job");
        let question = format!("remove {jobs} of tenant {tenant}, its state and its usage, for good?");
        if !self.yes && !console.ask(&question)? {
            return Err(Failure::new("nothing was removed"));
        }
        let spinner = console.spinner("removing");
        loop {
            let left = client.broker.purge(tenant, STEP).await.map_err(|error| {
                let failure = Failure::from(error);
                let message = format!("not all of tenant {tenant} is removed: {}", failure.message);
                failure.says(message).help("repeat the command: it goes on with what is left")
            })?;
            if left == 0 {
                break;
            }
            spinner.set_message(format!("removing, {left} left"));
        }
        spinner.finish_and_clear();
        let document = render::PurgedDocument { tenant: tenant.to_string(), jobs: counts.total() };
        console.show(&document, || format!("{jobs} of tenant {tenant} removed, its state and its usage"))?;
        Ok(Exit::Ok)
    }
}

impl Acl {
    fn execute(self, path: &Path, console: &Console) -> Result<Exit, Failure> {
        let (config, _) = load(path)?;
        let tenant = known_tenant(&config, &self.tenant)?;
        let login = match config.tenants.get(&tenant).and_then(|tenant| tenant.broker.as_ref()) {
            Some(OwnBroker::Known(server)) => server.effective_login(),
            Some(OwnBroker::NotAtHand(_)) | None => None,
        };
        let user = self.user.or_else(|| login.as_ref().map(|login| login.username.clone()));
        let user = user.unwrap_or_else(|| tenant.to_string());
        let mut command = vec!["ACL".to_owned(), "SETUSER".to_owned(), user.clone()];
        match login.filter(|login| login.username == user) {
            // Redis keeps passwords as this digest, and takes them so.
            Some(login) => command.extend(["resetpass".to_owned(), format!("#{}", sha256(&login.password))]),
            None => {
                console.remark(&format!("a new user has no password yet: ACL SETUSER {user} '>PASSWORD'"))
            }
        }
        command.extend(acl_rules(&tenant));
        let line = command.join(" ");
        console.show(&AclDocument { tenant: tenant.to_string(), user, command }, || line)?;
        Ok(Exit::Ok)
    }
}

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}
