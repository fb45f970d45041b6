//! `sandhog plugin inspect`.

use std::path::{Path, PathBuf};

use clap::Args;
use sandhog_core::budget::Budget;
use sandhog_core::compile::CompileBudget;
use sandhog_core::id::TenantId;

use super::{engine_for_one, read};
use crate::cli::console::Console;
use crate::cli::exit::{Exit, Failure};
use crate::cli::render::inspection::{self as render, InspectionDocument, SignatureDocument, Trust};
use crate::config;
use crate::off_thread::off_thread;

/// Say what a component is: digest, size, imports, exports, what it may ask for
#[derive(Debug, Args)]
#[command(after_help = "Exits 1 if a daemon couldn't run it, or the tenant that is named wouldn't take it.")]
pub(in crate::cli) struct Inspect {
    /// The component
    file: PathBuf,
    /// Say whether this tenant of the configuration would take it, by who has signed it
    #[arg(long, value_name = "NAME")]
    tenant: Option<TenantId>,
}

impl Inspect {
    pub(in crate::cli) async fn execute(self, config: &Path, console: &Console) -> Result<Exit, Failure> {
        let trust = self.tenant.as_ref().map(|tenant| trust(config, tenant)).transpose()?;
        let engine = engine_for_one(&Budget::DEFAULT)?;
        let wasm = read(&self.file)?;
        let spinner = console.spinner("compiling");
        let inspection = off_thread(move || engine.inspect(&wasm, &CompileBudget::default())).await;
        spinner.finish_and_clear();
        let file = self.file.display().to_string();
        let inspection = inspection.map_err(|error| Failure::new(format!("{file}: {error}")))?;
        let signature = SignatureDocument::new(&self.file, inspection.revision, trust.as_ref());
        let document = InspectionDocument::new(file, &inspection, signature);
        console.show(&document, || render::inspection(&document, console.paint()))?;
        Ok(if document.is_fine() { Exit::Ok } else { Exit::Failed })
    }
}

/// Whose components a tenant takes.
fn trust(config: &Path, tenant: &TenantId) -> Result<Trust, Failure> {
    let config = config::load_for_broker(config)?;
    match config.tenants.get(tenant) {
        Some(terms) => Ok(Trust { tenant: tenant.clone(), signers: terms.signers.clone() }),
        None => {
            let known: Vec<&str> = config.tenants.keys().map(TenantId::as_str).collect();
            let failure = Failure::new(format!("the configuration has no tenant `{tenant}`"));
            Err(failure.help(format!("there are: {}", known.join(", "))))
        }
    }
}
