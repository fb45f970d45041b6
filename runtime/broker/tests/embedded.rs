//! The broker in a file follows every rule, and agrees with the reference model.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sandhog_broker::conformance::{self, Fixture, ManualClock};
use sandhog_broker::embedded::Embedded;
use sandhog_broker::{
    Asker, Broker, Changed, Counts, Enqueued, Error, Filter, JobAction, LaneAsk, LeaseAsk, Query, Renew,
    Renewal, Result, Settle, Sweep, SystemClock, Wake, Wakes, WallClock,
};
use sandhog_core::attempt::SettleReply;
use sandhog_core::budget::Bytes;
use sandhog_core::effects::Effects;
use sandhog_core::id::{DaemonId, JobId, Kind, LeaseNo, LeaseToken, QueueName, TenantId, UniqueKey};
use sandhog_core::job::{NewJob, State};
use sandhog_core::quota::{QueueBounds, QueueExcess};
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;
use sandhog_core::time::Timestamp;
use tempfile::TempDir;

struct InFile {
    broker: Arc<Embedded>,
    _folder: TempDir,
}

#[async_trait]
impl Fixture for InFile {
    async fn start(clock: Arc<ManualClock>) -> Self {
        // The rules are about what is in the file; a disk would only make them slow.
        let folder =
            tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary folder");
        let path = folder.path().join("jobs.db");
        let broker = Embedded::open(&path, clock as Arc<dyn WallClock>).expect("a new file opens");
        Self { broker: Arc::new(broker), _folder: folder }
    }

    fn broker(&self) -> Arc<dyn Broker> {
        Arc::clone(&self.broker) as Arc<dyn Broker>
    }
}

conformance::suite!(InFile);

/// However many jobs one group has.
#[tokio::test]
async fn a_group_with_many_jobs_delays_the_first_ones_of_others_hardly() {
    let many = conformance::groups::OneOfMany { jobs: 20_000, others: 1_000, within: 1_500 };
    conformance::play::<InFile, _>(|case| many.play(case)).await;
}

#[tokio::test]
async fn the_model_agrees_on_random_operations() {
    conformance::agree_on_some_seeds::<InFile>(conformance::steps::IN_FILE).await;
}

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).expect("a valid name")
}

fn new_job(nth: u128) -> NewJob {
    NewJob::new(
        JobId::from_parts(Timestamp::from_millis(1), nth),
        QueueName::parse("default").expect("a valid queue"),
        Kind::parse("image.thumbnail").expect("a valid kind"),
        b"{}".to_vec(),
    )
}

fn open(path: &Path) -> Result<Embedded> {
    Embedded::open(path, Arc::new(SystemClock))
}

async fn lease(broker: &Embedded, tenant: &TenantId, n: u32) -> Vec<JobId> {
    let queues = [(QueueName::parse("default").expect("a valid queue"), n)];
    let ask = LeaseAsk::new(tenant, &queues, Duration::from_secs(60));
    let leased = broker.lease(ask).await.expect("a lease succeeds");
    leased.leases.into_iter().map(|lease| lease.token.job).collect()
}

async fn next(wakes: &mut Wakes) -> Wake {
    let patience = Duration::from_secs(20);
    let wake = tokio::time::timeout(patience, wakes.next()).await.expect("a wake comes");
    wake.expect("the broker is open")
}

/// What a file is refused with.
fn refusal(path: &Path) -> String {
    match open(path) {
        Err(error @ (Error::Unfit { .. } | Error::Corrupt { .. })) => error.to_string(),
        Err(error) => panic!("another refusal was expected than {error:?}"),
        Ok(_) => panic!("{} was opened", path.display()),
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_when_the_file_is_opened_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, acme) = (folder.path().join("jobs.db"), tenant("acme"));
    let broker = open(&path).expect("a new file opens");
    broker.enqueue(&acme, &[new_job(1), new_job(2)]).await.expect("an enqueue succeeds");
    assert_eq!(lease(&broker, &acme, 1).await, [new_job(1).id]);
    drop(broker);
    let broker = open(&path).expect("it opens again");
    assert_eq!(
        broker.counts(&acme).await.expect("a look succeeds"),
        Counts::of(&[(State::Ready, 1), (State::Leased, 1)])
    );
    assert_eq!(lease(&broker, &acme, 5).await, [new_job(2).id]);
    assert_eq!(broker.check().await.expect("the file is fit"), Vec::<String>::new());
}

#[tokio::test]
async fn a_broker_that_is_closed_leaves_one_whole_file_whoever_still_holds_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, acme) = (folder.path().join("jobs.db"), tenant("acme"));
    let broker = open(&path).expect("a new file opens");
    broker.enqueue(&acme, &[new_job(1)]).await.expect("an enqueue succeeds");
    assert!(folder.path().join("jobs.db-wal").exists());
    broker.close();
    for beside in ["jobs.db-wal", "jobs.db-shm"] {
        assert!(!folder.path().join(beside).exists(), "{beside} is left");
    }
    assert!(matches!(broker.enqueue(&acme, &[new_job(2)]).await, Err(Error::Unavailable { .. })));
    assert!(matches!(broker.counts(&acme).await, Err(Error::Unavailable { .. })));
    let copy = folder.path().join("copy.db");
    std::fs::copy(&path, &copy).expect("a copy");
    let counts = open(&copy).expect("it opens").counts(&acme).await.expect("a look succeeds");
    assert_eq!(counts, Counts::of(&[(State::Ready, 1)]));
}

#[tokio::test]
async fn two_brokers_on_a_file_share_the_work_and_wake_each_other() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // A path that is too long for the address of a socket has to do as well.
    let deep = folder.path().join("d".repeat(120));
    std::fs::create_dir(&deep).expect("a folder in the folder");
    for (path, job) in [(folder.path().join("jobs.db"), 1), (deep.join("jobs.db"), 2)] {
        let acme = tenant("acme");
        let (first, second) = (open(&path).expect("it opens"), open(&path).expect("it opens twice"));
        let mut wakes = first.watch(vec![acme.clone()]).await.expect("listening succeeds");
        assert_eq!(next(&mut wakes).await, Wake::All);
        second.enqueue(&acme, &[new_job(job)]).await.expect("an enqueue succeeds");
        assert_eq!(next(&mut wakes).await, Wake::Ready { tenant: acme.clone(), named: None });
        assert_eq!(lease(&first, &acme, 5).await, [new_job(job).id]);
        assert_eq!(lease(&second, &acme, 5).await, []);
        second.cancel(&acme, new_job(job).id).await.expect("a cancellation succeeds");
        assert_eq!(next(&mut wakes).await, Wake::Cancel(acme.clone(), new_job(job).id));
    }
}

/// So many brokers on a file that none has opened before.
fn all_at_once(path: &Path, count: usize) -> Vec<Embedded> {
    let barrier = std::sync::Barrier::new(count);
    std::thread::scope(|threads| {
        let start = || {
            barrier.wait();
            open(path).expect("it opens")
        };
        let opening: Vec<_> = (0..count).map(|_| threads.spawn(start)).collect();
        opening.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

#[test]
fn whoever_opens_a_new_file_at_the_same_time_waits_for_the_one_that_makes_the_tables() {
    for _ in 0..50 {
        let folder = tempfile::tempdir().expect("a temporary folder");
        all_at_once(&folder.path().join("jobs.db"), 4);
    }
}

#[tokio::test]
async fn brokers_that_write_at_once_hand_out_each_job_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, acme) = (folder.path().join("jobs.db"), tenant("acme"));
    let brokers = all_at_once(&path, 6);
    let jobs: Vec<NewJob> = (0..300).map(new_job).collect();
    brokers[0].enqueue(&acme, &jobs).await.expect("an enqueue succeeds");
    let mut holders = tokio::task::JoinSet::new();
    for broker in brokers {
        let acme = acme.clone();
        holders.spawn(async move {
            let mut held = Vec::new();
            loop {
                let more = lease(&broker, &acme, 7).await;
                if more.is_empty() {
                    return held;
                }
                held.extend(more);
            }
        });
    }
    let mut held: Vec<JobId> = holders.join_all().await.concat();
    held.sort_unstable();
    assert_eq!(held, jobs.iter().map(|job| job.id).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_socket_of_a_listener_that_was_killed_is_removed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let broker = open(&folder.path().join("jobs.db")).expect("a new file opens");
    let left = folder.path().join("jobs.db.wakes").join("1-left");
    drop(std::os::unix::net::UnixDatagram::bind(&left).expect("a socket"));
    assert!(left.exists());
    broker.enqueue(&tenant("acme"), &[new_job(1)]).await.expect("an enqueue succeeds");
    assert!(!left.exists());
}

#[tokio::test]
async fn a_listener_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let broker = open(&folder.path().join("jobs.db")).expect("a new file opens");
    let sockets =
        || std::fs::read_dir(folder.path().join("jobs.db.wakes")).expect("the folder is there").count();
    let wakes = broker.watch(vec![tenant("acme")]).await.expect("listening succeeds");
    assert_eq!(sockets(), 1);
    drop((broker, wakes));
    assert_eq!(sockets(), 0);
}

/// What is in a folder, by name.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.expect("it can be read").file_name().into_string().expect("a name")
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_look_makes_nothing_and_needs_no_lock() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, acme) = (folder.path().join("jobs.db"), tenant("acme"));
    let look = || Embedded::open_to_look(&path, Arc::new(SystemClock));
    for refused in [look().err(), Embedded::open_existing(&path, Arc::new(SystemClock)).err()] {
        let refused = refused.expect("there is no file");
        assert!(matches!(refused, Error::Unfit { .. }), "{refused:?}");
        assert!(refused.to_string().contains("jobs.db` isn't there"), "{refused}");
    }
    assert_eq!(names(folder.path()), Vec::<String>::new());
    let broker = open(&path).expect("a new file opens");
    broker.enqueue(&acme, &[new_job(1)]).await.expect("an enqueue succeeds");
    drop(broker);
    std::fs::remove_dir(folder.path().join("jobs.db.wakes")).expect("it is empty");
    let holder = rusqlite::Connection::open(&path).expect("a database");
    holder.execute_batch("BEGIN IMMEDIATE").expect("the lock is free");
    let looking = look().expect("it opens while another process writes");
    let counts = looking.counts(&acme).await.expect("a look succeeds");
    assert_eq!(counts, Counts::of(&[(State::Ready, 1)]));
    assert!(matches!(looking.enqueue(&acme, &[new_job(2)]).await, Err(Error::Unfit { .. })));
    assert!(matches!(looking.watch(vec![acme]).await, Err(Error::Unfit { .. })));
    drop((looking, holder));
    assert_eq!(names(folder.path()), ["jobs.db"]);
}

#[test]
fn what_root_makes_belongs_to_the_owner_of_the_folder() {
    const NOBODY: u32 = 65534;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let owner = match std::os::unix::fs::chown(folder.path(), Some(NOBODY), Some(NOBODY)) {
        Ok(()) => NOBODY,
        // Only root can give a folder away; whoever else made it owns what is in it, too.
        Err(_) => std::fs::metadata(folder.path()).expect("it is there").uid(),
    };
    let broker = open(&folder.path().join("jobs.db")).expect("a new file opens");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let _wakes = runtime.block_on(broker.watch(vec![tenant("acme")])).expect("listening succeeds");
    for name in ["jobs.db", "jobs.db-wal", "jobs.db-shm", "jobs.db.wakes"] {
        let metadata = std::fs::metadata(folder.path().join(name)).expect("it is there");
        assert_eq!(metadata.uid(), owner, "{name}");
    }
    for socket in std::fs::read_dir(folder.path().join("jobs.db.wakes")).expect("the folder is there") {
        assert_eq!(socket.and_then(|socket| socket.metadata()).expect("it is there").uid(), owner);
    }
}

#[test]
fn the_file_that_bars_the_way_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("jobs.db");
    drop(open(&path).expect("a new file opens"));
    let wakes = folder.path().join("jobs.db.wakes");
    std::fs::remove_dir(&wakes).expect("it is empty");
    std::fs::write(&wakes, "").expect("a file");
    let log = folder.path().join("jobs.db-wal");
    std::fs::create_dir(&log).expect("a folder in the place of the log");
    assert!(refusal(&path).contains("jobs.db-wal`"), "{}", refusal(&path));
    std::fs::remove_dir(&log).expect("it is empty");
    assert!(refusal(&path).contains("jobs.db.wakes`"), "{}", refusal(&path));
}

/// Waits until it is so.
async fn becomes(so: impl Fn() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("it becomes so at last");
}

const MIB: u64 = 1 << 20;

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Stores jobs of 32 MiB, and has them removed.
async fn fill_and_empty(broker: &Embedded, clock: &ManualClock, tenant: &TenantId) {
    let large = |nth| NewJob { payload: vec![b'x'; 64 << 10], ..new_job(nth) };
    for batch in 0..8 {
        let jobs: Vec<NewJob> = (64 * batch..64 * (batch + 1)).map(large).collect();
        broker.enqueue(tenant, &jobs).await.expect("an enqueue succeeds");
        for job in jobs {
            broker.cancel(tenant, job.id).await.expect("a cancellation succeeds");
        }
    }
    clock.advance(Duration::from_secs(2 * 24 * 60 * 60));
    sweep_out(broker, tenant).await;
}

/// Sweeps until nothing is left.
async fn sweep_out(broker: &Embedded, tenant: &TenantId) {
    while broker.counts(tenant).await.expect("a look succeeds").total() > 0 {
        broker.sweep(tenant, Sweep::new(3)).await.expect("a sweep succeeds");
    }
}

#[tokio::test]
async fn what_a_file_no_longer_needs_goes_back_to_the_disk() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, acme) = (folder.path().join("jobs.db"), tenant("acme"));
    let clock = Arc::new(ManualClock::default());
    let broker = Embedded::open(&path, Arc::clone(&clock) as Arc<dyn WallClock>).expect("a new file opens");
    fill_and_empty(&broker, &clock, &acme).await;
    let log = folder.path().join("jobs.db-wal");
    becomes(|| size(&path) < 6 * MIB && size(&log) <= 16 * MIB).await;
    assert_eq!(broker.check().await.expect("the file is sound"), Vec::<String>::new());
}

#[tokio::test]
async fn a_file_of_an_earlier_version_gives_space_back_too() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, acme) = (folder.path().join("jobs.db"), tenant("acme"));
    let clock = Arc::new(ManualClock::default());
    let open = || Embedded::open(&path, Arc::clone(&clock) as Arc<dyn WallClock>).expect("it opens");
    drop(open());
    let earlier = rusqlite::Connection::open(&path).expect("a database");
    let batch = "PRAGMA journal_mode = delete; PRAGMA auto_vacuum = none; VACUUM; PRAGMA journal_mode = wal";
    earlier.execute_batch(batch).expect("it is written anew");
    drop(earlier);
    let kind = || {
        let connection = rusqlite::Connection::open(&path)?;
        connection.pragma_query_value(None, "auto_vacuum", |row| row.get::<_, i64>(0))
    };
    assert_eq!(kind().expect("a number"), 0);
    let broker = open();
    broker.enqueue(&acme, &[new_job(1000)]).await.expect("an enqueue succeeds");
    becomes(|| kind().is_ok_and(|kind| kind == 2)).await;
    broker.cancel(&acme, new_job(1000).id).await.expect("what was in it is there");
    fill_and_empty(&broker, &clock, &acme).await;
    becomes(|| size(&path) < 6 * MIB).await;
}

/// A disk with little space, where the system lets one be mounted.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(mib: u64) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "none"]).arg(folder.path());
        mount.output().is_ok_and(|mounted| mounted.status.success()).then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What is still mounted would be in the way of the folder's removal alone.
        std::process::Command::new("umount").arg("--lazy").arg(self.0.path()).status().ok();
    }
}

/// Writes to a file until the disk is full.
fn fill_up(path: &Path) {
    let mut file = std::fs::File::create(path).expect("a file");
    for size in [64 << 10, 4 << 10] {
        while std::io::Write::write_all(&mut file, &vec![7; size]).is_ok() {}
    }
}

#[tokio::test]
async fn on_a_full_disk_jobs_are_refused_and_what_frees_space_goes_on() {
    let Some(disk) = SmallDisk::mount(48) else {
        eprintln!("not tested: only root can mount a small disk, and not everywhere");
        return;
    };
    let (path, acme) = (disk.0.path().join("jobs.db"), tenant("acme"));
    let clock = Arc::new(ManualClock::default());
    let broker = Embedded::open(&path, Arc::clone(&clock) as Arc<dyn WallClock>).expect("a new file opens");
    let large = |nth| NewJob { payload: vec![b'x'; 64 << 10], ..new_job(nth) };
    let stored: Vec<NewJob> = (0..128).map(large).collect();
    broker.enqueue(&acme, &stored).await.expect("there is space");
    let queues = [(QueueName::parse("default").expect("a valid queue"), 64)];
    let ask = LeaseAsk::new(&acme, &queues, Duration::from_secs(60));
    let leased = broker.lease(ask).await.expect("there is space").leases;
    assert_eq!(leased.len(), 64);
    let reserve = disk.0.path().join("jobs.db.reserve");
    becomes(|| size(&reserve) == 8 * MIB).await;

    fill_up(&disk.0.path().join("somebody-elses"));
    let nth = AtomicU64::new(1000);
    let enqueue = async || broker.enqueue(&acme, &[large(nth.fetch_add(1, Ordering::Relaxed).into())]).await;
    let refusal = refused(enqueue).await;
    assert!(matches!(&refusal, Error::Full { cause, .. } if cause.contains("no space is left")), "{refusal}");
    for lease in leased {
        let settle = Settle::new(
            lease.token,
            Settlement::Succeed { output: vec![b'o'; 16 << 10], effects: Effects::default() },
        );
        let settled = broker.settle(&acme, &[settle]).await.expect("there is space for it");
        assert_eq!(settled, [SettleReply::Applied]);
    }
    for nth in (64..128).chain(1000..nth.load(Ordering::Relaxed).into()) {
        broker.cancel(&acme, new_job(nth).id).await.expect("there is space for it");
    }
    assert!(size(&reserve) < MIB, "its space was given away");
    assert!(enqueue().await.is_err(), "the space is not theirs");
    assert!(broker.lease(ask).await.is_err(), "nor is it for leases");

    clock.advance(Duration::from_secs(2 * 24 * 60 * 60));
    sweep_out(&broker, &acme).await;
    becomes(|| size(&reserve) == 8 * MIB).await;
    enqueue().await.expect("there is space again, of what was removed");
}

#[test]
fn a_file_that_is_none_of_ours_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "remember the milk, ".repeat(100)).expect("a file of text");
    assert!(refusal(&text).contains("this is no database; name another file as broker.path"));
    let other = folder.path().join("other.db");
    let connection = rusqlite::Connection::open(&other).expect("a database");
    connection.execute_batch("CREATE TABLE milk (n)").expect("a table");
    drop(connection);
    let before = std::fs::read(&other).expect("the file is there");
    assert!(refusal(&other).contains("a database of another program"));
    assert_eq!(std::fs::read(&other).expect("the file is there"), before);
    assert!(refusal(&folder.path().join("no/such/folder.db")).contains("broker.path"));
    refusal(folder.path());
}

#[test]
fn a_file_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("jobs.db");
    drop(open(&path).expect("a new file opens"));
    let connection = rusqlite::Connection::open(&path).expect("a database");
    connection.pragma_update(None, "user_version", 700).expect("a version");
    drop(connection);
    let refusal = refusal(&path);
    assert!(refusal.contains("of version 700") && refusal.contains("use the newer program"), "{refusal}");
}

#[tokio::test]
async fn a_file_of_an_older_version_is_brought_up_to_date_with_what_is_in_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, acme) = (folder.path().join("jobs.db"), tenant("acme"));
    let connection = rusqlite::Connection::open(&path).expect("a database");
    connection.execute_batch(include_str!("../src/embedded/schema/1-jobs.sql")).expect("the first tables");
    connection.pragma_update(None, "application_id", 0x5341_4e44).expect("our mark");
    connection.pragma_update(None, "user_version", 1).expect("a version");
    let id = new_job(1).id;
    connection
        .execute_batch(&format!(
            "INSERT INTO job (tenant, id, queue, kind, priority, state, arrival, enqueued_at)
                 VALUES ('acme', '{id}', 'default', 'image.thumbnail', 100, 1, 1, 1);
             INSERT INTO payload VALUES (1, x'7b7d');
             INSERT INTO state VALUES ('acme', 'report', 'seen', x'31', NULL);"
        ))
        .expect("a job and a value of the first version");
    drop(connection);
    for _ in 0..2 {
        let broker = open(&path).expect("it opens");
        let record = broker.job(&acme, id).await.expect("a look succeeds").expect("it is there");
        assert_eq!((record.payload, record.pinned), (b"{}".to_vec(), None));
    }
    let broker = open(&path).expect("it opens");
    assert_eq!(lease(&broker, &acme, 5).await, [id]);
}

/// A file as the previous version has left it, with a job in every state.
const PREVIOUS: [&str; 5] = [
    include_str!("../src/embedded/schema/1-jobs.sql"),
    include_str!("../src/embedded/schema/2-pinned.sql"),
    include_str!("../src/embedded/schema/3-usage.sql"),
    include_str!("../src/embedded/schema/4-minute.sql"),
    include_str!("../src/embedded/schema/5-state-size.sql"),
];

/// Makes that file. The jobs are numbered by their states' codes; 6 and 7 are ready as well, 6 after it had lost a lease.
fn make_previous(path: &Path, now: Timestamp) {
    let connection = rusqlite::Connection::open(path).expect("a database");
    connection.pragma_update(None, "journal_mode", "wal").expect("a log");
    PREVIOUS.iter().for_each(|step| connection.execute_batch(step).expect("the tables of that version"));
    connection.pragma_update(None, "application_id", 0x5341_4e44).expect("our mark");
    connection.pragma_update(None, "user_version", PREVIOUS.len() as i64).expect("a version");
    let soon = now.after(Duration::from_secs(60)).as_millis();
    let now = now.as_millis();
    let columns = [
        format!("state, due_at) VALUES (0, {soon}"),
        "state, arrival, unique_key) VALUES (1, 1, 'nightly'".to_owned(),
        format!("state, lease_expires_at, leased_at, lease, expiries) VALUES (2, {soon}, {now}, 3, 1"),
        format!("state, finished_at, remove_at, output) VALUES (3, {now}, {soon}, x'6f6b'"),
        format!(
            "state, finished_at, remove_at, attempts, reason, unique_key) VALUES (4, {now}, {soon}, 2, 'failed', 'nightly'"
        ),
        format!("state, finished_at, remove_at, reason) VALUES (5, {now}, {soon}, 'cancelled'"),
        "state, arrival, expiries) VALUES (1, 3, 2".to_owned(),
        "state, arrival) VALUES (1, 2".to_owned(),
    ];
    for (nth, columns) in (0..).zip(columns) {
        let id = new_job(nth).id;
        let job = format!("{columns}, 'acme', '{id}', 'default', 'image.thumbnail', 100, {now})").replacen(
            ") VALUES",
            ", tenant, id, queue, kind, priority, enqueued_at) VALUES",
            1,
        );
        connection.execute_batch(&format!("INSERT INTO job ({job}")).expect("a job of that version");
        let nr = connection.last_insert_rowid();
        connection.execute("INSERT INTO payload VALUES (?1, x'7b7d')", [nr]).expect("its payload");
    }
    connection.execute_batch("UPDATE arrivals SET n = 3").expect("the latest arrival");
}

#[tokio::test]
async fn a_file_of_the_previous_version_goes_on_with_jobs_in_every_state() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, acme) = (folder.path().join("jobs.db"), tenant("acme"));
    let clock = Arc::new(ManualClock::default());
    make_previous(&path, clock.now());
    let broker = Embedded::open(&path, Arc::clone(&clock) as Arc<dyn WallClock>).expect("it opens");
    let id = |nth| new_job(nth).id;
    let of = async |state| {
        let page = broker.jobs(&acme, Query::of(state, 10)).await.expect("a look succeeds");
        assert_eq!(page.unread, []);
        page.jobs.iter().map(|job| job.id).collect::<Vec<_>>()
    };
    let there = |state: &State| ![State::Ready, State::Blocked].contains(state);
    for state in State::ALL.into_iter().filter(there) {
        assert_eq!(of(state).await, [id(state.code().into())], "{state}");
    }
    assert_eq!(of(State::Ready).await, [id(1), id(7), id(6)]);
    let record = broker.job(&acme, id(3)).await.expect("a look succeeds").expect("it is there");
    assert_eq!((record.output, record.faults), (Some(b"ok".to_vec()), 0));

    // Four wait, of two bytes each.
    let within = async |nth: u128, jobs: u64, bytes: u64| {
        let bounds = QueueBounds { jobs, bytes: Bytes(bytes), ..QueueBounds::default() };
        broker.enqueue_within(&acme, &[new_job(nth)], &bounds).await.expect("an enqueue succeeds")[0]
    };
    assert_eq!(within(100, 4, 1000).await, Enqueued::Full(QueueExcess::Jobs));
    assert_eq!(within(100, 5, 9).await, Enqueued::Full(QueueExcess::Bytes));
    assert_eq!(within(100, 5, 10).await, Enqueued::Stored);
    // The suspect goes first.
    assert_eq!(lease(&broker, &acme, 2).await, [id(6), id(1)]);
    assert_eq!(within(101, 4, 8).await, Enqueued::Stored);
    assert_eq!(within(102, 4, 1000).await, Enqueued::Full(QueueExcess::Jobs));

    let act = async |action, nth| broker.act(&acme, action, &[id(nth)]).await.expect("it succeeds")[0];
    assert_eq!(act(JobAction::Redrive, 4).await, Changed::Duplicate(id(1)));
    assert_eq!(act(JobAction::Remove, 5).await, Changed::Done);
    assert_eq!(act(JobAction::RunNow, 0).await, Changed::Done);
    let token = LeaseToken { job: id(2), lease: LeaseNo(3) };
    let fault = Settlement::Release { after: Duration::ZERO, reason: Reason::HostFault };
    let settled = broker.settle(&acme, &[settle(token, fault)]).await.expect("a settlement succeeds");
    assert_eq!(settled, [SettleReply::Applied]);
    let record = broker.job(&acme, id(2)).await.expect("a look succeeds").expect("it is there");
    assert_eq!((record.state, record.expiries, record.faults), (State::Ready, 1, 1));

    clock.advance(Duration::from_secs(60));
    let swept = broker.sweep(&acme, Sweep::new(2)).await.expect("a sweep succeeds");
    assert_eq!((swept.buried, swept.next_due, swept.has_ready), (vec![id(6)], None, true));
    assert_eq!(of(State::Succeeded).await, []);
    assert_eq!(of(State::Dead).await, [id(6)]);
    assert_eq!(broker.purge(&acme, 1000).await.expect("a purge succeeds"), 0);
    assert_eq!(within(103, 1, 2).await, Enqueued::Stored, "nothing waits any more");
    assert_eq!(broker.check().await.expect("the file is sound"), Vec::<String>::new());
}

fn settle(token: LeaseToken, settlement: Settlement) -> Settle {
    Settle::new(token, settlement)
}

#[tokio::test]
async fn a_job_in_a_state_of_a_newer_version_is_left_alone_and_told_of() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, acme) = (folder.path().join("jobs.db"), tenant("acme"));
    let broker = open(&path).expect("a new file opens");
    let keyed =
        |nth| NewJob { unique_key: Some(UniqueKey::parse("nightly").expect("a key")), ..new_job(nth) };
    broker.enqueue(&acme, &[keyed(1), new_job(2)]).await.expect("an enqueue succeeds");
    let connection = rusqlite::Connection::open(&path).expect("a database");
    let blocked = "UPDATE job SET state = 17, arrival = NULL WHERE unique_key = 'nightly'";
    assert_eq!(connection.execute(blocked, []).expect("any state may come"), 1);

    let ids = [new_job(1).id, new_job(2).id];
    for action in [JobAction::Cancel, JobAction::Redrive, JobAction::RunNow, JobAction::Remove] {
        let changed = broker.act(&acme, action, &ids[..1]).await.expect("it succeeds");
        assert_eq!(changed, [Changed::Unreadable], "{action:?}");
    }
    let changed = broker.act(&acme, JobAction::Cancel, &ids).await.expect("it succeeds");
    assert_eq!(changed, [Changed::Unreadable, Changed::Done]);
    let token = LeaseToken { job: ids[0], lease: LeaseNo(1) };
    let settled = broker.settle(&acme, &[settle(token, Settlement::Cancel)]).await.expect("it succeeds");
    assert_eq!(settled, [SettleReply::Unreadable]);
    let renew = Renew::new(token);
    let renewed = broker.renew(&acme, Duration::from_secs(1), &[renew]).await.expect("it succeeds");
    assert_eq!(renewed, [Renewal::Unreadable]);
    assert_eq!(
        broker.enqueue(&acme, &[keyed(3)]).await.expect("an enqueue succeeds"),
        [Enqueued::Duplicate(ids[0])],
        "it may not be over"
    );
    let swept = broker.sweep(&acme, Sweep::new(2)).await.expect("a sweep succeeds");
    assert_eq!((swept.unreadable, swept.has_ready), (1, false));
    let waits = QueueBounds { jobs: 1, ..QueueBounds::default() };
    let stored = broker.enqueue_within(&acme, &[new_job(4)], &waits).await.expect("an enqueue succeeds");
    assert_eq!(stored, [Enqueued::Stored], "what is in another state is not known to wait");
    assert_eq!(broker.purge(&acme, 10).await.expect("a purge succeeds"), 0);
}

#[tokio::test]
async fn a_record_that_a_newer_version_wrote_hides_no_other_and_says_what_cannot_be_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, acme) = (folder.path().join("jobs.db"), tenant("acme"));
    let clock = Arc::new(ManualClock::default());
    let broker = Embedded::open(&path, Arc::clone(&clock) as Arc<dyn WallClock>).expect("a new file opens");
    let jobs = [new_job(1), new_job(2), new_job(3)];
    broker.enqueue(&acme, &jobs).await.expect("an enqueue succeeds");
    let connection = rusqlite::Connection::open(&path).expect("a database");
    let change = |sql: &str, nth: usize| {
        connection.execute(sql, [jobs[nth].id.to_string()]).expect("an update");
    };
    change("UPDATE job SET reason = 'bad-luck', progress = '{\"of\":7}' WHERE id = ?1", 0);
    change("UPDATE job SET kind = 'no kind of this version' WHERE id = ?1", 1);
    change("INSERT INTO log SELECT nr, 1, 5, 1, 'fatal', 'oh', '[[\"a\",\"b\"]]' FROM job WHERE id = ?1", 0);
    change("INSERT INTO tally SELECT 'acme', 77, '', 1 FROM job WHERE id = ?1", 0);

    let record = broker.job(&acme, jobs[0].id).await.expect("a look succeeds").expect("it is there");
    let problem = record.unreadable.expect("something can't be read");
    assert!(problem.contains("job.reason") && problem.contains("bad-luck"), "{problem}");
    assert_eq!((record.reason, record.progress, record.payload), (None, None, b"{}".to_vec()));
    let log = broker.log(&acme, jobs[0].id).await.expect("a look succeeds");
    let fields = [("a", "b"), ("level", "fatal")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!((log[0].message.as_str(), &log[0].fields[..]), ("oh", &fields[..]));
    let refused = broker.job(&acme, jobs[1].id).await.expect_err("it has no kind");
    assert!(matches!(&refused, Error::Corrupt { at, .. } if at == "job.kind"), "{refused:?}");

    for payloads in [true, false] {
        let query = Query { payloads, ..Query::of(State::Ready, 10) };
        let page = broker.jobs(&acme, query).await.expect("a look succeeds");
        assert_eq!(page.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [jobs[0].id, jobs[2].id]);
        let [unread] = &page.unread[..] else { panic!("one can't be read: {:?}", page.unread) };
        assert!(unread.id == jobs[1].id && unread.problem.contains("job.kind"), "{unread:?}");
    }
    let counts = broker.counts(&acme).await.expect("a look succeeds");
    let mut expected = Counts::of(&[(State::Ready, 3)]);
    expected.unreadable = 1;
    assert_eq!(counts, expected, "one is in state 77, and nobody has met the other yet");
    assert_eq!(lease(&broker, &acme, 2).await, [jobs[0].id, jobs[2].id]);
    assert_eq!(lease(&broker, &acme, 2).await, []);
    let counts = broker.counts(&acme).await.expect("a look succeeds");
    assert_eq!((counts[State::Ready], counts.unreadable), (1, 2), "it waits for a version that can read it");

    let sweep = async || {
        clock.advance(Duration::from_secs(60));
        broker.sweep(&acme, Sweep::new(100)).await.expect("a sweep succeeds")
    };
    let swept = sweep().await;
    assert_eq!((swept.unreadable, swept.has_ready), (2, true), "the one, and one in state 77");
    broker.act(&acme, JobAction::Cancel, &[jobs[0].id, jobs[2].id]).await.expect("it succeeds");
    assert!(!sweep().await.has_ready, "what can't be read is no reason to ask");
    change("UPDATE job SET kind = 'image.thumbnail' WHERE id = ?1", 1);
    let mut wakes = broker.watch(vec![acme.clone()]).await.expect("listening succeeds");
    assert_eq!(next(&mut wakes).await, Wake::All);
    assert_eq!(sweep().await.unreadable, 1);
    assert_eq!(next(&mut wakes).await, Wake::Ready { tenant: acme.clone(), named: None });
    assert_eq!(lease(&broker, &acme, 5).await, [jobs[1].id]);
}

#[tokio::test]
async fn what_was_handed_out_is_handed_out_again_by_a_file_that_was_closed_meanwhile() {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    let (path, acme) = (folder.path().join("jobs.db"), tenant("acme"));
    let broker = open(&path).expect("a new file opens");
    broker.enqueue(&acme, &[new_job(1), new_job(2)]).await.expect("an enqueue succeeds");
    let queues = [(QueueName::parse("default").expect("a valid queue"), 1)];
    let ask = |nth: u128, repeats| LeaseAsk {
        asker: Some(Asker {
            daemon: DaemonId::from_parts(Timestamp::from_millis(1), nth),
            number: 7,
            repeats,
        }),
        ..LeaseAsk::new(&acme, &queues, Duration::from_secs(60))
    };
    let first = broker.lease(ask(0, false)).await.expect("a lease succeeds").leases;
    drop(broker);
    let broker = open(&path).expect("it opens again");
    assert_eq!(broker.lease(ask(0, true)).await.expect("a lease succeeds").leases, first);

    // However many daemons there were, a bounded number of asks is kept.
    for nth in 1..1100 {
        let lease = broker.lease(ask(nth, false)).await.expect("a lease succeeds").leases;
        let release = Settlement::Release { after: Duration::ZERO, reason: Reason::Drained };
        broker.settle(&acme, &[settle(lease[0].token, release)]).await.expect("a settlement succeeds");
    }
    let connection = rusqlite::Connection::open(&path).expect("a database");
    let kept: i64 =
        connection.query_row("SELECT count(*) FROM asked", [], |row| row.get(0)).expect("a count");
    assert!((1000..1100).contains(&kept), "{kept}");
}

#[tokio::test]
async fn a_page_looks_at_a_bounded_number_of_jobs_and_the_next_goes_on_behind_them() {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    let (path, acme) = (folder.path().join("jobs.db"), tenant("acme"));
    let broker = open(&path).expect("a new file opens");
    let mut jobs: Vec<NewJob> = (0..Query::LOOKED_AT_MAX as u128 + 10).map(new_job).collect();
    let rare = Kind::parse("rare").expect("a valid kind");
    jobs.last_mut().expect("there is one").kind = rare.clone();
    broker.enqueue(&acme, &jobs).await.expect("an enqueue succeeds");
    let filter = Filter { kind: Some(rare), ..Filter::default() };
    let query = Query { filter, payloads: false, ..Query::of(State::Ready, 10) };
    let first = broker.jobs(&acme, query.clone()).await.expect("a look succeeds");
    assert_eq!(first.jobs, []);
    let after = Some(first.next.expect("there is more"));
    let second = broker.jobs(&acme, Query { after, ..query }).await.expect("a look succeeds");
    assert_eq!((second.jobs.len(), second.next), (1, None));
}

#[tokio::test]
async fn a_new_lane_takes_over_any_number_of_jobs_that_wait_already() {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    let (path, acme) = (folder.path().join("jobs.db"), tenant("acme"));
    let broker = open(&path).expect("a new file opens");
    let unserved = Kind::parse("unserved").expect("a valid kind");
    let mut jobs: Vec<NewJob> =
        (0..3500).map(|nth| NewJob { kind: unserved.clone(), ..new_job(nth) }).collect();
    jobs.push(new_job(4000));
    broker.enqueue(&acme, &jobs).await.expect("an enqueue succeeds");
    let queue = QueueName::parse("default").expect("a valid queue");
    let queues = [(queue.clone(), 1)];
    let ask = LeaseAsk::new(&acme, &queues, Duration::from_secs(60));
    let token = broker.lease(ask).await.expect("a lease succeeds").leases[0].token;
    let no_plugin = Settlement::Release { after: Duration::ZERO, reason: Reason::NoPlugin };
    broker.settle(&acme, &[settle(token, no_plugin)]).await.expect("a settlement succeeds");
    assert_eq!(lease(&broker, &acme, 10).await, [new_job(4000).id]);
    let lanes = [LaneAsk::new(queue, unserved, 4000)];
    let queues = [(lanes[0].queue.clone(), 4000)];
    let ask = LeaseAsk { lanes: &lanes, ..LeaseAsk::new(&acme, &queues, Duration::from_secs(60)) };
    let leases = broker.lease(ask).await.expect("a lease succeeds").leases;
    let ids: Vec<JobId> = leases.iter().map(|lease| lease.token.job).collect();
    let expected: Vec<JobId> = (1..3500).chain([0]).map(|nth| new_job(nth).id).collect();
    assert!(ids == expected, "{} jobs, each once, in their order", ids.len());
}

#[tokio::test]
async fn jobs_that_are_cancelled_together_are_told_of_one_by_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, acme) = (folder.path().join("jobs.db"), tenant("acme"));
    let broker = open(&path).expect("a new file opens");
    broker.enqueue(&acme, &[new_job(1), new_job(2)]).await.expect("an enqueue succeeds");
    let held = lease(&broker, &acme, 2).await;
    let mut wakes = broker.watch(vec![acme.clone()]).await.expect("listening succeeds");
    assert_eq!(next(&mut wakes).await, Wake::All);
    let changed = broker.act(&acme, JobAction::Cancel, &held).await.expect("it succeeds");
    assert_eq!(changed, [Changed::Requested; 2]);
    let told = [next(&mut wakes).await, next(&mut wakes).await];
    assert_eq!(told, [Wake::Cancel(acme.clone(), held[0]), Wake::Cancel(acme, held[1])]);
}

#[tokio::test]
async fn a_damaged_file_fails_its_check() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, acme) = (folder.path().join("jobs.db"), tenant("acme"));
    let broker = open(&path).expect("a new file opens");
    broker.enqueue(&acme, &(0..500).map(new_job).collect::<Vec<_>>()).await.expect("an enqueue succeeds");
    drop(broker);
    let mut bytes = std::fs::read(&path).expect("the file is there");
    let half = bytes.len() / 2;
    bytes[half..].fill(0xa5);
    std::fs::write(&path, bytes).expect("the file can be written");
    let checked = match open(&path) {
        Ok(broker) => broker.check().await.map(drop),
        Err(error) => Err(error),
    };
    assert!(matches!(checked, Err(Error::Corrupt { .. })), "{checked:?}");
}

/// Asks until an answer is refused, and returns the refusal.
async fn refused<T>(ask: impl AsyncFn() -> Result<T>) -> Error {
    let refusal = async {
        loop {
            match ask().await {
                Err(error) => return error,
                Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), refusal).await.expect("it is refused at last")
}

#[tokio::test]
async fn a_file_that_was_removed_or_replaced_under_the_broker_is_noticed_by_all_and_served_again_if_put_back()
{
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, acme) = (folder.path().join("jobs.db"), tenant("acme"));
    let (daemon, producer) = (open(&path).expect("a new file opens"), open(&path).expect("it opens"));
    let elsewhere = folder.path().join("elsewhere.db");
    std::fs::rename(&path, &elsewhere).expect("the file can be moved");
    assert!(matches!(daemon.check().await, Err(Error::Unfit { .. })));
    let enqueueing = refused(async || producer.enqueue(&acme, &[new_job(1)]).await).await;
    assert!(enqueueing.to_string().contains("jobs.db` was removed or replaced"), "{enqueueing}");
    // Another file in its place is no better.
    std::fs::copy(&elsewhere, &path).expect("a copy");
    for _ in 0..3 {
        let waiting = refused(async || daemon.counts(&acme).await).await;
        assert!(matches!(waiting, Error::Unfit { .. }), "{waiting:?}");
    }
    std::fs::rename(&elsewhere, &path).expect("the file can be put back");
    daemon.check().await.expect("the file is back");
    daemon.enqueue(&acme, &[new_job(2)]).await.expect("it is served again");
}

#[test]
fn the_file_is_for_its_owner_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("jobs.db");
    let _broker = open(&path).expect("a new file opens");
    for (name, rights) in [("jobs.db", 0o600), ("jobs.db-wal", 0o600), ("jobs.db.wakes", 0o700)] {
        let metadata = std::fs::metadata(folder.path().join(name)).expect("it is there");
        assert_eq!(metadata.permissions().mode() & 0o777, rights, "{name}");
    }
}
