//! The byte layout of jobs, of their runs, and of what those report.
//!
//! A job holds what its producer asked for: layout (1 byte), enqueued at (6), priority (1), unique key (length in 2, empty if
//! there is none), queue (length in 1), in layout 2 the revision that it is pinned to (32), kind (length in 1), and the
//! payload up to the end. In layout 3 the revision has its length before it (in 1; 0 if the job isn't pinned), and options
//! stand before the payload (length in 2): see `crate::options`. Numbers have the highest byte first. A run is described in `lua/layout.lua`, and usage in
//! `lua/spending.lua`.

use std::num::NonZeroU32;
use std::time::Duration;

use sandhog_core::breaker::{Barrier, Probes, Shut};
use sandhog_core::budget::{Bytes, Fuel};
use sandhog_core::event::{EventCursor, EventKind, JobEvent};
use sandhog_core::flow::{FlowNode, OnFailure, Parent};
use sandhog_core::history::AttemptRecord;
use sandhog_core::hold::HoldReason;
use sandhog_core::id::{
    DaemonId, FlowJobName, GroupKey, InvalidName, JobId, Kind, LeaseNo, QueueName, Revision, TenantId,
    UniqueKey,
};
use sandhog_core::job::{Job, JobOptions, JobRecord, Level, LogLine, NewJob, Priority, Progress, State};
use sandhog_core::outcome::Usage;
use sandhog_core::reason::Reason;
use sandhog_core::time::Timestamp;

use super::codes::{self, ANY_REVISION, FAULTS, HISTORY, PINNED, TAIL_PLACES, WITH_OPTIONS};
use crate::pack::{Packer, Unpacker, Unreadable};
use crate::{Ran, options};

type Read<T> = Result<T, Unreadable>;

/// Returns the number of a job's layout.
pub(super) fn layout(job: &NewJob) -> u64 {
    match (&job.pinned, job.options == JobOptions::default()) {
        (None, true) => ANY_REVISION,
        (Some(_), true) => PINNED,
        (_, false) => WITH_OPTIONS,
    }
}

impl From<InvalidName> for Unreadable {
    fn from(invalid: InvalidName) -> Self {
        Self(invalid.rule)
    }
}

/// Returns a job's bytes from its priority up to its payload; the function adds those before.
pub(super) fn job_head_bytes(job: &NewJob) -> Vec<u8> {
    let unique = job.unique_key.as_ref().map_or("", UniqueKey::as_str);
    let (queue, kind) = (job.queue.as_str(), job.kind.as_str());
    let pinned = job.pinned.as_ref().map_or(&[][..], |revision| revision.as_sha256());
    let options = options::to_bytes(&job.options);
    let names = queue.len() + unique.len() + kind.len();
    let options_len = options.as_ref().map_or(0, Vec::len);
    let mut bytes = Vec::with_capacity(8 + names + pinned.len() + options_len);
    bytes.push(job.priority.0);
    let unique_len = u16::try_from(unique.len()).expect("a unique key has 256 bytes at most");
    bytes.extend_from_slice(&unique_len.to_be_bytes());
    bytes.extend_from_slice(unique.as_bytes());
    bytes.push(short(queue));
    bytes.extend_from_slice(queue.as_bytes());
    if options.is_some() {
        bytes.push(short_len(pinned));
    }
    bytes.extend_from_slice(pinned);
    bytes.push(short(kind));
    bytes.extend_from_slice(kind.as_bytes());
    if let Some(options) = options {
        let len = u16::try_from(options.len()).expect("options are bounded");
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(&options);
    }
    bytes
}

fn short(name: &str) -> u8 {
    u8::try_from(name.len()).expect("a name has 127 bytes at most")
}

/// A job as its producer asked for it, read from its stored form.
#[derive(Debug)]
pub(super) struct StoredJob {
    asked: NewJob,
    enqueued_at: Timestamp,
}

impl StoredJob {
    pub(super) fn read(id: JobId, bytes: &[u8]) -> Read<Self> {
        let mut from = Unpacker::new(bytes);
        let layout = from.number(1)?;
        if ![ANY_REVISION, PINNED, WITH_OPTIONS].contains(&layout) {
            return Err(Unreadable("it was written by another version"));
        }
        let enqueued_at = Timestamp::from_millis(from.number(6)?);
        let priority = Priority(from.take(1)?[0]);
        let unique_key = match text(&mut from, 2)? {
            "" => None,
            key => Some(UniqueKey::parse(key)?),
        };
        let queue = QueueName::parse(text(&mut from, 1)?)?;
        let pinned = match layout {
            PINNED => 32,
            WITH_OPTIONS => from.number(1)?,
            _ => 0,
        };
        let pinned = if pinned > 0 { Some(revision(from.take(pinned as usize)?)?) } else { None };
        let kind = Kind::parse(text(&mut from, 1)?)?;
        let options = if layout == WITH_OPTIONS {
            let len = from.number(2)? as usize;
            options::read(from.take(len)?)?
        } else {
            JobOptions::default()
        };
        let asked = NewJob::new(id, queue, kind, from.rest().to_vec());
        Ok(Self { asked: NewJob { priority, unique_key, pinned, options, ..asked }, enqueued_at })
    }

    pub(super) fn leased(self, tenant: &TenantId, [attempts, expiries, faults]: [u32; 3]) -> Job {
        Job { attempts, expiries, faults, ..Job::of(self.asked, tenant.clone(), self.enqueued_at) }
    }

    /// Returns the record of the job. `at` is when a scheduled job is due, or when a leased job's lease expires; a blocked job of a flow
    /// waits for the jobs of `open`.
    pub(super) fn record(
        self,
        tenant: &TenantId,
        run: StoredRun,
        at: Option<Timestamp>,
        is_blocked: bool,
        mut open: Vec<JobId>,
    ) -> JobRecord {
        let state = match (run.state, at) {
            (State::Ready, _) if is_blocked => State::Blocked,
            (State::Ready, Some(_)) => State::Scheduled,
            (state, _) => state,
        };
        open.sort_unstable();
        JobRecord {
            state,
            reason: run.why.as_ref().map(|why| why.reason),
            message: run.why.and_then(|why| why.message),
            attempts: run.attempts,
            expiries: run.expiries,
            faults: run.faults,
            lease: run.lease,
            waits_for: open,
            due_at: at.filter(|_| state == State::Scheduled),
            leased_at: run.leased_at,
            lease_expires_at: at.filter(|_| state == State::Leased),
            finished_at: run.finished_at,
            output: run.output,
            progress: run.progress,
            usage: run.ran.map(|(usage, _)| usage).unwrap_or_default(),
            revision: run.ran.map(|(_, revision)| revision),
            history: run.history,
            ..JobRecord::of(self.asked, tenant.clone(), self.enqueued_at)
        }
    }
}

fn text<'a>(from: &mut Unpacker<'a>, length_bytes: usize) -> Read<&'a str> {
    let len = from.number(length_bytes)?;
    let bytes = from.take(usize::try_from(len).map_err(|_| Unreadable("a text is too long"))?)?;
    std::str::from_utf8(bytes).map_err(|_| Unreadable("a text is not UTF-8"))
}

/// The stored run: what happened to a job since it was enqueued.
#[derive(Debug)]
pub(super) struct StoredRun {
    state: State,
    attempts: u32,
    expiries: u32,
    faults: u32,
    lease: LeaseNo,
    leased_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    ran: Option<(Usage, Revision)>,
    why: Option<Why>,
    progress: Option<Progress>,
    output: Option<Vec<u8>>,
    history: Vec<AttemptRecord>,
}

#[derive(Debug)]
struct Why {
    reason: Reason,
    message: Option<String>,
}

impl StoredRun {
    /// Returns the run of a job that has none stored, as nothing happened to it yet.
    pub(super) fn none() -> Self {
        Self {
            state: State::Ready,
            attempts: 0,
            expiries: 0,
            faults: 0,
            lease: LeaseNo(0),
            leased_at: None,
            finished_at: None,
            ran: None,
            why: None,
            progress: None,
            output: None,
            history: Vec::new(),
        }
    }

    pub(super) fn read(bytes: &[u8]) -> Read<Self> {
        let mut from = Unpacker::new(bytes);
        let state = state(from.number(1)?)?;
        // The cancel request matters to the functions alone, and so does the unique key.
        from.number(1)?;
        let (attempts, expiries) = (count(from.number(4)?)?, count(from.number(4)?)?);
        let lease = LeaseNo(from.number(6)?);
        let (leased_at, finished_at) = (time(from.number(6)?), time(from.number(6)?));
        // Places that a later version has added behind those known to this one are skipped.
        let places = from.array()? as u64;
        if places < TAIL_PLACES {
            return Err(Unreadable("it was written by another version"));
        }
        from.optional(Unpacker::bytes)?;
        let ran = from.optional(Unpacker::bytes)?.map(read_ran).transpose()?;
        let why = from.optional(Unpacker::bytes)?.map(read_why).transpose()?;
        let progress = from.optional(Unpacker::bytes)?.map(read_progress).transpose()?;
        let output = from.optional(Unpacker::bytes)?.map(<[u8]>::to_vec);
        let faults = if places < FAULTS { None } else { from.optional(Unpacker::uint)? };
        let faults = count(faults.unwrap_or_default())?;
        let history = if places < HISTORY { None } else { from.optional(read_history)? };
        Ok(Self {
            state,
            attempts,
            expiries,
            faults,
            lease,
            leased_at,
            finished_at,
            ran,
            why,
            progress,
            output,
            history: history.unwrap_or_default(),
        })
    }
}

/// Converts a stored time; 0 stands for none.
fn time(millis: u64) -> Option<Timestamp> {
    (millis != 0).then(|| Timestamp::from_millis(millis))
}

/// The part of a job's first run that its settlement stores.
#[derive(Debug, Default)]
pub(super) struct Tail<'a> {
    pub(super) ran: Option<&'a Ran>,
    pub(super) why: Option<(Reason, Option<&'a str>)>,
    pub(super) progress: Option<&'a Progress>,
    pub(super) output: Option<&'a [u8]>,
    /// The reason why the attempt ended, with the beginning of its message, for its history.
    pub(super) ended: Option<(Reason, Option<&'a str>)>,
}

impl Tail<'_> {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut packer = Packer::default();
        let places = if self.ended.is_some() { HISTORY } else { TAIL_PLACES };
        packer.array(places as usize).absent();
        packer.optional_bytes(self.ran.map(ran_bytes).as_deref());
        packer.optional_bytes(self.why.map(|(reason, message)| why_bytes(reason, message)).as_deref());
        packer.optional_bytes(self.progress.map(progress_bytes).as_deref());
        packer.optional_bytes(self.output);
        if let Some((reason, brief)) = self.ended {
            packer.absent().bytes(&why_bytes(reason, brief));
        }
        packer.into_bytes()
    }
}

/// Returns the state with this number, as the functions use it.
pub(super) fn state(number: u64) -> Read<State> {
    u8::try_from(number).ok().and_then(State::from_code).ok_or(Unreadable("a state is unknown"))
}

/// Returns the number that the functions use for a state.
pub(super) const fn state_number(state: State) -> u64 {
    state.code() as u64
}

fn count(n: u64) -> Read<u32> {
    u32::try_from(n).map_err(|_| Unreadable("a count is out of range"))
}

fn ran_bytes(ran: &Ran) -> Vec<u8> {
    let Usage { fuel, memory_peak, wall, cpu, host_calls } = ran.usage;
    let mut bytes = Vec::with_capacity(5 * 9 + 32);
    for n in [fuel.0, memory_peak.0, micros(wall), micros(cpu), host_calls] {
        let all = n.to_be_bytes();
        let significant = &all[n.leading_zeros() as usize / 8..];
        bytes.push(short_len(significant));
        bytes.extend_from_slice(significant);
    }
    bytes.extend_from_slice(ran.revision.as_sha256());
    bytes
}

fn short_len(bytes: &[u8]) -> u8 {
    u8::try_from(bytes.len()).expect("a number has 8 bytes at most, and a revision 32")
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn read_ran(bytes: &[u8]) -> Read<(Usage, Revision)> {
    let mut from = Unpacker::new(bytes);
    let mut number = || {
        let len = from.number(1)?;
        if len > 8 { Err(Unreadable("a number is too long")) } else { from.number(len as usize) }
    };
    let usage = Usage {
        fuel: Fuel(number()?),
        memory_peak: Bytes(number()?),
        wall: Duration::from_micros(number()?),
        cpu: Duration::from_micros(number()?),
        host_calls: number()?,
    };
    Ok((usage, revision(from.rest())?))
}

fn revision(digest: &[u8]) -> Read<Revision> {
    let digest = digest.try_into().map_err(|_| Unreadable("a revision has another length"))?;
    Ok(Revision::from_sha256(digest))
}

pub(super) fn why_bytes(reason: Reason, message: Option<&str>) -> Vec<u8> {
    let mut packer = Packer::default();
    packer.array(2).bytes(reason.slug().as_bytes()).optional_bytes(message.map(str::as_bytes));
    packer.into_bytes()
}

fn read_why(bytes: &[u8]) -> Read<Why> {
    let mut from = Unpacker::new(bytes);
    from.array()?;
    let reason = Reason::from_slug(from.text()?).ok_or(Unreadable("a reason is unknown"))?;
    Ok(Why { reason, message: from.optional(Unpacker::text)?.map(str::to_owned) })
}

/// Reads the ends of attempts, each in the form of `runs.add_attempt` in `lua/layout.lua`.
fn read_history(from: &mut Unpacker<'_>) -> Read<Vec<AttemptRecord>> {
    let attempts = from.array()?;
    (0..attempts).map(|_| read_attempt(from)).collect()
}

fn read_attempt(from: &mut Unpacker<'_>) -> Read<AttemptRecord> {
    from.array()?;
    let (attempt, lease) = (count(from.uint()?)?, LeaseNo(from.uint()?));
    let (leased_at, ended_at) = (from.uint()?, from.uint()?);
    let why = from.optional(Unpacker::bytes)?.map(read_why).transpose()?;
    let ran = from.optional(Unpacker::bytes)?.map(read_ran).transpose()?;
    let daemon = from.optional(Unpacker::text)?.map(DaemonId::parse).transpose()?;
    let (reason, message) = why.map_or((None, None), |why| (Some(why.reason), why.message));
    Ok(AttemptRecord {
        attempt,
        lease,
        reason,
        message,
        leased_at: Timestamp::from_millis(leased_at),
        ended_at: Timestamp::from_millis(ended_at),
        daemon,
        revision: ran.map(|(_, revision)| revision),
        usage: ran.map(|(usage, _)| usage).unwrap_or_default(),
    })
}

/// Returns what is stored of a job of a flow with the flow; see `lua/flows.lua`.
pub(super) fn flow_node_bytes(place: usize, node: &FlowNode) -> Vec<u8> {
    let mut packer = Packer::default();
    packer.array(2 + 3 * node.parents.len()).uint(place as u64).bytes(node.name.as_str().as_bytes());
    for Parent { id, name, on_failure } in &node.parents {
        packer
            .bytes(id.to_string().as_bytes())
            .bytes(name.as_str().as_bytes())
            .uint(on_failure.code().into());
    }
    packer.into_bytes()
}

/// Reads what is stored of a job of a flow with the flow: its place, its name, and its parents.
pub(super) fn read_flow_node(bytes: &[u8]) -> Read<(u64, FlowJobName, Vec<Parent>)> {
    let mut from = Unpacker::new(bytes);
    let parents = from.array()?.saturating_sub(2) / 3;
    let (place, name) = (from.uint()?, FlowJobName::parse(from.text()?)?);
    let parents = (0..parents).map(|_| {
        let id = JobId::parse(from.text()?)?;
        let name = FlowJobName::parse(from.text()?)?;
        let code = u8::try_from(from.uint()?).ok();
        let on_failure =
            code.and_then(OnFailure::from_code).ok_or(Unreadable("a rule of an edge is unknown"))?;
        Ok(Parent { id, name, on_failure })
    });
    let parents = parents.collect::<Read<_>>()?;
    Ok((place, name, parents))
}

/// Returns what is stored of the jobs that come after one; see `lua/flows.lua`.
pub(super) fn after_bytes(node: &FlowNode, nodes: &[FlowNode]) -> Vec<u8> {
    let name = node.name.as_str();
    let mut bytes = vec![short(name)];
    bytes.extend_from_slice(name.as_bytes());
    for (place, on_failure) in &node.dependants {
        bytes.extend_from_slice(nodes[*place].job.id.to_string().as_bytes());
        bytes.push(on_failure.code());
    }
    bytes
}

pub(super) fn progress_bytes(progress: &Progress) -> Vec<u8> {
    let mut packer = Packer::default();
    packer.array(3).uint(progress.done).optional_uint(progress.total);
    packer.optional_bytes(progress.message.as_ref().map(String::as_bytes));
    packer.into_bytes()
}

fn read_progress(bytes: &[u8]) -> Read<Progress> {
    let mut from = Unpacker::new(bytes);
    from.array()?;
    Ok(Progress {
        done: from.uint()?,
        total: from.optional(Unpacker::uint)?,
        message: from.optional(Unpacker::text)?.map(str::to_owned),
    })
}

pub(super) fn log_line_bytes(line: &LogLine) -> Vec<u8> {
    let mut packer = Packer::default();
    packer.array(4 + 2 * line.fields.len());
    packer.uint(line.at.as_millis()).uint(line.attempt.into());
    packer.bytes(line.level.slug().as_bytes()).bytes(line.message.as_bytes());
    for (name, value) in &line.fields {
        packer.bytes(name.as_bytes()).bytes(value.as_bytes());
    }
    packer.into_bytes()
}

pub(super) fn read_log_line(bytes: &[u8]) -> Read<LogLine> {
    let mut from = Unpacker::new(bytes);
    let places = from.array()?;
    let at = Timestamp::from_millis(from.uint()?);
    let attempt = count(from.uint()?)?;
    let level = Level::from_slug(from.text()?).ok_or(Unreadable("a level is unknown"))?;
    let message = from.text()?.to_owned();
    let fields = places.saturating_sub(4) / 2;
    let fields = (0..fields).map(|_| Ok((from.text()?.to_owned(), from.text()?.to_owned())));
    Ok(LogLine { at, attempt, level, message, fields: fields.collect::<Read<_>>()? })
}

/// Reads an event, in the form of `lua/events.lua`.
pub(super) fn read_event(bytes: &[u8]) -> Read<JobEvent> {
    let mut from = Unpacker::new(bytes);
    let (cursor, at) = (EventCursor(from.number(8)?), Timestamp::from_millis(from.number(6)?));
    let event = u8::try_from(from.number(1)?).ok().and_then(EventKind::from_code);
    let event = event.ok_or(Unreadable("its kind of event is unknown"))?;
    let attempt = Some(count(from.number(4)?)?).filter(|attempt| *attempt > 0);
    let job = std::str::from_utf8(from.take(26)?).map_err(|_| Unreadable("a text is not UTF-8"))?;
    let job = JobId::parse(job)?;
    let (queue, kind) = (QueueName::parse(text(&mut from, 1)?)?, Kind::parse(text(&mut from, 1)?)?);
    let group = match text(&mut from, 1)? {
        "" => None,
        group => Some(GroupKey::parse(group)?),
    };
    let reason = Reason::from_slug(text(&mut from, 1)?);
    Ok(JobEvent { cursor, at, event, job, queue, kind, group, attempt, reason })
}

/// Returns what of a breaker holds jobs back, in the form of `lua/holds.lua`.
pub(super) fn gate_bytes(gate: &Barrier) -> Vec<u8> {
    let Barrier { kinds, reason, since, shut, probes } = gate;
    let time = |at: Timestamp| at.as_millis().min(codes::NEVER - 1);
    let until = match shut {
        Shut::No => 0,
        Shut::Until(until) => time(*until),
        Shut::Always => codes::NEVER,
    };
    let (most, lapses) = probes.map_or((0, 0), |probes| (probes.most.get(), time(probes.until)));
    let mut out = Packer::default();
    out.array(GATE_HEAD + kinds.len()).uint(until).uint(most.into()).uint(lapses);
    out.uint(time(*since)).bytes(reason.slug().as_bytes());
    for kind in kinds {
        out.bytes(kind.as_str().as_bytes());
    }
    out.into_bytes()
}

/// Number of what stands before the kinds of a gate.
const GATE_HEAD: usize = codes::GATE_KINDS as usize - 1;

/// Reads what [`gate_bytes`] has made.
pub(super) fn read_gate(bytes: &[u8]) -> Result<Barrier, Unreadable> {
    let mut from = Unpacker::new(bytes);
    let count = from.array()?.checked_sub(GATE_HEAD).ok_or(Unreadable("it is cut"))?;
    let shut = match from.uint()? {
        0 => Shut::No,
        codes::NEVER => Shut::Always,
        until => Shut::Until(Timestamp::from_millis(until)),
    };
    let (most, lapses) = (from.uint()?, Timestamp::from_millis(from.uint()?));
    let most = NonZeroU32::new(u32::try_from(most).unwrap_or(u32::MAX));
    let since = Timestamp::from_millis(from.uint()?);
    let reason = HoldReason::from_slug(from.text()?).ok_or(Unreadable("a hold's reason is unknown"))?;
    let kind = |_| Kind::parse(from.text()?).map_err(|_| Unreadable("a kind is none"));
    let kinds = (0..count).map(kind).collect::<Result<_, _>>()?;
    Ok(Barrier { kinds, reason, since, shut, probes: most.map(|most| Probes { most, until: lapses }) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(
            numbers: [u64; 5], shift in 0..64u32, digest: [u8; 32], done: u64, total: Option<u64>, text: Option<String>,
            fields: Vec<(String, String)>, at in 0..1u64 << 48, attempt: u32,
        ) {
            let [fuel, peak, wall, cpu, calls] = numbers.map(|n| n >> shift);
            let usage = Usage {
                fuel: Fuel(fuel),
                memory_peak: Bytes(peak),
                wall: Duration::from_micros(wall),
                cpu: Duration::from_micros(cpu),
                host_calls: calls,
            };
            let revision = Revision::from_sha256(digest);
            let plugin = sandhog_core::id::PluginName::parse("p").expect("a valid name");
            let daemon = DaemonId::from_parts(Timestamp::from_millis(1), 1);
            let ran = Ran::new(daemon, plugin, revision, usage);
            prop_assert_eq!(read_ran(&ran_bytes(&ran)), Ok((usage, revision)));

            let progress = Progress { done, total, message: text.clone() };
            prop_assert_eq!(read_progress(&progress_bytes(&progress)), Ok(progress));

            let message = text.unwrap_or_default();
            let line = LogLine { at: Timestamp::from_millis(at), attempt, level: Level::Warn, message, fields };
            prop_assert_eq!(read_log_line(&log_line_bytes(&line)), Ok(line));
        }

        #[test]
        fn reading_any_bytes_never_panics(bytes: Vec<u8>) {
            let _ = (StoredJob::read(JobId::from_parts(Timestamp::from_millis(0), 0), &bytes).is_ok(), StoredRun::read(&bytes).is_ok(), read_log_line(&bytes).is_ok(), read_event(&bytes).is_ok());
            let _ = (read_ran(&bytes), read_progress(&bytes), read_why(&bytes).is_ok());
        }
    }

    #[test]
    fn the_functions_know_states_by_their_place() {
        for known in State::ALL {
            assert_eq!(state(state_number(known)), Ok(known));
        }
        assert!(state(State::ALL.len() as u64).is_err());
    }
}
