//! A web server of a test's own, on a port of this machine.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The server. It ends with its value.
#[derive(Debug)]
pub struct Web {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

/// What it answers.
#[derive(Debug, Clone)]
pub enum Reply {
    /// With this body.
    Body(Vec<u8>),
    /// With this status and body.
    Status(u16, Vec<u8>),
    /// With so many bytes, one piece after the other.
    Bytes(usize),
    /// With this status and these header lines, and no body.
    Bare(u16, &'static str),
    /// With this body, encoded as the header line says.
    Encoded(&'static str, Vec<u8>),
    /// With these pieces, so long after each other, and these lines at the end.
    Chunked {
        /// The pieces of the body.
        pieces: Vec<Vec<u8>>,
        /// Between one and the next.
        pause: Duration,
        /// Header lines after the body.
        trailers: &'static str,
    },
    /// With how the body of the request came: by `length` or in `chunks`, and how many bytes.
    Framing,
    /// With this status before it has read the body of the request, which it never does.
    Early(u16),
    /// With a body that ends with the connection, as before there were lengths.
    UntilClose(Vec<u8>),
    /// By closing the connection.
    Close,
    /// With a body, and closes the connection without having said so.
    BodyAndClose(Vec<u8>),
    /// That it is elsewhere.
    Redirect(String),
    /// Nothing, ever.
    Silence,
    /// The beginning of a body, and then nothing, ever.
    Stall,
    /// With so many header lines.
    Headers(usize),
    /// With one header line of so many bytes.
    LongHeader(usize),
}

impl Web {
    /// Starts it: `reply` answers by path.
    ///
    /// # Panics
    /// If there is no port.
    pub async fn start(reply: impl Fn(&str) -> Reply + Send + Sync + Clone + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                // Whoever asked may be gone before the answer is out.
                let reply = reply.clone();
                tokio::spawn(async move { serve(stream, reply).await.ok() });
            }
        });
        Self { address, connections, serving }
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connections were made to it.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// A server on a thread of its own, below all others: what it takes of the processors is nothing that a daemon could share.
#[derive(Debug)]
pub struct BackgroundWeb {
    port: u16,
    _ends: oneshot::Sender<()>,
}

impl BackgroundWeb {
    /// Starts it: `reply` answers by path. It ends with its value.
    ///
    /// # Panics
    /// If there is no port.
    #[must_use]
    pub fn start(reply: impl Fn(&str) -> Reply + Send + Sync + Clone + 'static) -> Self {
        let (bound, port) = mpsc::channel();
        let (ends, end) = oneshot::channel::<()>();
        thread::spawn(move || {
            // Where that is refused, it is as high as all others.
            rustix::process::setpriority_process(None, 15).ok();
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let web = Web::start(reply).await;
                bound.send(web.port()).expect("who starts it waits");
                end.await.ok();
            });
        });
        Self { port: port.recv().expect("it starts"), _ends: ends }
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A request, but for its body.
struct Head {
    method: String,
    path: String,
    framing: Option<Framing>,
    closes: bool,
}

/// How a body comes.
#[derive(Clone, Copy)]
enum Framing {
    Length(usize),
    Chunks,
}

type Stream = BufReader<TcpStream>;

/// Serves one request after the other, as long as both sides go on.
async fn serve(stream: TcpStream, reply: impl Fn(&str) -> Reply) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(head) = read_head(&mut stream).await? {
        let reply = reply(&head.path);
        if let Reply::Early(status) = reply {
            let early = format!("HTTP/1.1 {status} X\r\ncontent-length: 5\r\nconnection: close\r\n\r\nearly");
            stream.write_all(early.as_bytes()).await?;
            // What is under way is still taken, or the answer might be lost with the connection.
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
            return Ok(());
        }
        let received = read_body(&mut stream, head.framing).await?;
        let closes = respond(&mut stream, reply, &head, received).await?;
        if closes || head.closes {
            break;
        }
    }
    Ok(())
}

async fn read_head(stream: &mut Stream) -> io::Result<Option<Head>> {
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        if stream.read_line(&mut text).await? == 0 {
            return Ok(None);
        }
    }
    let mut lines = text.lines();
    let mut request = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let (method, path) = (request.next().unwrap_or_default(), request.next().unwrap_or_default());
    let mut head = Head { method, path, framing: None, closes: false };
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        match name.to_ascii_lowercase().as_str() {
            "content-length" => head.framing = value.parse().ok().map(Framing::Length),
            "transfer-encoding" => head.framing = Some(Framing::Chunks),
            "connection" => head.closes = value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    Ok(Some(head))
}

/// Reads a body, and returns how long it was.
async fn read_body(stream: &mut Stream, framing: Option<Framing>) -> io::Result<usize> {
    let mut received = 0;
    match framing {
        None => {}
        Some(Framing::Length(length)) => received = skip(stream, length).await?,
        Some(Framing::Chunks) => loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            let length = usize::from_str_radix(line.trim_end(), 16).map_err(io::Error::other)?;
            received += skip(stream, length).await?;
            // The end of the line, and after the last one that of the body.
            stream.read_line(&mut line).await?;
            if length == 0 {
                break;
            }
        },
    }
    Ok(received)
}

async fn skip(stream: &mut Stream, length: usize) -> io::Result<usize> {
    let copied = tokio::io::copy(&mut stream.take(length as u64), &mut tokio::io::sink()).await?;
    usize::try_from(copied).map_err(io::Error::other)
}

/// Answers. Returns whether the connection is to be closed.
async fn respond(stream: &mut Stream, reply: Reply, head: &Head, received: usize) -> io::Result<bool> {
    let of_length =
        |lines: &str, length: usize| format!("HTTP/1.1 200 OK\r\n{lines}content-length: {length}\r\n\r\n");
    let with = |lines: &str, body: &[u8]| {
        let body = if head.method == "HEAD" { &[][..] } else { body };
        [of_length(lines, body.len()).as_bytes(), body].concat()
    };
    match reply {
        Reply::Body(body) => stream.write_all(&with("", &body)).await?,
        Reply::Encoded(line, body) => stream.write_all(&with(&format!("{line}\r\n"), &body)).await?,
        Reply::Bare(status, lines) => {
            stream.write_all(format!("HTTP/1.1 {status} X\r\n{lines}\r\n").as_bytes()).await?;
        }
        Reply::Framing => {
            let how = match head.framing {
                None => "nothing",
                Some(Framing::Length(_)) => "length",
                Some(Framing::Chunks) => "chunks",
            };
            stream.write_all(&with("", format!("{how} {received}").as_bytes())).await?;
        }
        Reply::Status(status, body) => {
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(&[head.as_bytes(), &body].concat()).await?;
        }
        Reply::Bytes(bytes) => {
            stream.write_all(of_length("", bytes).as_bytes()).await?;
            let piece = vec![b'x'; 16 * 1024];
            for at in (0..bytes).step_by(piece.len()) {
                stream.write_all(&piece[..piece.len().min(bytes - at)]).await?;
            }
        }
        Reply::Chunked { pieces, pause, trailers } => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            for piece in pieces {
                stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
                stream.write_all(&[&piece, &b"\r\n"[..]].concat()).await?;
                tokio::time::sleep(pause).await;
            }
            stream.write_all(format!("0\r\n{trailers}\r\n").as_bytes()).await?;
        }
        Reply::UntilClose(body) => {
            stream.write_all(&[b"HTTP/1.1 200 OK\r\n\r\n", &body[..]].concat()).await?;
            return Ok(true);
        }
        Reply::BodyAndClose(body) => {
            stream.write_all(&with("", &body)).await?;
            return Ok(true);
        }
        Reply::Close => return Ok(true),
        Reply::Redirect(to) => {
            let head = format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
        }
        Reply::Silence => std::future::pending().await,
        Reply::Stall => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nbeginning").await?;
            std::future::pending().await
        }
        Reply::Headers(lines) => {
            let lines: String = (0..lines).map(|n| format!("x-{n}: {}\r\n", "y".repeat(64))).collect();
            stream.write_all(of_length(&lines, 0).as_bytes()).await?;
        }
        Reply::LongHeader(bytes) => {
            stream.write_all(of_length(&format!("x-long: {}\r\n", "y".repeat(bytes)), 0).as_bytes()).await?;
        }
        Reply::Early(_) => return Ok(true),
    }
    Ok(false)
}
