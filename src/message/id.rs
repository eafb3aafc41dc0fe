//! Names: a message's queue id, a tenant's id.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;

/// Crockford's base 32 in lower case: no letter that is read as another.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The queue id of a message: 16 characters that sort by time of acceptance. It stands in our
/// 250 reply, in every log line, and in what the operator types.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId([u8; 16]);

impl MessageId {
    /// A fresh id: 48 bits of milliseconds, 32 bits that start at random and count up, so that
    /// ids of one process never meet and those of several machines hardly ever.
    pub fn fresh() -> Self {
        static LAST: Mutex<(u64, u32)> = Mutex::new((0, 0));
        let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
        let mut last = LAST
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if now > last.0 {
            let mut random = [0u8; 4];
            // Without entropy the counter alone still keeps ids of this process apart.
            let _ = aws_lc_rs::rand::fill(&mut random);
            *last = (now, u32::from_be_bytes(random) >> 1);
        } else {
            last.1 = last.1.wrapping_add(1);
        }
        let bits = (u128::from(last.0 & 0xffff_ffff_ffff) << 32) | u128::from(last.1);
        let mut text = [0u8; 16];
        for (i, slot) in text.iter_mut().enumerate() {
            let index = (bits >> (75 - 5 * i)) & 31;
            *slot = ALPHABET[usize::try_from(index).unwrap_or(0)];
        }
        Self(text)
    }

    /// Parses what a person typed or a row holds.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 16] = text.to_ascii_lowercase().into_bytes().try_into().ok()?;
        bytes
            .iter()
            .all(|b| ALPHABET.contains(b))
            .then_some(Self(bytes))
    }

    /// The 16 characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("")
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The id of a tenant: the name of its file, `[a-z0-9-]{1,63}`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// Checks the allowed form.
    pub fn parse(text: &str) -> Option<Self> {
        let valid = (1..=63).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        valid.then(|| Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_and_differ() {
        let ids: Vec<MessageId> = (0..10_000).map(|_| MessageId::fresh()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(MessageId::parse(ids[0].as_str()), Some(ids[0]));
        assert_eq!(MessageId::parse("../../etc/passwd"), None);
    }
}
