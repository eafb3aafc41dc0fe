//! Where a signature goes in HTML, and what it looks like there: a block of its own above the mail
//! that a reply quotes, else behind all text. The markup is only looked through, never rewritten.

use super::Insertion;
use super::charset::Charset;
use super::text::is_citing;

/// How a block of ours begins.
const OPENING: &[u8] = b"<div class=\"postbote-signature\">";
/// Words in the tags that mail programs put around the message they answer.
const REPLIES: [&[u8]; 8] = [
    b"gmail_quote",
    b"yahoo_quoted",
    b"moz-forward-container",
    b"divrplyfwdmsg",
    b"appendonsend",
    b"mail-editor-reference-message-container",
    b"border-top:solid #e1e1e1 1.0pt",
    b"border-top:solid #b5c4df 1.0pt",
];
/// Elements that end a line.
const BLOCKS: [&[u8]; 15] = [
    b"blockquote",
    b"body",
    b"br",
    b"div",
    b"h1",
    b"h2",
    b"h3",
    b"hr",
    b"li",
    b"p",
    b"pre",
    b"table",
    b"td",
    b"tr",
    b"ul",
];
/// Elements whose content is no markup.
const RAW: [&[u8]; 4] = [b"script", b"style", b"textarea", b"title"];
/// What is written as an entity and shows nothing.
const BLANKS: [&[u8]; 5] = [b"&nbsp;", b"&#160;", b"&#xa0;", b"&#8203;", b"&zwnj;"];
/// Longest line that introduces a quotation, with its markup.
const CITING_LIMIT: usize = 4096;
/// How much is read in front of the place to find a signature that stands there already.
const TAIL: usize = 64 * 1024;
/// Entities in greetings.
const ENTITIES: [(&str, char); 13] = [
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("nbsp", ' '),
    ("auml", 'ä'),
    ("ouml", 'ö'),
    ("uuml", 'ü'),
    ("Auml", 'Ä'),
    ("Ouml", 'Ö'),
    ("Uuml", 'Ü'),
    ("szlig", 'ß'),
    ("euro", '€'),
];

/// What to put into HTML at this [`place`]; `None`: its signature stands there already. `own`: the
/// HTML's charset, `charset`: what may be written of it; the rest becomes references.
pub(super) fn insertion(
    html: &[u8],
    at: usize,
    lines: &[String],
    own: Charset,
    charset: Charset,
    newline: &[u8],
) -> Option<Insertion> {
    let before = &html[..at];
    let tail = &before[at.saturating_sub(TAIL)..];
    if holds(&own.decode(tail), lines) {
        return None;
    }
    let mut octets = Vec::new();
    if !before.is_empty() && !before.ends_with(b"\n") {
        octets.extend_from_slice(newline);
    }
    octets.extend_from_slice(b"<br>");
    octets.extend_from_slice(newline);
    octets.extend_from_slice(OPENING);
    for (n, line) in lines.iter().enumerate() {
        if n > 0 {
            octets.extend_from_slice(b"<br>");
            octets.extend_from_slice(newline);
        }
        escape(line, charset, &mut octets);
    }
    octets.extend_from_slice(b"</div>");
    if at < html.len() || html.ends_with(b"\n") {
        octets.extend_from_slice(newline);
    }
    Some(Insertion { at, octets })
}

fn escape(line: &str, charset: Charset, out: &mut Vec<u8>) {
    for c in line.chars() {
        match c {
            '&' => out.extend_from_slice(b"&amp;"),
            '<' => out.extend_from_slice(b"&lt;"),
            '>' => out.extend_from_slice(b"&gt;"),
            '"' => out.extend_from_slice(b"&quot;"),
            c if charset.push(c, out) => {}
            c => out.extend_from_slice(format!("&#{};", u32::from(c)).as_bytes()),
        }
    }
}

/// Whether the visible text ends in the signature.
fn holds(html: &str, lines: &[String]) -> bool {
    let text = visible_text(html);
    let mut last = text.split_whitespace().rev();
    lines
        .iter()
        .flat_map(|line| line.split_whitespace())
        .rev()
        .all(|word| last.next() == Some(word))
}

fn visible_text(html: &str) -> String {
    let mut out = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(start) = rest.find(['<', '&']) {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        if rest.starts_with('<') {
            out.push(' ');
            rest = rest.find('>').map_or("", |end| &rest[end + 1..]);
        } else {
            let (c, length) = entity(rest).unwrap_or(('&', 1));
            out.push(c);
            rest = &rest[length..];
        }
    }
    out.push_str(rest);
    out
}

/// The entity at the start of a text, and its length.
fn entity(text: &str) -> Option<(char, usize)> {
    let end = text.bytes().take(12).position(|b| b == b';')?;
    let name = &text[1..end];
    let c = match name.strip_prefix('#') {
        Some(number) => {
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)?
        }
        None => ENTITIES.iter().find(|(known, _)| *known == name)?.1,
    };
    Some((c, end + 1))
}

/// The place of a signature: where the quotation begins that the text ends in, else the end of the
/// body. `None`: nobody would see it, for a comment, a script or a tag is open there.
pub(super) fn place(html: &[u8]) -> Option<usize> {
    let mut scan = Scan::default();
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'<', &html[at..]) {
        let open = at + found;
        scan.text(&html[at..open]);
        let Some(length) = markup(&html[open..]) else {
            // What is open to the end hides everything behind it.
            return scan.end();
        };
        if let Some(quotation) = scan.markup(html, open, length) {
            return Some(quotation);
        }
        at = open + length;
    }
    scan.text(&html[at..]);
    Some(scan.end().unwrap_or(html.len()))
}

/// The length of what begins with `<`: a tag, a comment, a script with its opening tag, or only the
/// sign itself. `None`: it has no end.
fn markup(html: &[u8]) -> Option<usize> {
    if html.starts_with(b"<!--") {
        return memchr::memmem::find(&html[2..], b"-->").map(|end| end + 5);
    }
    let begins_tag = |b: &u8| b.is_ascii_alphabetic() || matches!(b, b'/' | b'!' | b'?');
    if !html.get(1).is_some_and(begins_tag) {
        return Some(1);
    }
    let end = tag(html)?;
    let name = name(html);
    let raw = RAW.iter().any(|raw| name.eq_ignore_ascii_case(raw));
    if !raw || html.starts_with(b"</") || html[..end].ends_with(b"/>") {
        return Some(end);
    }
    memchr::memmem::find_iter(&html[end..], b"</")
        .map(|close| end + close)
        .find(|close| self::name(&html[*close..]).eq_ignore_ascii_case(name))
}

/// The length of a tag. A quote hides `>` only where a value begins with it.
fn tag(html: &[u8]) -> Option<usize> {
    let mut quote = None;
    let mut value = false;
    for (n, &byte) in html.iter().enumerate() {
        match quote {
            Some(open) if byte == open => quote = None,
            Some(_) => {}
            None if byte == b'>' => return Some(n + 1),
            None if value && matches!(byte, b'"' | b'\'') => quote = Some(byte),
            None => {}
        }
        if quote.is_none() && !byte.is_ascii_whitespace() {
            value = byte == b'=';
        }
    }
    None
}

/// The name in a tag.
fn name(tag: &[u8]) -> &[u8] {
    let name = tag.strip_prefix(b"<").unwrap_or(tag);
    let name = name.strip_prefix(b"/").unwrap_or(name);
    let end = name.iter().position(|b| !b.is_ascii_alphanumeric());
    &name[..end.unwrap_or(name.len())]
}

fn is_visible(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some(byte) = rest.first() {
        let begins = |blank: &&&[u8]| {
            rest.get(..blank.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(blank))
        };
        if byte.is_ascii_whitespace() || matches!(byte, 0xa0 | 0xc2) {
            rest = &rest[1..]; // a hard blank, in UTF-8 or by itself
        } else if let Some(blank) = BLANKS.iter().find(begins) {
            rest = &rest[blank.len()..];
        } else {
            return true;
        }
    }
    false
}

/// What was seen of a page so far.
#[derive(Default)]
struct Scan {
    /// Quotations that are open.
    depth: usize,
    /// Where the quotations begin that no text of the author has followed.
    quotation: Option<usize>,
    /// A line across the page that no text has followed.
    rule: Option<usize>,
    /// Where the block began that is open now, and whether it has text.
    block: usize,
    has_text: bool,
    /// Where the last block with text began.
    last_text: Option<usize>,
    /// The last `</body>` and `</html>`.
    body: Option<usize>,
    html: Option<usize>,
}

impl Scan {
    fn text(&mut self, text: &[u8]) {
        if self.depth > 0 || !is_visible(text) {
            return;
        }
        self.quotation = None;
        self.rule = None;
        if !self.has_text {
            self.has_text = true;
            self.last_text = Some(self.block);
        }
    }

    /// A tag, or something else that begins with `<`. Gives the place, if nothing behind it matters.
    fn markup(&mut self, html: &[u8], open: usize, length: usize) -> Option<usize> {
        let tag = &html[open..open + length];
        if length == 1 {
            self.text(tag);
            return None;
        }
        let closing = tag.starts_with(b"</");
        let name = name(tag).to_ascii_lowercase();
        match name.as_slice() {
            b"blockquote" if closing => self.depth = self.depth.saturating_sub(1),
            b"blockquote" => {
                if self.depth == 0 && self.quotation.is_none() {
                    self.quotation = Some(self.citing(html, open).unwrap_or(open));
                }
                self.depth += 1;
            }
            b"body" if closing => self.body = Some(open),
            b"html" if closing => self.html = Some(open),
            b"hr" if self.depth == 0 => self.rule = Some(open),
            b"div" if !closing && self.depth == 0 && is_reply(tag) => {
                return Some(self.quotation.or(self.rule).unwrap_or(open));
            }
            _ => {}
        }
        if BLOCKS.contains(&name.as_slice()) {
            let void = matches!(name.as_slice(), b"br" | b"hr");
            self.block = if closing || void { open + length } else { open };
            self.has_text = false;
        }
        None
    }

    /// Where the line begins that introduces a quotation, if one stands in front of it.
    fn citing(&self, html: &[u8], open: usize) -> Option<usize> {
        let start = self.last_text?;
        let line = html.get(start..open).filter(|l| l.len() <= CITING_LIMIT)?;
        let text = visible_text(&String::from_utf8_lossy(line));
        let text = text.trim();
        (text.ends_with(':') && is_citing(text.as_bytes())).then_some(start)
    }

    /// The place in front of what ends the text; `None`: nothing was seen that does.
    fn end(&self) -> Option<usize> {
        self.quotation.or(self.body).or(self.html)
    }
}

/// Whether a tag opens the message that a reply repeats.
fn is_reply(tag: &[u8]) -> bool {
    let tag = tag.to_ascii_lowercase();
    REPLIES
        .iter()
        .any(|word| memchr::memmem::find(&tag, word).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &str =
        "<div class=\"postbote-signature\">MfG &amp;<br>\r\n&lt;Erika&gt;</div>";

    fn lines() -> Vec<String> {
        ["MfG &", "<Erika>"].map(str::to_owned).to_vec()
    }

    #[test]
    fn places() {
        // The place is where `|` stands.
        for html in [
            "|",
            "Hallo|",
            "<p>Hallo</p>\r\n|",
            "<html><body>Hallo|</body></html>",
            "<HTML><BODY>Hallo|</BODY ></HTML>\r\n",
            "<html>Hallo|</html>",
            "<body>a</body><body>b|</body>",
            "<body>a|</body><!-- </body> -->",
            "<body><script>x = '</body>'</script>a|</body>",
            "<title>&lt;</body></title><body>a|</body>",
            "<body><!--> a|</body>",
            "<body>1 < 2|</body>",
            "<body><a href='</body>'>x</a>|</body>",
            "<body>don't <b>x=\"</b>|</body>",
            "<body>a|</body><!-- open",
            "<body>a|</body><a href=\"open",
            "<body>a|<blockquote>b<!-- open",
            "<body>a<!-- b -->|",
            "<body>a|<blockquote type=\"cite\">b</blockquote><br>&nbsp;\r\n</body>",
            "<body><blockquote>b</blockquote>a|</body>",
            "<body><blockquote>a</blockquote>b<p>|<blockquote>c</blockquote><blockquote>d</blockquote></body>",
            "<body>a|<blockquote>b<blockquote>c</blockquote>d",
            "<body>a<br>|<p>Am 1.2. schrieb <b>Max</b>:<br></p>\r\n<blockquote>b</blockquote></body>",
            "<body>a|<div class=\"moz-cite-prefix\">Am 1.2. schrieb Max:<br></div><blockquote>b</blockquote></body>",
            "<div>a<br>|<div class=\"gmail_quote\"><div>On x wrote:</div><blockquote>b</blockquote></div></div>",
            "<body>a<blockquote>own</blockquote>b|<div id='divRplyFwdMsg'>c</div></body>",
            "<body>a|<hr><div id=\"divRplyFwdMsg\">b</div></body>",
            "<body>a|<div id=\"appendonsend\"></div><hr><div id=\"divRplyFwdMsg\">b</div></body>",
            "<p>a</p><div>|<div style='border:none;border-top:solid #E1E1E1 1.0pt'>Von:</div></div>",
        ] {
            let at = html.find('|').expect("a mark");
            let html = html.replace('|', "");
            assert_eq!(place(html.as_bytes()), Some(at), "{html}");
        }
        for html in [
            "<body>a<!-- open </body>",
            "<p>a</p><!-- open",
            "a<!--",
            "<p>a</p><a href=\"open>b</a>",
            "<p>a</p><b",
            "<p>a</p><script>b",
            "<body>a<title>b</body>",
        ] {
            assert_eq!(place(html.as_bytes()), None, "{html}");
        }
    }

    #[test]
    fn what_is_put_there() {
        for (html, expected) in [
            ("", format!("<br>\r\n{SIGNATURE}")),
            ("a", format!("a\r\n<br>\r\n{SIGNATURE}")),
            ("a\r\n", format!("a\r\n<br>\r\n{SIGNATURE}\r\n")),
            ("a</body>", format!("a\r\n<br>\r\n{SIGNATURE}\r\n</body>")),
        ] {
            let utf8 = Charset::Utf8;
            let put = |html: &str| {
                let at = place(html.as_bytes()).expect(html);
                insertion(html.as_bytes(), at, &lines(), utf8, utf8, b"\r\n")
            };
            let found = put(html).expect(html);
            let (before, after) = html.split_at(found.at);
            let octets = String::from_utf8(found.octets).expect("text");
            assert_eq!(format!("{before}{octets}{after}"), expected);
            assert!(put(&expected).is_none());
        }
        let mut out = Vec::new();
        escape("ü € \"x\"", Charset::Latin1, &mut out);
        assert_eq!(out, b"\xfc &#8364; &quot;x&quot;");
    }

    #[test]
    fn stands_there_already() {
        let lines = ["Grüße", "Erika & Co"].map(str::to_owned);
        for (html, found) in [
            (
                "<p>a</p><p>Gr&uuml;&szlig;e<br>\r\nErika&nbsp;&amp; Co</p>",
                true,
            ),
            ("<p>Gr&#252;&#xDF;e</p><p>Erika & Co</p>&nbsp;", true),
            ("<p>Grüße<br>Erika &amp; Co</p>P.S.", false),
            ("<p>Erika &amp; Co</p>", false),
            ("", false),
        ] {
            assert_eq!(holds(html, &lines), found, "{html}");
        }
    }

    #[test]
    fn takes_linear_time() {
        for piece in [
            "<",
            "<a b=\"",
            "<!--",
            "</body>",
            "&nbsp;",
            "<blockquote>",
            "<script>",
        ] {
            let html = piece.repeat(200_000);
            assert!(place(html.as_bytes()).is_none_or(|at| at <= html.len()));
        }
    }
}
