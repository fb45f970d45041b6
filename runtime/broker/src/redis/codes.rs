//! Numbers and texts that Rust and the functions in `lua/` share, defined only here. The functions name them: texts are in
//! [`prelude`], and numbers are filled in by [`with_numbers`].

use std::collections::HashMap;
use std::fmt::Write;

use sandhog_core::account::{Account, RunEnd};
use sandhog_core::breaker;
use sandhog_core::event::{EVENTS_PER_MILLI as EVENT_NUMBERS_PER_MILLI, EventKind};
use sandhog_core::fair;
use sandhog_core::flow::{self, OnFailure, ParentEnd};
use sandhog_core::group;
use sandhog_core::group_limit;
use sandhog_core::history;
use sandhog_core::hold;
use sandhog_core::job::{Priority, State};
use sandhog_core::reason::Reason;
use sandhog_core::schedule;
use sandhog_core::time::millis;
use sandhog_core::trial;
use sandhog_core::waits;

use super::layout::{self, Tail};
use crate::{
    GROUPED_MAX, HELD_GROUPS_MAX, Keep, LANE_KEPT as LANE_KEPT_FOR, LANE_NOTED_EVERY as LANE_NOTED_AFTER,
    SWEEP_MAX as SWEPT_MAX, UNREADABLE_COUNTED_MAX, daemons, options,
};

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident = $value:expr;)+) => {
        $($(#[$doc])* pub(super) const $name: u64 = $value;)+
        /// All of them, by name.
        const NUMBERS: &[(&str, u64)] = &[$((stringify!($name), $name)),+];
    };
}

numbers! {
    // States. A job that waits is stored as ready, whether or not it is scheduled or blocked.
    BLOCKED = layout::state_number(State::Blocked);
    SCHEDULED = layout::state_number(State::Scheduled);
    READY = layout::state_number(State::Ready);
    LEASED = layout::state_number(State::Leased);
    SUCCEEDED = layout::state_number(State::Succeeded);
    DEAD = layout::state_number(State::Dead);
    CANCELLED = layout::state_number(State::Cancelled);
    /// Runs whose first byte is at least this were written by another version; the lower half of the byte is the state.
    NEXT_VERSION = 1 << 4;

    // Settlements.
    SUCCEED = 1;
    RETRY = 2;
    RELEASE = 3;
    BURY = 4;
    CANCEL_IT = 5;
    /// A release that counts a fault of the host.
    RELEASE_AS_FAULT = 6;
    /// A release for want of a plugin.
    RELEASE_WITHOUT_PLUGIN = 7;

    // Actions on jobs.
    CANCEL = 1;
    REDRIVE = 2;
    RUN_NOW = 3;
    REMOVE = 4;

    // Answers, each about one job.
    LOST = 0;
    APPLIED = 1;
    TOO_MANY_BYTES = 2;
    TOO_MANY_KEYS = 3;
    TOO_MANY_JOBS = 4;
    TOO_MANY_JOB_BYTES = 5;
    TOO_LARGE = 6;
    UNREADABLE = 7;
    HELD = 8;
    CANCEL_REQUESTED = 9;
    DONE = 10;
    REQUESTED = 11;
    UNKNOWN = 12;
    LIFTED = 13;
    NOT_HELD = 14;
    TOO_MANY_HOLDS = 15;
    /// The id of a job of a flow is another's.
    TAKEN = 16;
    /// The job was leased or has ended since it was found.
    TOUCHED = 17;
    /// The group has no limit of its own.
    NOT_LIMITED = 18;
    TOO_MANY_LIMITS = 19;
    /// The action can't be applied to a job in this state; the number of the state is added to this code.
    NOT_IN = 32;

    // Writes of state.
    DELETE = 1;
    SET = 2;
    ADD = 3;
    REPLACE = 4;

    // How a job is laid out: its first byte.
    /// The job may run on any revision.
    ANY_REVISION = 1;
    /// The job is pinned to one revision.
    PINNED = 2;
    /// The job has options, and may be pinned.
    WITH_OPTIONS = 3;

    // The places of the options of a job, from 1 on: see `crate::options`.
    GROUP_PLACE = 1;
    /// The priority by which all jobs of a strict group wait.
    DEFAULT_PRIORITY = Priority::DEFAULT.0 as u64;
    FAIR_STRIDE = fair::STRIDE;
    FAIR_PLACE_MAX = fair::PLACE_MAX;
    /// Maximum number of held groups that are listed.
    HELD_GROUPS = HELD_GROUPS_MAX as u64;
    /// Maximum number of leased and of ready jobs of a queue that are held to a rule when it gets one.
    GROUPED = GROUPED_MAX as u64;

    // Rules of unique keys.
    /// Place of the rule among the options of a job, from 1 on.
    UNIQUE_OPTION = options::UNIQUE_PLACE as u64;
    UNTIL_SETTLED = options::UNTIL_SETTLED;
    UNTIL_STARTED = options::UNTIL_STARTED;
    UNTIL_OVER = options::UNTIL_OVER;
    KEEP = options::KEEP;
    DEBOUNCE = options::DEBOUNCE;

    // The places in the tail of a run, from 1 on.
    UNIQUE_KEY = 1;
    RAN = 2;
    WHY = 3;
    PROGRESS = 4;
    OUTPUT = 5;
    /// Number of places that every tail has.
    TAIL_PLACES = OUTPUT;
    /// Number of times that the host has failed on the job; the place is absent while it hasn't.
    FAULTS = 6;
    /// Ends of the latest attempts; the place is absent while there are none. In a tail that a settlement brings, it has the reason
    /// for that settlement instead, with the beginning of its message.
    HISTORY = 7;
    /// Maximum number of attempts that are kept there.
    ATTEMPTS_KEPT = history::ATTEMPTS_KEPT as u64;

    /// Place in a job's options of its labels.
    LABELS_PLACE = options::LABELS_PLACE as u64;
    /// Place in a job's options of the time within which it has to start.
    START_WITHIN_PLACE = options::START_WITHIN_PLACE as u64;
    /// Maximum number of jobs that one step of upkeep takes.
    SWEEP_MAX = SWEPT_MAX as u64;
    /// Time, in milliseconds, after which a job is looked at again that has to start within a time and can't be read.
    STARTING_PUT_OFF = 60_000;
    /// The mark of a job of a flow; the place is absent in others.
    FLOW = 8;
    /// The same among the options of a job.
    FLOW_OPTION = options::FLOW_PLACE as u64;

    /// Number of an account's parts that count ends of runs; the parts after them are usage, the fuel first.
    ENDS = RunEnd::ALL.len() as u64;
    /// Maximum number of expired values of state that one settlement removes if they are in its way.
    STATE_SWEEP_MAX = SWEPT_MAX as u64;
    /// Maximum number of unreadable jobs that are listed.
    NAMED_MAX = UNREADABLE_COUNTED_MAX;
    /// Time, in milliseconds, for which a lane is kept that is empty and that no daemon asks for.
    LANE_KEPT = LANE_KEPT_FOR.as_millis() as u64;
    /// Time, in milliseconds, after which it is noted again that a lane is asked for.
    LANE_NOTED_EVERY = LANE_NOTED_AFTER.as_millis() as u64;
    /// Maximum number of schedules of a tenant.
    SCHEDULES_MAX = schedule::SCHEDULES_MAX as u64;
    /// Score of a schedule that isn't due: behind all times.
    NEVER = 1 << 53;

    // Results of a write of a schedule; those above 7 are no answer about a job.
    WRITTEN = 0;
    STALE = 10;
    TOO_MANY_SCHEDULES = 11;
    TOO_MANY_BREAKERS = 12;

    // Queries for schedules.
    SCHEDULES_DUE = 1;
    SCHEDULE_NAMED = 2;
    SCHEDULES_AFTER = 3;

    // Events.
    EVENT_CREATED = EventKind::Created.code() as u64;
    EVENT_UNBLOCKED = EventKind::Unblocked.code() as u64;
    EVENT_STARTED = EventKind::Started.code() as u64;
    EVENT_RETRIED = EventKind::Retried.code() as u64;
    EVENT_RELEASED = EventKind::Released.code() as u64;
    EVENT_LEASE_EXPIRED = EventKind::LeaseExpired.code() as u64;
    EVENT_SUCCEEDED = EventKind::Succeeded.code() as u64;
    EVENT_DEAD = EventKind::Dead.code() as u64;
    EVENT_CANCELLED = EventKind::Cancelled.code() as u64;
    EVENT_REDRIVEN = EventKind::Redriven.code() as u64;
    /// Numbers of events that are left for each millisecond.
    EVENTS_PER_MILLI = EVENT_NUMBERS_PER_MILLI;

    /// Time, in milliseconds, for which a trial is kept that no daemon reports to.
    TRIAL_KEPT = trial::TRIAL_KEPT.as_millis() as u64;
    /// Maximum number of holds of a tenant.
    HOLDS_MAX = hold::HOLDS_MAX as u64;
    /// Maximum number of limits of single groups of a tenant.
    GROUP_LIMITS_MAX = group_limit::GROUP_LIMITS_MAX as u64;
    /// Maximum number of breakers of a tenant.
    BREAKERS_MAX = breaker::BREAKERS_MAX as u64;
    /// Place of the first kind in what of a breaker holds jobs back.
    GATE_KINDS = 6;
    /// Maximum number of jobs that are counted before another one.
    AHEAD_COUNTED_MAX = waits::AHEAD_COUNTED_MAX;
    /// Maximum number of jobs of a group that are counted.
    GROUP_CONCURRENCY_MAX = group::GROUP_CONCURRENCY_MAX as u64;
    /// Maximum number of daemons whose counts a trial keeps.
    TRIAL_DAEMONS_MAX = trial::TRIAL_DAEMONS_MAX as u64;

    // The list of daemons; times are in milliseconds.
    DAEMON_LAPSE = daemons::DAEMON_LAPSE.as_millis() as u64;
    DAEMON_KEPT = daemons::DAEMON_KEPT.as_millis() as u64;
    DAEMONS_MAX = daemons::DAEMONS_MAX as u64;
    DAEMONS_FORGOTTEN_MAX = daemons::FORGOTTEN_MAX as u64;
}

/// Field of a day's account of all plugins together: no plugin has such a name.
pub(super) const OF_ALL: &str = ":";

/// Prefix of a message for one daemon, whose id follows. Earlier versions take every message that isn't a job's id for news
/// of work, and look for it.
pub(super) const NAMED: &str = "ready ";

/// Message that a schedule is due earlier than any was. Earlier versions take it for news of work.
pub(super) const DUE: &str = "due";

/// Message that events were recorded. Earlier versions take it for news of work.
pub(super) const RECORDED: &str = "events";

/// The end of a run as which each settlement's code is counted.
const END_OF: [(u64, RunEnd); 7] = [
    (SUCCEED, RunEnd::Succeeded),
    (RETRY, RunEnd::Retried),
    (BURY, RunEnd::Dead),
    (CANCEL_IT, RunEnd::Cancelled),
    (RELEASE, RunEnd::Released),
    (RELEASE_AS_FAULT, RunEnd::Released),
    (RELEASE_WITHOUT_PLUGIN, RunEnd::Released),
];

/// Returns Lua code with the numbers in place of their names, other than in texts and comments, and where something else has such a
/// name. As local variables they would be too many, as Lua has room for 200 at once.
pub(super) fn with_numbers(lua: &str) -> String {
    let numbers: HashMap<&str, u64> = NUMBERS.iter().copied().collect();
    let (mut filled, mut rest) = (String::with_capacity(lua.len()), lua);
    while let Some(first) = rest.chars().next() {
        let (token, after) = rest.split_at(token_length(rest, first));
        let next = after.trim_start();
        let is_a_key = next.starts_with('=') && !next.starts_with("==");
        match numbers.get(token).filter(|_| !is_a_key && !filled.ends_with('.')) {
            Some(number) => write!(filled, "{number}").expect("writing to a string can't fail"),
            None => filled.push_str(token),
        }
        rest = after;
    }
    filled
}

/// Returns the length of the text, comment, name or other character that Lua code starts with.
fn token_length(lua: &str, first: char) -> usize {
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match first {
        '\'' | '"' => {
            let mut is_escaped = false;
            let is_end = |c: char| {
                let is_end = c == first && !is_escaped;
                is_escaped = c == '\\' && !is_escaped;
                is_end
            };
            lua[1..].find(is_end).map_or(lua.len(), |end| end + 2)
        }
        '-' if lua.starts_with("--") => lua.find('\n').unwrap_or(lua.len()),
        _ if is_of_a_name(first) => lua.find(|c| !is_of_a_name(c)).unwrap_or(lua.len()),
        _ => first.len_utf8(),
    }
}

/// Returns the Lua code at the start of every script and of the library: a local variable for each text.
pub(super) fn prelude() -> String {
    let mut lua = String::new();
    let mut line = |name: &str, value: &str| {
        writeln!(lua, "local {name} = {value}").expect("writing to a string can't fail");
    };
    line("ACCOUNT_PARTS", &Account::PARTS.len().to_string());
    line("sums_of", &sums(Account::PARTS.len()));
    line("OF_ALL", &quoted(OF_ALL.as_bytes()));
    line("NAMED", &quoted(NAMED.as_bytes()));
    line("DUE", &quoted(DUE.as_bytes()));
    line("RECORDED", &quoted(RECORDED.as_bytes()));
    line("EMPTY_TAIL", &quoted(&Tail::default().bytes()));
    line("KEEP_DONE", &millis(Keep::default().done).to_string());
    line("WHY_EXPIRED_UNSTARTED", &quoted(&layout::why_bytes(Reason::Expired, None)));
    line("WHY_EXPIRED", &quoted(&layout::why_bytes(Reason::LeaseExpired, None)));
    line("EDGE", &edge_rules());
    line("REST", &rest_rules());
    line("WHY_CANCELLED", &quoted(&layout::why_bytes(Reason::Cancelled, None)));
    let finals = State::ALL.into_iter().filter(|state| state.is_final());
    let finals: Vec<String> =
        finals.map(|state| format!("[{}] = true", layout::state_number(state))).collect();
    line("IS_FINAL", &format!("{{ {} }}", finals.join(", ")));
    let places = END_OF.map(|(code, end)| format!("[{code}] = {}", place_of(end)));
    line("PLACE_OF_END", &format!("{{ {} }}", places.join(", ")));
    lua
}

/// Returns a Lua table of what edges of flows go by, in one variable, as Lua has room for 200: the codes of the rules, what is added to
/// the state of a job that is removed, the reason of a job that ends for another, and how the end of that one is told.
fn edge_rules() -> String {
    let (ignore, hold, removed) = (OnFailure::Ignore.code(), OnFailure::Hold.code(), ParentEnd::REMOVED);
    let reason = quoted(Reason::ParentFailed.slug().as_bytes());
    let [dead, cancelled, gone] =
        [flow::PARENT_DEAD, flow::PARENT_CANCELLED, flow::PARENT_REMOVED].map(|text| quoted(text.as_bytes()));
    format!(
        "{{ ignore = {ignore}, hold = {hold}, removed = {removed}, reason = {reason}, is_dead = {dead}, \
         was_cancelled = {cancelled}, was_removed = {gone} }}"
    )
}

/// Returns a Lua table of how a job is told that is cancelled behind a dead one of its group.
fn rest_rules() -> String {
    let reason = quoted(Reason::GroupFailed.slug().as_bytes());
    let [before, behind] = group::REST_CANCELLED.map(|text| quoted(text.as_bytes()));
    format!("{{ reason = {reason}, before = {before}, behind = {behind} }}")
}

/// Returns a Lua function that adds `count` numbers to as many others, one by one: a loop takes Lua three times as long.
fn sums(count: usize) -> String {
    let names = |letter: char| (1..=count).map(move |n| format!("{letter}{n}"));
    let parameters: Vec<String> = names('a').chain(names('b')).collect();
    let sums: Vec<String> = names('a').zip(names('b')).map(|(a, b)| format!("{a} + {b}")).collect();
    format!("function({}) return {} end", parameters.join(", "), sums.join(", "))
}

/// Returns the place, from 1 on, at which an account counts runs with this end.
fn place_of(end: RunEnd) -> usize {
    let place = Account::PARTS.iter().position(|part| *part == end.slug());
    place.expect("an account has a number for every end") + 1
}

/// Returns a Lua string literal of these bytes, whatever they are.
fn quoted(bytes: &[u8]) -> String {
    let escaped: String = bytes.iter().map(|byte| format!("\\{byte:03}")).collect();
    format!("'{escaped}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_and_each_text_has_a_name_of_its_own() {
        let prelude = prelude();
        assert!(prelude.contains("local EMPTY_TAIL = '\\149\\194\\194\\194\\194\\194'\n"), "{prelude}");
        let texts = prelude.lines().filter_map(|line| line.split(' ').nth(1));
        let mut names: Vec<&str> = texts.chain(NUMBERS.iter().map(|(name, _)| *name)).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn numbers_stand_in_place_of_their_names_and_nowhere_else() {
        for (lua, filled) in [
            ("if run.state == LEASED then", "if run.state == 2 then"),
            ("CLASS_OF[DEAD]..DEAD_KEY", "CLASS_OF[4]..DEAD_KEY"),
            ("'DONE \\' DONE' -- DONE\nDONE", "'DONE \\' DONE' -- DONE\n10"),
            ("{ SET = 1, LOST }, t.LOST, LOST == 1", "{ SET = 1, 0 }, t.LOST, 0 == 1"),
            ("x - WHY -1 \"ä\"", "x - 3 -1 \"ä\""),
            ("'", "'"),
        ] {
            assert_eq!(with_numbers(lua), filled);
        }
    }

    #[test]
    fn an_account_begins_with_the_ends_and_the_fuel() {
        assert_eq!(END_OF.map(|(_, end)| place_of(end)), [1, 2, 3, 4, 5, 5, 5]);
        assert_eq!(Account::PARTS[RunEnd::ALL.len()], "fuel");
    }
}
