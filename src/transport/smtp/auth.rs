//! Logging in at an upstream (RFC 4954). A password never goes over a connection that others can
//! read, unless the operator says so in so many words.

use zeroize::Zeroizing;

use super::connection::{Connection, Context};
use super::{Authentication, Settings};
use crate::explain::Cause;
use crate::failure::Stage;
use crate::smtp::reply::Reply;
use crate::smtp::sasl::{self, ScramClient};
use crate::transport::Failure;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mechanism {
    Plain,
    Login,
    CramMd5,
    ScramSha256,
}

impl Mechanism {
    fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
            Mechanism::CramMd5 => "CRAM-MD5",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
        }
    }

    /// Whether the password itself, not a proof of it, goes over the wire.
    fn shows_password(self) -> bool {
        match self {
            Mechanism::Plain | Mechanism::Login => true,
            Mechanism::CramMd5 | Mechanism::ScramSha256 => false,
        }
    }
}

/// Logs in as the settings say; does nothing where no login is configured.
pub async fn login(
    connection: &mut Connection,
    settings: &Settings,
    context: &Context,
) -> Result<(), Failure> {
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
    connection.confidential = vec![
        password.clone(),
        Zeroizing::new(sasl::encode(password.as_bytes())),
        sasl::plain(username, &password),
        Zeroizing::new(url_encoded(&password)),
        // As a form writes it: blanks as `+`, which comparing leaves out.
        Zeroizing::new(url_encoded(&password.replace(' ', ""))),
    ];
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
    };
    if reply.is_success() {
        Ok(())
    } else {
        Err(connection.refused(Stage::Auth, reply))
    }
}

/// The form in which some servers put a login into a link.
fn url_encoded(text: &str) -> String {
    text.bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
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

fn choose(wanted: Authentication, offered: &[String], may_show: bool) -> Result<Mechanism, Cause> {
    let order: &[Mechanism] = match wanted {
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
            choose(auto, &offer("LOGIN XOAUTH2"), true),
            Ok(Mechanism::Login)
        );
        assert_eq!(
            choose(auto, &offer("LOGIN PLAIN CRAM-MD5"), true),
            Ok(Mechanism::Plain)
        );
        assert_eq!(
            choose(auto, &offer("PLAIN SCRAM-SHA-256"), true),
            Ok(Mechanism::ScramSha256)
        );
        assert_eq!(
            choose(auto, &offer("LOGIN PLAIN"), false),
            Err(Cause::AuthWithoutTls)
        );
        assert_eq!(
            choose(auto, &offer("PLAIN CRAM-MD5"), false),
            Ok(Mechanism::CramMd5)
        );
        assert_eq!(choose(auto, &[], true), Err(Cause::AuthMechanismMissing));
        assert_eq!(
            choose(Authentication::Login, &offer("PLAIN"), true),
            Err(Cause::AuthMechanismMissing)
        );
    }
}
