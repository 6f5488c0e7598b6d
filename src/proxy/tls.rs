//! TLS on both sides: rustls, ALPN `h2` and `http/1.1`.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::io::Stream;

const H1: &[u8] = b"http/1.1";
const H2: &[u8] = b"h2";

/// Accepts TLS from clients.
#[derive(Clone)]
pub struct Acceptor(TlsAcceptor);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}

impl Acceptor {
    /// From PEM files: the certificate chain and its key.
    ///
    /// # Errors
    /// A sentence naming the file that cannot be read or used.
    pub fn load(certificates: &Path, key: &Path) -> Result<Self, String> {
        let chain = read_certificates("--tls-cert", certificates)?;
        let key_der = PrivateKeyDer::from_pem_file(key)
            .map_err(|e| format!("--tls-key {}: {e}", key.display()))?;
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key_der)
            .map_err(|e| format!("--tls-cert {}: {e}", certificates.display()))?;
        config.alpn_protocols = vec![H2.to_vec(), H1.to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// The client closed, or speaks no TLS that rustls accepts.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Stream> {
        let stream = self.0.accept(stream).await?;
        Ok(Stream::Tls(Box::new(TlsStream::Server(stream))))
    }
}

/// Speaks TLS to the upstream: one configuration per version of HTTP, because the upstream must
/// speak the client's.
#[derive(Clone)]
pub struct Connector {
    name: ServerName<'static>,
    http1: TlsConnector,
    http2: TlsConnector,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connector({:?})", self.name)
    }
}

impl Connector {
    /// For `host`, trusting the system's roots, or only those in `ca` where given.
    ///
    /// # Errors
    /// A sentence naming what cannot be used.
    pub fn new(host: &str, ca: Option<&Path>) -> Result<Self, String> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|e| format!("`{host}` is no name that TLS can check: {e}"))?;
        let mut roots = RootCertStore::empty();
        match ca {
            Some(path) => {
                for certificate in read_certificates("trusted certificates", path)? {
                    roots
                        .add(certificate)
                        .map_err(|e| format!("trusted certificates {}: {e}", path.display()))?;
                }
            }
            None => {
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
                if roots.is_empty() {
                    return Err(
                        "the system has no trusted certificates: install ca-certificates \
                                or name a file of them"
                            .to_owned(),
                    );
                }
            }
        }
        let config = |alpn: &[u8]| {
            let mut config = ClientConfig::builder()
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            config.alpn_protocols = vec![alpn.to_vec()];
            TlsConnector::from(Arc::new(config))
        };
        Ok(Self {
            name,
            http1: config(H1),
            http2: config(H2),
        })
    }

    /// Shakes hands; with `http2` the upstream must agree to it.
    ///
    /// # Errors
    /// No trust, no TLS, or no HTTP/2.
    pub async fn connect(&self, stream: TcpStream, http2: bool) -> io::Result<Stream> {
        let connector = if http2 { &self.http2 } else { &self.http1 };
        let stream = connector.connect(self.name.clone(), stream).await?;
        let stream = Stream::Tls(Box::new(TlsStream::Client(stream)));
        if http2 && stream.alpn() != Some(H2) {
            return Err(io::Error::other("it does not agree to HTTP/2 (ALPN h2)"));
        }
        Ok(stream)
    }
}

/// True where ALPN chose HTTP/2.
pub(super) fn chose_http2(stream: &Stream) -> bool {
    stream.alpn() == Some(H2)
}

fn read_certificates(flag: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let fail = |why: String| format!("{flag} {}: {why}", path.display());
    let certificates = CertificateDer::pem_file_iter(path)
        .map_err(|e| fail(e.to_string()))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| fail(e.to_string()))?;
    if certificates.is_empty() {
        return Err(fail("it holds no certificate".to_owned()));
    }
    Ok(certificates)
}
