//! Content-Transfer-Encodings of a text that something is put into: what is broken is not touched,
//! and quoted-printable stays as its writer broke it but for the place itself.

use std::borrow::Cow;

use crate::prepare::detach;
use crate::prepare::encode::{base64_lines, quoted_printable};

/// How a part is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transfer {
    /// Nothing said, or 7bit.
    Seven,
    /// 8bit and binary.
    Eight,
    /// quoted-printable.
    Quoted,
    /// base64.
    Base64,
}

impl Transfer {
    /// By its name in lower case; `None`: nobody knows it.
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            "" | "7bit" => Some(Self::Seven),
            "8bit" | "binary" => Some(Self::Eight),
            "quoted-printable" => Some(Self::Quoted),
            "base64" => Some(Self::Base64),
            _ => None,
        }
    }

    /// Whether it changes no octet.
    pub(super) fn is_identity(self) -> bool {
        matches!(self, Self::Seven | Self::Eight)
    }

    /// The text; `None`: it is broken.
    pub(super) fn decode(self, raw: &[u8]) -> Option<Cow<'_, [u8]>> {
        match self {
            Self::Seven | Self::Eight => Some(Cow::Borrowed(raw)),
            Self::Quoted => read_quoted(raw, usize::MAX).map(|(text, _)| Cow::Owned(text)),
            Self::Base64 => {
                let foreign = |b: &u8| {
                    !b.is_ascii_alphanumeric() && !b.is_ascii_whitespace() && !b"+/=".contains(b)
                };
                if raw.iter().any(foreign) {
                    return None;
                }
                detach::decode("base64", raw).map(Cow::Owned)
            }
        }
    }
}

/// Base64 that ends as the one in whose place it comes.
pub(super) fn base64_like(raw: &[u8], text: &[u8]) -> Vec<u8> {
    let mut out = base64_lines(text);
    if !raw.ends_with(b"\n") {
        out.truncate(out.trim_ascii_end().len());
    }
    out
}

/// Puts octets into a quoted-printable text; gives the place in its raw form and what comes there.
/// `at`: the place in the decoded text, `length`: that text's. `None`: it is broken.
pub(super) fn insert_quoted(
    raw: &[u8],
    at: usize,
    length: usize,
    octets: &[u8],
) -> Option<(usize, Vec<u8>)> {
    let place = if at == length {
        // Blanks at the very end belong to nobody.
        let blanks = raw.iter().rev().take_while(|b| matches!(**b, b' ' | b'\t'));
        raw.len() - blanks.count()
    } else {
        read_quoted(raw, at)?.1
    };
    let before = &raw[..place];
    let mut out = Vec::new();
    if before.is_empty() || before.ends_with(b"\n") {
        // At the start of a line nothing has to be ended.
    } else if before.ends_with(b"=") {
        // A soft break whose line end was missing.
        out.extend_from_slice(b"\r\n");
    } else if !octets.starts_with(b"\r\n") || matches!(before.last(), Some(b' ' | b'\t')) {
        // Also, blanks in front of a line end would be lost.
        out.extend_from_slice(b"=\r\n");
    }
    out.extend_from_slice(&quoted_printable(octets));
    Some((place, out))
}

/// Decodes quoted-printable up to `limit` octets of text; gives the text and how far that was.
/// `None`: there is a `=` that means nothing.
fn read_quoted(raw: &[u8], limit: usize) -> Option<(Vec<u8>, usize)> {
    let mut text = Vec::with_capacity(raw.len().min(limit));
    let mut at = 0;
    for line in raw.split_inclusive(|b| *b == b'\n') {
        let ended = line.ends_with(b"\n");
        let content = line.trim_ascii_end();
        let soft = content.ends_with(b"=");
        let content = content.strip_suffix(b"=").unwrap_or(content);
        let mut n = 0;
        while n < content.len() {
            if text.len() == limit {
                return Some((text, at + n));
            }
            if content[n] == b'=' {
                let digits = std::str::from_utf8(content.get(n + 1..n + 3)?).ok()?;
                text.push(octet(digits)?);
                n += 3;
            } else {
                text.push(content[n]);
                n += 1;
            }
        }
        if ended && !soft {
            if text.len() == limit {
                return Some((text, at + n));
            }
            text.extend_from_slice(b"\r\n");
        }
        at += line.len();
    }
    Some((text, at))
}

fn octet(digits: &str) -> Option<u8> {
    let is_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| u8::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoded() {
        for (transfer, raw, text) in [
            (Transfer::Seven, &b"a=3D\r\n"[..], Some(&b"a=3D\r\n"[..])),
            (
                Transfer::Quoted,
                b"Gr=C3=bc=\r\n=DFe \t\r\nx=",
                Some(b"Gr\xc3\xbc\xdfe\r\nx"),
            ),
            (Transfer::Quoted, b"x= \r\ny", Some(b"xy")),
            (Transfer::Quoted, b"x=4", None),
            (Transfer::Quoted, b"x=XY\r\n", None),
            (Transfer::Quoted, b"x=+4\r\n", None),
            (Transfer::Base64, b"R3I=\r\n", Some(b"Gr")),
            (Transfer::Base64, b"", Some(b"")),
            (Transfer::Base64, b"R3I=\r\nR3I=\r\n", None),
            (Transfer::Base64, b"R\r\n", None),
            (Transfer::Base64, b"R3I*\r\n", None),
        ] {
            assert_eq!(transfer.decode(raw).as_deref(), text, "{raw:?}");
        }
    }

    #[test]
    fn put_into_quoted_printable() {
        for (raw, at, octets, expected) in [
            ("a=\r\nb\r\n", 4, "x\r\n", "a=\r\nb\r\nx\r\n"),
            ("a", 1, "\r\nx", "a\r\nx"),
            ("a  ", 1, "\r\nx", "a\r\nx  "),
            ("  ", 0, "-- ", "--=20  "),
            ("=0A\t", 1, "x", "=0A=\r\nx\t"),
            ("a=", 1, "\r\nx", "a=\r\n\r\nx"),
            ("a=\r\n", 1, "\r\nx", "a=\r\n\r\nx"),
            ("=C3=BCb\r\n", 2, "\r\n=\r\n", "=C3=BC\r\n=3D\r\nb\r\n"),
            ("a </b>", 2, "\r\nx\r\n", "a =\r\n\r\nx\r\n</b>"),
            ("a=0D=0Ab", 3, "x\r\n", "a=0D=0A=\r\nx\r\nb"),
            ("a\r\nb", 3, "-- \r\nü\r\n", "a\r\n--=20\r\n=C3=BC\r\nb"),
            ("a=\r\nb", 1, "\r\nx\r\n", "a=\r\n\r\nx\r\nb"),
        ] {
            let length = Transfer::Quoted.decode(raw.as_bytes()).expect(raw).len();
            let (place, put) =
                insert_quoted(raw.as_bytes(), at, length, octets.as_bytes()).expect(raw);
            let put = String::from_utf8(put).expect("text");
            assert_eq!(format!("{}{put}{}", &raw[..place], &raw[place..]), expected);
        }
    }

    #[test]
    fn base64_keeps_its_end() {
        assert_eq!(base64_like(b"AA==\r\n", b"Gr"), b"R3I=\r\n");
        assert_eq!(base64_like(b"AA==", &[0; 58]).len(), 76 + 2 + 4);
    }
}
