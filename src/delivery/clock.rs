//! The time that delivery plans by: the machine's clock, with its jumps noticed in one place.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// A difference between the machine's clock and ours from which the clock was moved.
const JUMP: SignedDuration = SignedDuration::from_secs(60);

/// How long a clock that has just been met, or has jumped, is not relied on for giving mail up.
const PROOF: Duration = Duration::from_secs(600);

/// The machine's time when last looked at, going on by the steady clock. A copy of it does not
/// see later jumps: what began before one ends by the same time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall: Timestamp,
    steady: Instant,
    moved: SignedDuration,
    /// When it was looked at for the first time, or has jumped last.
    settled: Instant,
}

/// The machine's clock was moved (by hand, by the network, by a long sleep).
#[derive(Debug, Clone, Copy)]
pub struct Jump {
    /// What it would say.
    pub from: Timestamp,
    /// What it says.
    pub to: Timestamp,
}

impl Jump {
    /// By how much.
    pub fn moved(&self) -> SignedDuration {
        self.to.duration_since(self.from)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::start()
    }
}

impl Clock {
    /// The machine's clock as it is.
    pub fn start() -> Self {
        Self {
            wall: Timestamp::now(),
            steady: Instant::now(),
            moved: SignedDuration::ZERO,
            settled: Instant::now(),
        }
    }

    /// The time, without jumps since the last look.
    pub fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.steady.elapsed()).unwrap_or_default();
        self.wall.saturating_add(passed).unwrap_or(self.wall)
    }

    /// Follows the machine's clock; says if it has jumped.
    pub fn look(&mut self) -> Option<Jump> {
        let jump = Jump {
            from: self.now(),
            to: Timestamp::now(),
        };
        self.wall = jump.to;
        self.steady = Instant::now();
        if jump.moved().abs() < JUMP {
            return None;
        }
        self.moved = self.moved.saturating_add(jump.moved());
        self.settled = self.steady;
        Some(jump)
    }

    /// Whether the machine's clock has gone on without a jump for so long, or [`PROOF`], that mail
    /// may be given up by it: one that a start finds years ahead is put right soon.
    pub fn is_proven(&self, within: Duration) -> bool {
        self.settled.elapsed() >= within.min(PROOF)
    }

    /// A time that was planned by an earlier copy of this clock, by this one.
    pub fn translate(&self, time: Timestamp, earlier: &Self) -> Timestamp {
        let moved = self.moved.saturating_sub(earlier.moved);
        time.saturating_add(moved).unwrap_or(time)
    }
}
