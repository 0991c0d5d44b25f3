//! TLS by rustls.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What a person says about TLS; the words are redis-cli's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// The certificate authority, a PEM file; the system's own where absent.
    pub cacert: Option<PathBuf>,
    /// Our certificate, a PEM file; needs `key`.
    pub cert: Option<PathBuf>,
    /// Our private key, a PEM file; needs `cert`.
    pub key: Option<PathBuf>,
    /// Take any certificate: for trying things out.
    pub insecure: bool,
    /// The name that the server's certificate must bear; the host connected to where absent.
    pub sni: Option<String>,
}

/// TLS settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be read, or holds nothing usable.
    #[error("cannot use the {what} {}; give a readable PEM file", path.display())]
    File {
        /// Which file.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// `cert` without `key`, or the other way round.
    #[error("a client certificate needs both the certificate and its key; give both or neither")]
    Half,
    /// No authority to check the server by.
    #[error("the system has no certificate authorities; name one with cacert")]
    NoAuthority,
    /// The parts do not fit each other.
    #[error("the TLS settings do not fit together")]
    Rustls(#[from] rustls::Error),
    /// The authorities give no verifier.
    #[error("the certificate authority cannot be used")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
}

/// TLS settings, loaded and checked once.
#[derive(Clone)]
pub struct Tls {
    connector: TlsConnector,
    name: Option<String>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files and checks that they fit.
    pub fn load(options: &TlsOptions) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = if options.insecure {
            Arc::new(TakeAny(provider.clone()))
        } else {
            let roots = Arc::new(authorities(options.cacert.as_ref())?);
            WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build()?
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match (&options.cert, &options.key) {
            (None, None) => config.with_no_client_auth(),
            (Some(cert), Some(key)) => {
                let chain = certificates("certificate", cert)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::File {
                    what: "key",
                    path: key.clone(),
                    source,
                })?;
                config.with_client_auth_cert(chain, key)?
            }
            (Some(_), None) | (None, Some(_)) => return Err(TlsError::Half),
        };
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            name: options.sni.clone(),
        })
    }

    pub(crate) async fn handshake<S>(&self, host: &str, stream: S) -> Result<TlsStream<S>, String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = self.name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name).map_err(|e| e.to_string())?;
        self.connector
            .connect(name, stream)
            .await
            .map_err(|e| e.to_string())
    }
}

fn certificates(
    what: &'static str,
    path: &PathBuf,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::File {
        what,
        path: path.clone(),
        source,
    };
    let found = CertificateDer::pem_file_iter(path).map_err(failed)?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    if found.is_empty() {
        return Err(failed(rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(found)
}

fn authorities(cacert: Option<&PathBuf>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = cacert {
        for certificate in certificates("CA certificate", path)? {
            roots.add(certificate)?;
        }
    } else {
        // A broken file among the system's many is not our concern as long as one is good.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(TlsError::NoAuthority);
        }
    }
    Ok(roots)
}

/// Takes any server certificate, but still proves that the server holds its key.
#[derive(Debug)]
struct TakeAny(Arc<CryptoProvider>);

impl ServerCertVerifier for TakeAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
