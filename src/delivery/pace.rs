//! How many messages a route may carry in a minute, as its provider has it.
//!
//! Counted are attempts that run and those that have ended in the last minute. Whatever lies
//! between start and end of an attempt, the moment at which the server counts the message among
//! it: no 60 seconds of the server's see more.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A minute of the server's clock, and a little for the ways to it.
const WINDOW: Duration = Duration::from_millis(60_500);

/// The recent past of a route.
#[derive(Default)]
pub(super) struct Pace {
    ended: VecDeque<Instant>,
}

/// Why the next message has to wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// So long.
    Until(Duration),
    /// For one that runs: it may end and count, or not.
    Running,
}

impl Pace {
    /// Whether the next message has to wait. `limit`: messages a minute; `running`: attempts that
    /// run.
    pub fn wait(&mut self, limit: Option<usize>, running: usize) -> Option<Pause> {
        self.wait_at(limit, running, Instant::now())
    }

    fn wait_at(&mut self, limit: Option<usize>, running: usize, now: Instant) -> Option<Pause> {
        let limit = limit?;
        while self
            .ended
            .front()
            .is_some_and(|ended| now.saturating_duration_since(*ended) >= WINDOW)
        {
            self.ended.pop_front();
        }
        if self.ended.len() + running < limit {
            return None;
        }
        // The one that has to leave the window first.
        let behind = (self.ended.len() + running - limit).min(self.ended.len());
        match self.ended.get(behind) {
            Some(ended) => Some(Pause::Until(
                WINDOW.saturating_sub(now.saturating_duration_since(*ended)),
            )),
            None => Some(Pause::Running),
        }
    }

    /// An attempt has ended that may have sent something.
    pub fn ended(&mut self, limit: Option<usize>) {
        if let Some(limit) = limit {
            self.ended.push_back(Instant::now());
            while self.ended.len() > limit {
                self.ended.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_window_sees_more_than_the_limit() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut pace = Pace::default();
        assert_eq!(pace.wait_at(None, 1000, at(0)), None);
        assert_eq!(pace.wait_at(Some(2), 1, at(0)), None);
        assert_eq!(pace.wait_at(Some(2), 2, at(0)), Some(Pause::Running));
        pace.ended.extend([at(100), at(200)]);
        let wait = |ms| Some(Pause::Until(Duration::from_millis(ms)));
        assert_eq!(pace.wait_at(Some(2), 0, at(300)), wait(60_300));
        assert_eq!(pace.wait_at(Some(2), 1, at(300)), wait(60_400));
        assert_eq!(pace.wait_at(Some(2), 0, at(60_600)), None);
        assert_eq!(pace.wait_at(Some(2), 1, at(60_600)), wait(100));
    }
}
