//! The functions in `lua/`, put together from their pieces.
//!
//! Each transition of jobs is one function, and so is each look at more than one key: Redis runs a function whole, with
//! nothing in between. It takes nothing back of what one has written before an error; so all of them decide everything
//! first, and then write it by `lua/writes.lua`, where nothing is left that could be refused.
//!
//! All of them are one library of Redis Functions. Its name and theirs carry the digest of its text, so any number of
//! versions can stand side by side on a server. Redis makes its variables once, where it would make those of a script at
//! each call. For servers without functions, and users who may not call any, each function is a script as well, of the
//! same pieces.

use redis::Script as Digested;

use super::codes;

/// One of the functions.
#[derive(Debug, Clone)]
pub(super) struct Function {
    /// What it is called by in the library.
    pub(super) name: String,
    /// What it is as a script.
    pub(super) script: String,
    /// What the script is called by.
    pub(super) script_digest: String,
    /// Whether a daemon takes jobs by it, and so should first know that it may do with them what comes next.
    pub(super) takes_work: bool,
    /// Whether a producer's user may call it.
    pub(super) is_for_producers: bool,
}

/// A piece of the text: its name, and what it says.
type Piece = (&'static str, &'static str);

macro_rules! pieces {
    ($($name:literal)+) => { [$(($name, include_str!(concat!("lua/", $name, ".lua")))),+] };
}

/// What functions are made of, each after those that it uses.
const MODULES: [Piece; 19] = pieces!(
    "start" "reads" "writes" "layout" "unique" "tally" "waiters" "lanes" "places" "waiting" "state" "finals" "creation" "logs" "add" "spending"
        "accounts" "parking" "records"
);

/// The functions themselves, each with its flags and the modules that it needs beside those that all need.
const FUNCTIONS: [(Piece, &str, &[&str]); 16] = {
    let [
        enqueue,
        lease,
        renew,
        settle,
        act,
        sweep,
        purge,
        trial,
        job,
        log,
        list,
        counts,
        read_state,
        usage,
        lane_list,
        permissions,
    ] = pieces!(
        "enqueue" "lease" "renew" "settle" "act" "sweep" "purge" "trial" "job" "log" "list" "counts" "read_state" "usage" "lane_list"
            "permissions"
    );
    [
        (enqueue, "", &["waiters", "unique", "tally", "lanes", "waiting", "creation"]),
        (lease, "", &["waiters", "layout", "tally", "lanes", "places", "waiting", "accounts", "parking"]),
        (renew, ALLOW_OOM, &["layout", "logs"]),
        (
            settle,
            ALLOW_OOM,
            &[
                "waiters", "layout", "unique", "tally", "lanes", "places", "waiting", "state", "finals",
                "creation", "logs", "add", "spending", "accounts",
            ],
        ),
        (act, ALLOW_OOM, &["waiters", "layout", "unique", "tally", "lanes", "waiting", "finals"]),
        (
            sweep,
            ALLOW_OOM,
            &[
                "waiters", "layout", "unique", "tally", "lanes", "places", "waiting", "state", "finals",
                "parking",
            ],
        ),
        (purge, ALLOW_OOM, &["layout", "unique", "tally", "lanes", "places", "state", "parking"]),
        (trial, "", &[]),
        (job, NO_WRITES, &["layout", "tally", "lanes", "waiting", "records"]),
        (log, NO_WRITES, &[]),
        (list, NO_WRITES, &["layout", "finals"]),
        (counts, NO_WRITES, &["layout", "finals", "parking"]),
        (read_state, NO_WRITES, &["state"]),
        (usage, NO_WRITES, &["accounts"]),
        (lane_list, NO_WRITES, &["tally", "lanes"]),
        (permissions, NO_WRITES, &[]),
    ]
};

/// The functions that a producer's user may call as well: see `acl.rs`.
const FOR_PRODUCERS: [&str; 8] =
    ["enqueue", "job", "log", "list", "counts", "usage", "lane_list", "permissions"];

/// Runs even if the server's memory is full: it is what makes room there, or says how a run ended.
const ALLOW_OOM: &str = "allow-oom";
/// Only looks.
const NO_WRITES: &str = "no-writes";
/// What every function needs.
const ALWAYS: [&str; 3] = ["start", "reads", "writes"];

/// What the names of all versions' libraries begin with.
pub(super) const LIBRARIES: &str = "sandhog_";
/// Hexadecimal digits of the digest in the name of a library.
const DIGITS: usize = 16;
/// What the description of each function begins with; what follows is when it was loaded.
pub(super) const LOADED_AT: &str = "loaded ";

/// All functions, and the library that they are.
#[derive(Debug, Clone)]
pub(super) struct Scripts {
    pub(super) enqueue: Function,
    pub(super) lease: Function,
    pub(super) renew: Function,
    pub(super) settle: Function,
    pub(super) act: Function,
    pub(super) sweep: Function,
    pub(super) purge: Function,
    pub(super) trial: Function,
    pub(super) job: Function,
    pub(super) log: Function,
    pub(super) jobs: Function,
    pub(super) counts: Function,
    pub(super) state: Function,
    pub(super) usage: Function,
    pub(super) lanes: Function,
    pub(super) permissions: Function,
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
            sweep: function("sweep"),
            purge: function("purge"),
            trial: function("trial"),
            job: function("job"),
            log: function("log"),
            jobs: function("list"),
            counts: function("counts"),
            state: function("read_state"),
            usage: function("usage"),
            lanes: function("lane_list"),
            permissions: function("permissions"),
            body,
            name,
        }
    }

    /// The text of the library, with the time in milliseconds at which it is loaded: so it can be told later which ones
    /// are the latest.
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

/// The functions, made at the first call: what they use isn't there yet while a library is loaded.
fn body() -> String {
    let mut body = String::from("local made\nlocal function make()\n");
    body += &codes::prelude();
    for (_, text) in MODULES {
        body += text;
    }
    let mut list = String::new();
    for ((name, text), flags, _) in FUNCTIONS {
        body += text;
        list += &format!("{name} = {}({name}), ", entry_of(name, flags));
    }
    body += &format!("return {{ {list}}}\nend\n");
    body += "local function functions()\nmade = made or make()\nreturn made\nend\n";
    body
}

/// What makes of a function what the server calls. Of those that only look, a producer's user is refused what it may not read.
fn entry_of(name: &str, flags: &str) -> &'static str {
    match flags == NO_WRITES || FOR_PRODUCERS.contains(&name) {
        true => "entry",
        false => "entry_of_work",
    }
}

/// A function alone. The head line makes Redis refuse it at its start, rather than in its midst, where it can't write, and
/// hold it to keys of one slot.
fn script((name, text): Piece, flags: &str, needs: &[&str]) -> String {
    let entry = entry_of(name, flags);
    let flags = if flags.is_empty() { String::new() } else { format!(" flags={flags}") };
    let mut script = format!("#!lua{flags}\n") + &codes::prelude();
    for (module, text) in MODULES {
        if ALWAYS.contains(&module) || needs.contains(&module) {
            script += text;
        }
    }
    script + text + &format!("return {entry}({name})(KEYS, ARGV)\n")
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
            "tally", "lanes", "places", "waiters",
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
