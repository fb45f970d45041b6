//! Builds of Rust projects, by Cargo. If the compiler in use has no `wasm32-wasip2`, the environment is used that
//! `scripts/wasm-target.sh` has left in the cache folder.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use sandhog_config as config;
use serde::Deserialize;
use tokio::process::Command;

use super::{Build, not_started};
use crate::exit::Failure;
use crate::output::console::Remarks;

const TARGET: &str = "wasm32-wasip2";
const PROFILE: &str = "release";
const INSTALL: &str = "install Rust: https://rustup.rs";

/// Builds a project, or a workspace of several. Returns the paths of the components, at their destination.
pub(super) async fn build(build: &Build, remarks: Remarks) -> Result<Vec<PathBuf>, Failure> {
    let manifest = build.path.join("Cargo.toml");
    let environment = environment(&config::cache_folder()).await?;
    let profile = build.profile.as_deref().unwrap_or(PROFILE);
    let artifacts = cargo(&manifest, profile, environment, remarks).await?;
    if artifacts.is_empty() {
        let failure = Failure::new(format!("{} makes no component", manifest.display()));
        return Err(failure.help("add to it: [lib] crate-type = [\"cdylib\", \"rlib\"]"));
    }
    artifacts.iter().map(|artifact| put(build, artifact)).collect()
}

/// Runs Cargo, whose own output goes to standard error, and returns the components that it made.
async fn cargo(
    manifest: &Path,
    profile: &str,
    environment: Vec<(String, String)>,
    remarks: Remarks,
) -> Result<Vec<Artifact>, Failure> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let run = Command::new(cargo)
        .args(["build", "--target", TARGET, "--message-format", "json-render-diagnostics"])
        .args(["--profile", profile, "--manifest-path"])
        .arg(manifest)
        .args((remarks == Remarks::Off).then_some("--quiet"))
        .envs(environment)
        .stderr(Stdio::inherit())
        .output()
        .await;
    let Output { status, stdout, .. } = run.map_err(|cause| not_started("cargo", &cause, INSTALL))?;
    if !status.success() {
        return Err(Failure::new(format!("{} could not be built; see above", manifest.display())));
    }
    let messages = stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    Ok(messages.filter_map(Message::component).collect())
}

/// Copies a component to its destination.
fn put(build: &Build, artifact: &Artifact) -> Result<PathBuf, Failure> {
    let project = artifact.manifest.parent().unwrap_or_else(|| Path::new("."));
    let path = build.destination(project, &package_name(&artifact.manifest)?)?;
    fs::copy(&artifact.wasm, &path)
        .map_err(|cause| Failure::io(format!("write {}", path.display()), &cause))?;
    Ok(path)
}

/// Returns the environment variables needed to build for the target: none, if the compiler in use has it.
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
    let asked = asked.map_err(|cause| not_started("rustc", &cause, INSTALL))?;
    let folder = PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim());
    // The name of the folder is no proof: a compiler prints it whether or not it exists.
    let Ok(entries) = fs::read_dir(folder) else { return Ok(false) };
    Ok(entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libstd-") && name.ends_with(".rlib")
    }))
}

/// A message of Cargo about something that it made.
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

/// A component in Cargo's target folder, and the manifest of its project.
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
