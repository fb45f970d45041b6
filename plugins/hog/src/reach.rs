//! Reaching for what is outside of the sandbox: files, other hosts, sockets, secrets.

use std::fs;

use sandhog_sdk::{Bytes, Context, OrFail, OrFailIo, Progress, Result, handler, info, permanent};
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
    let mut files = Vec::new();
    for _ in 0..input.times {
        files
            .push(fs::File::open(&input.path).or_permanent(format_args!("open number {}", files.len() + 1))?);
    }
    Ok(files.len())
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
pub fn fetch(input: Fetch) -> Result<Fetched> {
    const REDIRECTS_MAX: usize = 3;
    let mut url = input.url;
    for _ in 0..=REDIRECTS_MAX {
        match http::get(&url).map_err(permanent)? {
            http::Answer::Response { status, body } => {
                return Ok(Fetched { status, body: String::from_utf8_lossy(&body).into_owned() });
            }
            http::Answer::Redirect { to } => url = to,
        }
    }
    Err(permanent("redirected without end"))
}

/// Asks for a socket, which nobody gets.
#[handler(kind = "hog.connect")]
pub fn connect() -> Result<()> {
    http::socket().map_err(permanent)
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

/// The least of an HTTP client.
#[cfg(target_family = "wasm")]
mod http {
    use wasip2::http::outgoing_handler::handle;
    use wasip2::http::types::{Fields, IncomingBody, OutgoingRequest, Scheme};
    use wasip2::io::streams::StreamError;
    use wasip2::sockets::{network::IpAddressFamily, tcp_create_socket::create_tcp_socket};

    pub(super) enum Answer {
        Response { status: u16, body: Vec<u8> },
        Redirect { to: String },
    }

    pub(super) fn get(url: &str) -> Result<Answer, String> {
        let (scheme, rest) = url.split_once("://").ok_or("no scheme")?;
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let request = OutgoingRequest::new(Fields::new());
        let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
        request.set_scheme(Some(&scheme)).map_err(|()| "bad scheme")?;
        request.set_authority(Some(authority)).map_err(|()| "bad host")?;
        request.set_path_with_query(Some(path)).map_err(|()| "bad path")?;
        let future = handle(request, None).map_err(|code| format!("{code:?}"))?;
        future.subscribe().block();
        let response = future.get().ok_or("not ready")?.map_err(|()| "taken twice")?;
        let response = response.map_err(|code| format!("{code:?}"))?;
        if let Some(to) = response.headers().get("location").into_iter().next() {
            return Ok(Answer::Redirect { to: String::from_utf8_lossy(&to).into_owned() });
        }
        let body = read(&response.consume().map_err(|()| "no body")?)?;
        Ok(Answer::Response { status: response.status(), body })
    }

    fn read(body: &IncomingBody) -> Result<Vec<u8>, String> {
        let stream = body.stream().map_err(|()| "no stream")?;
        let mut read = Vec::new();
        loop {
            match stream.blocking_read(65536) {
                Ok(piece) => read.extend(piece),
                Err(StreamError::Closed) => return Ok(read),
                Err(StreamError::LastOperationFailed(error)) => {
                    let code = wasip2::http::types::http_error_code(&error);
                    return Err(format!("{code:?}"));
                }
            }
        }
    }

    pub(super) fn socket() -> Result<(), String> {
        create_tcp_socket(IpAddressFamily::Ipv4).map(drop).map_err(|code| format!("{code:?}"))
    }
}

/// Outside of a sandbox there is no such interface.
#[cfg(not(target_family = "wasm"))]
mod http {
    // Here it is never made.
    #[allow(dead_code)]
    pub(super) enum Answer {
        Response { status: u16, body: Vec<u8> },
        Redirect { to: String },
    }

    pub(super) fn get(_url: &str) -> Result<Answer, String> {
        Err("there are no requests outside of a sandbox".to_owned())
    }

    pub(super) fn socket() -> Result<(), String> {
        Err("there are no sockets outside of a sandbox".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandhog_sdk::FakeHost;

    #[test]
    fn what_is_written_can_be_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file").display().to_string();
        assert_eq!(write(Write { path: path.clone(), bytes: 10_000 }), Ok(10_000));
        assert_eq!(open(Open { path: path.clone(), times: 3 }), Ok(3));
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
    fn without_a_sandbox_nothing_is_fetched() {
        assert!(fetch(Fetch { url: "http://localhost".into() }).is_err() && connect().is_err());
    }
}
