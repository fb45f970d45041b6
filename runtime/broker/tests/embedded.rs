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
    Broker, Clock, Counts, Error, Keep, LeaseAsk, Query, Result, Settle, SystemClock, Wake, Wakes,
};
use sandhog_core::attempt::SettleReply;
use sandhog_core::effects::Effects;
use sandhog_core::id::{JobId, Kind, QueueName, TenantId};
use sandhog_core::job::{NewJob, Priority, State};
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
        let broker = Embedded::open(&path, clock as Arc<dyn Clock>).expect("a new file opens");
        Self { broker: Arc::new(broker), _folder: folder }
    }

    fn broker(&self) -> Arc<dyn Broker> {
        Arc::clone(&self.broker) as Arc<dyn Broker>
    }
}

conformance::suite!(InFile);

#[tokio::test]
async fn the_model_agrees_on_random_operations() {
    conformance::agree_on_some_seeds::<InFile>().await;
}

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).expect("a valid name")
}

fn new_job(nth: u128) -> NewJob {
    NewJob {
        id: JobId::from_parts(Timestamp::from_millis(1), nth),
        kind: Kind::parse("image.thumbnail").expect("a valid kind"),
        queue: QueueName::parse("default").expect("a valid queue"),
        payload: b"{}".to_vec(),
        delay: Duration::ZERO,
        priority: Priority::default(),
        unique_key: None,
        pinned: None,
    }
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
        assert_eq!(next(&mut wakes).await, Wake::Ready(acme.clone()));
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
    while broker.counts(tenant).await.expect("a look succeeds").total() > 0 {
        assert_eq!(lease(broker, tenant, 0).await, []);
    }
}

#[tokio::test]
async fn what_a_file_no_longer_needs_goes_back_to_the_disk() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, acme) = (folder.path().join("jobs.db"), tenant("acme"));
    let clock = Arc::new(ManualClock::default());
    let broker = Embedded::open(&path, Arc::clone(&clock) as Arc<dyn Clock>).expect("a new file opens");
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
    let open = || Embedded::open(&path, Arc::clone(&clock) as Arc<dyn Clock>).expect("it opens");
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
    let broker = Embedded::open(&path, Arc::clone(&clock) as Arc<dyn Clock>).expect("a new file opens");
    let large = |nth| NewJob { payload: vec![b'x'; 64 << 10], ..new_job(nth) };
    let stored: Vec<NewJob> = (0..128).map(large).collect();
    broker.enqueue(&acme, &stored).await.expect("there is space");
    let queues = [(QueueName::parse("default").expect("a valid queue"), 64)];
    let ask = LeaseAsk {
        tenant: &acme,
        queues: &queues,
        ttl: Duration::from_secs(60),
        expiries_max: 3,
        fuel: None,
    };
    let leased = broker.lease(ask).await.expect("there is space").leases;
    assert_eq!(leased.len(), 64);
    let reserve = disk.0.path().join("jobs.db.reserve");
    becomes(|| size(&reserve) == 8 * MIB).await;

    fill_up(&disk.0.path().join("somebody-elses"));
    let nth = AtomicU64::new(1000);
    let enqueue = async || broker.enqueue(&acme, &[large(nth.fetch_add(1, Ordering::Relaxed).into())]).await;
    let refusal = refused(enqueue).await;
    assert!(refusal.to_string().contains("no space is left on the disk"), "{refusal}");
    for lease in leased {
        let settle = Settle {
            token: lease.token,
            ran: None,
            settlement: Settlement::Succeed { output: vec![b'o'; 16 << 10], effects: Effects::default() },
            progress: None,
            log: Vec::new(),
            keep: Keep::default(),
        };
        let settled = broker.settle(&acme, &[settle]).await.expect("there is space for it");
        assert_eq!(settled, [SettleReply::Applied]);
    }
    for nth in (64..128).chain(1000..nth.load(Ordering::Relaxed).into()) {
        broker.cancel(&acme, new_job(nth).id).await.expect("there is space for it");
    }
    assert_eq!(size(&reserve), 0);
    assert!(enqueue().await.is_err(), "the space is not theirs");

    clock.advance(Duration::from_secs(2 * 24 * 60 * 60));
    while broker.counts(&acme).await.expect("a look succeeds").total() > 0 {
        assert_eq!(lease(&broker, &acme, 0).await, []);
    }
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

#[tokio::test]
async fn a_record_that_a_newer_version_wrote_hides_no_other_and_says_what_cannot_be_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, acme) = (folder.path().join("jobs.db"), tenant("acme"));
    let broker = open(&path).expect("a new file opens");
    let jobs = [new_job(1), new_job(2), new_job(3)];
    broker.enqueue(&acme, &jobs).await.expect("an enqueue succeeds");
    let connection = rusqlite::Connection::open(&path).expect("a database");
    let change = |sql: &str, nth: usize| {
        connection.execute(sql, [jobs[nth].id.to_string()]).expect("an update");
    };
    change("UPDATE job SET reason = 'bad-luck', progress = '{\"of\":7}' WHERE id = ?1", 0);
    change("UPDATE job SET kind = 'no kind of this version' WHERE id = ?1", 1);
    change("INSERT INTO log SELECT nr, 1, 5, 1, 'fatal', 'oh', '[[\"a\",\"b\"]]' FROM job WHERE id = ?1", 0);
    change("INSERT INTO tally SELECT 'acme', 77, 1 FROM job WHERE id = ?1", 0);

    let record = broker.job(&acme, jobs[0].id).await.expect("a look succeeds").expect("it is there");
    let problem = record.unreadable.expect("something can't be read");
    assert!(problem.contains("job.reason") && problem.contains("bad-luck"), "{problem}");
    assert_eq!((record.reason, record.progress, record.payload), (None, None, b"{}".to_vec()));
    let log = broker.log(&acme, jobs[0].id).await.expect("a look succeeds");
    let fields = [("a", "b"), ("level", "fatal")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!((log[0].message.as_str(), &log[0].fields[..]), ("oh", &fields[..]));
    let refused = broker.job(&acme, jobs[1].id).await.expect_err("it has no kind");
    assert!(matches!(&refused, Error::Corrupt { at, .. } if at == "job.kind"), "{refused:?}");

    let query = Query { state: State::Ready, offset: 0, limit: 10 };
    let page = broker.jobs(&acme, query).await.expect("a look succeeds");
    assert_eq!(page.iter().map(|job| job.id).collect::<Vec<_>>(), [jobs[0].id, jobs[2].id]);
    let counts = broker.counts(&acme).await.expect("a look succeeds");
    assert_eq!(counts, Counts::of(&[(State::Ready, 3)]));
    assert_eq!(lease(&broker, &acme, 2).await, [jobs[0].id, jobs[2].id]);
    assert_eq!(lease(&broker, &acme, 2).await, []);
    let counts = broker.counts(&acme).await.expect("a look succeeds");
    assert_eq!(counts[State::Ready], 1, "it waits for a version that can read it");
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
