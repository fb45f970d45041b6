//! `sandhog plugin build`: builds a project with its language's tools.

mod cargo;
mod interpreted;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::language::Language;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::output::console::Console;

/// Build a handler project to a component, and put it beside its TOML
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The project; in Rust, also a workspace of several
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Cargo's profile [default: release]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Put the component into this folder
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// JSON document of the components that were built.
#[derive(Debug, Serialize)]
struct BuiltDocument {
    components: Vec<ComponentDocument>,
}

/// JSON document of a component.
#[derive(Debug, Serialize)]
struct ComponentDocument {
    path: String,
    size: u64,
    sha256: String,
}

impl Build {
    pub(crate) async fn execute(self, console: &Console) -> Result<Exit, Failure> {
        let components = match Language::of_project(&self.path)? {
            Language::Rust => cargo::build(&self, console.remarks()).await?,
            language @ (Language::Js | Language::Python) => vec![interpreted::build(&self, language).await?],
        };
        let components =
            components.iter().map(|file| ComponentDocument::of(file)).collect::<Result<Vec<_>, _>>()?;
        let document = BuiltDocument { components };
        console.show(&document, || {
            let line = |built: &ComponentDocument| {
                format!("{}  {}  sha256 {}", built.path, output::bytes(built.size), built.sha256)
            };
            document.components.iter().map(line).collect::<Vec<_>>().join("\n")
        })?;
        Ok(Exit::Ok)
    }

    /// Returns the path where a project's component belongs; its folder is created.
    fn destination(&self, project: &Path, name: &str) -> Result<PathBuf, Failure> {
        let folder = self.out.as_deref().unwrap_or(project);
        fs::create_dir_all(folder)
            .map_err(|cause| Failure::io(format!("make {}", folder.display()), &cause))?;
        Ok(folder.join(format!("{name}.wasm")))
    }
}

impl ComponentDocument {
    fn of(file: &Path) -> Result<Self, Failure> {
        let wasm = super::read(file)?;
        let sha256 = sandhog_engine::revision_of(&wasm).to_string();
        Ok(Self { path: shown(file), size: wasm.len() as u64, sha256 })
    }
}

/// Returns a path as it is shown: relative, if it is below the working folder.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok().and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    here.unwrap_or_else(|| path.to_owned()).display().to_string()
}

/// Creates the failure of a program that can't be started. If it isn't there, `install` says how to get it.
fn not_started(program: &str, cause: &std::io::Error, install: &str) -> Failure {
    let failure = Failure::io(format!("run {program}"), cause);
    match cause.kind() {
        ErrorKind::NotFound => failure.help(install),
        _ => failure,
    }
}
