//! Connections to a daemon over the network, with TLS and a token.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::AUTHORIZATION;
use hyper::http::HeaderValue;
use hyper::http::request::Builder;
use hyper::http::uri::{Scheme, Uri};
use hyper_util::rt::TokioIo;
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Maximum time in which a connection has to be made, the handshake of TLS included.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// Time after which a connection that nobody has used isn't used any more: its other end may close it at any time.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// Maximum number of connections that are kept while nobody uses them.
const KEPT_MAX: usize = 16;

/// Maximum length of a line of a stream of events, in bytes.
const LINE_MAX: usize = 1 << 20;

/// Maximum time for which nothing comes by a stream of events: several times that after which a server gives a sign of life.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Maximum length of a token, in bytes.
const TOKEN_MAX: usize = 4096;

pub(crate) type Sender = SendRequest<Full<Bytes>>;

/// Token by which a server knows its caller. It is shown nowhere.
#[derive(Clone)]
pub struct Token(HeaderValue);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl FromStr for Token {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_token =
            !text.is_empty() && text.len() <= TOKEN_MAX && text.bytes().all(|b| b.is_ascii_graphic());
        let value = is_token.then(|| HeaderValue::from_str(&format!("Bearer {text}")).ok()).flatten();
        let mut value = value.ok_or("a token is letters, digits and signs, without blanks")?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

/// Reason why an address can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The text is no address of a server.
    #[error(
        "`{0}` is no address of a server: it is https://HOST, http://HOST:PORT, or one of them with a path"
    )]
    Form(String),
    /// The certificates of the authorities can't be used.
    #[error("the authorities can't be used: {0}")]
    Trust(String),
    /// The caller's own certificate can't be used.
    #[error("the client's certificate can't be used: {0}")]
    Identity(String),
}

/// Authorities that vouch for a server.
#[derive(Debug)]
pub enum Trust {
    /// Those of this machine.
    System,
    /// These alone, certificates in PEM.
    Only(Vec<u8>),
}

/// Certificate by which the caller is known to the server, with its key.
#[derive(Debug)]
pub struct Identity {
    /// Chain of certificates in PEM, the caller's own first.
    pub chain: Vec<u8>,
    /// Private key in PEM.
    pub key: Vec<u8>,
}

/// Server to which connections are made, and what is shown to it.
pub struct Network {
    url: Uri,
    host: String,
    port: u16,
    base: String,
    token: Option<Token>,
    /// How TLS is spoken; `None` for plain HTTP.
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// Connections that nobody uses, and since when.
    kept: Mutex<Vec<(Sender, Instant)>>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Network {
    /// Makes ready to connect to the server at `url`. No connection is made yet.
    ///
    /// # Errors
    /// The address isn't one, or the certificates can't be used.
    pub fn new(
        url: &str,
        token: Option<Token>,
        trust: &Trust,
        identity: Option<&Identity>,
    ) -> Result<Self, AddressError> {
        let form = || AddressError::Form(without_user(url));
        let uri: Uri = url.parse().map_err(|_| form())?;
        let is_tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(form()),
        };
        let authority =
            uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(form)?;
        if uri.query().is_some() || url.contains('#') || authority.host().is_empty() {
            return Err(form());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let tls = match is_tls {
            false => None,
            true => {
                let name = ServerName::try_from(host.clone()).map_err(|_| form())?;
                Some((TlsConnector::from(Arc::new(config(trust, identity)?)), name))
            }
        };
        let base = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { host, port, base, token, tls, kept: Mutex::default(), url: uri })
    }

    /// Whether what is said can be read on its way by others than the server: it goes to another machine, without TLS.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let is_loopback = self.host == "localhost"
            || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        self.tls.is_none() && !is_loopback
    }

    /// Returns the address of the server, as it was given.
    #[must_use]
    pub fn url(&self) -> String {
        self.url.to_string()
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn authority(&self) -> &str {
        self.url.authority().map_or("", |authority| authority.as_str())
    }

    pub(crate) fn authorized(&self, request: Builder) -> Builder {
        match &self.token {
            Some(Token(value)) => request.header(AUTHORIZATION, value.clone()),
            None => request,
        }
    }

    /// Returns a connection that nobody uses and that can still be used.
    pub(crate) fn idle(&self) -> Option<Sender> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(sender, since)| since.elapsed() < IDLE_MAX && sender.is_ready());
        kept.pop().map(|(sender, _)| sender)
    }

    /// Keeps a connection for the next request.
    pub(crate) fn keep(&self, sender: Sender) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.push((sender, Instant::now()));
        }
    }

    /// Makes a connection.
    pub(crate) async fn connect(&self) -> io::Result<Sender> {
        let late =
            |_| io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {CONNECT_TIME:?}"));
        timeout(CONNECT_TIME, self.connected()).await.map_err(late)?
    }

    async fn connected(&self) -> io::Result<Sender> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => spoken(stream).await,
            Some((connector, name)) => spoken(connector.connect(name.clone(), stream).await?).await,
        }
    }
}

/// Begins to speak HTTP. The connection moves its bytes in a task of its own, which ends once the sender is dropped.
async fn spoken<S>(stream: S) -> io::Result<Sender>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // Any failure of it that matters shows in the exchange.
    tokio::spawn(async move { connection.await.ok() });
    Ok(sender)
}

/// Leaves out what an address has before an @, which may be a password.
fn without_user(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, rest)) => format!("…@{rest}"),
        None => url.to_owned(),
    }
}

fn config(trust: &Trust, identity: Option<&Identity>) -> Result<ClientConfig, AddressError> {
    let mut roots = RootCertStore::empty();
    let refuse = |why: &dyn fmt::Display| AddressError::Trust(why.to_string());
    match trust {
        Trust::System => {
            // Some of a machine's certificates may be unfit, and the others do.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Trust::Only(pem) => {
            for certificate in certificates(pem).ok_or_else(|| refuse(&"there is no certificate in PEM"))? {
                roots.add(certificate).map_err(|error| refuse(&error))?;
            }
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| refuse(&error))?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { chain, key }) => {
            let refuse = |why: &str| AddressError::Identity(why.to_owned());
            let chain = certificates(chain).ok_or_else(|| refuse("there is no certificate in PEM"))?;
            let key =
                PrivateKeyDer::from_pem_slice(key).map_err(|_| refuse("there is no private key in PEM"))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| refuse(&error.to_string()))?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    (!found.is_empty()).then_some(found)
}

/// Stream of server-sent events.
#[derive(Debug)]
pub struct EventStream {
    body: Incoming,
    /// Bytes that have come of a line that isn't whole yet, and of those after it.
    read: Vec<u8>,
    name: String,
    data: String,
    place: Option<String>,
    /// Connection, which ends with it.
    _sender: Sender,
}

/// Event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamItem {
    /// Name of the event.
    pub name: String,
    /// Document, in JSON.
    pub data: String,
}

impl EventStream {
    pub(crate) fn new(sender: Sender, body: Incoming) -> Self {
        Self {
            body,
            read: Vec::new(),
            name: String::new(),
            data: String::new(),
            place: None,
            _sender: sender,
        }
    }

    /// Waits for the next event. `None` once the stream has ended.
    ///
    /// # Errors
    /// The connection has failed, or what comes is no stream of events.
    pub async fn next(&mut self) -> io::Result<Option<StreamItem>> {
        loop {
            while let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                let line = String::from_utf8(line).map_err(io::Error::other)?;
                if let Some(item) = self.line(line.trim_end_matches(['\r', '\n'])) {
                    return Ok(Some(item));
                }
            }
            if self.read.len() > LINE_MAX || self.data.len() > LINE_MAX {
                return Err(io::Error::other("an event is too long"));
            }
            let silent = |_| io::Error::new(io::ErrorKind::TimedOut, "there is no sign of life any more");
            match timeout(SILENCE_MAX, self.body.frame()).await.map_err(silent)? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame.map_err(io::Error::other)?.into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    /// Returns the place behind the latest event, at which another stream goes on; before the first one, that at which this begins.
    #[must_use]
    pub fn place(&self) -> Option<&str> {
        self.place.as_deref()
    }

    /// Takes a line in. Returns the event that it ends.
    fn line(&mut self, line: &str) -> Option<StreamItem> {
        if line.is_empty() {
            let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
            return (!data.is_empty()).then_some(StreamItem { name, data });
        }
        match line.split_once(':') {
            Some(("id", value)) => self.place = Some(value.trim_start().to_owned()),
            // The server names first where it begins.
            Some(("", comment)) => {
                if let Some(place) = comment.strip_prefix(" from ") {
                    self.place = Some(place.to_owned());
                }
            }
            Some(("event", value)) => value.trim_start().clone_into(&mut self.name),
            Some(("data", value)) => self.data += value.strip_prefix(' ').unwrap_or(value),
            // What nobody asks for.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(url: &str) -> Result<Network, AddressError> {
        Network::new(url, None, &Trust::System, None)
    }

    #[test]
    fn an_address_is_a_scheme_a_host_and_perhaps_a_port_and_a_path() {
        let one = network("https://jobs.example.com/sandhog/").expect("an address");
        assert_eq!((one.host.as_str(), one.port, one.base()), ("jobs.example.com", 443, "/sandhog"));
        assert!(!one.is_open());
        let one = network("http://[::1]:7070").expect("an address");
        assert_eq!((one.host.as_str(), one.port, one.base()), ("::1", 7070, ""));
        assert!(!one.is_open() && network("http://10.0.0.7").expect("an address").is_open());
        for wrong in ["", "jobs", "ftp://jobs", "https://", "https://a/?b=c", "http://a/#b", "/v1"] {
            assert!(matches!(network(wrong), Err(AddressError::Form(_))), "{wrong}");
        }
    }

    #[test]
    fn secrets_are_shown_nowhere() {
        let error = network("https://me:secret@host").expect_err("it has a password").to_string();
        assert!(error.contains("…@host") && !error.contains("secret"), "{error}");
        let token: Token = "sandhog_secret".parse().expect("a token");
        let network = Network::new("http://localhost", Some(token.clone()), &Trust::System, None);
        let shown = format!("{token:?} {:?}", network.expect("an address"));
        assert!(!shown.contains("secret"), "{shown}");
        for wrong in ["", "a b", "a\n", "ä"] {
            assert!(wrong.parse::<Token>().is_err(), "{wrong:?}");
        }
    }
}
