//! Loading of plugins: their bytes are checked, compiled or found in the cache, and linked.

use std::io::{self, Read};
use std::sync::{Arc, OnceLock};

use data_encoding::HEXLOWER;
use sandhog_core::budget::Bytes;
use sandhog_core::compile::CompileBudget;
use sandhog_core::grants::Ranges;
use sandhog_core::id::{PluginName, Revision, TenantId};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use wasmtime::component::{Component, Linker};

use crate::cache::{self, Artefact, Cache, Vetted};
use crate::code::{Aside, Code};
use crate::compile::{Compiler, Failure, Task, Turns};
use crate::config::Config;
use crate::error::Error;
use crate::host_work::HostWork;
use crate::imports::{self, CONTRACTS, Pre, RunState};
use crate::kinds::declared_kinds;
use crate::outgoing::Denied;
use crate::plugin::{Access, Grants, Import, Inspection, LoadSpec, Plugin, Source, place};
use crate::redactor::Redactor;
use crate::wasi::{self, Directories};

/// World that a component has to implement.
const WORLD: &str = "world `handler` of sandhog:job@0.2.0";

/// Interfaces that the host serves, by package, with the prefixes of the versions that fit.
const SERVED: &[(&str, &[&str], &[&str])] = &[
    (
        "sandhog:job",
        &["0.1.", "0.2."],
        &["types", "context", "log", "progress", "enqueue", "state", "secrets"],
    ),
    ("wasi:io", &["0.2."], &["error", "poll", "streams"]),
    ("wasi:clocks", &["0.2."], &["monotonic-clock", "wall-clock"]),
    ("wasi:http", &["0.2."], &["types", "outgoing-handler"]),
    ("wasi:random", &["0.2."], &["random", "insecure", "insecure-seed"]),
    ("wasi:filesystem", &["0.2."], &["types", "preopens"]),
    (
        "wasi:cli",
        &["0.2."],
        &[
            "environment",
            "exit",
            "stdin",
            "stdout",
            "stderr",
            "terminal-input",
            "terminal-output",
            "terminal-stdin",
            "terminal-stdout",
            "terminal-stderr",
        ],
    ),
    (
        "wasi:sockets",
        &["0.2."],
        &[
            "network",
            "instance-network",
            "ip-name-lookup",
            "tcp",
            "tcp-create-socket",
            "udp",
            "udp-create-socket",
        ],
    ),
];

/// Loader that compiles components, finds compiled ones, and links them.
pub(crate) struct Loader {
    link: Link,
    cache: Option<Cache>,
    compiler: Compiler,
    backtrace_lines: bool,
    /// Directories that the loaded plugins are granted.
    directories: Directories,
    work: HostWork,
    denied: Denied,
    compile_turns: Turns,
    /// Source of the bytes of kept components. Empty if none are kept.
    components: OnceLock<Arc<dyn Components>>,
}

/// Component whose code is wanted.
#[derive(Clone, Copy)]
struct Wanted<'w> {
    /// Tenant of its plugin. `None` if it is nobody's.
    tenant: Option<&'w TenantId>,
    /// Name of its plugin, for messages.
    plugin: &'w str,
    revision: Revision,
    wasm: &'w [u8],
    budget: &'w CompileBudget,
}

impl Wanted<'_> {
    fn check_size(&self) -> Result<(), Error> {
        let (size, max) = (Bytes::of(self.wasm.len()), self.budget.component);
        if size > max {
            return Err(Error::TooLarge { plugin: self.plugin.to_owned(), size, max });
        }
        Ok(())
    }
}

/// Source of the bytes of components whose compiled code was lost or damaged.
pub trait Components: Send + Sync {
    /// Returns the bytes of a component. Blocks.
    ///
    /// # Errors
    /// The component isn't kept, or can't be read.
    fn get(&self, revision: Revision) -> io::Result<Vec<u8>>;
}

impl Loader {
    pub(crate) fn new(config: &Config, engine: &wasmtime::Engine) -> Result<Self, Error> {
        let link =
            Link::new(engine, config).map_err(|error| Error::Setup { reason: format!("{error:#}") })?;
        // Without the cache each start compiles, and nothing else is different.
        let open = |folder: &std::path::PathBuf| match Cache::open(folder, engine) {
            Ok(cache) => Some(cache),
            Err(error) => {
                tracing::warn!(
                    folder = %folder.display(), %error,
                    "engine.cache can't be used, so components are compiled anew at each start"
                );
                None
            }
        };
        Ok(Self {
            link,
            cache: config.cache.as_ref().and_then(open),
            compiler: config.compiler.clone(),
            backtrace_lines: config.backtrace_lines,
            directories: Directories::default(),
            work: HostWork::new(config.guest_threads),
            denied: Denied::default(),
            compile_turns: Turns::default(),
            components: OnceLock::new(),
        })
    }

    /// See [`crate::Engine::configure_grants`].
    pub(crate) fn configure_grants<'a>(
        &self,
        plugins: impl IntoIterator<Item = (&'a TenantId, &'a PluginName, &'a Grants)>,
    ) {
        let writable = plugins.into_iter().flat_map(|(tenant, name, grants)| {
            let dirs = grants.dirs.iter().filter(|dir| dir.access == Access::ReadWrite);
            dirs.map(move |dir| (place(tenant, name), dir.host.clone()))
        });
        self.directories.configure(writable);
    }

    /// See [`crate::Engine::deny_http`].
    pub(crate) fn deny_http(&self, ranges: Ranges) {
        self.denied.set(ranges);
    }

    /// See [`crate::Engine::load`].
    pub(crate) fn load(self: &Arc<Self>, spec: LoadSpec) -> Result<Plugin, Error> {
        let plugin = place(&spec.tenant, &spec.name);
        let dirs = self.directories.grant(&plugin, &spec.grants.dirs)?;
        let revision = revision_of(&spec.wasm);
        let LoadSpec { tenant, wasm, compile: budget, .. } = &spec;
        let wanted = Wanted { tenant: Some(tenant), plugin: &plugin, revision, wasm, budget };
        let (code, imports, source) = self.code(wanted)?;
        let LoadSpec { name, tenant, grants, .. } = spec;
        let redactor = Redactor::new(&grants).map(Arc::new);
        let (work, denied) = (self.work.of(&tenant), self.denied.clone());
        Ok(Plugin { name, tenant, revision, source, grants, dirs, work, denied, redactor, imports, code })
    }

    /// Returns the code of a component that is a handler. If the cache has it, it is left there until it is used.
    fn code(self: &Arc<Self>, wanted: Wanted<'_>) -> Result<(Code, Vec<String>, Source), Error> {
        wanted.check_size()?;
        if let Some(artefact) = self.kept(wanted.revision)
            && let Some(vetted) = artefact.vetted().filter(|vetted| vetted.host == self.link.host)
        {
            let imports = vetted.imports.clone();
            return Ok((self.aside(artefact, wanted), imports, Source::Cached));
        }
        let (component, source) = self.component(wanted)?;
        let pre = self.link.link(&component);
        let pre =
            pre.map_err(|problems| Error::NotAHandler { plugin: wanted.plugin.to_owned(), problems })?;
        let imports = self.imports(&component);
        match self.vet(wanted.revision, &imports) {
            Some(artefact) => Ok((self.aside(artefact, wanted), imports, source)),
            None => Ok((Code::at_hand(pre), imports, source)),
        }
    }

    fn aside(self: &Arc<Self>, artefact: Artefact, wanted: Wanted<'_>) -> Code {
        let Wanted { tenant, plugin, revision, budget, .. } = wanted;
        let (loader, plugin) = (Arc::clone(self), plugin.to_owned());
        Code::aside(Aside { artefact, loader, tenant: tenant.cloned(), plugin, revision, compile: *budget })
    }

    /// Returns the linker of components.
    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// Sets where components are read from whose compiled code is lost, to be compiled again. Only the first call counts.
    pub(crate) fn keep_from(&self, components: Arc<dyn Components>) {
        // The first call has set it.
        let _ = self.components.set(components);
    }

    /// Compiles a component whose compiled code was `lost` since it was deployed.
    ///
    /// # Errors
    /// The component isn't kept, or can't be compiled any more.
    pub(crate) fn compile_again(&self, code: &Aside, lost: &str) -> Result<Component, String> {
        let Aside { tenant, plugin, revision, compile: budget, .. } = code;
        let components = self.components.get().ok_or_else(|| format!("{lost}; deploy it again"))?;
        let wasm = components.get(*revision).and_then(|wasm| match revision_of(&wasm) == *revision {
            true => Ok(wasm),
            false => Err(io::Error::new(io::ErrorKind::InvalidData, "it isn't what its name says")),
        });
        let wasm = wasm.map_err(|cause| format!("{lost}, and its component is not kept: {cause}"))?;
        tracing::warn!(%plugin, %revision, lost, "compiling a component again");
        let wanted = Wanted { tenant: tenant.as_ref(), plugin, revision: *revision, wasm: &wasm, budget };
        let compiled = self.component(wanted);
        compiled.map(|(component, _)| component).map_err(|error| format!("{lost}; {error}"))
    }

    /// See [`crate::Engine::has_compiled`].
    pub(crate) fn has_compiled(&self, revision: Revision) -> bool {
        self.kept(revision).is_some()
    }

    fn kept(&self, revision: Revision) -> Option<Artefact> {
        self.cache.as_ref()?.find(revision)
    }

    /// Records that a component is a handler, if its artefact is kept. Returns the artefact.
    fn vet(&self, revision: Revision, imports: &[String]) -> Option<Artefact> {
        if imports.iter().any(|import| import.contains(char::is_control)) {
            return None;
        }
        let (cache, mut artefact) = (self.cache.as_ref()?, self.kept(revision)?);
        let vetted = Vetted { host: self.link.host.clone(), imports: imports.to_vec() };
        if let Err(error) = cache.vet(&mut artefact, vetted) {
            tracing::warn!(%revision, %error, "what was found out about a component can't be kept in the cache");
        }
        Some(artefact)
    }

    fn imports(&self, component: &Component) -> Vec<String> {
        let kind = component.component_type();
        kind.imports(self.link.engine()).map(|(name, _)| name.to_owned()).collect()
    }

    /// See [`crate::Engine::inspect`].
    pub(crate) fn inspect(&self, wasm: &[u8], budget: &CompileBudget) -> Result<Inspection, Error> {
        let revision = revision_of(wasm);
        let wanted = Wanted { tenant: None, plugin: "component", revision, wasm, budget };
        wanted.check_size()?;
        let (component, _) = self.component(wanted)?;
        let exports = component.component_type();
        let exports = exports.exports(self.link.engine()).map(|(name, _)| name.to_owned()).collect();
        let import = |name: String| Import { served: is_served(&name), name };
        let mut problems = self.link.link(&component).err().unwrap_or_default();
        let kinds = declared_kinds(wasm).unwrap_or_else(|invalid| {
            problems.push(invalid.to_string());
            None
        });
        Ok(Inspection {
            revision,
            size: Bytes::of(wasm.len()),
            imports: self.imports(&component).into_iter().map(import).collect(),
            exports,
            kinds,
            problems,
        })
    }

    fn component(&self, wanted: Wanted<'_>) -> Result<(Component, Source), Error> {
        let Wanted { tenant, plugin, revision, wasm, budget } = wanted;
        // An artefact that can't be loaded is compiled again, and the log says why.
        let cached = || self.kept(revision)?.load(self.link.engine()).ok();
        if let Some(component) = cached() {
            return Ok((component, Source::Cached));
        }
        let _turn = self.compile_turns.take(tenant, revision);
        // The load that was compiling just now may have compiled this one.
        if let Some(component) = cached() {
            return Ok((component, Source::Cached));
        }
        let component = self.compile(revision, wasm, budget);
        let component = component.map_err(|failure| error(plugin.to_owned(), failure, wasm, budget))?;
        Ok((component, Source::Compiled))
    }

    fn compile(&self, revision: Revision, wasm: &[u8], budget: &CompileBudget) -> Result<Component, Failure> {
        let into = |artefact: io::Result<NamedTempFile>| {
            let artefact = artefact.map_err(Failure::Files)?;
            let task = Task { wasm, budget, backtrace_lines: self.backtrace_lines };
            self.compiler.compile(self.link.engine(), &task, artefact.as_file())?;
            Ok(artefact)
        };
        let Some(cache) = &self.cache else { return self.compiled(&into(NamedTempFile::new())?) };
        let artefact = match into(cache.begin()) {
            // If there is no room to keep it, it is compiled once more, for this start of the daemon alone.
            Err(Failure::Files(error)) => {
                tracing::warn!(%revision, %error, "a compiled component can't be kept in the cache");
                return self.compiled(&into(NamedTempFile::new())?);
            }
            artefact => artefact?,
        };
        let component = self.compiled(&artefact)?;
        if let Err(error) = cache.keep(revision, artefact) {
            tracing::warn!(%revision, %error, "a compiled component can't be kept in the cache");
        }
        Ok(component)
    }

    fn compiled(&self, artefact: &NamedTempFile) -> Result<Component, Failure> {
        cache::load_trusted(self.link.engine(), artefact.path()).map_err(|error| {
            let error = format!("{error:#}");
            match knob_of(&error) {
                Some(knob) => Failure::Refused(format!("{error}; {knob}")),
                None => Failure::Died(format!("what it wrote can't be loaded: {error}")),
            }
        })
    }
}

/// Linker of components: it has what the host serves, and checks whether a component is a handler for which that is enough.
pub(crate) struct Link {
    engine: wasmtime::Engine,
    linker: Linker<RunState>,
    host: String,
}

impl Link {
    fn new(engine: &wasmtime::Engine, config: &Config) -> wasmtime::Result<Self> {
        let mut linker = Linker::new(engine);
        link(&mut linker)?;
        let version = env!("CARGO_PKG_VERSION");
        let room = (config.memory_max, config.table_elements_max, config.core_instances_max);
        let host = HEXLOWER.encode(&Sha256::digest(format!("{version} {CONTRACTS:?} {SERVED:?} {room:?}")));
        Ok(Self { engine: engine.clone(), linker, host })
    }

    /// Returns the wasmtime engine that the components are for.
    pub(crate) fn engine(&self) -> &wasmtime::Engine {
        &self.engine
    }

    /// Links a component against what the host serves.
    ///
    /// # Errors
    /// Reasons why the component isn't a handler, all of them.
    pub(crate) fn link(&self, component: &Component) -> Result<Pre, Vec<String>> {
        let kind = component.component_type();
        let mut problems = Vec::new();
        let pre = self.linker.instantiate_pre(component).inspect_err(|error| {
            problems.extend(kind.imports(&self.engine).filter(|(name, _)| !is_served(name)).map(not_served));
            if problems.is_empty() {
                problems.push(format!("imports something that is not what the host has: {error:#}"));
            }
        });
        if kind.get_export(&self.engine, "handle").is_none() {
            let exports: Vec<_> = kind.exports(&self.engine).map(|(name, _)| format!("`{name}`")).collect();
            let instead = if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
            problems.push(format!("exports no function `handle`, as {WORLD} has it, but {instead}"));
        }
        match pre {
            Ok(pre) if problems.is_empty() => {
                Pre::new(pre).map_err(|error| vec![format!("its `handle` is not that of {WORLD}: {error:#}")])
            }
            _ => Err(problems),
        }
    }
}

fn link(linker: &mut Linker<RunState>) -> wasmtime::Result<()> {
    imports::link(linker)?;
    wasi::link(linker)
}

/// Returns the revision of a component: its SHA-256.
#[must_use]
pub fn revision_of(wasm: &[u8]) -> Revision {
    Revision::from_sha256(Sha256::digest(wasm).into())
}

/// Returns the revision of what a reader has, as [`revision_of`] does, without holding it in memory as a whole.
///
/// # Errors
/// The reader failed.
pub fn revision_of_reader(mut reader: impl Read) -> io::Result<Revision> {
    let mut digest = Sha256::new();
    let mut piece = vec![0; 64 * 1024];
    loop {
        match reader.read(&mut piece)? {
            0 => return Ok(Revision::from_sha256(digest.finalize().into())),
            length => digest.update(&piece[..length]),
        }
    }
}

/// First bytes of a core module, and of a component.
const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// Returns the setting to change if a component needs more than the engine sets aside for any, by the text of the error:
/// wasmtime has no type for that error, and no name for this setting. `None` for any other error.
fn knob_of(error: &str) -> Option<&'static str> {
    if !error.contains(" exceeds the ") {
        return None;
    }
    let knobs = [
        ("core module instances", "raise limits.instances"),
        ("minimum byte size", "raise limits.memory"),
        ("minimum element size", "raise limits.table_elements"),
    ];
    let knob = knobs.iter().find(|(said, _)| error.contains(said)).map(|(_, knob)| *knob);
    Some(knob.unwrap_or("build it with less of them"))
}

fn error(plugin: String, failure: Failure, wasm: &[u8], budget: &CompileBudget) -> Error {
    match failure {
        Failure::Refused(reason) => Error::Malformed { plugin, reason: malformed(wasm, &reason) },
        Failure::TooLong => Error::CompileTime { plugin, max: budget.time },
        Failure::TooMuchMemory => Error::CompileMemory { plugin, max: budget.memory },
        Failure::NoMemoryLeft => Error::NoMemoryLeft { plugin },
        Failure::Died(how) => Error::CompilerBroke { plugin, how },
        Failure::NotStarted(cause) => Error::NoCompiler { plugin, doing: "start a process", cause },
        Failure::Files(cause) => Error::NoCompiler { plugin, doing: "write files", cause },
    }
}

/// Advice for a component that needs a feature which the engine leaves out.
const NO_EXCEPTIONS: &str = "; it was built with WebAssembly's exceptions, which no handler can have: build C and C++ without \
    `-fwasm-exceptions` and without setjmp, and Rust with `panic = \"abort\"`";

fn malformed(wasm: &[u8], reason: &str) -> String {
    if wasm.starts_with(CORE_MODULE) {
        "a core module, not a component; build it for wasm32-wasip2".to_owned()
    } else if wasm.starts_with(COMPONENT) || wasm.trim_ascii_start().starts_with(b"(component") {
        let instead = if reason.contains("exceptions proposal not enabled") { NO_EXCEPTIONS } else { "" };
        format!("a component that can't be compiled: {reason}{instead}")
    } else {
        format!("not a component: {reason}")
    }
}

/// Lists the interfaces that components may import, by package, such as `wasi:io` and `streams`.
pub fn served() -> impl Iterator<Item = (&'static str, &'static str)> {
    SERVED
        .iter()
        .flat_map(|(package, _, interfaces)| interfaces.iter().map(move |interface| (*package, *interface)))
}

fn is_served(import: &str) -> bool {
    let Some((path, version)) = import.split_once('@') else { return false };
    let Some((package, interface)) = path.split_once('/') else { return false };
    SERVED.iter().any(|(served, versions, interfaces)| {
        package == *served
            && versions.iter().any(|versions| version.starts_with(versions))
            && interfaces.contains(&interface)
    })
}

fn not_served<T>((import, _): (&str, T)) -> String {
    let package = import.split(['/', '@']).next().unwrap_or(import);
    let hint = match SERVED.iter().find(|(served, ..)| package == *served) {
        Some((_, versions, interfaces)) => {
            let versions: Vec<_> = versions.iter().map(|versions| format!("{versions}x")).collect();
            format!("the host has {} of {package}@{}", interfaces.join(", "), versions.join(" and "))
        }
        None => {
            let packages: Vec<_> = SERVED.iter().map(|(served, ..)| *served).collect();
            format!("the host has {}", packages.join(", "))
        }
    };
    format!("imports `{import}`, which the host does not serve: {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The patch versions that our bindings and wasmtime's have, by package.
    fn here(package: &str, versions: &str) -> String {
        match package {
            "sandhog:job" => format!("{versions}0"),
            _ => format!("{versions}12"),
        }
    }

    #[test]
    fn no_limit_is_named_if_it_was_the_machine_that_had_no_memory() {
        let said =
            |failure| error("plugin acme/a".to_owned(), failure, b"", &CompileBudget::default()).to_string();
        let machine = said(Failure::NoMemoryLeft);
        assert!(
            machine.contains("the machine or its control group") && !machine.contains("limits."),
            "{machine}"
        );
        assert!(said(Failure::TooMuchMemory).contains("raise limits.compile_memory"));
    }

    #[test]
    fn what_is_called_served_is_in_the_linker() {
        let engine = wasmtime::Engine::default();
        let mut linker = Linker::new(&engine);
        link(&mut linker).expect("the host's own interfaces");
        // A name that is taken can't be given to something else.
        let mut is_taken = |name: &str| linker.root().func_wrap(name, |_, (): ()| Ok(())).is_err();
        assert!(!is_taken("wasi:nowhere/nothing@0.2.12"));
        for (package, versions, interfaces) in SERVED {
            for (versions, interface) in versions.iter().flat_map(|v| interfaces.iter().map(move |i| (v, i)))
            {
                let name = format!("{package}/{interface}@{}", here(package, versions));
                assert!(is_served(&name) && is_taken(&name), "{name}");
            }
        }
    }
}
