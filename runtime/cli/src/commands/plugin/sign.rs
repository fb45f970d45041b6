//! `sandhog plugin sign`: signs a component.

use std::path::PathBuf;

use clap::Args;
use sandhog_api::Time;
use sandhog_core::id::{PluginName, TenantId};
use sandhog_core::time::Timestamp;
use sandhog_daemon::clock::Clock;
use sandhog_daemon::deploy::signatures::{self, Statement};
use serde::Serialize;

use super::read;
use crate::commands::times::parse_until;
use crate::exit::{Exit, Failure};
use crate::output::console::Console;

/// Sign a component: the signature goes beside it, to be deployed with it
#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// The component
    file: PathBuf,
    /// The private key, as `sandhog plugin key` or OpenSSL makes it (PKCS#8 in PEM)
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// For which plugin of which tenant: no other can be given it
    #[arg(long, value_name = "TENANT/PLUGIN", value_parser = of_plugin)]
    plugin: (TenantId, PluginName),
    /// A number above that of whatever was signed for this plugin before: lower ones aren't deployed any more. By default the
    /// milliseconds since 1970
    #[arg(long, value_name = "N")]
    number: Option<u64>,
    /// From when on it isn't deployed anew: a point in time, such as 2027-06-30T00:00:00Z, or how long it holds, such as 90d. By
    /// default it always is
    #[arg(long, value_name = "WHEN", value_parser = parse_until)]
    expires: Option<Timestamp>,
}

fn of_plugin(text: &str) -> Result<(TenantId, PluginName), String> {
    let (tenant, plugin) =
        text.split_once('/').ok_or("it is written as TENANT/PLUGIN, such as acme/thumbnail")?;
    let tenant = TenantId::parse(tenant).map_err(|invalid| invalid.to_string())?;
    Ok((tenant, PluginName::parse(plugin).map_err(|invalid| invalid.to_string())?))
}

/// JSON document of what was signed.
#[derive(Debug, Serialize)]
struct SignedDocument {
    file: String,
    sha256: String,
    signature: String,
    signer: String,
    tenant: String,
    plugin: String,
    number: u64,
    expires: Option<Time>,
}

impl Sign {
    pub(crate) fn execute(self, console: &Console) -> Result<Exit, Failure> {
        let key = signatures::Key::read(&self.key).map_err(|cause| {
            let failure = Failure::io(format!("read the key {}", self.key.display()), &cause);
            failure.help("make one: sandhog plugin key FILE")
        })?;
        let now = Clock::system().now();
        let (tenant, plugin) = self.plugin;
        let statement = Statement {
            tenant,
            plugin,
            revision: sandhog_engine::revision_of(&read(&self.file)?),
            number: self.number.unwrap_or(now.as_millis()),
            expires: self.expires,
        };
        let file = self.file.display().to_string();
        let path = key
            .sign(&self.file, &statement)
            .map_err(|cause| Failure::io(format!("write the signature of {file}"), &cause))?;
        let document = SignedDocument {
            file,
            sha256: statement.revision.to_string(),
            signature: path.display().to_string(),
            signer: key.signer().to_string(),
            tenant: statement.tenant.to_string(),
            plugin: statement.plugin.to_string(),
            number: statement.number,
            expires: statement.expires.map(Time),
        };
        console.show(&document, || {
            let SignedDocument { sha256, signature, signer, tenant, plugin, .. } = &document;
            format!("{signature}: {signer} has signed {sha256} for {tenant}/{plugin}")
        })?;
        Ok(Exit::Ok)
    }
}
