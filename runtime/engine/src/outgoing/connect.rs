//! From a host and a port to a connection: granted, resolved, checked, made.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use sandhog_core::grants::{address, undotted};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wasmtime_wasi::runtime::spawn_blocking;
use wasmtime_wasi_http::{Error, Result};

use super::Requests;
use super::address::{Reach, reach};
use super::wire::Counted;
use crate::plugin::Private;
use crate::run_log::Remark;

/// What the machine trusts, read when it is needed first. If that fails, the next one reads again.
static TLS: OnceCell<Arc<ClientConfig>> = OnceCell::const_new();

/// How long one of several addresses of a host may take to answer before the next one is tried.
const TRY_MAX: Duration = Duration::from_secs(3);

/// Where a request goes, once it was found to be granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) host: String,
    pub(super) port: u16,
    private: Private,
}

impl Requests {
    /// Whether requests may go there.
    pub(super) fn granted(&self, host: &str, port: u16) -> Result<Destination> {
        let grants = self.plugin.grants().http.iter().filter(|grant| grant.to.covers(host, port));
        let private = grants.map(|grant| grant.private);
        // Of several grants, the widest counts.
        let widest = private.reduce(|a, b| if a == Private::Allow { a } else { b });
        let Some(private) = widest else {
            self.log.remark(Remark::Http, || {
                format!(
                    "requests to {host}:{port} are refused; add `http = [\"{host}:{port}\"]` under [grants] of {}",
                    self.plugin.place()
                )
            });
            return Err(Error::HttpRequestDenied);
        };
        Ok(Destination { host: undotted(host).to_owned(), port, private })
    }

    /// Connects to the first address that may be reached and answers.
    pub(super) async fn connect(&self, to: &Destination, found: &[SocketAddr]) -> Result<TcpStream> {
        let allowed = |ip: IpAddr| match reach(ip) {
            Reach::Public => true,
            Reach::Private => to.private == Private::Allow,
            Reach::Never => false,
        };
        let mut failure = None;
        let sockets: Vec<SocketAddr> = found.iter().copied().filter(|socket| allowed(socket.ip())).collect();
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
        match failure {
            Some(error) if error.kind() == io::ErrorKind::ConnectionRefused => Err(Error::ConnectionRefused),
            Some(_) => Err(Error::DestinationUnavailable),
            None => Err(self.out_of_bounds(to, found)),
        }
    }

    /// The addresses of a host.
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

    fn out_of_bounds(&self, to: &Destination, found: &[SocketAddr]) -> Error {
        let Some(ip) = found.first().map(SocketAddr::ip) else { return Error::DestinationNotFound };
        let (Destination { host, port, .. }, place) = (to, self.plugin.place());
        self.log.remark(Remark::HttpAddress, || match reach(ip) {
            Reach::Private => format!(
                "{host}:{port} is {ip}, an internal address, which is refused; if that is meant, write `http = [{{ to = \"{host}:{port}\", private = \"allow\" }}]` under [grants] of {place}"
            ),
            Reach::Public | Reach::Never => {
                format!("{host}:{port} is {ip}, an address that no plugin may reach")
            }
        });
        Error::DestinationIpProhibited
    }
}

/// Makes a connection a secret one, with a certificate for the host that it is to.
pub(super) async fn tls(
    to: &Destination,
    stream: Counted<TcpStream>,
) -> Result<TlsStream<Counted<TcpStream>>> {
    let config = TLS.get_or_try_init(|| spawn_blocking(trusting_the_machines)).await;
    let config = config.map_err(|reason| Error::InternalError(Some(reason)))?;
    let name = match address(&to.host) {
        Some(ip) => ServerName::from(ip),
        None => ServerName::try_from(to.host.clone()).map_err(|_| Error::HttpRequestUriInvalid)?,
    };
    let log = stream.requests.log.clone();
    let connected = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
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

/// TLS by the certificates that this machine trusts.
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
