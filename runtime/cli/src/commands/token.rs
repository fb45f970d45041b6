//! `sandhog token`: makes tokens for the interface over the network.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use sandhog_core::access::{Role, TokenHash};
use sandhog_core::id::TenantId;
use sandhog_core::time::Timestamp;
use sandhog_daemon::http;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::commands::times::parse_at;
use crate::exit::{Exit, Failure};
use crate::output::clock;
use crate::output::console::Console;

/// Make tokens, by which callers over the network are known
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    New(New),
}

/// Make a token, and print it once, with what the daemon's file has to have of it
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct New {
    /// What the log calls whoever shows it
    #[arg(default_value = "token")]
    name: String,
    /// What it allows
    #[arg(long, value_name = "ROLE", value_parser = roles())]
    role: Role,
    /// Whose jobs and plugins it is for; may be repeated. Without it, it is for all, which an observer's and an admin's may be
    #[arg(long, short, value_name = "NAME", required_if_eq_any = [("role", "produce"), ("role", "operate"), ("role", "edit"), ("role", "deploy")])]
    tenant: Vec<TenantId>,
    /// From when on it is good for nothing, such as 2027-01-01T00:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = parse_at)]
    expires: Option<Timestamp>,
}

const EXAMPLE: &str = "\
Example:
  sandhog token new ci --role produce --tenant acme

The token goes to standard output; whoever has it is who it stands for. Nothing can be made of its hash, so that may stand in
the daemon's file.";

/// JSON document of a token that was made.
#[derive(Debug, Serialize)]
struct TokenDocument {
    token: String,
    hash: String,
    toml: String,
}

fn roles() -> impl TypedValueParser<Value = Role> {
    let slugs = PossibleValuesParser::new(Role::ALL.map(Role::slug));
    slugs.map(|slug| Role::from_slug(&slug).expect("only slugs of roles are possible"))
}

impl TokenCommand {
    pub(crate) fn execute(self, console: &Console) -> Result<Exit, Failure> {
        let Self::New(new) = self;
        new.execute(console)
    }
}

impl New {
    fn execute(self, console: &Console) -> Result<Exit, Failure> {
        let token = http::new_token().map_err(|cause| Failure::io("make a token", &cause))?;
        let hash = TokenHash::from_sha256(Sha256::digest(&token).into());
        let toml = self.toml(hash);
        let document = TokenDocument { token: token.clone(), hash: hash.to_string(), toml: toml.clone() };
        console.remark("put this into the daemon's file; the token itself isn't shown again:\n");
        console.remark(&toml);
        console.show(&document, || token)?;
        Ok(Exit::Ok)
    }

    fn toml(&self, hash: TokenHash) -> String {
        let Self { name, role, tenant, expires } = self;
        let mut lines = vec![
            "[[http.tokens]]".to_owned(),
            format!("name = {}", toml::Value::from(name.as_str())),
            format!("hash = \"{hash}\""),
            format!("role = \"{role}\""),
        ];
        if tenant.is_empty() {
            lines.push("tenants = \"all\"".to_owned());
        } else {
            let tenants: Vec<String> = tenant.iter().map(|tenant| format!("\"{tenant}\"")).collect();
            lines.push(format!("tenants = [{}]", tenants.join(", ")));
        }
        lines.extend(expires.map(|at| format!("expires = {}", clock(at))));
        lines.join("\n") + "\n"
    }
}
