//! `sandhog plugin sign`.

use std::path::PathBuf;

use clap::Args;
use sandhog_daemon::deploy::signatures;
use serde::Serialize;

use super::read;
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
}

/// What was signed, for programs.
#[derive(Debug, Serialize)]
struct SignedDocument {
    file: String,
    sha256: String,
    signature: String,
    signer: String,
}

impl Sign {
    pub(crate) fn execute(self, console: &Console) -> Result<Exit, Failure> {
        let key = signatures::Key::read(&self.key).map_err(|cause| {
            let failure = Failure::io(format!("read the key {}", self.key.display()), &cause);
            failure.help("make one: sandhog plugin key FILE")
        })?;
        let digest = sandhog_engine::revision_of(&read(&self.file)?);
        let file = self.file.display().to_string();
        let path = key
            .sign(&self.file, digest)
            .map_err(|cause| Failure::io(format!("write the signature of {file}"), &cause))?;
        let document = SignedDocument {
            file,
            sha256: digest.to_string(),
            signature: path.display().to_string(),
            signer: key.signer().to_string(),
        };
        console.show(&document, || {
            let SignedDocument { sha256, signature, signer, .. } = &document;
            format!("{signature}: {signer} has signed {sha256}")
        })?;
        Ok(Exit::Ok)
    }
}
