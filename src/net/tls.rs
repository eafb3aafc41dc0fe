//! TLS towards servers: whom we believe, and why not, in words.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};
use x509_parser::extensions::GeneralName;

use crate::explain::Cause;
use crate::vault::{SecretRef, Secrets};

/// The machine's certificate authorities, loaded once.
pub fn machine_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    roots
}

/// The one cryptography provider, named so that no global decides.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Why TLS cannot be set up with these settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The file with further authorities.
    #[error("the file of ca_file {0} cannot be used: {1}")]
    CaFile(String, String),
    /// Our own certificate or its key.
    #[error("the client certificate {0} cannot be used: {1}")]
    Client(String, String),
    /// rustls refused the settings.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

/// How a server's certificate is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificatePolicy {
    /// By the machine's authorities and, if given, those in a file.
    Verify {
        /// Further authorities, PEM.
        ca_file: Option<PathBuf>,
    },
    /// Not at all; the key seen first is remembered.
    TrustAlways,
    /// By the SHA-256 of its key.
    Pinned(Vec<[u8; 32]>),
}

/// Builds TLS settings: whom to believe, and our own certificate with its key for mutual TLS.
pub fn client_config(
    policy: &CertificatePolicy,
    client_certificate: Option<&(PathBuf, SecretRef)>,
    machine: &RootCertStore,
    secrets: &Secrets,
) -> Result<ClientConfig, TlsError> {
    let verifier = Verifier::new(policy, machine)?;
    let setup = |e: rustls::Error| TlsError::Setup(e.to_string());
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(setup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    match client_certificate {
        None => Ok(builder.with_no_client_auth()),
        Some((path, key)) => {
            let shown = |e: String| TlsError::Client(path.display().to_string(), e);
            let chain = read_certificates(path).map_err(shown)?;
            let key = secrets.resolve(key).map_err(|e| shown(e.to_string()))?;
            let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
                .map_err(|e| shown(format!("its key is not PEM ({e})")))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|e| shown(e.to_string()))
        }
    }
}

/// All certificates of a PEM file.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|e| e.to_string())?;
    if found.is_empty() {
        Err("no PEM certificate in it".to_owned())
    } else {
        Ok(found)
    }
}

/// SHA-256 of a certificate's SubjectPublicKeyInfo; of the whole certificate where it is too odd
/// to be parsed.
pub fn key_hash(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let hash = match ParsedCertificate::try_from(certificate) {
        Ok(parsed) => digest::digest(&digest::SHA256, &parsed.subject_public_key_info()),
        Err(_) => digest::digest(&digest::SHA256, certificate),
    };
    let mut out = [0; 32];
    out.copy_from_slice(hash.as_ref());
    out
}

/// What was agreed with a server, and what it has shown.
#[derive(Debug, Clone)]
pub struct Agreed {
    /// `TLS 1.3`
    pub version: String,
    /// The cipher suite, by its name in rustls.
    pub cipher: String,
    /// What its certificate says.
    pub identity: Option<Identity>,
}

/// What a certificate says, true or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// For whom it is: host names and addresses; without any, its subject.
    pub names: Vec<String>,
    /// Who has issued it.
    pub issuer: String,
    /// When it ends, in seconds since 1970.
    pub ends: i64,
}

/// What was agreed in a session.
pub fn agreed(session: &rustls::ClientConnection) -> Agreed {
    let version = session.protocol_version().map(|v| format!("{v:?}"));
    let suite = session.negotiated_cipher_suite();
    let chain = session.peer_certificates().unwrap_or_default();
    Agreed {
        version: version.unwrap_or_default().replace("TLSv1_", "TLS 1."),
        cipher: suite.map_or_else(String::new, |s| format!("{:?}", s.suite())),
        identity: chain.first().and_then(identity),
    }
}

fn identity(certificate: &CertificateDer<'_>) -> Option<Identity> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let listed = parsed.subject_alternative_name().ok().flatten();
    let mut names: Vec<String> = listed
        .map(|list| list.value.general_names.iter().filter_map(name).collect())
        .unwrap_or_default();
    if names.is_empty() {
        names.push(parsed.subject().to_string());
    }
    Some(Identity {
        names,
        issuer: parsed.issuer().to_string(),
        ends: parsed.validity().not_after.timestamp(),
    })
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(octets) => {
            let v4 = <[u8; 4]>::try_from(*octets).map(IpAddr::from);
            let v6 = <[u8; 16]>::try_from(*octets).map(IpAddr::from);
            v4.or(v6).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    policy: CertificatePolicy,
    webpki: Option<Arc<WebPkiServerVerifier>>,
    /// Certificates of `ca_file`: a self-signed server certificate may stand there itself.
    named: Vec<CertificateDer<'static>>,
}

impl Verifier {
    fn new(policy: &CertificatePolicy, machine: &RootCertStore) -> Result<Self, TlsError> {
        let provider = provider();
        let mut named = Vec::new();
        let mut webpki = None;
        if let CertificatePolicy::Verify { ca_file } = policy {
            let mut roots = machine.clone();
            if let Some(path) = ca_file {
                let shown = |e: String| TlsError::CaFile(path.display().to_string(), e);
                named = read_certificates(path).map_err(shown)?;
                for certificate in &named {
                    roots
                        .add(certificate.clone())
                        .map_err(|e| shown(e.to_string()))?;
                }
            }
            if !roots.is_empty() {
                let built = WebPkiServerVerifier::builder_with_provider(
                    Arc::new(roots),
                    Arc::clone(&provider),
                )
                .build();
                webpki = Some(built.map_err(|e| TlsError::Setup(e.to_string()))?);
            }
        }
        Ok(Self {
            provider,
            policy: policy.clone(),
            webpki,
            named,
        })
    }

    /// Whether a certificate that nobody vouches for vouches for itself.
    fn is_self_signed(
        &self,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> bool {
        let mut roots = RootCertStore::empty();
        if roots.add(certificate.clone().into_owned()).is_err() {
            return false;
        }
        let Ok(verifier) = WebPkiServerVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&self.provider),
        )
        .build() else {
            return false;
        };
        !matches!(
            verifier.verify_server_cert(certificate, &[], name, &[], now),
            Err(rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer
            ))
        )
    }
}

/// Marks, inside a rustls error, what rustls itself has no word for.
#[derive(Debug)]
struct Marked(Cause);

impl fmt::Display for Marked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::error::Error for Marked {}

fn marked(cause: Cause) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Marked(cause)))))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.policy {
            CertificatePolicy::TrustAlways => Ok(ServerCertVerified::assertion()),
            CertificatePolicy::Pinned(pins) => {
                if pins.contains(&key_hash(end_entity)) {
                    Ok(ServerCertVerified::assertion())
                } else {
                    Err(marked(Cause::CertificatePinMismatch))
                }
            }
            CertificatePolicy::Verify { .. } => {
                let verdict = match &self.webpki {
                    Some(webpki) => {
                        webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp, now)
                    }
                    None => Err(rustls::Error::InvalidCertificate(
                        CertificateError::UnknownIssuer,
                    )),
                };
                if verdict.is_err() && self.named.iter().any(|known| known == end_entity) {
                    // The operator named exactly this certificate; its name must still fit.
                    rustls::client::verify_server_name(
                        &ParsedCertificate::try_from(end_entity)?,
                        server_name,
                    )?;
                    return Ok(ServerCertVerified::assertion());
                }
                match verdict {
                    Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))
                        if self.is_self_signed(end_entity, server_name, now) =>
                    {
                        Err(marked(Cause::CertificateSelfSigned))
                    }
                    other => other,
                }
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// What a failed handshake means.
pub fn cause_of(error: &std::io::Error) -> Cause {
    let Some(inner) = error
        .get_ref()
        .and_then(|e| e.downcast_ref::<rustls::Error>())
    else {
        return match error.kind() {
            std::io::ErrorKind::TimedOut => Cause::Timeout,
            _ => Cause::TlsHandshake,
        };
    };
    match inner {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                Cause::CertificateExpired
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Cause::CertificateNotYetValid
            }
            CertificateError::UnknownIssuer => Cause::CertificateUnknownAuthority,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Cause::CertificateWrongName
            }
            CertificateError::Revoked => Cause::CertificateRevoked,
            CertificateError::Other(other) => match other.0.downcast_ref::<Marked>() {
                Some(Marked(cause)) => *cause,
                // webpki: an authority's certificate used as the server's own, which only
                // self-made ones are.
                None if other.to_string().contains("CaUsedAsEndEntity") => {
                    Cause::CertificateSelfSigned
                }
                None => Cause::CertificateOther,
            },
            _ => Cause::CertificateOther,
        },
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            Cause::PlainOnTlsPort
        }
        rustls::Error::PeerIncompatible(_) => Cause::TlsTooOld,
        rustls::Error::AlertReceived(rustls::AlertDescription::ProtocolVersion) => Cause::TlsTooOld,
        _ => Cause::TlsHandshake,
    }
}

/// The same in words for log and queue.
pub fn words_of(error: &std::io::Error, cause: Cause) -> String {
    let text = error.to_string();
    // What we marked ourselves has no words of its own inside rustls.
    if text.contains("Marked") {
        format!("TLS: {cause}")
    } else {
        format!("TLS: {text}")
    }
}
