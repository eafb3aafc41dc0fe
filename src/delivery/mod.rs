//! Delivery: when a message is tried, in which lane, how often, and what comes of it. Never loses
//! a claim.

pub mod attempt;
pub mod bounce;
mod carry;
mod choose;
mod clock;
pub mod lane;
pub mod notices;
mod pace;
mod preparing;
mod queue;
mod report;
pub mod retry;
pub mod scheduler;
pub mod sender;
mod series;
mod sweep;
mod upkeep;

pub use retry::{Settings, Uncertain};
pub use scheduler::Scheduler;
