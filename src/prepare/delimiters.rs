//! The delimiters of a multipart, found without looking at every line: large mail is nested too.

use std::ops::Range;

/// A multipart body by places: delimiter lines, and what stands between them.
pub(super) struct Split {
    /// Each part: its delimiter line, its content without the line end that belongs to the next
    /// delimiter.
    pub parts: Vec<(Range<usize>, Range<usize>)>,
    /// The closing delimiter line; `None`: it is missing.
    pub close: Option<Range<usize>>,
}

/// Finds the parts (RFC 2046 section 5.1.1).
pub(super) fn split(boundary: &str, body: &[u8]) -> Split {
    let delimiter = [b"--", boundary.as_bytes()].concat();
    let mut split = Split {
        parts: Vec::new(),
        close: None,
    };
    let mut open: Option<Range<usize>> = None;
    for at in memchr::memmem::find_iter(body, &delimiter) {
        if at > 0 && body[at - 1] != b'\n' {
            continue;
        }
        let end = memchr::memchr(b'\n', &body[at..]).map_or(body.len(), |n| at + n + 1);
        let is_close = match body[at..end].trim_ascii_end().strip_prefix(&delimiter[..]) {
            Some(b"") => false,
            Some(b"--") => true,
            _ => continue,
        };
        if let Some(delimiter) = open.take() {
            let content = delimiter.end..at;
            let gap = if body[content.clone()].ends_with(b"\r\n") {
                2
            } else {
                0
            };
            split
                .parts
                .push((delimiter, content.start..content.end - gap));
        }
        if is_close {
            split.close = Some(at..end);
            break;
        }
        open = Some(at..end);
    }
    if let Some(delimiter) = open {
        let content = delimiter.end..body.len();
        split.parts.push((delimiter, content));
    }
    split
}

#[cfg(test)]
mod tests {
    use super::*;

    type Places = (Vec<(Range<usize>, Range<usize>)>, Option<Range<usize>>);

    /// The same line by line.
    fn line_by_line(boundary: &str, body: &[u8]) -> Split {
        let delimiter = [b"--", boundary.as_bytes()].concat();
        let mut split = Split {
            parts: Vec::new(),
            close: None,
        };
        let mut open: Option<Range<usize>> = None;
        let mut at = 0;
        while at < body.len() && split.close.is_none() {
            let end = memchr::memchr(b'\n', &body[at..]).map_or(body.len(), |n| at + n + 1);
            let line = body[at..end].trim_ascii_end();
            let is_close = line.len() == delimiter.len() + 2
                && line.starts_with(&delimiter)
                && line.ends_with(b"--");
            if line == delimiter || is_close {
                if let Some(delimiter) = open.take() {
                    let content = delimiter.end..at;
                    let gap = if body[content.clone()].ends_with(b"\r\n") {
                        2
                    } else {
                        0
                    };
                    split
                        .parts
                        .push((delimiter, content.start..content.end - gap));
                }
                if is_close {
                    split.close = Some(at..end);
                } else {
                    open = Some(at..end);
                }
            }
            at = end;
        }
        if let Some(delimiter) = open {
            let content = delimiter.end..body.len();
            split.parts.push((delimiter, content));
        }
        split
    }

    fn both(boundary: &str, body: &[u8]) -> [Places; 2] {
        let (fast, slow) = (split(boundary, body), line_by_line(boundary, body));
        [(fast.parts, fast.close), (slow.parts, slow.close)]
    }

    #[test]
    fn as_line_by_line() {
        for (body, parts, closed) in [
            ("", 0, false),
            ("--b", 1, false),
            ("--b\r\n", 1, false),
            ("x--b\r\n--b \t\r\na\r\n--bb\r\n--b--", 1, true),
            ("--b\n\n--b\r\n--b--\r\n--b\r\n", 2, true),
            ("----b\n--b--b\n-- b\n--b-- \n", 0, true),
            ("--b\r\n--b---\r\n--b-\r\n", 1, false),
            (" --b\r\n\r--b\r\n", 0, false),
        ] {
            let [fast, slow] = both("b", body.as_bytes());
            assert_eq!(
                (fast.0.len(), fast.1.is_some()),
                (parts, closed),
                "{body:?}"
            );
            assert_eq!(fast, slow, "{body:?}");
        }
        let [fast, slow] = both("--", b"----\n------\n----\n-----\n");
        assert_eq!(fast, slow);
    }

    proptest::proptest! {
        #[test]
        fn as_line_by_line_always(boundary in "[-b ]{1,3}", body in "(--|-|b|bb|x| |\r\n|\n|\r){0,40}") {
            let [fast, slow] = both(&boundary, body.as_bytes());
            proptest::prop_assert_eq!(fast, slow);
        }
    }
}
