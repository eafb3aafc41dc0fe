//! DKIM signatures (RFC 6376, RFC 8301, RFC 8463): relaxed/relaxed, identity fields oversigned,
//! RSA-SHA256 and Ed25519-SHA256 side by side. Signed last, over exactly the bytes that leave.

use std::fmt;
use std::sync::OnceLock;

use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use crate::message::header::Header;
use crate::vault::{Secret, SecretRef, Secrets};

/// When a signature is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Not where the provider signs itself.
    Auto,
    /// Always.
    Always,
}

/// One `[[dkim]]` entry. Its key is read at first use and kept.
#[derive(Debug)]
pub struct SigningKey {
    /// d=
    pub domain: String,
    /// s=
    pub selector: String,
    /// Where the private key is.
    pub secret: SecretRef,
    /// When it signs.
    pub when: When,
    loaded: OnceLock<Key>,
}

/// A private key ready to sign.
pub enum Key {
    /// rsa-sha256
    Rsa(RsaKeyPair),
    /// ed25519-sha256
    Ed25519(Ed25519KeyPair),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm())
    }
}

/// Why a key cannot sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read.
    #[error("the DKIM key of {0} cannot be read: {1}")]
    Unreadable(String, String),
    /// It is no key that we can use.
    #[error(
        "the DKIM key of {0} is not usable: {1}; allowed are RSA keys of 2048 to 8192 bits (PKCS#1 or PKCS#8) and Ed25519 keys (PKCS#8, or base64 of the 32-byte seed)"
    )]
    Unusable(String, String),
}

impl Key {
    /// Reads a private key in any of the forms that administrators have.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let der = match pem(text)? {
            Some(der) => der,
            None => {
                let compact: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
                Zeroizing::new(
                    BASE64
                        .decode(compact)
                        .map_err(|_| "it is neither PEM nor base64".to_owned())?,
                )
            }
        };
        if der.len() == 32 {
            return Ed25519KeyPair::from_seed_unchecked(&der)
                .map(Key::Ed25519)
                .map_err(|e| e.to_string());
        }
        if let Ok(key) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der) {
            return Ok(Key::Ed25519(key));
        }
        let key = RsaKeyPair::from_pkcs8(&der)
            .or_else(|_| RsaKeyPair::from_der(&der))
            .map_err(|e| format!("the key was rejected ({e})"))?;
        Ok(Key::Rsa(key))
    }

    /// `rsa-sha256` or `ed25519-sha256`.
    pub fn algorithm(&self) -> &'static str {
        match self {
            Key::Rsa(_) => "rsa-sha256",
            Key::Ed25519(_) => "ed25519-sha256",
        }
    }

    /// The DNS record that publishes it (RFC 6376 section 3.6.1, RFC 8463 section 4).
    pub fn record(&self) -> String {
        match self {
            Key::Rsa(key) => format!(
                "v=DKIM1; k=rsa; p={}",
                BASE64.encode(rsa_public_info(key.public_key().as_ref()))
            ),
            Key::Ed25519(key) => format!(
                "v=DKIM1; k=ed25519; p={}",
                BASE64.encode(key.public_key().as_ref())
            ),
        }
    }

    fn sign(&self, header_input: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(
                    &RSA_PKCS1_SHA256,
                    &SystemRandom::new(),
                    header_input,
                    &mut signature,
                )
                .map_err(|e| e.to_string())?;
                Ok(signature)
            }
            Key::Ed25519(key) => Ok(key
                .sign(digest::digest(&digest::SHA256, header_input).as_ref())
                .as_ref()
                .to_vec()),
        }
    }
}

/// Wraps a PKCS#1 public key into the SubjectPublicKeyInfo that DNS wants (RFC 5280 section 4.1).
fn rsa_public_info(pkcs1: &[u8]) -> Vec<u8> {
    const ALGORITHM: [u8; 15] = [
        0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
    ];
    let bits = der_value(0x03, &[&[0u8], pkcs1].concat());
    der_value(0x30, &[&ALGORITHM[..], &bits].concat())
}

fn der_value(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len().to_be_bytes();
    let significant = &length[length
        .iter()
        .position(|b| *b != 0)
        .unwrap_or(length.len() - 1)..];
    if content.len() < 128 {
        out.push(significant[significant.len() - 1]);
    } else {
        out.push(0x80 | u8::try_from(significant.len()).unwrap_or(0));
        out.extend_from_slice(significant);
    }
    out.extend_from_slice(content);
    out
}

fn pem(text: &str) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
    let Some(start) = text.find("-----BEGIN ") else {
        return Ok(None);
    };
    let body = &text[start..];
    let label_end = body[11..]
        .find("-----")
        .ok_or("the PEM armour is damaged")?
        + 11;
    let label = &body[11..label_end];
    if label.contains("ENCRYPTED") {
        return Err(
            "it is protected by a password; remove that: openssl pkey -in key.pem -out plain.pem"
                .to_owned(),
        );
    }
    if !label.ends_with("PRIVATE KEY") {
        return Err(format!("it is a {label}, not a private key"));
    }
    let after = &body[label_end + 5..];
    let end = after.find("-----END").ok_or("the PEM armour has no end")?;
    let compact: String = after[..end]
        .chars()
        .filter(|c| !c.is_ascii_whitespace())
        .collect();
    BASE64
        .decode(compact)
        .map(Zeroizing::new)
        .map(Some)
        .map_err(|_| "its base64 is damaged".to_owned())
}

impl SigningKey {
    /// An entry as configured.
    pub fn new(domain: String, selector: String, secret: SecretRef, when: When) -> Self {
        Self {
            domain,
            selector,
            secret,
            when,
            loaded: OnceLock::new(),
        }
    }

    /// Whether a signature takes microseconds, without reading anything first.
    pub fn is_quick(&self) -> bool {
        matches!(self.loaded.get(), Some(Key::Ed25519(_)))
    }

    /// The key, read at first use. An error is not kept: the next use tries again.
    pub fn key(&self, secrets: &Secrets) -> Result<&Key, KeyError> {
        if let Some(key) = self.loaded.get() {
            return Ok(key);
        }
        let name = format!("{} (selector {})", self.domain, self.selector);
        let secret = secrets
            .resolve(&self.secret)
            .map_err(|e| KeyError::Unreadable(name.clone(), e.to_string()))?;
        let key = Key::parse(secret.expose()).map_err(|e| KeyError::Unusable(name, e))?;
        Ok(self.loaded.get_or_init(|| key))
    }
}

/// A new key pair: the private key in PKCS#8 PEM.
pub fn generate_rsa() -> Result<Secret, String> {
    use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
    let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048)
        .map_err(|e| e.to_string())?;
    let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|e| e.to_string())?;
    Ok(Secret::new(armour(der.as_ref())))
}

/// A new Ed25519 key in PKCS#8 PEM.
pub fn generate_ed25519() -> Result<Secret, String> {
    let document =
        Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|e| e.to_string())?;
    Ok(Secret::new(armour(document.as_ref())))
}

fn armour(der: &[u8]) -> String {
    let body = BASE64.encode(der);
    let lines: Vec<&str> = body
        .as_bytes()
        .chunks(64)
        .filter_map(|chunk| std::str::from_utf8(chunk).ok())
        .collect();
    format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        lines.join("\n")
    )
}

/// Named once more than it occurs, so that none can be added behind our back.
const OVERSIGNED: [&str; 6] = ["From", "Reply-To", "To", "Cc", "Subject", "Date"];
/// Signed as often as present.
const SIGNED: [&str; 18] = [
    "Sender",
    "Message-ID",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "In-Reply-To",
    "References",
    "Resent-From",
    "Resent-Sender",
    "Resent-To",
    "Resent-Cc",
    "Resent-Date",
    "Resent-Message-ID",
    "List-Id",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "List-Help",
    "Auto-Submitted",
];

/// One key with where it belongs.
pub struct Signer<'a> {
    /// d=
    pub domain: &'a str,
    /// s=
    pub selector: &'a str,
    /// The key.
    pub key: &'a Key,
}

/// Makes a `DKIM-Signature` field for every signer over a complete header section (with its
/// blank line) and body. `timestamp`: t=, seconds since 1970.
pub fn sign(
    signers: &[Signer<'_>],
    head: &[u8],
    body: &[u8],
    timestamp: i64,
) -> Result<Vec<u8>, String> {
    let header = Header::parse(head).map_err(|e| e.to_string())?;
    let mut names = String::new();
    let mut input = Vec::with_capacity(head.len());
    for (list, extra) in [(&OVERSIGNED[..], 1), (&SIGNED[..], 0)] {
        for name in list {
            // RFC 6376 section 5.4.2: repeated fields count from the bottom up.
            let fields: Vec<_> = header.all(head, name).collect();
            for field in fields.iter().rev() {
                relaxed_field(name, &head[field.value.clone()], &mut input);
                input.extend_from_slice(b"\r\n");
            }
            for _ in 0..fields.len() + extra {
                if !names.is_empty() {
                    names.push(':');
                }
                names.push_str(name);
            }
        }
    }
    let body_hash = BASE64.encode(relaxed_body_hash(body));
    let names = fold_names(&names);
    let mut out = Vec::new();
    for signer in signers {
        let fixed = format!(
            "v=1; a={}; c=relaxed/relaxed; d={};\r\n\ts={}; t={timestamp};\r\n\th={names};\r\n\tbh={body_hash};\r\n\tb=",
            signer.key.algorithm(),
            signer.domain,
            signer.selector,
        );
        let mut to_sign = input.clone();
        relaxed_field(
            "DKIM-Signature",
            format!(" {fixed}").as_bytes(),
            &mut to_sign,
        );
        let signature = BASE64.encode(signer.key.sign(&to_sign)?);
        out.extend_from_slice(b"DKIM-Signature: ");
        out.extend_from_slice(fixed.as_bytes());
        for (i, chunk) in signature.as_bytes().chunks(72).enumerate() {
            if i > 0 {
                out.extend_from_slice(b"\r\n\t");
            }
            out.extend_from_slice(chunk);
        }
        out.extend_from_slice(b"\r\n");
    }
    Ok(out)
}

fn fold_names(names: &str) -> String {
    let mut out = String::with_capacity(names.len() + 16);
    let mut column = 4;
    for (i, name) in names.split(':').enumerate() {
        if i > 0 {
            out.push(':');
            column += 1;
        }
        if column + name.len() > 72 {
            out.push_str("\r\n\t ");
            column = 2;
        }
        out.push_str(name);
        column += name.len();
    }
    out
}

/// Relaxed header canonicalisation of one field without its line end (RFC 6376 section 3.4.2).
fn relaxed_field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend(name.bytes().map(|b| b.to_ascii_lowercase()));
    out.push(b':');
    let start = out.len();
    let mut blank = false;
    for &byte in value {
        match byte {
            b'\r' | b'\n' => {}
            b' ' | b'\t' => blank = true,
            _ => {
                if blank && out.len() > start {
                    out.push(b' ');
                }
                blank = false;
                out.push(byte);
            }
        }
    }
}

/// SHA-256 of the relaxed body (RFC 6376 section 3.4.4).
pub fn relaxed_body_hash(body: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer: Vec<u8> = Vec::with_capacity(16 * 1024);
    let mut pending_empty = 0usize;
    let mut rest = body;
    while !rest.is_empty() {
        let (line, tail) = match memchr::memchr(b'\n', rest) {
            Some(end) => (
                rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]),
                &rest[end + 1..],
            ),
            None => (rest, &rest[rest.len()..]),
        };
        rest = tail;
        let line = trim_end_blanks(line);
        if line.is_empty() {
            pending_empty += 1;
            continue;
        }
        for _ in 0..pending_empty {
            buffer.extend_from_slice(b"\r\n");
        }
        pending_empty = 0;
        reduce_blanks(line, &mut buffer);
        buffer.extend_from_slice(b"\r\n");
        if buffer.len() >= 12 * 1024 {
            context.update(&buffer);
            buffer.clear();
        }
    }
    context.update(&buffer);
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

fn trim_end_blanks(line: &[u8]) -> &[u8] {
    let end = line
        .iter()
        .rposition(|b| !matches!(b, b' ' | b'\t'))
        .map_or(0, |n| n + 1);
    &line[..end]
}

fn reduce_blanks(line: &[u8], out: &mut Vec<u8>) {
    let mut start = 0;
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b' ', b'\t', &line[at..]) {
        let blank = at + found;
        let run = line[blank..]
            .iter()
            .take_while(|b| matches!(b, b' ' | b'\t'))
            .count();
        if run > 1 || line[blank] == b'\t' {
            out.extend_from_slice(&line[start..blank]);
            out.push(b' ');
            start = blank + run;
        }
        at = blank + run;
    }
    out.extend_from_slice(&line[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(body: &[u8]) -> String {
        BASE64.encode(relaxed_body_hash(body))
    }

    fn reference(body: &[u8]) -> String {
        BASE64.encode(digest::digest(&digest::SHA256, body).as_ref())
    }

    #[test]
    fn body_vectors() {
        assert_eq!(hash(b""), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        assert_eq!(
            hash(b"\r\n\r\n"),
            "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
        );
        assert_eq!(
            hash(b" C \r\nD \t E\r\n\r\n\r\n"),
            reference(b" C\r\nD E\r\n")
        );
        assert_eq!(hash(b"Hello\r\n \t \r\n"), reference(b"Hello\r\n"));
        assert_eq!(hash(b"no end"), reference(b"no end\r\n"));
        assert_eq!(
            hash(b"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n"),
            "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="
        );
    }

    #[test]
    fn relaxed_header_example_of_the_rfc() {
        let mut out = Vec::new();
        relaxed_field("B", b" Y\t\r\n\tZ  \r\n", &mut out);
        assert_eq!(out, b"b:Y Z");
    }

    /// RFC 8463 appendix A: the Ed25519 signature is deterministic.
    #[test]
    fn ed25519_vector() {
        let key = Key::parse("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=").expect("seed");
        assert_eq!(
            key.record(),
            "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
        );
        let input = b"from:Joe SixPack <joe@football.example.com>\r\nto:Suzie Q <suzie@shopping.example.net>\r\nsubject:Is dinner ready?\r\ndate:Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\nmessage-id:<20030712040037.46341.5F8J@football.example.com>\r\ndkim-signature:v=1; a=ed25519-sha256; c=relaxed/relaxed; d=football.example.com; i=@football.example.com; q=dns/txt; s=brisbane; t=1528637909; h=from : to : subject : date : message-id : from : subject : date; bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=; b=";
        let signature = BASE64.encode(key.sign(input).expect("sign"));
        assert_eq!(
            signature,
            "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw=="
        );
    }

    #[test]
    fn generated_keys_are_readable() {
        for secret in [
            generate_rsa().expect("rsa"),
            generate_ed25519().expect("ed25519"),
        ] {
            let key = Key::parse(secret.expose()).expect("parse");
            assert!(key.record().len() > 50);
        }
        for (bad, word) in [
            ("", "rejected"),
            ("hello!", "base64"),
            (
                "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
                "not a private",
            ),
            (
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END X-----",
                "password",
            ),
        ] {
            let error = Key::parse(bad).expect_err(bad);
            assert!(error.contains(word), "{bad}: {error}");
        }
    }
}
