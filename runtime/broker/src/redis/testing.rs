//! Redis servers of a test's own: alone, watched by sentinels or in a cluster, and a proxy before them that can go silent.

mod cluster;
mod sentinels;

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener as Listener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use redis::{FromRedisValue, RedisResult};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub use self::cluster::Cluster;
pub use self::sentinels::Sentinels;

/// A server on a free port of 127.0.0.1. It ends when this is dropped, and its data is removed.
#[derive(Debug)]
pub struct Server {
    /// A shell that ends the server when its own input ends: so also when this process is killed.
    child: Option<Child>,
    /// The server's own process.
    process: Option<u32>,
    port: u16,
    speaks: Speaks,
    folder: PathBuf,
    options: Vec<OsString>,
}

#[derive(Debug, Clone, Copy)]
enum Speaks {
    Plainly,
    Tls,
    /// Speaks plainly, as a sentinel.
    Sentinel,
}

/// The way in which a server writes its append-only file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The file is not written.
    None,
    /// The file is written to the disk once a second.
    EverySecond,
    /// The file is written to the disk before each answer.
    Always,
}

/// A shell script that runs a server with the arguments after the first, until its input ends. The input says whether to keep
/// the server's folder, which is the first argument.
const SHELL: &str = r#"
    folder=$1
    shift
    redis-server "$@" &
    echo $!
    exec >&-
    read -r verdict
    kill -9 $!
    wait
    [ "$verdict" = keep ] || rm -rf "$folder"
"#;

impl Server {
    /// Returns the server that the tests of one process share; it ends with the last one that holds it.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start(Durability::EverySecond, &[]));
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// Starts a server, with further options as on the command line of `redis-server`.
    ///
    /// # Panics
    /// If there is no `redis-server`, or it doesn't start.
    #[must_use]
    pub fn start(durability: Durability, options: &[&str]) -> Self {
        Self::start_speaking(Speaks::Plainly, durability, options)
    }

    /// Starts a server that only speaks TLS; the options name its certificate.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn start_with_tls(options: &[&str]) -> Self {
        Self::start_speaking(Speaks::Tls, Durability::None, options)
    }

    /// Starts a sentinel with these lines of configuration.
    fn start_sentinel(lines: &str) -> Self {
        let folder = folder();
        let file = folder.join("sentinel.conf");
        fs::write(&file, lines).expect("a file can be written");
        Self::start_in(folder, Speaks::Sentinel, vec![file.into(), "--sentinel".into()])
    }

    fn start_speaking(speaks: Speaks, durability: Durability, options: &[&str]) -> Self {
        let mut all = vec!["--bind", "127.0.0.1", "--save", ""];
        all.extend(match durability {
            Durability::None => ["--appendonly", "no", "--appendfsync", "no"],
            Durability::EverySecond => ["--appendonly", "yes", "--appendfsync", "everysec"],
            Durability::Always => ["--appendonly", "yes", "--appendfsync", "always"],
        });
        all.extend(options);
        Self::start_in(folder(), speaks, all.into_iter().map(OsString::from).collect())
    }

    fn start_in(folder: PathBuf, speaks: Speaks, options: Vec<OsString>) -> Self {
        let version = Command::new("redis-server").arg("--version").output();
        version.expect("redis-server is installed: run `make setup`");
        let mut server = Self { child: None, process: None, port: 0, speaks, folder, options };
        // Between our finding a free port and the server's taking it, another process may take it.
        for _ in 0..10 {
            server.port = free_port();
            if server.comes_up() {
                return server;
            }
        }
        panic!("redis-server doesn't start with {:?}", server.options);
    }

    /// Returns the server's URL.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = match self.speaks {
            Speaks::Plainly | Speaks::Sentinel => "redis",
            Speaks::Tls => "rediss",
        };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Returns the server's port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sends a command to the server as its administrator.
    ///
    /// # Errors
    /// If the server can't be reached, or refuses.
    pub fn ask<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        let patience = Duration::from_secs(1);
        let mut connection = redis::Client::open(self.url())?.get_connection_with_timeout(patience)?;
        connection.set_read_timeout(Some(patience))?;
        redis::cmd(words[0]).arg(&words[1..]).query(&mut connection)
    }

    /// Returns the server's role, `master` or `slave`; `None` if it doesn't answer.
    fn role(&self) -> Option<String> {
        let role: Vec<redis::Value> = self.ask(&["ROLE"]).ok()?;
        redis::from_redis_value_ref(role.first()?).ok()
    }

    /// Waits until the server has caught up with its primary.
    ///
    /// # Panics
    /// If it doesn't catch up.
    pub fn wait_until_replicating(&self) {
        until("a replica has caught up", || {
            let info: String = self.ask(&["INFO", "replication"]).unwrap_or_default();
            info.contains("master_link_status:up")
        });
    }

    /// Stops the server from answering, though its connections stay open, as those of a machine that hangs do.
    ///
    /// # Panics
    /// If the server isn't running.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Ends a [`Self::pause`].
    ///
    /// # Panics
    /// If the server isn't running.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Waits until the server's replicas have all that it has now; one that it doesn't know of yet is waited for.
    ///
    /// # Panics
    /// If they don't get it, or there is no replica.
    pub fn wait_until_replicated(&self) {
        type Replicas = Vec<(String, String, String)>;
        let role = || self.ask::<(String, u64, Replicas)>(&["ROLE"]);
        let (_, offset, _) = role().expect("it is there, and a primary");
        until("the replicas have it all", || {
            let has_it = |(_, _, at): &(String, String, String)| at.parse().is_ok_and(|at: u64| at >= offset);
            role().is_ok_and(|(_, _, replicas)| !replicas.is_empty() && replicas.iter().all(has_it))
        });
    }

    /// Ends the server as a power cut would, but not before its replicas have all that it has acknowledged, so that nothing
    /// is lost.
    ///
    /// # Panics
    /// If the server or the replicas aren't running.
    pub fn kill_once_replicated(&mut self) {
        // From here on the server acknowledges no write.
        let () = self.ask(&["CLIENT", "PAUSE", "60000", "WRITE"]).expect("it is there");
        self.wait_until_replicated();
        self.kill();
    }

    fn signal(&self, name: &str) {
        let process = self.process.expect("it runs").to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &process]).status();
        assert!(sent.expect("kill is there").success(), "redis-server is gone");
    }

    /// Ends the server as a power cut would.
    ///
    /// # Panics
    /// If the server can't be ended.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let mut input = child.stdin.take().expect("it is piped");
            input.write_all(b"keep\n").expect("the shell reads");
            drop(input);
            child.wait().expect("a shell that waits for nothing more ends");
        }
    }

    /// Starts the server again, on the same port and with its data.
    ///
    /// # Panics
    /// If it doesn't start.
    pub fn restart(&mut self) {
        self.kill();
        assert!(self.comes_up(), "redis-server doesn't start again on port {}", self.port);
    }

    fn place(&self) -> [String; 4] {
        let port = self.port.to_string();
        let none = || "0".to_owned();
        let (plain, tls) = match self.speaks {
            Speaks::Plainly | Speaks::Sentinel => (port, none()),
            Speaks::Tls => (none(), port),
        };
        ["--port".to_owned(), plain, "--tls-port".to_owned(), tls]
    }

    /// Starts the server. Returns whether it came up, by its log; if the port is taken, it ends.
    fn comes_up(&mut self) -> bool {
        let mut child = Command::new("sh")
            .args(["-c", SHELL, "redis-server"])
            .arg(&self.folder)
            .args(&self.options)
            .args(self.place())
            .arg("--dir")
            .arg(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("there is a shell");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let sign = match self.speaks {
            Speaks::Plainly | Speaks::Tls => "Ready to accept connections",
            Speaks::Sentinel => "+monitor",
        };
        let is_ready = |line: String| {
            // The number is printed by the shell itself; all other lines say more.
            self.process = line.parse().ok().or(self.process);
            line.contains(sign)
        };
        let came_up = lines.by_ref().map_while(Result::ok).any(is_ready);
        // A server whose log nobody reads stops when the pipe is full.
        std::thread::spawn(move || lines.for_each(drop));
        self.child = Some(child);
        if !came_up {
            self.kill();
        }
        came_up
    }
}

/// The shell removes its folder, as it does when this process ends first.
impl Drop for Server {
    fn drop(&mut self) {
        match self.child.take() {
            Some(mut child) => {
                drop(child.stdin.take());
                // A failure here is of no use to a test.
                let _ = child.wait();
            }
            None => drop(fs::remove_dir_all(&self.folder)),
        }
    }
}

/// Waits until `is_so`, for what no message tells of.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not so within a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn free_port() -> u16 {
    let listener = Listener::bind(("127.0.0.1", 0)).expect("there is a free port");
    listener.local_addr().expect("it is bound").port()
}

fn folder() -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = format!("sandhog-redis-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(name);
    fs::create_dir(&folder).expect("a folder can be made for temporary files");
    folder
}

/// A proxy of a server that can go silent without closing, as networks do: connections stay open, new ones are accepted, and
/// nothing gets through.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    silent: watch::Sender<bool>,
}

impl Proxy {
    /// Starts a proxy of this port of 127.0.0.1.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn to(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("there is a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let silent = watch::Sender::new(false);
        let mut state = silent.subscribe();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    near = listener.accept() => {
                        let Ok((near, _)) = near else { return };
                        tokio::spawn(join(near, target, state.clone()));
                    }
                    gone = gone(&mut state) => return gone,
                }
            }
        });
        Self { port, silent }
    }

    /// Returns the URL at which the server can be reached through the proxy.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Stops letting anything through. What is sent meanwhile is lost, and so are the connections that it was sent on.
    pub fn go_silent(&self) {
        self.silent.send_replace(true);
    }

    /// Lets new connections through.
    pub fn go_on(&self) {
        self.silent.send_replace(false);
    }
}

/// Copies bytes both ways until the proxy goes silent; then keeps the connections open until the proxy is gone.
async fn join(mut near: TcpStream, target: u16, mut silent: watch::Receiver<bool>) {
    let is_silent = *silent.borrow();
    if is_silent {
        return gone(&mut silent).await;
    }
    let Ok(mut far) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    let went_silent = tokio::select! {
        // One end has closed, so the other may.
        _ = copy_bidirectional(&mut near, &mut far) => false,
        silent = silent.wait_for(|silent| *silent) => silent.is_ok(),
    };
    if went_silent {
        gone(&mut silent).await;
    }
}

/// Waits until the proxy is gone.
async fn gone(silent: &mut watch::Receiver<bool>) {
    while silent.changed().await.is_ok() {}
}
