//! Steps of a component before it is put into force: read, hashed, checked against its pin, its tenant's signers and the kinds
//! that its TOML lists, compiled aside and checked against the WIT, run once if there is a sample. Each step can end the
//! deploy, and nothing that runs notices.

use std::sync::Arc;

use sandhog_config as config;
use sandhog_config::Signer;
use sandhog_core::budget::Bytes;
use sandhog_core::compile::CompileBudget;
use sandhog_core::id::Revision;
use sandhog_engine::{Engine, LoadSpec, Plugin};
use sandhog_files::regular_file;

use super::error::Error;
use super::grants;
use super::history::{Origin, Record};
use super::kinds;
use super::slot::{Key, Loaded, key};
use super::store::Store;
use crate::clock::Clock;
use crate::deploy::signatures::{Demand, Newness, Refusal, SignatureFile};

/// Demands that a tenant's plugins have to meet before they run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Demands {
    pub(super) compile: CompileBudget,
    pub(super) signers: Vec<Signer>,
}

impl Demands {
    /// Returns the demands on a plugin.
    pub(super) fn of(config: &config::Config, terms: &config::Plugin) -> Self {
        Self { compile: config.compile_budget(terms), signers: config.signers(terms).to_vec() }
    }
}

/// Reads and loads the component that a plugin's TOML names, which may take seconds when it has to be compiled.
///
/// # Errors
/// The component can't be read, isn't the pinned one, isn't signed as `signers` demand (see [`SignatureFile::check`]; earlier
/// deploys aren't known here), has no handler of a kind that its TOML lists, or the engine refused it.
pub fn load(
    engine: &Engine,
    terms: &config::Plugin,
    compile: CompileBudget,
    signers: &[Signer],
) -> Result<Arc<Plugin>, Error> {
    let (wasm, revision) = read(terms, compile.component)?;
    let is_new = Some(Newness { latest: None, now: Clock::system().now() });
    trusted(terms, SignatureFile::beside(&terms.component), revision, signers, is_new)?;
    kinds::check(terms, &wasm)?;
    compiled(engine, terms, wasm, compile)
}

/// Reads the component that a plugin's TOML names, if it is what that pins. A file that is larger than `max` isn't read: its
/// author could have made it as large as the disk.
fn read(terms: &config::Plugin, max: Bytes) -> Result<(Vec<u8>, Revision), Error> {
    let unreadable = |cause| Error::Unreadable {
        file: terms.file.clone(),
        tenant: terms.tenant.clone(),
        plugin: terms.name.clone(),
        path: terms.component.clone(),
        cause,
    };
    let component = regular_file::open(&terms.component).map_err(unreadable)?;
    let size = Bytes(component.metadata().len());
    if size > max {
        let plugin = format!("plugin {}/{}", terms.tenant, terms.name);
        let cause = sandhog_engine::Error::TooLarge { plugin, size, max };
        return Err(Error::Refused { file: terms.file.clone(), cause });
    }
    let wasm = component.read(max).map_err(unreadable)?;
    let found = sandhog_engine::revision_of(&wasm);
    match terms.sha256.filter(|pinned| *pinned != found) {
        None => Ok((wasm, found)),
        Some(pinned) => Err(Error::NotPinned {
            tenant: terms.tenant.clone(),
            plugin: terms.name.clone(),
            path: terms.component.clone(),
            file: terms.file.clone(),
            found: Box::new(found),
            pinned: Box::new(pinned),
        }),
    }
}

/// Checks the signature of a component, and returns it if the tenant accepts it.
fn trusted(
    terms: &config::Plugin,
    signature: Result<SignatureFile, Refusal>,
    revision: Revision,
    signers: &[Signer],
    is_new: Option<Newness>,
) -> Result<SignatureFile, Error> {
    let (tenant, plugin) = (&terms.tenant, &terms.name);
    let signature = signature.and_then(|signature| {
        signature.check(&Demand { signers, tenant, plugin: Some(plugin), revision, is_new })?;
        Ok(signature)
    });
    signature.map_err(|cause| Error::Untrusted {
        tenant: tenant.clone(),
        plugin: plugin.clone(),
        path: terms.component.clone(),
        cause: Box::new(cause),
    })
}

fn compiled(
    engine: &Engine,
    terms: &config::Plugin,
    wasm: Vec<u8>,
    compile: CompileBudget,
) -> Result<Arc<Plugin>, Error> {
    let spec = LoadSpec {
        name: terms.name.clone(),
        tenant: terms.tenant.clone(),
        wasm,
        compile,
        grants: terms.grants.clone(),
    };
    let loaded = engine.load(spec).map_err(|cause| Error::Refused { file: terms.file.clone(), cause })?;
    grants::check(terms, &loaded)?;
    Ok(Arc::new(loaded))
}

/// Returns the highest number that one of the signers has signed of a plugin, among its revisions that are kept, except `but`.
/// The revision that was deployed last is always kept.
fn latest_signed(
    store: &Store,
    key: &Key,
    record: &Record,
    but: Revision,
    signers: &[Signer],
) -> Option<u64> {
    let others = record.kept().filter(|kept| *kept != but);
    let number = |kept: Revision| {
        let (signer, statement) = store.signature(key, kept).ok()?.statement(kept).ok()??;
        signers.contains(&signer).then_some(statement.number)
    };
    others.filter_map(number).max()
}

/// Loads a plugin from its origin. A kept component must be signed as the tenant demands it now, by the signature that was kept
/// with it. Blocks.
pub(super) fn fetch(
    engine: &Engine,
    store: &Store,
    terms: &config::Plugin,
    origin: Origin,
    demands: &Demands,
) -> Result<Loaded<Arc<Plugin>>, Error> {
    let key = key(terms);
    let (wasm, revision, signature) = match origin {
        Origin::File => {
            let (wasm, revision) = read(terms, demands.compile.component)?;
            (wasm, revision, SignatureFile::beside(&terms.component))
        }
        Origin::Kept(revision) => {
            let wasm = store.get(revision, demands.compile.component)?;
            (wasm, revision, store.signature(&key, revision))
        }
    };
    let record = store.record(&key);
    let is_in_force = record.as_ref().is_some_and(|record| record.serving() == revision);
    let is_new = (origin == Origin::File && !is_in_force).then(|| Newness {
        latest: record.and_then(|record| latest_signed(store, &key, &record, revision, &demands.signers)),
        now: Clock::system().now(),
    });
    let signature = trusted(terms, signature, revision, &demands.signers, is_new)?;
    // A rollback may go to a revision that was in force before, whatever the TOML lists by now.
    if origin == Origin::File {
        kinds::check(terms, &wasm)?;
    }
    let copy = (!store.has(revision)).then(|| wasm.clone());
    let plugin = compiled(engine, terms, wasm, demands.compile)?;
    if let Some(copy) = copy {
        // A rollback to it needs the very bytes that were checked.
        store.put(revision, &copy)?;
    }
    if origin == Origin::File
        && let Some(signature) = signature.text()
    {
        store.put_signature(&key, revision, signature)?;
    }
    Ok(Loaded::new(&key, revision, plugin))
}
