//! Absolute `http` and `https` addresses, as far as we write them into configuration.

use std::fmt;

/// An absolute address. It shows itself without its query, which may hold a code or a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    secure: bool,
    host: String,
    port: u16,
    target: String,
}

impl Url {
    /// Reads one. `https` everywhere, `http` only to a loopback address.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (secure, rest) = if let Some(rest) = strip_prefix(text, "https://") {
            (true, rest)
        } else if let Some(rest) = strip_prefix(text, "http://") {
            (false, rest)
        } else {
            return Err("it has to begin with https://".to_owned());
        };
        if text.bytes().any(|b| b <= b' ' || b == 0x7f || b == b'\\') || !text.is_ascii() {
            return Err("it has a blank, a backslash or a letter beyond ASCII in it".to_owned());
        }
        let rest = rest.split('#').next().unwrap_or("");
        let cut = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(cut);
        if authority.contains('@') {
            return Err("a user name or password in it is not supported".to_owned());
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                let port = port
                    .parse()
                    .ok()
                    .filter(|port| *port > 0)
                    .ok_or_else(|| format!("{port:?} is not a port"))?;
                (host, port)
            }
            _ => (authority, if secure { 443 } else { 80 }),
        };
        let host = host.to_ascii_lowercase();
        let valid = if let Some(inner) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            inner.parse::<std::net::Ipv6Addr>().is_ok()
        } else {
            !host.is_empty()
                && host.len() <= 253
                && host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        };
        if !valid {
            return Err("it names no host".to_owned());
        }
        if !secure && !is_loopback(&host) {
            return Err("only https:// is allowed, http:// to a loopback address alone".to_owned());
        }
        let target = if target.starts_with('/') {
            target.to_owned()
        } else {
            format!("/{target}")
        };
        Ok(Self {
            secure,
            host,
            port,
            target,
        })
    }

    /// Whether TLS is used.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host, an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether the host is this very machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Host, and the port if it is not the usual one.
    pub fn authority(&self) -> String {
        let usual = if self.secure { 443 } else { 80 };
        if self.port == usual {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Scheme and authority.
    pub fn origin(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    /// The same server with more behind its path.
    pub fn join(&self, more: &str) -> Self {
        Self {
            target: format!("{}{more}", self.target.trim_end_matches('/')),
            ..self.clone()
        }
    }

    /// The same server with this path and query instead.
    pub fn at(&self, target: &str) -> Self {
        Self {
            target: target.to_owned(),
            ..self.clone()
        }
    }

    /// The whole, query included.
    pub fn whole(&self) -> String {
        format!("{}{}", self.origin(), self.target)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target.split('?').next().unwrap_or("");
        write!(f, "{}{path}", self.origin())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix)
        .then(|| &text[prefix.len()..])
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

/// A text as part of a path or of a query (RFC 3986 unreserved characters stay).
pub fn encode(text: &str) -> String {
    encode_but(text, b"-._~")
}

/// A mail address as a segment of a path: `@` stays, as Microsoft writes it.
pub fn encode_address(text: &str) -> String {
    encode_but(text, b"-._~@")
}

fn encode_but(text: &str, kept: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Names and values as `application/x-www-form-urlencoded`; as a query, too.
pub fn form(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    pairs.join("&")
}

/// Names and values of a query (WHATWG URL, application/x-www-form-urlencoded).
pub fn decode_query(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .take(100)
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (bytes[at], hex) {
            (_, Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', None) => out.push(b' '),
            (byte, None) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let good = |text: &str, whole: &str| {
            assert_eq!(Url::parse(text).map(|u| u.whole()).as_deref(), Ok(whole));
        };
        good(
            "https://Graph.Microsoft.com",
            "https://graph.microsoft.com/",
        );
        good("HTTPS://a.example:443/x?y=1#z", "https://a.example/x?y=1");
        good("http://127.0.0.1:8080/token", "http://127.0.0.1:8080/token");
        good("http://[::1]:8080", "http://[::1]:8080/");
        good("http://localhost?x", "http://localhost/?x");
        for bad in [
            "",
            "graph.microsoft.com",
            "ftp://a.example",
            "file:///etc/passwd",
            "http://a.example",
            "https://",
            "https://a b",
            "https://user:pw@a.example",
            "https://a.example:0",
            "https://a.example:x",
            "http://127.0.0.1.evil.example/",
            "https://[zz]/",
            "https://a\\b",
            "https://a.example/\r\nHost: x",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn parts() {
        let url = Url::parse("https://graph.example/base/").expect("valid");
        assert_eq!(
            url.join("/v1.0/me").whole(),
            "https://graph.example/base/v1.0/me"
        );
        assert_eq!(url.at("/x?code=1").to_string(), "https://graph.example/x");
        assert_eq!(form(&[("a b", "c&d"), ("e", "ü")]), "a%20b=c%26d&e=%C3%BC");
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            decode_query("code=a%2Bb+c&&x&y=%zz%C3%BC"),
            [pair("code", "a+b c"), pair("x", ""), pair("y", "%zzü")]
        );
        assert_eq!(encode_address("a+b#c@d.example"), "a%2Bb%23c@d.example");
    }
}
