//! Seals what goes to the store for one tenant, and opens what comes from it.

use sandhog_core::budget::Bytes;
use sandhog_core::edit::JobEdit;
use sandhog_core::flow::FlowJobView;
use sandhog_core::group_limit::{GroupLimit, GroupLimitChange};
use sandhog_core::hold::{Hold, NewHold};
use sandhog_core::id::{
    GroupKey, JobId, Kind, LeaseToken, PluginName, QueueName, StateKey, TenantId, UniqueKey,
};
use sandhog_core::job::{Job, JobOptions, JobRecord, LogLine, NewJob, Progress};
use sandhog_core::keyring::Keyring;
use sandhog_core::quota::QueueBounds;
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;
use std::time::Duration;

use super::envelope::{
    AssociatedData, NoActiveKey, Unopened, is_sealed_text, open, open_text, overhead, seal, seal_text,
};
use crate::{
    BreakerWrite, Breakers, Error, Look, Page, ParentView, Renew, Result, ScheduleRecord, ScheduleWrite,
    Schedules, Seen, Settle, StoredBreaker, StoredSchedule,
};

/// Delay before a job whose key is missing is leased again: somebody may still add the key.
const NO_KEY_REST: Duration = Duration::from_secs(60);

/// Maximum number of releases for a missing key, with no attempt that ended in between, before a job is buried.
const NO_KEY_FAULTS_MAX: u32 = 100;

/// A tenant and its keys.
pub(super) struct Sealer<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) keys: Keyring,
}

/// The content of a log line, which is sealed in one piece: message and fields.
type Line = (String, Vec<(String, String)>);

impl Sealer<'_> {
    pub(super) fn seal(&self, place: AssociatedData<'_>, plain: &[u8]) -> Result<Vec<u8>> {
        seal(&self.keys, self.tenant, place, plain).map_err(|NoActiveKey| self.no_active_key())
    }

    /// Returns by how many bytes sealing makes something longer.
    fn overhead(&self) -> u64 {
        overhead(&self.keys) as u64
    }

    /// Returns bounds for sealed payloads. The bound is on a payload as its producer made it, so what sealing adds isn't counted.
    pub(super) fn bounds(&self, bounds: &QueueBounds) -> QueueBounds {
        QueueBounds { payload: Bytes(bounds.payload.0.saturating_add(self.overhead())), ..*bounds }
    }

    fn seal_text(&self, place: AssociatedData<'_>, plain: &str) -> Result<String> {
        seal_text(&self.keys, self.tenant, place, plain).map_err(|NoActiveKey| self.no_active_key())
    }

    fn no_active_key(&self) -> Error {
        let (tenant, id) = (self.tenant, self.keys.active());
        Error::Unfit {
            problem: format!(
                "nothing can be written for tenant {tenant}: the key `{id}`, by which its data is sealed, is not at \
                 hand; see tenants.{tenant}.encryption.keys"
            ),
        }
    }

    pub(super) fn error(&self, place: AssociatedData<'_>, why: &Unopened) -> Error {
        Error::Sealed { what: place.to_string(), tenant: self.tenant.clone(), why: why.to_string() }
    }

    /// Seals the record of a schedule, which holds a payload, and its jobs.
    pub(super) fn schedule(&self, write: &ScheduleWrite) -> Result<ScheduleWrite> {
        let ScheduleWrite { name, expected, record, jobs, bounds } = write;
        let seal = |ScheduleRecord { bytes, due_at }: &ScheduleRecord| {
            let bytes = self.seal(AssociatedData::Schedule { name }, bytes)?;
            Ok(ScheduleRecord { bytes, due_at: *due_at })
        };
        Ok(ScheduleWrite {
            name: name.clone(),
            expected: *expected,
            record: record.as_ref().map(seal).transpose()?,
            jobs: self.jobs(jobs)?,
            bounds: self.bounds(bounds),
        })
    }

    /// Opens the record of a schedule. If it can't be opened, it says so instead.
    fn open_schedule(&self, schedule: StoredSchedule) -> StoredSchedule {
        let StoredSchedule { name, version, due_at, record } = schedule;
        let place = AssociatedData::Schedule { name: &name };
        let record = record.and_then(|record| {
            open(&self.keys, self.tenant, place, record).map_err(|why| self.error(place, &why).to_string())
        });
        StoredSchedule { name, version, due_at, record }
    }

    pub(super) fn jobs(&self, jobs: &[NewJob]) -> Result<Vec<NewJob>> {
        jobs.iter().map(|job| self.job(job)).collect()
    }

    pub(super) fn job(&self, job: &NewJob) -> Result<NewJob> {
        // The store goes by all of these, so it has to be able to read them.
        let NewJob { id, kind, queue: _, payload, delay: _, priority: _, unique_key, pinned: _, options } =
            job;
        let JobOptions {
            group: _,
            start_within: _,
            deadline: _,
            labels: _,
            content_type: _,
            trace: _,
            flow: _,
            unique: _,
        } = options;
        let place = payload_of(*id, kind, unique_key.as_ref(), options);
        Ok(NewJob { payload: self.seal(place, payload)?, ..job.clone() })
    }

    /// Seals the payload of an edit for the place of this job's payload.
    pub(super) fn edit(&self, edit: JobEdit, job: &JobRecord) -> Result<JobEdit> {
        let JobEdit { payload, priority, due } = edit;
        let place = payload_of(job.id, &job.kind, job.unique_key.as_ref(), &job.options);
        let payload = payload.map(|payload| self.seal(place, &payload)).transpose()?;
        Ok(JobEdit { payload, priority, due })
    }

    /// Opens the payload of a leased job.
    pub(super) fn open_job(&self, job: &mut Job) -> std::result::Result<(), Unopened> {
        let place = payload_of(job.id, &job.kind, job.unique_key.as_ref(), &job.options);
        job.payload = open(&self.keys, self.tenant, place, std::mem::take(&mut job.payload))?;
        Ok(())
    }

    /// Creates the settlement of a leased job that needs something which can't be opened. If the key is missing, or plain
    /// text is refused, the job is released for [`NO_KEY_REST`] at no cost of an attempt, up to [`NO_KEY_FAULTS_MAX`] times.
    /// Otherwise it is buried, as what was forged never opens.
    pub(super) fn refusal(
        &self,
        token: LeaseToken,
        faults: u32,
        place: AssociatedData<'_>,
        why: &Unopened,
    ) -> Settle {
        let reason = Reason::Unreadable;
        let settlement = match why {
            Unopened::NoSuchKey(_) | Unopened::Plain if faults < NO_KEY_FAULTS_MAX => {
                Settlement::Release { after: NO_KEY_REST, reason }
            }
            // In plain text: the message is the daemon's own, and the store has seen all of it.
            _ => Settlement::Bury { reason, message: self.error(place, why).to_string() },
        };
        Settle::new(token, settlement)
    }

    pub(super) fn renew(&self, renew: &Renew) -> Result<Renew> {
        let job = renew.token.job;
        Ok(Renew {
            token: renew.token,
            progress: self.progress(job, renew.progress.as_ref())?,
            log: self.log(job, &renew.log)?,
        })
    }

    /// Seals the progress message, which is the handler's. The numbers stay in plain text.
    pub(super) fn progress(&self, job: JobId, progress: Option<&Progress>) -> Result<Option<Progress>> {
        let Some(Progress { done, total, message }) = progress else { return Ok(None) };
        let message = message.as_deref().map(|text| self.seal_text(AssociatedData::Progress { job }, text));
        Ok(Some(Progress { done: *done, total: *total, message: message.transpose()? }))
    }

    pub(super) fn log(&self, job: JobId, lines: &[LogLine]) -> Result<Vec<LogLine>> {
        lines.iter().map(|line| self.log_line(job, line)).collect()
    }

    /// Seals message and fields of a log line as one, in the place of the message.
    fn log_line(&self, job: JobId, line: &LogLine) -> Result<LogLine> {
        let text =
            serde_json::to_string(&(&line.message, &line.fields)).expect("texts can be written as JSON");
        let message = self.seal_text(place_of(job, line), &text)?;
        Ok(LogLine { at: line.at, attempt: line.attempt, level: line.level, message, fields: Vec::new() })
    }

    /// Seals the message of why an attempt failed, which at times is the guest's.
    pub(super) fn message(&self, job: JobId, message: &str) -> Result<String> {
        self.seal_text(AssociatedData::Message { job }, message)
    }

    /// Seals the beginning of that message, as the history of attempts keeps it.
    pub(super) fn brief(&self, token: LeaseToken, brief: &str) -> Result<String> {
        self.seal_text(AssociatedData::Attempt { job: token.job, lease: token.lease }, brief)
    }

    /// Opens the sealed parts of an answer.
    pub(super) fn open_seen(&self, look: &Look, seen: Seen) -> Result<Seen> {
        Ok(match (look, seen) {
            (_, Seen::Job(Some(record))) => Seen::Job(Some(Box::new(self.open_record(*record, true)))),
            (Look::Jobs(query), Seen::Jobs(page)) => {
                let opened = page.jobs.into_iter().map(|record| self.open_record(record, query.payloads));
                let jobs = opened.filter(|record| query.filter.passes_message(record)).collect();
                Seen::Jobs(Page { jobs, ..page })
            }
            (Look::Log(job), Seen::Log(lines)) => {
                Seen::Log(lines.into_iter().map(|line| self.open_line(*job, line)).collect())
            }
            (_, Seen::Flow(Some(mut flow))) => {
                let open = |view: FlowJobView| FlowJobView { job: self.open_record(view.job, false), ..view };
                flow.jobs = flow.jobs.into_iter().map(open).collect();
                Seen::Flow(Some(flow))
            }
            (_, Seen::Parents(parents)) => {
                let open = |parent| self.open_parent(parent);
                Seen::Parents(parents.into_iter().map(open).collect::<Result<_>>()?)
            }
            (Look::State { plugin, key }, Seen::State(Some(raw))) => {
                let opened = self.open_state(plugin, key, raw);
                Seen::State(Some(
                    opened.map_err(|why| self.error(AssociatedData::State { plugin, key }, &why))?,
                ))
            }
            (_, Seen::Holds(holds)) => {
                Seen::Holds(holds.into_iter().map(|hold| self.open_hold(hold)).collect())
            }
            (_, Seen::Limits(mut limits)) => {
                for (limit, _) in &mut limits.groups {
                    self.open_limit(limit);
                }
                Seen::Limits(limits)
            }
            (_, Seen::Why(Some(mut facts))) => {
                let holds = std::mem::take(&mut facts.holds);
                facts.holds = holds.into_iter().map(|hold| self.open_hold(hold)).collect();
                Seen::Why(Some(facts))
            }
            (_, Seen::Breakers(Breakers { now, breakers })) => {
                let breakers = breakers.into_iter().map(|breaker| self.open_breaker(breaker)).collect();
                Seen::Breakers(Breakers { now, breakers })
            }
            (_, Seen::Schedules(Schedules { now, schedules })) => {
                let schedules = schedules.into_iter().map(|schedule| self.open_schedule(schedule)).collect();
                Seen::Schedules(Schedules { now, schedules })
            }
            (_, plain) => plain,
        })
    }

    /// Seals the record of a breaker, which has the notes of those who changed it by hand. Its gate stays in plain text.
    pub(super) fn breaker(&self, mut write: BreakerWrite) -> Result<BreakerWrite> {
        if let Some(record) = &mut write.record {
            record.bytes = self.seal(AssociatedData::Breaker { name: &write.name }, &record.bytes)?;
        }
        Ok(write)
    }

    /// Opens the record of a breaker. If it can't be opened, it says so instead.
    fn open_breaker(&self, mut breaker: StoredBreaker) -> StoredBreaker {
        let place = AssociatedData::Breaker { name: &breaker.name };
        breaker.record = breaker.record.and_then(|record| {
            open(&self.keys, self.tenant, place, record).map_err(|why| self.error(place, &why).to_string())
        });
        breaker
    }

    /// Seals the note of a hold. Who made it, when and why stays in plain text.
    pub(super) fn hold(&self, hold: NewHold) -> Result<NewHold> {
        let NewHold { scope, reason, by, end, note } = hold;
        let note = note.map(|note| self.seal_text(AssociatedData::HoldNote { scope: &scope }, &note));
        let note = note.transpose()?;
        Ok(NewHold { scope, reason, by, end, note })
    }

    /// Opens the note of a hold. If it can't be opened, it says so instead.
    fn open_hold(&self, mut hold: Hold) -> Hold {
        let place = AssociatedData::HoldNote { scope: &hold.scope };
        hold.note = hold.note.take().map(|note| {
            open_text(&self.keys, self.tenant, place, note)
                .unwrap_or_else(|why| self.error(place, &why).to_string())
        });
        hold
    }

    /// Seals the note of a group's limit. Who set it, when and how stays in plain text.
    pub(super) fn group_limit(
        &self,
        queue: &QueueName,
        group: &GroupKey,
        change: GroupLimitChange,
    ) -> Result<GroupLimitChange> {
        Ok(match change {
            GroupLimitChange::Set(mut new) => {
                let place = AssociatedData::LimitNote { queue, group };
                new.note = new.note.map(|note| self.seal_text(place, &note)).transpose()?;
                GroupLimitChange::Set(new)
            }
            plain @ (GroupLimitChange::Switch { .. } | GroupLimitChange::Unset) => plain,
        })
    }

    /// Opens the note of a group's limit. If it can't be opened, it says so instead.
    fn open_limit(&self, limit: &mut GroupLimit) {
        let place = AssociatedData::LimitNote { queue: &limit.queue, group: &limit.group };
        limit.note = limit.note.take().map(|note| {
            open_text(&self.keys, self.tenant, place, note)
                .unwrap_or_else(|why| self.error(place, &why).to_string())
        });
    }

    /// Opens all that is sealed of a job, which may have come without its payload and output (`has_payloads`). What can't be
    /// opened is left empty, and the record says so.
    pub(super) fn open_record(&self, mut record: JobRecord, has_payloads: bool) -> JobRecord {
        let job = record.id;
        let mut unreadable: Option<String> = None;
        let mut note = |place: AssociatedData<'_>, why: &Unopened| {
            unreadable.get_or_insert_with(|| self.error(place, why).to_string());
        };
        if has_payloads {
            let place = payload_of(job, &record.kind, record.unique_key.as_ref(), &record.options);
            record.payload = open(&self.keys, self.tenant, place, record.payload).unwrap_or_else(|why| {
                note(place, &why);
                Vec::new()
            });
        }
        let place = AssociatedData::Output { job };
        record.output = record.output.and_then(|output| {
            open(&self.keys, self.tenant, place, output).inspect_err(|why| note(place, why)).ok()
        });
        let place = AssociatedData::Message { job };
        if !record.reason.is_some_and(is_ours) || record.message.as_deref().is_some_and(is_sealed_text) {
            record.message = record.message.and_then(|message| {
                open_text(&self.keys, self.tenant, place, message).inspect_err(|why| note(place, why)).ok()
            });
        }
        let place = AssociatedData::Progress { job };
        if let Some(progress) = &mut record.progress {
            progress.message = progress.message.take().and_then(|message| {
                open_text(&self.keys, self.tenant, place, message).inspect_err(|why| note(place, why)).ok()
            });
        }
        for attempt in &mut record.history {
            let place = AssociatedData::Attempt { job, lease: attempt.lease };
            attempt.message = attempt.message.take().and_then(|message| {
                open_text(&self.keys, self.tenant, place, message).inspect_err(|why| note(place, why)).ok()
            });
        }
        record.unreadable = unreadable.or_else(|| record.unreadable.take());
        record
    }

    fn open_parent(&self, parent: ParentView) -> Result<ParentView> {
        let place = AssociatedData::Output { job: parent.id };
        let opened = parent.output.map(|output| open(&self.keys, self.tenant, place, output)).transpose();
        Ok(ParentView { output: opened.map_err(|why| self.error(place, &why))?, ..parent })
    }

    /// Opens a line of a job's log. If it can't be opened, its message says so instead.
    pub(super) fn open_line(&self, job: JobId, line: LogLine) -> LogLine {
        let place = place_of(job, &line);
        let LogLine { at, attempt, level, message, fields } = line;
        let is_sealed = is_sealed_text(&message);
        let opened = open_text(&self.keys, self.tenant, place, message);
        let (message, fields) = match opened {
            Ok(text) if is_sealed => serde_json::from_str::<Line>(&text)
                .unwrap_or_else(|_| (self.error(place, &Unopened::Malformed).to_string(), Vec::new())),
            Ok(message) => (message, fields),
            Err(why) => (self.error(place, &why).to_string(), Vec::new()),
        };
        LogLine { at, attempt, level, message, fields }
    }

    pub(super) fn open_state(
        &self,
        plugin: &PluginName,
        key: &StateKey,
        stored: Vec<u8>,
    ) -> std::result::Result<Vec<u8>, Unopened> {
        open(&self.keys, self.tenant, AssociatedData::State { plugin, key }, stored)
    }
}

/// Returns the place of a job's payload. One that may come with a later job is bound to what both have: the key and the kind.
pub(super) fn payload_of<'a>(
    job: JobId,
    kind: &'a Kind,
    key: Option<&'a UniqueKey>,
    options: &JobOptions,
) -> AssociatedData<'a> {
    match key.filter(|_| options.unique.is_replaceable()) {
        Some(key) => AssociatedData::KeyPayload { key, kind },
        None => AssociatedData::Payload { job, kind },
    }
}

fn place_of(job: JobId, line: &LogLine) -> AssociatedData<'static> {
    AssociatedData::LogLine { job, at: line.at, attempt: line.attempt, level: line.level }
}

/// Whether the broker itself writes the message of this reason, and so in plain text.
fn is_ours(reason: Reason) -> bool {
    matches!(reason, Reason::LeaseExpired | Reason::Unreadable | Reason::ParentFailed | Reason::GroupFailed)
}
