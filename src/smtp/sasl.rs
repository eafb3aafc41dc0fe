//! SASL mechanisms as pure functions, server and client side: PLAIN (RFC 4616), LOGIN
//! (draft-murchison-sasl-login), CRAM-MD5 (RFC 2195), SCRAM-SHA-256 (RFC 5802, RFC 7677).

use aws_lc_rs::{digest, hmac as lc_hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{KeyInit as _, Mac as _};
use zeroize::Zeroizing;

/// PBKDF2 rounds that our server asks of a SCRAM client (RFC 7677 section 4: at least 4096).
pub const SCRAM_ITERATIONS: u32 = 4096;
/// Most rounds that an upstream may ask of us; more would only burn our processor.
pub const SCRAM_ITERATIONS_LIMIT: u32 = 1_000_000;

/// Decodes a base64 SASL response; `=` alone is the empty response (RFC 4954 section 4).
pub fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let text = text.trim();
    if text == "=" {
        return Some(Zeroizing::new(Vec::new()));
    }
    BASE64.decode(text).ok().map(Zeroizing::new)
}

/// Encodes a SASL message.
pub fn encode(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// A user name and password as a client gave them.
#[derive(Clone)]
pub struct Credentials {
    /// User name.
    pub login: String,
    /// Password.
    pub password: Zeroizing<String>,
}

/// Splits a PLAIN response. `None` when it is malformed, holds line ends, or asks to act as
/// another user than the one who logs in.
pub fn parse_plain(response: &[u8]) -> Option<Credentials> {
    let text = std::str::from_utf8(response).ok()?;
    let mut parts = text.split('\0');
    let (authorization, login, password) = (parts.next()?, parts.next()?, parts.next()?);
    let acts_as_other = !authorization.is_empty() && authorization != login;
    if parts.next().is_some()
        || login.is_empty()
        || acts_as_other
        || has_control(login)
        || has_control(password)
    {
        return None;
    }
    Some(Credentials {
        login: login.to_owned(),
        password: Zeroizing::new(password.to_owned()),
    })
}

/// Whether a PLAIN response is well formed but asks to act as another user (535, not 501).
pub fn plain_acts_as_other(response: &[u8]) -> bool {
    let parts: Vec<&[u8]> = response.split(|b| *b == 0).collect();
    parts.len() == 3 && !parts[0].is_empty() && parts[0] != parts[1]
}

/// User name or password text of LOGIN.
pub fn parse_login_text(response: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(response).ok()?;
    // Some clients end the value with the NUL of their C string.
    let text = text.strip_suffix('\0').unwrap_or(text);
    (!has_control(text)).then(|| text.to_owned())
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// The response to a PLAIN exchange.
pub fn plain(login: &str, password: &str) -> Zeroizing<String> {
    Zeroizing::new(encode(format!("\0{login}\0{password}").as_bytes()))
}

/// The hexadecimal digest of CRAM-MD5.
pub fn cram_md5_digest(password: &str, challenge: &[u8]) -> String {
    let Ok(mut mac) = hmac::Hmac::<md5::Md5>::new_from_slice(password.as_bytes()) else {
        return String::new(); // HMAC takes keys of any length
    };
    mac.update(challenge);
    mac.finalize()
        .into_bytes()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// The response to a CRAM-MD5 challenge, base64.
pub fn cram_md5(login: &str, password: &str, challenge: &[u8]) -> String {
    encode(format!("{login} {}", cram_md5_digest(password, challenge)).as_bytes())
}

/// Splits a CRAM-MD5 response into login and digest.
pub fn parse_cram_md5(response: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(response).ok()?.trim_end();
    let (login, digest) = text.rsplit_once(' ')?;
    (!login.is_empty() && !has_control(login) && digest.len() == 32)
        .then(|| (login.to_owned(), digest.to_ascii_lowercase()))
}

/// Compares without telling by its time where the difference is.
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}

fn hmac_sha256(key: &[u8], data: &[u8]) -> [u8; 32] {
    let tag = lc_hmac::sign(&lc_hmac::Key::new(lc_hmac::HMAC_SHA256, key), data);
    let mut out = [0; 32];
    out.copy_from_slice(tag.as_ref());
    out
}

fn salted_password(password: &str, salt: &[u8], iterations: u32) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    let rounds = std::num::NonZeroU32::new(iterations).unwrap_or(std::num::NonZeroU32::MIN);
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        rounds,
        salt,
        password.as_bytes(),
        out.as_mut(),
    );
    out
}

/// Why a SCRAM exchange ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// Not the syntax of RFC 5802.
    #[error("malformed SCRAM message")]
    Malformed,
    /// The proof is wrong: wrong password (server side) or an impostor (client side).
    #[error("the SCRAM proof is wrong")]
    Proof,
}

fn attribute<'a>(part: Option<&'a str>, name: &str) -> Result<&'a str, ScramError> {
    part.and_then(|p| p.strip_prefix(name))
        .and_then(|p| p.strip_prefix('='))
        .ok_or(ScramError::Malformed)
}

/// What our server read from `client-first`.
pub struct ScramClientFirst {
    /// User name.
    pub login: String,
    gs2: String,
    bare: String,
    nonce: String,
}

/// Our server's side once it has answered.
pub struct ScramServer {
    client: ScramClientFirst,
    server_first: String,
    nonce: String,
    salt: Vec<u8>,
}

impl ScramClientFirst {
    /// Parses `n,,n=user,r=nonce`.
    pub fn parse(message: &[u8]) -> Result<Self, ScramError> {
        let text = std::str::from_utf8(message).map_err(|_| ScramError::Malformed)?;
        let mut parts = text.splitn(3, ',');
        let (flag, authzid, bare) = (
            parts.next(),
            parts.next(),
            parts.next().ok_or(ScramError::Malformed)?,
        );
        // `y`: the client would bind to the channel but thinks we cannot; true (RFC 5802 section 6).
        if !matches!(flag, Some("n" | "y")) {
            return Err(ScramError::Malformed);
        }
        let mut fields = bare.split(',');
        let login = attribute(fields.next(), "n")?
            .replace("=2C", ",")
            .replace("=3D", "=");
        let nonce = attribute(fields.next(), "r")?;
        let acting = authzid.unwrap_or("");
        let acts_as_self = acting.is_empty()
            || acting.strip_prefix("a=") == attribute(bare.split(',').next(), "n").ok();
        if login.is_empty() || has_control(&login) || nonce.len() < 8 || !acts_as_self {
            return Err(ScramError::Malformed);
        }
        let gs2 = format!("{},{acting},", flag.unwrap_or("n"));
        Ok(Self {
            login,
            gs2,
            bare: bare.to_owned(),
            nonce: nonce.to_owned(),
        })
    }

    /// Answers with our nonce and salt; gives the message to send as challenge.
    pub fn respond(self, server_nonce: &str, salt: Vec<u8>) -> (ScramServer, String) {
        let nonce = format!("{}{server_nonce}", self.nonce);
        let server_first = format!("r={nonce},s={},i={SCRAM_ITERATIONS}", BASE64.encode(&salt));
        (
            ScramServer {
                client: self,
                server_first: server_first.clone(),
                nonce,
                salt,
            },
            server_first,
        )
    }
}

impl ScramServer {
    /// The login that is proved.
    pub fn login(&self) -> &str {
        &self.client.login
    }

    /// Checks `client-final` against the password; gives `server-final`.
    pub fn finish(&self, message: &[u8], password: &str) -> Result<String, ScramError> {
        let text = std::str::from_utf8(message).map_err(|_| ScramError::Malformed)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(ScramError::Malformed)?;
        let mut fields = without_proof.split(',');
        let binding = attribute(fields.next(), "c")?;
        let nonce = attribute(fields.next(), "r")?;
        let proof = BASE64.decode(proof).map_err(|_| ScramError::Malformed)?;
        if binding != BASE64.encode(&self.client.gs2) || nonce != self.nonce {
            return Err(ScramError::Proof);
        }
        let salted = salted_password(password, &self.salt, SCRAM_ITERATIONS);
        let auth_message = format!("{},{},{without_proof}", self.client.bare, self.server_first);
        let (expected, server_signature) = proofs(&salted, &auth_message);
        if !constant_time_eq(&proof, &expected) {
            return Err(ScramError::Proof);
        }
        Ok(format!("v={}", BASE64.encode(server_signature)))
    }
}

/// Client proof and server signature (RFC 5802 section 3).
fn proofs(salted: &[u8; 32], auth_message: &str) -> ([u8; 32], [u8; 32]) {
    let client_key = hmac_sha256(salted, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, &client_key);
    let mut proof = hmac_sha256(stored_key.as_ref(), auth_message.as_bytes());
    for (p, k) in proof.iter_mut().zip(client_key) {
        *p ^= k;
    }
    let server_key = hmac_sha256(salted, b"Server Key");
    (proof, hmac_sha256(&server_key, auth_message.as_bytes()))
}

/// The client side of SCRAM-SHA-256.
pub struct ScramClient {
    bare: String,
    nonce: String,
    password: Zeroizing<String>,
    server_signature: Option<[u8; 32]>,
}

impl ScramClient {
    /// `nonce`: printable, without comma, fresh for every exchange.
    pub fn new(login: &str, password: &str, nonce: String) -> Self {
        let login = login.replace('=', "=3D").replace(',', "=2C");
        Self {
            bare: format!("n={login},r={nonce}"),
            nonce,
            password: Zeroizing::new(password.to_owned()),
            server_signature: None,
        }
    }

    /// `client-first`.
    pub fn first(&self) -> String {
        format!("n,,{}", self.bare)
    }

    /// Answers `server-first` with `client-final`.
    pub fn respond(&mut self, server_first: &[u8]) -> Result<String, ScramError> {
        let text = std::str::from_utf8(server_first).map_err(|_| ScramError::Malformed)?;
        let mut fields = text.split(',');
        let nonce = attribute(fields.next(), "r")?;
        let salt = BASE64
            .decode(attribute(fields.next(), "s")?)
            .map_err(|_| ScramError::Malformed)?;
        let iterations: u32 = attribute(fields.next(), "i")?
            .parse()
            .map_err(|_| ScramError::Malformed)?;
        if !nonce.starts_with(&self.nonce)
            || nonce.len() <= self.nonce.len()
            || iterations == 0
            || iterations > SCRAM_ITERATIONS_LIMIT
        {
            return Err(ScramError::Malformed);
        }
        let without_proof = format!("c=biws,r={nonce}");
        let salted = salted_password(&self.password, &salt, iterations);
        let (proof, server_signature) =
            proofs(&salted, &format!("{},{text},{without_proof}", self.bare));
        self.server_signature = Some(server_signature);
        Ok(format!("{without_proof},p={}", BASE64.encode(proof)))
    }

    /// Checks `server-final`: only who knows the password can have written it.
    pub fn verify(&self, server_final: &[u8]) -> Result<(), ScramError> {
        let text = std::str::from_utf8(server_final).map_err(|_| ScramError::Malformed)?;
        let signature = BASE64
            .decode(attribute(text.split(',').next(), "v")?)
            .map_err(|_| ScramError::Malformed)?;
        match self.server_signature {
            Some(expected) if constant_time_eq(&signature, &expected) => Ok(()),
            _ => Err(ScramError::Proof),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_vectors() {
        let c = parse_plain(&decode("AHRlc3QAMTIzNA==").expect("base64")).expect("plain");
        assert_eq!((c.login.as_str(), c.password.as_str()), ("test", "1234"));
        assert!(parse_plain(&decode("dGVzdAB0ZXN0ADEyMzQ=").expect("base64")).is_some());
        assert!(parse_plain(b"admin\0u\0pw").is_none() && plain_acts_as_other(b"admin\0u\0pw"));
        for bad in [
            &b""[..],
            b"u\0p",
            b"\0u\0p\0x",
            b"\0u\r\n\0p",
            b"\0\0p",
            b"\0\xff\0p",
        ] {
            assert!(parse_plain(bad).is_none(), "{bad:?}");
        }
        assert_eq!(plain("test", "1234").as_str(), "AHRlc3QAMTIzNA==");
    }

    #[test]
    fn cram_vector() {
        let challenge = b"<1896.697170952@postoffice.reston.mci.net>";
        assert_eq!(
            cram_md5("tim", "tanstaaftanstaaf", challenge),
            "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw"
        );
        let (login, digest) =
            parse_cram_md5(b"tim b913a602c7eda7a495b4e6e7334d3890").expect("response");
        assert_eq!(
            (login.as_str(), digest),
            ("tim", cram_md5_digest("tanstaaftanstaaf", challenge))
        );
    }

    #[test]
    fn scram_vector_of_rfc_7677() {
        let mut client = ScramClient::new("user", "pencil", "rOprNGfwEbeRWgbNEkqO".into());
        assert_eq!(client.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let server_first = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let last = client.respond(server_first).expect("server first");
        assert_eq!(
            last,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert_eq!(
            client.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="),
            Ok(())
        );
        assert!(client.verify(b"v=AAAA").is_err());
    }

    #[test]
    fn scram_both_sides() {
        let mut client = ScramClient::new("a,b=c", "pass", "clientnonce".into());
        let (server, first) = ScramClientFirst::parse(client.first().as_bytes())
            .expect("first")
            .respond("servernonce", b"salt".to_vec());
        assert_eq!(server.login(), "a,b=c");
        let last = client.respond(first.as_bytes()).expect("respond");
        let done = server.finish(last.as_bytes(), "pass").expect("proof");
        assert_eq!(client.verify(done.as_bytes()), Ok(()));
        assert_eq!(
            server.finish(last.as_bytes(), "other"),
            Err(ScramError::Proof)
        );
    }
}
