//! `sandhog tenant`: what is a tenant's own at the broker.

use std::path::Path;

use clap::{Args, Subcommand};
use sandhog_broker::redis::acl_rules;
use sandhog_broker::sealed::Key;
use sandhog_core::id::TenantId;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::client::{known_tenant, load};
use super::console::Console;
use super::exit::{Exit, Failure};
use crate::config::OwnBroker;

/// Set up what is a tenant's own at the broker
#[derive(Debug, Subcommand)]
pub(super) enum Tenant {
    Acl(Acl),
    Key(NewKey),
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
    pub(super) fn execute(self, config: &Path, console: &Console) -> Result<Exit, Failure> {
        match self {
            Self::Acl(acl) => acl.execute(config, console),
            Self::Key(NewKey {}) => {
                let key = Key::random().reveal();
                console.show(&KeyDocument { key: &key }, || key.to_string())?;
                Ok(Exit::Ok)
            }
        }
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
