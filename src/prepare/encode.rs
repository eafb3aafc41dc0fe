//! From 8 bits to 7, and from endless lines to short ones, where the next server demands it
//! (RFC 2045 section 6, RFC 6152 section 3). A part that needs nothing stays byte for byte.

use super::delimiters::split;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::message::header::{self, Header};
use crate::message::rfc2047;

/// Longest line on the wire without its line end (RFC 5321 section 4.5.3.1.6).
pub const LINE_LIMIT: usize = 998;
/// Deepest nesting of parts that is followed.
pub(super) const DEPTH_LIMIT: usize = 100;
/// Most parts that are followed.
const PARTS_LIMIT: usize = 1000;

/// A body that had to change, with the field values that go with it.
#[derive(Debug, PartialEq, Eq)]
pub struct Converted {
    /// The new body.
    pub body: Vec<u8>,
    /// The new Content-Transfer-Encoding.
    pub encoding: &'static str,
}

/// Why a body cannot be made fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A multipart whose parts cannot be told apart, or an encoding that nobody knows.
    #[error(
        "its parts cannot be told apart or have an unknown encoding, so it cannot be converted to 7 bit"
    )]
    NotUnderstood,
    /// Nested too deeply or too many parts.
    #[error("its parts are nested too deeply to be converted to 7 bit")]
    TooNested,
}

/// Whether any byte is beyond ASCII.
pub fn has_eight_bit(bytes: &[u8]) -> bool {
    !bytes.is_ascii()
}

/// Whether any line is longer than SMTP carries.
pub fn has_long_line(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    // From one line end to the last one that is near enough: the lines between are not looked at.
    while rest.len() > LINE_LIMIT {
        match memchr::memrchr(b'\n', &rest[..rest.len().min(LINE_LIMIT + 2)]) {
            Some(end) => rest = &rest[end + 1..],
            None => return true,
        }
    }
    false
}

fn needs_change(bytes: &[u8], eight_bit_ok: bool) -> bool {
    (!eight_bit_ok && has_eight_bit(bytes)) || has_long_line(bytes)
}

/// Makes a body fit. `content_type`, `encoding`: the values of its fields, if any. `None`: it
/// already fits.
pub fn body(
    content_type: Option<&str>,
    encoding: Option<&str>,
    body: &[u8],
    eight_bit_ok: bool,
) -> Result<Option<Converted>, EncodeError> {
    let mut parts = 0;
    convert(content_type, encoding, body, eight_bit_ok, 0, &mut parts)
}

fn convert(
    content_type: Option<&str>,
    encoding: Option<&str>,
    body: &[u8],
    eight_bit_ok: bool,
    depth: usize,
    parts: &mut usize,
) -> Result<Option<Converted>, EncodeError> {
    if !needs_change(body, eight_bit_ok) {
        return Ok(None);
    }
    *parts += 1;
    if depth > DEPTH_LIMIT || *parts > PARTS_LIMIT {
        return Err(EncodeError::TooNested);
    }
    let kind = media_type(content_type);
    let encoding = encoding.map(|e| e.trim().to_ascii_lowercase());
    match encoding.as_deref() {
        Some("base64") => {
            return Ok(Some(Converted {
                body: rewrap_base64(body),
                encoding: "base64",
            }));
        }
        Some("quoted-printable") => {
            return Ok(Some(Converted {
                body: repair_quoted_printable(body),
                encoding: "quoted-printable",
            }));
        }
        _ => {}
    }
    if !matches!(
        encoding.as_deref(),
        None | Some("7bit" | "8bit" | "binary" | "")
    ) {
        return Err(EncodeError::NotUnderstood);
    }
    if kind.starts_with("multipart/") {
        let boundary = content_type
            .and_then(boundary)
            .ok_or(EncodeError::NotUnderstood)?;
        let body = multipart(&boundary, body, eight_bit_ok, depth, parts)?;
        let encoding = if has_eight_bit(&body) { "8bit" } else { "7bit" };
        return Ok(Some(Converted { body, encoding }));
    } else if kind == "message/rfc822" || kind == "message/global" {
        let body = entity(body, eight_bit_ok, depth, parts)?;
        let encoding = if has_eight_bit(&body) { "8bit" } else { "7bit" };
        return Ok(Some(Converted { body, encoding }));
    }
    if kind.starts_with("text/") || kind.is_empty() {
        Ok(Some(Converted {
            body: quoted_printable(body),
            encoding: "quoted-printable",
        }))
    } else {
        Ok(Some(Converted {
            body: base64_lines(body),
            encoding: "base64",
        }))
    }
}

/// A part with its own header section.
fn entity(
    bytes: &[u8],
    eight_bit_ok: bool,
    depth: usize,
    parts: &mut usize,
) -> Result<Vec<u8>, EncodeError> {
    let header = match Header::parse(bytes) {
        Ok(header) if !header.headerless || bytes.starts_with(b"\r\n") => header,
        // No header of its own: RFC 2046 section 5.1 takes it as plain text.
        _ => Header {
            fields: Vec::new(),
            body: 0,
            headerless: true,
        },
    };
    let content_type = header.first(bytes, "Content-Type");
    let encoding = header.first(bytes, "Content-Transfer-Encoding");
    let body = &bytes[header.body..];
    let converted = convert(
        content_type.as_deref(),
        encoding.as_deref(),
        body,
        eight_bit_ok,
        depth + 1,
        parts,
    )?;
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 8);
    let mut encoding_written = false;
    for field in &header.fields {
        let name = &bytes[field.name.clone()];
        if name.eq_ignore_ascii_case(b"Content-Transfer-Encoding")
            && let Some(converted) = &converted
        {
            if !encoding_written {
                push_encoding(converted.encoding, &mut out);
            }
            encoding_written = true;
            continue;
        }
        push_field(
            &bytes[field.raw.clone()],
            name,
            &bytes[field.value.clone()],
            eight_bit_ok,
            &mut out,
        );
    }
    if let Some(converted) = &converted
        && !encoding_written
    {
        push_encoding(converted.encoding, &mut out);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(converted.as_ref().map_or(body, |c| &c.body));
    Ok(out)
}

fn push_encoding(encoding: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("Content-Transfer-Encoding: {encoding}\r\n").as_bytes());
}

/// Writes a field as it is, or encoded where 8-bit or over-long lines would not pass.
pub fn push_field(raw: &[u8], name: &[u8], value: &[u8], utf8_ok: bool, out: &mut Vec<u8>) {
    let valid_utf8 = std::str::from_utf8(raw).is_ok();
    // `Name :` is allowed to be read (RFC 5322 section 4.5), not to be written.
    let blank_before_colon = raw.get(name.len()).is_some_and(|b| *b != b':');
    let passes = (raw.is_ascii() || (utf8_ok && valid_utf8)) && !has_long_line(raw);
    if passes && blank_before_colon {
        out.extend_from_slice(name);
        out.push(b':');
        out.extend_from_slice(value);
        if !out.ends_with(b"\r\n") {
            out.extend_from_slice(b"\r\n");
        }
        return;
    }
    if passes {
        out.extend_from_slice(raw);
        return;
    }
    let name = String::from_utf8_lossy(name);
    let text = header::unfold(value);
    let mut field = format!("{name}: {}\r\n", field_value(&name, &text, utf8_ok));
    if has_long_line(field.as_bytes()) {
        // A word without end, where words cannot be broken: it is text now, whatever it was.
        let words = rfc2047::encode_words(&text, name.len() + 2);
        field = format!("{name}: {words}\r\n");
    }
    out.extend_from_slice(field.as_bytes());
}

/// The value of any field as ASCII (or UTF-8 where allowed), folded.
fn field_value(name: &str, text: &str, utf8: bool) -> String {
    let used = name.len() + 2;
    let lower = name.to_ascii_lowercase();
    match lower.as_str() {
        "to"
        | "cc"
        | "reply-to"
        | "from"
        | "sender"
        | "resent-to"
        | "resent-cc"
        | "resent-from"
        | "resent-sender"
        | "resent-reply-to"
        | "disposition-notification-to"
        | "return-receipt-to"
        | "errors-to" => addresses(text, used, utf8),
        "content-type" | "content-disposition" => parameters_2231(text),
        // Message ids are no text: they can be folded, never encoded.
        "references" | "in-reply-to" | "message-id" | "content-id" | "resent-message-id" => {
            let ascii: String = text.chars().filter(char::is_ascii).collect();
            rfc2047::fold(&ascii.replace("><", "> <"), used)
        }
        _ => rfc2047::unstructured(text, used, utf8),
    }
}

/// An address list written anew when it could be read, else word by word.
fn addresses(text: &str, used: usize, utf8: bool) -> String {
    let list = crate::message::mailbox::parse(text);
    if !list.group && !list.dubious && !list.mailboxes.is_empty() {
        let mut out = String::new();
        for (i, mailbox) in list.mailboxes.iter().enumerate() {
            let Some(address) = &mailbox.address else {
                continue;
            };
            if i > 0 {
                out.push_str(",\r\n ");
            }
            if address.needs_smtputf8() && !utf8 {
                // RFC 6857 section 3.1.8: shown, but no address any more.
                let shown = format!("{} {address}", mailbox.name);
                out.push_str(&format!("{} :;", rfc2047::encode_words(shown.trim(), 1)));
                continue;
            }
            out.push_str(&mailbox_text(
                &mailbox.name,
                address,
                if i == 0 { used } else { 1 },
                utf8,
            ));
        }
        return out;
    }
    let words: Vec<String> = text
        .split(' ')
        .map(|word| {
            if word.is_ascii() {
                word.to_owned()
            } else {
                // Folded below, with the rest.
                rfc2047::encode_words(word.trim_matches('"'), 1).replace("\r\n ", " ")
            }
        })
        .collect();
    rfc2047::fold(&words.join(" "), used)
}

/// `Name <address>`, encoded and folded; the domain as A-labels unless UTF-8 is allowed.
pub fn mailbox_text(
    name: &str,
    address: &crate::smtp::address::Address,
    used: usize,
    utf8: bool,
) -> String {
    let address = address.with_ascii_domain();
    // `a:b@c` is a mailbox on the wire; in a header a bare colon would begin a group.
    let address = match address.rsplit_once('@') {
        Some((local, domain)) if local.contains(':') && !local.starts_with('"') => {
            format!("\"{local}\"@{domain}")
        }
        _ => address,
    };
    if name.trim().is_empty() {
        return address;
    }
    let phrase = rfc2047::phrase(name, used, utf8);
    let last_line = phrase.rsplit("\r\n").next().map_or(0, str::len)
        + if phrase.contains("\r\n") { 0 } else { used };
    let separator = if last_line + address.len() + 3 > 78 {
        "\r\n "
    } else {
        " "
    };
    format!("{phrase}{separator}<{address}>")
}

/// Parameters beyond ASCII by RFC 2231; the rest as it was.
fn parameters_2231(text: &str) -> String {
    let mut out = String::new();
    for (i, piece) in split_parameters(text).into_iter().enumerate() {
        if i > 0 {
            out.push_str(";\r\n ");
        }
        let piece = piece.trim();
        match piece.split_once('=') {
            Some((key, value)) if i > 0 && (!piece.is_ascii() || piece.len() > 900) => {
                let value = value.trim().trim_matches('"');
                let mut encoded = String::new();
                for byte in value.bytes() {
                    if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
                        encoded.push(char::from(byte));
                    } else {
                        encoded.push_str(&format!("%{byte:02X}"));
                    }
                }
                let key: String = key
                    .trim()
                    .trim_end_matches('*')
                    .chars()
                    .filter(char::is_ascii_graphic)
                    .collect();
                let chunks: Vec<&str> = chunks_of(&encoded, 60);
                if let [one] = chunks.as_slice() {
                    out.push_str(&format!("{key}*=utf-8''{one}"));
                } else {
                    for (n, chunk) in chunks.iter().enumerate() {
                        if n > 0 {
                            out.push_str(";\r\n ");
                        }
                        out.push_str(&format!(
                            "{key}*{n}*={}{chunk}",
                            if n == 0 { "utf-8''" } else { "" }
                        ));
                    }
                }
            }
            _ => out.extend(piece.chars().map(|c| if c.is_ascii() { c } else { '?' })),
        }
    }
    out
}

/// Splits percent-encoded text without cutting an escape.
fn chunks_of(text: &str, length: usize) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = text;
    while rest.len() > length {
        let mut cut = length;
        while rest.as_bytes()[cut - 1] == b'%' || (cut >= 2 && rest.as_bytes()[cut - 2] == b'%') {
            cut -= 1;
        }
        out.push(&rest[..cut]);
        rest = &rest[cut..];
    }
    out.push(rest);
    out
}

pub(super) fn split_parameters(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ';' if !quoted => {
                out.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out
}

/// `text/plain` of `Text/Plain; charset=…`, lower case; empty when there is none.
pub fn media_type(content_type: Option<&str>) -> String {
    content_type
        .map(|t| {
            t.split([';', '('])
                .next()
                .unwrap_or("")
                .trim()
                .to_ascii_lowercase()
        })
        .unwrap_or_default()
}

/// A parameter's value without quotes.
pub fn parameter(content_type: &str, name: &str) -> Option<String> {
    split_parameters(content_type)
        .into_iter()
        .skip(1)
        .find_map(|piece| {
            let (key, value) = piece.split_once('=')?;
            if !key.trim().eq_ignore_ascii_case(name) {
                return None;
            }
            let value = value.trim();
            match value.strip_prefix('"') {
                Some(quoted) => Some(unquoted(quoted)),
                None => Some(
                    value
                        .split([' ', '\t', '('])
                        .next()
                        .unwrap_or(value)
                        .to_owned(),
                ),
            }
        })
}

/// A quoted string from behind its first quote (RFC 5322 section 3.2.4).
fn unquoted(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    out
}

/// The boundary of a multipart, also in the pieces of RFC 2231.
pub(super) fn boundary(content_type: &str) -> Option<String> {
    let whole = parameter(content_type, "boundary").or_else(|| {
        let mut joined = String::new();
        for n in 0..20 {
            match parameter(content_type, &format!("boundary*{n}")) {
                Some(piece) => joined.push_str(&piece),
                None => break,
            }
        }
        Some(joined)
    })?;
    (!whole.is_empty() && whole.len() <= 1000).then_some(whole)
}

fn multipart(
    boundary: &str,
    body: &[u8],
    eight_bit_ok: bool,
    depth: usize,
    parts: &mut usize,
) -> Result<Vec<u8>, EncodeError> {
    let split = split(boundary, body);
    let mut out = Vec::with_capacity(body.len() + body.len() / 8);
    let first = split.parts.first().map(|(delimiter, _)| delimiter);
    let preamble = first
        .or(split.close.as_ref())
        .map_or(body.len(), |delimiter| delimiter.start);
    push_text(&body[..preamble], eight_bit_ok, &mut out);
    for (n, (delimiter, content)) in split.parts.iter().enumerate() {
        out.extend_from_slice(&body[delimiter.clone()]);
        push_part(&body[content.clone()], eight_bit_ok, depth, parts, &mut out)?;
        let next = split.parts.get(n + 1).map(|(delimiter, _)| delimiter);
        let gap = next
            .or(split.close.as_ref())
            .map_or(content.end, |delimiter| delimiter.start);
        out.extend_from_slice(&body[content.end..gap]);
    }
    if let Some(close) = &split.close {
        out.extend_from_slice(&body[close.clone()]);
        push_text(&body[close.end..], eight_bit_ok, &mut out);
    }
    Ok(out)
}

fn push_part(
    content: &[u8],
    eight_bit_ok: bool,
    depth: usize,
    parts: &mut usize,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if needs_change(content, eight_bit_ok) {
        out.extend_from_slice(&entity(content, eight_bit_ok, depth, parts)?);
    } else {
        out.extend_from_slice(content);
    }
    Ok(())
}

/// Preamble and epilogue, which no reader shows: 8-bit becomes `?`, long lines are broken.
fn push_text(text: &[u8], eight_bit_ok: bool, out: &mut Vec<u8>) {
    for line in text.split_inclusive(|b| *b == b'\n') {
        for chunk in line.chunks(LINE_LIMIT) {
            out.extend(chunk.iter().map(|b| {
                if b.is_ascii() || eight_bit_ok {
                    *b
                } else {
                    b'?'
                }
            }));
            if chunk.len() == LINE_LIMIT && line.len() > LINE_LIMIT {
                out.extend_from_slice(b"\r\n");
            }
        }
    }
}

/// Base64 in lines of 76.
pub fn base64_lines(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() * 4 / 3 + bytes.len() / 28);
    for chunk in bytes.chunks(57) {
        out.extend_from_slice(BASE64.encode(chunk).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Base64 text in lines of 76; what is not base64 is dropped, as every reader does.
fn rewrap_base64(text: &[u8]) -> Vec<u8> {
    let compact: Vec<u8> = text
        .iter()
        .copied()
        .filter(|b| b.is_ascii_alphanumeric() || b"+/=".contains(b))
        .collect();
    let mut out = Vec::with_capacity(compact.len() + compact.len() / 38);
    for chunk in compact.chunks(76) {
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Quoted-printable that had raw bytes or long lines in it, made right without touching escapes.
fn repair_quoted_printable(text: &[u8]) -> Vec<u8> {
    // Blanks at a line's end belong to nobody there (RFC 2045 section 6.7 rule 3).
    quote(text, true, |byte| {
        byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t')
    })
}

/// Quoted-printable of text with CRLF line ends (RFC 2045 section 6.7).
pub fn quoted_printable(text: &[u8]) -> Vec<u8> {
    quote(text, false, |byte| {
        (byte.is_ascii_graphic() && byte != b'=') || matches!(byte, b' ' | b'\t')
    })
}

fn quote(text: &[u8], strip_blanks: bool, keep: impl Fn(u8) -> bool) -> Vec<u8> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = Vec::with_capacity(text.len() + text.len() / 4);
    for line in text.split_inclusive(|b| *b == b'\n') {
        let (content, ended) = match line
            .strip_suffix(b"\r\n")
            .or_else(|| line.strip_suffix(b"\n"))
        {
            Some(content) => (content, true),
            None => (line, false),
        };
        let content = if strip_blanks {
            content.trim_ascii_end()
        } else {
            content
        };
        let mut column = 0;
        for (i, &byte) in content.iter().enumerate() {
            let last_blank = i + 1 == content.len() && matches!(byte, b' ' | b'\t');
            let plain = keep(byte) && !last_blank;
            let width = if plain { 1 } else { 3 };
            // A kept escape must not be cut: `=` carries the two digits behind it.
            let needed = if plain && byte == b'=' { 3 } else { width };
            if column + needed > 75 {
                out.extend_from_slice(b"=\r\n");
                column = 0;
            }
            if plain {
                out.push(byte);
            } else {
                out.extend_from_slice(&[
                    b'=',
                    HEX[usize::from(byte >> 4)],
                    HEX[usize::from(byte & 15)],
                ]);
            }
            column += width;
        }
        if ended {
            out.extend_from_slice(b"\r\n");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_found_wherever_they_are() {
        // By lengths of lines without CRLF; the last one may have none.
        let cases: [(&[usize], usize, bool); 9] = [
            (&[], 0, false),
            (&[], 998, false),
            (&[], 999, true),
            (&[998], 0, false),
            (&[999], 0, true),
            (&[76, 76, 998, 76], 998, false),
            (&[76, 76, 999, 76], 10, true),
            (&[997, 1, 0, 996, 3], 999, true),
            (&[500, 500, 500, 998, 998, 1], 1, false),
        ];
        for (lines, last, long) in cases {
            let mut text = Vec::new();
            for length in lines {
                text.resize(text.len() + length, b'x');
                text.extend_from_slice(b"\r\n");
            }
            text.resize(text.len() + last, b'x');
            assert_eq!(has_long_line(&text), long, "{lines:?} {last}");
        }
    }

    #[test]
    fn leaf_text_and_binary() {
        let text = "Grüße = 3€ \r\nzweite Zeile\r\n".as_bytes();
        let done = body(Some("text/plain; charset=utf-8"), Some("8bit"), text, false)
            .expect("ok")
            .expect("changed");
        assert_eq!(done.encoding, "quoted-printable");
        assert_eq!(
            done.body,
            b"Gr=C3=BC=C3=9Fe =3D 3=E2=82=AC=20\r\nzweite Zeile\r\n"
        );
        let done = body(Some("application/pdf"), Some("binary"), &[0xff; 100], false)
            .expect("ok")
            .expect("changed");
        assert_eq!(done.encoding, "base64");
        assert_eq!(
            body(Some("text/plain"), None, text, true),
            Ok(None),
            "8BITMIME: untouched"
        );
        let long = [vec![b'x'; 5000], b"\r\n".to_vec()].concat();
        let done = body(None, None, &long, true).expect("ok").expect("changed");
        assert!(!has_long_line(&done.body));
    }

    #[test]
    fn multipart_keeps_what_fits() {
        let message = "preamble ü\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße\r\n--b\r\nContent-Type: application/pdf; name=\"Müller.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--b--\r\n";
        let done = body(
            Some("multipart/mixed; boundary=\"b\""),
            Some("8bit"),
            message.as_bytes(),
            false,
        )
        .expect("ok")
        .expect("changed");
        assert_eq!(done.encoding, "7bit");
        let text = String::from_utf8(done.body).expect("ascii");
        assert!(text.is_ascii());
        assert!(
            text.contains(
                "Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe\r\n--b\r\n"
            ),
            "{text}"
        );
        assert!(text.contains("name*=utf-8''M%C3%BCller.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--b--\r\n"), "{text}");
    }

    #[test]
    fn nested_message_and_depth() {
        let inner = "Subject: Grüße\r\nContent-Type: text/plain\r\n\r\nä\r\n";
        let done = body(Some("message/rfc822"), None, inner.as_bytes(), false)
            .expect("ok")
            .expect("changed");
        let text = String::from_utf8(done.body).expect("ascii");
        assert!(
            text.starts_with("Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\n"),
            "{text}"
        );
        assert!(
            text.ends_with("Content-Transfer-Encoding: quoted-printable\r\n\r\n=C3=A4\r\n"),
            "{text}"
        );
        let mut deep = "ä\r\n".to_owned();
        for _ in 0..=DEPTH_LIMIT {
            deep = format!("Content-Type: message/rfc822\r\n\r\n{deep}");
        }
        assert_eq!(
            body(Some("message/rfc822"), None, deep.as_bytes(), false),
            Err(EncodeError::TooNested)
        );
    }

    #[test]
    fn broken_encodings() {
        let long = "QUJD".repeat(600);
        let done = body(Some("image/png"), Some("base64"), long.as_bytes(), true)
            .expect("ok")
            .expect("changed");
        assert_eq!(
            done.body.iter().filter(|b| !b"\r\n".contains(b)).count(),
            long.len()
        );
        let done = body(
            Some("text/plain"),
            Some("quoted-printable"),
            "=C3=A4ä\r\n".as_bytes(),
            false,
        )
        .expect("ok")
        .expect("changed");
        assert_eq!(done.body, b"=C3=A4=C3=A4\r\n");
    }

    proptest::proptest! {
        #[test]
        fn always_fits(lines in proptest::collection::vec("\\PC{0,300}", 0..6), kind in "(text/plain|multipart/mixed; boundary=x|message/rfc822|image/png)") {
            let text = lines.join("\r\n--x\r\n");
            if let Ok(Some(done)) = body(Some(&kind), None, text.as_bytes(), false) {
                proptest::prop_assert!(done.body.is_ascii() && !has_long_line(&done.body));
            }
        }
    }
}
