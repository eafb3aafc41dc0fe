//! The retry schedule. Pure.

use std::time::Duration;

/// `[retry]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Time to the first retry.
    pub first: Duration,
    /// Longest time between retries.
    pub maximum: Duration,
    /// Then a bounce.
    pub give_up_after: Duration,
    /// Then a delay notice; zero: none.
    pub warn_after: Duration,
    /// What becomes of mail whose final answer was lost.
    pub uncertain: Uncertain,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(60),
            maximum: Duration::from_secs(3600),
            give_up_after: Duration::from_secs(5 * 86_400),
            warn_after: Duration::from_secs(4 * 3600),
            uncertain: Uncertain::Retry,
        }
    }
}

/// What becomes of mail whose final answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uncertain {
    /// Tried again by the schedule, on the same route, with the same Message-ID.
    Retry,
    /// Kept for a person.
    Hold,
}

impl Settings {
    /// The wait before try number `failures + 1`, after so many failures (at least one): doubling
    /// from `first` to `maximum`.
    pub fn wait(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.first
            .saturating_mul(1u32 << doublings)
            .min(self.maximum.max(self.first))
    }

    /// The same with up to a fifth more or less, so that many do not come at once. `random` is
    /// any number, its lowest 16 bits are used.
    pub fn wait_with_jitter(&self, failures: u32, random: u32) -> Duration {
        let share = 0.8 + 0.4 * f64::from(random & 0xffff) / 65_535.0;
        self.wait(failures).mul_f64(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_the_maximum() {
        let settings = Settings::default();
        let minutes: Vec<u64> = (1..=9).map(|n| settings.wait(n).as_secs() / 60).collect();
        assert_eq!(minutes, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(settings.wait(u32::MAX), settings.maximum);
        for random in [0, 1, 0x7fff, 0xffff, u32::MAX] {
            let wait = settings.wait_with_jitter(3, random).as_secs_f64();
            assert!((192.0..=288.0).contains(&wait), "{wait}");
        }
    }
}
