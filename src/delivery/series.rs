//! Serial mail in portions: so many messages in a row, then a pause (`[series]`).
//!
//! A series is over when its last message has been answered; from then the pause runs. Single mail
//! (see `submission/runs.rs`) goes first, and a few of it go in a pause as well: a receipt does not
//! wait for newsletters. All of it counts.

use std::time::{Duration, Instant};

use super::pace::Pause;
use crate::tenant::Series;

/// Of a series so many parts of single mail may go in one pause; at least one does.
const SINGLE_PART: u32 = 10;

/// Where a tenant's serial mail stands on one route.
#[derive(Debug, Default)]
pub(super) struct Portions {
    /// What the present series has, those that run among it.
    counted: u32,
    /// It takes no more: a pause has to follow.
    full: bool,
    /// Messages of it that run.
    running: u32,
    /// When the last of it was answered.
    ended: Option<Instant>,
    /// Single mail of the present pause.
    passed: u32,
    /// What it counts for the next series.
    carried: u32,
}

/// What one message is for the series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    /// It is single mail.
    pub single: bool,
    /// As how many messages the provider counts it.
    pub weight: u32,
}

/// A message that was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ticket {
    /// As part of a series.
    Counted,
    /// In a pause.
    Passing,
}

impl Portions {
    /// Lets a message through, or says how long it has to wait.
    pub fn admit(&mut self, series: Series, share: Share) -> Result<Ticket, Pause> {
        self.admit_at(series, share, Instant::now())
    }

    fn admit_at(&mut self, series: Series, share: Share, now: Instant) -> Result<Ticket, Pause> {
        let rested = self.ended.map(|ended| now.saturating_duration_since(ended));
        if self.running == 0 && rested.is_some_and(|rested| rested >= series.pause) {
            self.counted = std::mem::take(&mut self.carried);
            self.full = false;
            self.passed = 0;
            self.ended = None;
        }
        // One that is larger than a series is one by itself.
        let fits = self.counted.saturating_add(share.weight) <= series.messages;
        if !self.full && (fits || self.counted == 0) {
            self.counted = self.counted.saturating_add(share.weight);
            self.full = self.counted >= series.messages;
            self.running += 1;
            return Ok(Ticket::Counted);
        }
        if share.single && self.passed < (series.messages / SINGLE_PART).max(1) {
            self.passed += 1;
            self.carried = self.carried.saturating_add(share.weight);
            return Ok(Ticket::Passing);
        }
        self.full = true;
        if self.running > 0 {
            return Err(Pause::Running);
        }
        // What single mail has carried over may fill a series by itself: the pause runs from now.
        let ended = *self.ended.get_or_insert(now);
        let rested = now.saturating_duration_since(ended);
        let left = series.pause.saturating_sub(rested);
        Err(Pause::Until(left.max(Duration::from_millis(1))))
    }

    /// What runs goes by settings that are no longer in force: it holds nothing up.
    pub fn forget_running(&mut self) {
        if self.running > 0 {
            self.running = 0;
            self.ended = Some(Instant::now());
        }
    }

    /// A message has been answered, or was not sent after all.
    pub fn ended(&mut self, ticket: Ticket) {
        self.ended_at(ticket, Instant::now());
    }

    fn ended_at(&mut self, ticket: Ticket, now: Instant) {
        match ticket {
            Ticket::Counted => {
                self.running = self.running.saturating_sub(1);
                self.ended = Some(now);
            }
            Ticket::Passing => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERIES: Series = Series {
        messages: 3,
        pause: Duration::from_millis(1000),
    };
    const BULK: Share = Share {
        single: false,
        weight: 1,
    };
    const SINGLE: Share = Share {
        single: true,
        weight: 1,
    };

    fn until(ms: u64) -> Result<Ticket, Pause> {
        Err(Pause::Until(Duration::from_millis(ms)))
    }

    #[test]
    fn never_more_than_a_series_between_pauses() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut portions = Portions::default();
        for _ in 0..3 {
            assert_eq!(portions.admit_at(SERIES, BULK, at(0)), Ok(Ticket::Counted));
        }
        assert_eq!(portions.admit_at(SERIES, BULK, at(1)), Err(Pause::Running));
        for ms in [10, 20, 200] {
            portions.ended_at(Ticket::Counted, at(ms));
        }
        assert_eq!(portions.admit_at(SERIES, BULK, at(300)), until(900));
        // Single mail passes, once in a pause of so small a series, and counts in the next.
        assert_eq!(
            portions.admit_at(SERIES, SINGLE, at(301)),
            Ok(Ticket::Passing)
        );
        portions.ended_at(Ticket::Passing, at(320));
        assert_eq!(portions.admit_at(SERIES, SINGLE, at(330)), until(870));
        assert_eq!(portions.admit_at(SERIES, BULK, at(1199)), until(1));
        for _ in 0..2 {
            assert_eq!(
                portions.admit_at(SERIES, BULK, at(1200)),
                Ok(Ticket::Counted)
            );
        }
        assert_eq!(
            portions.admit_at(SERIES, BULK, at(1200)),
            Err(Pause::Running)
        );
    }

    #[test]
    fn single_mail_that_fills_the_next_series_stalls_nothing() {
        let one = Series {
            messages: 1,
            ..SERIES
        };
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut portions = Portions::default();
        assert_eq!(portions.admit_at(one, BULK, at(0)), Ok(Ticket::Counted));
        portions.ended_at(Ticket::Counted, at(10));
        assert_eq!(portions.admit_at(one, SINGLE, at(20)), Ok(Ticket::Passing));
        assert_eq!(portions.admit_at(one, BULK, at(1010)), until(1000));
        assert_eq!(
            portions.admit_at(one, SINGLE, at(1500)),
            Ok(Ticket::Passing)
        );
        assert_eq!(portions.admit_at(one, BULK, at(2010)), until(1000));
        assert_eq!(portions.admit_at(one, BULK, at(3010)), Ok(Ticket::Counted));
    }

    #[test]
    fn rest_ends_a_series_and_recipients_count() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut portions = Portions::default();
        assert_eq!(portions.admit_at(SERIES, BULK, at(0)), Ok(Ticket::Counted));
        portions.ended_at(Ticket::Counted, at(5));
        let two = Share { weight: 2, ..BULK };
        // A second has passed: these are a series of their own.
        assert_eq!(
            portions.admit_at(SERIES, two, at(1005)),
            Ok(Ticket::Counted)
        );
        assert_eq!(
            portions.admit_at(SERIES, two, at(1006)),
            Err(Pause::Running)
        );
        assert_eq!(
            portions.admit_at(SERIES, BULK, at(1006)),
            Err(Pause::Running),
            "the series is over, what waits keeps its place"
        );
        portions.ended_at(Ticket::Counted, at(1010));
        let many = Share { weight: 30, ..BULK };
        assert_eq!(
            portions.admit_at(SERIES, many, at(2010)),
            Ok(Ticket::Counted)
        );
        portions.ended_at(Ticket::Counted, at(2020));
        assert_eq!(portions.admit_at(SERIES, BULK, at(2030)), until(990));
    }
}
