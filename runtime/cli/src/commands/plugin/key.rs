//! `sandhog plugin key`: makes a key to sign components with.

use std::io::ErrorKind;
use std::path::PathBuf;

use clap::Args;
use sandhog_daemon::deploy::signatures;
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::output::console::Console;

/// Make a key to sign components with: the private half into a file, the public half printed
#[derive(Debug, Args)]
pub(crate) struct Key {
    /// Where the private key goes, for its owner's eyes only; it must not be there yet
    file: PathBuf,
}

/// JSON document of a key that was made.
#[derive(Debug, Serialize)]
struct KeyDocument {
    file: String,
    signer: String,
}

impl Key {
    pub(crate) fn execute(self, console: &Console) -> Result<Exit, Failure> {
        let file = self.file.display().to_string();
        let key = signatures::Key::generate().map_err(|cause| Failure::io("make a key", &cause))?;
        key.write(&self.file).map_err(|cause| match cause.kind() {
            ErrorKind::AlreadyExists => Failure::new(format!("{file} is there already"))
                .help("another name; keys are never overwritten"),
            _ => Failure::io(format!("write {file}"), &cause),
        })?;
        let signer = key.signer().to_string();
        console.show(&KeyDocument { file: file.clone(), signer: signer.clone() }, || signer.clone())?;
        if console.format == crate::output::console::Format::People {
            console.remark(&format!(
                "the private key is in {file}: keep it safe\n\
                 a tenant takes what it signs by this line in the daemon's file: signers = [\"{signer}\"]"
            ));
        }
        Ok(Exit::Ok)
    }
}
