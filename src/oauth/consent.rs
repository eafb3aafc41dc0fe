//! A person's consent: what the browser is sent to, what comes back, what is kept of it.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::grant::{self, Ask, DeviceCode};
use super::{Granted, Provider, Settings, TokenError, jwt};
use crate::explain::Cause;
use crate::failure::Class;
use crate::http::Client;
use crate::http::url::form;
use crate::vault::{Secret, Secrets, VaultError};

/// What is kept of a consent, in the vault under [`Settings::vault_name`].
#[derive(Serialize, Deserialize)]
pub struct Consent {
    /// The refresh token of that moment; later ones stand in a file of their own.
    refresh_token: String,
    /// Who gave it, to which application, for whose sign-in: it goes to nobody else.
    #[serde(default)]
    bound_to: String,
    /// When it was given.
    pub granted: Timestamp,
    /// What it is good for, as the provider said.
    #[serde(default)]
    pub scope: Option<String>,
    /// Who gave it.
    #[serde(default)]
    pub identity: Option<String>,
    /// When it ends whatever is done, if the provider said so.
    #[serde(default)]
    pub ends: Option<Timestamp>,
}

impl Consent {
    /// The refresh token.
    pub fn refresh_token(&self) -> Secret {
        Secret::new(self.refresh_token.clone())
    }

    /// Whether it was given for these settings: a token is of use to its own provider, application
    /// and mailbox, and shown to no other.
    pub fn fits(&self, settings: &Settings) -> bool {
        self.bound_to == binding(settings)
    }

    /// Reads the consent of an account.
    pub fn load(secrets: &Secrets, settings: &Settings) -> Result<Option<Self>, VaultError> {
        let name = settings.vault_name();
        match secrets.vault().get(&name)? {
            None => Ok(None),
            Some(text) => serde_json::from_str(text.expose())
                .map(Some)
                .map_err(|_| VaultError::Damaged(name)),
        }
    }

    fn store(&self, secrets: &Secrets, settings: &Settings) -> Result<(), VaultError> {
        let name = settings.vault_name();
        let text = serde_json::to_string(self).map_err(|_| VaultError::Damaged(name.clone()))?;
        secrets.vault().set(&name, &Secret::new(text))
    }
}

/// One try to get a consent with a browser: its secrets belong to it alone.
pub struct Attempt {
    /// Sent along and expected back (RFC 6749 section 10.12).
    pub state: String,
    verifier: zeroize::Zeroizing<String>,
    redirect: String,
}

impl Attempt {
    /// A new one, whose browser comes back to this port of ours.
    pub fn new(settings: &Settings, port: u16) -> Result<Self, String> {
        // Microsoft lets the port of http://localhost be any; Google that of the address.
        let host = match settings.provider {
            Provider::Microsoft => "localhost",
            Provider::Google | Provider::Custom => "127.0.0.1",
        };
        Ok(Self {
            state: jwt::random(24)?,
            verifier: jwt::random(48)?.into(),
            redirect: format!("http://{host}:{port}"),
        })
    }

    /// Where the browser comes back to.
    pub fn redirect(&self) -> &str {
        &self.redirect
    }

    /// The address that the person opens.
    pub fn url(&self, settings: &Settings) -> Option<String> {
        let endpoint = settings.authorize_url.as_ref()?.whole();
        let scope = settings.scopes.join(" ");
        let challenge = jwt::challenge(&self.verifier);
        let mut pairs = vec![
            ("client_id", settings.client_id.as_str()),
            ("response_type", "code"),
            ("redirect_uri", &self.redirect),
            ("scope", &scope),
            ("state", &self.state),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            ("login_hint", &settings.login),
        ];
        match settings.provider {
            Provider::Microsoft => {
                pairs.push(("response_mode", "query"));
                pairs.push(("prompt", "select_account"));
            }
            // Without both, Google gives no refresh token to an account that consented before.
            Provider::Google => {
                pairs.push(("access_type", "offline"));
                pairs.push(("prompt", "consent"));
            }
            Provider::Custom => {}
        }
        let mark = if endpoint.contains('?') { '&' } else { '?' };
        Some(format!("{endpoint}{mark}{}", form(&pairs)))
    }

    /// Exchanges the code that came back.
    pub async fn redeem(
        &self,
        http: &Client,
        secrets: &Secrets,
        settings: &Settings,
        code: &str,
    ) -> Result<Granted, TokenError> {
        let ask = Ask::Code {
            code,
            verifier: &self.verifier,
            redirect: &self.redirect,
        };
        grant::ask(http, secrets, settings, ask).await
    }
}

/// Asks for a code that a person types in on another device.
pub async fn begin_device(http: &Client, settings: &Settings) -> Result<DeviceCode, TokenError> {
    grant::device_code(http, settings).await
}

/// Waits until the person has done so (RFC 8628 section 3.5).
pub async fn await_device(
    http: &Client,
    secrets: &Secrets,
    settings: &Settings,
    code: &DeviceCode,
) -> Result<Granted, TokenError> {
    let deadline = Instant::now() + code.lifetime;
    let mut interval = code.interval;
    loop {
        tokio::time::sleep(interval).await;
        let ask = Ask::Device(code.device_code.expose());
        match grant::ask(http, secrets, settings, ask).await {
            Err(error) if error.error == "authorization_pending" => {}
            Err(error) if error.error == "slow_down" => interval += Duration::from_secs(5),
            // A network that comes and goes: the person is still typing.
            Err(error) if error.error.is_empty() && error.class == Class::Transient => {}
            outcome => return outcome,
        }
        if Instant::now() >= deadline {
            return Err(TokenError::of_cause(
                Cause::Timeout,
                "nobody has typed in the code in time",
                &settings.token_url.authority(),
            ));
        }
    }
}

/// What a consent is bound to.
fn binding(settings: &Settings) -> String {
    format!(
        "{} {} {}",
        settings.token_url.host(),
        settings.client_id,
        settings.login.to_ascii_lowercase()
    )
}

/// Why a consent is not kept.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Somebody else has signed in.
    #[error("{0} has signed in, but the mail leaves as {1}")]
    OtherAccount(String, String),
    /// Nobody says who has signed in.
    #[error("the provider does not say who has signed in; add openid and email to scopes")]
    UnknownAccount,
    /// The provider gave nothing that lasts.
    #[error("the provider gave no refresh token")]
    NoRefreshToken,
    /// What was granted does not suffice.
    #[error("the provider granted {0}, needed is {1}")]
    Scope(String, String),
    /// The vault.
    #[error("{0}")]
    Vault(#[from] VaultError),
}

/// Keeps what a person has granted, if it is what was asked for.
pub fn keep(secrets: &Secrets, settings: &Settings, granted: &Granted) -> Result<Consent, Refusal> {
    let fits = |address: &String| address.eq_ignore_ascii_case(&settings.login);
    if !granted.identity.is_empty() && !granted.identity.iter().any(fits) {
        return Err(Refusal::OtherAccount(
            granted.identity[0].clone(),
            settings.login.clone(),
        ));
    }
    // Others than these two need not know of OpenID.
    if granted.identity.is_empty() && settings.provider != Provider::Custom {
        return Err(Refusal::UnknownAccount);
    }
    let needed = settings.needed_scopes();
    if let (Some(first), Some(scope)) = (needed.first(), &granted.scope) {
        let told = scope.to_ascii_lowercase();
        if !needed
            .iter()
            .any(|one| told.contains(&one.to_ascii_lowercase()))
        {
            return Err(Refusal::Scope(scope.clone(), (*first).to_owned()));
        }
    }
    let refresh = granted.refresh.as_ref().ok_or(Refusal::NoRefreshToken)?;
    let now = Timestamp::now();
    let consent = Consent {
        refresh_token: refresh.expose().to_owned(),
        bound_to: binding(settings),
        granted: now,
        scope: granted.scope.clone(),
        identity: granted.identity.first().cloned(),
        ends: granted
            .refresh_lifetime
            .and_then(|life| now.checked_add(life).ok()),
    };
    consent.store(secrets, settings)?;
    Ok(consent)
}
