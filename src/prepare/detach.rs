//! Takes attachments out of a message, for servers that want them by themselves: what is left is
//! the same message, its header and its texts octet for octet.

use std::ops::Range;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::delimiters::split;
use super::encode::{DEPTH_LIMIT, boundary, media_type, parameter};
use crate::message::header::Header;
use crate::message::rfc2047;

/// An attachment by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its file name.
    pub name: String,
    /// Its media type, with what belongs to it.
    pub content_type: String,
    /// Its Content-ID, if the text shows it at a place of its own.
    pub content_id: Option<String>,
    /// Its content, decoded.
    pub bytes: Vec<u8>,
}

/// A message without its attachments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detached {
    /// Header section with its blank line.
    pub head: Vec<u8>,
    /// Body.
    pub body: Vec<u8>,
    /// In their order.
    pub attachments: Vec<Attachment>,
}

/// Types that stand for more than a file: whoever takes them apart breaks them.
const WHOLE: [&str; 6] = [
    "multipart/signed",
    "multipart/encrypted",
    "multipart/report",
    "application/pkcs7-mime",
    "application/x-pkcs7-mime",
    "text/calendar",
];

/// Takes the attachments out; `None` where that would break the message (signed, encrypted,
/// calendar), or where it has none.
pub fn detach(head: &[u8], body: &[u8]) -> Option<Detached> {
    let header = Header::parse(head).ok()?;
    let part = Part::read(head, &header, body);
    if part.is_whole(0) {
        return None;
    }
    let mut attachments = Vec::new();
    if part.kind.starts_with("multipart/") {
        let mut rest = Vec::with_capacity(body.len().min(64 * 1024));
        part.strip(0, &mut rest, &mut attachments);
        return (!attachments.is_empty()).then(|| Detached {
            head: head.to_vec(),
            body: rest,
            attachments,
        });
    }
    if !part.is_file(Place::Mixed) {
        return None;
    }
    // The whole message is one file, as scanners send it: it becomes an attachment of nothing.
    attachments.push(part.attachment()?);
    let mut bare = Vec::with_capacity(head.len());
    for field in &header.fields {
        let name = &head[field.name.clone()];
        let described = name.len() >= 8 && name[..8].eq_ignore_ascii_case(b"content-");
        if !described {
            bare.extend_from_slice(&head[field.raw.clone()]);
        }
    }
    bare.extend_from_slice(b"Content-Type: text/plain; charset=us-ascii\r\n\r\n");
    Some(Detached {
        head: bare,
        body: b"\r\n".to_vec(),
        attachments,
    })
}

/// What a part is a child of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Mixed,
    Related,
    Other,
}

struct Part<'a> {
    kind: String,
    content_type: String,
    encoding: String,
    disposition: String,
    content_id: Option<String>,
    body: &'a [u8],
}

impl<'a> Part<'a> {
    fn read(head: &[u8], header: &Header, body: &'a [u8]) -> Self {
        let content_type = header.first(head, "Content-Type");
        Self {
            kind: media_type(content_type.as_deref()),
            content_type: content_type.unwrap_or_default(),
            encoding: header
                .first(head, "Content-Transfer-Encoding")
                .unwrap_or_default()
                .trim()
                .to_ascii_lowercase(),
            disposition: header
                .first(head, "Content-Disposition")
                .unwrap_or_default(),
            content_id: header.first(head, "Content-ID").map(|id| {
                id.trim()
                    .trim_start_matches('<')
                    .trim_end_matches('>')
                    .to_owned()
            }),
            body,
        }
    }

    fn child(bytes: &'a [u8]) -> Self {
        match Header::parse(bytes) {
            Ok(header) if !header.headerless => Self::read(bytes, &header, &bytes[header.body..]),
            _ => Self::read(b"", &Header::default(), bytes),
        }
    }

    fn children(&self) -> Option<(super::delimiters::Split, Vec<Range<usize>>)> {
        if !self.kind.starts_with("multipart/") {
            return None;
        }
        let split = split(&boundary(&self.content_type)?, self.body);
        let contents = split.parts.iter().map(|(_, content)| content.clone());
        let contents = contents.collect();
        Some((split, contents))
    }

    /// Whether it or anything in it must not be taken apart.
    fn is_whole(&self, depth: usize) -> bool {
        if depth > DEPTH_LIMIT {
            return true;
        }
        // A file of such a type is a file; the message itself never is, though S/MIME marks it so.
        if WHOLE.contains(&self.kind.as_str()) && (depth == 0 || !self.is_marked()) {
            return true;
        }
        self.children().is_some_and(|(_, contents)| {
            contents
                .iter()
                .any(|range| Part::child(&self.body[range.clone()]).is_whole(depth + 1))
        })
    }

    /// Marked as an attachment by its sender.
    fn is_marked(&self) -> bool {
        media_type(Some(&self.disposition)) == "attachment"
    }

    /// Whether it is a file that can stand by itself.
    fn is_file(&self, place: Place) -> bool {
        if self.kind.starts_with("multipart/") || self.kind.starts_with("message/") {
            return false;
        }
        let text = self.kind.is_empty() || self.kind.starts_with("text/");
        match place {
            Place::Mixed => self.is_marked() || !text,
            Place::Related => self.is_marked() || (!text && self.content_id.is_some()),
            Place::Other => false,
        }
    }

    /// Writes the body without its files.
    fn strip(&self, depth: usize, out: &mut Vec<u8>, attachments: &mut Vec<Attachment>) {
        let Some((split, contents)) = self.children() else {
            out.extend_from_slice(self.body);
            return;
        };
        if depth > DEPTH_LIMIT || contents.is_empty() {
            out.extend_from_slice(self.body);
            return;
        }
        let place = match self.kind.as_str() {
            "multipart/related" => Place::Related,
            "multipart/alternative" => Place::Other,
            _ => Place::Mixed,
        };
        let mut kept = 0;
        for (delimiter, content) in &split.parts {
            let bytes = &self.body[content.clone()];
            let child = Part::child(bytes);
            // The first part of related is what the others belong to.
            let root = place == Place::Related && content.start == contents[0].start;
            if !root
                && child.is_file(place)
                && let Some(mut attachment) = child.attachment()
            {
                if place != Place::Related {
                    attachment.content_id = None;
                }
                attachments.push(attachment);
                continue;
            }
            kept += 1;
            out.extend_from_slice(&self.body[delimiter.clone()]);
            if child.kind.starts_with("multipart/") {
                out.extend_from_slice(&bytes[..bytes.len() - child.body.len()]);
                child.strip(depth + 1, out, attachments);
            } else {
                out.extend_from_slice(bytes);
            }
            if !out.ends_with(b"\r\n") {
                out.extend_from_slice(b"\r\n");
            }
        }
        let delimiter = self.body[split.parts[0].0.clone()].trim_ascii_end();
        if kept == 0 {
            // A multipart has at least one part (RFC 2046 section 5.1.1).
            out.extend_from_slice(delimiter);
            out.extend_from_slice(b"\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n\r\n");
        }
        out.extend_from_slice(delimiter);
        out.extend_from_slice(b"--\r\n");
    }

    fn attachment(&self) -> Option<Attachment> {
        let name = file_name(&self.disposition, "filename")
            .or_else(|| file_name(&self.content_type, "name"))
            .unwrap_or_else(|| {
                let kind = self.kind.rsplit('/').next().unwrap_or("");
                let plain = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric());
                format!("attachment.{}", if plain { kind } else { "bin" })
            });
        let kind = if self.kind.is_empty() {
            "application/octet-stream"
        } else {
            &self.kind
        };
        let content_type = match parameter(&self.content_type, "charset") {
            Some(charset) => format!("{kind}; charset={charset}"),
            None => kind.to_owned(),
        };
        Some(Attachment {
            name,
            content_type,
            content_id: self.content_id.clone(),
            bytes: decode(&self.encoding, self.body)?,
        })
    }
}

/// A file name from a field's parameters: RFC 2231 in one or several pieces, RFC 2047 as many
/// programs write it, or plain.
pub(super) fn file_name(field: &str, parameter_name: &str) -> Option<String> {
    let plain = parameter(field, &format!("{parameter_name}*"))
        .map(|value| extended(&value, true))
        .or_else(|| {
            let mut joined = Vec::new();
            let mut charset = String::new();
            for n in 0..100 {
                if let Some(piece) = parameter(field, &format!("{parameter_name}*{n}*")) {
                    let (found, octets) = octets(&piece, n == 0);
                    if n == 0 {
                        charset = found;
                    }
                    joined.extend(octets);
                } else if let Some(piece) = parameter(field, &format!("{parameter_name}*{n}")) {
                    joined.extend(piece.into_bytes());
                } else {
                    break;
                }
            }
            (!joined.is_empty()).then(|| text_of(&charset, &joined))
        })
        .or_else(|| parameter(field, parameter_name).map(|v| rfc2047::decode_words(&v)))?;
    let name: String = plain
        .chars()
        .map(|c| {
            if c.is_control() || c == '/' || c == '\\' {
                '_'
            } else {
                c
            }
        })
        .take(200)
        .collect();
    (!name.trim().is_empty()).then(|| name.trim().to_owned())
}

fn extended(value: &str, first: bool) -> String {
    let (charset, octets) = octets(value, first);
    text_of(&charset, &octets)
}

/// `utf-8'de'na%C3%AFve` as its charset and octets.
fn octets(value: &str, first: bool) -> (String, Vec<u8>) {
    let mut pieces = value.splitn(3, '\'');
    let (charset, rest) = match (first, pieces.next(), pieces.next(), pieces.next()) {
        (true, Some(charset), Some(_), Some(rest)) => (charset.to_ascii_lowercase(), rest),
        _ => (String::new(), value),
    };
    let bytes = rest.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| rest.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match hex {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    (charset, out)
}

fn text_of(charset: &str, octets: &[u8]) -> String {
    if matches!(
        charset,
        "iso-8859-1" | "latin1" | "windows-1252" | "iso-8859-15"
    ) {
        octets.iter().map(|b| rfc2047::windows_1252(*b)).collect()
    } else {
        rfc2047::decode_raw(octets)
    }
}

/// Undoes a Content-Transfer-Encoding; `None`: it cannot be.
pub(super) fn decode(encoding: &str, body: &[u8]) -> Option<Vec<u8>> {
    match encoding {
        "base64" => {
            let config = GeneralPurposeConfig::new()
                .with_decode_padding_mode(DecodePaddingMode::Indifferent)
                .with_decode_allow_trailing_bits(true);
            let engine = GeneralPurpose::new(&alphabet::STANDARD, config);
            // Behind an end inside, other octets would come out than readers see.
            let end = memchr::memchr(b'=', body).unwrap_or(body.len());
            if body[end..].iter().any(u8::is_ascii_alphanumeric) {
                return None;
            }
            let text: Vec<u8> = body
                .iter()
                .copied()
                .filter(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
                .collect();
            engine.decode(text).ok()
        }
        "quoted-printable" => Some(quoted_printable(body)),
        "" | "7bit" | "8bit" | "binary" => Some(body.to_vec()),
        _ => None,
    }
}

/// RFC 2045 section 6.7; what is no code stays as it is.
fn quoted_printable(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    for line in body.split_inclusive(|b| *b == b'\n') {
        let (text, end) = match line.strip_suffix(b"\r\n") {
            Some(text) => (text.trim_ascii_end(), &b"\r\n"[..]),
            None => (line, &b""[..]),
        };
        let (text, end) = match text.strip_suffix(b"=") {
            Some(text) => (text, &b""[..]),
            None => (text, end),
        };
        let mut at = 0;
        while at < text.len() {
            let hex = (text[at] == b'=')
                .then(|| text.get(at + 1..at + 3))
                .flatten()
                .and_then(|digits| std::str::from_utf8(digits).ok())
                .and_then(|digits| u8::from_str_radix(digits, 16).ok());
            match hex {
                Some(byte) => {
                    out.push(byte);
                    at += 3;
                }
                None => {
                    out.push(text[at]);
                    at += 1;
                }
            }
        }
        out.extend_from_slice(end);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> (Vec<u8>, Vec<u8>) {
        let text = text.replace('\n', "\r\n");
        let (head, body) = text.split_once("\r\n\r\n").expect("head and body");
        (
            format!("{head}\r\n\r\n").into_bytes(),
            body.as_bytes().to_vec(),
        )
    }

    #[test]
    fn attachments_of_mixed_and_related() {
        let (head, body) = message(
            "From: a@b\nContent-Type: multipart/mixed; boundary=m\n\n\
             --m\nContent-Type: multipart/related; boundary=\"r\"\n\n--r\nContent-Type: text/html\n\n<img src=cid:x>\n\
             --r\nContent-Type: image/png; name=x.png\nContent-ID: <x>\nContent-Transfer-Encoding: base64\n\naGVs\nbG8=\n--r--\n\n\
             --m\nContent-Type: application/pdf\nContent-Disposition: attachment; filename*=utf-8''R%C3%BC.pdf\nContent-Transfer-Encoding: quoted-printable\n\na=3Db=\nc\n--m--\n",
        );
        let found = detach(&head, &body).expect("detached");
        let names: Vec<_> = found
            .attachments
            .iter()
            .map(|a| (a.name.as_str(), a.content_id.as_deref(), a.bytes.as_slice()))
            .collect();
        assert_eq!(
            names,
            [
                ("x.png", Some("x"), &b"hello"[..]),
                ("Rü.pdf", None, &b"a=bc"[..])
            ]
        );
        assert_eq!(
            String::from_utf8(found.body)
                .expect("text")
                .replace("\r\n", "\n"),
            "--m\nContent-Type: multipart/related; boundary=\"r\"\n\n--r\nContent-Type: text/html\n\n<img src=cid:x>\n--r--\n--m--\n"
        );
        assert_eq!(found.head, head);
    }

    #[test]
    fn a_message_that_is_a_file() {
        let (head, body) = message(
            "From: a@b\nContent-Type: application/pdf; name=scan.pdf\nContent-Transfer-Encoding: base64\nSubject: x\n\naGVsbG8=\n",
        );
        let found = detach(&head, &body).expect("detached");
        assert_eq!(
            String::from_utf8_lossy(&found.head),
            "From: a@b\r\nSubject: x\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
        );
        assert_eq!(
            (
                found.attachments[0].name.as_str(),
                found.attachments[0].bytes.as_slice()
            ),
            ("scan.pdf", &b"hello"[..])
        );
    }

    #[test]
    fn nothing_but_files() {
        let (head, body) = message(
            "From: a@b\nContent-Type: multipart/mixed; boundary=m\n\n--m\nContent-Type: image/png\n\nx\n--m--\n",
        );
        let found = detach(&head, &body).expect("detached");
        assert_eq!(found.attachments[0].name, "attachment.png");
        assert!(String::from_utf8_lossy(&found.body).contains("text/plain"));
    }

    #[test]
    fn what_must_stay_whole() {
        for kind in [
            "multipart/signed",
            "multipart/encrypted",
            "application/pkcs7-mime",
            "text/calendar",
        ] {
            let (head, body) = message(&format!(
                "From: a@b\nContent-Type: multipart/mixed; boundary=m\n\n--m\nContent-Type: {kind}; boundary=s\n\n--s\n\nx\n--s--\n--m\nContent-Type: image/png\n\nx\n--m--\n"
            ));
            assert_eq!(detach(&head, &body), None, "{kind}");
        }
        let (head, body) = message(
            "From: a@b\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data\nContent-Disposition: attachment; filename=smime.p7m\n\nx\n",
        );
        assert_eq!(detach(&head, &body), None, "an encrypted message");
        let (head, body) = message("From: a@b\nContent-Type: text/plain\n\nonly text\n");
        assert_eq!(detach(&head, &body), None);
    }

    #[test]
    fn file_names() {
        for (field, name) in [
            ("attachment; filename=a.pdf", "a.pdf"),
            ("attachment; filename=\"a b.pdf\"", "a b.pdf"),
            ("attachment; filename=\"=?utf-8?Q?R=C3=BC.pdf?=\"", "Rü.pdf"),
            ("attachment; filename*=iso-8859-1''R%FC.pdf", "Rü.pdf"),
            (
                "attachment; filename*0*=utf-8''R%C3; filename*1*=%BC; filename*2=.pdf",
                "Rü.pdf",
            ),
            (
                "attachment; filename=\"../../etc/passwd\"",
                ".._.._etc_passwd",
            ),
        ] {
            assert_eq!(
                file_name(field, "filename").as_deref(),
                Some(name),
                "{field}"
            );
        }
        assert_eq!(file_name("attachment", "filename"), None);
    }
}
