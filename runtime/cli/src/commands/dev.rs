//! `sandhog dev`: runs a daemon to try things on.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use sandhog_config::Broker;
use sandhog_daemon::deploy::{self, Failing};

use crate::commands::daemon::{Log, serve};
use crate::exit::{Exit, Failure};
use crate::output::console::Console;
use crate::{LogFormat, LoggedBy, Logging};

/// Run a daemon to try things on: an embedded broker, in a folder with a starter configuration
#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// The folder; what is missing in it is made
    #[arg(default_value = ".")]
    folder: PathBuf,
    #[command(flatten)]
    log: Log,
}

const STARTER: &str = include_str!("dev/sandhog.toml");

impl Dev {
    pub(crate) fn logging(&self) -> Logging {
        Logging { filter: self.log.log_level.clone(), format: LogFormat::Pretty, by: LoggedBy::Daemon }
    }

    pub(crate) async fn execute(self, console: &Console) -> Result<Exit, Failure> {
        let file = self.folder.join("sandhog.toml");
        prepare(&self.folder, &file, console)?;
        let config = deploy::load_config(&file)?;
        if let Broker::Redis(_) = config.broker {
            let message =
                format!("{} names a Redis broker, and `sandhog dev` runs on an embedded one", file.display());
            return Err(
                Failure::new(message).help("use `sandhog run`, or another folder: sandhog dev FOLDER")
            );
        }
        if config.plugins.is_empty() {
            console.remark("there are no plugins yet. In another terminal: sandhog plugin new greet");
        }
        serve(&file, config, Failing::LeftOut).await
    }
}

/// Creates the files that are missing.
fn prepare(folder: &Path, file: &Path, console: &Console) -> Result<(), Failure> {
    if file.exists() {
        return Ok(());
    }
    let plugins = folder.join("plugins.d");
    fs::create_dir_all(&plugins)
        .map_err(|cause| Failure::io(format!("make {}", plugins.display()), &cause))?;
    fs::write(file, STARTER).map_err(|cause| Failure::io(format!("write {}", file.display()), &cause))?;
    console.remark(&format!(
        "wrote {} to start with; plugin files go to {}",
        file.display(),
        plugins.display()
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_starter_is_right_and_what_it_leaves_out_stays_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("sandhog.toml");
        fs::write(&file, STARTER).expect("a file");
        let load =
            || sandhog_config::load(&file).and_then(sandhog_config::Config::strict).expect("it is right");
        let config = load();
        assert!(
            matches!(config.broker, Broker::Embedded { path } if path == folder.path().join("sandhog.db"))
        );
        // Every line that is commented out is right, too.
        let all = STARTER.lines().map(|line| line.strip_prefix("#: ").unwrap_or(line)).collect::<Vec<_>>();
        fs::write(&file, all.join("\n")).expect("a file");
        assert!(load().tenants.len() == 1);
    }
}
