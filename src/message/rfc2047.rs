//! Text beyond ASCII in header fields: encoded words (RFC 2047), phrases and folding (RFC 5322),
//! and the raw 8-bit bytes of old applications.

use base64::Engine as _;

/// Longest encoded word (RFC 2047 section 2).
const WORD_LIMIT: usize = 75;
/// Where lines of a field that we write are folded (RFC 5322 section 2.1.1 asks for 78).
const LINE_LENGTH: usize = 76;

/// Bytes of a header as text: UTF-8 if they are, else Windows-1252, which is what German
/// applications on Windows send when they send anything else.
pub fn decode_raw(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|b| windows_1252(*b)).collect(),
    }
}

/// One byte of Windows-1252. The five bytes that it leaves undefined become U+FFFD.
pub fn windows_1252(byte: u8) -> char {
    const HIGH: [char; 32] = [
        '€', '\u{FFFD}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{FFFD}', 'Ž',
        '\u{FFFD}', '\u{FFFD}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ',
        '\u{FFFD}', 'ž', 'Ÿ',
    ];
    match byte {
        0x80..=0x9f => HIGH[usize::from(byte - 0x80)],
        _ => char::from(byte),
    }
}

/// Encodes text as encoded words separated by `CRLF SP`, the first one leaving room for `used`
/// characters on its line. Characters are never split over two words.
pub fn encode_words(text: &str, used: usize) -> String {
    let mut out = String::new();
    let mut chunk: Vec<u8> = Vec::new();
    let mut column = used;
    // "=?utf-8?b?" and "?=" take 12; four characters of base64 carry three bytes.
    let capacity = |column: usize| {
        (WORD_LIMIT
            .min(LINE_LENGTH.saturating_sub(column))
            .saturating_sub(12))
            / 4
            * 3
    };
    let mut first = true;
    let flush = |chunk: &mut Vec<u8>, out: &mut String, first: &mut bool| {
        if !chunk.is_empty() {
            if !*first {
                out.push_str("\r\n ");
            }
            *first = false;
            out.push_str("=?utf-8?b?");
            out.push_str(&base64::engine::general_purpose::STANDARD.encode(&*chunk));
            out.push_str("?=");
            chunk.clear();
        }
    };
    for c in text.chars() {
        let mut buffer = [0; 4];
        let bytes = c.encode_utf8(&mut buffer).as_bytes();
        if chunk.len() + bytes.len() > capacity(column).max(bytes.len()) {
            flush(&mut chunk, &mut out, &mut first);
            column = 1;
        }
        chunk.extend_from_slice(bytes);
    }
    flush(&mut chunk, &mut out, &mut first);
    out
}

/// Whether text may stand in an unstructured field as it is: printable ASCII that no reader
/// would take for an encoded word, no word longer than a line may be.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| (32..127).contains(&b) || b == b'\t')
        && !text.contains("=?")
        && text.split(' ').all(|w| w.len() < 900)
}

/// An unstructured value (Subject), encoded where needed and folded. `used`: characters of the
/// line already taken by the name and colon.
pub fn unstructured(text: &str, used: usize, utf8: bool) -> String {
    let raw_utf8 = utf8 && !text.chars().any(char::is_control) && !text.contains("=?");
    if is_plain(text) || raw_utf8 {
        fold(text, used)
    } else {
        encode_words(text, used)
    }
}

/// A display name as a phrase (RFC 5322 section 3.2.5): atoms as they are, a quoted string for
/// specials, encoded words for anything else. With `utf8` (RFC 6532) letters stay as they are.
pub fn phrase(name: &str, used: usize, utf8: bool) -> String {
    let name = name.trim();
    let atom = |c: char| {
        c.is_ascii_alphanumeric()
            || "!#$%&'*+-/=?^_`{|}~ ".contains(c)
            || (utf8 && !c.is_ascii() && !c.is_control())
    };
    if name.contains("=?")
        || name
            .chars()
            .any(|c| c.is_control() || (!utf8 && !c.is_ascii()))
        || name.split(' ').any(|w| w.len() > 200)
    {
        return encode_words(name, used);
    }
    if !name.contains("  ") && name.chars().all(atom) {
        return fold(name, used);
    }
    let mut out = String::with_capacity(name.len() + 2);
    out.push('"');
    for c in name.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    fold(&out, used)
}

/// Breaks a line at blanks so that none is longer than 76 characters where a blank allows it.
/// A fold keeps the blank, so unfolding gives the same text.
pub fn fold(text: &str, used: usize) -> String {
    if used + text.len() <= LINE_LENGTH {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 8);
    let mut column = used;
    let mut previous_blank = true; // no fold in front of the first word
    for (i, word) in text.split(' ').enumerate() {
        if i > 0 {
            if column + 1 + word.len() > LINE_LENGTH && !previous_blank && !word.is_empty() {
                out.push_str("\r\n");
                column = 0;
            }
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
        previous_blank = word.is_empty();
    }
    out
}

/// Decodes encoded words for reading (subjects in lists, globs); never for rewriting.
pub fn decode_words(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    let mut after_word = false;
    while let Some(start) = rest.find("=?") {
        let (before, candidate) = rest.split_at(start);
        match encoded_word(candidate) {
            Some((decoded, length)) => {
                if !(after_word && before.chars().all(char::is_whitespace)) {
                    out.push_str(before);
                }
                out.push_str(&decoded);
                rest = &candidate[length..];
                after_word = true;
            }
            None => {
                out.push_str(before);
                out.push_str("=?");
                rest = &candidate[2..];
                after_word = false;
            }
        }
    }
    out.push_str(rest);
    out
}

/// Decodes one encoded word at the start of `text`; gives it and its length.
fn encoded_word(text: &str) -> Option<(String, usize)> {
    let inner = text.strip_prefix("=?")?;
    let (charset, inner_rest) = inner.split_once('?')?;
    let (encoding, inner_rest) = inner_rest.split_once('?')?;
    let (payload, _) = inner_rest.split_once("?=")?;
    if payload.contains([' ', '\r', '\n']) || charset.is_empty() {
        return None;
    }
    let bytes = match encoding {
        "b" | "B" => base64::engine::general_purpose::STANDARD
            .decode(payload)
            .ok()?,
        "q" | "Q" => quoted(payload)?,
        _ => return None,
    };
    let length = 2 + charset.len() + 1 + encoding.len() + 1 + payload.len() + 2;
    let charset = charset
        .split('*')
        .next()
        .unwrap_or(charset)
        .to_ascii_lowercase();
    let decoded = match charset.as_str() {
        "utf-8" | "utf8" | "us-ascii" => String::from_utf8_lossy(&bytes).into_owned(),
        "iso-8859-1" | "windows-1252" | "iso-8859-15" | "latin1" | "cp1252" => {
            bytes.iter().map(|b| windows_1252(*b)).collect()
        }
        _ => return None,
    };
    Some((decoded, length))
}

fn quoted(payload: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut bytes = payload.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'_' => out.push(b' '),
            b'=' => {
                let (high, low) = (char::from(bytes.next()?), char::from(bytes.next()?));
                out.push(u8::try_from(high.to_digit(16)? * 16 + low.to_digit(16)?).ok()?);
            }
            _ => out.push(byte),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases() {
        for (name, expected) in [
            ("ACME GmbH", "ACME GmbH"),
            ("ACME, Inc.", "\"ACME, Inc.\""),
            ("A \"B\" \\C", "\"A \\\"B\\\" \\\\C\""),
            ("Müller", "=?utf-8?b?TcO8bGxlcg==?="),
            ("=?utf-8?q?x?=", "=?utf-8?b?PT91dGYtOD9xP3g/PQ==?="),
        ] {
            assert_eq!(phrase(name, 6, false), expected, "{name}");
        }
        assert_eq!(phrase("Müller GmbH", 6, true), "Müller GmbH");
    }

    #[test]
    fn long_names_are_folded_between_characters() {
        let name = "Ä€😀".repeat(60);
        let encoded = encode_words(&name, 6);
        assert!(
            encoded.split("\r\n ").all(
                |w| w.len() <= WORD_LIMIT && encoded_word(w).is_some_and(|(_, n)| n == w.len())
            )
        );
        assert_eq!(decode_words(&encoded.replace("\r\n", "")), name);
    }

    #[test]
    fn folding_keeps_the_text() {
        let text = "word ".repeat(60) + "  two blanks";
        let folded = fold(&text, 9);
        assert!(folded.lines().all(|l| l.len() <= 78));
        assert_eq!(folded.replace("\r\n", ""), text);
    }

    #[test]
    fn reads_words_of_others() {
        assert_eq!(
            decode_words("=?ISO-8859-1?Q?Gr=FC=DFe?= =?utf-8?b?w6Q=?= x =?bad"),
            "Grüßeä x =?bad"
        );
        assert_eq!(decode_raw(b"Gr\xfc\xdfe \x80"), "Grüße €");
        assert_eq!(decode_raw("Grüße".as_bytes()), "Grüße");
    }

    proptest::proptest! {
        #[test]
        fn words_round_trip(text in "\\PC{1,120}") {
            let encoded = encode_words(&text, 6);
            proptest::prop_assert!(encoded.is_ascii());
            proptest::prop_assert_eq!(decode_words(&encoded.replace("\r\n", "")), text);
        }
    }
}
