//! Certificates of listeners: configured ones, or a self-signed one made at first start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::net::tls::{provider, read_certificates};
use crate::vault::write_durably;

/// How long a self-signed certificate is valid: what picky clients still accept.
const VALID_DAYS: i64 = 825;

/// Builds the TLS settings of a listener.
pub fn server_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let (chain, key) = read_pair(certificate, key)?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| e.to_string())?;
    Ok(Arc::new(config))
}

fn read_pair(
    certificate: &Path,
    key: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let chain =
        read_certificates(certificate).map_err(|e| format!("{}: {e}", certificate.display()))?;
    let bytes = std::fs::read(key).map_err(|e| format!("{}: {e}", key.display()))?;
    let key =
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|e| format!("{}: {e}", key.display()))?;
    Ok((chain, key))
}

/// Whether a certificate and a key can be used together.
pub fn check_pair(certificate: &Path, key: &Path) -> Result<(), String> {
    server_config(certificate, key).map(|_| ())
}

/// The self-signed certificate of a directory, made if it is not there.
pub fn self_signed(directory: &Path, hostname: &str) -> Result<(PathBuf, PathBuf), String> {
    let (certificate, key) = (
        directory.join("self-signed.pem"),
        directory.join("self-signed.key"),
    );
    if certificate.exists() && key.exists() {
        return Ok((certificate, key));
    }
    let shown = |e: &dyn std::fmt::Display| {
        format!(
            "a self-signed certificate cannot be made in {}: {e}",
            directory.display()
        )
    };
    std::fs::create_dir_all(directory).map_err(|e| shown(&e))?;
    let mut names = vec![
        hostname.to_owned(),
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    names.dedup();
    let pair = rcgen::KeyPair::generate().map_err(|e| shown(&e))?;
    let mut parameters = rcgen::CertificateParams::new(names).map_err(|e| shown(&e))?;
    let mut name = rcgen::DistinguishedName::new();
    name.push(rcgen::DnType::CommonName, hostname);
    parameters.distinguished_name = name;
    let now = std::time::SystemTime::now();
    let day = std::time::Duration::from_secs(86_400);
    parameters.not_before = (now - day).into();
    parameters.not_after = (now + day * u32::try_from(VALID_DAYS).unwrap_or(825)).into();
    let made = parameters.self_signed(&pair).map_err(|e| shown(&e))?;
    write_durably(&key, pair.serialize_pem().as_bytes()).map_err(|e| shown(&e))?;
    write_durably(&certificate, made.pem().as_bytes()).map_err(|e| shown(&e))?;
    // The certificate is public: applications that are to trust it must be able to read it.
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&certificate, readable).map_err(|e| shown(&e))?;
    tracing::info!(event = "certificate-made", file = %certificate.display(), "a self-signed certificate was made; applications that check certificates must be told to trust it");
    Ok((certificate, key))
}
