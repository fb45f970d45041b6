//! `sandhog plugin inspect`: shows what a component is.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use sandhog_config::{self as config, PluginFile};
use sandhog_core::budget::Budget;
use sandhog_core::compile::CompileBudget;
use sandhog_core::id::TenantId;
use sandhog_daemon::off_thread::off_thread;

use super::{engine_for_one, read};
use crate::client::load;
use crate::exit::{Exit, Failure};
use crate::output::console::Console;
use crate::output::inspection::{self as render, InspectionDocument, SignatureDocument, Trust};

/// Say what a component is: digest, size, imports, exports, kinds, what it may ask for
#[derive(Debug, Args)]
#[command(
    after_help = "Exits 1 if a daemon couldn't run it, it has no handler of a kind that its TOML lists, or the tenant that is named wouldn't take it."
)]
pub(crate) struct Inspect {
    /// The component
    file: PathBuf,
    /// Say whether this tenant of the configuration would take it, by who has signed it
    #[arg(long, value_name = "NAME")]
    tenant: Option<TenantId>,
    /// The plugin's TOML; by default that beside the component which names it
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
}

/// Reads the component's TOML: the file that is named, or the one beside the component that names it; `None` if there is
/// none.
fn toml_of(named: Option<&Path>, component: &Path) -> Result<Option<PluginFile>, Failure> {
    if let Some(file) = named {
        return Ok(Some(config::load_plugin_file(file)?));
    }
    let folder =
        component.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let beside = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    // A file that is no plugin's, or is wrong, is skipped, as nobody asked for it.
    let files = beside
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .filter_map(|path| config::load_plugin_file(&path).ok());
    let same = |path: &Path| path.canonicalize().ok() == component.canonicalize().ok();
    Ok(files.into_iter().find(|file| same(&file.component)))
}

impl Inspect {
    pub(crate) async fn execute(self, config: &Path, console: &Console) -> Result<Exit, Failure> {
        let trust = self.tenant.as_ref().map(|tenant| trust(config, tenant)).transpose()?;
        let engine = engine_for_one(&Budget::DEFAULT)?;
        let wasm = read(&self.file)?;
        let spinner = console.spinner("compiling");
        let inspection = off_thread(move || engine.inspect(&wasm, &CompileBudget::default())).await;
        spinner.finish_and_clear();
        let file = self.file.display().to_string();
        let inspection = inspection.map_err(|error| Failure::new(format!("{file}: {error}")))?;
        let toml = toml_of(self.plugin.as_deref(), &self.file)?;
        let signature = SignatureDocument::new(&self.file, inspection.revision, trust.as_ref());
        let document = InspectionDocument::new(file, &inspection, signature, toml.as_ref());
        console.show(&document, || render::inspection(&document, console.paint()))?;
        Ok(if document.is_fine() { Exit::Ok } else { Exit::Failed })
    }
}

/// Returns whose components a tenant takes.
fn trust(config: &Path, tenant: &TenantId) -> Result<Trust, Failure> {
    let config = load(config)?;
    match config.tenants.get(tenant) {
        Some(terms) => Ok(Trust { tenant: tenant.clone(), signers: terms.signers.clone() }),
        None => {
            let known: Vec<&str> = config.tenants.keys().map(TenantId::as_str).collect();
            let failure = Failure::new(format!("the configuration has no tenant `{tenant}`"));
            Err(failure.help(format!("there are: {}", known.join(", "))))
        }
    }
}
