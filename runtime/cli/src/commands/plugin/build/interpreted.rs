//! Builds of JavaScript and Python projects, by the build command of the language's SDK that the project has installed.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;
use tokio::process::Command;

use super::{Build, not_started};
use crate::commands::plugin::language::Language;
use crate::exit::Failure;

/// Exit code of a build program that has found the handlers' own code at fault: nothing that could be installed helps.
const HANDLERS_FAULT: i32 = 3;

/// The program that builds components of a language, and how to install it.
struct Tool {
    program: OsString,
    arguments: &'static [&'static str],
    install: &'static str,
}

/// Builds a project. Returns the path of the component, at its destination.
pub(super) async fn build(build: &Build, language: Language) -> Result<PathBuf, Failure> {
    if build.profile.is_some() {
        return Err(Failure::new("--profile is Cargo's; a project without Cargo.toml has none".to_owned()));
    }
    let component = build.destination(&build.path, &project_name(language, &build.path)?)?;
    let tool = if language == Language::Js { javascript(&build.path)? } else { python(&build.path) };
    let run = Command::new(&tool.program)
        .args(tool.arguments)
        .arg("build")
        .arg(&build.path)
        .arg("--out")
        .arg(&component)
        // It prints the path of the component, which is known.
        .stdout(Stdio::null())
        .status()
        .await;
    let status = run.map_err(|cause| not_started(&tool.program.to_string_lossy(), &cause, tool.install))?;
    if status.success() {
        return Ok(component);
    }
    let failure = Failure::new(format!("{} could not be built; see above", build.path.display()));
    if status.code() == Some(HANDLERS_FAULT) {
        return Err(failure);
    }
    Err(failure.help(format!("if something is missing: {}", tool.install)))
}

/// Finds the build program, which npm puts into the project, or into the workspace around it.
fn javascript(project: &Path) -> Result<Tool, Failure> {
    const INSTALL: &str = "npm install";
    let here =
        project.canonicalize().map_err(|cause| Failure::io(format!("find {}", project.display()), &cause))?;
    let mut programs = here.ancestors().map(|folder| folder.join("node_modules/.bin/sandhog-js"));
    match programs.find(|program| program.is_file()) {
        Some(program) => Ok(Tool { program: program.into(), arguments: &[], install: INSTALL }),
        None => {
            let failure =
                Failure::new(format!("{} has no sandhog-js in its node_modules", project.display()));
            Err(failure.help(format!("get what the project needs: {INSTALL}")))
        }
    }
}

/// Returns the Python of the active environment, or else of the project's own, or else of the system.
fn python(project: &Path) -> Tool {
    let active = std::env::var_os("VIRTUAL_ENV").map(PathBuf::from);
    let own = Some(project.join(".venv")).filter(|folder| folder.is_dir());
    let program = active.or(own).map_or_else(|| "python3".into(), |folder| folder.join("bin/python").into());
    Tool {
        program,
        arguments: &["-m", "sandhog_sdk"],
        install: "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt",
    }
}

/// Returns the name in the project's manifest; of a scoped package, the part after the scope.
fn project_name(language: Language, project: &Path) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    #[derive(Deserialize)]
    struct Pyproject {
        project: Named,
    }
    let file = project.join(language.manifest());
    let text =
        fs::read_to_string(&file).map_err(|cause| Failure::io(format!("read {}", file.display()), &cause))?;
    let named = match language {
        Language::Js => serde_json::from_str::<Named>(&text).map_err(|cause| cause.to_string()),
        _ => toml::from_str::<Pyproject>(&text).map(|found| found.project).map_err(|cause| cause.to_string()),
    };
    let name = named.map_err(|cause| Failure::new(format!("{}: {cause}", file.display())))?.name;
    Ok(name.rsplit('/').next().unwrap_or_default().to_owned())
}
