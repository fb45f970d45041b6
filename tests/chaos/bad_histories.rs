//! Histories made by hand. In one all is well; each other has one thing wrong, and the check has to say so.

use sandhog_broker::Counts;
use std::collections::HashMap;
use std::time::Duration;

use sandhog_core::account::{Account, RunEnd, Traffic};
use sandhog_core::id::{JobId, Kind, LeaseNo, QueueName, TenantId};
use sandhog_core::job::{JobRecord, NewJob, Priority, State};
use sandhog_core::outcome::Usage;
use sandhog_core::reason::Reason;
use sandhog_core::time::Timestamp;
use sandhog_tests::tenant;

use crate::check::{Found, Limits, OfTenant, expiries_max, violations};
use crate::history::{Entry, Event, Run};
use crate::plan::{End, Hold, Job};

const LIMITS: Limits = Limits { daemon: 3, tenants: [("acme", 2), ("globex", 2)] };

/// All that the check looks at.
struct Scene {
    events: Vec<Event>,
    planned: HashMap<JobId, Job>,
    found: Found,
}

/// A job that succeeded and has a child, one that was buried, one that was cancelled, one that nobody knows of.
const DONE: u128 = 1;
const DEAD: u128 = 2;
const CANCELLED: u128 = 3;
const CHILD: u128 = 4;
const UNKNOWN: u128 = 5;

fn id(number: u128) -> JobId {
    JobId::from_parts(Timestamp::from_millis(1), number)
}

fn acme() -> TenantId {
    tenant("acme")
}

fn planned(end: End, children: u32, number: u128) -> (JobId, Job) {
    let job = Job {
        id: id(number),
        delay: Duration::ZERO,
        priority: Priority::default(),
        hold: Hold::Millis(0),
        children,
        sleep_ms: 0,
        failures: 0,
        end,
    };
    (job.id, job)
}

fn record(number: u128, state: State, attempts: u32) -> JobRecord {
    let (queue, kind) =
        (QueueName::parse("work").expect("a queue"), Kind::parse("witness.run").expect("a kind"));
    let asked = NewJob::new(id(number), queue, kind, Vec::new());
    JobRecord {
        state,
        attempts,
        lease: LeaseNo(1),
        ..JobRecord::of(asked, acme(), Timestamp::from_millis(1))
    }
}

fn run(number: u64, daemon: &str, tenant: &str) -> Event {
    let (daemon, tenant, job) = (daemon.to_owned(), tenant.to_owned(), number.to_string());
    Event::Began(Run { number, daemon, tenant, job, attempt: 1 })
}

impl Scene {
    /// In which all is well.
    fn good() -> Self {
        let done = JobRecord { output: Some(b"\"run-7\"".to_vec()), ..record(DONE, State::Succeeded, 2) };
        let dead = JobRecord { reason: Some(Reason::FailedPermanently), ..record(DEAD, State::Dead, 1) };
        let payload = format!(r#"{{"parent": "{}", "number": 0, "run": "run-7"}}"#, id(DONE)).into_bytes();
        let child = JobRecord { payload, ..record(CHILD, State::Succeeded, 1) };
        let ends = [RunEnd::Succeeded, RunEnd::Succeeded, RunEnd::Retried, RunEnd::Dead];
        let accounts = ends.map(|end| Account::of(end, Usage::default(), Traffic::default()));
        let state = [
            ("runs".to_owned(), "1"),
            ("children".to_owned(), "1"),
            (format!("runs/{}", id(DONE)), "1"),
            (format!("run/{}", id(DONE)), "\"run-7\""),
            (format!("child/{}/0", id(DONE)), "1"),
        ];
        let of_acme = OfTenant {
            records: vec![done, dead, record(CANCELLED, State::Cancelled, 0), child],
            counts: Counts::of(&[(State::Succeeded, 2), (State::Dead, 1), (State::Cancelled, 1)]),
            spent: accounts.iter().fold(Account::default(), |sum, account| sum.and(account)),
            state: state.into_iter().map(|(key, value)| (key, value.to_owned())).collect(),
        };
        let known = |number| Event::Acknowledged { tenant: acme(), job: id(number) };
        let mut events: Vec<Event> = [DONE, DEAD, CANCELLED].map(known).to_vec();
        events.extend([
            Event::CancelAsked { tenant: acme(), job: id(CANCELLED) },
            Event::Cancelled { tenant: acme(), job: id(CANCELLED) },
            // As many as there may be, on each of two daemons, and one more when one has ended.
            run(1, "d0.1", "acme"),
            run(2, "d0.1", "acme"),
            run(3, "d0.1", "globex"),
            run(4, "d1.1", "acme"),
            run(5, "d1.1", "acme"),
            Event::Ended { run: 1 },
            run(6, "d0.1", "acme"),
            Event::Settled { job: id(DONE), lease: LeaseNo(2) },
            Event::Settled { job: id(DONE), lease: LeaseNo(2) },
            Event::Stale { job: id(DONE), call: "succeed", refused: true },
            Event::Trace { job: id(DONE), before: "x".to_owned(), after: "x".to_owned() },
            Event::Probed { daemon: "d0.1".to_owned(), fault: "cut", begun: true },
            Event::Filled { runs: 4, room: 4 },
        ]);
        let planned =
            [planned(End::Return, 1, DONE), planned(End::Fail, 0, DEAD), planned(End::Return, 0, CANCELLED)];
        Self { events, planned: planned.into(), found: Found { tenants: [(acme(), of_acme)].into() } }
    }

    fn acme(&mut self) -> &mut OfTenant {
        self.found.tenants.get_mut(&acme()).expect("it is there")
    }

    fn record(&mut self, number: u128) -> &mut JobRecord {
        let mut records = self.acme().records.iter_mut();
        records.find(|record| record.id == id(number)).expect("it is there")
    }

    fn set(&mut self, key: String, value: &str) {
        self.acme().state.insert(key, value.to_owned());
    }

    /// Has daemons killed so often in the midst of the dead job, and that buried for it.
    fn kill_with_the_dead(&mut self, times: usize) {
        for time in 0..times {
            let daemon = format!("d2.{time}");
            let number = 100 + time as u64;
            let job = id(DEAD).to_string();
            let begun = Run { number, daemon: daemon.clone(), tenant: "acme".to_owned(), job, attempt: 1 };
            let robbed = Event::Robbed { fault: "kill", daemon };
            self.events.extend([Event::Began(begun), robbed, Event::Ended { run: number }]);
        }
        let dead = self.record(DEAD);
        (dead.reason, dead.attempts) = (Some(Reason::LeaseExpired), 0);
        let ends = [RunEnd::Succeeded, RunEnd::Succeeded, RunEnd::Retried];
        let accounts = ends.map(|end| Account::of(end, Usage::default(), Traffic::default()));
        self.acme().spent = accounts.iter().fold(Account::default(), |sum, account| sum.and(account));
    }

    fn wrong(&self) -> Vec<String> {
        let at = |(nth, event): (usize, &Event)| (Duration::from_millis(nth as u64), event.clone());
        let entries: Vec<Entry> = self.events.iter().enumerate().map(at).collect();
        violations(&entries, &self.planned, &LIMITS, &self.found)
    }
}

pub(crate) fn nothing_is_wrong_with_a_good_history() {
    assert_eq!(Scene::good().wrong(), Vec::<String>::new());
    let mut killing = Scene::good();
    killing.kill_with_the_dead(expiries_max() + 1);
    assert_eq!(killing.wrong(), Vec::<String>::new());
}

/// What is wrong, and with which word the check says so.
type Flaw = (&'static str, fn(&mut Scene));

const FLAWS: &[Flaw] = &[
    ("lost: job", |scene| scene.acme().records.retain(|record| record.id != id(CANCELLED))),
    ("lost: child", |scene| scene.acme().records.retain(|record| record.id != id(CHILD))),
    ("settled wrongly", |scene| scene.record(DONE).state = State::Leased),
    ("settled wrongly", |scene| scene.record(DONE).state = State::Ready),
    ("settled wrongly", |scene| scene.record(DONE).state = State::Cancelled),
    ("settled wrongly", |scene| scene.record(DEAD).state = State::Succeeded),
    ("settled wrongly", |scene| scene.record(DEAD).reason = Some(Reason::LeaseExpired)),
    ("settled wrongly", |scene| scene.kill_with_the_dead(expiries_max())),
    ("settled wrongly", |scene| scene.record(CANCELLED).state = State::Succeeded),
    ("effects: job", |scene| scene.set(format!("runs/{}", id(DONE)), "2")),
    ("effects: job", |scene| drop(scene.acme().state.remove(&format!("runs/{}", id(DONE))))),
    ("effects: job", |scene| scene.set(format!("run/{}", id(DONE)), "\"run-8\"")),
    ("effects: job", |scene| scene.record(DONE).output = None),
    ("effects: job", |scene| scene.set(format!("runs/{}", id(DEAD)), "1")),
    ("effects: job", |scene| scene.set(format!("run/{}", id(CANCELLED)), "\"run-1\"")),
    ("effects: child", |scene| scene.set(format!("child/{}/0", id(DONE)), "2")),
    ("invented: job", |scene| scene.acme().records.push(record(UNKNOWN, State::Succeeded, 1))),
    ("invented: job", |scene| {
        let twin = JobRecord { id: id(UNKNOWN), ..scene.record(CHILD).clone() };
        scene.acme().records.push(twin);
    }),
    ("invented: job", |scene| {
        let of_another_run = String::from_utf8_lossy(&scene.record(CHILD).payload).replace("run-7", "run-8");
        scene.record(CHILD).payload = of_another_run.into_bytes();
    }),
    ("counters: counts of jobs", |scene| scene.acme().counts[State::Succeeded] += 1),
    ("counters: runs counted", |scene| scene.set("runs".to_owned(), "2")),
    ("counters: children counted", |scene| scene.set("children".to_owned(), "2")),
    ("counters: runs that succeeded", |scene| scene.acme().spent.runs[0] += 1),
    ("counters: runs that buried", |scene| scene.acme().spent.runs[2] += 1),
    ("counters: attempts", |scene| scene.record(DONE).attempts += 1),
    ("counters: fuel", |scene| scene.acme().spent.fuel.0 += 1),
    ("counters: host calls", |scene| scene.acme().spent.host_calls += 1),
    ("counters: time", |scene| scene.record(DONE).usage.wall = Duration::from_micros(1)),
    ("limit: 3 runs of acme", |scene| scene.events.push(run(7, "d1.1", "acme"))),
    ("limit: 4 runs of all tenants", |scene| scene.events.push(run(7, "d0.1", "globex"))),
    ("settled twice", |scene| scene.events.push(Event::Settled { job: id(DONE), lease: LeaseNo(3) })),
    ("stale: retry", |scene| {
        scene.events.push(Event::Stale { job: id(DONE), call: "retry", refused: false });
    }),
    ("stale: job", |scene| {
        scene.events.push(Event::Trace { job: id(DONE), before: "x".to_owned(), after: "y".to_owned() });
    }),
    ("silent: d0.1", |scene| {
        scene.events.push(Event::Probed { daemon: "d0.1".to_owned(), fault: "cut", begun: false });
    }),
    ("daemon: d0.1", |scene| {
        scene.events.push(Event::Died { daemon: "d0.1".to_owned(), how: "exit code 1".to_owned() });
    }),
    ("room: 3 runs", |scene| scene.events.push(Event::Filled { runs: 3, room: 4 })),
];

pub(crate) fn each_thing_that_is_wrong_is_found() {
    for (nth, (says, spoil)) in FLAWS.iter().enumerate() {
        let mut scene = Scene::good();
        spoil(&mut scene);
        let wrong = scene.wrong();
        assert!(wrong.iter().any(|wrong| wrong.starts_with(says)), "flaw {nth}: `{says}` isn't in {wrong:?}");
    }
}
