//! Address lists of header fields (RFC 5322 section 3.4), read leniently and in linear time.
//!
//! What is read here serves to compare and to report; it is never copied into what we send,
//! which is always written anew from checked parts.

use super::rfc2047;
use crate::smtp::address::Address;

/// Most mailboxes read from one field.
pub const MAILBOX_LIMIT: usize = 2000;
/// What is an at sign to a reader.
const AT_SIGNS: [char; 3] = ['@', '＠', '﹫'];

/// One mailbox: `Name <address>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// The decoded display name, empty if none.
    pub name: String,
    /// The address; `None` when what stands there is none.
    pub address: Option<Address>,
}

/// What an address field holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MailboxList {
    /// Mailboxes in order, those of groups among them.
    pub mailboxes: Vec<Mailbox>,
    /// Group syntax was used.
    pub group: bool,
    /// Something could not be read cleanly: text behind `>`, two addresses without a comma.
    pub dubious: bool,
    /// Not as a sender has to be written, who is to be checked: dubious, or what a list of recipients
    /// may hold, such as a source route, an element with nothing in it, a comment with an address.
    pub odd: bool,
    /// A display name holds an `@`.
    address_in_name: bool,
}

impl MailboxList {
    /// The one mailbox of a field that must hold exactly one, cleanly written. Its name may show its
    /// own address, but no other one.
    pub fn single(&self) -> Option<(&str, &Address)> {
        match self.mailboxes.as_slice() {
            [one] if !self.group && !self.odd => {
                let address = one.address.as_ref()?;
                (!is_misleading(&one.name, address)).then_some((one.name.as_str(), address))
            }
            _ => None,
        }
    }
}

/// Whether a reader may take a display name for the address, and it is another one.
fn is_misleading(name: &str, address: &Address) -> bool {
    let is_own = |shown: Address| {
        // Quotes around a local part are of no account.
        let bare = |a: &Address| a.local().replace('"', "").to_ascii_lowercase();
        bare(&shown) == bare(address) && shown.ascii_domain() == address.ascii_domain()
    };
    (name.contains(AT_SIGNS) || name.contains(['<', '>']))
        && !Address::parse(name.trim()).is_ok_and(is_own)
}

/// Reads a field's value (unfolded).
pub fn parse(value: &str) -> MailboxList {
    let mut list = read(value);
    list.odd |= list.dubious || value.chars().any(|c| c.is_control() && c != '\t');
    // Which of the two a reader shows is anybody's guess.
    list.dubious |= list.address_in_name;
    list
}

fn read(value: &str) -> MailboxList {
    let mut list = MailboxList::default();
    let mut reader = Reader::default();
    let mut comment = 0u32;
    let mut remarks = String::new();
    let mut chars = value.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        if comment > 0 {
            match c {
                '\\' => remarks.extend(chars.next()),
                '(' => comment += 1,
                ')' => comment -= 1,
                _ => remarks.push(c),
            }
            continue;
        }
        if quoted {
            match c {
                '\\' => reader.push_quoted(chars.next().unwrap_or('\\')),
                '"' => {
                    quoted = false;
                    reader.end_quote();
                }
                _ => reader.push_quoted(c),
            }
            continue;
        }
        match c {
            '(' => {
                comment = 1;
                remarks.push(' ');
            }
            '"' => {
                quoted = true;
                reader.start_quote();
            }
            '<' => reader.open(&mut list.dubious),
            '>' => reader.close(&mut list.dubious),
            ',' => {
                if reader.in_route() {
                    reader.push(c); // a source route: <@a,@b:c@d>
                } else {
                    reader.finish(&mut list);
                }
            }
            ':' if !reader.in_angle => {
                // A group's name; what it was is of no use to us.
                list.group = true;
                reader = Reader::default();
            }
            ';' if !reader.in_angle => {
                list.group = true;
                reader.finish(&mut list);
            }
            // A bracket belongs to an address of numbers only: `user@[192.0.2.1]`.
            '[' if !reader.in_angle && !reader.bare.ends_with('@') => {
                list.dubious = true;
                reader.push(c);
            }
            ')' => {
                // It closes nothing: readers differ on what stands there.
                list.dubious = true;
                reader.push(c);
            }
            c if c.is_control() && c != '\t' => {
                list.dubious = true;
                reader.push(c);
            }
            _ => reader.push(c),
        }
        if list.mailboxes.len() >= MAILBOX_LIMIT {
            list.dubious = true;
            return list;
        }
    }
    if comment > 0 || quoted || reader.in_angle {
        list.dubious = true;
    }
    reader.finish(&mut list);
    list.odd |= remarks.contains(AT_SIGNS) || rfc2047::decode_words(&remarks).contains(AT_SIGNS);
    list
}

#[derive(Default)]
struct Reader {
    /// Text outside the brackets, without quotes: the display name.
    name: String,
    /// The same with quotes: an address that stands without brackets.
    bare: String,
    angle: Option<String>,
    in_angle: bool,
    /// An `@` stands outside the brackets, without quotes.
    at_sign: bool,
}

impl Reader {
    fn in_route(&self) -> bool {
        self.in_angle
            && self
                .angle
                .as_ref()
                .is_some_and(|a| a.trim_start().starts_with('@') && !a.contains(':'))
    }

    fn push(&mut self, c: char) {
        if self.in_angle {
            if let Some(angle) = &mut self.angle {
                angle.push(c);
            }
        } else {
            self.name.push(c);
            self.bare.push(c);
            self.at_sign |= c == '@';
        }
    }

    fn start_quote(&mut self) {
        self.raw('"');
    }

    fn end_quote(&mut self) {
        self.raw('"');
    }

    fn raw(&mut self, c: char) {
        match &mut self.angle {
            Some(angle) if self.in_angle => angle.push(c),
            _ => self.bare.push(c),
        }
    }

    fn push_quoted(&mut self, c: char) {
        if matches!(c, '"' | '\\') {
            self.raw('\\');
        }
        self.raw(c);
        if !self.in_angle {
            self.name.push(c);
        }
    }

    fn open(&mut self, dubious: &mut bool) {
        if self.angle.is_some() {
            *dubious = true;
        }
        self.angle = Some(String::new());
        self.in_angle = true;
    }

    fn close(&mut self, dubious: &mut bool) {
        if !self.in_angle {
            *dubious = true;
        }
        self.in_angle = false;
        // Anything but blanks behind the bracket belongs to no mailbox.
        self.name.push('\u{0}');
    }

    fn finish(&mut self, list: &mut MailboxList) {
        let reader = std::mem::take(self);
        let (name, behind) = reader
            .name
            .split_once('\u{0}')
            .unwrap_or((&reader.name, ""));
        if !behind.replace('\u{0}', "").trim().is_empty() {
            list.dubious = true;
        }
        let mailbox = match reader.angle {
            Some(angle) => {
                let angle = angle.trim();
                let plain = if angle.starts_with('@') {
                    list.odd = true;
                    angle.split_once(':').map_or(angle, |(_, a)| a)
                } else {
                    angle
                };
                if reader.at_sign {
                    list.dubious = true; // `a@b <c@d>` is no name at all
                }
                list.address_in_name |= name.contains('@');
                list.odd |= plain.trim().ends_with('.');
                Mailbox {
                    name: rfc2047::decode_words(name.trim()),
                    address: Address::parse(plain.trim()).ok(),
                }
            }
            None => {
                let bare = reader.bare.trim();
                if bare.is_empty() {
                    list.odd = true;
                    return;
                }
                list.odd |= bare.ends_with('.');
                Mailbox {
                    name: String::new(),
                    address: Address::parse(bare).ok(),
                }
            }
        };
        if mailbox.address.is_none() {
            list.dubious = true;
        }
        list.mailboxes.push(mailbox);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Option<(String, String)> {
        parse(text)
            .single()
            .map(|(n, a)| (n.to_owned(), a.to_string()))
    }

    #[test]
    fn single_mailboxes() {
        for (text, name, address) in [
            ("a@b.c", "", "a@b.c"),
            ("<a@b.c>", "", "a@b.c"),
            ("Max Muster <a@b.c>", "Max Muster", "a@b.c"),
            ("\"Muster, Max\" <a@b.c> (comment)", "Muster, Max", "a@b.c"),
            ("=?utf-8?b?TcO8bGxlcg==?= <a@b.c>", "Müller", "a@b.c"),
            ("\"a b\"@c.d", "", "\"a b\"@c.d"),
            ("(x) a@b.c", "", "a@b.c"),
            ("a@b.c (M\\(ax)", "", "a@b.c"),
            ("a@b.c (=?utf-8?q?M=C3=BCller?=)", "", "a@b.c"),
            ("Max M.\t<a@b.c>", "Max M.", "a@b.c"),
            ("\"a@b.c\" <A@b.C>", "a@b.c", "A@b.c"),
            ("=?utf-8?q?_A=40B.c_?= <a@b.c>", " A@B.c ", "a@b.c"),
            (
                "\"a@Müller.example\" <a@xn--mller-kva.example>",
                "a@Müller.example",
                "a@xn--mller-kva.example",
            ),
        ] {
            assert_eq!(
                one(text),
                Some((name.to_owned(), address.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn nothing_to_trust() {
        for text in [
            "",
            "a@t, b@evil",
            "G: a@t, b@t;",
            "undisclosed:;",
            "\"x\"<a@t><b@v>",
            "a@t <b@v>",
            "<a@t>admin@v",
            "=?utf-8?q?=3Ca=40v=3E?= b@t",
            "First Last a@b.c",
            "<a@t",
            "\"open <a@t>",
            "<@a,@b:admin@victim>, x@y",
            "<@a:a@b.c>",
            "<@a,@b:a@b.c>",
            ",<a@b.c>",
            "<a@b.c> ,",
            "a@b.c,,",
            "(x), a@b.c",
            "a@b.c.",
            "<a@b.c.>",
            "a@b.c\u{b}",
            "\u{b} a@b.c",
            "\"M\u{7}ax\" <a@b.c>",
            "(\u{1}) a@b.c",
            "Max <a@b.c>\u{0}",
            "a@b.c <a@b.c>",
            "\"v@w\" <a@b.c>",
            "\"a@b.c \" \"v@w\" <a@b.c>",
            "=?utf-8?q?v=40w?= <a@b.c>",
            "=?utf-8?q?Max_=3Ca?= <a@b.c>",
            "\"Max >\" <a@b.c>",
            "\"\u{212A}@b.c\" <k@b.c>",
            "v＠w <a@b.c>",
            "=?utf-8?b?dvy8oHc=?= v﹫w <a@b.c>",
            "a@b.c (v@w)",
            "(v\\@w) <a@b.c>",
            "(x (v＠w)) <a@b.c>",
            "a@b.c (=?utf-8?q?v=40w?=)",
        ] {
            assert_eq!(one(text), None, "{text:?}");
        }
        assert_eq!(parse("a@b.c, Max <d@e.f>; x").mailboxes.len(), 3);
    }

    /// What is odd in a sender is no reason to write a list of recipients anew.
    #[test]
    fn recipients_may_be_odd() {
        for (text, count, dubious) in [
            ("<@a,@b:c@d>, x@y", 2, false),
            (",a@b,, c@d,", 2, false),
            ("a@b.c., <d@e.>", 2, false),
            ("a@b (at v@w), c@d", 2, false),
            ("\"M\u{7}ax\" <a@b>", 1, false),
            ("=?utf-8?q?v=40w?= <a@b>", 1, false),
            ("\"a@b\" <a@b>", 1, true),
            ("a@b <c@d>", 1, true),
            ("a@b\u{b}", 1, true),
        ] {
            let list = parse(text);
            assert_eq!(list.mailboxes.len(), count, "{text:?}");
            assert_eq!(list.dubious, dubious, "{text:?}");
            assert!(list.odd || count == 1, "{text:?}");
        }
    }

    #[test]
    fn linear_on_nonsense() {
        let nested = "(".repeat(100_000);
        assert!(parse(&nested).dubious);
        assert!(parse(&",".repeat(100_000)).mailboxes.is_empty());
        assert!(parse(&"a@b,".repeat(100_000)).dubious);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,200}") {
            let _ = parse(&text);
        }
    }
}
