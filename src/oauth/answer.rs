//! What a token endpoint answers (RFC 6749 sections 5.1 and 5.2), read with distrust.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::{Provider, jwt};
use crate::explain::{Cause, Explanation, apis};
use crate::failure::{Class, Stage};
use crate::http::{Answer, HttpError};
use crate::vault::{Confidential, Secret};

/// Longest token that we take, in octets: the largest known have 4 KiB.
const TOKEN_LIMIT: usize = 16 * 1024;
/// What an access token lives if the endpoint does not say.
const USUAL_LIFETIME: Duration = Duration::from_secs(300);
/// What it lives at least where the endpoint says nonsense.
const LEAST_LIFETIME: Duration = Duration::from_secs(60);
/// What we believe at most.
const LONGEST_LIFETIME: Duration = Duration::from_secs(3600);
/// A clock that is further off than this is worth a word.
const SKEW_LIMIT: i64 = 300;
/// Most characters of an endpoint's own words that are shown.
const WORDS_LIMIT: usize = 400;

/// Tokens, as granted.
#[derive(Debug)]
pub struct Granted {
    /// The access token.
    pub access: Secret,
    /// How long it lives.
    pub lifetime: Duration,
    /// A new refresh token, if there is one.
    pub refresh: Option<Secret>,
    /// When that ends, if the endpoint says so.
    pub refresh_lifetime: Option<Duration>,
    /// What it is good for, as far as told.
    pub scope: Option<String>,
    /// Addresses of whoever signed in.
    pub identity: Vec<String>,
}

/// Why there is no token.
#[derive(Debug, Clone)]
pub struct TokenError {
    /// What is to be done.
    pub class: Class,
    /// Resolve, connect, TLS, or auth.
    pub stage: Stage,
    /// Cause and remedy.
    pub meaning: &'static Explanation,
    /// What the endpoint said, without secrets.
    pub text: String,
    /// The `error` of RFC 6749 or RFC 8628.
    pub error: String,
    /// Which row of the tables says so.
    pub row: &'static str,
    /// The server.
    pub server: String,
}

impl std::fmt::Display for TokenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl TokenError {
    /// A failure that has a cause of its own.
    pub fn of_cause(cause: Cause, text: impl Into<String>, server: &str) -> Self {
        Self {
            class: cause.class(),
            stage: Stage::Auth,
            meaning: cause.meaning(),
            text: text.into(),
            error: String::new(),
            row: cause.id(),
            server: server.to_owned(),
        }
    }

    /// No answer.
    pub fn of_http(error: HttpError, server: &str) -> Self {
        let mut failed = Self::of_cause(
            error.cause,
            format!("the token endpoint {server}: {}", error.detail),
            server,
        );
        failed.stage = error.stage.min(Stage::Auth);
        failed
    }
}

/// Reads an answer. What it holds by way of `error` counts, whatever its status says.
pub fn read(
    provider: Provider,
    answer: &Answer,
    secrets: &Confidential,
    server: &str,
) -> Result<Granted, TokenError> {
    let json = answer.json().filter(|_| !answer.truncated);
    let object = json.as_ref().and_then(Value::as_object);
    let text = |key: &str| {
        object
            .and_then(|o| o.get(key))
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let error = object.is_some_and(|o| o.contains_key("error"));
    if answer.status == 200
        && !error
        && let Some(access) = text("access_token")
    {
        return granted(&object, access, text).map_err(|why| {
            TokenError::of_cause(Cause::AnswerUnusable, format!("{server}: {why}"), server)
        });
    }
    let (code, description) = match object.and_then(|o| o.get("error")) {
        // Google's other form: {"error": {"code": 403, "message": …, "status": …}}.
        Some(Value::Object(inner)) => (
            inner.get("status").and_then(Value::as_str).unwrap_or(""),
            inner.get("message").and_then(Value::as_str).unwrap_or(""),
        ),
        _ => (
            text("error").unwrap_or(""),
            text("error_description").unwrap_or(""),
        ),
    };
    let mut numbers: Vec<u32> = object
        .and_then(|o| o.get("error_codes"))
        .and_then(Value::as_array)
        .map(|codes| {
            codes
                .iter()
                .filter_map(|c| u32::try_from(c.as_u64()?).ok())
                .collect()
        })
        .unwrap_or_default();
    if numbers.is_empty() {
        numbers = apis::aadsts(description);
    }
    let row = apis::token(provider, answer.status, code, description, &numbers);
    let class = match (row.class, answer.retry_after(Timestamp::now())) {
        (Class::Transient | Class::Slow(_), Some(wait)) => Class::Slow(wait),
        (class, _) => class,
    };
    let said = if code.is_empty() && description.is_empty() {
        unreadable(answer, secrets)
    } else if description.is_empty() {
        code.to_owned()
    } else {
        format!("{code}: {description}")
    };
    let mut words = format!(
        "{server}: {} {}",
        answer.status,
        secrets.clean(&said, WORDS_LIMIT)
    );
    if let Some(skew) = skew(answer) {
        words.push_str(&format!(
            " (this machine's clock differs from the server's by {skew} s)"
        ));
    }
    Err(TokenError {
        class,
        stage: Stage::Auth,
        meaning: &row.meaning,
        text: words,
        error: secrets.clean(code, 60),
        row: row.id,
        server: server.to_owned(),
    })
}

/// Words for an answer that says nothing. A page may be quoted, what might hold a token never.
fn unreadable(answer: &Answer, secrets: &Confidential) -> String {
    let text = String::from_utf8_lossy(&answer.body).to_ascii_lowercase();
    if answer.truncated {
        "no token answer: its body is cut off or too long".to_owned()
    } else if answer.body.is_empty() {
        "no token answer: its body is empty".to_owned()
    } else if text.contains("token")
        || !text.trim_start().starts_with('<')
        || secrets.is_in(&answer.beginning(), true)
    {
        "no token answer: its body is not the JSON that was expected (not shown)".to_owned()
    } else {
        format!("no token answer: {}", answer.beginning())
    }
}

fn granted<'a>(
    object: &Option<&serde_json::Map<String, Value>>,
    access: &str,
    text: impl Fn(&str) -> Option<&'a str>,
) -> Result<Granted, String> {
    if !usable(access) {
        return Err(
            "the access token has characters that no header may hold, or is too long".to_owned(),
        );
    }
    let refresh = text("refresh_token");
    if refresh.is_some_and(|token| !usable(token)) {
        return Err("the refresh token is too long, or no text".to_owned());
    }
    let seconds = |key: &str| match object.and_then(|o| o.get(key))? {
        Value::Number(number) => number
            .as_i64()
            .or_else(|| number.as_f64().map(|f| if f > 0.0 { i64::MAX } else { 0 })),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let identity = text("id_token").and_then(jwt::claims).map(|claims| {
        ["preferred_username", "email", "upn", "unique_name"]
            .iter()
            .filter_map(|key| claims.get(key)?.as_str().map(str::to_owned))
            .collect()
    });
    Ok(Granted {
        access: Secret::new(access.to_owned()),
        lifetime: lifetime(seconds("expires_in")),
        refresh: refresh.map(|token| Secret::new(token.to_owned())),
        refresh_lifetime: seconds("refresh_token_expires_in")
            .and_then(|s| u64::try_from(s).ok())
            .filter(|s| *s > 0)
            .map(|s| Duration::from_secs(s.min(3650 * 86_400))),
        scope: text("scope").map(|s| s.chars().take(2000).collect()),
        identity: identity.unwrap_or_default(),
    })
}

/// Whether a token can stand in a header and in an AUTH line.
fn usable(token: &str) -> bool {
    token.len() <= TOKEN_LIMIT && token.bytes().all(|b| (0x21..=0x7e).contains(&b))
}

fn lifetime(seconds: Option<i64>) -> Duration {
    match seconds {
        None => USUAL_LIFETIME,
        Some(seconds) if seconds <= 0 => LEAST_LIFETIME,
        Some(seconds) => Duration::from_secs(seconds.unsigned_abs()).min(LONGEST_LIFETIME),
    }
}

/// How far our clock is from the server's, in seconds, if that is worth a word.
fn skew(answer: &Answer) -> Option<i64> {
    let theirs = jiff::fmt::rfc2822::parse(answer.header("date")?).ok()?;
    let skew = Timestamp::now().as_second() - theirs.timestamp().as_second();
    (skew.abs() > SKEW_LIMIT).then_some(skew)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes() {
        let s = Duration::from_secs;
        for (said, wanted) in [
            (None, s(300)),
            (Some(0), s(60)),
            (Some(-5), s(60)),
            (Some(2), s(2)),
            (Some(3599), s(3599)),
            (Some(1_000_000_000_000_000_000), s(3600)),
        ] {
            assert_eq!(lifetime(said), wanted, "{said:?}");
        }
    }

    #[test]
    fn tokens_that_break_out_are_refused() {
        assert!(usable("ya29.a0-_~+/="));
        assert!(!usable("a\r\nX: y"));
        assert!(!usable("a b"));
        assert!(!usable(&"x".repeat(TOKEN_LIMIT + 1)));
    }
}
