//! `sandhog tenant`: lists the broker's tenants, and sets up or removes what is a tenant's own there.

use std::collections::BTreeSet;
use std::path::Path;

use clap::{Args, Subcommand, ValueEnum};
use data_encoding::HEXLOWER;
use sandhog_api::{Request, route};
use sandhog_broker::redis::{self, Login, acl_rules};
use sandhog_broker::sealed::random_key;
use sandhog_config::{OwnBroker, nearest};
use sandhog_core::id::TenantId;
use sandhog_daemon::broker::Access;
use sandhog_daemon::service::{Caller, tenants};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::client::{Beside, Client, load};
use crate::exit::{Exit, Failure};
use crate::output::console::Console;
use crate::output::{of, tenant as render};
use crate::target::Target;

/// See which tenants the broker knows; set up what is a tenant's own there, or remove it
#[derive(Debug, Subcommand)]
pub(crate) enum Tenant {
    Acl(Acl),
    Key(NewKey),
    List(List),
    Purge(Purge),
}

/// Print the Redis commands that make a tenant's own users, who reach nothing else: one for its producers, one for daemons
#[derive(Debug, Args)]
#[command(after_help = ACL)]
pub(crate) struct Acl {
    /// Whose users they are
    tenant: TenantId,
    /// Print the command for this user alone
    #[arg(long)]
    role: Option<Role>,
    /// The user's name; where both are printed, the producer's has `-producer` behind it [default: the tenant's]
    #[arg(long, value_name = "NAME", value_parser = user_name)]
    user: Option<String>,
}

/// What a user is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    /// Enqueues jobs and looks at them: for the tenant's own services
    Producer,
    /// Does all that daemons do for the tenant, and what commands do to its jobs
    Worker,
}

/// The suffix of a tenant's name that makes the name of its producers' user.
const OF_PRODUCERS: &str = "-producer";

const ACL: &str = "\
Nothing is sent to the server. To make the users, and give them passwords:
  sandhog tenant acl acme | redis-cli
  redis-cli ACL SETUSER acme '>PASSWORD'
  redis-cli ACL SETUSER acme-producer '>ANOTHER'
The worker's user is for daemons, and writes all that there is of the tenant, what its runs have spent among it. The
producer's enqueues and looks, and can touch neither runs, state nor usage. Neither loads code.
If the configuration has the tenant's login ([tenants.acme.broker]), the worker's command names that user and has the
digest of that password in it; otherwise a user that is made again keeps its passwords. Whatever else it was allowed is
taken away. They may not ask for INFO or CONFIG, which tell of the whole server, so a daemon that has no other user warns
that it could not check the server.";

/// Make a key by which a tenant's data is sealed
#[derive(Debug, Args)]
#[command(after_help = KEY)]
pub(crate) struct NewKey {}

const KEY: &str = "\
The key is on standard output, and nowhere else. To keep it in a file that nobody else can read:
  (umask 077; sandhog tenant key > acme-2026-11.key)";

/// List the tenants of the configuration, and those of which the broker keeps something
#[derive(Debug, Args)]
pub(crate) struct List {}

/// Remove all that the broker keeps of a tenant: jobs, state and usage
#[derive(Debug, Args)]
#[command(after_help = PURGE)]
pub(crate) struct Purge {
    /// Whose; it need not be in the configuration any more
    tenant: TenantId,
    /// Don't ask
    #[arg(long, short)]
    yes: bool,
}

const PURGE: &str = "\
It is done in steps, so that other tenants' jobs go on meanwhile. If it is interrupted, the same command goes on with what
is left. A tenant whose jobs are still run or enqueued gets new ones: take it out of the configuration first.";

/// Maximum number of jobs and values of state that one step removes.
const STEP: usize = 1000;

/// JSON document of a key.
#[derive(Debug, Serialize)]
struct KeyDocument<'k> {
    key: &'k str,
}

/// JSON document of a tenant's Redis users.
#[derive(Debug, Serialize)]
struct AclDocument {
    tenant: String,
    users: Vec<UserDocument>,
}

/// JSON document of one Redis user.
#[derive(Debug, Serialize)]
struct UserDocument {
    role: Role,
    user: String,
    /// The words of the Redis command, `ACL` and `SETUSER` among them.
    command: Vec<String>,
}

/// Checks that a user's name is one word, to Redis and to a shell.
fn user_name(name: &str) -> Result<String, &'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
    match !name.is_empty() && name.chars().all(plain) {
        true => Ok(name.to_owned()),
        false => Err("letters, digits, `.`, `_`, `-` and `@`"),
    }
}

impl Tenant {
    pub(crate) async fn execute(self, target: &Target, console: &Console) -> Result<Exit, Failure> {
        match self {
            Self::Acl(acl) => acl.execute(target.config("tenant acl")?, console),
            Self::List(List {}) => list(target, console).await,
            Self::Purge(purge) => purge.execute(target, console).await,
            Self::Key(NewKey {}) => {
                let key = random_key().reveal();
                console.show(&KeyDocument { key: &key }, || key.to_string())?;
                Ok(Exit::Ok)
            }
        }
    }
}

async fn list(target: &Target, console: &Console) -> Result<Exit, Failure> {
    let client = Client::connect(target, Access::Look).await?;
    let document = match client {
        Client::Beside(Beside { config, broker, .. }) => {
            let mut tenants: BTreeSet<TenantId> = broker.tenants().await?.into_iter().collect();
            tenants.extend(config.tenants.keys().cloned());
            let mut documents = Vec::new();
            for tenant in tenants {
                let counts = broker.counts(&tenant).await;
                documents.push(render::document(&config, &tenant, counts));
            }
            render::TenantsDocument { tenants: documents }
        }
        Client::Over(client) => client.call(&Request::to(route::TENANTS)).await?,
    };
    console.show(&document, || render::tenants(&document.tenants, console.paint()))?;
    Ok(Exit::Ok)
}

impl Purge {
    async fn execute(self, target: &Target, console: &Console) -> Result<Exit, Failure> {
        let client = Beside::connect(target.config("tenant purge")?, Access::Change).await?;
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
        let config = load(path)?;
        let tenant = tenants::known(&config, &Caller::operator(), &self.tenant)?;
        let login = match config.tenants.get(&tenant).and_then(|tenant| tenant.broker.as_ref()) {
            Some(OwnBroker::Known(server)) => server.effective_login(),
            Some(OwnBroker::NotAtHand(_)) | None => None,
        };
        let roles = self.role.map_or_else(|| vec![Role::Producer, Role::Worker], |role| vec![role]);
        let users = roles.into_iter().map(|role| {
            let user = self.name_of(role, &tenant, login.as_ref());
            let mut command = vec!["ACL".to_owned(), "SETUSER".to_owned(), user.clone()];
            match login.as_ref().filter(|login| login.username == user) {
                // Redis stores passwords as this digest, and accepts it.
                Some(login) => {
                    command.extend(["resetpass".to_owned(), format!("#{}", sha256(&login.password))])
                }
                None => {
                    console.remark(&format!("a new user has no password yet: ACL SETUSER {user} '>PASSWORD'"))
                }
            }
            command.extend(acl_rules(&tenant, role.into()));
            UserDocument { role, user, command }
        });
        let document = AclDocument { tenant: tenant.to_string(), users: users.collect() };
        let lines: Vec<String> = document.users.iter().map(|user| user.command.join(" ")).collect();
        console.show(&document, || lines.join("\n"))?;
        Ok(Exit::Ok)
    }

    /// Returns the name of a role's user. The one in the configuration is the worker's, unless a producer's configuration has
    /// it.
    fn name_of(&self, role: Role, tenant: &TenantId, login: Option<&Login>) -> String {
        let of_producers = format!("{tenant}{OF_PRODUCERS}");
        match (role, &self.user) {
            (Role::Producer, Some(name)) if self.role.is_none() => format!("{name}{OF_PRODUCERS}"),
            (_, Some(name)) => name.clone(),
            (Role::Producer, None) => of_producers,
            (Role::Worker, None) => {
                let configured = login.map(|login| &login.username).filter(|name| **name != of_producers);
                configured.cloned().unwrap_or_else(|| tenant.to_string())
            }
        }
    }
}

impl From<Role> for redis::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Producer => Self::Producer,
            Role::Worker => Self::Worker,
        }
    }
}

fn sha256(text: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(text))
}
