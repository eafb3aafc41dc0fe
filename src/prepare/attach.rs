//! A text that goes along with a message as an attachment. The message itself becomes the first part
//! of a new multipart/mixed, octet for octet, so that even a signed one stays what it was.

use super::encode::quoted_printable;
use crate::message::MessageId;
use crate::message::header::Header;

/// The fields that describe a body: they go with it into its part.
const DESCRIBING: [&[u8]; 6] = [
    b"content-type",
    b"content-transfer-encoding",
    b"content-disposition",
    b"content-id",
    b"content-description",
    b"content-language",
];

/// A message with a text attached. `name`: of the file.
pub fn text(message: &[u8], header: &Header, name: &str, text: &str) -> Vec<u8> {
    let boundary = format!("=_postbote_{}", MessageId::fresh());
    let mut out = Vec::with_capacity(message.len() + text.len() + 1024);
    let mut part = Vec::new();
    for field in &header.fields {
        let field_name = message[field.name.clone()].to_ascii_lowercase();
        let raw = &message[field.raw.clone()];
        if DESCRIBING.contains(&field_name.as_slice()) {
            part.extend_from_slice(raw);
        } else if field_name != b"mime-version" {
            out.extend_from_slice(raw);
        }
        for lines in [&mut part, &mut out] {
            if !lines.is_empty() && !lines.ends_with(b"\r\n") {
                lines.extend_from_slice(b"\r\n");
            }
        }
    }
    let body = message.get(header.body..).unwrap_or_default();
    if part.is_empty() && !body.is_ascii() {
        // Raw 8-bit text of an old program, which says nothing about itself.
        let charset = if std::str::from_utf8(body).is_ok() {
            "utf-8"
        } else {
            "windows-1252"
        };
        part.extend_from_slice(
            format!(
                "Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: 8bit\r\n"
            )
            .as_bytes(),
        );
    }
    out.extend_from_slice(
        format!("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\n--{boundary}\r\n").as_bytes(),
    );
    out.extend_from_slice(&part);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    out.extend_from_slice(
        format!("\r\n--{boundary}\r\nContent-Type: text/plain; charset=utf-8; name=\"{name}\"\r\nContent-Disposition: attachment; filename=\"{name}\"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n").as_bytes(),
    );
    let lines = text.replace("\r\n", "\n").replace('\n', "\r\n");
    out.extend_from_slice(&quoted_printable(lines.as_bytes()));
    out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_the_first_part() {
        let message = b"From: a@b.example\r\nContent-Type: text/html\r\nMIME-Version: 1.0\r\nSubject: x\r\n\r\n<p>hi</p>\r\n";
        let header = Header::parse(message).expect("header");
        let out =
            String::from_utf8(text(message, &header, "info.txt", "eins\nzwei ü")).expect("text");
        let (head, body) = out.split_once("\r\n\r\n").expect("header");
        assert!(head.starts_with("From: a@b.example\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed;"), "{head}");
        assert_eq!(head.matches("Content-Type").count(), 1);
        assert!(
            body.contains("\r\nContent-Type: text/html\r\n\r\n<p>hi</p>\r\n\r\n--"),
            "{body}"
        );
        assert!(body.contains("filename=\"info.txt\""), "{body}");
        assert!(body.contains("eins\r\nzwei =C3=BC"), "{body}");
    }
}
