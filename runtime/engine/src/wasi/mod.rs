//! WASI 0.2 with nothing granted but what the plugin's grants say. All of it is linked, since some components import all of
//! it whether they use it or not; a call for what isn't granted is refused, and the job's log says which line of TOML would
//! grant it.

mod account;
mod clocks;
mod directories;
mod files;
mod growth;
mod handles;
mod sockets;
mod stdio;

use std::sync::Arc;
use std::time::Instant;

use sandhog_core::budget::Budget;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::filesystem::WasiFilesystemCtxView;
use wasmtime_wasi::sockets::WasiSocketsCtxView;
use wasmtime_wasi::{WasiCtx, WasiCtxView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

pub(crate) use self::clocks::ClockResolution;
use self::clocks::{Monotonic, Wall};
pub(crate) use self::directories::{Directories, Granted};
use self::files::{Blocking, Files, FilesView};
use self::handles::{FileStreams, Listings, ResourceCount, handles_max};
pub(crate) use self::handles::{explain_full, handles_and_loans_max, is_full};
use self::sockets::NoSockets;
use self::stdio::LogStream;
use crate::host_work::RunWork;
use crate::imports::RunState;
use crate::outgoing::Outgoing;
use crate::plugin::Plugin;
use crate::run_log::{RunLog, Stream};

/// Maximum number of random bytes that one call gives: they're made in one go.
const RANDOM_MAX: u64 = 256 * 1024;

/// Maximum memory that one set of HTTP fields may take on the host, in bytes.
const FIELDS_MAX: usize = 32 * 1024;

/// WASI state of one run.
pub(crate) struct Wasi {
    ctx: WasiCtx,
    table: ResourceTable,
    files: Files,
    http: WasiHttpCtx,
    outgoing: Outgoing,
    work: RunWork,
    of_http: ResourceCount,
    listings: Listings,
    file_streams: FileStreams,
}

impl Wasi {
    /// Creates the state with everything that the plugin is granted, and nothing else.
    pub(crate) fn new(plugin: &Arc<Plugin>, budget: &Budget, log: &RunLog, work: &RunWork) -> Self {
        let resolution = ClockResolution::new(budget.clock_resolution.0);
        let mut builder = WasiCtx::builder();
        builder
            .stdout(LogStream { log: log.clone(), stream: Stream::Out })
            .stderr(LogStream { log: log.clone(), stream: Stream::Err })
            .max_random_size(RANDOM_MAX)
            .monotonic_clock(Monotonic { resolution, zero: Instant::now() })
            .wall_clock(Wall { resolution })
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false);
        for (name, value) in &plugin.grants().env {
            builder.env(name, value.reveal());
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(handles_max(budget));
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(FIELDS_MAX);
        let outgoing = Outgoing::new(Arc::clone(plugin), budget, log.clone(), work.clone());
        let files = Files::new(Arc::clone(work.tenant()));
        Self {
            ctx: builder.build(),
            table,
            files,
            http,
            outgoing,
            work: work.clone(),
            of_http: ResourceCount::default(),
            listings: Listings::default(),
            file_streams: FileStreams::default(),
        }
    }

    pub(crate) fn view(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.ctx, table: &mut self.table }
    }

    /// Whether the guest has asked which directories it has, and has none.
    pub(crate) fn asked_for_directories_in_vain(&self) -> bool {
        self.files.asked_in_vain
    }
}

/// Adds all of WASI that guests are offered to the linker.
pub(crate) fn link(linker: &mut Linker<RunState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    linker.allow_shadowing(true);
    files::link(linker)?;
    sockets::link(linker)?;
    handles::link(linker)?;
    crate::outgoing::link(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl WasiHttpView for RunState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let Wasi { http, table, outgoing, .. } = self.wasi().0;
        WasiHttpCtxView { ctx: http, table, hooks: outgoing }
    }
}

impl RunState {
    /// Returns the view that file system calls work on.
    fn files(&mut self) -> FilesView<'_> {
        let deadline = self.deadlines().files;
        let (wasi, plugin, budget, log) = self.wasi();
        let Wasi { ctx, table, files, work, listings, file_streams, .. } = wasi;
        let work = &*work;
        FilesView {
            inner: WasiFilesystemCtxView { ctx: ctx.filesystem(), table },
            files,
            listings,
            streams: file_streams,
            work,
            plugin,
            log,
            blocking: Blocking { work, log, deadline },
            open_max: budget.open_files,
            resolution: ClockResolution::new(budget.clock_resolution.0),
        }
    }

    fn no_sockets(&mut self) -> NoSockets<'_> {
        let (wasi, _, _, log) = self.wasi();
        let Wasi { ctx, table, .. } = wasi;
        NoSockets { inner: WasiSocketsCtxView { ctx: ctx.sockets(), table }, log }
    }
}
