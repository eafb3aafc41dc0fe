//! The header section as fields in their original order and bytes (RFC 5322 section 2.2).
//!
//! Nothing is decoded and nothing copied: a field is a range of the message. What the rewriter
//! does not touch leaves byte for byte as it came.

use std::ops::Range;

/// One field: its place in the message and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The whole field with folds and its last line end.
    pub raw: Range<usize>,
    /// The name without colon and blanks.
    pub name: Range<usize>,
    /// What stands behind the colon, last line end included.
    pub value: Range<usize>,
}

/// The header section of a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// Fields in order.
    pub fields: Vec<Field>,
    /// Where the body begins, behind the blank line.
    pub body: usize,
    /// The message began without any field: all of it is body.
    pub headerless: bool,
}

/// Why a header section is unusable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// A line without a field name.
    #[error("line {0} of the header is not a header field")]
    NotAField(usize),
    /// The first line continues nothing.
    #[error("the header begins with a blank")]
    LeadingBlank,
    /// Over the limit of octets or fields.
    #[error("the header is too big")]
    TooBig,
}

impl Header {
    /// Finds the fields. A UNIX mailbox line (`From someone …`) in front is skipped; a message
    /// that begins with no field at all is taken as body without header, as old mailers send it.
    pub fn parse(message: &[u8]) -> Result<Self, HeaderError> {
        use super::content::{FIELD_LIMIT, FIELDS_LIMIT, HEADER_LIMIT};
        let mut header = Self::default();
        // Whoever has only the beginning of a message comes to the same result.
        let message = &message[..message.len().min(HEADER_LIMIT + 2)];
        let mut at = 0;
        let mut line_number = 0;
        while at < message.len() {
            let end = memchr::memchr(b'\n', &message[at..]).map_or(message.len(), |n| at + n + 1);
            let line = &message[at..end];
            line_number += 1;
            if line == b"\r\n" || line == b"\n" {
                header.body = end;
                header.headerless = header.fields.is_empty();
                return Ok(header);
            }
            if end > HEADER_LIMIT && !header.fields.is_empty() {
                return Err(HeaderError::TooBig);
            }
            if matches!(line.first(), Some(b' ' | b'\t')) {
                let Some(field) = header.fields.last_mut() else {
                    return Err(HeaderError::LeadingBlank);
                };
                field.raw.end = end;
                field.value.end = end;
                if field.raw.len() > FIELD_LIMIT {
                    return Err(HeaderError::TooBig);
                }
            } else if let Some((name, value)) = field_name(line) {
                header.fields.push(Field {
                    raw: at..end,
                    name: at..at + name,
                    value: at + value..end,
                });
                if header.fields.len() > FIELDS_LIMIT || line.len() > FIELD_LIMIT {
                    return Err(HeaderError::TooBig);
                }
            } else if line_number == 1
                && (line.starts_with(b"From ") || line.starts_with(b">From "))
            {
                // skipped
            } else if header.fields.is_empty() {
                if let Some(line) = misspelt_field(&message[at..]) {
                    return Err(HeaderError::NotAField(line_number + line));
                }
                return Ok(Self {
                    fields: Vec::new(),
                    body: 0,
                    headerless: true,
                });
            } else {
                return Err(HeaderError::NotAField(line_number));
            }
            at = end;
            if at > HEADER_LIMIT {
                return Err(HeaderError::TooBig);
            }
        }
        header.body = message.len();
        header.headerless = header.fields.is_empty();
        Ok(header)
    }

    /// Fields of one name, in order.
    pub fn all<'a>(
        &'a self,
        message: &'a [u8],
        name: &'a str,
    ) -> impl Iterator<Item = &'a Field> + 'a {
        self.fields
            .iter()
            .filter(move |f| message[f.name.clone()].eq_ignore_ascii_case(name.as_bytes()))
    }

    /// The unfolded value of the first field of that name, bytes as they came (lossy UTF-8).
    pub fn first(&self, message: &[u8], name: &str) -> Option<String> {
        self.all(message, name)
            .next()
            .map(|f| unfold(&message[f.value.clone()]))
    }

    /// How many fields have that name.
    pub fn count(&self, message: &[u8], name: &str) -> usize {
        self.all(message, name).count()
    }
}

/// Length of the name and offset of the value, when the line is a field. Blanks between name and
/// colon are tolerated (obsolete syntax, RFC 5322 section 4.5).
fn field_name(line: &[u8]) -> Option<(usize, usize)> {
    let colon = memchr::memchr(b':', line)?;
    let name = line[..colon].trim_ascii_end();
    let valid =
        !name.is_empty() && name.len() <= 200 && name.iter().all(|b| (33..=126).contains(b));
    valid.then_some((name.len(), colon + 1))
}

/// Looks for a header in what begins with no field: a first field whose name has blanks in it or
/// before it, a fold, or a byte order mark; or a Bcc further on, which nobody else must read. Gives
/// its line, from 0.
fn misspelt_field(text: &[u8]) -> Option<usize> {
    const USUAL: [&str; 17] = [
        "From",
        "To",
        "Cc",
        "Bcc",
        "Subject",
        "Date",
        "Sender",
        "Reply-To",
        "Message-ID",
        "In-Reply-To",
        "References",
        "MIME-Version",
        "Content-Type",
        "Content-Transfer-Encoding",
        "Received",
        "Return-Path",
        "X-Mailer",
    ];
    const HIDDEN: [&str; 2] = ["Bcc", "Resent-Bcc"];
    // Longer ones are no names of fields.
    const LONGEST: usize = 200;
    let mut names: Vec<(usize, Vec<u8>)> = Vec::new();
    let mut goes_on = false;
    for (number, line) in text.split(|&b| b == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            break;
        }
        let is_fold = matches!(line.first(), Some(b' ' | b'\t'));
        let colon = memchr::memchr(b':', line);
        let part = &line[..colon.map_or(line.len(), |at| at + 1).min(LONGEST)];
        match names.last_mut() {
            Some((_, name)) if is_fold => {
                if goes_on {
                    name.extend_from_slice(part);
                    goes_on = colon.is_none() && name.len() < LONGEST;
                }
            }
            _ => {
                // Only what began on this line may still become a name.
                if names.last().is_some_and(|(_, name)| !name.ends_with(b":")) {
                    names.pop();
                }
                names.push((number, part.to_vec()));
                goes_on = colon.is_none() && part.len() < LONGEST;
            }
        }
    }
    names.into_iter().find_map(|(number, line)| {
        let colon = memchr::memchr(b':', &line)?;
        let name: Vec<u8> = line[..colon]
            .iter()
            .copied()
            .filter(|b| (33..=126).contains(b))
            .collect();
        let known: &[&str] = if number == 0 { &USUAL } else { &HIDDEN };
        known
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
            .then_some(number)
    })
}

/// A value on one line, trimmed.
pub fn unfold(value: &[u8]) -> String {
    let text: String = super::rfc2047::decode_raw(value)
        .chars()
        .filter(|c| !matches!(c, '\r' | '\n'))
        .collect();
    text.trim_matches([' ', '\t']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let m = b"From someone Sat\r\nFrom : a@b\r\nSubject: x\r\n folded\r\n\r\nbody: no\r\n";
        let h = Header::parse(m).expect("valid");
        assert_eq!(h.fields.len(), 2);
        assert_eq!(&m[h.fields[0].name.clone()], b"From");
        assert_eq!(h.first(m, "subject").as_deref(), Some("x folded"));
        assert_eq!(&m[h.body..], b"body: no\r\n");
    }

    #[test]
    fn odd_ones() {
        let parse = |m: &[u8]| Header::parse(m);
        assert!(
            parse(b"Hello world\r\nmore\r\n")
                .expect("headerless")
                .headerless
        );
        for text in [
            &b"Hello,\r\n  an indented line\r\n"[..],
            b"Hello,\r\n  to: nobody\r\n",
            &[&b"a"[..], &b"\r\n  ".repeat(80_000)].concat(),
            &b"a: b c\r\nd e f\r\n".repeat(20_000)[6..],
            b"Scan of today\r\nFrom: scanner 5\r\n",
            b"Dear Sir: hello\r\nmore\r\n",
            b"Hello\r\n\r\nBcc: is what we speak of\r\n",
            &[&vec![b'a'; 300_000][..], b"\r\n x\r\n"].concat(),
        ] {
            assert!(parse(text).expect("headerless").headerless);
        }
        for (text, line) in [
            (&b"Fr om: a@evil\r\nBcc: boss@t\r\n\r\nx"[..], 1),
            (b"\xef\xbb\xbfFrom: a@b\r\nTo: c@d\r\n\r\nx", 1),
            (b"Fr\xfcom\r\nTo: c@d\r\nbcc: boss@t\r\n\r\nx", 3),
            (b"From\r\n  : a@b\r\n\r\nx", 1),
        ] {
            assert_eq!(parse(text), Err(HeaderError::NotAField(line)));
        }
        // A beginning that is cut says what the whole says.
        let fill = [&b"A: "[..], &vec![b'a'; 995], b"\r\n"]
            .concat()
            .repeat(261);
        let last = [&b"A: "[..], &vec![b'a'; 1135], b"\r\n"].concat();
        let whole = [&fill, &last, &b"Subject-Long: x\r\n\r\nbody"[..]].concat();
        assert_eq!(parse(&whole), Err(HeaderError::TooBig));
        assert_eq!(parse(&whole[..262_146]), Err(HeaderError::TooBig));
        assert!(parse(b"\r\nbody\r\n").expect("blank first").headerless);
        assert_eq!(parse(b"\r\nbody\r\n").expect("blank first").body, 2);
        assert_eq!(parse(b"Subject: x\r\n").expect("no blank line").body, 12);
        assert_eq!(
            parse(b"Subject: x\r\ngarbage\r\n\r\n"),
            Err(HeaderError::NotAField(2))
        );
        assert_eq!(parse(b" From: a@b\r\n\r\n"), Err(HeaderError::LeadingBlank));
        assert_eq!(
            parse(b"From\r\n : a@evil\r\n\r\n"),
            Err(HeaderError::NotAField(1))
        );
        assert_eq!(
            parse(b"To: x@y\r\nFrom\r\n : a@evil\r\n\r\n"),
            Err(HeaderError::NotAField(2))
        );
        let many: Vec<u8> = b"A: b\r\n".repeat(1001);
        assert_eq!(parse(&many), Err(HeaderError::TooBig));
        let long = [b"A: ".to_vec(), vec![b'x'; 65 * 1024], b"\r\n".to_vec()].concat();
        assert_eq!(parse(&long), Err(HeaderError::TooBig));
    }
}
