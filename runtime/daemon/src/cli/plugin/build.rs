//! `sandhog plugin build`.
//!
//! Cargo does the work. Where the compiler in use has no `wasm32-wasip2`, the environment is taken that
//! `scripts/wasm-target.sh` has left in the cache folder.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::cli::console::{Console, Remarks};
use crate::cli::exit::{Exit, Failure};
use crate::cli::render;
use crate::config;

const TARGET: &str = "wasm32-wasip2";

/// Build a handler project to a component, and put it beside its TOML
#[derive(Debug, Args)]
pub(in crate::cli) struct Build {
    /// The project, or a workspace of several
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Cargo's profile
    #[arg(long, value_name = "NAME", default_value = "release")]
    profile: String,
    /// Put the component into this folder
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// What was built, for programs.
#[derive(Debug, Serialize)]
struct BuiltDocument {
    components: Vec<ComponentDocument>,
}

/// A component.
#[derive(Debug, Serialize)]
struct ComponentDocument {
    path: String,
    size: u64,
    sha256: String,
}

impl Build {
    pub(in crate::cli) async fn execute(self, console: &Console) -> Result<Exit, Failure> {
        let manifest = self.path.join("Cargo.toml");
        if !manifest.is_file() {
            let failure = Failure::new(format!("there is no {}", manifest.display()));
            return Err(failure.help("name the project's folder, or start one: sandhog plugin new NAME"));
        }
        let environment = environment(&config::cache_folder()).await?;
        let artifacts = self.cargo(&manifest, environment, console.remarks()).await?;
        if artifacts.is_empty() {
            let failure = Failure::new(format!("{} makes no component", manifest.display()));
            return Err(failure.help("add to it: [lib] crate-type = [\"cdylib\", \"rlib\"]"));
        }
        let components =
            artifacts.iter().map(|artifact| self.put(artifact)).collect::<Result<Vec<_>, _>>()?;
        let document = BuiltDocument { components };
        console.show(&document, || {
            let line = |built: &ComponentDocument| {
                format!("{}  {}  sha256 {}", built.path, render::bytes(built.size), built.sha256)
            };
            document.components.iter().map(line).collect::<Vec<_>>().join("\n")
        })?;
        Ok(Exit::Ok)
    }

    /// Runs Cargo, whose own words go to standard error, and returns the components that it made.
    async fn cargo(
        &self,
        manifest: &Path,
        environment: Vec<(String, String)>,
        remarks: Remarks,
    ) -> Result<Vec<Artifact>, Failure> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let run = Command::new(cargo)
            .args(["build", "--target", TARGET, "--message-format", "json-render-diagnostics"])
            .args(["--profile", &self.profile, "--manifest-path"])
            .arg(manifest)
            .args((remarks == Remarks::Off).then_some("--quiet"))
            .envs(environment)
            .stderr(Stdio::inherit())
            .output()
            .await;
        let Output { status, stdout, .. } = run.map_err(|cause| not_found("cargo", &cause))?;
        if !status.success() {
            return Err(Failure::new(format!("{} could not be built; see above", manifest.display())));
        }
        let messages =
            stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
        Ok(messages.filter_map(Message::component).collect())
    }

    /// Copies a component to where it is wanted.
    fn put(&self, artifact: &Artifact) -> Result<ComponentDocument, Failure> {
        let project = artifact.manifest.parent().unwrap_or_else(|| Path::new("."));
        let folder = self.out.as_deref().unwrap_or(project);
        let path = folder.join(format!("{}.wasm", package_name(&artifact.manifest)?));
        let wasm = super::read(&artifact.wasm)?;
        let written = fs::create_dir_all(folder).and_then(|()| fs::write(&path, &wasm));
        written.map_err(|cause| Failure::io(format!("write {}", path.display()), &cause))?;
        let sha256 = sandhog_engine::revision_of(&wasm).to_string();
        Ok(ComponentDocument { path: shown(&path), size: wasm.len() as u64, sha256 })
    }
}

/// A path below the working folder from there on.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok().and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    here.unwrap_or_else(|| path.to_owned()).display().to_string()
}

fn not_found(program: &str, cause: &std::io::Error) -> Failure {
    let failure = Failure::io(format!("run {program}"), cause);
    match cause.kind() {
        ErrorKind::NotFound => failure.help("install Rust: https://rustup.rs"),
        _ => failure,
    }
}

/// The environment that makes the target buildable: nothing, if the compiler in use has it.
async fn environment(cache: &Path) -> Result<Vec<(String, String)>, Failure> {
    if compiler_has_target().await? {
        return Ok(Vec::new());
    }
    let file = cache.join("wasm-target.env");
    match fs::read_to_string(&file) {
        Ok(text) => Ok(text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()),
        Err(cause) if cause.kind() == ErrorKind::NotFound => {
            Err(Failure::new(format!("the Rust compiler can't build for {TARGET} yet"))
                .help(format!("rustup target add {TARGET}"))
                .help("or, where rustup can't be reached: scripts/wasm-target.sh of Sandhog's repository"))
        }
        Err(cause) => Err(Failure::io(format!("read {}", file.display()), &cause)),
    }
}

async fn compiler_has_target() -> Result<bool, Failure> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let asked = Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output().await;
    let asked = asked.map_err(|cause| not_found("rustc", &cause))?;
    let folder = PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim());
    // The folder alone says nothing: a compiler names it whether or not it is there.
    let Ok(entries) = fs::read_dir(folder) else { return Ok(false) };
    Ok(entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libstd-") && name.ends_with(".rlib")
    }))
}

/// What Cargo says of something that it made.
#[derive(Debug, Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    filenames: Vec<PathBuf>,
    target: Option<CargoTarget>,
}

#[derive(Debug, Deserialize)]
struct CargoTarget {
    crate_types: Vec<String>,
}

/// A component in Cargo's target folder, and the project that it is of.
#[derive(Debug, PartialEq, Eq)]
struct Artifact {
    manifest: PathBuf,
    wasm: PathBuf,
}

impl Message {
    fn component(self) -> Option<Artifact> {
        let is_component = self.reason == "compiler-artifact"
            && self.target.is_some_and(|target| target.crate_types.iter().any(|kind| kind == "cdylib"));
        let wasm =
            self.filenames.into_iter().find(|file| file.extension().is_some_and(|kind| kind == "wasm"));
        wasm.filter(|_| is_component).map(|wasm| Artifact { manifest: self.manifest_path, wasm })
    }
}

fn package_name(manifest: &Path) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Manifest {
        package: Package,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
    }
    let text = fs::read_to_string(manifest)
        .map_err(|cause| Failure::io(format!("read {}", manifest.display()), &cause))?;
    let manifest: Manifest =
        toml::from_str(&text).map_err(|cause| Failure::new(format!("{}: {cause}", manifest.display())))?;
    Ok(manifest.package.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_all_that_cargo_makes_components_are_picked() {
        let component = r#"{"reason":"compiler-artifact","manifest_path":"/p/Cargo.toml","target":{"name":"greet",
            "kind":["cdylib","rlib"],"crate_types":["cdylib","rlib"]},
            "filenames":["/t/libgreet.rlib","/t/greet.wasm"],"fresh":true}"#;
        let library = component.replace("\"cdylib\",", "").replace(",\"/t/greet.wasm\"", "");
        let finished = r#"{"reason":"build-finished","success":true}"#;
        let found = |text: &str| serde_json::from_str::<Message>(text).expect("a message").component();
        let artifact = Artifact { manifest: "/p/Cargo.toml".into(), wasm: "/t/greet.wasm".into() };
        assert_eq!(found(component), Some(artifact));
        assert_eq!((found(&library), found(finished)), (None, None));
    }
}
