//! `sandhog man`: writes the manual.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::output::console::Console;

/// Write the manual: a page for this command and for each below it
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Man {
    /// Where to; made if it isn't there. Pages of these names are overwritten
    folder: PathBuf,
}

const EXAMPLE: &str = "\
Example:
  sandhog man ~/.local/share/man/man1 && man sandhog-enqueue";

/// Name and version at the foot of each page.
const SOURCE: &str = concat!("sandhog ", env!("CARGO_PKG_VERSION"));

/// JSON document of a manual that was written.
#[derive(Debug, Serialize)]
struct ManDocument {
    folder: PathBuf,
    files: Vec<String>,
}

impl Man {
    pub(crate) fn execute(self, console: &Console) -> Result<Exit, Failure> {
        let Self { folder } = self;
        let mut files = Vec::new();
        fs::create_dir_all(&folder)
            .and_then(|()| write(command(), &folder, &mut files))
            .map_err(|cause| Failure::io(format_args!("write the manual to {}", folder.display()), &cause))?;
        let document = ManDocument { folder, files };
        console.show(&document, || document.files.join("\n"))?;
        Ok(Exit::Ok)
    }
}

/// The command line, with the full name of each command. There is no page for `help`.
fn command() -> clap::Command {
    let mut command = crate::command().disable_help_subcommand(true);
    command.build();
    command
}

/// Writes the page of a command, and those of the commands below it.
fn write(command: clap::Command, folder: &Path, files: &mut Vec<String>) -> io::Result<()> {
    let below: Vec<clap::Command> = command.get_subcommands().cloned().collect();
    let man = clap_mangen::Man::new(command).source(SOURCE).manual("Sandhog");
    man.generate_to(folder)?;
    files.push(man.get_filename());
    below.into_iter().try_for_each(|command| write(command, folder, files))
}
