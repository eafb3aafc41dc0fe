//! The Gmail API with the narrow scope `gmail.send`: the message as it is, in one request up to
//! 5 MB, resumable above. It knows no envelope; `prepare` makes To, Cc and Bcc equal to it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use super::api::{self, At, Call, Session};
use super::smtp::DotHook;
use super::{Accepted, Context, Failure, RecipientResult};
use crate::explain::{Cause, apis};
use crate::failure::{Class, Scope, Stage};
use crate::http::{Answer, Url};
use crate::oauth::Settings as OAuth;
use crate::prepare::Prepared;

/// Largest message (the API's discovery document): 35 MiB.
pub const SIZE_LIMIT: u64 = 36_700_160;
/// Largest message that goes in one request.
const MEDIA_LIMIT: u64 = 5_000_000;
/// Octets of one piece of a resumable upload, a multiple of 256 KiB.
const PIECE: usize = 8 * 1024 * 1024;
/// Messages a minute and mailbox: 100 of 6,000 units each.
pub const PER_MINUTE: usize = 60;
/// Requests that an upload may take beyond its pieces.
const REQUESTS_MORE: usize = 20;
/// How often an upload goes on after a lost connection.
const TRIES: usize = 3;
/// No quota is waited for longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// `kind = "gmail"`.
#[derive(Debug)]
pub struct Settings {
    /// The root without version.
    pub api_url: Url,
    /// Its tokens.
    pub oauth: Arc<OAuth>,
    /// Requests in flight.
    pub connections: usize,
}

/// Sends a prepared message.
pub async fn send(
    settings: &Settings,
    context: &Context,
    prepared: &Prepared,
    hook: &dyn DotHook,
) -> Vec<RecipientResult> {
    let mut job = Job {
        session: Session::new(context, &settings.oauth, &settings.api_url),
        prepared,
    };
    let result = job.run(hook).await;
    let recipients = prepared.recipients().iter();
    recipients
        .map(|recipient| RecipientResult {
            index: recipient.index,
            result: result.clone(),
        })
        .collect()
}

struct Job<'a> {
    session: Session<'a>,
    prepared: &'a Prepared,
}

impl Job<'_> {
    async fn run(&mut self, hook: &dyn DotHook) -> Result<Accepted, Failure> {
        if self.prepared.size() <= MEDIA_LIMIT {
            // "May have been taken" is not said before there is a token to send with.
            self.session.ready().await?;
            self.mark(hook).await?;
            let call = Call {
                method: "POST",
                at: At::Path("/upload/gmail/v1/users/me/messages/send?uploadType=media"),
                headers: vec![("Content-Type", "message/rfc822".to_owned())],
                body: api::whole(self.prepared),
                sends: true,
                limit: api::LIMIT,
            };
            let answer = self.session.call(&call, wants_token).await?;
            return self.conclude(&answer);
        }
        let url = self.begin().await?;
        self.mark(hook).await?;
        self.upload(&url).await
    }

    async fn mark(&self, hook: &dyn DotHook) -> Result<(), Failure> {
        hook.before_content().await.map_err(|error| {
            let relay = self.session.relay();
            let mut failure = Failure::of_cause(Cause::WriteFailed, Stage::Data, &relay, error);
            failure.scope = Scope::Message;
            failure
        })
    }

    /// Opens a resumable session.
    async fn begin(&mut self) -> Result<Url, Failure> {
        let call = Call {
            method: "POST",
            at: At::Path("/upload/gmail/v1/users/me/messages/send?uploadType=resumable"),
            headers: vec![
                ("X-Upload-Content-Type", "message/rfc822".to_owned()),
                ("X-Upload-Content-Length", self.prepared.size().to_string()),
            ],
            body: Vec::new(),
            sends: false,
            limit: api::LOOK_LIMIT,
        };
        let answer = self.session.call(&call, wants_token).await?;
        if answer.status != 200 {
            return Err(self.refused(&answer).sends_nothing());
        }
        let location = answer.header("location").unwrap_or("");
        Url::parse(location).map_err(|why| self.odd(&format!("Location of the upload: {why}")))
    }

    async fn upload(&mut self, url: &Url) -> Result<Accepted, Failure> {
        let whole = [self.prepared.head(), self.prepared.body()].concat();
        let whole = Bytes::from(whole);
        let (mut start, mut tries) = (0, 1);
        for _ in 0..whole.len() / PIECE + REQUESTS_MORE {
            let end = (start + PIECE).min(whole.len());
            let range = if start < whole.len() {
                format!("bytes {start}-{}/{}", end - 1, whole.len())
            } else {
                format!("bytes */{}", whole.len())
            };
            let piece = whole.slice(start.min(whole.len())..end);
            let last = end == whole.len();
            match self.put(url, piece, range, last).await {
                Ok(answer) if answer.status == 308 => {
                    let reached = reached(&answer);
                    if reached > whole.len() || (reached == start && tries >= TRIES) {
                        return Err(self.odd("the upload does not advance"));
                    }
                    tries = if reached > start { 1 } else { tries + 1 };
                    start = reached;
                }
                Ok(answer) => return self.conclude(&answer),
                Err(failure) if tries < TRIES => {
                    tries += 1;
                    // How far it got is the server's to say, even that it is done.
                    let range = format!("bytes */{}", whole.len());
                    match self.put(url, Bytes::new(), range, last).await {
                        Ok(answer) if answer.status == 308 => {
                            start = reached(&answer).min(whole.len());
                        }
                        Ok(answer) if answer.status == 200 => return self.conclude(&answer),
                        Ok(_) | Err(_) => return Err(failure),
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
        Err(self.odd("the upload does not come to an end"))
    }

    async fn put(
        &mut self,
        url: &Url,
        piece: Bytes,
        range: String,
        last: bool,
    ) -> Result<Answer, Failure> {
        let call = Call {
            method: "PUT",
            at: At::Granted(url),
            headers: vec![("Content-Range", range)],
            body: vec![piece],
            sends: last,
            limit: api::LIMIT,
        };
        self.session.call(&call, |_| false).await
    }

    fn conclude(&self, answer: &Answer) -> Result<Accepted, Failure> {
        let json = answer.json();
        let id = json
            .as_ref()
            .and_then(|json| json.get("id").and_then(Value::as_str));
        match id.filter(|_| matches!(answer.status, 200 | 201)) {
            Some(id) => {
                let id: String = id.chars().filter(char::is_ascii_graphic).take(60).collect();
                Ok(Accepted {
                    relay: self.session.relay(),
                    reply: format!("{} sent as {id}", answer.status),
                })
            }
            // The yes has come, its words were lost on the way.
            None if matches!(answer.status, 200 | 201) && answer.truncated => Ok(Accepted {
                relay: self.session.relay(),
                reply: format!("{} sent", answer.status),
            }),
            None if matches!(answer.status, 200 | 201)
                && json.as_ref().is_none_or(|json| json.get("error").is_none()) =>
            {
                Err(Failure::of_cause(
                    Cause::RequestNoAnswer,
                    Stage::FinalDot,
                    &self.session.relay(),
                    "the message was transferred, the answer cannot be read",
                ))
            }
            None => Err(self.refused(answer)),
        }
    }

    fn refused(&self, answer: &Answer) -> Failure {
        let (row, codes, message) = explained(answer);
        let now = Timestamp::now();
        let told = apis::retry_after_text(&message)
            .and_then(|text| text.parse::<Timestamp>().ok())
            .and_then(|at| Duration::try_from(at.duration_since(now)).ok())
            .map(|wait| wait.min(LONGEST));
        let wait = answer.retry_after(now).or(told);
        let code = codes.first().map_or("", String::as_str);
        let mut failure = self.session.refusal(answer, row, code, &message, wait);
        if failure.class == Class::Permanent && answer.status == 413 {
            failure.status = "5.3.4";
        }
        failure
    }

    fn odd(&self, what: &str) -> Failure {
        let relay = self.session.relay();
        Failure::of_cause(Cause::AnswerUnusable, Stage::Data, &relay, what)
    }
}

/// How many octets a resumable upload has: `Range: bytes=0-42` are 43.
fn reached(answer: &Answer) -> usize {
    answer
        .header("range")
        .and_then(|range| range.rsplit('-').next()?.trim().parse::<usize>().ok())
        .map_or(0, |last| last.saturating_add(1))
}

/// The reasons and the words of an error, and the row of the table about it.
fn explained(answer: &Answer) -> (&'static apis::Row, Vec<String>, String) {
    let json = answer.json();
    let error = json.as_ref().and_then(|json| json.get("error"));
    let mut codes = Vec::new();
    if let Some(errors) = error.and_then(|e| e.get("errors")?.as_array()) {
        codes.extend(
            errors
                .iter()
                .take(10)
                .filter_map(|e| Some(e.get("reason")?.as_str()?.to_owned())),
        );
    }
    codes.extend(error.and_then(|e| Some(e.get("status")?.as_str()?.to_owned())));
    let message = error
        .and_then(|e| e.get("message")?.as_str())
        .unwrap_or("")
        .to_owned();
    let words: Vec<&str> = codes.iter().map(String::as_str).collect();
    (apis::gmail(answer.status, &words, &message), codes, message)
}

fn wants_token(answer: &Answer) -> bool {
    answer.status >= 400 && explained(answer).0.fresh_token
}
