//! Character sets of text bodies: which octets a signature has there. The ones that offices here
//! send are written by themselves; in any other a signature is ASCII, letter by letter.

use crate::message::rfc2047;

/// How a part's text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charset {
    /// US-ASCII, or nothing said.
    Ascii,
    /// UTF-8.
    Utf8,
    /// ISO-8859-1.
    Latin1,
    /// ISO-8859-15.
    Latin9,
    /// Windows-1252.
    Windows1252,
    /// Another one in which ASCII is ASCII.
    Other,
    /// ISO-2022-JP: ASCII is ASCII until an escape says otherwise.
    Shifting,
    /// One in which ASCII is something else.
    Foreign,
}

/// Where ISO-8859-15 differs from ISO-8859-1.
const LATIN_9: [(u8, char); 8] = [
    (0xa4, '€'),
    (0xa6, 'Š'),
    (0xa8, 'š'),
    (0xb4, 'Ž'),
    (0xb8, 'ž'),
    (0xbc, 'Œ'),
    (0xbd, 'œ'),
    (0xbe, 'Ÿ'),
];

/// The EBCDIC pages of IBM by number.
const EBCDIC: [&str; 16] = [
    "037", "273", "277", "278", "280", "284", "285", "297", "500", "871", "1026", "1047", "1140",
    "1141", "1148", "01141",
];

impl Charset {
    /// By its name in a Content-Type.
    pub(super) fn of(label: Option<&str>) -> Self {
        let name: String = label
            .unwrap_or_default()
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|c| c.to_ascii_lowercase())
            .collect();
        let page = name.strip_prefix("ibm").or_else(|| name.strip_prefix("cp"));
        match name.as_str() {
            "" | "usascii" | "ascii" | "ansix341968" | "iso646us" => Self::Ascii,
            "utf8" | "unicode11utf8" => Self::Utf8,
            "iso88591" | "latin1" | "l1" | "cp819" | "ibm819" => Self::Latin1,
            "iso885915" | "latin9" | "l9" => Self::Latin9,
            "windows1252" | "cp1252" | "xcp1252" => Self::Windows1252,
            _ if name.starts_with("iso2022jp") => Self::Shifting,
            "hz" | "hzgb2312" => Self::Foreign,
            _ if ["utf", "ucs", "unicode", "iso10646", "iso2022", "ebcdic"]
                .iter()
                .any(|foreign| name.starts_with(foreign))
                || name.contains("utf7")
                || page.is_some_and(|page| EBCDIC.contains(&page)) =>
            {
                Self::Foreign
            }
            _ => Self::Other,
        }
    }

    /// Its name in a Content-Type; of those that are ever written there.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "utf-8",
            Self::Latin1 => "iso-8859-1",
            Self::Latin9 => "iso-8859-15",
            Self::Windows1252 => "windows-1252",
            Self::Ascii | Self::Other | Self::Shifting | Self::Foreign => "us-ascii",
        }
    }

    /// Writes one character; `false`: it has none for it.
    pub(super) fn push(self, c: char, out: &mut Vec<u8>) -> bool {
        if c.is_ascii() || self == Self::Utf8 {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return true;
        }
        // Above the controls ISO-8859-1 is the beginning of Unicode.
        let latin = u8::try_from(c).ok().filter(|byte| *byte >= 0xa0);
        let byte = match self {
            Self::Latin1 => latin,
            Self::Latin9 => LATIN_9
                .iter()
                .find(|(_, own)| *own == c)
                .map(|(byte, _)| *byte)
                .or(latin.filter(|byte| !LATIN_9.iter().any(|(other, _)| other == byte))),
            Self::Windows1252 => {
                (0x80..=0xff).find(|byte| c != '\u{FFFD}' && rfc2047::windows_1252(*byte) == c)
            }
            _ => None,
        };
        out.extend(byte);
        byte.is_some()
    }

    /// Text in it; `None`: it has no room for all of it. In [`Self::Other`] everything has a place.
    pub(super) fn encode(self, text: &str) -> Option<Vec<u8>> {
        if matches!(self, Self::Other | Self::Shifting | Self::Foreign) {
            return Some(transliterated(text).into_bytes());
        }
        let mut out = Vec::with_capacity(text.len());
        text.chars().all(|c| self.push(c, &mut out)).then_some(out)
    }

    /// Octets as text. What calls itself ISO-8859-1 is read as Windows-1252, as every reader does.
    pub(super) fn decode(self, octets: &[u8]) -> String {
        let western = |byte: u8| match rfc2047::windows_1252(byte) {
            '\u{FFFD}' => char::from(byte),
            c => c,
        };
        match self {
            Self::Latin1 | Self::Windows1252 => octets.iter().map(|b| western(*b)).collect(),
            Self::Latin9 => octets
                .iter()
                .map(|b| {
                    let own = LATIN_9.iter().find(|(byte, _)| byte == b);
                    own.map_or(char::from(*b), |(_, c)| *c)
                })
                .collect(),
            _ => String::from_utf8_lossy(octets).into_owned(),
        }
    }

    /// Whether an escape in front of this place makes ASCII mean something else here.
    pub(super) fn is_shifted(self, before: &[u8]) -> bool {
        self == Self::Shifting
            && memchr::memrchr(0x1b, before).is_some_and(|escape| {
                let set = before.get(escape + 1..escape + 3).unwrap_or_default();
                set != b"(B" && set != b"(J"
            })
    }
}

/// Text in ASCII as Germans write it where there are no umlauts.
fn transliterated(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            out.push_str(ascii_of(c));
        }
    }
    out
}

fn ascii_of(c: char) -> &'static str {
    match c {
        'ä' | 'æ' => "ae",
        'ö' | 'œ' => "oe",
        'ü' => "ue",
        'Ä' | 'Æ' => "Ae",
        'Ö' | 'Œ' => "Oe",
        'Ü' => "Ue",
        'ß' => "ss",
        'ẞ' => "SS",
        'å' => "aa",
        'Å' => "Aa",
        'À'..='Ã' | 'Ā' | 'Ă' | 'Ą' => "A",
        'à'..='ã' | 'ā' | 'ă' | 'ą' | 'ª' => "a",
        'Ç' | 'Ć' | 'Ĉ' | 'Ċ' | 'Č' => "C",
        'ç' | 'ć' | 'ĉ' | 'ċ' | 'č' => "c",
        'Ð' | 'Ď' | 'Đ' => "D",
        'ð' | 'ď' | 'đ' => "d",
        'È'..='Ë' | 'Ē' | 'Ĕ' | 'Ė' | 'Ę' | 'Ě' => "E",
        'è'..='ë' | 'ē' | 'ĕ' | 'ė' | 'ę' | 'ě' => "e",
        'Ĝ' | 'Ğ' | 'Ġ' | 'Ģ' => "G",
        'ĝ' | 'ğ' | 'ġ' | 'ģ' => "g",
        'Ì'..='Ï' | 'Ī' | 'Į' | 'İ' => "I",
        'ì'..='ï' | 'ī' | 'į' | 'ı' => "i",
        'Ķ' => "K",
        'ķ' => "k",
        'Ĺ' | 'Ļ' | 'Ľ' | 'Ł' => "L",
        'ĺ' | 'ļ' | 'ľ' | 'ł' => "l",
        'Ñ' | 'Ń' | 'Ņ' | 'Ň' => "N",
        'ñ' | 'ń' | 'ņ' | 'ň' => "n",
        'Ò'..='Õ' | 'Ø' | 'Ō' | 'Ő' => "O",
        'ò'..='õ' | 'ø' | 'ō' | 'ő' | 'º' => "o",
        'Ŕ' | 'Ř' => "R",
        'ŕ' | 'ř' => "r",
        'Ś' | 'Ŝ' | 'Ş' | 'Š' | 'Ș' => "S",
        'ś' | 'ŝ' | 'ş' | 'š' | 'ș' => "s",
        'Ţ' | 'Ť' | 'Ț' => "T",
        'ţ' | 'ť' | 'ț' => "t",
        'Ù'..='Û' | 'Ũ' | 'Ū' | 'Ů' | 'Ű' | 'Ų' => "U",
        'ù'..='û' | 'ũ' | 'ū' | 'ů' | 'ű' | 'ų' => "u",
        'Ý' | 'Ÿ' => "Y",
        'ý' | 'ÿ' => "y",
        'Ź' | 'Ż' | 'Ž' => "Z",
        'ź' | 'ż' | 'ž' => "z",
        'Þ' => "Th",
        'þ' => "th",
        '€' => "EUR",
        '£' => "GBP",
        '©' => "(c)",
        '®' => "(R)",
        '™' => "(TM)",
        '\u{a0}' | '\u{2002}'..='\u{200a}' | '\u{202f}' => " ",
        '‐'..='―' | '−' => "-",
        '‘'..='‛' | '´' => "'",
        '“'..='‟' | '«' | '»' => "\"",
        '…' => "...",
        '•' | '·' => "*",
        '×' => "x",
        '½' => "1/2",
        '²' => "2",
        '³' => "3",
        // Marks over the letter before, and what has no shape at all.
        '\u{300}'..='\u{36f}' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{feff}' => "",
        _ => "?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (label, charset) in [
            (None, Charset::Ascii),
            (Some("US-ASCII"), Charset::Ascii),
            (Some("UTF-8"), Charset::Utf8),
            (Some("utf8"), Charset::Utf8),
            (Some("ISO-8859-1"), Charset::Latin1),
            (Some("iso_8859-1"), Charset::Latin1),
            (Some("iso-8859-15"), Charset::Latin9),
            (Some("Windows-1252"), Charset::Windows1252),
            (Some("iso-8859-2"), Charset::Other),
            (Some("iso-8859-11"), Charset::Other),
            (Some("gb2312"), Charset::Other),
            (Some("koi8-r"), Charset::Other),
            (Some("cp850"), Charset::Other),
            (Some("iso-2022-jp"), Charset::Shifting),
            (Some("iso-2022-kr"), Charset::Foreign),
            (Some("utf-16le"), Charset::Foreign),
            (Some("utf-7"), Charset::Foreign),
            (Some("x-unicode-2-0-utf-7"), Charset::Foreign),
            (Some("IBM037"), Charset::Foreign),
        ] {
            assert_eq!(Charset::of(label), charset, "{label:?}");
        }
    }

    #[test]
    fn written_and_read() {
        for (charset, text, octets) in [
            (Charset::Ascii, "Mueller", Some(&b"Mueller"[..])),
            (Charset::Ascii, "Müller", None),
            (Charset::Utf8, "ü€", Some(b"\xc3\xbc\xe2\x82\xac")),
            (Charset::Latin1, "Grüße", Some(b"Gr\xfc\xdfe")),
            (Charset::Latin1, "5 €", None),
            (Charset::Latin1, "„x“", None),
            (Charset::Latin9, "ü 5 €", Some(b"\xfc 5 \xa4")),
            (Charset::Latin9, "¤", None),
            (
                Charset::Windows1252,
                "„ü“ 5 €",
                Some(b"\x84\xfc\x93 5 \x80"),
            ),
            (Charset::Windows1252, "\u{FFFD}", None),
            (Charset::Windows1252, "Łódź", None),
            (
                Charset::Other,
                "Grüße, Łódź – 5 € 漢",
                Some(b"Gruesse, Lodz - 5 EUR ?"),
            ),
        ] {
            assert_eq!(
                charset.encode(text).as_deref(),
                octets,
                "{charset:?} {text}"
            );
            if let Some(octets) = octets
                && charset != Charset::Other
            {
                assert_eq!(charset.decode(octets), text);
            }
        }
        assert_eq!(Charset::Latin1.decode(b"\x80\x81"), "€\u{81}");
    }

    #[test]
    fn shifts() {
        for (before, shifted) in [
            (&b"plain"[..], false),
            (b"\x1b$B$3\x1b(B x", false),
            (b"\x1b$B$3", true),
            (b"\x1b$B$3\x1b", true),
        ] {
            assert_eq!(Charset::Shifting.is_shifted(before), shifted, "{before:?}");
            assert!(!Charset::Other.is_shifted(before));
        }
    }
}
