//! Documents, read back into what they were made of, for a client that renders and waits as a daemon's own commands do.

use std::str::FromStr;
use std::time::Duration;

use sandhog_core::budget::{Bytes, Fuel};
use sandhog_core::event::{EventCursor, EventKind, JobEvent};
use sandhog_core::flow::{FlowJobView, FlowMember, OnFailure, Parent};
use sandhog_core::history::AttemptRecord;
use sandhog_core::hold::{Hold, HoldReason, HoldScope};
use sandhog_core::id::{JobId, LeaseNo, TenantId, UniqueKey};
use sandhog_core::job::{JobOptions, JobRecord, Level, LogLine, Priority, Progress, State, TraceContext};
use sandhog_core::labels::Labels;
use sandhog_core::outcome::Usage;
use sandhog_core::reason::Reason;
use sandhog_core::time::Timestamp;
use sandhog_core::unique::UniqueRule;

use crate::time::parse_time;
use crate::{
    AfterDocument, AttemptDocument, Content, EventDocument, FlowDocument, FlowJobDocument, HoldDocument,
    JobDocument, LogDocument, ProgressDocument, StoredFlowDocument, UsageDocument,
};

/// Part of an answer that this version can't read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the answer has a {what} that can't be read: {value:?}")]
pub struct Unreadable {
    what: &'static str,
    value: String,
}

impl Unreadable {
    fn new(what: &'static str, value: &str) -> Self {
        const SHOWN_MAX: usize = 80;
        Self { what, value: value.chars().take(SHOWN_MAX).collect() }
    }
}

fn name<T: FromStr>(what: &'static str, text: &str) -> Result<T, Unreadable> {
    text.parse().map_err(|_| Unreadable::new(what, text))
}

fn maybe<T: FromStr>(what: &'static str, text: Option<&str>) -> Result<Option<T>, Unreadable> {
    text.map(|text| name(what, text)).transpose()
}

fn time(text: &str) -> Result<Timestamp, Unreadable> {
    parse_time(text).map_err(|_| Unreadable::new("time", text))
}

/// Reads a reason. One of a later version is left out.
fn reason(slug: Option<&str>) -> Option<Reason> {
    slug.and_then(Reason::from_slug)
}

/// Job, as a document has it.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRead {
    /// The job. What no document tells is as of a job to which nothing has happened: the number of its lease, the revision to
    /// which it is pinned, the rule of its unique key.
    pub job: JobRecord,
    /// Its log; empty where jobs are listed.
    pub log: Vec<LogLine>,
}

impl JobDocument {
    /// Reads the job back.
    ///
    /// # Errors
    /// A later version has written it in a way that this one can't read.
    pub fn read(&self) -> Result<JobRead, Unreadable> {
        let state = State::from_slug(&self.state).ok_or_else(|| Unreadable::new("state", &self.state))?;
        // Times that no calendar has are null, and named.
        let at = |name: &str, text: &Option<String>| match text {
            None if self.never.iter().any(|never| never == name) => {
                Ok(Some(Timestamp::from_millis(u64::MAX)))
            }
            text => text.as_deref().map(time).transpose(),
        };
        let enqueued_at = at("enqueued_at", &self.enqueued_at)?.unwrap_or(Timestamp::from_millis(0));
        let within = |text: &Option<String>| -> Result<Option<Duration>, Unreadable> {
            let by = text.as_deref().map(time).transpose()?;
            Ok(by.map(|by| by.since(enqueued_at)))
        };
        let bytes = |content: &Content| content.bytes().ok_or_else(|| Unreadable::new("payload", "no hex"));
        let output = self.output.as_ref().and_then(Option::as_ref);
        let trace = match &self.traceparent {
            Some(parent) => Some(TraceContext {
                parent: name("traceparent", parent)?,
                state: maybe("tracestate", self.tracestate.as_deref())?,
            }),
            None => None,
        };
        let flow = maybe("flow", self.flow.as_deref())?.map(|flow| FlowMember {
            flow,
            has_parents: false,
            has_dependants: false,
            takes_outputs: false,
            delay: Duration::ZERO,
        });
        let labels = self.labels.iter().map(|(key, value)| Ok((name("label", key)?, name("label", value)?)));
        let labels: Vec<_> = labels.collect::<Result<_, Unreadable>>()?;
        let job = JobRecord {
            id: name("id", &self.id)?,
            tenant: name("tenant", &self.tenant)?,
            queue: name("queue", &self.queue)?,
            kind: name("kind", &self.kind)?,
            payload: self.payload.as_ref().map(bytes).transpose()?.unwrap_or_default(),
            priority: Priority(self.priority),
            unique_key: self.unique_key.as_deref().map(|key| self.unique_key(key)).transpose()?,
            pinned: None,
            options: JobOptions {
                group: maybe("group", self.group.as_deref())?,
                start_within: within(&self.start_by)?,
                deadline: within(&self.deadline)?,
                labels: Labels::of(labels).map_err(|error| Unreadable::new("label", &error.to_string()))?,
                content_type: maybe("content type", self.content_type.as_deref())?,
                trace,
                flow,
                unique: UniqueRule::default(),
            },
            state,
            reason: reason(self.reason.as_deref()),
            message: self.message.clone(),
            attempts: self.attempts,
            expiries: self.expiries,
            faults: 0,
            lease: LeaseNo(0),
            enqueued_at,
            waits_for: self.waits_for.iter().map(|id| name("id", id)).collect::<Result<_, _>>()?,
            due_at: at("due_at", &self.due_at)?,
            leased_at: at("leased_at", &self.leased_at)?,
            lease_expires_at: at("lease_expires_at", &self.lease_expires_at)?,
            finished_at: at("finished_at", &self.finished_at)?,
            output: output.map(bytes).transpose()?,
            progress: self.progress.as_ref().map(ProgressDocument::read),
            usage: self.usage.read(),
            revision: maybe("revision", self.revision.as_deref())?,
            history: self.history.iter().flatten().map(AttemptDocument::read).collect::<Result<_, _>>()?,
            unreadable: self.unreadable.clone(),
        };
        let log = self.log.iter().flatten().map(LogDocument::read).collect::<Result<_, _>>()?;
        Ok(JobRead { job, log })
    }

    /// Returns the key as a store holds it, behind its kind; that of an earlier version as it is.
    fn unique_key(&self, key: &str) -> Result<UniqueKey, Unreadable> {
        format!("{}/{key}", self.kind).parse().or_else(|_| name("unique key", key))
    }
}

impl ProgressDocument {
    fn read(&self) -> Progress {
        Progress { done: self.done, total: self.total, message: self.message.clone() }
    }
}

impl UsageDocument {
    fn read(&self) -> Usage {
        Usage {
            fuel: Fuel(self.fuel),
            memory_peak: Bytes(self.memory_peak),
            wall: Duration::from_micros(self.wall_us),
            cpu: Duration::from_micros(self.cpu_us),
            host_calls: self.host_calls,
        }
    }
}

impl AttemptDocument {
    fn read(&self) -> Result<AttemptRecord, Unreadable> {
        Ok(AttemptRecord {
            attempt: self.attempt,
            lease: LeaseNo(0),
            reason: reason(self.reason.as_deref()),
            message: self.message.clone(),
            leased_at: time(&self.leased_at)?,
            ended_at: time(&self.ended_at)?,
            daemon: maybe("daemon", self.daemon.as_deref())?,
            revision: maybe("revision", self.revision.as_deref())?,
            usage: self.usage.read(),
        })
    }
}

impl LogDocument {
    fn read(&self) -> Result<LogLine, Unreadable> {
        let Self { at, attempt, level, message, fields } = self;
        let level = Level::from_slug(level).ok_or_else(|| Unreadable::new("level", level))?;
        let (message, fields) = (message.clone(), fields.clone());
        Ok(LogLine { at: time(at)?, attempt: *attempt, level, message, fields })
    }
}

impl HoldDocument {
    /// Reads the hold back.
    ///
    /// # Errors
    /// A later version has written it in a way that this one can't read.
    pub fn read(&self) -> Result<Hold, Unreadable> {
        let reason = HoldReason::from_slug(&self.reason);
        Ok(Hold {
            scope: HoldScope {
                queue: maybe("queue", self.queue.as_deref())?,
                kind: maybe("kind", self.kind.as_deref())?,
            },
            reason: reason.ok_or_else(|| Unreadable::new("reason", &self.reason))?,
            by: self.by.clone(),
            since: self.since.as_deref().map_or(Ok(Timestamp::from_millis(u64::MAX)), time)?,
            until: self.until.as_deref().map(time).transpose()?,
            note: self.note.clone(),
        })
    }
}

impl StoredFlowDocument {
    /// Reads whose the flow is, and the ids of its jobs.
    ///
    /// # Errors
    /// A later version has written them in a way that this one can't read.
    pub fn read(&self) -> Result<(TenantId, Vec<JobId>), Unreadable> {
        let ids = self.jobs.iter().map(|job| name("id", &job.id)).collect::<Result<_, _>>()?;
        Ok((name("tenant", &self.tenant)?, ids))
    }
}

impl FlowDocument {
    /// Reads the jobs back.
    ///
    /// # Errors
    /// A later version has written them in a way that this one can't read.
    pub fn read(&self) -> Result<Vec<FlowJobView>, Unreadable> {
        self.jobs.iter().map(FlowJobDocument::read).collect()
    }
}

impl FlowJobDocument {
    fn read(&self) -> Result<FlowJobView, Unreadable> {
        Ok(FlowJobView {
            name: name("name of a job", &self.name)?,
            parents: self.after.iter().map(AfterDocument::read).collect::<Result<_, _>>()?,
            job: self.job.read()?.job,
        })
    }
}

impl AfterDocument {
    fn read(&self) -> Result<Parent, Unreadable> {
        let on_failure = OnFailure::from_slug(&self.on_failure);
        Ok(Parent {
            id: name("id", &self.id)?,
            name: name("name of a job", &self.job)?,
            on_failure: on_failure.ok_or_else(|| Unreadable::new("on_failure", &self.on_failure))?,
        })
    }
}

impl EventDocument {
    /// Reads the event back, and whose it is.
    ///
    /// # Errors
    /// A later version has written it in a way that this one can't read.
    pub fn read(&self) -> Result<(TenantId, JobEvent), Unreadable> {
        let tenant: TenantId = name("tenant", &self.tenant)?;
        let event = JobEvent {
            cursor: cursor(&self.cursor, &tenant)?,
            at: self.at.as_deref().map_or(Ok(Timestamp::from_millis(u64::MAX)), time)?,
            event: EventKind::from_slug(&self.event).ok_or_else(|| Unreadable::new("event", &self.event))?,
            job: name::<JobId>("id", &self.job)?,
            queue: name("queue", &self.queue)?,
            kind: name("kind", &self.kind)?,
            group: maybe("group", self.group.as_deref())?,
            attempt: self.attempt,
            reason: reason(self.reason.as_deref()),
        };
        Ok((tenant, event))
    }
}

fn cursor(text: &str, tenant: &TenantId) -> Result<EventCursor, Unreadable> {
    EventCursor::parse(text, tenant).map_err(|_| Unreadable::new("cursor", text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sandhog_core::hold::HoldReason;
    use sandhog_core::id::{DaemonId, Kind, QueueName};
    use sandhog_core::job::NewJob;
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::{Payloads, UsageReport, UsageRow};

    fn again<T: Serialize + DeserializeOwned>(document: &T) -> T {
        let text = serde_json::to_string(document).expect("documents can be written");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn at() -> impl Strategy<Value = Timestamp> {
        // From 1970 to 9999, and one that no calendar has.
        prop_oneof![9 => 0..253_402_300_799_999_u64, 1 => Just(u64::MAX)].prop_map(Timestamp::from_millis)
    }

    fn kind() -> Kind {
        Kind::parse("a.run").expect("valid")
    }

    prop_compose! {
        fn record()(
            payload in prop_oneof!["[a-z\u{e4}]{0,8}".prop_map(String::into_bytes), any::<Vec<u8>>(), Just(b"{\"n\": 1.50}".to_vec())],
            output in prop::option::of(any::<Vec<u8>>()),
            state in prop::sample::select(State::ALL.to_vec()),
            reason in prop::option::of(prop::sample::select(Reason::ALL.to_vec())),
            message in prop::option::of(any::<String>()),
            times in prop::array::uniform4(prop::option::of(at())),
            enqueued_at in 0..253_402_000_000_000_u64,
            within in prop::array::uniform2(prop::option::of(0..1_000_000_u64)),
            key in prop::option::of("[a-z/]{1,9}"),
            numbers in prop::array::uniform4(any::<u32>()),
            fuel in any::<u64>(),
            progress in prop::option::of((any::<u64>(), prop::option::of(any::<u64>()))),
        ) -> JobRecord {
            let new = NewJob::new(
                JobId::from_parts(Timestamp::from_millis(7), 9),
                QueueName::parse("q").expect("valid"),
                kind(),
                payload,
            );
            let tenant = TenantId::parse("acme").expect("valid");
            let [due_at, leased_at, lease_expires_at, finished_at] = times;
            let usage = Usage { fuel: Fuel(fuel), host_calls: fuel, wall: Duration::from_micros(3), ..Usage::default() };
            let past = AttemptRecord {
                attempt: numbers[0], lease: LeaseNo(0), reason, message: message.clone(),
                leased_at: Timestamp::from_millis(1), ended_at: Timestamp::from_millis(2),
                daemon: Some(DaemonId::from_parts(Timestamp::from_millis(5), 6)), revision: None, usage,
            };
            JobRecord {
                state, reason, message, due_at, leased_at, lease_expires_at, finished_at, output, usage,
                priority: Priority(7),
                unique_key: key.map(|key| format!("a.run/{key}").parse().expect("valid")),
                attempts: numbers[1], expiries: numbers[2],
                progress: progress.map(|(done, total)| Progress { done, total, message: None }),
                history: vec![past],
                options: JobOptions {
                    start_within: within[0].map(Duration::from_millis),
                    deadline: within[1].map(Duration::from_millis),
                    ..JobOptions::default()
                },
                lease: LeaseNo(0),
                ..JobRecord::of(new, tenant, Timestamp::from_millis(enqueued_at))
            }
        }
    }

    proptest! {
        #[test]
        fn a_job_is_read_back_as_it_was(record in record()) {
            let document = JobDocument::new(record.clone(), Some(Vec::new()), Payloads::Shown);
            let read = again(&document).read().expect("it can be read");
            prop_assert_eq!(&read.job, &record);
            let document = JobDocument::new(record, None, Payloads::Left);
            let read = again(&document).read().expect("it can be read");
            prop_assert!(read.job.payload.is_empty() && read.job.output.is_none());
        }

        #[test]
        fn a_hold_is_read_back_as_it_was(since in 0..9_u64, until in prop::option::of(0..9_u64), note: Option<String>) {
            for reason in HoldReason::ALL {
                let hold = Hold {
                    scope: HoldScope { queue: None, kind: Some(kind()) },
                    reason, by: note.clone(), note: note.clone(),
                    since: Timestamp::from_millis(since),
                    until: until.map(Timestamp::from_millis),
                };
                let document = again(&HoldDocument::new("acme", hold.clone()));
                prop_assert_eq!(document.read(), Ok(hold));
            }
        }

        #[test]
        fn usage_is_read_back_as_it_was(numbers: [u32; 5], fuel: u64, memory: u128) {
            let mut row = UsageRow {
                day: Some("2026-11-24".to_owned()), tenant: Some("acme".to_owned()), plugin: None,
                account: sandhog_core::account::Account { memory, fuel: Fuel(fuel), ..Default::default() },
            };
            row.account.runs = numbers.map(u64::from);
            let by = vec![crate::UsageBy::Day, crate::UsageBy::Tenant];
            let report = UsageReport::new("2026-11-24".to_owned(), "2026-11-24".to_owned(), by, vec![row]);
            prop_assert_eq!(again(&report).rows, report.rows);
        }
    }

    #[test]
    fn what_a_later_version_says_is_told_from_what_is_read() {
        let tenant = TenantId::parse("acme").expect("valid");
        let new = NewJob::new(
            JobId::from_parts(Timestamp::from_millis(7), 9),
            QueueName::parse("q").expect("valid"),
            kind(),
            Vec::new(),
        );
        let record = JobRecord::of(new, tenant, Timestamp::from_millis(1));
        let mut document = JobDocument::new(record, None, Payloads::Left);
        document.reason = Some("of-tomorrow".into());
        assert_eq!(document.read().expect("it can be read").job.reason, None);
        document.state = "of-tomorrow".into();
        let error = document.read().expect_err("no such state").to_string();
        assert_eq!(error, "the answer has a state that can't be read: \"of-tomorrow\"");
    }
}
