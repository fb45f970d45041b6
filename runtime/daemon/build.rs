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
    fs::write(
        out.join("dashboard.rs"),
        built.map_or_else(|| Ok(String::from(NONE)), |folder| embedded(&folder, &out))?,
    )
}

const NONE: &str = "const PAGE: Option<&str> = None;\nconst ASSETS: &[(&str, &[u8])] = &[];\n";

/// Copies the page and its assets to `out`, where no later build of the dashboard changes them. Returns the constants with them.
fn embedded(folder: &Path, out: &Path) -> io::Result<String> {
    let page = out.join("index.html");
    fs::copy(folder.join("index.html"), &page)?;
    let mut text = format!(
        "const PAGE: Option<&str> = Some(include_str!({page:?}));\nconst ASSETS: &[(&str, &[u8])] = &[\n"
    );
    for asset in fs::read_dir(folder.join("assets"))? {
        let name = asset?.file_name();
        let copy = out.join(&name);
        fs::copy(folder.join("assets").join(&name), &copy)?;
        text += &format!("    ({name:?}, include_bytes!({copy:?})),\n");
    }
    Ok(text + "];\n")
}
