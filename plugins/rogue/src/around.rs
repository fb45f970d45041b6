//! Looking around: at the process, the network, chance and time.

use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

use sandhog_sdk::{Context, Result, handler};
use serde::{Deserialize, Serialize};
use wasip2::cli::environment;
use wasip2::clocks::{monotonic_clock, wall_clock};
use wasip2::filesystem::preopens;
use wasip2::http::types::Fields;
use wasip2::random::{insecure_seed, random};

/// What there is.
#[derive(Debug, Serialize)]
pub struct Found {
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    directories: Vec<String>,
    working_directory: Option<String>,
}

/// Which fields to add.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flood {
    /// How long the value of each is.
    pub bytes: usize,
}

/// How coarse the clocks should be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tick {
    /// In nanoseconds.
    pub resolution: u64,
}

/// Looks for whatever tells where it is.
#[handler(kind = "rogue.look")]
pub fn look() -> Result<Found> {
    Ok(Found {
        arguments: environment::get_arguments(),
        variables: environment::get_environment(),
        directories: preopens::get_directories().into_iter().map(|(_, name)| name).collect(),
        working_directory: environment::initial_cwd(),
    })
}

/// Opens every kind of socket, and looks a name up. Returns what worked.
#[handler(kind = "rogue.connect")]
pub fn connect() -> Result<Vec<&'static str>> {
    let tried = [
        ("connect", TcpStream::connect("127.0.0.1:6379").is_ok()),
        ("listen", TcpListener::bind("127.0.0.1:0").is_ok()),
        ("datagram", UdpSocket::bind("127.0.0.1:0").is_ok()),
        ("name", ("localhost", 80).to_socket_addrs().is_ok()),
    ];
    Ok(tried.into_iter().filter(|(_, worked)| *worked).map(|(name, _)| name).collect())
}

/// Remembers random numbers, and returns whether those of this run are others than the last run's.
#[handler(kind = "rogue.dice")]
pub fn dice(ctx: &Context) -> Result<bool> {
    let rolled = (random::get_random_u64(), insecure_seed::insecure_seed());
    let last = ctx.state().get::<(u64, (u64, u64))>("dice")?;
    ctx.state().set("dice", &rolled)?;
    Ok(last.is_none_or(|last| last.0 != rolled.0 && last.1 != rolled.1))
}

/// Adds fields to a set of HTTP fields, each under a name of its own, until it is told no. Returns how many there are.
#[handler(kind = "rogue.fields")]
pub fn fields(input: Flood) -> Result<u32> {
    let fields = Fields::new();
    let value = vec![b'x'; input.bytes];
    let mut added = 0;
    while fields.append(&format!("x-{added}"), &value).is_ok() {
        added += 1;
    }
    Ok(added)
}

/// Looks at each clock until it has moved ten times, and returns the steps that the resolution should have hidden.
#[handler(kind = "rogue.tick")]
pub fn tick(input: Tick) -> Result<Vec<u64>> {
    let mut finer = Vec::new();
    for look in [monotonic_clock::now, wall] {
        let mut last = look();
        let mut moves = 0;
        while moves < 10 {
            let now = look();
            let step = now.abs_diff(last);
            if step == 0 {
                continue;
            }
            if step % input.resolution != 0 {
                finer.push(step);
            }
            moves += 1;
            last = now;
        }
    }
    Ok(finer)
}

/// Nanoseconds since 1970.
fn wall() -> u64 {
    let now = wall_clock::now();
    now.seconds * 1_000_000_000 + u64::from(now.nanoseconds)
}
