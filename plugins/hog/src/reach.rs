//! Reaching for what is outside of the sandbox: files, other hosts, sockets, secrets.

use std::fs;

use sandhog_sdk::{Bytes, Context, OrFail, OrFailIo, Progress, Request, Result, handler, info, permanent};
use serde::{Deserialize, Serialize};

/// What to write.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Write {
    /// The file; it is made anew.
    pub path: String,
    /// How many bytes.
    pub bytes: usize,
}

/// What to read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cat {
    /// The file.
    pub path: String,
}

/// What to list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The directory.
    pub path: String,
    /// How often; none: for ever.
    #[serde(default)]
    pub times: Option<usize>,
}

/// What to open.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// The file.
    pub path: String,
    /// How often.
    pub times: usize,
    /// Whether they are closed then, and opened again, for ever.
    #[serde(default)]
    pub again: bool,
}

/// What to fetch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fetch {
    /// `http://host:port/path`, or with `https`.
    pub url: String,
}

/// What was fetched.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Fetched {
    /// The status of the last response.
    pub status: u16,
    /// Its body, as text.
    pub body: String,
}

/// Which secret to tell, and how.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tell {
    /// The secret's name.
    pub secret: String,
    /// In a log line, on stdout and as progress; otherwise as the reason of a failure.
    pub aloud: bool,
}

/// What the clocks say.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Clocks {
    /// Nanoseconds since 1970.
    pub wall: u64,
    /// What is left of the attempt, in milliseconds.
    pub remaining: u64,
}

const CHUNK: usize = 4096;

/// Writes a file in small pieces, and returns its size.
#[handler(kind = "hog.write")]
pub fn write(input: Write) -> Result<u64> {
    use std::io::Write as _;
    // A failure of any kind is for good, so that it is seen at once.
    let mut file = fs::File::create(&input.path).or_permanent(format_args!("create {}", input.path))?;
    let mut left = input.bytes;
    while left > 0 {
        let piece = left.min(CHUNK);
        file.write_all(&[b'x'; CHUNK][..piece]).or_permanent(format_args!("write {}", input.path))?;
        left -= piece;
    }
    Ok(file.metadata().or_permanent("look at the file")?.len())
}

/// Opens a file many times over without closing it, and returns how often.
#[handler(kind = "hog.open")]
pub fn open(input: Open) -> Result<usize> {
    loop {
        let mut files = Vec::new();
        for number in 1..=input.times {
            files.push(fs::File::open(&input.path).or_permanent(format_args!("open number {number}"))?);
        }
        if !input.again {
            return Ok(files.len());
        }
    }
}

/// Lists a directory, and returns the names, in order.
#[handler(kind = "hog.list")]
pub fn list(input: List) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for _ in 0..input.times.unwrap_or(usize::MAX) {
        names.clear();
        for entry in fs::read_dir(&input.path).or_permanent(format_args!("list {}", input.path))? {
            let entry = entry.or_permanent(format_args!("list {}", input.path))?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Reads a file, and returns what is in it.
#[handler(kind = "hog.cat")]
pub fn cat(input: Cat) -> Result<Bytes> {
    Ok(Bytes(fs::read(&input.path).or_fail_io(format_args!("read {}", input.path))?))
}

/// Gets a resource over HTTP, and follows redirects.
#[handler(kind = "hog.fetch")]
pub fn fetch(ctx: &Context, input: Fetch) -> Result<Fetched> {
    const REDIRECTS_MAX: usize = 3;
    let mut url = input.url;
    for _ in 0..=REDIRECTS_MAX {
        let response = ctx.http(&Request::get(&url)).map_err(permanent)?;
        match response.header("location") {
            Some(to) => url = to.to_owned(),
            None => return Ok(Fetched { status: response.status, body: response.text() }),
        }
    }
    Err(permanent("redirected without end"))
}

/// Asks for a socket, which nobody gets.
#[handler(kind = "hog.connect")]
pub fn connect() -> Result<()> {
    socket().map_err(permanent)
}

/// Tells a secret.
#[handler(kind = "hog.tell")]
pub fn tell(ctx: &Context, input: Tell) -> Result<()> {
    let secret = ctx.secret(&input.secret).or_permanent("ask for the secret")?;
    let text = format!("it is {}", secret.expose());
    if !input.aloud {
        return Err(permanent(text));
    }
    info!(ctx, "{text}", secret = secret.expose());
    println!("{text}");
    ctx.progress(Progress::so_far(1).message(text));
    Ok(())
}

/// Says what time it is.
#[handler(kind = "hog.clocks")]
pub fn clocks(ctx: &Context) -> Result<Clocks> {
    let wall = std::time::SystemTime::UNIX_EPOCH.elapsed().or_permanent("look at the clock")?;
    let remaining = ctx.remaining();
    Ok(Clocks { wall: wall.as_nanos() as u64, remaining: remaining.as_millis() as u64 })
}

#[cfg(target_family = "wasm")]
fn socket() -> Result<(), String> {
    use wasip2::sockets::{network::IpAddressFamily, tcp_create_socket::create_tcp_socket};
    create_tcp_socket(IpAddressFamily::Ipv4).map(drop).map_err(|code| format!("{code:?}"))
}

/// Outside of a sandbox there is no such interface.
#[cfg(not(target_family = "wasm"))]
fn socket() -> Result<(), String> {
    Err("there are no sockets outside of a sandbox".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandhog_sdk::{FakeHost, HttpReply};

    #[test]
    fn what_is_written_can_be_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file").display().to_string();
        assert_eq!(write(Write { path: path.clone(), bytes: 10_000 }), Ok(10_000));
        assert_eq!(open(Open { path: path.clone(), times: 3, again: false }), Ok(3));
        assert_eq!(cat(Cat { path }), Ok(Bytes(vec![b'x'; 10_000])));
    }

    #[test]
    fn a_secret_is_told_as_it_was_asked() {
        let mut host = FakeHost::new().secret("TOKEN", "hunter2");
        let run = host.run_payload::<tell>(r#"{"secret": "TOKEN", "aloud": false}"#);
        assert_eq!(run.result, Err(permanent("it is hunter2")));
        let run = host.run_payload::<tell>(r#"{"secret": "TOKEN", "aloud": true}"#);
        assert_eq!((run.result, run.logs.len()), (Ok(b"null".to_vec()), 1));
    }

    #[test]
    fn what_is_fetched_is_where_redirects_lead() {
        let mut host = FakeHost::new()
            .http("GET http://a.example/", HttpReply::status(302).header("location", "http://b.example/"))
            .http("GET http://b.example/", HttpReply::status(200).body("hello"))
            .http(
                "GET http://round.example/",
                HttpReply::status(302).header("location", "http://round.example/"),
            );
        let mut fetch = |url: &str| host.run(|ctx| fetch(ctx, Fetch { url: url.to_owned() })).result;
        assert_eq!(fetch("http://a.example/"), Ok(Fetched { status: 200, body: "hello".into() }));
        assert!(fetch("http://round.example/").is_err() && fetch("http://c.example/").is_err());
        assert!(connect().is_err());
    }
}
