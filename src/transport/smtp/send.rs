//! One message over an open conversation, with one result a recipient.

use std::future::Future;
use std::pin::Pin;

use tokio::time::Instant;

use super::connection::Connection;
use crate::explain::Cause;
use crate::failure::Stage;
use crate::prepare::{Prepared, PreparedRecipient};
use crate::smtp::command::Notify;
use crate::smtp::data::Stuffer;
use crate::smtp::reply::Reply;
use crate::transport::{Accepted, Failure, RecipientResult};

/// Commands that go out in one write before their replies are read.
const PIPELINE_LIMIT: usize = 100;

/// Octets of content that are stuffed and written at once.
const CONTENT_PIECE: usize = 256 * 1024;

/// Called once before the content goes out: what must be on record before the upstream can have
/// taken the message is written here. An error ends the attempt.
pub trait DotHook: Sync {
    /// Makes the record durable.
    fn before_content(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>>;
}

/// What a send gave.
#[derive(Debug)]
pub struct Sent {
    /// One result a recipient of the prepared message.
    pub results: Vec<RecipientResult>,
    /// The conversation may go on with a next message.
    pub reusable: bool,
    /// Nothing of this message was answered: on a kept connection, a fresh one may be tried.
    pub untouched: bool,
}

impl Connection {
    /// Sends a prepared message.
    pub async fn send(&mut self, prepared: &Prepared, hook: &dyn DotHook) -> Sent {
        self.last_used = Instant::now();
        let mut replies = 0;
        let outcome = self.transaction(prepared, hook, &mut replies).await;
        self.sent += 1;
        self.last_used = Instant::now();
        match outcome {
            Ok((results, reusable)) => Sent {
                results,
                reusable,
                untouched: false,
            },
            Err(failure) => {
                let untouched = replies == 0
                    && (failure.reply.is_none()
                        || failure.reply.as_ref().is_some_and(|r| r.code == 421));
                let results = prepared
                    .recipients()
                    .iter()
                    .map(|r| RecipientResult {
                        index: r.index,
                        result: Err(failure.clone()),
                    })
                    .collect();
                Sent {
                    results,
                    reusable: false,
                    untouched,
                }
            }
        }
    }

    async fn transaction(
        &mut self,
        prepared: &Prepared,
        hook: &dyn DotHook,
        replies: &mut usize,
    ) -> Result<(Vec<RecipientResult>, bool), Failure> {
        let mut commands = vec![(Stage::Mail, self.mail_command(prepared))];
        commands.extend(
            prepared
                .recipients()
                .iter()
                .map(|r| (Stage::Rcpt, self.rcpt_command(r))),
        );
        commands.push((Stage::Data, "DATA".to_owned()));
        let group = if self.capabilities.pipelining {
            PIPELINE_LIMIT
        } else {
            1
        };

        let mut mail_refused: Option<Failure> = None;
        let mut recipients: Vec<Result<Reply, Failure>> =
            Vec::with_capacity(prepared.recipients().len());
        let mut data: Option<Reply> = None;
        for chunk in commands.chunks(group) {
            // Without pipelining there is no need to ask for DATA once nobody is left.
            let hopeless = mail_refused.is_some()
                || (chunk[0].0 == Stage::Data && recipients.iter().all(Result::is_err));
            if hopeless && group == 1 {
                break;
            }
            let mut wire = String::new();
            for (_, line) in chunk {
                self.transcript.push("C:", line);
                wire.push_str(line);
                wire.push_str("\r\n");
            }
            self.write(wire.as_bytes(), chunk[0].0).await?;
            for (stage, _) in chunk {
                let limit = if *stage == Stage::Data {
                    self.timeouts.data
                } else {
                    self.timeouts.command
                };
                let reply = match self.reply(*stage, limit).await {
                    Ok(reply) => reply,
                    Err(mut failure) => {
                        // Whoever cannot take commands in one write hangs here.
                        let silent = failure.meaning == Cause::Timeout.meaning();
                        if silent && chunk.len() > 1 {
                            failure.pipeline_stalled = true;
                            failure.scope = crate::failure::Scope::Route;
                        }
                        return Err(failure);
                    }
                };
                if reply.code == 421 {
                    return Err(self.refused(*stage, reply));
                }
                *replies += 1;
                match stage {
                    Stage::Mail if !reply.is_success() => {
                        mail_refused = Some(self.strange(*stage, reply))
                    }
                    Stage::Rcpt if mail_refused.is_some() => {} // its refusal only repeats the first
                    Stage::Rcpt if reply.is_success() => recipients.push(Ok(reply)),
                    Stage::Rcpt => recipients.push(Err(self.strange(*stage, reply))),
                    Stage::Data => data = Some(reply),
                    _ => {}
                }
            }
            if mail_refused.is_some() && group > 1 && chunk.len() < commands.len() && data.is_none()
            {
                break;
            }
        }
        let any_accepted = recipients.iter().any(Result::is_ok);
        // Who answers out of turn is not understood: nothing more is said on this conversation.
        let out_of_step = |failure: &Failure| failure.meaning == Cause::ProtocolError.meaning();
        let strange = mail_refused.as_ref().is_some_and(out_of_step)
            || recipients
                .iter()
                .any(|r| r.as_ref().is_err_and(out_of_step));
        match (mail_refused, data) {
            (Some(failure), data) => {
                let reusable = !strange && self.abandon(data).await;
                let results = prepared
                    .recipients()
                    .iter()
                    .map(|r| RecipientResult {
                        index: r.index,
                        result: Err(failure.clone()),
                    })
                    .collect();
                Ok((results, reusable))
            }
            (None, Some(_)) if any_accepted && strange => {
                let failure = self.failure(
                    Cause::ProtocolError,
                    Stage::Rcpt,
                    "a recipient was answered out of turn",
                );
                Ok((self.spread(prepared, recipients, &failure), false))
            }
            (None, Some(reply)) if any_accepted && reply.code == 354 => {
                Ok(match self.content(prepared, hook).await {
                    Ok(verdict) => self.conclude(prepared, recipients, verdict),
                    Err(failure) => (self.spread(prepared, recipients, &failure), false),
                })
            }
            (None, Some(reply)) if any_accepted => {
                let failure = self.strange(Stage::Data, reply);
                let reusable = failure
                    .reply
                    .as_ref()
                    .is_some_and(|r| r.is_permanent() || r.is_transient())
                    && self.reset().await;
                Ok((self.spread(prepared, recipients, &failure), reusable))
            }
            (None, data) => {
                let reusable = !strange && self.abandon(data).await;
                let failure = self.failure(
                    Cause::ProtocolError,
                    Stage::Rcpt,
                    "no recipient was answered",
                );
                Ok((self.spread(prepared, recipients, &failure), reusable))
            }
        }
    }

    /// A reply that is neither yes nor a refusal in this place is a protocol error.
    fn strange(&self, stage: Stage, reply: Reply) -> Failure {
        if reply.is_permanent() || reply.is_transient() {
            self.refused(stage, reply)
        } else {
            self.failure(
                Cause::ProtocolError,
                stage,
                format!("unexpected reply {reply}"),
            )
        }
    }

    /// Leaves a transaction that has nobody to go to. A server that asks for content all the same
    /// gets a lone dot (RFC 2920 section 3.1).
    async fn abandon(&mut self, data: Option<Reply>) -> bool {
        if data.is_some_and(|reply| reply.code == 354) {
            self.transcript.push("C:", ".");
            if self.write(b".\r\n", Stage::Data).await.is_err() {
                return false;
            }
            return self.reply(Stage::Data, self.timeouts.command).await.is_ok()
                && self.reset().await;
        }
        self.reset().await
    }

    async fn reset(&mut self) -> bool {
        matches!(self.command("RSET", Stage::Mail, self.timeouts.command).await, Ok(reply) if reply.is_success())
    }

    /// Sends the content; gives the reply to the final dot.
    async fn content(&mut self, prepared: &Prepared, hook: &dyn DotHook) -> Result<Reply, Failure> {
        if let Err(reason) = hook.before_content().await {
            return Err(self.failure(Cause::WriteFailed, Stage::Data, reason));
        }
        self.transcript
            .push("C:", &format!("({} octets of message) .", prepared.size()));
        // What the server says before it has seen the dot is no verdict on the message: a refusal
        // counts, anything else is out of step and must not be read as acceptance.
        if self.is_disturbed() {
            let reply = self.reply(Stage::Data, self.timeouts.command).await?;
            return Err(if reply.is_success() {
                self.failure(
                    Cause::ProtocolError,
                    Stage::Data,
                    format!("the server answered before the message was sent: {reply}"),
                )
            } else {
                self.strange(Stage::Data, reply)
            });
        }
        if let Err(failure) = self.write_content(prepared).await {
            // The dot did not leave, so the server has taken nothing; it may have said why.
            return match self
                .reply(Stage::Data, std::time::Duration::from_secs(2))
                .await
            {
                Ok(reply) if !reply.is_success() => Err(self.strange(Stage::Data, reply)),
                _ => Err(failure),
            };
        }
        match self.reply(Stage::FinalDot, self.timeouts.final_dot).await {
            Ok(reply) => Ok(reply),
            Err(failure) => {
                Err(self.failure(Cause::FinalDotNoAnswer, Stage::FinalDot, failure.detail))
            }
        }
    }

    /// Writes header, body and final dot, stuffed a piece at a time: a small message leaves in one
    /// write, a large one never stands in memory twice, and what needs no dots is not copied.
    async fn write_content(&mut self, prepared: &Prepared) -> Result<(), Failure> {
        let total = prepared.head().len() + prepared.body().len();
        let mut wire = Vec::with_capacity(total.min(CONTENT_PIECE) + 1024);
        let mut stuffer = Stuffer::default();
        stuffer.push(prepared.head(), &mut wire);
        for piece in prepared.body().chunks(CONTENT_PIECE) {
            if wire.len() + piece.len() > CONTENT_PIECE + 1024 {
                self.write(&wire, Stage::Data).await?;
                wire.clear();
            }
            if wire.is_empty() && stuffer.pass_as_it_is(piece) {
                self.write(piece, Stage::Data).await?;
            } else {
                stuffer.push(piece, &mut wire);
            }
        }
        stuffer.finish(&mut wire);
        self.write(&wire, Stage::Data).await
    }

    fn conclude(
        &self,
        prepared: &Prepared,
        recipients: Vec<Result<Reply, Failure>>,
        verdict: Reply,
    ) -> (Vec<RecipientResult>, bool) {
        if verdict.is_success() {
            let accepted = Accepted {
                relay: self.relay.clone(),
                reply: verdict.to_string(),
            };
            let results = prepared
                .recipients()
                .iter()
                .zip(recipients)
                .map(|(r, state)| RecipientResult {
                    index: r.index,
                    result: state.map(|_| accepted.clone()),
                })
                .collect();
            return (results, true);
        }
        let reusable = verdict.code != 421;
        let failure = if verdict.is_permanent() || verdict.is_transient() {
            self.refused(Stage::FinalDot, verdict)
        } else {
            // Neither yes nor no: it may have been taken.
            let detail = format!("unexpected reply {verdict}");
            self.failure(Cause::FinalDotNoAnswer, Stage::FinalDot, detail)
        };
        (
            self.spread(prepared, recipients, &failure),
            reusable && failure.reply.is_some(),
        )
    }

    /// Recipients that were taken share the fate of the message, refused ones keep their own.
    fn spread(
        &self,
        prepared: &Prepared,
        recipients: Vec<Result<Reply, Failure>>,
        failure: &Failure,
    ) -> Vec<RecipientResult> {
        let mut states = recipients.into_iter();
        prepared
            .recipients()
            .iter()
            .map(|r| {
                let result = match states.next() {
                    Some(Err(own)) => Err(own),
                    Some(Ok(_)) | None => Err(failure.clone()),
                };
                RecipientResult {
                    index: r.index,
                    result,
                }
            })
            .collect()
    }

    fn mail_command(&self, prepared: &Prepared) -> String {
        let mut line = match prepared.mail_from() {
            Some(address) => format!("MAIL FROM:<{}>", address.with_ascii_domain()),
            None => "MAIL FROM:<>".to_owned(),
        };
        if self.capabilities.size.is_some() {
            line.push_str(&format!(" SIZE={}", prepared.size()));
        }
        if self.capabilities.eight_bit_mime && prepared.eight_bit() {
            line.push_str(" BODY=8BITMIME");
        }
        if prepared.smtputf8() {
            line.push_str(" SMTPUTF8");
        }
        if self.capabilities.dsn {
            match prepared.ret_full() {
                Some(true) => line.push_str(" RET=FULL"),
                Some(false) => line.push_str(" RET=HDRS"),
                None => {}
            }
            if let Some(envid) = prepared.envid() {
                line.push_str(&format!(" ENVID={envid}"));
            }
        }
        line
    }

    fn rcpt_command(&self, recipient: &PreparedRecipient) -> String {
        let mut line = format!("RCPT TO:<{}>", recipient.address);
        if self.capabilities.dsn {
            if let Some(notify) = recipient.recipient.notify.map(Notify::to_parameter) {
                line.push_str(&format!(" NOTIFY={notify}"));
            }
            // UTF-8 in it is for servers that take it; what is left out is only shown in a bounce.
            let orcpt = recipient
                .recipient
                .orcpt
                .as_ref()
                .filter(|orcpt| orcpt.is_ascii() || self.capabilities.smtputf8);
            if let Some(orcpt) = orcpt {
                line.push_str(&format!(" ORCPT={orcpt}"));
            }
        }
        line
    }
}
