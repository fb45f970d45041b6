//! What can only be tested from inside: disks that fill up, groups that share a commit, and the plans of statements.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use rusqlite::Connection;
use sandhog_core::id::{JobId, Kind, QueueName};
use sandhog_core::job::State;
use sandhog_core::time::Timestamp;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::*;
use crate::{Counts, SystemClock};

fn new_job(nth: u128, payload: usize) -> NewJob {
    NewJob::new(
        JobId::from_parts(Timestamp::from_millis(1), nth),
        QueueName::parse("default").expect("a valid queue"),
        Kind::parse("image.thumbnail").expect("a valid kind"),
        vec![b'x'; payload],
    )
}

fn broker() -> (Embedded, TempDir, TenantId) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let broker =
        Embedded::open(&folder.path().join("jobs.db"), Arc::new(SystemClock)).expect("a new file opens");
    (broker, folder, TenantId::parse("acme").expect("a valid name"))
}

fn writer(broker: &Embedded) -> &Worker<Box<dyn Write>> {
    &broker.writing.as_ref().expect("it was opened to write").writer
}

/// Tells the connection that writes how many pages the disk has.
async fn resize_disk(broker: &Embedded, pages: i64) {
    let resize = move |connection: &Connection| {
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
        Ok(((), Vec::new()))
    };
    writer(broker).write("resize", UNFLUSHED, resize).await.expect("a pragma succeeds");
}

#[tokio::test]
async fn a_full_disk_refuses_whole_operations_and_none_that_were_acknowledged_are_lost() {
    let (broker, _folder, acme) = broker();
    let (broker, acme) = (Arc::new(broker), Arc::new(acme));
    broker.enqueue(&acme, &[new_job(0, 10)]).await.expect("there is room");
    resize_disk(&broker, 200).await;
    let mut calls = tokio::task::JoinSet::new();
    for nth in 1..=100 {
        let (broker, acme) = (Arc::clone(&broker), Arc::clone(&acme));
        // Two at a time: one that fits is not stored without the other.
        let pair = [new_job(2 * nth, 10), new_job(2 * nth + 1, 20_000)];
        calls.spawn(async move { (nth, broker.enqueue(&acme, &pair).await) });
    }
    let mut refused = Vec::new();
    for (nth, answer) in calls.join_all().await {
        let stored = |half| broker.job(&acme, new_job(2 * nth + half, 0).id);
        let stored =
            [stored(0).await, stored(1).await].map(|found| found.expect("a look succeeds").is_some());
        match answer {
            Ok(_) => assert_eq!(stored, [true, true]),
            Err(Error::Full { what: "enqueue", cause, .. }) => {
                assert!(cause.contains("no space is left on the disk"), "{cause}");
                assert_eq!(stored, [false, false], "{cause}");
                refused.push(nth);
            }
            Err(error) => panic!("another error was expected than {error:?}"),
        }
    }
    assert!(!refused.is_empty() && refused.len() < 100, "{} were refused", refused.len());
    resize_disk(&broker, 1 << 30).await;
    for nth in refused {
        let pair = [new_job(2 * nth, 10), new_job(2 * nth + 1, 20_000)];
        broker.enqueue(&acme, &pair).await.expect("there is room again");
    }
    assert_eq!(broker.counts(&acme).await.expect("a look succeeds"), Counts::of(&[(State::Ready, 201)]));
    broker.check().await.expect("the file is sound");
}

#[tokio::test]
async fn a_file_that_another_process_holds_is_unavailable_and_nothing_is_done() {
    let (broker, _folder, acme) = broker();
    let impatient = |connection: &Connection| Ok((connection.busy_timeout(Duration::ZERO)?, Vec::new()));
    writer(&broker).write("set up", UNFLUSHED, impatient).await.expect("a setting succeeds");
    let other = Connection::open(broker.place.path()).expect("it opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock is free");
    let refused = broker.enqueue(&acme, &[new_job(1, 10)]).await.expect_err("the lock is held");
    assert_eq!(
        refused.to_string(),
        "the broker is unavailable: enqueue failed: database is locked",
        "who looks isn't held up"
    );
    assert_eq!(broker.counts(&acme).await.expect("a look succeeds"), Counts::default());
    other.execute_batch("ROLLBACK").expect("the lock was held");
    broker.enqueue(&acme, &[new_job(1, 10)]).await.expect("the lock is free");
}

#[tokio::test]
async fn steps_that_queue_up_share_a_commit_and_fail_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let connection = Connection::open(folder.path().join("numbers.db")).expect("a database");
    connection.execute_batch("CREATE TABLE number (n INTEGER PRIMARY KEY)").expect("a table");
    let commits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&commits);
    let writer = Arc::new(
        Worker::writer(connection, &folder.path().join("numbers.db"), move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        })
        .expect("a thread"),
    );
    let (started, running) = oneshot::channel();
    let mut started = Some(started);
    let (release, held) = mpsc::channel::<()>();
    let first = tokio::spawn({
        let writer = Arc::clone(&writer);
        async move {
            let wait = move |_: &Connection| {
                let told = started.take().is_some_and(|started| started.send(()).is_ok());
                Ok((told && held.recv().is_ok(), Vec::new()))
            };
            writer.write("wait", UNFLUSHED, wait).await
        }
    });
    running.await.expect("the step starts");
    let insert = |numbers: &'static [i64]| {
        let writer = Arc::clone(&writer);
        tokio::spawn(async move {
            let insert = move |connection: &Connection| {
                for n in numbers {
                    connection.execute("INSERT INTO number VALUES (?1)", [n])?;
                }
                Ok((numbers.len(), Vec::new()))
            };
            writer.write("insert", FLUSHED, insert).await
        })
    };
    // One thread runs the tasks in the order in which they were spawned, so all are queued before the last goes on.
    let (good, clash, also_good) = (insert(&[1, 2]), insert(&[3, 1]), insert(&[4]));
    tokio::spawn(async move { release.send(()) }).await.expect("no panic").expect("the step waits");
    assert!(first.await.expect("no panic").expect("it is done"));
    assert_eq!(good.await.expect("no panic").expect("it is done"), 2);
    assert!(matches!(clash.await.expect("no panic"), Err(Error::Unavailable { what: "insert", .. })));
    assert_eq!(also_good.await.expect("no panic").expect("it is done"), 1);
    assert_eq!(commits.load(Ordering::SeqCst), 2, "the three that waited shared one");
    let sum = |connection: &Connection| {
        Ok(connection.query_row("SELECT sum(n) FROM number", [], |row| row.get::<_, i64>(0))?)
    };
    let reader = Worker::reader(Connection::open(folder.path().join("numbers.db")).expect("a database"));
    assert_eq!(reader.expect("a thread").read("sum", sum).await.expect("a look succeeds"), 1 + 2 + 4);
}

#[tokio::test]
async fn a_step_that_panics_fails_alone_and_the_broker_goes_on() {
    let (broker, _folder, acme) = broker();
    let write = |connection: &Connection| -> fault::Result<((), Vec<crate::Wake>)> {
        connection.execute("UPDATE arrivals SET n = 700", [])?;
        panic!("a bug of a step");
    };
    let failed = writer(&broker).write("write", FLUSHED, write).await.expect_err("it panics");
    assert!(matches!(failed, Error::Bug { what: "write" }), "{failed:?}");
    let look = |_: &Connection| -> fault::Result<()> { panic!("a bug of a look") };
    let failed = broker.reader.read("look", look).await.expect_err("it panics");
    assert!(matches!(failed, Error::Bug { what: "look" }), "{failed:?}");
    broker.enqueue(&acme, &[new_job(1, 10)]).await.expect("the writer goes on");
    assert_eq!(broker.counts(&acme).await.expect("the reader goes on"), Counts::of(&[(State::Ready, 1)]));
    let arrivals = |connection: &Connection| {
        Ok(connection.query_row("SELECT n FROM arrivals", [], |row| row.get::<_, i64>(0))?)
    };
    let arrivals = broker.reader.read("arrivals", arrivals).await.expect("a look succeeds");
    assert_eq!(arrivals, 1, "what the step had changed was taken back");
}

/// A statement that scanned a table, or sorted what it found, would cost more as the table grows.
#[test]
fn every_statement_finds_its_rows_by_an_index_that_has_them_in_order() {
    let connection = Connection::open_in_memory().expect("a database");
    open::SCHEMA.iter().for_each(|step| connection.execute_batch(step).expect("the schema is valid"));
    let sources = [
        include_str!("account.rs"),
        include_str!("asked.rs"),
        include_str!("enqueue.rs"),
        include_str!("lanes.rs"),
        include_str!("lease.rs"),
        include_str!("queries.rs"),
        include_str!("control.rs"),
        include_str!("purge.rs"),
        include_str!("settle.rs"),
        include_str!("state.rs"),
        include_str!("step.rs"),
        include_str!("sweep.rs"),
        include_str!("trials.rs"),
    ];
    let literals = sources.iter().flat_map(|source| source.split('"').skip(1).step_by(2));
    let verbs = ["SELECT ", "INSERT ", "UPDATE ", "DELETE "];
    let statements = literals.filter_map(|literal| match literal {
        rest if rest.starts_with("WHERE ") => Some(format!("{}{rest}", stored::select_stored!(""))),
        whole if verbs.iter().any(|verb| whole.starts_with(verb) && whole != *verb) => Some(whole.to_owned()),
        _ => None,
    });
    let made = State::ALL.map(queries::list).into_iter().chain([queries::by_id(), lease::CURRENT.to_owned()]);
    let mut explained = 0;
    for sql in statements.chain(made) {
        let mut statement =
            connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a valid statement");
        let nulls = vec![rusqlite::types::Null; statement.parameter_count()];
        let rows = statement.query_map(rusqlite::params_from_iter(nulls), |row| row.get::<_, String>(3));
        for step in rows.expect("a plan").map(|step| step.expect("a line of text")) {
            // This table has one row.
            let scans = step.starts_with("SCAN") && step != "SCAN arrivals";
            assert!(!scans && !step.contains("TEMP B-TREE"), "{sql}: {step}");
        }
        explained += 1;
    }
    assert!(explained > 50, "only {explained} statements were found");
}
