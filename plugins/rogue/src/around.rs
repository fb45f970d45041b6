//! Looking around: at the process, the network, chance and time.

use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

use sandhog_sdk::{Context, Result, handler};
use serde::Serialize;
use wasip2::cli::environment;
use wasip2::clocks::monotonic_clock;
use wasip2::filesystem::preopens;
use wasip2::random::{insecure_seed, random};

/// What there is.
#[derive(Debug, Serialize)]
pub struct Found {
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    directories: Vec<String>,
    working_directory: Option<String>,
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

/// Looks at the clock until it has moved a hundred times, and returns the smallest step.
#[handler(kind = "rogue.tick")]
pub fn tick() -> Result<u64> {
    let mut last = monotonic_clock::now();
    let mut smallest = u64::MAX;
    let mut moves = 0;
    while moves < 100 {
        let now = monotonic_clock::now();
        if now != last {
            smallest = smallest.min(now - last);
            moves += 1;
            last = now;
        }
    }
    Ok(smallest)
}
