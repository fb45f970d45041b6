//! Dialling: connections to the server at a URL, or to the one that sentinels say is the primary.

use std::fmt;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ProtocolVersion, RedisError};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sandhog_core::redis::{Address, Config, ConfigError, Kind, Login, Topology, UrlError, parse};
use tokio::time::{Instant, timeout_at};

use super::failure::{Fault, fault_of};
use super::sentinel::Sentinels;

/// Makes connections to one server, or to the primary of a set that sentinels watch.
#[derive(Clone)]
pub(super) struct Dialer {
    /// The login and the address; with sentinels, the address comes from them.
    client: Client,
    sentinels: Option<Sentinels>,
    /// The address without secrets, for logs and errors.
    address: String,
    pub(super) connect_timeout: Duration,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

impl Dialer {
    pub(super) fn new(config: &Config) -> Result<Self, ConfigError> {
        config.check()?;
        if let Some(authority) = &config.authority {
            check_authority(authority)?;
        }
        let mut client = client(&config.url, config).map_err(ConfigError::Url)?;
        if let Some(Login { username, password }) = &config.login {
            let settings = client.get_connection_info().redis_settings().clone();
            client = with_settings(&client, settings.set_username(username).set_password(password));
        }
        let sentinels = match &config.topology {
            Topology::Server | Topology::Cluster(_) => None,
            Topology::Sentinels(urls) => Some(Sentinels::new(config, urls)?),
        };
        Ok(Self { client, sentinels, address: config.shown_url(), connect_timeout: config.connect_timeout })
    }

    /// Returns the dialer of a server at another address.
    pub(super) fn at(&self, address: &Address) -> Self {
        Self {
            client: with_address(&self.client, address.host().to_owned(), address.port()),
            sentinels: None,
            address: address.to_string(),
            connect_timeout: self.connect_timeout,
        }
    }

    /// Whether both lead to the same server, whatever their users.
    pub(super) fn leads_where(&self, other: &Self) -> bool {
        self.client.get_connection_info().addr() == other.client.get_connection_info().addr()
    }

    /// Returns the server's address, or `None` if it can change (Sentinel) or is not on a network.
    pub(super) fn server(&self) -> Option<Address> {
        match self.client.get_connection_info().addr() {
            _ if self.sentinels.is_some() => None,
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Address::new(host, *port)
            }
            _ => None,
        }
    }

    /// Returns a dialer of the same server with RESP3, which carries pushed messages and answers side by side.
    pub(super) fn for_pushes(&self) -> Self {
        let settings = self.client.get_connection_info().redis_settings().clone();
        let client = with_settings(&self.client, settings.set_protocol(ProtocolVersion::RESP3));
        Self { client, ..self.clone() }
    }

    pub(super) async fn dial(
        &self,
        config: AsyncConnectionConfig,
        deadline: Instant,
    ) -> Result<MultiplexedConnection, Fault> {
        let dialing = async {
            match &self.sentinels {
                None => connect(&self.client, config).await,
                Some(sentinels) => connect(&sentinels.primary(&self.client).await?, config).await,
            }
        };
        match timeout_at(deadline, dialing).await {
            Ok(dialled) => dialled.map_err(|fault| fault.at(&self.address)),
            Err(_) => Err(self.took_too_long()),
        }
    }

    pub(super) fn took_too_long(&self) -> Fault {
        let wait = self.connect_timeout;
        let tls = match self.client.get_connection_info().addr() {
            ConnectionAddr::TcpTls { .. } => "; does it speak TLS on that port?",
            _ => "",
        };
        Fault::Unavailable(format!("no connection to {} within {wait:?}{tls}", self.address))
    }
}

/// Makes one connection, without deadlines: those are the caller's.
pub(super) async fn connect(
    client: &Client,
    config: AsyncConnectionConfig,
) -> Result<MultiplexedConnection, Fault> {
    let config = config.set_connection_timeout(None).set_response_timeout(None);
    let connected = client.get_multiplexed_async_connection_with_config(&config).await;
    connected.map_err(|error| fault_of(&error))
}

/// Creates a client of the server at this URL.
pub(super) fn client(url: &str, config: &Config) -> Result<Client, UrlError> {
    let tls = parse(url)?.kind == Kind::Tls;
    let authority = config.authority.as_ref().filter(|_| tls);
    // Only the category of the error: the rest of the text may contain secrets of the URL.
    open(url, authority).map_err(|error| UrlError::Refused(error.category().to_owned()))
}

fn open(url: &str, authority: Option<&Vec<u8>>) -> Result<Client, RedisError> {
    // If a provider was installed before, it is the same one, or one as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = match authority {
        None => Client::open(url)?,
        Some(authority) => {
            let root_cert = Some(authority.clone());
            Client::build_with_tls(url, redis::TlsCertificates { client_tls: None, root_cert })?
        }
    };
    let info = client.get_connection_info();
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    // Servers before 7.2 have no command to set a library's name, and a tenant's own user may not call it.
    let settings = info.redis_settings().clone().set_skip_set_lib_name();
    Ok(client_of(info.clone().set_tcp_settings(tcp).set_redis_settings(settings)))
}

fn with_settings(client: &Client, settings: redis::RedisConnectionInfo) -> Client {
    client_of(client.get_connection_info().clone().set_redis_settings(settings))
}

/// Returns a client with the same settings for a server at another address.
pub(super) fn with_address(client: &Client, host: String, port: u16) -> Client {
    let info = client.get_connection_info().clone();
    let address = match info.addr() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
        }
        _ => ConnectionAddr::Tcp(host, port),
    };
    client_of(info.set_addr(address))
}

fn client_of(info: ConnectionInfo) -> Client {
    Client::open(info).expect("what made one client makes another")
}

/// Checks that the text holds a certificate: one without would be accepted without complaint, and then nothing would be
/// trusted.
fn check_authority(pem: &[u8]) -> Result<(), ConfigError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(()),
        _ => Err(ConfigError::Authority),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &str = include_str!("../../tests/redis/tls/authority.pem");

    #[test]
    fn an_authority_is_a_certificate() {
        let config =
            |pem: &str| Config { authority: Some(pem.as_bytes().to_vec()), ..Config::new("rediss://host") };
        assert_eq!(Dialer::new(&config("hunter2")).err(), Some(ConfigError::Authority));
        assert!(Dialer::new(&config(CERTIFICATE)).is_ok());
    }
}
