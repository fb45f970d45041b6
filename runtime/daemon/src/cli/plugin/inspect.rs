//! `sandhog plugin inspect`.

use std::path::PathBuf;

use clap::Args;
use sandhog_core::budget::Budget;

use super::{engine_for_one, read};
use crate::cli::console::Console;
use crate::cli::exit::{Exit, Failure};
use crate::cli::render::inspection::{self as render, InspectionDocument};
use crate::off_thread::off_thread;

/// Say what a component is: digest, size, imports, exports, what it may ask for
#[derive(Debug, Args)]
#[command(after_help = "Exits 1 if a daemon couldn't run it.")]
pub(in crate::cli) struct Inspect {
    /// The component
    file: PathBuf,
}

impl Inspect {
    pub(in crate::cli) async fn execute(self, console: &Console) -> Result<Exit, Failure> {
        let engine = engine_for_one(&Budget::DEFAULT)?;
        let wasm = read(&self.file)?;
        let spinner = console.spinner("compiling");
        let inspection = off_thread(move || engine.inspect(&wasm)).await;
        spinner.finish_and_clear();
        let file = self.file.display().to_string();
        let inspection = inspection.map_err(|error| Failure::new(format!("{file}: {error}")))?;
        let document = InspectionDocument::new(file, &inspection);
        console.show(&document, || render::inspection(&document, console.paint()))?;
        Ok(if document.problems.is_empty() { Exit::Ok } else { Exit::Failed })
    }
}
