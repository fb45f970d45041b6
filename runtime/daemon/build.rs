//! Embeds the dashboard, if it has been built: `SANDHOG_DASHBOARD` is the folder that `scripts/dashboard.sh` builds it into.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Variable of the environment with the folder.
const FOLDER: &str = "SANDHOG_DASHBOARD";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={FOLDER}");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?);
    let folder = env::var_os(FOLDER).map(PathBuf::from);
    if let Some(folder) = &folder {
        // A folder that isn't there yet counts as changed, so that it is embedded once it is.
        println!("cargo::rerun-if-changed={}", folder.join("index.html").display());
    }
    let built = folder.filter(|folder| folder.join("index.html").is_file());
    fs::write(out.join("dashboard.rs"), built.map_or(Ok(String::from(NONE)), |folder| embedded(&folder))?)
}

const NONE: &str = "const PAGE: Option<&str> = None;\nconst ASSETS: &[(&str, &[u8])] = &[];\n";

/// Returns the constants with the page and its assets, by name.
fn embedded(folder: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder.join("assets"))? {
        files.push(entry?.path());
    }
    files.sort();
    let mut text = format!(
        "const PAGE: Option<&str> = Some(include_str!({:?}));\nconst ASSETS: &[(&str, &[u8])] = &[\n",
        folder.join("index.html")
    );
    for file in files {
        let name = file.file_name().unwrap_or_default();
        text += &format!("    ({name:?}, include_bytes!({file:?})),\n");
    }
    Ok(text + "];\n")
}
