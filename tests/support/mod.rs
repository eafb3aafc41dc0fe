//! What the integration tests share: the real program with a fresh directory, a plain SMTP
//! client, and an upstream of ours that misbehaves on demand. Waits are for conditions, with a
//! limit; nothing sleeps to wait.

#![allow(dead_code, reason = "each test binary uses its part")]

pub mod client;
pub mod site;
pub mod upstream;

use std::time::Duration;

/// How long a condition may take before a test fails.
pub const LIMIT: Duration = Duration::from_secs(60);
