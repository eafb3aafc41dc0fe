//! What Microsoft Graph and the Gmail API have in common: a bearer token with every request, one
//! more token when it is refused, and answers that the tables of `explain` turn into failures.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Context, Failure};
use crate::explain::{Cause, apis};
use crate::failure::{Class, Scope, Stage};
use crate::http::{Answer, Connection, HttpError, Request, Url};
use crate::oauth::{Access, Settings as OAuth};
use crate::vault::Confidential;

/// How long a request may take, its answer included.
pub(super) const LIMIT: Duration = Duration::from_secs(120);
/// Where somebody is waiting.
pub(super) const LOOK_LIMIT: Duration = Duration::from_secs(30);
/// Most characters of a server's own words that are kept.
const WORDS_LIMIT: usize = 400;

/// One job's conversation with an API.
pub(super) struct Session<'a> {
    context: &'a Context,
    oauth: &'a Arc<OAuth>,
    base: &'a Url,
    connection: Option<Connection>,
    access: Option<Access>,
    /// A token was refused in this job: the next refusal counts.
    retried: bool,
    /// Addresses that are permissions by themselves.
    granted: Confidential,
}

/// A request.
pub(super) struct Call<'a> {
    pub method: &'static str,
    /// Below the base, or the whole of another address.
    pub at: At<'a>,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<Bytes>,
    /// If its answer is lost, the message may have been sent.
    pub sends: bool,
    pub limit: Duration,
}

/// Where a request goes.
pub(super) enum At<'a> {
    /// Below the base, with the token.
    Path(&'a str),
    /// Elsewhere, without it: the address itself is the permission.
    Granted(&'a Url),
}

impl<'a> Session<'a> {
    pub fn new(context: &'a Context, oauth: &'a Arc<OAuth>, base: &'a Url) -> Self {
        Self {
            context,
            oauth,
            base,
            connection: None,
            access: None,
            retried: false,
            granted: Confidential::default(),
        }
    }

    /// The server, for logs.
    pub fn relay(&self) -> String {
        self.base.authority()
    }

    /// Gets a token and a connection, so that what follows can fail only while it is sent.
    pub async fn ready(&mut self) -> Result<(), Failure> {
        if self.access.is_none() {
            self.access = Some(self.token(None).await?);
        }
        if !self.connection.as_ref().is_some_and(Connection::is_open) {
            let connection = self.context.tokens.http().connect(self.base).await;
            self.connection = Some(connection.map_err(|e| self.lost(e, false))?);
        }
        Ok(())
    }

    /// Asks, with another token if the first is refused. `refused` says of an answer whether that
    /// is worth it.
    pub async fn call(
        &mut self,
        call: &Call<'_>,
        refused: impl Fn(&Answer) -> bool,
    ) -> Result<Answer, Failure> {
        loop {
            let answer = self.once(call).await?;
            let with_token = matches!(call.at, At::Path(_));
            if !with_token || self.retried || !refused(&answer) {
                return Ok(answer);
            }
            self.retried = true;
            let serial = self.access.take().map(|access| access.serial);
            self.access = Some(self.token(serial).await?);
        }
    }

    async fn once(&mut self, call: &Call<'_>) -> Result<Answer, Failure> {
        let mut headers = call.headers.clone();
        let (url, target) = match call.at {
            At::Path(path) => {
                if self.access.is_none() {
                    self.access = Some(self.token(None).await?);
                }
                let url = self.base.join(path);
                let target = url.target().to_owned();
                (url, target)
            }
            At::Granted(url) => {
                self.granted.add(url.target());
                (url.clone(), url.target().to_owned())
            }
        };
        if let (At::Path(_), Some(access)) = (&call.at, &self.access) {
            headers.push(("Authorization", format!("Bearer {}", access.token.expose())));
        }
        let request = Request {
            method: call.method,
            target: &target,
            headers,
            body: call.body.clone(),
            shown: if matches!(call.at, At::Path(_)) {
                "Authorization: Bearer ***"
            } else {
                ""
            },
            limit: call.limit,
        };
        let client = self.context.tokens.http();
        let outcome = match call.at {
            At::Granted(_) => client.once(&url, request).await,
            At::Path(_) => {
                let open = self.connection.take().filter(Connection::is_open);
                let mut connection = match open {
                    Some(connection) => connection,
                    None => client
                        .connect(&url)
                        .await
                        .map_err(|e| self.lost(e, call.sends))?,
                };
                let outcome = connection.request(request).await;
                if outcome.is_ok() {
                    self.connection = Some(connection);
                }
                outcome
            }
        };
        outcome.map_err(|e| self.lost(e, call.sends))
    }

    async fn token(&self, refused: Option<u64>) -> Result<Access, Failure> {
        self.context
            .tokens
            .access(self.oauth, refused)
            .await
            .map_err(Failure::of_token)
    }

    /// No answer: before the whole request was handed over, or behind it.
    fn lost(&self, error: HttpError, sends: bool) -> Failure {
        let relay = self.relay();
        if error.may_have_arrived() && sends {
            return Failure::of_cause(
                Cause::RequestNoAnswer,
                Stage::FinalDot,
                &relay,
                format!("the message was transferred, but {}", error.detail),
            );
        }
        let stage = error.stage.min(Stage::Data);
        Failure::of_cause(error.cause, stage, &relay, error.detail)
    }

    /// A failure that an answer told. `code`, `message`: its words.
    pub fn refusal(
        &self,
        answer: &Answer,
        row: &'static apis::Row,
        code: &str,
        message: &str,
        wait: Option<Duration>,
    ) -> Failure {
        let mut confidential = self.granted.clone();
        if let Some(access) = &self.access {
            confidential.add(access.token.expose());
        }
        let class = match (row.class, wait) {
            (Class::Transient | Class::Slow(_), Some(wait)) => Class::Slow(wait),
            (class, _) => class,
        };
        let said = match (code.is_empty(), message.is_empty()) {
            // Cut off, it may end within a token that the server quotes.
            (true, true) if confidential.is_in(&answer.beginning(), true) => {
                "(text not shown: it repeats a secret)".to_owned()
            }
            (true, true) => answer.beginning(),
            (false, true) => code.to_owned(),
            (true, false) => message.to_owned(),
            (false, false) => format!("{code}: {message}"),
        };
        let mut detail = format!(
            "{} {}",
            answer.status,
            confidential.clean(&said, WORDS_LIMIT)
        );
        if let Some(id) = answer.header("request-id") {
            detail.push_str(&format!(" (request-id {})", confidential.clean(id, 60)));
        }
        if row.alert {
            tracing::error!(event = "unexpected-answer", relay = %self.relay(), row = row.id, reason = %detail);
        }
        let (scope, stage) = match class {
            Class::Suspend => (Scope::Route, Stage::Auth),
            Class::Slow(_) => (Scope::Route, Stage::Data),
            Class::Sender => (Scope::Message, Stage::Mail),
            Class::Uncertain => (Scope::Message, Stage::FinalDot),
            Class::Transient | Class::Permanent => (Scope::Message, Stage::Data),
        };
        Failure::of_answer(scope, class, stage, &row.meaning, &self.relay(), detail)
    }
}

/// Head and body as pieces of a request.
pub(super) fn whole(prepared: &crate::prepare::Prepared) -> Vec<Bytes> {
    vec![
        Bytes::copy_from_slice(prepared.head()),
        prepared.body().clone(),
    ]
}
