//! `sandhog plugin new`: writes a new handler project.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use sandhog_core::id::PluginName;
use serde::Serialize;

use super::language::Language;
use crate::exit::{Exit, Failure};
use crate::output::console::Console;

/// Start a handler of one's own: a project that builds at once
#[derive(Debug, Args)]
pub(crate) struct New {
    /// The plugin's name; also that of its project, and the first part of its kinds
    #[arg(value_parser = project_name)]
    name: PluginName,
    /// What it is written in
    #[arg(long, value_name = "LANGUAGE", default_value = "rust")]
    lang: Language,
    /// Where to write it [default: a folder of that name]
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Where the SDK is [default: the one of the checkout that this command was built from, if it is still there]
    #[arg(long, value_name = "FOLDER")]
    sdk: Option<PathBuf>,
}

/// JSON document of a project that was written.
#[derive(Debug, Serialize)]
struct NewDocument {
    folder: String,
    files: Vec<String>,
}

fn project_name(text: &str) -> Result<PluginName, String> {
    let name = PluginName::parse(text).map_err(|invalid| invalid.to_string())?;
    if text.contains('.') || text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("a project's name has no `.` and starts with a letter".to_owned());
    }
    Ok(name)
}

impl New {
    pub(crate) fn execute(self, console: &Console) -> Result<Exit, Failure> {
        let folder = self.dir.clone().unwrap_or_else(|| PathBuf::from(self.name.as_str()));
        if fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
            let failure = Failure::new(format!("{} is there already, and not empty", folder.display()));
            return Err(failure.help("another place: --dir FOLDER"));
        }
        let sdk = self.lang.sdk(self.sdk.as_deref())?;
        let mut files = Vec::new();
        for (name, text) in self.lang.template() {
            let fill = |text: &str| text.replace("{{name}}", self.name.as_str()).replace("{{sdk}}", &sdk);
            let file = folder.join(fill(name));
            write(&file, &fill(text))?;
            files.push(file.display().to_string());
        }
        let document = NewDocument { folder: folder.display().to_string(), files };
        console.show(&document, || self.next_steps(&document))?;
        Ok(Exit::Ok)
    }

    fn next_steps(&self, document: &NewDocument) -> String {
        let name = &self.name;
        format!(
            "wrote {}\n\nnext:\n  cd {} && {}\n  sandhog plugin build\n  \
             sandhog plugin run {name}.wasm --kind {name}.greet '{{\"name\": \"Ann\"}}'",
            document.files.join(", "),
            document.folder,
            self.lang.test_command(),
        )
    }
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let made = file.parent().map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| fs::write(file, text))
        .map_err(|cause| Failure::io(format!("write {}", file.display()), &cause))
}
