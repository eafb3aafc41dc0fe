//! An employee's signature in the text and HTML bodies of a message. Whatever is no body stays octet
//! for octet: attachments, boundaries, the text around them; and a message that somebody has signed
//! or encrypted stays so as a whole.

mod charset;
mod html;
mod text;
mod transfer;

use std::borrow::Cow;
use std::ops::Range;

use self::charset::Charset;
use self::transfer::Transfer;
use super::detach::file_name;
use super::encode::{
    boundary, has_long_line, media_type, parameter, quoted_printable, split_parameters,
};
use crate::message::header::Header;

/// Deepest nesting of parts that is followed.
const DEPTH_LIMIT: usize = 10;
/// Most parts that are followed.
const PARTS_LIMIT: usize = 1000;
/// Longest body that is changed, as it is encoded.
const TEXT_LIMIT: usize = 5 * 1024 * 1024;
/// Multiparts that show no text of the message.
const NO_BODIES: [&str; 5] = [
    "multipart/appledouble",
    "multipart/byteranges",
    "multipart/digest",
    "multipart/form-data",
    "multipart/x-mixed-replace",
];

/// Why a message gets no signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untouched {
    /// A signature of S/MIME or PGP would no longer hold.
    #[error("the message is signed (S/MIME or PGP)")]
    Signed,
    /// There is no text to be seen.
    #[error("the message is encrypted (S/MIME or PGP)")]
    Encrypted,
    /// Nobody wrote it.
    #[error("the message is a report")]
    Report,
    /// No part is a text body, or none that can be changed safely.
    #[error("the message has no text that can take it")]
    NoText,
    /// What its parts are cannot be told.
    #[error("the message cannot be understood: {0}")]
    Unreadable(String),
    /// Its author, or a program before us, has written it.
    #[error("it stands there already")]
    Present,
}

impl Untouched {
    /// Whether the log has to say it: a signature is missing.
    pub fn is_worth_a_word(&self) -> bool {
        *self != Self::Present
    }
}

/// The message (header and body, CRLF line ends) with the signature in its text and HTML bodies,
/// each as its reader sees it: at the end, or above the mail that a reply quotes. A text that ends
/// in the signature already keeps as it is; if all do, there is nothing to add.
pub fn insert(message: &[u8], header: &Header, signature: &str) -> Result<Vec<u8>, Untouched> {
    let lines = lines_of(signature);
    if lines.is_empty() {
        return Ok(message.to_vec());
    }
    let root = Part::read(message, 0..message.len(), header.clone(), 0, &mut 0)?;
    root.may_change()?;
    if root.kind.starts_with("multipart/") && root.parts.is_empty() {
        return Err(Untouched::Unreadable(
            "its parts cannot be told apart".to_owned(),
        ));
    }
    let mut bodies = Vec::new();
    root.bodies(true, &mut bodies);
    let signed: Vec<Vec<Change>> = bodies
        .iter()
        .filter_map(|(part, eight_bit)| part.sign(*eight_bit, &lines))
        .collect();
    if signed.is_empty() {
        return Err(Untouched::NoText);
    }
    let mut changes: Vec<Change> = signed.into_iter().flatten().collect();
    if changes.is_empty() {
        return Err(Untouched::Present);
    }
    // The root of multipart/related need not be its first part.
    changes.sort_by_key(|change| change.place.start);
    let mut out = Vec::with_capacity(message.len() + 4096);
    let mut at = 0;
    for change in &changes {
        out.extend_from_slice(&message[at..change.place.start]);
        out.extend_from_slice(&change.octets);
        at = change.place.end;
    }
    out.extend_from_slice(&message[at..]);
    if !out.ends_with(b"\n") {
        out.extend_from_slice(b"\r\n");
    }
    Ok(out)
}

/// The signature's lines without blanks at their ends, and without a separator of its own.
fn lines_of(signature: &str) -> Vec<String> {
    let mut lines: Vec<String> = signature
        .lines()
        .map(|line| {
            let line = line.replace(char::is_control, " ");
            line.trim_end().to_owned()
        })
        .skip_while(|line| line.is_empty() || line == "--")
        .collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

/// What to put into a decoded text, and where.
struct Insertion {
    at: usize,
    octets: Vec<u8>,
}

/// What comes in whose place in the message.
struct Change {
    place: Range<usize>,
    octets: Vec<u8>,
}

/// A text as it is to be written.
struct Draft<'a> {
    transfer: Transfer,
    /// It may hold 8-bit octets, for all parts around it say so.
    eight_bit: bool,
    text: Cow<'a, [u8]>,
    /// The text is no longer what stands in the message.
    converted: bool,
    insertion: Insertion,
    /// Its new charset.
    charset: Option<Charset>,
}

/// One entity of the message.
struct Part<'a> {
    /// Header and body.
    bytes: &'a [u8],
    /// Where it begins in the message.
    start: usize,
    header: Header,
    kind: String,
    content_type: Option<String>,
    encoding: String,
    disposition: String,
    /// The next delimiter follows at once: the line end in front of it is missing.
    tight: bool,
    parts: Vec<Part<'a>>,
}

impl<'a> Part<'a> {
    fn read(
        message: &'a [u8],
        place: Range<usize>,
        header: Header,
        depth: usize,
        count: &mut usize,
    ) -> Result<Self, Untouched> {
        *count += 1;
        if depth > DEPTH_LIMIT || *count > PARTS_LIMIT {
            return Err(Untouched::Unreadable(
                "its parts are nested too deeply, or too many".to_owned(),
            ));
        }
        let start = place.start;
        let bytes = &message[place];
        let content_type = header.first(bytes, "Content-Type");
        let mut part = Self {
            bytes,
            start,
            kind: media_type(content_type.as_deref()),
            content_type,
            encoding: header
                .first(bytes, "Content-Transfer-Encoding")
                .unwrap_or_default()
                .to_ascii_lowercase(),
            disposition: header
                .first(bytes, "Content-Disposition")
                .unwrap_or_default(),
            tight: false,
            parts: Vec::new(),
            header,
        };
        part.parts = part.read_parts(message, depth, count)?;
        Ok(part)
    }

    fn read_parts(
        &self,
        message: &'a [u8],
        depth: usize,
        count: &mut usize,
    ) -> Result<Vec<Part<'a>>, Untouched> {
        let mut parts = Vec::new();
        let content_type = self.content_type.as_deref().unwrap_or_default();
        let plain = Transfer::of(&self.encoding).is_some_and(Transfer::is_identity);
        if !self.kind.starts_with("multipart/") || !plain {
            return Ok(parts);
        }
        let Some(boundary) = boundary(content_type) else {
            return Ok(parts);
        };
        let split = crate::prepare::delimiters::split(&boundary, self.body());
        let body = self.start + self.header.body;
        for (n, (_, content)) in split.parts.iter().enumerate() {
            let next = split.parts.get(n + 1).map(|(delimiter, _)| delimiter);
            let next = next.or(split.close.as_ref());
            let place = body + content.start..body + content.end;
            // A part whose header nobody understands is no body.
            let Ok(header) = Header::parse(&message[place.clone()]) else {
                continue;
            };
            let mut part = Part::read(message, place, header, depth + 1, count)?;
            part.tight = next.is_some_and(|delimiter| delimiter.start == content.end);
            parts.push(part);
        }
        Ok(parts)
    }

    fn body(&self) -> &'a [u8] {
        &self.bytes[self.header.body..]
    }

    fn parameter(&self, name: &str) -> Option<String> {
        parameter(self.content_type.as_deref()?, name)
    }

    /// The name of its charset; RFC 2231 lets it be written in two ways.
    fn charset(&self) -> Option<String> {
        self.parameter("charset").or_else(|| {
            let extended = self.parameter("charset*")?;
            extended.rsplit('\'').next().map(str::to_owned)
        })
    }

    /// A file, whatever its type is.
    fn is_file(&self) -> bool {
        let disposition = media_type(Some(&self.disposition));
        let content_type = self.content_type.as_deref().unwrap_or_default();
        !matches!(disposition.as_str(), "" | "inline")
            || file_name(&self.disposition, "filename").is_some()
            || file_name(content_type, "name").is_some()
    }

    fn is_body(&self) -> bool {
        matches!(self.kind.as_str(), "" | "text/plain" | "text/html") && !self.is_file()
    }

    /// Whether neither it nor anything in it forbids to change the message.
    fn may_change(&self) -> Result<(), Untouched> {
        match self.kind.as_str() {
            "multipart/signed" => return Err(Untouched::Signed),
            "multipart/encrypted" | "application/pgp-encrypted" => {
                return Err(Untouched::Encrypted);
            }
            "multipart/report" => return Err(Untouched::Report),
            "application/pkcs7-mime" | "application/x-pkcs7-mime" => {
                let smime = self.parameter("smime-type").unwrap_or_default();
                return Err(if smime.eq_ignore_ascii_case("signed-data") {
                    Untouched::Signed
                } else {
                    Untouched::Encrypted
                });
            }
            _ => {}
        }
        if self.is_body() {
            self.has_no_pgp()?;
        }
        self.parts.iter().try_for_each(Part::may_change)
    }

    fn has_no_pgp(&self) -> Result<(), Untouched> {
        let raw = self.body();
        let text = if raw.len() > TEXT_LIMIT {
            None
        } else {
            Transfer::of(&self.encoding).and_then(|transfer| transfer.decode(raw))
        };
        let text = text.unwrap_or(Cow::Borrowed(raw));
        let marks: [(&[u8], Untouched); 2] = [
            (b"-----BEGIN PGP MESSAGE-----", Untouched::Encrypted),
            (b"-----BEGIN PGP SIGNED MESSAGE-----", Untouched::Signed),
        ];
        // Behind `>` it is only quoted.
        let begins =
            |at: usize| self.kind == "text/html" || at == 0 || text.get(at - 1) == Some(&b'\n');
        for (mark, why) in marks {
            if memchr::memmem::find_iter(&text, mark).any(begins) {
                return Err(why);
            }
        }
        Ok(())
    }

    /// Collects its text bodies, each with whether it may hold 8-bit octets. `false`: there is none.
    fn bodies<'p>(&'p self, eight_bit: bool, found: &mut Vec<(&'p Part<'a>, bool)>) -> bool {
        if self.is_body() {
            found.push((self, eight_bit));
            return true;
        }
        if self.is_file() || NO_BODIES.contains(&self.kind.as_str()) {
            return false;
        }
        let eight_bit = eight_bit && Transfer::of(&self.encoding) == Some(Transfer::Eight);
        match self.kind.as_str() {
            "multipart/alternative" => {
                let before = found.len();
                for part in &self.parts {
                    part.bodies(eight_bit, found);
                }
                found.len() > before
            }
            "multipart/related" => self
                .root()
                .is_some_and(|part| part.bodies(eight_bit, found)),
            _ => self.first_bodies(eight_bit, found),
        }
    }

    /// The part that multipart/related shows (RFC 2387 section 3.2).
    fn root(&self) -> Option<&Part<'a>> {
        let bare = |id: &str| id.trim().trim_matches(['<', '>']).to_owned();
        let start = self.parameter("start").map(|id| bare(&id));
        let named = self.parts.iter().find(|part| {
            let id = part.header.first(part.bytes, "Content-ID");
            start.is_some() && id.map(|id| bare(&id)) == start
        });
        named.or(self.parts.first())
    }

    /// The first text of multipart/mixed, and the HTML beside it; what follows another part is no
    /// body any more.
    fn first_bodies<'p>(&'p self, eight_bit: bool, found: &mut Vec<(&'p Part<'a>, bool)>) -> bool {
        let before = found.len();
        let (mut plain, mut html) = (false, false);
        for part in &self.parts {
            if part.is_body() {
                let seen = if part.kind == "text/html" {
                    &mut html
                } else {
                    &mut plain
                };
                if !std::mem::replace(seen, true) {
                    found.push((part, eight_bit));
                }
            } else if plain || html || part.bodies(eight_bit, found) {
                break;
            }
        }
        found.len() > before
    }

    /// What changes for the signature; `None`: this part cannot take it.
    fn sign(&self, eight_bit: bool, lines: &[String]) -> Option<Vec<Change>> {
        let raw = self.body();
        let twice = ["Content-Type", "Content-Transfer-Encoding"]
            .iter()
            .any(|name| self.header.count(self.bytes, name) > 1);
        if twice || raw.len() > TEXT_LIMIT {
            return None;
        }
        let transfer = Transfer::of(&self.encoding)?;
        let text = transfer.decode(raw)?;
        let own = Charset::of(self.charset().as_deref());
        if own == Charset::Foreign || memchr::memchr(0, &text).is_some() {
            return None;
        }
        // Only base64 hides line ends that are not those of mail.
        let lone = memchr::memchr(b'\n', &text).is_some_and(|end| !text[..end].ends_with(b"\r"));
        let newline: &[u8] = if lone && transfer == Transfer::Base64 {
            b"\n"
        } else {
            b"\r\n"
        };
        let draft = if self.kind == "text/html" {
            // A 7-bit part stays one, for references are ASCII.
            let charset = if transfer == Transfer::Seven {
                Charset::Ascii
            } else {
                own
            };
            let at = html::place(&text)?;
            let insertion = html::insertion(&text, at, lines, own, charset, newline);
            insertion.map(|insertion| Draft {
                transfer,
                eight_bit,
                text,
                converted: false,
                insertion,
                charset: None,
            })
        } else {
            self.draft(own, transfer, eight_bit, text, lines, newline)
        };
        let Some(draft) = draft else {
            return Some(Vec::new());
        };
        if own.is_shifted(&draft.text[..draft.insertion.at]) {
            return None;
        }
        self.write(draft)
    }

    /// Plain text with the signature; `None`: it stands there already.
    fn draft<'t>(
        &self,
        own: Charset,
        transfer: Transfer,
        eight_bit: bool,
        text: Cow<'t, [u8]>,
        lines: &[String],
        newline: &[u8],
    ) -> Option<Draft<'t>> {
        let flowed = self
            .parameter("format")
            .is_some_and(|format| format.eq_ignore_ascii_case("flowed"));
        // 8-bit text that does not say what it is: as header fields are read.
        let actual = match own {
            Charset::Ascii if text.is_ascii() => Charset::Ascii,
            Charset::Ascii if std::str::from_utf8(&text).is_ok() => Charset::Utf8,
            Charset::Ascii => Charset::Windows1252,
            own => own,
        };
        let encoded: Option<Vec<Vec<u8>>> = lines.iter().map(|l| actual.encode(l)).collect();
        let (charset, encoded) = match encoded {
            Some(encoded) => (actual, encoded),
            None => {
                let utf8 = lines.iter().map(|l| l.as_bytes().to_vec()).collect();
                (Charset::Utf8, utf8)
            }
        };
        let converted = charset != actual && !text.is_ascii();
        let text = if converted {
            Cow::Owned(actual.decode(&text).into_bytes())
        } else {
            text
        };
        let insertion = text::insertion(&text, &encoded, flowed, newline)?;
        // What says nothing and stays as right or wrong as it was goes on saying nothing.
        let said = insertion.octets.is_ascii() && self.content_type.is_some();
        Some(Draft {
            transfer,
            eight_bit,
            converted,
            insertion,
            charset: (charset != own && !said).then_some(charset),
            text,
        })
    }

    fn write(&self, draft: Draft<'_>) -> Option<Vec<Change>> {
        let raw = self.body();
        let Insertion { at, octets } = draft.insertion;
        let whole = [&draft.text[..at], octets.as_slice(), &draft.text[at..]].concat();
        let everything = 0..raw.len();
        let (place, mut octets, encoding) = match draft.transfer {
            Transfer::Seven | Transfer::Eight => {
                // Without any field of MIME, 8-bit text is all that there can be.
                let bare = self.start == 0 && self.content_type.is_none();
                let bare = bare && self.encoding.is_empty();
                let eight_bit = match draft.transfer {
                    Transfer::Eight => draft.eight_bit || !raw.is_ascii(),
                    _ => bare,
                };
                if has_long_line(&whole) || !(eight_bit || whole.is_ascii()) {
                    let whole = quoted_printable(&whole);
                    (everything, whole, Some("quoted-printable"))
                } else {
                    let encoding = (bare && !whole.is_ascii()).then_some("8bit");
                    if draft.converted {
                        (everything, whole, encoding)
                    } else {
                        (at..at, octets, encoding)
                    }
                }
            }
            Transfer::Quoted if draft.converted => (everything, quoted_printable(&whole), None),
            Transfer::Quoted => {
                let (at, octets) = transfer::insert_quoted(raw, at, draft.text.len(), &octets)?;
                (at..at, octets, None)
            }
            Transfer::Base64 => (everything, transfer::base64_like(raw, &whole), None),
        };
        if self.tight {
            octets.extend_from_slice(b"\r\n");
        }
        let body = self.start + self.header.body;
        let mut changes = Vec::new();
        if let Some(head) = self.head(draft.charset, encoding) {
            changes.push(Change {
                place: self.start..body,
                octets: head,
            });
        }
        changes.push(Change {
            place: body + place.start..body + place.end,
            octets,
        });
        Some(changes)
    }

    /// Its header with a new charset and encoding; `None`: it stays.
    fn head(&self, charset: Option<Charset>, encoding: Option<&str>) -> Option<Vec<u8>> {
        let fields = &self.header.fields;
        let first = fields.first().map_or(0, |field| field.raw.start);
        let last = fields.last().map_or(0, |field| field.raw.end);
        let blank = &self.bytes[last..self.header.body];
        let whole = !blank.is_empty() || (fields.is_empty() && !self.bytes.is_empty());
        if charset.is_none() && encoding.is_none() && whole {
            return None;
        }
        let mut out = self.bytes[..first].to_vec();
        let (mut typed, mut encoded) = (false, false);
        for field in fields {
            let name = &self.bytes[field.name.clone()];
            if let Some(charset) = charset
                && name.eq_ignore_ascii_case(b"Content-Type")
            {
                typed = true;
                out.extend_from_slice(self.content_type_with(charset).as_bytes());
            } else if let Some(encoding) = encoding
                && name.eq_ignore_ascii_case(b"Content-Transfer-Encoding")
            {
                encoded = true;
                out.extend_from_slice(content_transfer_encoding(encoding).as_bytes());
            } else {
                out.extend_from_slice(&self.bytes[field.raw.clone()]);
            }
            if !out.ends_with(b"\n") {
                out.extend_from_slice(b"\r\n");
            }
        }
        if let Some(charset) = charset
            && !typed
        {
            if self.start == 0 && self.header.count(self.bytes, "MIME-Version") == 0 {
                out.extend_from_slice(b"MIME-Version: 1.0\r\n");
            }
            out.extend_from_slice(self.content_type_with(charset).as_bytes());
        }
        if let Some(encoding) = encoding
            && !encoded
        {
            out.extend_from_slice(content_transfer_encoding(encoding).as_bytes());
        }
        // Without fields, what stands in front of the body is no header either.
        let blank: &[u8] = if fields.is_empty() || blank.is_empty() {
            b"\r\n"
        } else {
            blank
        };
        out.extend_from_slice(blank);
        Some(out)
    }

    /// The field with another charset; its other parameters stay.
    fn content_type_with(&self, charset: Charset) -> String {
        let value = self.content_type.as_deref().unwrap_or_default();
        let mut pieces = split_parameters(value).into_iter().map(str::trim);
        let kind = pieces.next().filter(|kind| !kind.is_empty());
        let mut kept = vec![
            kind.unwrap_or("text/plain").to_owned(),
            format!("charset={}", charset.name()),
        ];
        kept.extend(pieces.filter(|piece| !is_charset(piece)).map(str::to_owned));
        kept.retain(|piece| !piece.is_empty());
        let separator = if kept.iter().map(String::len).sum::<usize>() > 50 {
            ";\r\n "
        } else {
            "; "
        };
        format!("Content-Type: {}\r\n", kept.join(separator))
    }
}

fn is_charset(piece: &str) -> bool {
    let name = piece.split(['=', '*']).next().unwrap_or_default();
    name.trim().eq_ignore_ascii_case("charset")
}

fn content_transfer_encoding(encoding: &str) -> String {
    format!("Content-Transfer-Encoding: {encoding}\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = "<br>\n<div class=\"postbote-signature\">Grüße<br>\nErika &amp; Co</div>";
    const REFERENCES: &str =
        "<br>\n<div class=\"postbote-signature\">Gr&#252;&#223;e<br>\nErika &amp; Co</div>";

    fn with(message: &[u8], signature: &str) -> Result<Vec<u8>, Untouched> {
        let header = Header::parse(message).expect("a header");
        insert(message, &header, signature)
    }

    fn crlf(text: &str) -> Vec<u8> {
        text.replace('\n', "\r\n").into_bytes()
    }

    fn shown(octets: &[u8]) -> String {
        octets.escape_ascii().to_string().replace("\\r\\n", "\n")
    }

    /// Text with each character below U+0100 as one octet, as ISO-8859-1 writes it.
    fn narrow(text: &str) -> Vec<u8> {
        let octets = text.chars().map(|c| u8::try_from(c).expect("latin"));
        octets.collect()
    }

    #[test]
    fn ascii() {
        for (message, expected) in [
            ("A: b\n\nHallo\n", "A: b\n\nHallo\n\n-- \nMfG\nErika\n"),
            ("A: b\n\n", "A: b\n\n-- \nMfG\nErika\n"),
            ("A: b\n", "A: b\n\n-- \nMfG\nErika\n"),
            ("Hallo Welt\n", "Hallo Welt\n\n-- \nMfG\nErika\n"),
            ("\nHallo\n", "\nHallo\n\n-- \nMfG\nErika\n"),
            (
                "Content-Type: text/plain; charset=koi8-r\nContent-Transfer-Encoding: base64\n\nSGFsbG8K\n",
                "Content-Type: text/plain; charset=koi8-r\nContent-Transfer-Encoding: base64\n\nSGFsbG8KCi0tIApNZkcKRXJpa2EK\n",
            ),
            (
                "Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\nHal=\nlo=20\n=20\n",
                "Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\nHal=\nlo=20\n=20\n--=20\nMfG\nErika\n",
            ),
            (
                "Content-Type: text/html\n\n<p>Hallo</p>\n",
                "Content-Type: text/html\n\n<p>Hallo</p>\n<br>\n<div class=\"postbote-signature\">MfG<br>\nErika</div>\n",
            ),
        ] {
            let done = with(&crlf(message), "\n-- \nMfG \r\nErika\n\n").expect(message);
            assert_eq!(shown(&done), shown(&crlf(expected)));
            let again = with(&done, "MfG\nErika").err();
            assert_eq!(again, Some(Untouched::Present), "never twice");
        }
        let unchanged = with(b"A: b\r\n\r\nHallo\r\n", " \n-- \n").expect("no signature");
        assert_eq!(unchanged, b"A: b\r\n\r\nHallo\r\n");
    }

    #[test]
    fn charsets_and_encodings() {
        for (message, expected) in [
            (
                "A: b\n\nHallo\n",
                "A: b\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nHallo\n\n-- \nGrÃ¼Ã\u{9f}e\nErika & Co\n",
            ),
            (
                "Hallo Welt\n",
                "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nHallo Welt\n\n-- \nGrÃ¼Ã\u{9f}e\nErika & Co\n",
            ),
            (
                "A: b\n\nschön\n",
                "A: b\nMIME-Version: 1.0\nContent-Type: text/plain; charset=windows-1252\nContent-Transfer-Encoding: 8bit\n\nschön\n\n-- \nGrüße\nErika & Co\n",
            ),
            (
                "Content-Type: text/plain\nA: b\n\nHallo\n",
                "Content-Type: text/plain; charset=utf-8\nA: b\nContent-Transfer-Encoding: quoted-printable\n\nHallo\n\n--=20\nGr=C3=BC=C3=9Fe\nErika & Co\n",
            ),
            (
                "Content-Type: text/plain; charset=\"us-ascii\";\n\tformat=flowed\nContent-Transfer-Encoding: 7bit\n\nHallo\n",
                "Content-Type: text/plain; charset=utf-8; format=flowed\nContent-Transfer-Encoding: quoted-printable\n\nHallo\n\n--=20\nGr=C3=BC=C3=9Fe\nErika & Co\n",
            ),
            (
                "Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: 8bit\n\nschön\n",
                "Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: 8bit\n\nschön\n\n-- \nGrüße\nErika & Co\n",
            ),
            (
                "Content-Type: text/plain; charset=iso-8859-15\nContent-Transfer-Encoding: quoted-printable\n\nsch=F6n\n",
                "Content-Type: text/plain; charset=iso-8859-15\nContent-Transfer-Encoding: quoted-printable\n\nsch=F6n\n\n--=20\nGr=FC=DFe\nErika & Co\n",
            ),
            (
                "Content-Type: text/plain; charset=koi8-r\nContent-Transfer-Encoding: 8bit\n\n\u{c1}\n",
                "Content-Type: text/plain; charset=koi8-r\nContent-Transfer-Encoding: 8bit\n\n\u{c1}\n\n-- \nGruesse\nErika & Co\n",
            ),
            (
                "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\nSGFsbG8=",
                "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\nSGFsbG8NCg0KLS0gDQpHcsO8w59lDQpFcmlrYSAmIENv\n",
            ),
        ] {
            let message = narrow(&message.replace('\n', "\r\n"));
            let expected = narrow(&expected.replace('\n', "\r\n"));
            let done = with(&message, "Grüße\nErika & Co").expect("signed");
            assert_eq!(shown(&done), shown(&expected));
        }
    }

    #[test]
    fn converted_to_utf8() {
        for (charset, encoding, body, expected) in [
            (
                "iso-8859-1",
                "8bit",
                &b"sch\xf6n \x80\r\n"[..],
                "schön €\r\n\r\n-- \r\nŁ €\r\n",
            ),
            (
                "iso-8859-1",
                "quoted-printable",
                b"sch=F6n\r\n",
                "sch=C3=B6n\r\n\r\n--=20\r\n=C5=81 =E2=82=AC\r\n",
            ),
            (
                "iso-8859-15",
                "base64",
                b"pA==\r\n",
                "4oKsDQoNCi0tIA0KxYEg4oKs\r\n",
            ),
            (
                "windows-1252",
                "8bit",
                b"Hallo\r\n",
                "Hallo\r\n\r\n-- \r\nŁ €\r\n",
            ),
        ] {
            let head = format!(
                "Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
            );
            let done = with(&[head.as_bytes(), body].concat(), "Ł €").expect("signed");
            let expected = format!("{}{expected}", head.replace(charset, "utf-8"));
            assert_eq!(shown(&done), shown(expected.as_bytes()), "{charset}");
        }
    }

    /// `§` marks where the signature of a text comes, `¶` that of HTML.
    #[test]
    fn bodies_of_multiparts() {
        const PLAIN: &str =
            "--p\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nä§\n";
        const HTML: &str = "Content-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n<p>ä</p>¶\n";
        const IMAGE: &str = "\n--p\nContent-Type: image/png\nContent-Disposition: inline\n\nx\n";
        let other = PLAIN.replace('§', "");
        for (kind, parts) in [
            ("mixed", format!("preamble\n{PLAIN}--p--\nepilogue\n")),
            ("mixed", format!("{PLAIN}{other}--p--\n")),
            ("mixed", format!("{PLAIN}{IMAGE}{other}--p--\n")),
            ("mixed", format!("{IMAGE}{PLAIN}{IMAGE}--p--\n")),
            (
                "mixed",
                format!("{PLAIN}--p\nContent-Type: text/csv\n\na;b\n--p--\n"),
            ),
            (
                "mixed",
                format!(
                    "{PLAIN}--p\nContent-Type: text/plain\nContent-Disposition: attachment\n\na\n--p--\n"
                ),
            ),
            (
                "mixed",
                format!("--p\nContent-Type: text/plain; name=a.txt\n\na\n{PLAIN}--p--\n"),
            ),
            (
                "mixed",
                format!("{PLAIN}--p\nContent-Type: message/rfc822\n\nA: b\n\na\n--p--\n"),
            ),
            ("mixed", format!("{PLAIN}--p\n{HTML}--p--\n")),
            (
                "alternative",
                format!(
                    "{PLAIN}--p\n{HTML}--p\nContent-Type: text/calendar\n\nBEGIN:VCALENDAR\n--p--\n"
                ),
            ),
            (
                "alternative",
                format!(
                    "{PLAIN}--p\nContent-Type: multipart/related; boundary=r\n\n--r\n{HTML}--r\nContent-Type: image/png\nContent-ID: <i>\n\nx\n--r--\n--p--\n"
                ),
            ),
            (
                "mixed",
                format!(
                    "--p\nContent-Type: multipart/alternative; boundary=a\n\n--a\n{HTML}--a--\n{other}--p--\n"
                ),
            ),
            (
                "related; start=\"<b>\"",
                format!("{other}--p\nContent-ID: <b>\n{HTML}--p--\n"),
            ),
        ] {
            let message =
                format!("MIME-Version: 1.0\nContent-Type: multipart/{kind}; boundary=p\n\n{parts}");
            let expected = message
                .replace('§', "\n\n-- \nGrüße\nErika & Co")
                .replace('¶', &format!("\n{BLOCK}"));
            let done = with(&crlf(&message.replace(['§', '¶'], "")), "Grüße\nErika & Co");
            assert_eq!(shown(&done.expect(&parts)), shown(&crlf(&expected)));
        }
    }

    #[test]
    fn odd_parts() {
        for (parts, expected) in [
            // Neither header nor text, and no line end in front of the delimiter.
            (
                "--p\n--p--\n",
                "--p\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n--=20\nGr=C3=BC=C3=9Fe\nErika & Co\n--p--\n",
            ),
            // No blank line.
            (
                "--p\nContent-Type: text/html\n--p--\n",
                &format!("--p\nContent-Type: text/html\n\n{REFERENCES}\n--p--\n"),
            ),
            // No header, no closing delimiter.
            (
                "--p\n\na\n",
                "--p\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\na\n\n--=20\nGr=C3=BC=C3=9Fe\nErika & Co\n",
            ),
            // The multipart does not say that it holds 8 bits.
            (
                "--p\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\na\n--p--\n",
                "--p\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\na\n\n--=20\nGr=C3=BC=C3=9Fe\nErika & Co\n--p--\n",
            ),
        ] {
            let head = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=p\n\n";
            let done = with(&crlf(&format!("{head}{parts}")), "Grüße\nErika & Co").expect(parts);
            assert_eq!(shown(&done), shown(&crlf(&format!("{head}{expected}"))));
        }
    }

    /// Only if all bodies have it, nothing is added.
    #[test]
    fn stands_there_already() {
        let head = "Content-Type: multipart/alternative; boundary=p\n\n";
        let plain = |text: &str| format!("--p\nContent-Type: text/plain\n\na\n{text}");
        let html = |text: &str| format!("--p\nContent-Type: text/html\n\n<p>a</p>{text}\n");
        let (signed, signed_html) = ("\n-- \nMfG\n", "<p>MfG</p>");
        for (parts, why) in [
            ([plain(signed), html(signed_html)], Some(Untouched::Present)),
            ([plain(signed), html("<!--")], Some(Untouched::Present)),
            ([plain(signed), html("")], None),
            ([plain(""), html(signed_html)], None),
            ([plain(""), html("<!--")], None),
            ([html("<!--"), html("<b ")], Some(Untouched::NoText)),
        ] {
            let message = crlf(&format!("{head}{}--p--\n", parts.concat()));
            assert_eq!(with(&message, "MfG").err(), why, "{parts:?}");
        }
        assert!(!Untouched::Present.is_worth_a_word());
        assert!(Untouched::NoText.is_worth_a_word());
        let quoting = "A: b\n\nJa.\n\n-----Original Message-----\na\n\n-- \nMfG\n";
        assert!(with(&crlf(quoting), "MfG").is_ok(), "it was in their mail");
    }

    #[test]
    fn html_of_other_charsets() {
        for (charset, encoding, text) in [
            ("utf-8", "7bit", REFERENCES),
            ("koi8-r", "8bit", REFERENCES),
            ("us-ascii", "8bit", REFERENCES),
            ("utf-8", "8bit", BLOCK),
        ] {
            let head = format!(
                "MIME-Version: 1.0\nContent-Type: text/html; charset={charset}\nContent-Transfer-Encoding: {encoding}\n\n<body>a"
            );
            let done =
                with(&crlf(&format!("{head}</body>\n")), "Grüße\nErika & Co").expect("signed");
            assert_eq!(
                shown(&done),
                shown(&crlf(&format!("{head}\n{text}\n</body>\n")))
            );
        }
    }

    #[test]
    fn untouched() {
        let unreadable = |why: &str| Untouched::Unreadable(why.to_owned());
        let mut deep = "Content-Type: text/plain\n\na\n".to_owned();
        for n in 0..=DEPTH_LIMIT {
            if n == DEPTH_LIMIT {
                assert!(with(&crlf(&deep), "MfG").is_ok(), "not too deep");
            }
            deep = format!(
                "Content-Type: multipart/mixed; boundary=b{n}_\n\n--b{n}_\n{deep}\n--b{n}_--\n"
            );
        }
        for (message, why) in [
            (
                "Content-Type: multipart/signed; boundary=p\n\n--p\n\na\n--p--\n",
                Untouched::Signed,
            ),
            (
                "Content-Type: multipart/mixed; boundary=p\n\n--p\n\na\n--p\nContent-Type: multipart/signed\n\n--p--\n",
                Untouched::Signed,
            ),
            (
                "Content-Type: multipart/encrypted; boundary=p\n\n--p\n\na\n--p--\n",
                Untouched::Encrypted,
            ),
            (
                "Content-Type: multipart/report; boundary=p\n\n--p\n\na\n--p--\n",
                Untouched::Report,
            ),
            (
                "Content-Type: application/pkcs7-mime; smime-type=enveloped-data\n\na\n",
                Untouched::Encrypted,
            ),
            (
                "Content-Type: application/x-pkcs7-mime; smime-type=\"signed-data\"\n\na\n",
                Untouched::Signed,
            ),
            (
                "A: b\n\n-----BEGIN PGP MESSAGE-----\n",
                Untouched::Encrypted,
            ),
            (
                "A: b\n\nx\n-----BEGIN PGP SIGNED MESSAGE-----\n",
                Untouched::Signed,
            ),
            (
                "Content-Transfer-Encoding: base64\n\nLS0tLS1CRUdJTiBQR1AgTUVTU0FHRS0tLS0tCg==\n",
                Untouched::Encrypted,
            ),
            ("Content-Type: application/pdf\n\na\n", Untouched::NoText),
            ("Content-Type: text/calendar\n\na\n", Untouched::NoText),
            (
                "Content-Type: text/plain; charset=utf-16\nContent-Transfer-Encoding: base64\n\nAGE=\n",
                Untouched::NoText,
            ),
            (
                "Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\nSGFs*bG8=\n",
                Untouched::NoText,
            ),
            (
                "Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\na=XY\n",
                Untouched::NoText,
            ),
            (
                "Content-Type: text/plain\nContent-Transfer-Encoding: x-uuencode\n\na\n",
                Untouched::NoText,
            ),
            (
                "Content-Type: text/plain\nContent-Disposition: attachment\n\na\n",
                Untouched::NoText,
            ),
            (
                "Content-Type: text/plain; charset=iso-2022-jp\n\na\n\u{1b}$B\n",
                Untouched::NoText,
            ),
            (
                "Content-Type: multipart/mixed\n\na\n",
                unreadable("its parts cannot be told apart"),
            ),
            (
                &deep,
                unreadable("its parts are nested too deeply, or too many"),
            ),
        ] {
            assert_eq!(with(&crlf(message), "Grüße").err(), Some(why), "{message}");
        }
        let quoted = "A: b\n\nJa.\n\n> -----BEGIN PGP MESSAGE-----\n";
        assert!(with(&crlf(quoted), "MfG").is_ok(), "quoted, it is nobody's");
        let large = format!("A: b\n\n{}\n", "x\n".repeat(TEXT_LIMIT / 2));
        assert_eq!(with(&crlf(&large), "MfG").err(), Some(Untouched::NoText));
    }

    proptest::proptest! {
        /// Whatever the message is: nothing of it is lost, and it is never signed twice.
        #[test]
        fn nothing_is_lost(lines in proptest::collection::vec("(--x(--)?|Content-Type: text/(plain|html)(; charset=(utf-8|iso-8859-1))?|Content-Transfer-Encoding: (8bit|base64|quoted-printable)||[ -~äß€=<>/]{0,20})", 0..20)) {
            let text = lines.join("\r\n");
            let message = format!("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n{text}\r\n");
            if let Ok(done) = with(message.as_bytes(), "Grüße\nErika") {
                let header = Header::parse(&done).expect("a header");
                let again = insert(&done, &header, "Grüße\nErika").err();
                proptest::prop_assert_eq!(again, Some(Untouched::Present));
            }
        }
    }
}
