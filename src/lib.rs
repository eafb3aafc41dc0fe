//! Postbote: a local SMTP submission proxy.
//!
//! Applications hand it mail on localhost; it knows whose mail it is, makes it durable, and
//! relays it as that tenant's own mail server would.
//!
//! # The way of one message
//!
//! | stage | takes → gives |
//! |---|---|
//! | [`submission`] | bytes → envelope and content |
//! | [`tenant`] | login, listener, network → tenant |
//! | [`submission::admit`] | → [`spool::Admitted`], or a refusal in the SMTP answer |
//! | [`spool`] | → [`spool::Spooled`], of which alone a 250 is made; later a [`spool::Claim`] |
//! | [`delivery`] | claim → attempt → settlement |
//! | [`tenant::route`] | tenant and its failures → upstream or system relay |
//! | [`prepare`] | original → [`prepare::Prepared`] |
//! | [`transport`] | prepared → one result a recipient |
//!
//! `submission` and `delivery` never call each other; they meet at the spool, and run on threads of
//! their own. Read
//! `submission/admit.rs` (what is accepted) and `delivery/attempt.rs` (what is sent) first.

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod control;
pub mod delivery;
pub mod dns;
pub mod explain;
pub mod failure;
pub mod http;
pub mod message;
pub mod net;
pub mod oauth;
pub mod observe;
pub mod prepare;
pub mod smtp;
pub mod spool;
pub mod submission;
pub mod tenant;
pub mod transport;
pub mod vault;
