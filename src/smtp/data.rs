//! Framing of message data: where it ends, what its lines are (RFC 5321 sections 4.1.1.4, 4.5.2).
//!
//! Only CRLF `.` CRLF ends a message. Everything that some other server might take for an end,
//! a lone dot between any other line breaks, makes the message refused as a whole: relayed, it
//! could smuggle a second one.

/// What becomes of bare line breaks inside a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BareNewline {
    /// A bare LF becomes CRLF, a stray CR a space.
    Normalize,
    /// Any of them refuses the message.
    Reject,
    /// As `Normalize`; and a client that has never sent a CRLF may end its data with LF `.` LF.
    Legacy,
}

/// What was wrong with a complete message, worst first. All are found at its true end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Findings {
    /// A NUL somewhere.
    pub nul: bool,
    /// A lone dot that does not stand between two CRLF.
    pub smuggling: bool,
    /// A bare LF or CR was repaired, or would have been.
    pub bare_newline: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Break {
    Crlf,
    Lf,
    Cr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Segment {
    /// Nothing but NULs since the last break.
    Empty,
    /// A single dot, held back.
    Dot,
    /// Anything else: already written.
    Other,
}

/// Takes the message out of the bytes behind DATA: unstuffed, every line ended by CRLF.
#[derive(Debug)]
pub struct Receiver {
    lf_only_session: bool,
    lf_only: bool,
    cr_run: bool,
    previous: Break,
    segment: Segment,
    segment_nul: bool,
    pending_cr: bool,
    findings: Findings,
    done: bool,
}

impl Receiver {
    /// `lf_only_session`: no line of this connection has ended in CRLF so far (for `Legacy`).
    pub fn new(mode: BareNewline, lf_only_session: bool) -> Self {
        Self {
            lf_only_session: lf_only_session && mode == BareNewline::Legacy,
            lf_only: lf_only_session,
            cr_run: false,
            previous: Break::Crlf,
            segment: Segment::Empty,
            segment_nul: false,
            pending_cr: false,
            findings: Findings::default(),
            done: false,
        }
    }

    /// Whether the end has been reached.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Whether no line has ended in CRLF so far, neither before nor inside this content.
    pub fn lf_only(&self) -> bool {
        self.lf_only
    }

    /// What was found; final once [`Self::is_done`].
    pub fn findings(&self) -> Findings {
        self.findings
    }

    /// Feeds bytes, appends the canonical message to `out`, gives how many bytes belong to this
    /// message: fewer than given only when the end was reached.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let mut i = 0;
        while i < input.len() && !self.done {
            // The fast way: inside a line nothing but CR, LF and NUL matters, and behind a CRLF a
            // line that begins with none of these and no dot is like the one before.
            if self.segment == Segment::Other && !self.pending_cr {
                let (start, mut ended) = (i, false);
                let stop = loop {
                    let Some(n) = memchr::memchr3(b'\r', b'\n', 0, &input[i..]) else {
                        break input.len();
                    };
                    match input.get(i + n..i + n + 3) {
                        Some([b'\r', b'\n', next]) if !matches!(next, b'.' | b'\r' | b'\n' | 0) => {
                            i += n + 3;
                            ended = true;
                        }
                        _ => break i + n,
                    }
                };
                if ended {
                    self.lf_only_session = false;
                    self.lf_only = false;
                    self.previous = Break::Crlf;
                    self.segment_nul = false;
                }
                out.extend_from_slice(&input[start..stop]);
                i = stop;
                if i == input.len() {
                    break;
                }
            }
            self.step(input[i], out);
            i += 1;
        }
        i
    }

    fn step(&mut self, byte: u8, out: &mut Vec<u8>) {
        if self.pending_cr {
            if byte == b'\r' && self.segment != Segment::Dot {
                // CR CR LF is one line end, of text that went through two conversions.
                self.cr_run = true;
                return;
            }
            self.pending_cr = false;
            let run = std::mem::take(&mut self.cr_run);
            self.findings.bare_newline |= run;
            if byte == b'\n' {
                self.line_break(Break::Crlf, out);
                return;
            }
            self.line_break(Break::Cr, out);
        }
        match byte {
            b'\r' => self.pending_cr = true,
            b'\n' => self.line_break(Break::Lf, out),
            0 => {
                self.findings.nul = true;
                self.segment_nul = true;
            }
            b'.' if self.segment == Segment::Empty => self.segment = Segment::Dot,
            _ => {
                if self.segment == Segment::Dot && self.previous == Break::Cr {
                    // Behind a stray CR no line begins, so the dot is content.
                    out.push(b'.');
                }
                self.segment = Segment::Other;
                out.push(byte);
            }
        }
    }

    fn line_break(&mut self, kind: Break, out: &mut Vec<u8>) {
        if kind == Break::Crlf {
            self.lf_only_session = false;
            self.lf_only = false;
        }
        if self.segment == Segment::Dot {
            let clean = !self.segment_nul;
            if clean && kind == Break::Crlf && self.previous == Break::Crlf {
                self.done = true;
                return;
            }
            let legacy_start = self.previous == Break::Lf
                || (self.previous == Break::Crlf && self.lf_only_session);
            if clean && self.lf_only_session && kind == Break::Lf && legacy_start {
                self.done = true;
                return;
            }
            self.findings.smuggling = true;
        }
        if kind == Break::Cr {
            self.findings.bare_newline = true;
            out.push(b' ');
        } else {
            if kind == Break::Lf && !self.lf_only_session {
                self.findings.bare_newline = true;
            }
            out.extend_from_slice(b"\r\n");
        }
        self.previous = kind;
        self.segment = Segment::Empty;
        self.segment_nul = false;
    }
}

/// Makes text from a program's standard input canonical: every line ends in CRLF, a stray CR
/// becomes a space. There is no end-of-data mark in it, so nothing can be smuggled.
pub fn canonical(input: &[u8]) -> (Vec<u8>, Findings) {
    let mut findings = Findings {
        nul: memchr::memchr(0, input).is_some(),
        ..Findings::default()
    };
    let mut out = Vec::with_capacity(input.len() + input.len() / 32 + 2);
    for line in input.split_inclusive(|b| *b == b'\n') {
        let mut text = line.strip_suffix(b"\n").unwrap_or(line);
        while line.ends_with(b"\n") && text.ends_with(b"\r") {
            text = &text[..text.len() - 1];
        }
        findings.bare_newline |= text.contains(&b'\r');
        out.extend(text.iter().map(|b| if *b == b'\r' { b' ' } else { *b }));
        out.extend_from_slice(b"\r\n");
    }
    (out, findings)
}

/// Doubles dots at line starts; the input has CRLF line ends only.
#[derive(Debug)]
pub struct Stuffer {
    at_line_start: bool,
}

impl Default for Stuffer {
    fn default() -> Self {
        Self {
            at_line_start: true,
        }
    }
}

impl Stuffer {
    /// Appends the stuffed form of the next piece.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let mut start = 0;
        if self.at_line_start && input.first() == Some(&b'.') {
            out.push(b'.');
        }
        for lf in memchr::memmem::find_iter(input, b"\n.") {
            out.extend_from_slice(&input[start..=lf]);
            out.push(b'.');
            start = lf + 1;
        }
        out.extend_from_slice(&input[start..]);
        self.pass(input);
    }

    /// Takes the next piece if it is its own stuffed form; `false`: it has to be pushed.
    pub fn pass_as_it_is(&mut self, input: &[u8]) -> bool {
        let dot = (self.at_line_start && input.first() == Some(&b'.'))
            || memchr::memmem::find(input, b"\n.").is_some();
        if !dot {
            self.pass(input);
        }
        !dot
    }

    fn pass(&mut self, input: &[u8]) {
        if let Some(last) = input.last() {
            self.at_line_start = *last == b'\n';
        }
    }

    /// Appends the end of data, with a line end before it when the message lacks one.
    pub fn finish(self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.at_line_start {
            b".\r\n"
        } else {
            b"\r\n.\r\n"
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(mode: BareNewline, lf_only: bool, input: &[u8]) -> (usize, bool, Findings, Vec<u8>) {
        let mut receiver = Receiver::new(mode, lf_only);
        let mut out = Vec::new();
        let used = receiver.feed(input, &mut out);
        (used, receiver.is_done(), receiver.findings(), out)
    }

    #[test]
    fn clean_messages() {
        for (wire, text) in [
            (&b"a\r\n.\r\n"[..], &b"a\r\n"[..]),
            (b".\r\n", b""),
            (b"..\r\n.\r\n", b".\r\n"),
            (b"...\r\n.x\r\n.\r\n", b"..\r\nx\r\n"),
            (b"a\r\n\r\n..\r\n\r\n.\r\n", b"a\r\n\r\n.\r\n\r\n"),
        ] {
            let (used, done, findings, out) = receive(BareNewline::Normalize, false, wire);
            assert!(
                done && used == wire.len() && out == text,
                "{wire:?} -> {out:?}"
            );
            assert_eq!(findings, Findings::default());
        }
    }

    #[test]
    fn repairs() {
        let (_, done, findings, out) =
            receive(BareNewline::Normalize, false, b"a\nb\rc\r\r\n.\r\n");
        assert!(done && findings.bare_newline && !findings.smuggling);
        assert_eq!(out, b"a\r\nb c\r\n", "CR CR LF is one line end");
    }

    #[test]
    fn standard_input() {
        assert_eq!(canonical(b"a\nb\r\n.\nc\rd").0, b"a\r\nb\r\n.\r\nc d\r\n");
        assert!(canonical(b"a\0").1.nul);
    }

    #[test]
    fn no_smuggling() {
        for attack in [
            &b"\n.\n"[..],
            b"\n.\r\n",
            b"\r\n.\n",
            b"\r.\r",
            b"\r.\n",
            b"\n.\r",
            b"\r.\r\n",
            b"\r\n.\r",
            b"\r\n\0.\r\n",
            b"\r\n.\0\r\n",
            b"\r\n\0.\r",
            b"\r\n\0.\n",
            b"\r\n.\r\r\n",
            b"\r\r\n.\r\r\n",
            b"\n\n.\r\n",
        ] {
            for start in [&b"body"[..], b""] {
                if start.is_empty() && attack.starts_with(b"\r\n") && attack.len() < 4 {
                    continue;
                }
                let wire = [start, attack, b"MAIL FROM:<x@evil>\r\n.\r\n"].concat();
                let (used, done, findings, _) = receive(BareNewline::Normalize, false, &wire);
                assert!(
                    done && used == wire.len(),
                    "{attack:?}: ends at the true end"
                );
                assert!(findings.smuggling || findings.nul, "{attack:?}");
            }
        }
    }

    #[test]
    fn legacy_ends_with_lf() {
        let (used, done, findings, out) = receive(BareNewline::Legacy, true, b"a\n\nb\n.\nQUIT\n");
        assert!(
            done && used == 7 && !findings.smuggling,
            "{used} {findings:?}"
        );
        assert_eq!(out, b"a\r\n\r\nb\r\n");
        let (_, done, findings, _) = receive(BareNewline::Legacy, false, b"a\n.\nx\r\n.\r\n");
        assert!(
            done && findings.smuggling,
            "a CRLF was seen before: the strict rule"
        );
        let (_, done, findings, _) = receive(BareNewline::Legacy, true, b"a\r\nb\n.\nx\r\n.\r\n");
        assert!(done && findings.smuggling);
    }

    /// Every split of a wire form gives the same verdict and the same bytes.
    #[test]
    fn splits() {
        for wire in [
            &b"a\r\n..b\r\n.\r\n"[..],
            b"a\n.\r\nb\r\r\n.\r\n",
            b".\0\r\n\r\n.\r\n",
        ] {
            let whole = receive(BareNewline::Normalize, false, wire);
            for cut in 0..wire.len() {
                let mut receiver = Receiver::new(BareNewline::Normalize, false);
                let mut out = Vec::new();
                let mut used = receiver.feed(&wire[..cut], &mut out);
                used += receiver.feed(&wire[cut..], &mut out);
                assert_eq!((used, receiver.is_done(), receiver.findings(), out), whole);
            }
        }
    }

    proptest::proptest! {
        /// What is stuffed for an upstream comes out of a receiver unchanged.
        #[test]
        fn round_trip(lines in proptest::collection::vec("[.a \t]{0,5}", 0..8), cut in 0usize..40) {
            let text: Vec<u8> = lines.iter().flat_map(|l| [l.as_bytes(), b"\r\n"].concat()).collect();
            let mut wire = Vec::new();
            let mut stuffer = Stuffer::default();
            let cut = cut.min(text.len());
            stuffer.push(&text[..cut], &mut wire);
            stuffer.push(&text[cut..], &mut wire);
            stuffer.finish(&mut wire);
            let (used, done, findings, out) = receive(BareNewline::Reject, false, &wire);
            proptest::prop_assert!(done && used == wire.len());
            proptest::prop_assert_eq!(findings, Findings::default());
            proptest::prop_assert_eq!(out, text);
        }
    }

    /// What the automaton must do, in the plainest words: the line breaks of the wire, and the end
    /// where a lone dot stands between two CRLF. Gives how many octets belong to the message, the
    /// text, and whether there was something that another server could take for an end.
    fn reference(wire: &[u8]) -> Option<(usize, Vec<u8>, bool)> {
        // (text of the segment, its break, where it ends); CR CR LF is one break.
        let (mut segments, mut at, mut start) = (Vec::new(), 0, 0);
        while at < wire.len() {
            let crs = wire[at..].iter().take_while(|b| **b == b'\r').count();
            let lone_dot = wire[start..at]
                .iter()
                .filter(|b| **b != 0)
                .eq([b'.'].iter());
            let (kind, length) = match (crs, wire.get(at + crs)) {
                (0, Some(b'\n')) => ("LF", 1),
                (0, _) => {
                    at += 1;
                    continue;
                }
                (1.., Some(b'\n')) if crs == 1 || !lone_dot => ("CRLF", crs + 1),
                (1.., None) => break, // not told yet which break this is
                (1.., Some(_)) if lone_dot => ("CR", 1),
                (1.., Some(_)) => ("CR", crs),
            };
            segments.push((&wire[start..at], kind, at + length));
            at += length;
            start = at;
        }
        let (mut text, mut previous, mut danger) = (Vec::new(), "CRLF", false);
        for (segment, kind, end) in segments {
            let shown: Vec<u8> = segment.iter().copied().filter(|b| *b != 0).collect();
            if shown == b"." {
                if segment.len() == 1 && previous == "CRLF" && kind == "CRLF" {
                    return Some((end, text, danger));
                }
                danger = true;
            } else {
                // A dot in front of a line is stuffing, except behind a stray CR.
                let stuffed = shown.first() == Some(&b'.') && previous != "CR";
                text.extend_from_slice(&shown[usize::from(stuffed)..]);
            }
            text.extend_from_slice(if kind == "CR" { b" " } else { b"\r\n" });
            previous = kind;
        }
        None
    }

    /// All strings of up to seven octets of those that matter: at the start of the data, behind a
    /// line and behind a word, whole and cut at every place.
    #[test]
    fn every_short_string() {
        const OCTETS: [u8; 6] = [b'\r', b'\n', b'.', 0, b' ', b'x'];
        let mut tried = 0u64;
        for length in 1..=7u32 {
            for number in 0..6u64.pow(length) {
                let string: Vec<u8> = (0..length)
                    .map(|i| OCTETS[usize::try_from(number / 6u64.pow(i) % 6).expect("small")])
                    .collect();
                for start in [&b""[..], b"a\r\n", b"a"] {
                    let wire = [start, &string, b"x\r\n.\r\n"].concat();
                    let (end, text, danger) = reference(&wire).expect("an end");
                    let whole = receive(BareNewline::Normalize, false, &wire);
                    let (used, done, findings, out) = &whole;
                    assert!(
                        *done && *used == end && findings.smuggling == danger,
                        "{wire:?}: {used} {findings:?}, wanted {end} {danger}"
                    );
                    // A message that is refused is not relayed, whatever its text.
                    assert!(danger || *out == text, "{wire:?}: {out:?}, wanted {text:?}");
                    assert_eq!(findings.nul, wire[..end].contains(&0), "{wire:?}");
                    tried += 1;
                    for cut in 1..wire.len() {
                        let mut receiver = Receiver::new(BareNewline::Normalize, false);
                        let mut out = Vec::new();
                        let mut used = receiver.feed(&wire[..cut], &mut out);
                        if used == cut {
                            used += receiver.feed(&wire[cut..], &mut out);
                        }
                        assert_eq!(
                            (used, receiver.is_done(), receiver.findings(), out),
                            whole,
                            "{wire:?} cut at {cut}"
                        );
                    }
                }
            }
        }
        assert_eq!(tried, 3 * 335_922);
    }

    /// The other direction: whatever text of ours is stuffed, only its own end ends it, and a
    /// receiver has the same text again.
    #[test]
    fn every_short_text_comes_out_unchanged() {
        const OCTETS: [&[u8]; 4] = [b"\r\n", b".", b" ", b"x"];
        for length in 0..=7u32 {
            for number in 0..4u64.pow(length) {
                let text: Vec<u8> = (0..length)
                    .flat_map(|i| OCTETS[usize::try_from(number / 4u64.pow(i) % 4).expect("small")])
                    .copied()
                    .collect();
                let mut whole = text.clone();
                if !whole.is_empty() && !whole.ends_with(b"\r\n") {
                    whole.extend_from_slice(b"\r\n");
                }
                for cut in 0..=text.len() {
                    let mut wire = Vec::new();
                    let mut stuffer = Stuffer::default();
                    stuffer.push(&text[..cut], &mut wire);
                    stuffer.push(&text[cut..], &mut wire);
                    stuffer.finish(&mut wire);
                    // What is passed as it is, is the same on the wire.
                    let (mut passed, mut second) = (Vec::new(), Stuffer::default());
                    for piece in [&text[..cut], &text[cut..]] {
                        if second.pass_as_it_is(piece) {
                            passed.extend_from_slice(piece);
                        } else {
                            second.push(piece, &mut passed);
                        }
                    }
                    second.finish(&mut passed);
                    assert_eq!(passed, wire, "{text:?} cut at {cut}");
                    let (used, done, findings, out) = receive(BareNewline::Reject, false, &wire);
                    assert!(
                        done && used == wire.len(),
                        "{text:?} cut at {cut}: {wire:?}"
                    );
                    assert_eq!(findings, Findings::default());
                    assert_eq!(out, whole, "{text:?} cut at {cut}");
                }
            }
        }
    }
}
