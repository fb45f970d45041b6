//! The functions in `lua/`, assembled from their modules.
//!
//! Each transition of jobs is one function, and so is each look-up of more than one key: Redis runs a function atomically,
//! but doesn't roll back what it has written before an error. So all of them decide everything first, and then write it by
//! `lua/writes.lua`, where nothing is left that could be refused.
//!
//! All of them form one library of Redis Functions. Its name and theirs contain the digest of its text, so any number of
//! versions can coexist on a server. Redis creates a library's variables once, but those of a script at each call. For
//! servers without functions, and users who may not call any, each function is a script as well, of the same modules.

use redis::Script as Digested;

use super::codes;

/// A function.
#[derive(Debug, Clone)]
pub(super) struct Function {
    /// Name in the library.
    pub(super) name: String,
    /// Text as a script.
    pub(super) script: String,
    /// SHA-1 digest by which the script is called.
    pub(super) script_digest: String,
    /// Whether it leases jobs, so that the daemon first has to check that its user may do what comes next for them.
    pub(super) takes_work: bool,
    /// Whether a producer's user may call it.
    pub(super) is_for_producers: bool,
}

/// Piece of the text: its name, and its Lua code.
type Piece = (&'static str, &'static str);

macro_rules! pieces {
    ($($name:literal)+) => { [$(($name, include_str!(concat!("lua/", $name, ".lua")))),+] };
}

/// Modules that functions are made of, each after those that it uses.
const MODULES: [Piece; 28] = pieces!(
    "start" "reads" "writes" "layout" "unique" "tally" "events" "holds" "waiters" "lanes" "places" "rates" "fair" "waiting" "groups" "state" "flows"
        "finals" "starting" "standing" "edges" "creation" "logs" "add" "spending"
        "accounts" "parking" "records"
);

/// The functions, each with its flags and the modules that it needs in addition to [`ALWAYS`].
const FUNCTIONS: [(Piece, &str, &[&str]); 36] = {
    let [
        enqueue,
        lease,
        renew,
        settle,
        act,
        sweep,
        purge,
        trial,
        schedule,
        job,
        log,
        list,
        counts,
        read_state,
        usage,
        lane_list,
        group_rules,
        held_groups,
        hold,
        hold_list,
        why,
        schedule_list,
        permissions,
        flow,
        flow_jobs,
        parents,
        record_events,
        event_list,
        edit,
        breaker,
        breaker_list,
        daemon,
        daemon_list,
        queue_list,
        group_limit,
        limit_list,
    ] = pieces!(
        "enqueue" "lease" "renew" "settle" "act" "sweep" "purge" "trial" "schedule" "job" "log" "list" "counts" "read_state" "usage" "lane_list" "group_rules"
            "held_groups" "hold" "hold_list" "why" "schedule_list" "permissions" "flow" "flow_jobs" "parents" "record_events"
            "event_list" "edit" "breaker" "breaker_list" "daemon" "daemon_list" "queue_list" "group_limit"
            "limit_list"
    );
    [
        (
            enqueue,
            "",
            &[
                "waiters", "layout", "unique", "tally", "events", "lanes", "fair", "waiting", "groups",
                "finals", "starting", "creation",
            ],
        ),
        (
            lease,
            "",
            &[
                "waiters", "layout", "unique", "tally", "events", "holds", "lanes", "places", "rates",
                "fair", "waiting", "groups", "flows", "finals", "starting", "accounts", "parking",
            ],
        ),
        (renew, ALLOW_OOM, &["layout", "logs"]),
        (
            settle,
            ALLOW_OOM,
            &[
                "waiters", "layout", "unique", "tally", "events", "lanes", "places", "fair", "waiting",
                "groups", "state", "flows", "finals", "starting", "creation", "logs", "add", "spending",
                "accounts",
            ],
        ),
        (
            act,
            ALLOW_OOM,
            &[
                "waiters", "layout", "unique", "tally", "events", "lanes", "fair", "waiting", "groups",
                "flows", "finals", "starting", "standing",
            ],
        ),
        (
            edit,
            "",
            &[
                "waiters", "layout", "unique", "tally", "events", "lanes", "fair", "waiting", "groups",
                "flows", "finals", "starting", "standing",
            ],
        ),
        (
            sweep,
            ALLOW_OOM,
            &[
                "waiters", "layout", "unique", "tally", "events", "holds", "lanes", "places", "fair",
                "waiting", "groups", "state", "flows", "finals", "starting", "edges", "parking",
            ],
        ),
        (
            purge,
            ALLOW_OOM,
            &[
                "waiters", "layout", "unique", "tally", "events", "holds", "lanes", "places", "fair",
                "waiting", "groups", "state", "flows", "parking",
            ],
        ),
        (trial, "", &[]),
        (
            schedule,
            "",
            &[
                "waiters", "layout", "unique", "tally", "events", "lanes", "fair", "waiting", "groups",
                "finals", "starting", "creation",
            ],
        ),
        (job, NO_WRITES, &["layout", "tally", "lanes", "waiting", "flows", "records"]),
        (log, NO_WRITES, &[]),
        (list, NO_WRITES, &["layout", "flows", "finals"]),
        (counts, NO_WRITES, &["layout", "finals", "parking"]),
        (read_state, NO_WRITES, &["state"]),
        (usage, NO_WRITES, &["accounts"]),
        (lane_list, NO_WRITES, &["tally", "lanes"]),
        (hold, ALLOW_OOM, &["tally", "holds"]),
        (hold_list, NO_WRITES, &["tally", "holds"]),
        (breaker, ALLOW_OOM, &["tally", "holds"]),
        (breaker_list, NO_WRITES, &[]),
        (
            why,
            NO_WRITES,
            &[
                "waiters", "layout", "tally", "events", "holds", "lanes", "places", "rates", "fair",
                "waiting", "groups", "accounts",
            ],
        ),
        (
            group_rules,
            ALLOW_OOM,
            &["waiters", "layout", "tally", "events", "lanes", "fair", "waiting", "groups"],
        ),
        (
            group_limit,
            ALLOW_OOM,
            &["waiters", "layout", "tally", "events", "lanes", "fair", "waiting", "groups"],
        ),
        (
            limit_list,
            NO_WRITES,
            &[
                "waiters", "layout", "tally", "events", "lanes", "places", "rates", "fair", "waiting",
                "groups",
            ],
        ),
        (held_groups, NO_WRITES, &["waiters", "layout", "tally", "lanes", "fair", "waiting", "groups"]),
        (schedule_list, NO_WRITES, &[]),
        (permissions, NO_WRITES, &[]),
        (
            flow,
            "",
            &[
                "waiters", "layout", "unique", "tally", "events", "lanes", "fair", "waiting", "groups",
                "flows", "finals", "starting", "creation",
            ],
        ),
        (flow_jobs, NO_WRITES, &["layout", "tally", "lanes", "waiting", "flows", "records"]),
        (parents, NO_WRITES, &["layout", "tally", "lanes", "waiting", "flows", "records"]),
        (record_events, "", &["tally", "events"]),
        (event_list, NO_WRITES, &["tally", "events"]),
        (daemon, ALLOW_OOM, &[]),
        (daemon_list, NO_WRITES, &[]),
        (queue_list, NO_WRITES, &["layout"]),
    ]
};

/// The functions that a producer's user may call as well: see `acl.rs`.
const FOR_PRODUCERS: [&str; 20] = [
    "enqueue",
    "flow",
    "job",
    "flow_jobs",
    "parents",
    "log",
    "list",
    "counts",
    "usage",
    "lane_list",
    "held_groups",
    "limit_list",
    "hold_list",
    "breaker_list",
    "why",
    "schedule_list",
    "permissions",
    "record_events",
    "event_list",
    "queue_list",
];

/// Flag of functions that run even if the server's memory is full: they make room there, or record the end of a run.
const ALLOW_OOM: &str = "allow-oom";
/// Flag of functions that only read.
const NO_WRITES: &str = "no-writes";
/// Modules that every function needs.
const ALWAYS: [&str; 3] = ["start", "reads", "writes"];

/// Prefix of the names of all versions' libraries.
pub(super) const LIBRARIES: &str = "sandhog_";
/// Number of hexadecimal digits of the digest in the name of a library.
const DIGITS: usize = 16;
/// Prefix of the description of each function; the time at which it was loaded follows, in milliseconds.
pub(super) const LOADED_AT: &str = "loaded ";

/// All functions, and the library of them.
#[derive(Debug, Clone)]
pub(super) struct Scripts {
    pub(super) enqueue: Function,
    pub(super) lease: Function,
    pub(super) renew: Function,
    pub(super) settle: Function,
    pub(super) act: Function,
    pub(super) edit: Function,
    pub(super) sweep: Function,
    pub(super) purge: Function,
    pub(super) trial: Function,
    pub(super) schedule: Function,
    pub(super) job: Function,
    pub(super) log: Function,
    pub(super) jobs: Function,
    pub(super) counts: Function,
    pub(super) state: Function,
    pub(super) usage: Function,
    pub(super) lanes: Function,
    pub(super) hold: Function,
    pub(super) holds: Function,
    pub(super) breaker: Function,
    pub(super) breakers: Function,
    pub(super) why: Function,
    pub(super) group_rules: Function,
    pub(super) held_groups: Function,
    pub(super) group_limit: Function,
    pub(super) limits: Function,
    pub(super) schedules: Function,
    pub(super) permissions: Function,
    pub(super) flow: Function,
    pub(super) flow_jobs: Function,
    pub(super) parents: Function,
    pub(super) record_events: Function,
    pub(super) events: Function,
    pub(super) daemon: Function,
    pub(super) daemons: Function,
    pub(super) queues: Function,
    /// The name of the library.
    pub(super) name: String,
    body: String,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let body = body();
        let digest = Digested::new(&body).get_hash()[..DIGITS].to_owned();
        let name = format!("{LIBRARIES}{digest}");
        let function = |wanted: &str| {
            let (piece, flags, needs) = FUNCTIONS
                .into_iter()
                .find(|((name, _), _, _)| *name == wanted)
                .expect("every function of the struct is in the list");
            let script = script(piece, flags, needs);
            Function {
                name: format!("{name}_{wanted}"),
                script_digest: Digested::new(&script).get_hash().to_owned(),
                script,
                takes_work: wanted == "lease",
                is_for_producers: FOR_PRODUCERS.contains(&wanted),
            }
        };
        Self {
            enqueue: function("enqueue"),
            lease: function("lease"),
            renew: function("renew"),
            settle: function("settle"),
            act: function("act"),
            edit: function("edit"),
            sweep: function("sweep"),
            purge: function("purge"),
            trial: function("trial"),
            schedule: function("schedule"),
            job: function("job"),
            log: function("log"),
            jobs: function("list"),
            counts: function("counts"),
            state: function("read_state"),
            usage: function("usage"),
            lanes: function("lane_list"),
            hold: function("hold"),
            holds: function("hold_list"),
            breaker: function("breaker"),
            breakers: function("breaker_list"),
            why: function("why"),
            group_rules: function("group_rules"),
            held_groups: function("held_groups"),
            group_limit: function("group_limit"),
            limits: function("limit_list"),
            schedules: function("schedule_list"),
            permissions: function("permissions"),
            flow: function("flow"),
            flow_jobs: function("flow_jobs"),
            parents: function("parents"),
            record_events: function("record_events"),
            events: function("event_list"),
            daemon: function("daemon"),
            daemons: function("daemon_list"),
            queues: function("queue_list"),
            body,
            name,
        }
    }

    /// Returns the text of the library, with the time in milliseconds at which it is loaded, so that the latest libraries can be
    /// told later.
    pub(super) fn text(&self, now: u64) -> String {
        let Self { name, body, .. } = self;
        let mut text = format!(
            "#!lua name={name}\n\
             local function register(name, flags, run)\n\
             redis.register_function{{function_name = '{name}_' .. name, description = '{LOADED_AT}{now}', \
             flags = flags, callback = run}}\nend\n{body}"
        );
        for ((function, _), flags, _) in FUNCTIONS {
            let flags = if flags.is_empty() { String::new() } else { format!("'{flags}'") };
            text += &format!(
                "register('{function}', {{{flags}}}, function(keys, args) return functions().{function}(keys, args) end)\n"
            );
        }
        text
    }
}

/// Returns the Lua code that creates the functions at the first call, as what they use isn't available while a library is
/// loaded.
fn body() -> String {
    let mut body = String::from("local made\nlocal function make()\n");
    body += &codes::prelude();
    for (_, text) in MODULES {
        body += &codes::with_numbers(text);
    }
    // Each in a block of its own, as Lua has room for 200 local variables at once.
    body += "local made_here = {}\n";
    for ((name, text), flags, _) in FUNCTIONS {
        let text = codes::with_numbers(text);
        body += &format!("do\n{text}made_here.{name} = {}({name})\nend\n", entry_of(name, flags));
    }
    body += "return made_here\nend\n";
    body += "local function functions()\nmade = made or make()\nreturn made\nend\n";
    body
}

/// Returns the name of the Lua wrapper that makes the entry point of a function. In functions that only read, the server
/// refuses a producer's user what it may not read; functions that do a daemon's work refuse it at their start.
fn entry_of(name: &str, flags: &str) -> &'static str {
    match flags == NO_WRITES || FOR_PRODUCERS.contains(&name) {
        true => "entry",
        false => "entry_of_work",
    }
}

/// Returns the script of one function. Its head line makes Redis refuse it at its start, rather than half-way, where it
/// can't write, and restrict it to keys of one slot.
fn script((name, text): Piece, flags: &str, needs: &[&str]) -> String {
    let entry = entry_of(name, flags);
    let flags = if flags.is_empty() { String::new() } else { format!(" flags={flags}") };
    let mut script = format!("#!lua{flags}\n") + &codes::prelude();
    for (module, text) in MODULES {
        if ALWAYS.contains(&module) || needs.contains(&module) {
            script += &codes::with_numbers(text);
        }
    }
    script + &codes::with_numbers(text) + &format!("return {entry}({name})(KEYS, ARGV)\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_that_a_function_names_is_there() {
        for ((name, _), _, needs) in FUNCTIONS {
            for needed in needs {
                assert!(MODULES.iter().any(|(module, _)| module == needed), "{name} needs {needed}");
            }
        }
    }

    /// A script has no more modules than it names, and one that it uses without naming it is found only when it is run.
    #[test]
    fn every_module_that_a_function_uses_is_named() {
        let uses = |text: &str, module: &str| {
            let code: String = text.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
            code.match_indices(&format!("{module}.")).any(|(at, _)| {
                !code[..at]
                    .ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == '.')
            })
        };
        let tables = [
            "unique", "waiting", "finals", "creation", "logs", "state", "spending", "accounts", "parking",
            "tally", "lanes", "places", "rates", "waiters", "groups", "holds", "flows", "events", "fair",
        ];
        for ((name, text), _, needs) in FUNCTIONS {
            for module in tables {
                assert!(!uses(text, module) || needs.contains(&module), "{name} uses {module}");
            }
        }
    }

    #[test]
    fn a_library_has_the_digest_of_its_text_in_all_its_names() {
        let scripts = Scripts::new();
        assert_eq!(scripts.name.len(), LIBRARIES.len() + DIGITS);
        assert!(scripts.settle.name.starts_with(&scripts.name));
        let (first, later) = (scripts.text(1), scripts.text(2));
        assert!(first.contains("'loaded 1'") && later.contains("'loaded 2'"));
        assert!(first.starts_with(&format!("#!lua name={}\n", scripts.name)));
    }
}
