//! Signed assertions (RFC 7515, RFC 7519, RFC 7523): how an application proves who it is without
//! sending a secret.

use std::path::Path;

use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::net::tls::read_certificates;

/// How long an assertion holds, in seconds.
const LIFETIME: i64 = 540;
/// Clocks that go a little wrong are forgiven.
const LEEWAY: i64 = 30;

/// The signature of an assertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PSS with SHA-256: what Microsoft asks for.
    Ps256,
}

/// Random octets in base64url.
pub fn random(octets: usize) -> Result<String, String> {
    let mut bytes = Zeroizing::new(vec![0u8; octets]);
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| "the machine gives no random numbers".to_owned())?;
    Ok(BASE64URL.encode(bytes.as_slice()))
}

/// The S256 challenge of a PKCE verifier (RFC 7636 section 4.2).
pub fn challenge(verifier: &str) -> String {
    BASE64URL.encode(digest::digest(&digest::SHA256, verifier.as_bytes()))
}

/// A client assertion: the certificate's key signs that it is the application.
pub fn client_assertion(
    client_id: &str,
    audience: &str,
    certificate: &Path,
    key: &str,
    algorithm: Algorithm,
    now: i64,
) -> Result<Zeroizing<String>, String> {
    let chain = read_certificates(certificate)
        .map_err(|e| format!("client_certificate {}: {e}", certificate.display()))?;
    let first = chain.first().ok_or("client_certificate is empty")?;
    let thumbprint = BASE64URL.encode(digest::digest(&digest::SHA256, first));
    let header = json!({"alg": algorithm.name(), "typ": "JWT", "x5t#S256": thumbprint});
    let claims = json!({
        "aud": audience, "iss": client_id, "sub": client_id, "jti": random(16)?,
        "nbf": now - LEEWAY, "iat": now - LEEWAY, "exp": now + LIFETIME,
    });
    sign(&header, &claims, key, algorithm)
}

/// The file that Google gives for a service account.
pub struct ServiceAccount {
    email: String,
    key: Zeroizing<String>,
    key_id: String,
}

impl ServiceAccount {
    /// Reads its JSON.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|_| {
            "service_account is not the JSON file that Google gives for a key".to_owned()
        })?;
        let field = |name: &str| {
            value
                .get(name)
                .and_then(Value::as_str)
                .map(str::to_owned)
                .ok_or_else(|| format!("the service account's file has no {name}"))
        };
        Ok(Self {
            email: field("client_email")?,
            key: Zeroizing::new(field("private_key")?),
            key_id: field("private_key_id")?,
        })
    }

    /// The assertion for one user of the domain.
    pub fn assertion(
        &self,
        audience: &str,
        scope: &str,
        user: &str,
        now: i64,
    ) -> Result<Zeroizing<String>, String> {
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": self.key_id});
        let claims = json!({
            "iss": self.email, "sub": user, "scope": scope, "aud": audience,
            "iat": now - LEEWAY, "exp": now + LIFETIME,
        });
        sign(&header, &claims, &self.key, Algorithm::Rs256)
    }
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Ps256 => "PS256",
        }
    }
}

fn rsa_key(pem: &str) -> Result<RsaKeyPair, String> {
    let unusable =
        |e: String| format!("the private key is not usable ({e}); it has to be an RSA key in PEM");
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| unusable(e.to_string()))?;
    let bytes = der.secret_der();
    RsaKeyPair::from_pkcs8(bytes)
        .or_else(|_| RsaKeyPair::from_der(bytes))
        .map_err(|e| unusable(e.to_string()))
}

fn sign(
    header: &Value,
    claims: &Value,
    key: &str,
    algorithm: Algorithm,
) -> Result<Zeroizing<String>, String> {
    let key = rsa_key(key)?;
    let input = format!(
        "{}.{}",
        BASE64URL.encode(header.to_string()),
        BASE64URL.encode(claims.to_string())
    );
    let mut signature = vec![0; key.public_modulus_len()];
    let padding: &dyn aws_lc_rs::signature::RsaEncoding = match algorithm {
        Algorithm::Rs256 => &RSA_PKCS1_SHA256,
        Algorithm::Ps256 => &RSA_PSS_SHA256,
    };
    key.sign(
        padding,
        &SystemRandom::new(),
        input.as_bytes(),
        &mut signature,
    )
    .map_err(|e| e.to_string())?;
    Ok(Zeroizing::new(format!(
        "{input}.{}",
        BASE64URL.encode(signature)
    )))
}

/// The claims of a token that came straight from the token endpoint over TLS, so its signature
/// need not be checked (OpenID Connect Core section 3.1.3.7, point 6).
pub fn claims(token: &str) -> Option<Value> {
    let payload = token.split('.').nth(1)?;
    let bytes = BASE64URL.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pkce_vector_of_rfc_7636() {
        assert_eq!(
            challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
        let verifier = random(32).expect("random");
        assert_eq!(verifier.len(), 43);
    }

    #[test]
    fn refuses_odd_files() {
        assert!(ServiceAccount::parse("{}").is_err());
        assert!(ServiceAccount::parse("no json").is_err());
        assert!(rsa_key("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----").is_err());
        assert_eq!(claims("a.eyJ4IjoxfQ.c"), Some(json!({"x": 1})));
        assert_eq!(claims("nothing"), None);
    }
}
