//! What a case is.

use std::borrow::Cow;
use std::fmt;

use sandhog_core::reason::Reason;
use sandhog_guests::Guest;
use sandhog_tests::{BackgroundWeb, Reply};

/// Stands for the digest of the component that the neighbour runs, in what a component that is refused says of itself
/// and in why it is refused.
pub(crate) const NEIGHBOURS_DIGEST: &str = "NEIGHBOURS_DIGEST";

/// Runs of the hostile plugin that are under way at once: as many as there are guest threads, so that it has them all.
pub(crate) const HOSTILE_RUNS: u64 = 2;

/// One hostile guest, and what is to become of it.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// Which page section it belongs to.
    pub(crate) group: &'static str,
    /// Its name, in kebab case.
    pub(crate) name: &'static str,
    /// What the guest does, in words.
    pub(crate) does: &'static str,
    /// What is held against it.
    pub(crate) promise: Promise,
    /// The guest.
    pub(crate) code: Code,
    /// What each of its runs may use, so that an endless one is over soon.
    pub(crate) fuel: u64,
    /// Its runs that are under way at once.
    pub(crate) runs: u64,
    /// Further lines of `[plugin]` in its TOML.
    pub(crate) plugin: &'static str,
    /// Further lines of `[limits]` in the daemon's file.
    pub(crate) daemon_limits: &'static str,
    /// Further lines of `[limits]` in its TOML.
    pub(crate) limits: &'static str,
    /// Further lines at the end of its TOML.
    pub(crate) toml: Cow<'static, str>,
    /// How each of its jobs ends.
    pub(crate) end: End,
}

/// The guest of a case.
#[derive(Debug, Clone)]
pub(crate) enum Code {
    /// A handler in WebAssembly text.
    Text(String),
    /// A handler of `plugins/`, written with the SDK.
    Handler(Handler),
    /// A file that is deployed while the daemon runs.
    File(FileOf),
}

/// A handler of `plugins/`.
#[derive(Debug, Clone)]
pub(crate) struct Handler {
    /// The plugin that has it.
    pub(crate) plugin: &'static str,
    /// Its kind.
    pub(crate) kind: &'static str,
    /// The payload of its jobs.
    pub(crate) payload: Cow<'static, str>,
}

/// A file that claims to be a component.
#[derive(Debug, Clone)]
pub(crate) enum FileOf {
    /// These bytes.
    Bytes(Vec<u8>),
    /// So many zeros, which take no room on the disk.
    Zeros(u64),
    /// Machine code, as the engine keeps it in its cache.
    MachineCode,
}

/// How a hostile job ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// Dead, for this reason, with this in its message.
    Dead(Reason, &'static str),
    /// Succeeded, with this output: the guest found out, or did, nothing that it shouldn't.
    Returns(&'static str),
    /// It goes on until somebody cancels it.
    Cancelled,
    /// There never is one: the component is refused when it is deployed, with this among the reasons.
    Refused(&'static str),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dead(reason, _) => write!(f, "dead: `{reason}`"),
            Self::Returns(_) => f.write_str("succeeds, and has gained nothing"),
            Self::Cancelled => f.write_str("runs until it is cancelled"),
            Self::Refused(_) => f.write_str("refused when it is deployed"),
        }
    }
}

/// What Sandhog promises, in the parts that a guest can attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Of a run that fails.
    NoHalf,
    /// Of instructions.
    Fuel,
    /// Of linear memory.
    Memory,
    /// Of the host's own memory.
    HostMemory,
    /// Of tables.
    Tables,
    /// Of recursion.
    Stack,
    /// Of the clock on the wall.
    Time,
    /// Of results.
    Output,
    /// Of log lines.
    Log,
    /// Of calls of the host.
    HostCalls,
    /// Of values that don't follow the canonical ABI.
    Boundary,
    /// Of traps.
    Contained,
    /// Of threads.
    Shared,
    /// Of the time that a neighbour waits.
    Latency,
    /// Of files.
    Files,
    /// Of the machine.
    Machine,
    /// Of tenants.
    Apart,
    /// Of what lasts.
    Fresh,
    /// Of components.
    Deploy,
}

impl Promise {
    /// The promise in words.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::NoHalf => "a run that fails leaves no half of its effects",
            Self::Fuel => "CPU time is bounded by fuel",
            Self::Memory => "memory is bounded, summed over all memories of a run",
            Self::HostMemory => "a guest can't make the host take memory without bound",
            Self::Tables => "tables are bounded, summed over all tables of a run",
            Self::Stack => "the stack is bounded",
            Self::Time => "wall time is bounded",
            Self::Output => "the output is bounded",
            Self::Log => "the log is bounded",
            Self::HostCalls => "host calls are bounded",
            Self::Boundary => "a malformed value ends its own run, and nothing else",
            Self::Contained => "a handler that goes wrong hurts its own run alone",
            Self::Files => "no file but those in granted directories can be reached",
            Self::Machine => "nothing of the machine can be seen that wasn't granted",
            Self::Apart => "a tenant can't reach another's secrets, state, queues or jobs",
            Self::Fresh => "nothing of a run is there in the next one",
            Self::Deploy => "a broken component changes nothing that runs, and is refused with its reason",
            Self::Latency => "a neighbour waits at most twice as long, and 5 ms more",
            Self::Shared => "processors are shared: who waits gets its turn",
        }
    }
}

impl Case {
    /// A case of a guest in WebAssembly text.
    pub(crate) fn new(name: &'static str, promise: Promise, does: &'static str, guest: &Guest) -> Self {
        Self::of(name, promise, does, Code::Text(guest.text()))
    }

    /// A case of a handler of `plugins/rogue` or `plugins/hog`, which its kind tells.
    pub(crate) fn handler(
        name: &'static str,
        promise: Promise,
        does: &'static str,
        [kind, payload]: [&'static str; 2],
    ) -> Self {
        let plugin = kind.split('.').next().unwrap_or(kind);
        Self::of(name, promise, does, Code::Handler(Handler { plugin, kind, payload: payload.into() }))
    }

    /// A case of a file that is refused when it is deployed, with this among the reasons.
    pub(crate) fn file(name: &'static str, does: &'static str, file: FileOf, says: &'static str) -> Self {
        Self { end: End::Refused(says), ..Self::of(name, Promise::Deploy, does, Code::File(file)) }
    }

    fn of(name: &'static str, promise: Promise, does: &'static str, code: Code) -> Self {
        Self {
            group: "",
            name,
            does,
            promise,
            code,
            fuel: 100_000_000,
            runs: HOSTILE_RUNS,
            plugin: "",
            daemon_limits: "",
            limits: "",
            toml: Cow::Borrowed(""),
            end: End::Returns(""),
        }
    }

    /// Whose jobs end dead, for this reason, with this in their message.
    pub(crate) fn dies(mut self, reason: Reason, says: &'static str) -> Self {
        self.end = End::Dead(reason, says);
        self
    }

    /// Whose jobs succeed with this output.
    pub(crate) fn returns(mut self, output: &'static str) -> Self {
        self.end = End::Returns(output);
        self
    }

    /// Whose jobs go on until somebody cancels them.
    pub(crate) fn cancelled(mut self) -> Self {
        self.end = End::Cancelled;
        self
    }

    /// With so many runs under way at once.
    pub(crate) fn runs(mut self, runs: u64) -> Self {
        self.runs = runs;
        self
    }

    /// Starts the server that its payload names, by a URL with `PORT` in it, and lets it be reached. `None` if it names none.
    pub(crate) fn serve(
        &mut self,
        reply: impl Fn(&str) -> Reply + Send + Sync + Clone + 'static,
    ) -> Option<BackgroundWeb> {
        let Code::Handler(handler) = &mut self.code else { return None };
        let web = match &handler.payload {
            payload if payload.contains("https://127.0.0.1:PORT") => BackgroundWeb::start_tls(reply),
            payload
                if payload.contains("http://127.0.0.1:PORT") || payload.contains("http://localhost:PORT") =>
            {
                BackgroundWeb::start(reply)
            }
            _ => return None,
        };
        let port = web.port();
        handler.payload = handler.payload.replace("PORT", &port.to_string()).into();
        let grant = |host: &str| format!("{{ to = \"{host}:{port}\", private = \"allow\" }}");
        self.toml = format!("[grants]\nhttp = [{}, {}]", grant("127.0.0.1"), grant("localhost")).into();
        Some(web)
    }

    /// With this much fuel a run.
    pub(crate) fn fuel(mut self, fuel: u64) -> Self {
        self.fuel = fuel;
        self
    }

    /// With further lines of `[plugin]`.
    pub(crate) fn plugin(mut self, plugin: &'static str) -> Self {
        self.plugin = plugin;
        self
    }

    /// With further lines of TOML.
    pub(crate) fn toml(mut self, toml: &'static str) -> Self {
        self.toml = toml.into();
        self
    }

    /// With further lines of `[limits]`.
    pub(crate) fn limits(mut self, limits: &'static str) -> Self {
        self.limits = limits;
        self
    }
}
