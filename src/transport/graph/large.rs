//! Beyond the limit of one request: a draft made of the message without its attachments, the
//! attachments uploaded beside it, then sent. Header and texts stay as they are; what may not be
//! taken apart is refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    Draft, Job, Outcome, REQUEST_LIMIT, auxiliary, delete, encode_mime, encoded_length, explained,
    headers, wants_token,
};
use crate::explain::Cause;
use crate::failure::{Class, Stage};
use crate::http::url::encode;
use crate::http::{Answer, Url};
use crate::prepare::detach::{self, Attachment};
use crate::transport::api::{self, At, Call};
use crate::transport::smtp::DotHook;
use crate::transport::{Accepted, Failure};

/// Attachments below this go in one request; its base64 has to stay below 4 MB.
const SMALL: usize = 2_950_000;
/// Octets of one upload: at most 4 MB, a multiple of 320 KiB.
const PIECE: usize = 12 * 320 * 1024;
/// A lost connection during an upload is tried again so often.
const TRIES: usize = 3;

impl Job<'_> {
    /// Draft, uploads, send. `refusal`: what the server said of the whole in one request.
    pub(super) async fn send_large(
        &mut self,
        hook: &dyn DotHook,
        refusal: Option<Failure>,
    ) -> Outcome {
        let (head, body) = (self.prepared.head().to_vec(), self.prepared.body().clone());
        let whole = head.len() + body.len();
        // Decoding takes its time.
        let work = tokio::task::spawn_blocking(move || detach::detach(&head, &body));
        let Some(detached) = work
            .await
            .ok()
            .flatten()
            .filter(|d| encoded_length(d.head.len() + d.body.len()) <= REQUEST_LIMIT)
        else {
            return Err(refusal.unwrap_or_else(|| self.too_large(Cause::TooLargeToSplit, whole)));
        };
        let mime = encode_mime(&detached.head, &detached.body);
        let mut draft = self.create(mime).await?;
        let outcome = self
            .fill_and_send(&mut draft, detached.attachments, hook)
            .await;
        match &outcome {
            Ok(_) => {
                self.forget_draft().await;
                self.size = Some(None);
            }
            // Whether it is gone is found out at the next try.
            Err(failure) if failure.class == Class::Uncertain || failure.look_first => {}
            Err(_) => {
                let (mailbox, id) = (draft.mailbox.clone(), draft.id.clone());
                if delete(&mut self.session, self.id, &mailbox, &id)
                    .await
                    .is_ok()
                {
                    self.forget_draft().await;
                }
            }
        }
        outcome
    }

    async fn create(&mut self, mime: Bytes) -> Result<Draft, Failure> {
        let mut draft = Draft {
            account: self.settings.oauth.account.clone(),
            mailbox: self.mailbox.clone(),
            id: String::new(),
            message_id: self.message_id().unwrap_or_default(),
            sending: false,
        };
        let answer = loop {
            draft.mailbox.clone_from(&self.mailbox);
            // On record before it is there: its answer may be lost.
            if let Err(error) = self.context.drafts.put(self.id, &draft).await {
                return Err(self.not_marked(&error));
            }
            let path = format!("/v1.0{}/messages", self.mailbox);
            let answer = self.post(&path, "text/plain", mime.clone()).await?;
            if !self.goes_to_configured(&answer) {
                break answer;
            }
        };
        let json = answer.json();
        let id = json
            .as_ref()
            .and_then(|json| json.get("id")?.as_str())
            .filter(|id| !id.is_empty() && id.len() < 1000);
        let Some(id) = id.filter(|_| matches!(answer.status, 200 | 201)) else {
            let (row, code, message) = explained(&answer);
            if (400..500).contains(&answer.status) {
                self.forget_draft().await; // there is none
            }
            if answer.status == 403 && code.eq_ignore_ascii_case("ErrorAccessDenied") {
                let size = self.prepared.head().len() + self.prepared.body().len();
                self.size = Some(Some((REQUEST_LIMIT / 4 * 3) as u64));
                return Err(self.too_large(Cause::UploadNotPermitted, size));
            }
            return Err(self.refused(&answer, row, &code, &message));
        };
        draft.id = id.to_owned();
        if let Err(error) = self.context.drafts.put(self.id, &draft).await {
            // Not on record, so it must not stay.
            let (mailbox, id) = (draft.mailbox.clone(), draft.id.clone());
            let _ = delete(&mut self.session, self.id, &mailbox, &id).await;
            return Err(self.not_marked(&error));
        }
        Ok(draft)
    }

    async fn fill_and_send(
        &mut self,
        draft: &mut Draft,
        attachments: Vec<Attachment>,
        hook: &dyn DotHook,
    ) -> Outcome {
        let base = format!("/v1.0{}/messages/{}", draft.mailbox, encode(&draft.id));
        for attachment in attachments {
            if attachment.bytes.len() < SMALL {
                self.attach(&base, &attachment).await?;
            } else {
                self.upload(&base, attachment).await?;
            }
        }
        draft.sending = true;
        if let Err(error) = self.context.drafts.put(self.id, draft).await {
            return Err(self.not_marked(&error));
        }
        if let Err(error) = hook.before_content().await {
            return Err(self.not_marked(&error));
        }
        let (mailbox, id) = (draft.mailbox.clone(), draft.id.clone());
        let answer = self.send_draft(&mailbox, &id).await?;
        if answer.status == 202 {
            return Ok::<Accepted, _>(self.accepted(&answer));
        }
        let (row, code, message) = explained(&answer);
        Err(self.not_sent(&answer, row, &code, &message))
    }

    /// A small attachment in one request.
    async fn attach(&mut self, base: &str, attachment: &Attachment) -> Result<(), Failure> {
        let mut value = json!({
            "@odata.type": "#microsoft.graph.fileAttachment",
            "name": attachment.name,
            "contentType": attachment.content_type,
            "contentBytes": BASE64.encode(&attachment.bytes),
        });
        mark_inline(&mut value, attachment);
        let path = format!("{base}/attachments");
        let answer = self
            .post(&path, "application/json", value.to_string().into())
            .await?;
        self.expect(&answer, &[200, 201])
    }

    /// A large one through an upload session.
    async fn upload(&mut self, base: &str, attachment: Attachment) -> Result<(), Failure> {
        let mut item = json!({
            "attachmentType": "file",
            "name": attachment.name,
            "size": attachment.bytes.len(),
            "contentType": attachment.content_type,
        });
        mark_inline(&mut item, &attachment);
        let path = format!("{base}/attachments/createUploadSession");
        let request = json!({"AttachmentItem": item}).to_string();
        let answer = self.post(&path, "application/json", request.into()).await?;
        let (_, code, _) = explained(&answer);
        if code.eq_ignore_ascii_case("ErrorAttachmentSizeShouldNotBeLessThanMinimumSize") {
            return self.attach(base, &attachment).await;
        }
        self.expect(&answer, &[200, 201])?;
        let url = answer
            .json()
            .and_then(|json| {
                json.get("uploadUrl")
                    .and_then(Value::as_str)
                    .map(str::to_owned)
            })
            .ok_or_else(|| self.odd("the upload session has no address"))?;
        let url = Url::parse(&url).map_err(|why| self.odd(&format!("uploadUrl: {why}")))?;
        let whole = Bytes::from(attachment.bytes);
        let mut start = 0;
        while start < whole.len() {
            let end = (start + PIECE).min(whole.len());
            let piece = whole.slice(start..end);
            let range = format!("bytes {start}-{}/{}", end - 1, whole.len());
            let answer = self.put(&url, piece, range).await?;
            if !matches!(answer.status, 200..=202) {
                return Err(auxiliary(&self.session, &answer));
            }
            start = end;
        }
        Ok(())
    }

    async fn put(&mut self, url: &Url, piece: Bytes, range: String) -> Result<Answer, Failure> {
        let mut tries = 1;
        loop {
            let call = Call {
                method: "PUT",
                at: At::Granted(url),
                headers: vec![
                    ("Content-Type", "application/octet-stream".to_owned()),
                    ("Content-Range", range.clone()),
                ],
                body: vec![piece.clone()],
                sends: false,
                limit: api::LIMIT,
            };
            match self.session.call(&call, |_| false).await {
                // The same octets at the same place change nothing.
                Err(_) if tries < TRIES => tries += 1,
                outcome => return outcome,
            }
        }
    }

    async fn post(&mut self, path: &str, kind: &str, body: Bytes) -> Result<Answer, Failure> {
        let call = Call {
            method: "POST",
            at: At::Path(path),
            headers: headers(self.id, Some(kind)),
            body: vec![body],
            sends: false,
            limit: api::LIMIT,
        };
        self.session.call(&call, wants_token).await
    }

    fn expect(&self, answer: &Answer, good: &[u16]) -> Result<(), Failure> {
        if good.contains(&answer.status) {
            return Ok(());
        }
        let (row, code, message) = explained(answer);
        Err(self.refused(answer, row, &code, &message))
    }

    fn odd(&self, what: &str) -> Failure {
        Failure::of_cause(
            Cause::AnswerUnusable,
            Stage::Data,
            &self.session.relay(),
            what,
        )
    }

    fn too_large(&self, cause: Cause, size: usize) -> Failure {
        let mut failure = Failure::of_cause(
            cause,
            Stage::Prepare,
            &self.session.relay(),
            format!(
                "the message has {size} octets, more than the {} of one request",
                REQUEST_LIMIT / 4 * 3
            ),
        );
        failure.status = "5.3.4";
        failure
    }
}

fn mark_inline(value: &mut Value, attachment: &Attachment) {
    if let (Value::Object(object), Some(id)) = (value, &attachment.content_id) {
        object.insert("isInline".to_owned(), json!(true));
        object.insert("contentId".to_owned(), json!(id));
    }
}
