//! xtext of RFC 3461 section 4: how ENVID, ORCPT and AUTH values travel in parameters.

/// Decodes xtext. `None` when it is malformed, is not ASCII, or decodes to a control character,
/// which would let a parameter smuggle line ends into another command.
pub fn decode(text: &str) -> Option<String> {
    text.is_ascii().then(|| decode_utf8(text)).flatten()
}

/// The same where UTF-8 may stand as it is: the addresses of type `utf-8` in ORCPT (RFC 6533).
pub fn decode_utf8(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'+' => {
                let hex = bytes.get(i + 1..i + 3)?;
                if !hex
                    .iter()
                    .all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(b))
                {
                    return None;
                }
                let value = u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?;
                out.push(value);
                i += 3;
            }
            b'=' => return None,
            b'!'..=b'~' => {
                out.push(bytes[i]);
                i += 1;
            }
            // UTF-8 in ORCPT under SMTPUTF8 (RFC 6533).
            0x80.. => {
                out.push(bytes[i]);
                i += 1;
            }
            _ => return None,
        }
    }
    let decoded = String::from_utf8(out).ok()?;
    let harmless = |c: char| !c.is_control() && !super::address::forbidden_anywhere(c);
    decoded.chars().all(harmless).then_some(decoded)
}

/// Encodes a value as xtext; always decodes back to the same value.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'+' | b'=' => out.push_str(&format!("+{byte:02X}")),
            b'!'..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("+{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_or_refuses() {
        for (input, expected) in [
            ("abc", Some("abc")),
            ("a+2Bb", Some("a+b")),
            ("a+3Db", Some("a=b")),
            ("x+0D+0ADATA", None),
            ("x+0Ay", None),
            ("x+2", None),
            ("x+2b", None),
            ("a=b", None),
            ("a b", None),
        ] {
            assert_eq!(decode(input).as_deref(), expected, "{input}");
        }
    }

    #[test]
    fn round_trip() {
        for text in ["a+b=c d", "ä@b", "plain"] {
            assert_eq!(decode(&encode(text)).as_deref(), Some(text));
        }
    }
}
