//! Where a signature goes in plain text, and what it looks like there: behind the line `-- ` that
//! every reader knows, above the mail that a reply quotes.

use super::Insertion;

/// What a line that introduces a quotation says.
const CITING: [&[u8]; 6] = [
    b"schrieb",
    b"wrote",
    b"Zitat von",
    b"Quoting ",
    b"weitergeleiteten Nachricht",
    b"forwarded message",
];
/// How such a line begins.
const OPENINGS: [&[u8]; 2] = [b"Am ", b"On "];
/// How many lines it may have.
const CITING_LINES: usize = 4;

/// What to put into a text, and where; `None`: its signature stands there already. `lines`: the
/// signature's, in the text's charset.
pub(super) fn insertion(
    text: &[u8],
    lines: &[Vec<u8>],
    flowed: bool,
    newline: &[u8],
) -> Option<Insertion> {
    let at = quotation(text).unwrap_or(text.len());
    let (before, after) = text.split_at(at);
    // Behind a quotation it is the other's; but a signature may look as a quotation does.
    let own = |start: usize| start <= at;
    if ending(before, lines, flowed).is_some() || ending(text, lines, flowed).is_some_and(own) {
        return None;
    }
    let mut octets = Vec::new();
    if !before.is_empty() && !before.ends_with(b"\n") {
        octets.extend_from_slice(newline);
    }
    let last = last_line(before);
    if !last.trim_ascii().is_empty() {
        octets.extend_from_slice(newline);
        if flowed && last.ends_with(b" ") {
            // The line flows into the next, so the first blank one only ends it.
            octets.extend_from_slice(newline);
        }
    }
    octets.extend_from_slice(b"-- ");
    for line in lines {
        octets.extend_from_slice(newline);
        if flowed && is_stuffed(line) {
            octets.push(b' ');
        }
        octets.extend_from_slice(line);
    }
    if !after.is_empty() {
        octets.extend_from_slice(newline);
        octets.extend_from_slice(newline);
    } else if text.ends_with(b"\n") {
        octets.extend_from_slice(newline);
    }
    Some(Insertion { at, octets })
}

/// Whether format=flowed wants a blank in front (RFC 3676 section 4.4).
fn is_stuffed(line: &[u8]) -> bool {
    line.starts_with(b" ") || line.starts_with(b">") || line.starts_with(b"From ")
}

/// The last line without its end.
fn last_line(text: &[u8]) -> &[u8] {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let start = memchr::memrchr(b'\n', text).map_or(0, |end| end + 1);
    &text[start..]
}

/// Where these lines begin that a text ends in; `None`: it ends in something else.
fn ending(text: &[u8], lines: &[Vec<u8>], flowed: bool) -> Option<usize> {
    let text = text.trim_ascii_end();
    // Each line takes the line end in front of it along.
    let mut start = text.len() + 1;
    let mut last = text.rsplit(|b| *b == b'\n');
    for line in lines.iter().rev() {
        let found = last.next()?;
        start -= found.len() + 1;
        let found = found.trim_ascii_end();
        let stuffed = flowed && found.strip_prefix(b" ") == Some(line.as_slice());
        if found != line.as_slice() && !stuffed {
            return None;
        }
    }
    Some(start)
}

/// Where the mail begins that a reply quotes or a forwarded message repeats.
fn quotation(text: &[u8]) -> Option<usize> {
    separator(text).or_else(|| quoted_lines(text))
}

/// A line behind which everything is of another message.
fn separator(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    let (mut rule, mut sender, mut citing) = (None, None, None);
    for line in text.split_inclusive(|b| *b == b'\n') {
        let start = at;
        at += line.len();
        let line = line.trim_ascii_end();
        if line.is_empty() {
            continue;
        }
        // With `>` in front of its lines the quotation may also end, and an answer follow.
        if citing.is_some() && !line.starts_with(b">") {
            return citing;
        }
        if is_dashed(line) {
            return Some(start);
        }
        if sender.is_some() && begins(line, &[b"Gesendet:", b"Sent:"]) {
            return sender;
        }
        sender = begins(line, &[b"Von:", b"From:"]).then(|| rule.unwrap_or(start));
        rule = (line.len() >= 10 && line.iter().all(|b| *b == b'_')).then_some(start);
        let address = line.contains(&b'<') && line.contains(&b'@');
        citing = (address && begins(line, &OPENINGS) && line.ends_with(b":") && is_citing(line))
            .then_some(start);
    }
    // What it introduces may be no text.
    citing
}

fn begins(line: &[u8], words: &[&[u8]]) -> bool {
    words.iter().any(|word| line.starts_with(word))
}

/// `-----Original Message-----` and its like.
fn is_dashed(line: &[u8]) -> bool {
    let Some(mut inner) = line.strip_prefix(b"-----") else {
        return false;
    };
    while let [b'-' | b' ', rest @ ..] = inner {
        inner = rest;
    }
    while let [rest @ .., b'-' | b' '] = inner {
        inner = rest;
    }
    let words: [&[u8]; 4] = [
        b"original message",
        b"originalnachricht",
        b"forwarded message",
        b"weitergeleitete nachricht",
    ];
    // Its ü has as many octets as the charset likes.
    words.iter().any(|word| inner.eq_ignore_ascii_case(word))
        || (inner.starts_with(b"Urspr") && inner.ends_with(b"ngliche Nachricht"))
}

/// The lines with `>` that a text ends in, and the line that says who wrote them.
fn quoted_lines(text: &[u8]) -> Option<usize> {
    let mut end = text.len();
    let mut first = None;
    for line in text.split_inclusive(|b| *b == b'\n').rev() {
        let start = end - line.len();
        if line.starts_with(b">") {
            first = Some(start);
        } else if !line.trim_ascii().is_empty() {
            break;
        }
        end = start;
    }
    let first = first?;
    Some(citing_line(&text[..first]).unwrap_or(first))
}

/// Where `Am … schrieb …:` begins that a text ends in; mailers break it over several lines.
fn citing_line(text: &[u8]) -> Option<usize> {
    let text = text.trim_ascii_end();
    if !text.ends_with(b":") {
        return None;
    }
    let mut start = text.len();
    let mut found = None;
    let lines = text.split_inclusive(|b| *b == b'\n').rev();
    for (n, line) in lines.take(CITING_LINES).enumerate() {
        if line.trim_ascii().is_empty() {
            break;
        }
        start -= line.len();
        if is_citing(&text[start..]) {
            if begins(line, &OPENINGS) {
                return Some(start);
            }
            if n < 2 && found.is_none() {
                found = Some(start);
            }
        }
    }
    found
}

/// Whether a text that introduces something introduces what another has written.
pub(super) fn is_citing(text: &[u8]) -> bool {
    CITING
        .iter()
        .any(|word| memchr::memmem::find(text, word).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings() {
        for (text, start) in [
            ("MfG\nErika", Some(0)),
            ("a\nMfG \r\nErika\r\n\r\n", Some(2)),
            ("a\nMfG\nErika\nb", None),
            ("Erika", None),
            ("", None),
        ] {
            let lines = ["MfG", "Erika"].map(|line| line.as_bytes().to_vec());
            assert_eq!(ending(text.as_bytes(), &lines, false), start, "{text:?}");
        }
    }

    fn with(text: &str, flowed: bool) -> String {
        let lines = ["MfG", "Erika"].map(|line| line.as_bytes().to_vec());
        let text = text.replace('\n', "\r\n").into_bytes();
        let done = match insertion(&text, &lines, flowed, b"\r\n") {
            Some(found) => [&text[..found.at], &found.octets[..], &text[found.at..]].concat(),
            None => text,
        };
        String::from_utf8(done).expect("text").replace("\r\n", "\n")
    }

    #[test]
    fn at_the_end() {
        for (text, expected) in [
            ("", "-- \nMfG\nErika"),
            ("\n", "\n-- \nMfG\nErika\n"),
            ("Hallo", "Hallo\n\n-- \nMfG\nErika"),
            ("Hallo\n", "Hallo\n\n-- \nMfG\nErika\n"),
            ("Hallo\n\n", "Hallo\n\n-- \nMfG\nErika\n"),
            ("Hallo\n\nMfG\nErika\n\n", "Hallo\n\nMfG\nErika\n\n"),
            ("Hallo\n\nMfG \nErika", "Hallo\n\nMfG \nErika"),
            (
                "MfG\nErika\nP.S.\n",
                "MfG\nErika\nP.S.\n\n-- \nMfG\nErika\n",
            ),
            (
                "> a\nJa.\n> b\nNein.\n",
                "> a\nJa.\n> b\nNein.\n\n-- \nMfG\nErika\n",
            ),
            (
                "Am Montag schrieb er:\nNichts.\n",
                "Am Montag schrieb er:\nNichts.\n\n-- \nMfG\nErika\n",
            ),
        ] {
            assert_eq!(with(text, false), expected, "{text:?}");
        }
    }

    #[test]
    fn above_a_quotation() {
        for (own, quoted) in [
            ("", "> a\n> b\n"),
            ("Ja.\n\n", "Am 1.2. schrieb Max:\n> a\n>\n\n> b\n\n"),
            (
                "Ja.\n\n",
                "On Mon, 1 Jan 2024 at 10:00,\nMax <m@x.example>\nwrote:\n\n> a\n",
            ),
            ("Ja.\n\n", "Max <m@x.example> schrieb am\nMontag:\n> a\n"),
            ("> a\nJa.\n\n", "> b\n"),
            ("Ja.\n\n", "Am 1.2. schrieb Max <m@x.example>:\n\na\n"),
            (
                "Ja.\n\n",
                "-----Ursprüngliche Nachricht-----\nVon: Max\n\na\n",
            ),
            ("Ja.\n\n", "-------- Original Message --------\na\n"),
            (
                "Ja.\n\n",
                "________________________________\nVon: Max\nGesendet: Montag\n\na\n",
            ),
            ("Ja.\n\n", "From: Max\nSent: Monday\n\na\n"),
            ("Ja.\n\n", "Am 1.2. schrieb Max <m@x.example>:\n"),
            // The mail that is answered is from the same employee.
            (
                "Ja.\n\n",
                "-----Original Message-----\nFrom: Erika\n\na\n\n-- \nMfG\nErika\n",
            ),
            (
                "Ja.\n\n",
                "On 1 Jan Erika <e@x.example> wrote:\n\na\nMfG\nErika\n\n",
            ),
            ("Ja.\n\n", "From: Erika\nSent: Monday\n\nMfG\nErika"),
        ] {
            let expected = format!("{own}-- \nMfG\nErika\n\n{quoted}");
            assert_eq!(
                with(&format!("{own}{quoted}"), false),
                expected,
                "{quoted:?}"
            );
            assert_eq!(with(&expected, false), expected, "never twice");
        }
    }

    #[test]
    fn flowed() {
        assert_eq!(
            with("Hallo \nWelt\n", true),
            "Hallo \nWelt\n\n-- \nMfG\nErika\n"
        );
        assert_eq!(with("Hallo \n", true), "Hallo \n\n\n-- \nMfG\nErika\n");
        let lines = [">x", " y", "From z", "w"].map(|line| line.as_bytes().to_vec());
        let found = insertion(b"", &lines, true, b"\n").expect("inserted");
        assert_eq!(found.octets, b"-- \n >x\n  y\n From z\nw");
        assert!(insertion(&found.octets, &lines, true, b"\n").is_none());
        let quoting = ["MfG", ">> Erika"].map(|line| line.as_bytes().to_vec());
        let text = b"Ja.\n\n-- \nMfG\n>> Erika\n";
        assert!(insertion(text, &quoting, false, b"\n").is_none());
    }
}
