//! Connections to a host and port: granted, resolved, checked, made.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use sandhog_core::grants::{AddressRefusal, Ranges, address, undotted};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wasmtime_wasi::runtime::spawn_blocking;
use wasmtime_wasi_http::{Error, Result};

use super::Requests;
use super::wire::Counted;
use crate::run_log::Remark;

/// TLS settings with the certificates that the machine trusts, read when they are needed first, and again by
/// [`trust_anew`]. `None` if they weren't needed yet, or couldn't be read: then the next connection tries again.
static TLS: RwLock<Option<Arc<ClientConfig>>> = RwLock::new(None);

/// Place of whoever reads the certificates first, for which others wait.
static READING: Mutex<()> = Mutex::const_new(());

/// Maximum time that one of several addresses of a host may take to answer before the next one is tried.
const TRY_MAX: Duration = Duration::from_secs(3);

/// Destination of a request that was found to be granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) host: String,
    pub(super) port: u16,
}

/// Addresses that no plugin may reach, whatever it is granted. They are the same for all plugins, and always the latest.
#[derive(Debug, Clone, Default)]
pub(crate) struct Denied(Arc<RwLock<Arc<Ranges>>>);

impl Denied {
    /// Replaces the ranges, from now on.
    pub(crate) fn set(&self, ranges: Ranges) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ranges);
    }

    fn now(&self) -> Arc<Ranges> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Requests {
    /// Checks that requests to a host and port are granted. Returns the destination.
    pub(super) fn granted(&self, host: &str, port: u16) -> Result<Destination> {
        if !self.plugin.grants().allow_http(host, port) {
            self.log.remark(Remark::Http, || {
                format!(
                    "requests to {host}:{port} are refused; add `http = [\"{host}:{port}\"]` under [grants] of {}",
                    self.plugin.place()
                )
            });
            return Err(Error::HttpRequestDenied);
        }
        Ok(Destination { host: undotted(host).to_owned(), port })
    }

    /// Connects to the first address that may be reached and answers.
    pub(super) async fn connect(&self, to: &Destination, found: &[SocketAddr]) -> Result<TcpStream> {
        let (mut refused, mut sockets) = (None, Vec::new());
        let denied = self.plugin.denied().now();
        for socket in found {
            match self.plugin.grants().check_address(&to.host, to.port, socket.ip(), &denied) {
                Ok(()) => sockets.push(*socket),
                Err(refusal) if refused.is_none() => refused = Some((socket.ip(), refusal)),
                Err(_) => {}
            }
        }
        first_that_answers(&sockets).await.map_err(|failure| match failure {
            Some(error) if error.kind() == io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
            Some(_) => Error::DestinationUnavailable,
            None => refused.map_or(Error::DestinationNotFound, |refused| self.out_of_bounds(to, refused)),
        })
    }

    /// Resolves a host to its addresses.
    pub(super) async fn resolve(&self, to: &Destination) -> Result<Vec<SocketAddr>> {
        if let Some(ip) = address(&to.host) {
            return Ok(vec![SocketAddr::new(ip, to.port)]);
        }
        let (host, port) = (to.host.clone(), to.port);
        let lookup = move || (host.as_str(), port).to_socket_addrs().map(Vec::from_iter);
        let found = self.work.block(lookup).await.ok_or(Error::DnsTimeout)?;
        found.map_err(|error| {
            let host = &to.host;
            self.log.remark(Remark::HttpName, || format!("the name {host} can't be looked up: {error}"));
            Error::DnsError { rcode: None, info_code: None }
        })
    }

    fn out_of_bounds(&self, to: &Destination, (ip, refusal): (IpAddr, AddressRefusal)) -> Error {
        let (Destination { host, port, .. }, place) = (to, self.plugin.place());
        self.log.remark(Remark::HttpAddress, || match refusal {
            AddressRefusal::Private => {
                let prefix = if ip.is_ipv4() { 32 } else { 128 };
                format!(
                    "{host}:{port} is {ip}, an internal address, which is refused; if that is meant, write `http = [{{ to = \"{host}:{port}\", private = [\"{ip}/{prefix}\"] }}]` under [grants] of {place}"
                )
            }
            AddressRefusal::Denied => format!(
                "{host}:{port} is {ip}, an address that this daemon lets no plugin reach, by grants.http_deny of its configuration"
            ),
            AddressRefusal::Never => format!("{host}:{port} is {ip}, an address that no plugin may reach"),
        });
        Error::DestinationIpProhibited
    }
}

/// Connects to the first of these addresses that answers, within [`TRY_MAX`] unless it is the last one. Returns the latest error
/// if none does. `None` if there are none.
async fn first_that_answers(sockets: &[SocketAddr]) -> Result<TcpStream, Option<io::Error>> {
    let mut failure = None;
    for (tried, &socket) in sockets.iter().enumerate() {
        let connecting = TcpStream::connect(socket);
        let connected = if tried + 1 < sockets.len() {
            timeout(TRY_MAX, connecting).await.unwrap_or_else(|late| Err(late.into()))
        } else {
            connecting.await
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure)
}

/// Sets up TLS on a connection. The server's certificate must be for the host that the connection leads to.
pub(super) async fn tls(
    to: &Destination,
    stream: Counted<TcpStream>,
) -> Result<TlsStream<Counted<TcpStream>>> {
    let config = settings().await.map_err(|reason| Error::InternalError(Some(reason)))?;
    let name = match address(&to.host) {
        Some(ip) => ServerName::from(ip),
        None => ServerName::try_from(to.host.clone()).map_err(|_| Error::HttpRequestUriInvalid)?,
    };
    let log = stream.requests.log.clone();
    let connected = TlsConnector::from(config).connect(name, stream).await;
    connected.map_err(|error| {
        if let Some(rustls::Error::InvalidCertificate(why)) = rustls_error(&error) {
            let Destination { host, port, .. } = to;
            log.remark(Remark::HttpCertificate, || {
                format!(
                    "the certificate of {host}:{port} is not trusted: {why}; the daemon trusts what its machine does, or what SSL_CERT_FILE has"
                )
            });
        }
        of_tls(&error)
    })
}

/// Returns the TLS settings, and reads the certificates if nobody has.
async fn settings() -> Result<Arc<ClientConfig>, String> {
    if let Some(known) = known() {
        return Ok(known);
    }
    let _reading = READING.lock().await;
    if let Some(known) = known() {
        return Ok(known);
    }
    let read = spawn_blocking(trusting_the_machines).await?;
    *TLS.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&read));
    Ok(read)
}

fn known() -> Option<Arc<ClientConfig>> {
    TLS.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Reads the certificates that the machine trusts once more, if they were needed before: they are what connections that are
/// made from now on go by. If there are none, those of before stay. Blocks.
pub(crate) fn trust_anew() {
    if known().is_none() {
        return;
    }
    match trusting_the_machines() {
        Ok(read) => *TLS.write().unwrap_or_else(PoisonError::into_inner) = Some(read),
        Err(reason) => tracing::warn!(reason, "the certificates of before stay trusted"),
    }
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn of_tls(error: &io::Error) -> Error {
    match rustls_error(error) {
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        Some(rustls::Error::AlertReceived(alert)) => Error::TlsAlertReceived {
            alert_id: Some(u8::from(*alert)),
            alert_message: Some(format!("{alert:?}")),
        },
        Some(_) => Error::TlsProtocolError,
        None => Error::ConnectionTerminated,
    }
}

/// Creates the TLS settings with the certificates that this machine trusts.
fn trusting_the_machines() -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err("the daemon's machine trusts no certificates: it has none installed".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::Instant;

    use super::*;

    /// The clock stands still but while everything waits for it.
    #[tokio::test(start_paused = true)]
    async fn an_address_that_does_not_answer_is_given_up_for_the_next_one() {
        let silent = TcpSocket::new_v4().expect("a socket");
        silent.bind(([127, 0, 0, 1], 0).into()).expect("a port");
        let silent = silent.listen(1).expect("it is bound");
        let dead = silent.local_addr().expect("it is bound");
        // Those that nobody accepts fill its queue; from then on it doesn't answer.
        let mut waiting = Vec::new();
        while let Ok(Ok(stream)) = timeout(TRY_MAX, TcpStream::connect(dead)).await {
            waiting.push(stream);
        }
        let good = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let live = good.local_addr().expect("it is bound");
        let asked = Instant::now();
        let reached = first_that_answers(&[dead, live]).await.expect("the second answers");
        assert_eq!(reached.peer_addr().expect("it is connected"), live);
        assert!(asked.elapsed() >= TRY_MAX && asked.elapsed() < 2 * TRY_MAX, "{:?}", asked.elapsed());
        assert!(first_that_answers(&[]).await.is_err_and(|failure| failure.is_none()));
    }
}
