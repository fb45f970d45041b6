//! Web server of a single test, on a port of this machine.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Web server. It ends when this is dropped.
#[derive(Debug)]
pub struct Web {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

/// Response of the server.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A response with this body.
    Body(Vec<u8>),
    /// A response with this status and body.
    Status(u16, Vec<u8>),
    /// A body of this many bytes, sent piece by piece.
    Bytes(usize),
    /// A response with this status and these header lines, and no body.
    Bare(u16, &'static str),
    /// A response with this body, encoded as the header line says.
    Encoded(&'static str, Vec<u8>),
    /// A chunked body with a pause between its pieces, and trailers.
    Chunked {
        /// The pieces of the body.
        pieces: Vec<Vec<u8>>,
        /// Pause between two pieces.
        pause: Duration,
        /// Header lines after the body.
        trailers: &'static str,
    },
    /// A body that tells the framing of the request's body, `length` or `chunks`, and its size in bytes.
    Framing,
    /// A response with this status that is sent before the request's body is read; the body is discarded afterwards.
    Early(u16),
    /// A body without a length, which ends with the connection.
    UntilClose(Vec<u8>),
    /// No response: the connection is closed.
    Close,
    /// A response with this body, after which the connection is closed without announcement.
    BodyAndClose(Vec<u8>),
    /// A redirect to this location.
    Redirect(String),
    /// No response, ever.
    Silence,
    /// The beginning of a body, and then nothing more, ever.
    Stall,
    /// A response with this many header lines.
    Headers(usize),
    /// A response with one header line of this many bytes.
    LongHeader(usize),
}

impl Web {
    /// Starts the server; `reply` returns the response for a path.
    ///
    /// # Panics
    /// If there is no port.
    pub async fn start(reply: impl Fn(&str) -> Reply + Send + Sync + Clone + 'static) -> Self {
        Self::start_with(None, reply).await
    }

    /// Starts the server as [`Self::start`] does, with TLS, and a certificate for `127.0.0.1` and `localhost` that
    /// [`authority`] has signed.
    ///
    /// # Panics
    /// If there is no port.
    pub async fn start_tls(reply: impl Fn(&str) -> Reply + Send + Sync + Clone + 'static) -> Self {
        Self::start_with(Some(acceptor()), reply).await
    }

    async fn start_with(
        tls: Option<TlsAcceptor>,
        reply: impl Fn(&str) -> Reply + Send + Sync + Clone + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                // The client may be gone before the response is sent.
                let (reply, tls) = (reply.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, reply).await.ok(),
                        Some(tls) => serve(tls.accept(stream).await.ok()?, reply).await.ok(),
                    }
                });
            }
        });
        Self { address, connections, serving }
    }

    /// Returns the port of the server.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns the number of connections that were made to the server.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Web server on a thread of its own at low priority, so that it takes no processor time that a daemon could use.
#[derive(Debug)]
pub struct BackgroundWeb {
    port: u16,
    _ends: oneshot::Sender<()>,
}

impl BackgroundWeb {
    /// Starts the server; `reply` returns the response for a path. It ends when this is dropped.
    ///
    /// # Panics
    /// If there is no port.
    #[must_use]
    pub fn start(reply: impl Fn(&str) -> Reply + Send + Sync + Clone + 'static) -> Self {
        Self::start_with(None, reply)
    }

    /// Starts the server as [`Self::start`] does, with TLS as that of [`Web::start_tls`].
    ///
    /// # Panics
    /// If there is no port.
    #[must_use]
    pub fn start_tls(reply: impl Fn(&str) -> Reply + Send + Sync + Clone + 'static) -> Self {
        Self::start_with(Some(acceptor()), reply)
    }

    fn start_with(
        tls: Option<TlsAcceptor>,
        reply: impl Fn(&str) -> Reply + Send + Sync + Clone + 'static,
    ) -> Self {
        let (bound, port) = mpsc::channel();
        let (ends, end) = oneshot::channel::<()>();
        thread::spawn(move || {
            // If that is refused, its priority stays that of the others.
            rustix::process::setpriority_process(None, 15).ok();
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let web = Web::start_with(tls, reply).await;
                bound.send(web.port()).expect("who starts it waits");
                end.await.ok();
            });
        });
        Self { port: port.recv().expect("it starts"), _ends: ends }
    }

    /// Returns the port of the server.
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

/// Folder of the certificate of servers with TLS, of its key and of the authority that has signed it.
const TLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../runtime/broker/tests/redis/tls");

/// Returns the path of the authority's certificate, which whoever is to trust the servers with TLS has to trust.
#[must_use]
pub fn authority() -> PathBuf {
    Path::new(TLS).join("authority.pem")
}

fn acceptor() -> TlsAcceptor {
    let folder = Path::new(TLS);
    let certificate = CertificateDer::from_pem_file(folder.join("server.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they belong together");
    TlsAcceptor::from(Arc::new(config))
}

/// A request without its body.
struct Head {
    method: String,
    path: String,
    framing: Option<Framing>,
    closes: bool,
}

/// Framing of a body.
#[derive(Clone, Copy)]
enum Framing {
    Length(usize),
    Chunks,
}

/// Connection, with TLS or without.
trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}

impl<C: AsyncRead + AsyncWrite + Unpin + Send> Connection for C {}

type Stream = BufReader<Box<dyn Connection>>;

/// Serves the requests of a connection, one after the other, until either side closes it.
async fn serve(stream: impl Connection + 'static, reply: impl Fn(&str) -> Reply) -> io::Result<()> {
    let mut stream: Stream = BufReader::new(Box::new(stream));
    while let Some(head) = read_head(&mut stream).await? {
        let reply = reply(&head.path);
        if let Reply::Early(status) = reply {
            let early = format!("HTTP/1.1 {status} X\r\ncontent-length: 5\r\nconnection: close\r\n\r\nearly");
            stream.write_all(early.as_bytes()).await?;
            // Bytes under way are still read, or the response might be lost with the connection.
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

/// Reads a body, and returns its length in bytes.
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
            // The end of the chunk's line, and after the last chunk that of the body.
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

/// Sends a response, and returns whether the connection is to be closed.
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
