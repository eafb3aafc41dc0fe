//! Delivery: when a message is tried, in which lane, how often, and what comes of it. Never loses
//! a claim.

pub mod attempt;
pub mod bounce;
pub mod lane;
mod queue;
mod report;
pub mod retry;
pub mod scheduler;
pub mod sender;

pub use retry::{Settings, Uncertain};
pub use scheduler::Scheduler;
