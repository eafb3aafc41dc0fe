//! Logging in at an upstream (RFC 4954). A password never goes over a connection that others can
//! read, unless the operator says so in so many words.

use zeroize::Zeroizing;

use super::connection::Connection;
use super::{Authentication, CertificatePolicy, Settings};
use crate::explain::Cause;
use crate::failure::Stage;
use crate::oauth::Access;
use crate::smtp::reply::Reply;
use crate::smtp::sasl::{self, ScramClient};
use crate::transport::{Context, Failure};
use crate::vault::Confidential;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mechanism {
    Plain,
    Login,
    CramMd5,
    ScramSha256,
    Xoauth2,
    Oauthbearer,
}

impl Mechanism {
    fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
            Mechanism::CramMd5 => "CRAM-MD5",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::Xoauth2 => "XOAUTH2",
            Mechanism::Oauthbearer => "OAUTHBEARER",
        }
    }

    /// Whether the password itself, not a proof of it, goes over the wire.
    fn shows_password(self) -> bool {
        match self {
            Mechanism::Plain | Mechanism::Login | Mechanism::Xoauth2 | Mechanism::Oauthbearer => {
                true
            }
            Mechanism::CramMd5 | Mechanism::ScramSha256 => false,
        }
    }
}

/// Logs in as the settings say; does nothing where no login is configured. `token`: the one to log
/// in with, where tokens are configured; then no password ever goes instead.
pub async fn login(
    connection: &mut Connection,
    settings: &Settings,
    context: &Context,
    token: Option<&Access>,
) -> Result<(), Failure> {
    if let (Some(oauth), Some(token)) = (&settings.oauth, token) {
        return login_by_token(connection, settings, &oauth.mailbox, token).await;
    }
    let Some(username) = settings
        .username
        .as_deref()
        .filter(|_| settings.authentication != Authentication::None)
    else {
        return Ok(());
    };
    let may_show =
        connection.is_encrypted() || connection.peer.is_loopback() || settings.insecure_password;
    let mechanism = choose(
        settings.authentication,
        &connection.capabilities.auth,
        may_show,
        false,
    )
    .map_err(|cause| {
        let offered = connection.capabilities.auth.join(" ");
        connection.failure(
            cause,
            Stage::Auth,
            format!(
                "the server offers AUTH {}",
                if offered.is_empty() {
                    "not at all"
                } else {
                    &offered
                }
            ),
        )
    })?;
    let reference = settings.password.as_ref().ok_or_else(|| {
        connection.failure(
            Cause::CredentialMissing,
            Stage::Auth,
            "no password is configured",
        )
    })?;
    let password = context
        .secrets
        .resolve(reference)
        .map_err(|e| connection.failure(Cause::CredentialMissing, Stage::Auth, e.to_string()))?;
    let password = Zeroizing::new(password.expose().to_owned());
    connection.confidential = Confidential::default();
    connection.confidential.add(&password);
    // Short ones are looked for in this form all the same.
    connection
        .confidential
        .add(&sasl::encode(password.as_bytes()));
    connection
        .confidential
        .add(&sasl::plain(username, &password));
    let reply = match mechanism {
        Mechanism::Plain => {
            let response = sasl::plain(username, &password);
            let line = Zeroizing::new(format!("AUTH PLAIN {}", response.as_str()));
            connection
                .secret_line(&line, "AUTH PLAIN ***", Stage::Auth)
                .await?
        }
        Mechanism::Login => {
            let reply = connection
                .command("AUTH LOGIN", Stage::Auth, connection.timeouts.command)
                .await?;
            challenge(connection, &reply)?;
            let reply = connection
                .secret_line(
                    &sasl::encode(username.as_bytes()),
                    "*** (user name)",
                    Stage::Auth,
                )
                .await?;
            challenge(connection, &reply)?;
            let line = Zeroizing::new(sasl::encode(password.as_bytes()));
            connection
                .secret_line(&line, "*** (password)", Stage::Auth)
                .await?
        }
        Mechanism::CramMd5 => {
            let reply = connection
                .command("AUTH CRAM-MD5", Stage::Auth, connection.timeouts.command)
                .await?;
            let challenge = challenge(connection, &reply)?;
            connection
                .secret_line(
                    &sasl::cram_md5(username, &password, &challenge),
                    "*** (proof)",
                    Stage::Auth,
                )
                .await?
        }
        Mechanism::ScramSha256 => scram(connection, username, &password).await?,
        // Only chosen for tokens.
        Mechanism::Xoauth2 | Mechanism::Oauthbearer => {
            return Err(connection.failure(
                Cause::AuthMechanismMissing,
                Stage::Auth,
                "a token is needed, a password is configured",
            ));
        }
    };
    if reply.is_success() {
        Ok(())
    } else {
        Err(connection.refused(Stage::Auth, reply))
    }
}

/// Longest command line of a server that goes by RFC 5321 section 4.5.3.1.4.
const LINE_LIMIT: usize = 510;

/// XOAUTH2 (Google's and Microsoft's description) and OAUTHBEARER (RFC 7628): only over verified
/// TLS, or to this very machine.
async fn login_by_token(
    connection: &mut Connection,
    settings: &Settings,
    user: &str,
    access: &Access,
) -> Result<(), Failure> {
    let trusted =
        connection.is_encrypted() && settings.certificate != CertificatePolicy::TrustAlways;
    if !trusted && !connection.peer.is_loopback() {
        return Err(connection.failure(
            Cause::AuthWithoutTls,
            Stage::Auth,
            "a token goes over verified TLS alone",
        ));
    }
    let mechanism = choose(
        settings.authentication,
        &connection.capabilities.auth,
        true,
        true,
    )
    .map_err(|cause| {
        let offered = connection.capabilities.auth.join(" ");
        connection.failure(
            cause,
            Stage::Auth,
            format!("the server offers AUTH {offered}; needed is XOAUTH2 or OAUTHBEARER"),
        )
    })?;
    let token = access.token.expose();
    let (response, on_failure) = match mechanism {
        Mechanism::Oauthbearer => {
            let user = user.replace('=', "=3D").replace(',', "=2C");
            let host = &settings.host;
            let port = settings.port;
            (
                format!("n,a={user},\x01host={host}\x01port={port}\x01auth=Bearer {token}\x01\x01"),
                sasl::encode(b"\x01"),
            )
        }
        _ => (
            format!("user={user}\x01auth=Bearer {token}\x01\x01"),
            String::new(),
        ),
    };
    let response = Zeroizing::new(response);
    let encoded = Zeroizing::new(sasl::encode(response.as_bytes()));
    connection.confidential = Confidential::default();
    connection.confidential.add(token);
    connection.confidential.add(&encoded);
    let name = mechanism.name();
    let line = Zeroizing::new(format!("AUTH {name} {}", encoded.as_str()));
    let mut reply = connection
        .secret_line(&line, &format!("AUTH {name} ***"), Stage::Auth)
        .await?;
    if line.len() > LINE_LIMIT && matches!(reply.code, 500 | 501) {
        // Too long for this server in one line: in two steps (RFC 4954 section 4).
        let asked = connection
            .command(
                &format!("AUTH {name}"),
                Stage::Auth,
                connection.timeouts.command,
            )
            .await?;
        if asked.code != 334 {
            return Err(connection.refused(Stage::Auth, asked));
        }
        reply = connection
            .secret_line(&encoded, "*** (token)", Stage::Auth)
            .await?;
    }
    if reply.code == 334 {
        // Google tells why first, and wants an answer before it refuses.
        let why = sasl::decode(&reply.text()).unwrap_or_default();
        let why = connection
            .confidential
            .clean(&String::from_utf8_lossy(&why), 300);
        connection
            .transcript
            .push("--", &format!("the server says {why}"));
        tracing::debug!(event = "token-refused", relay = %connection.relay, reason = %why);
        reply = connection
            .secret_line(&on_failure, "(empty answer to the error)", Stage::Auth)
            .await?;
    }
    if reply.is_success() {
        Ok(())
    } else {
        Err(connection.refused(Stage::Auth, reply))
    }
}

async fn scram(
    connection: &mut Connection,
    username: &str,
    password: &str,
) -> Result<Reply, Failure> {
    let mut nonce = [0u8; 18];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| {
        connection.failure(
            Cause::ProtocolError,
            Stage::Auth,
            "the machine gives no random numbers",
        )
    })?;
    let mut client = ScramClient::new(username, password, sasl::encode(&nonce));
    let line = format!(
        "AUTH SCRAM-SHA-256 {}",
        sasl::encode(client.first().as_bytes())
    );
    let reply = connection
        .secret_line(&line, "AUTH SCRAM-SHA-256 ***", Stage::Auth)
        .await?;
    let first = challenge(connection, &reply)?;
    let last = client
        .respond(&first)
        .map_err(|e| connection.failure(Cause::ProtocolError, Stage::Auth, e.to_string()))?;
    let reply = connection
        .secret_line(&sasl::encode(last.as_bytes()), "*** (proof)", Stage::Auth)
        .await?;
    if reply.code == 235 {
        return Ok(reply); // the server's own proof may stand in the 235; TLS has already named it
    }
    let proof = challenge(connection, &reply)?;
    client.verify(&proof).map_err(|e| {
        connection.failure(
            Cause::ProtocolError,
            Stage::Auth,
            format!("the server could not prove that it knows the password ({e})"),
        )
    })?;
    connection.secret_line("", "(empty)", Stage::Auth).await
}

/// The challenge of a 334.
fn challenge(connection: &Connection, reply: &Reply) -> Result<Vec<u8>, Failure> {
    if reply.code != 334 {
        return Err(connection.refused(Stage::Auth, reply.clone()));
    }
    let text = reply.text();
    match sasl::decode(&text) {
        Some(bytes) => Ok(bytes.to_vec()),
        None => Err(connection.failure(
            Cause::ProtocolError,
            Stage::Auth,
            "the server's challenge is not base64",
        )),
    }
}

fn choose(
    wanted: Authentication,
    offered: &[String],
    may_show: bool,
    by_token: bool,
) -> Result<Mechanism, Cause> {
    let order: &[Mechanism] = match wanted {
        Authentication::Auto if by_token => &[Mechanism::Xoauth2, Mechanism::Oauthbearer],
        Authentication::None | Authentication::Auto if may_show => &[
            Mechanism::ScramSha256,
            Mechanism::Plain,
            Mechanism::Login,
            Mechanism::CramMd5,
        ],
        Authentication::None | Authentication::Auto => &[
            Mechanism::ScramSha256,
            Mechanism::CramMd5,
            Mechanism::Plain,
            Mechanism::Login,
        ],
        Authentication::Plain => &[Mechanism::Plain],
        Authentication::Login => &[Mechanism::Login],
        Authentication::CramMd5 => &[Mechanism::CramMd5],
        Authentication::ScramSha256 => &[Mechanism::ScramSha256],
        Authentication::Xoauth2 => &[Mechanism::Xoauth2],
        Authentication::Oauthbearer => &[Mechanism::Oauthbearer],
    };
    let found = order
        .iter()
        .copied()
        .find(|m| offered.iter().any(|o| o == m.name()))
        .ok_or(Cause::AuthMechanismMissing)?;
    if found.shows_password() && !may_show {
        Err(Cause::AuthWithoutTls)
    } else {
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices() {
        let offer = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let auto = Authentication::Auto;
        assert_eq!(
            choose(auto, &offer("LOGIN XOAUTH2"), true, false),
            Ok(Mechanism::Login)
        );
        assert_eq!(
            choose(auto, &offer("LOGIN PLAIN CRAM-MD5"), true, false),
            Ok(Mechanism::Plain)
        );
        assert_eq!(
            choose(auto, &offer("PLAIN SCRAM-SHA-256"), true, false),
            Ok(Mechanism::ScramSha256)
        );
        assert_eq!(
            choose(auto, &offer("LOGIN PLAIN"), false, false),
            Err(Cause::AuthWithoutTls)
        );
        assert_eq!(
            choose(auto, &offer("PLAIN CRAM-MD5"), false, false),
            Ok(Mechanism::CramMd5)
        );
        let by_token = |text: &str| choose(auto, &offer(text), true, true);
        assert_eq!(
            by_token("LOGIN OAUTHBEARER XOAUTH2"),
            Ok(Mechanism::Xoauth2)
        );
        assert_eq!(by_token("PLAIN OAUTHBEARER"), Ok(Mechanism::Oauthbearer));
        assert_eq!(by_token("PLAIN LOGIN"), Err(Cause::AuthMechanismMissing));
        assert_eq!(
            choose(auto, &[], true, false),
            Err(Cause::AuthMechanismMissing)
        );
        assert_eq!(
            choose(Authentication::Login, &offer("PLAIN"), true, false),
            Err(Cause::AuthMechanismMissing)
        );
    }
}
