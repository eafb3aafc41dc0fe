//! What a server says of itself in its EHLO reply (RFC 5321 section 4.1.1.1).

/// Capabilities that change what we send.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// RFC 2920.
    pub pipelining: bool,
    /// RFC 6152.
    pub eight_bit_mime: bool,
    /// RFC 6531.
    pub smtputf8: bool,
    /// RFC 3461.
    pub dsn: bool,
    /// RFC 3207.
    pub starttls: bool,
    /// RFC 1870; `Some(0)` and a missing number mean no limit.
    pub size: Option<u64>,
    /// RFC 4954, mechanisms in upper case.
    pub auth: Vec<String>,
}

impl Capabilities {
    /// What a destination without limits can take (capture).
    pub fn unlimited() -> Self {
        Self {
            eight_bit_mime: true,
            smtputf8: true,
            ..Self::default()
        }
    }

    /// Reads the lines of an EHLO reply, the first one (the server's name) included. Unknown and
    /// malformed lines are skipped.
    pub fn parse(lines: &[String]) -> Self {
        let mut found = Self::default();
        for line in lines.iter().skip(1) {
            // Old servers write "AUTH=LOGIN PLAIN".
            let line = line.trim();
            let (keyword, rest) = line.split_once([' ', '=']).unwrap_or((line, ""));
            match keyword.to_ascii_uppercase().as_str() {
                "PIPELINING" => found.pipelining = true,
                "8BITMIME" => found.eight_bit_mime = true,
                "SMTPUTF8" => found.smtputf8 = true,
                "DSN" => found.dsn = true,
                "STARTTLS" => found.starttls = true,
                "SIZE" => found.size = rest.trim().parse().ok().filter(|n| *n > 0),
                "AUTH" => {
                    for mechanism in rest.split([' ', '=', '\t']).filter(|m| !m.is_empty()) {
                        let mechanism = mechanism.to_ascii_uppercase();
                        if !found.auth.contains(&mechanism) && found.auth.len() < 64 {
                            found.auth.push(mechanism);
                        }
                    }
                }
                _ => {}
            }
        }
        // RFC 6531 section 3.1: SMTPUTF8 implies 8BITMIME.
        found.eight_bit_mime |= found.smtputf8;
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses() {
        let lines = [
            "gmx.net Hello",
            "SIZE 69920427",
            "AUTH LOGIN PLAIN",
            "auth=login plain",
            "starttls",
        ]
        .map(String::from);
        let found = Capabilities::parse(&lines);
        assert_eq!(
            (found.size, found.starttls, found.pipelining),
            (Some(69_920_427), true, false)
        );
        assert_eq!(found.auth, ["LOGIN", "PLAIN"]);
        for (size, expected) in [
            ("SIZE 0", None),
            ("SIZE -5", None),
            ("SIZE", None),
            ("SIZE 1000", Some(1000)),
        ] {
            assert_eq!(
                Capabilities::parse(&["x".to_owned(), size.to_owned()]).size,
                expected,
                "{size}"
            );
        }
    }
}
