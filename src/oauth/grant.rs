//! The requests of each grant.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::jwt::{self, Algorithm, ServiceAccount};
use super::{Grant, Granted, Provider, Settings, TokenError, answer};
use crate::explain::Cause;
use crate::http::url::form;
use crate::http::{Answer, Client, Request, Url};
use crate::vault::{Confidential, Secret, Secrets};

/// How long a request to a token endpoint may take as a whole.
const LIMIT: Duration = Duration::from_secs(30);

/// What tokens are asked with.
pub enum Ask<'a> {
    /// A refresh token.
    Refresh(&'a Secret),
    /// Nothing but what the application has itself: client credentials, a service account.
    Itself,
    /// The code of a browser's redirect.
    Code {
        /// The code.
        code: &'a str,
        /// The PKCE verifier (RFC 7636).
        verifier: &'a str,
        /// The redirect, word for word as it was sent before.
        redirect: &'a str,
    },
    /// A device code (RFC 8628 section 3.4).
    Device(&'a str),
}

/// Name and value of a form; values may be secret.
type Pair = (&'static str, Zeroizing<String>);

/// A form on its way to becoming a request, with what must not be shown.
struct Form {
    pairs: Vec<Pair>,
    confidential: Confidential,
}

impl Form {
    fn add(&mut self, name: &'static str, value: &str) {
        self.pairs.push((name, Zeroizing::new(value.to_owned())));
    }

    fn add_secret(&mut self, name: &'static str, value: &str) {
        self.confidential.add(value);
        self.add(name, value);
    }

    fn text(&self) -> Zeroizing<String> {
        let pairs: Vec<(&str, &str)> = self.pairs.iter().map(|(n, v)| (*n, v.as_str())).collect();
        Zeroizing::new(form(&pairs))
    }
}

/// Asks the token endpoint.
pub async fn ask(
    http: &Client,
    secrets: &Secrets,
    settings: &Settings,
    ask: Ask<'_>,
) -> Result<Granted, TokenError> {
    let server = settings.token_url.authority();
    let mut form = Form {
        pairs: Vec::new(),
        confidential: Confidential::default(),
    };
    let scope = settings.scopes.join(" ");
    match ask {
        Ask::Refresh(token) => {
            form.add("grant_type", "refresh_token");
            form.add_secret("refresh_token", token.expose());
        }
        Ask::Itself if settings.grant == Grant::ServiceAccount => {
            return service_account(http, secrets, settings, form, &scope).await;
        }
        Ask::Itself => form.add("grant_type", "client_credentials"),
        Ask::Code {
            code,
            verifier,
            redirect,
        } => {
            form.add("grant_type", "authorization_code");
            form.add_secret("code", code);
            form.add_secret("code_verifier", verifier);
            form.add("redirect_uri", redirect);
        }
        Ask::Device(code) => {
            form.add("grant_type", "urn:ietf:params:oauth:grant-type:device_code");
            form.add_secret("device_code", code);
        }
    }
    form.add("client_id", &settings.client_id);
    if !scope.is_empty() {
        form.add("scope", &scope);
    }
    authenticate(settings, secrets, &mut form)
        .map_err(|why| TokenError::of_cause(Cause::CredentialMissing, why, &server))?;
    let answer = post(http, &settings.token_url, &form).await?;
    answer::read(settings.provider, &answer, &form.confidential, &server)
}

/// The application's own proof: a certificate, or its secret, or nothing (a public client).
fn authenticate(settings: &Settings, secrets: &Secrets, form: &mut Form) -> Result<(), String> {
    if let Some((certificate, key)) = &settings.client_certificate {
        let key = secrets.resolve(key).map_err(|e| e.to_string())?;
        let algorithm = match settings.provider {
            Provider::Microsoft => Algorithm::Ps256,
            Provider::Google | Provider::Custom => Algorithm::Rs256,
        };
        let assertion = jwt::client_assertion(
            &settings.client_id,
            &settings.token_url.whole(),
            certificate,
            key.expose(),
            algorithm,
            Timestamp::now().as_second(),
        )?;
        form.add(
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        );
        form.add_secret("client_assertion", &assertion);
    } else if let Some(secret) = &settings.client_secret {
        let secret = secrets.resolve(secret).map_err(|e| e.to_string())?;
        form.add_secret("client_secret", secret.expose());
    }
    Ok(())
}

async fn service_account(
    http: &Client,
    secrets: &Secrets,
    settings: &Settings,
    mut form: Form,
    scope: &str,
) -> Result<Granted, TokenError> {
    let server = settings.token_url.authority();
    let missing = |why: String| TokenError::of_cause(Cause::CredentialMissing, why, &server);
    let reference = settings
        .service_account
        .as_ref()
        .ok_or_else(|| missing("no service_account is configured".to_owned()))?;
    let file = secrets
        .resolve(reference)
        .map_err(|e| missing(e.to_string()))?;
    let assertion = ServiceAccount::parse(file.expose())
        .and_then(|account| {
            account.assertion(
                &settings.token_url.whole(),
                scope,
                &settings.mailbox,
                Timestamp::now().as_second(),
            )
        })
        .map_err(missing)?;
    form.add("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
    form.add_secret("assertion", &assertion);
    let answer = post(http, &settings.token_url, &form).await?;
    answer::read(settings.provider, &answer, &form.confidential, &server)
}

async fn post(http: &Client, url: &Url, form: &Form) -> Result<Answer, TokenError> {
    let request = Request {
        method: "POST",
        target: url.target(),
        headers: vec![(
            "Content-Type",
            "application/x-www-form-urlencoded".to_owned(),
        )],
        body: vec![Bytes::copy_from_slice(form.text().as_bytes())],
        shown: &shown(form),
        limit: LIMIT,
    };
    http.once(url, request)
        .await
        .map_err(|e| TokenError::of_http(e, &url.authority()))
}

/// What the transcript tells of a request: what is asked, never with what.
fn shown(form: &Form) -> String {
    let pairs = form.pairs.iter().map(|(name, value)| {
        let open = matches!(*name, "grant_type" | "client_id" | "scope" | "redirect_uri");
        format!("{name}={}", if open { value.as_str() } else { "***" })
    });
    pairs.collect::<Vec<_>>().join(" ")
}

/// What a device endpoint gives (RFC 8628 section 3.2).
pub struct DeviceCode {
    /// For the polls.
    pub device_code: Secret,
    /// For the person.
    pub user_code: String,
    /// Where to type it.
    pub verification_uri: String,
    /// How long it holds.
    pub lifetime: Duration,
    /// Between polls.
    pub interval: Duration,
}

/// Asks for a device code.
pub async fn device_code(http: &Client, settings: &Settings) -> Result<DeviceCode, TokenError> {
    let Some(url) = &settings.device_url else {
        return Err(TokenError::of_cause(
            Cause::CredentialMissing,
            "no device_url is configured",
            "",
        ));
    };
    let server = url.authority();
    let mut form = Form {
        pairs: Vec::new(),
        confidential: Confidential::default(),
    };
    form.add("client_id", &settings.client_id);
    form.add("scope", &settings.scopes.join(" "));
    let answer = post(http, url, &form).await?;
    let json = answer.json();
    let text = |key: &str| Some(json.as_ref()?.get(key)?.as_str()?.to_owned());
    let number = |key: &str| json.as_ref()?.get(key)?.as_u64();
    let (Some(device_code), Some(user_code)) = (text("device_code"), text("user_code")) else {
        // Whatever it is, it is no code: let the tables speak.
        return match answer::read(settings.provider, &answer, &form.confidential, &server) {
            Err(error) => Err(error),
            Ok(_) => Err(TokenError::of_cause(
                Cause::AnswerUnusable,
                format!("{server}: no device code in the answer"),
                &server,
            )),
        };
    };
    Ok(DeviceCode {
        device_code: Secret::new(device_code),
        user_code,
        verification_uri: text("verification_uri")
            .or_else(|| text("verification_url"))
            .unwrap_or_default(),
        lifetime: Duration::from_secs(number("expires_in").unwrap_or(900).clamp(30, 3600)),
        interval: Duration::from_secs(number("interval").unwrap_or(5).clamp(1, 60)),
    })
}
