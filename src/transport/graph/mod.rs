//! Microsoft Graph: `sendMail` with the MIME message, and draft plus upload beyond the limit of one
//! request.
//!
//! The API knows no envelope: it delivers to To, Cc and Bcc of the header, so `prepare` makes them
//! equal to it. It knows no idempotency either: 202 is success and is never repeated, and a request
//! whose answer was lost is uncertain.

mod drafts;
mod large;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use super::api::{self, At, Call, Session};
use super::smtp::DotHook;
use super::{Accepted, Context, Failure, RecipientResult};
use crate::explain::{Cause, apis};
use crate::failure::{Class, Scope, Stage};
use crate::http::url::{encode, encode_address};
use crate::http::{Answer, Url};
use crate::message::MessageId;
use crate::message::header::Header;
use crate::oauth::Settings as OAuth;
use crate::prepare::Prepared;
pub use drafts::{Draft, Drafts};

/// Most octets of a request's body: the API takes 4 MB, with room for what gateways add.
const REQUEST_LIMIT: usize = 3_500_000;
/// Messages a minute and mailbox (Exchange Online).
pub const PER_MINUTE: usize = 30;
/// Requests in flight a mailbox: four are allowed, one is left to others.
pub const IN_FLIGHT: usize = 3;

/// `kind = "graph"`.
#[derive(Debug)]
pub struct Settings {
    /// The root without version.
    pub api_url: Url,
    /// Its tokens.
    pub oauth: Arc<OAuth>,
    /// Requests in flight.
    pub connections: usize,
}

/// What a send gave.
pub struct Sent {
    /// One result a recipient.
    pub results: Vec<RecipientResult>,
    /// What was learnt of the largest message that this account may send; `Some(None)`: that it
    /// has no such limit.
    pub size: Option<Option<u64>>,
}

/// Sends a prepared message. `doubtful`: an earlier try may have been taken.
pub async fn send(
    settings: &Settings,
    context: &Context,
    prepared: &Prepared,
    id: MessageId,
    doubtful: bool,
    hook: &dyn DotHook,
) -> Sent {
    let mut job = Job {
        session: Session::new(context, &settings.oauth, &settings.api_url),
        context,
        settings,
        prepared,
        id,
        mailbox: mailbox_of(settings, prepared),
        size: None,
    };
    let result = job.run(doubtful, hook).await;
    Sent {
        results: prepared
            .recipients()
            .iter()
            .map(|recipient| RecipientResult {
                index: recipient.index,
                result: result.clone(),
            })
            .collect(),
        size: job.size,
    }
}

/// Deletes the draft of a message that nobody wants any more; `false`: not now. What was sent after
/// all is not touched: it stands in the sent items, under the same id.
pub async fn discard(settings: &Settings, context: &Context, id: MessageId, draft: &Draft) -> bool {
    let mut session = Session::new(context, &settings.oauth, &settings.api_url);
    let outcome = match find_draft(&mut session, id, draft).await {
        Ok(Found::Draft(found)) => delete(&mut session, id, &draft.mailbox, &found).await,
        Ok(Found::Sent | Found::Nothing) => Ok(()),
        Err(failure) => Err(failure),
    };
    if outcome.is_ok() {
        context.drafts.remove(id, &draft.account).await;
    }
    outcome.is_ok()
}

/// What became of a draft.
enum Found {
    /// It is one still, under this id.
    Draft(String),
    Sent,
    Nothing,
}

/// Looks for a draft, by its id or, where that is not known, by its Message-ID.
async fn find_draft(
    session: &mut Session<'_>,
    id: MessageId,
    draft: &Draft,
) -> Result<Found, Failure> {
    let path = if draft.id.is_empty() {
        let filter = by_message_id(&draft.message_id);
        format!(
            "/v1.0{}/mailFolders/drafts/messages?$filter={}&$select=id,isDraft",
            draft.mailbox,
            encode(&filter)
        )
    } else {
        format!(
            "/v1.0{}/messages/{}?$select=id,isDraft",
            draft.mailbox,
            encode(&draft.id)
        )
    };
    let answer = get(session, id, &path).await?;
    match answer.status {
        // Without the permission to look it is as good as gone.
        403 | 404 => return Ok(Found::Nothing),
        200 => {}
        _ => return Err(auxiliary(session, &answer)),
    }
    let json = answer.json().unwrap_or_default();
    let item = match json.get("value").and_then(Value::as_array) {
        Some(list) if draft.id.is_empty() => match list.first() {
            Some(first) => first.clone(),
            None => return Ok(Found::Nothing),
        },
        _ => json,
    };
    let found = item.get("id").and_then(Value::as_str).unwrap_or(&draft.id);
    match item.get("isDraft").and_then(Value::as_bool) {
        Some(true) => Ok(Found::Draft(found.to_owned())),
        // What is in the folder of drafts and not said to be sent is one.
        None if draft.id.is_empty() && !found.is_empty() => Ok(Found::Draft(found.to_owned())),
        Some(false) => Ok(Found::Sent),
        None => Err(unreadable(session)),
    }
}

fn by_message_id(message_id: &str) -> String {
    format!(
        "internetMessageId eq '{}'",
        message_id.trim().replace('\'', "''")
    )
}

async fn get(session: &mut Session<'_>, id: MessageId, path: &str) -> Result<Answer, Failure> {
    let call = Call {
        method: "GET",
        at: At::Path(path),
        headers: headers(id, None),
        body: Vec::new(),
        sends: false,
        limit: api::LOOK_LIMIT,
    };
    session.call(&call, wants_token).await
}

fn unreadable(session: &Session<'_>) -> Failure {
    Failure::of_cause(
        Cause::AnswerUnusable,
        Stage::Data,
        &session.relay(),
        "an answer that cannot be read",
    )
}

/// A refusal of a request that is only about the message's way, not about the message: it is tried
/// again, and never costs the message or the route.
fn auxiliary(session: &Session<'_>, answer: &Answer) -> Failure {
    let (row, code, message) = explained(answer);
    let wait = answer.retry_after(Timestamp::now());
    let mut failure = session.refusal(answer, row, &code, &message, wait);
    if !matches!(failure.class, Class::Slow(_)) {
        failure.class = Class::Transient;
        failure.scope = Scope::Message;
        failure.stage = Stage::Data;
    }
    failure
}

/// The mailbox that sends, as a path. The application by itself posts as the mailbox of From.
fn mailbox_of(settings: &Settings, prepared: &Prepared) -> String {
    let oauth = &settings.oauth;
    if oauth.is_app_only() {
        return users(&prepared.from().with_ascii_domain());
    }
    if oauth.mailbox.eq_ignore_ascii_case(&oauth.login) {
        "/me".to_owned()
    } else {
        users(&oauth.mailbox)
    }
}

fn users(address: &str) -> String {
    format!("/users/{}", encode_address(address))
}

struct Job<'a> {
    session: Session<'a>,
    context: &'a Context,
    settings: &'a Settings,
    prepared: &'a Prepared,
    id: MessageId,
    mailbox: String,
    size: Option<Option<u64>>,
}

type Outcome = Result<Accepted, Failure>;

impl Job<'_> {
    async fn run(&mut self, doubtful: bool, hook: &dyn DotHook) -> Outcome {
        let account = &self.settings.oauth.account;
        if let Some(draft) = self.context.drafts.get(self.id, account).await
            && let Some(accepted) = self.resume(&draft).await?
        {
            return Ok(accepted);
        }
        if doubtful && let Some(accepted) = self.look_for_sent().await? {
            return Ok(accepted);
        }
        let size = self.prepared.head().len() + self.prepared.body().len();
        if encoded_length(size) <= REQUEST_LIMIT {
            match self.send_whole(hook).await {
                Err(TooLarge(refusal)) => return self.send_large(hook, Some(*refusal)).await,
                Ok(outcome) => return outcome,
            }
        }
        self.send_large(hook, None).await
    }

    /// One request with the whole message.
    async fn send_whole(&mut self, hook: &dyn DotHook) -> Result<Outcome, TooLarge> {
        // Nothing is sent without a token: "may have been taken" is not said before there is one.
        if let Err(failure) = self.session.ready().await {
            return Ok(Err(failure));
        }
        if let Err(error) = hook.before_content().await {
            return Ok(Err(self.not_marked(&error)));
        }
        let body = encode_mime(self.prepared.head(), self.prepared.body());
        loop {
            let path = format!("/v1.0{}/sendMail", self.mailbox);
            let call = Call {
                method: "POST",
                at: At::Path(&path),
                headers: self.headers(Some("text/plain")),
                body: vec![body.clone()],
                sends: true,
                limit: api::LIMIT,
            };
            let answer = match self.session.call(&call, wants_token).await {
                Ok(answer) => answer,
                Err(failure) => return Ok(Err(failure)),
            };
            if answer.status == 202 {
                return Ok(Ok(self.accepted(&answer)));
            }
            let (row, code, message) = explained(&answer);
            if row.id == "graph-request-too-large" {
                let refusal = self.refused(&answer, row, &code, &message);
                return Err(TooLarge(Box::new(refusal)));
            }
            if self.goes_to_configured(&answer) {
                continue;
            }
            return Ok(Err(self.not_sent(&answer, row, &code, &message)));
        }
    }

    /// What became of the draft of an earlier try: sent after all, or it is deleted.
    async fn resume(&mut self, draft: &Draft) -> Result<Option<Accepted>, Failure> {
        match find_draft(&mut self.session, self.id, draft).await? {
            Found::Sent => {
                self.forget_draft().await;
                return Ok(Some(self.found("the draft of an earlier try was sent")));
            }
            // Told to be sent, and not sent as far as can be seen: the server may be about to. Told
            // once more it changes nothing, for a draft is sent only once.
            Found::Draft(found) if draft.sending => {
                let answer = self.send_draft(&draft.mailbox, &found).await?;
                let accepted = match answer.status {
                    202 => Some(self.accepted(&answer)),
                    404 => self.look_for_sent().await?,
                    _ => {
                        let (row, code, message) = explained(&answer);
                        return Err(self.not_sent(&answer, row, &code, &message));
                    }
                };
                if let Some(accepted) = accepted {
                    self.forget_draft().await;
                    return Ok(Some(accepted));
                }
            }
            Found::Draft(found) => {
                let deleted = delete(&mut self.session, self.id, &draft.mailbox, &found).await;
                if let Err(failure) = deleted {
                    // The mail matters more; the draft stays in its mailbox.
                    tracing::warn!(event = "draft-left", id = %self.id, reason = %failure);
                }
            }
            Found::Nothing if draft.sending => {
                if let Some(accepted) = self.look_for_sent().await? {
                    self.forget_draft().await;
                    return Ok(Some(accepted));
                }
            }
            Found::Nothing => {}
        }
        self.forget_draft().await;
        Ok(None)
    }

    /// Tells a draft to be sent.
    async fn send_draft(&mut self, mailbox: &str, draft: &str) -> Result<Answer, Failure> {
        let path = format!("/v1.0{mailbox}/messages/{}/send", encode(draft));
        let call = Call {
            method: "POST",
            at: At::Path(&path),
            headers: self.headers(None),
            body: Vec::new(),
            sends: true,
            limit: api::LIMIT,
        };
        self.session.call(&call, wants_token).await
    }

    async fn forget_draft(&self) {
        let account = &self.settings.oauth.account;
        self.context.drafts.remove(self.id, account).await;
    }

    /// Our Message-ID, as `prepare` has left it.
    fn message_id(&self) -> Option<String> {
        let head = self.prepared.head();
        let header = Header::parse(head).ok()?;
        header.first(head, "Message-ID")
    }

    /// Whether this message, with its recipients, stands in the sent items. Without the permission
    /// to look nobody knows.
    async fn look_for_sent(&mut self) -> Result<Option<Accepted>, Failure> {
        let Some(message_id) = self.message_id() else {
            return Ok(None);
        };
        let filter = by_message_id(&message_id);
        loop {
            let path = format!(
                "/v1.0{}/mailFolders/sentitems/messages?$filter={}&$select=id,toRecipients,ccRecipients,bccRecipients",
                self.mailbox,
                encode(&filter)
            );
            let answer = get(&mut self.session, self.id, &path).await?;
            match answer.status {
                200 => {
                    let json = answer.json().unwrap_or_default();
                    let Some(items) = json.get("value").and_then(Value::as_array) else {
                        return Err(unreadable(&self.session));
                    };
                    let ours = items.iter().any(|item| self.has_our_envelope(item));
                    return Ok(ours.then(|| self.found("it stands in the sent items")));
                }
                404 if self.goes_to_configured(&answer) => {}
                403 | 404 => return Ok(None),
                _ => return Err(auxiliary(&self.session, &answer)),
            }
        }
    }

    /// Whether an item went to all whom this attempt is for: applications send several messages
    /// under one Message-ID. An item that names nobody cannot be told apart.
    fn has_our_envelope(&self, item: &Value) -> bool {
        let mut names_any = false;
        let mut to: Vec<String> = Vec::new();
        for field in ["toRecipients", "ccRecipients", "bccRecipients"] {
            let Some(list) = item.get(field).and_then(Value::as_array) else {
                continue;
            };
            names_any = true;
            let addresses = list
                .iter()
                .filter_map(|entry| entry.get("emailAddress")?.get("address")?.as_str());
            to.extend(addresses.map(str::to_ascii_lowercase));
        }
        let recipients = self.prepared.recipients();
        !names_any
            || recipients
                .iter()
                .all(|r| to.contains(&r.address.to_ascii_lowercase()))
    }

    /// Whether there is another mailbox to go to: From may be a list or an alias without one of its
    /// own, or one that the application may not use; then the configured one decides.
    fn goes_to_configured(&mut self, answer: &Answer) -> bool {
        let configured = users(&self.settings.oauth.mailbox);
        let (_, code, _) = explained(answer);
        // An application may be limited to some mailboxes, and From is not one of them.
        let elsewhere = answer.status == 404
            || (answer.status == 403 && code.eq_ignore_ascii_case("ErrorAccessDenied"));
        let other = elsewhere
            && self.settings.oauth.is_app_only()
            && !self.mailbox.eq_ignore_ascii_case(&configured);
        if other {
            self.mailbox = configured;
        }
        other
    }

    fn headers(&self, content_type: Option<&str>) -> Vec<(&'static str, String)> {
        headers(self.id, content_type)
    }

    fn accepted(&self, answer: &Answer) -> Accepted {
        let request: String = answer
            .header("request-id")
            .unwrap_or("none")
            .chars()
            .filter(char::is_ascii_graphic)
            .take(60)
            .collect();
        Accepted {
            relay: self.session.relay(),
            reply: format!("{} accepted, request-id {request}", answer.status),
        }
    }

    fn found(&self, why: &str) -> Accepted {
        Accepted {
            relay: self.session.relay(),
            reply: format!("202 accepted before: {why}"),
        }
    }

    fn refused(
        &self,
        answer: &Answer,
        row: &'static apis::Row,
        code: &str,
        message: &str,
    ) -> Failure {
        let wait = answer.retry_after(Timestamp::now());
        let mut failure = self.session.refusal(answer, row, code, message, wait);
        if matches!(
            row.id,
            "graph-message-too-large" | "graph-request-too-large"
        ) {
            failure.status = "5.3.4";
        }
        failure.sends_nothing()
    }

    /// The same for a request that sends: a gateway that fails may have passed it on before.
    fn not_sent(
        &self,
        answer: &Answer,
        row: &'static apis::Row,
        code: &str,
        message: &str,
    ) -> Failure {
        let mut failure = self.refused(answer, row, code, message);
        failure.look_first = answer.status >= 500;
        if row.class == Class::Uncertain {
            failure.class = Class::Uncertain;
            failure.stage = Stage::FinalDot;
        }
        failure
    }

    /// What must be on record first could not be recorded.
    fn not_marked(&self, error: &str) -> Failure {
        let mut failure = Failure::of_cause(
            Cause::WriteFailed,
            Stage::Data,
            &self.session.relay(),
            error,
        );
        failure.scope = Scope::Message;
        failure.class = Class::Transient;
        failure
    }
}

/// Beyond the limit of one request, as the server said.
struct TooLarge(Box<Failure>);

fn headers(id: MessageId, content_type: Option<&str>) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        ("client-request-id", id.to_string()),
        ("return-client-request-id", "true".to_owned()),
        ("Prefer", "IdType=\"ImmutableId\"".to_owned()),
    ];
    if let Some(content_type) = content_type {
        headers.push(("Content-Type", content_type.to_owned()));
    }
    headers
}

async fn delete(
    session: &mut Session<'_>,
    id: MessageId,
    mailbox: &str,
    draft: &str,
) -> Result<(), Failure> {
    let path = format!("/v1.0{mailbox}/messages/{}", encode(draft));
    let call = Call {
        method: "DELETE",
        at: At::Path(&path),
        headers: headers(id, None),
        body: Vec::new(),
        sends: false,
        limit: api::LOOK_LIMIT,
    };
    let answer = session.call(&call, wants_token).await?;
    if matches!(answer.status, 200 | 204 | 404) {
        return Ok(());
    }
    Err(auxiliary(session, &answer))
}

/// The code and the words of an error, and the row of the table about it.
fn explained(answer: &Answer) -> (&'static apis::Row, String, String) {
    let json = answer.json();
    let error = json.as_ref().and_then(|json| json.get("error"));
    let text = |key: &str| {
        error
            .and_then(|error| error.get(key))
            .and_then(Value::as_str)
            .unwrap_or("")
            .to_owned()
    };
    let (code, message) = (text("code"), text("message"));
    (apis::graph(answer.status, &code, &message), code, message)
}

fn wants_token(answer: &Answer) -> bool {
    !(200..300).contains(&answer.status) && explained(answer).0.fresh_token
}

/// Octets of the base64 of so many.
fn encoded_length(octets: usize) -> usize {
    octets.div_ceil(3) * 4
}

/// A MIME message as the API wants it: one string of standard base64.
fn encode_mime(head: &[u8], body: &[u8]) -> Bytes {
    let mut text = String::with_capacity(encoded_length(head.len() + body.len()));
    // Three octets are four characters: the seam is filled up from the body.
    let seam = ((3 - head.len() % 3) % 3).min(body.len());
    let first = [head, &body[..seam]].concat();
    BASE64.encode_string(first, &mut text);
    BASE64.encode_string(&body[seam..], &mut text);
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_over_the_seam() {
        for head in 0..7 {
            for body in 0..7 {
                let (head, body) = (vec![b'h'; head], vec![b'b'; body]);
                let wanted = BASE64.encode([head.clone(), body.clone()].concat());
                assert_eq!(encode_mime(&head, &body), wanted);
                assert_eq!(encoded_length(head.len() + body.len()), wanted.len());
            }
        }
    }
}
