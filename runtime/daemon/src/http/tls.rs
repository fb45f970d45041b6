//! The certificate of the interface over the network, which is read again when it changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sandhog_config::Tls;
use sandhog_core::budget::Bytes;
use sandhog_files::regular_file;
use sandhog_files::stamp::Stamp;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::off_thread::off_thread;

/// Maximum size of a file with certificates or a key.
const FILE_MAX: Bytes = Bytes::mib(1);

/// Reason why a certificate can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}, which `http.tls` names, can't be used: {cause}")]
pub struct TlsError {
    path: PathBuf,
    cause: String,
}

impl TlsError {
    fn new(path: &Path, cause: impl ToString) -> Self {
        Self { path: path.to_owned(), cause: cause.to_string() }
    }
}

/// Checks that a certificate, its key and the authorities of clients can be used. Blocks.
///
/// # Errors
/// The file that can't be used, and why.
pub fn check_tls(tls: &Tls) -> Result<(), TlsError> {
    load(tls).map(drop)
}

/// Reads a certificate, its key and the authorities of clients. Blocks.
pub(super) fn load(tls: &Tls) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(default_provider());
    let key_text = read(&tls.key)?;
    let key = PrivateKeyDer::from_pem_slice(&key_text)
        .map_err(|_| TlsError::new(&tls.key, "there is no private key in PEM in it"))?;
    let chain = certificates(&tls.certificate)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::new(&tls.certificate, error))?;
    let builder = match &tls.clients {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut authorities = RootCertStore::empty();
            for certificate in certificates(path)? {
                authorities.add(certificate).map_err(|error| TlsError::new(path, error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(|error| TlsError::new(path, error))?)
        }
    };
    let mut config =
        builder.with_single_cert(chain, key).map_err(|error| TlsError::new(&tls.certificate, error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    regular_file::read(path, FILE_MAX).map_err(|error| TlsError::new(path, error))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(TlsError::new(path, "there is no certificate in PEM in it")),
    }
}

/// Returns the stamps of all files of a certificate. Blocks.
pub(super) fn stamps(tls: &Tls) -> Vec<Option<Stamp>> {
    let files = [&tls.certificate, &tls.key].into_iter().chain(&tls.clients);
    files.map(|path| Stamp::at(path)).collect()
}

/// Looks at the files `every` so often, and puts into force what has changed of them. `seen` has their stamps from before they
/// were read. Never ends.
pub(super) async fn follow(
    tls: Tls,
    mut seen: Vec<Option<Stamp>>,
    every: Duration,
    in_force: watch::Sender<Arc<ServerConfig>>,
) {
    loop {
        sleep(every).await;
        let files = tls.clone();
        let now = off_thread(move || stamps(&files)).await;
        if now == seen {
            continue;
        }
        let files = tls.clone();
        match off_thread(move || load(&files)).await {
            Ok(config) => {
                tracing::info!(certificate = %tls.certificate.display(), "a new certificate is in force");
                in_force.send_replace(config);
            }
            Err(error) => tracing::warn!(%error, "the certificate before it stays in force"),
        }
        seen = now;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustls::ClientConfig;
    use rustls_pki_types::ServerName;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    /// A certificate for `localhost` that vouches for itself, and its key; good for a hundred years.
    const CERTIFICATE: &str = include_str!("fixtures/certificate.pem");
    const KEY: &str = include_str!("fixtures/key.pem");

    fn files(folder: &Path) -> Tls {
        let tls = Tls { certificate: folder.join("c.pem"), key: folder.join("k.pem"), clients: None };
        fs::write(&tls.certificate, CERTIFICATE).expect("ours");
        fs::write(&tls.key, KEY).expect("ours");
        tls
    }

    #[tokio::test]
    async fn a_client_that_trusts_the_certificate_is_served() {
        let folder = tempfile::tempdir().expect("a folder");
        let server = load(&files(folder.path())).expect("it is right");
        let mut trusted = RootCertStore::empty();
        trusted.add(CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).expect("PEM")).expect("it is one");
        let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("there are some")
            .with_root_certificates(trusted)
            .with_no_client_auth();
        let (near, far) = tokio::io::duplex(4096);
        let name = ServerName::try_from("localhost").expect("a name");
        let connector = TlsConnector::from(Arc::new(client));
        let (near, far) = tokio::join!(connector.connect(name, near), TlsAcceptor::from(server).accept(far));
        let (mut near, mut far) = (near.expect("it is trusted"), far.expect("it is served"));
        far.write_all(b"hello").await.expect("it is open");
        far.flush().await.expect("it is open");
        let mut read = [0; 5];
        near.read_exact(&mut read).await.expect("it is open");
        assert_eq!(&read, b"hello");
    }

    #[test]
    fn what_is_wrong_with_the_files_is_told_by_path() {
        let folder = tempfile::tempdir().expect("a folder");
        let tls = files(folder.path());
        fs::write(&tls.key, "nothing").expect("ours");
        let told = load(&tls).expect_err("there is no key").to_string();
        assert!(told.contains("k.pem") && told.contains("no private key"), "{told}");
        fs::remove_file(&tls.certificate).expect("ours");
        fs::write(&tls.key, KEY).expect("ours");
        assert!(load(&tls).expect_err("there is no certificate").to_string().contains("c.pem"));
        let tls = Tls { clients: Some(tls.key), ..files(folder.path()) };
        assert!(load(&tls).expect_err("there is no authority").to_string().contains("no certificate"));
    }

    #[tokio::test]
    async fn a_certificate_that_has_changed_is_read_again_and_a_wrong_one_is_not_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        let tls = files(folder.path());
        let seen = stamps(&tls);
        let in_force = watch::Sender::new(load(&tls).expect("it is right"));
        let mut changes = in_force.subscribe();
        let before = Arc::clone(&changes.borrow_and_update());
        let following = tokio::spawn(follow(tls.clone(), seen, Duration::from_millis(5), in_force));
        fs::write(&tls.certificate, "nothing").expect("ours");
        fs::write(&tls.certificate, format!("# anew\n{CERTIFICATE}")).expect("ours");
        changes.changed().await.expect("it is followed");
        assert!(!Arc::ptr_eq(&before, &changes.borrow()));
        following.abort();
    }
}
