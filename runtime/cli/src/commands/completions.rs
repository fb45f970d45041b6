//! `sandhog completions`: has a shell complete commands and options.

use clap::Args;
use clap_complete::{Shell, generate};
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::output::console::Console;

/// Print a script by which a shell completes commands and options
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Completions {
    /// Which shell
    shell: Shell,
}

const EXAMPLES: &str = "\
Examples:
  source <(sandhog completions bash)               in ~/.bashrc
  sandhog completions zsh >~/.zfunc/_sandhog       a folder of zsh's fpath
  sandhog completions fish >~/.config/fish/completions/sandhog.fish";

/// JSON document of a script.
#[derive(Debug, Serialize)]
struct CompletionsDocument {
    shell: String,
    script: String,
}

impl Completions {
    pub(crate) fn execute(self, console: &Console) -> Result<Exit, Failure> {
        let (mut command, mut script) = (crate::command(), Vec::new());
        let name = command.get_name().to_owned();
        generate(self.shell, &mut command, name, &mut script);
        let script = String::from_utf8_lossy(&script).into_owned();
        let document = CompletionsDocument { shell: self.shell.to_string(), script };
        console.show(&document, || document.script.clone())?;
        Ok(Exit::Ok)
    }
}
