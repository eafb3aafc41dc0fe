//! The vocabulary that both sides of SMTP share: commands, replies, addresses, the framing of
//! message data, SASL. No sockets, no policy.

pub mod address;
pub mod capabilities;
pub mod command;
pub mod data;
pub mod reply;
pub mod sasl;
pub mod xtext;
