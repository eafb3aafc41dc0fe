//! The words in which a failed delivery is described: how far it reaches (*scope*), what to do
//! about it (*class*) and where on the way it happened (*stage*).
//!
//! Every transport reports in these words, every later stage (delivery, route, explain, bounces)
//! decides by them alone. There is no wildcard: a new member is a new decision everywhere.

use std::time::Duration;

/// How far a failure reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Every message of this route would fail the same way (name, connection, TLS, login).
    Route,
    /// This message fails for all its recipients, another one may succeed.
    Message,
    /// One recipient fails, the others of the message may succeed.
    Recipient,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Try again by the retry schedule. Everything unknown is transient.
    Transient,
    /// Will never succeed: bounce.
    Permanent,
    /// The route works but may not use this sender: `failed` after one attempt, with a notice.
    Sender,
    /// A credential, permission or certificate of ours: suspend the route, never bounce.
    Suspend,
    /// Throttled, though it may look permanent: pause the route for so long, count no attempt.
    Slow(Duration),
    /// The upstream may have taken it, its answer to the final dot was lost.
    Uncertain,
}

/// Where it happened, in the order of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Before any connection: settings or message cannot be used on this route.
    Prepare,
    /// The name of the host.
    Resolve,
    /// The TCP connection.
    Connect,
    /// The greeting and EHLO.
    Hello,
    /// STARTTLS, the TLS handshake, the certificate.
    Tls,
    /// AUTH.
    Auth,
    /// MAIL FROM.
    Mail,
    /// RCPT TO.
    Rcpt,
    /// DATA up to the last byte before the final dot.
    Data,
    /// From the final dot to its reply.
    FinalDot,
}
