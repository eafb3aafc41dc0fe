//! Why a transport did not take something.

use std::fmt;

use crate::explain::{self, Cause, Explanation};
use crate::failure::{Class, Scope, Stage};
use crate::net::NetError;
use crate::oauth::TokenError;
use crate::prepare::PrepareError;
use crate::smtp::reply::Reply;

/// A failure with its reach, class and stage, and the words of whoever said so.
#[derive(Debug, Clone)]
pub struct Failure {
    /// How far it reaches.
    pub scope: Scope,
    /// What is to be done.
    pub class: Class,
    /// Where it happened.
    pub stage: Stage,
    /// The server's reply, if it gave one.
    pub reply: Option<Reply>,
    /// The server, `host[address]:port`, once it is known.
    pub relay: String,
    /// What happened where there is no reply, or more to it.
    pub detail: String,
    /// Cause and remedy in words.
    pub meaning: &'static Explanation,
    /// The enhanced status for a bounce where no reply gave one.
    pub status: &'static str,
    /// The server went silent on commands that came in one write.
    pub pipeline_stalled: bool,
    /// The server may have taken it all the same: before the next try it is looked for.
    pub look_first: bool,
}

impl Failure {
    /// A failure that a server's reply told.
    pub fn of_reply(stage: Stage, reply: Reply, relay: &str) -> Self {
        let enhanced = reply.enhanced.map(|e| e.to_string());
        let (class, row) = explain::reply(stage, reply.code, enhanced.as_deref(), &reply.text());
        let scope = scope_of(stage, class, reply.code);
        Self {
            scope,
            class,
            stage,
            reply: Some(reply),
            relay: relay.to_owned(),
            detail: String::new(),
            meaning: &row.meaning,
            status: default_status(stage, class),
            pipeline_stalled: false,
            look_first: false,
        }
    }

    /// A failure without a reply.
    pub fn of_cause(cause: Cause, stage: Stage, relay: &str, detail: impl Into<String>) -> Self {
        let class = cause.class();
        let scope = match stage {
            Stage::Resolve | Stage::Connect | Stage::Hello | Stage::Tls | Stage::Auth => {
                Scope::Route
            }
            Stage::Prepare => {
                if matches!(class, Class::Suspend | Class::Transient) {
                    Scope::Route
                } else {
                    Scope::Message
                }
            }
            Stage::Mail | Stage::Rcpt | Stage::Data | Stage::FinalDot => Scope::Message,
        };
        Self {
            scope,
            class,
            stage,
            reply: None,
            relay: relay.to_owned(),
            detail: detail.into(),
            meaning: cause.meaning(),
            status: default_status(stage, class),
            pipeline_stalled: false,
            look_first: false,
        }
    }

    /// A connection that could not be opened.
    pub fn of_net(error: NetError, relay: &str) -> Self {
        Self::of_cause(error.cause, error.stage, relay, error.detail)
    }

    /// No token to log in with.
    pub fn of_token(error: TokenError) -> Self {
        Self::of_answer(
            Scope::Route,
            error.class,
            error.stage,
            error.meaning,
            &error.server,
            error.text,
        )
    }

    /// A failure that an HTTP answer told.
    pub fn of_answer(
        scope: Scope,
        class: Class,
        stage: Stage,
        meaning: &'static Explanation,
        relay: &str,
        detail: String,
    ) -> Self {
        Self {
            scope,
            class,
            stage,
            reply: None,
            relay: relay.to_owned(),
            detail,
            meaning,
            status: default_status(stage, class),
            pipeline_stalled: false,
            look_first: false,
        }
    }

    /// A failure to prepare the message for this server.
    pub fn of_prepare(error: &PrepareError) -> Self {
        let (scope, class, stage) = error.classify();
        let cause = match error {
            PrepareError::Utf8Address(_) => Cause::Utf8AddressUnsupported,
            PrepareError::TooLarge { .. } => Cause::TooLargeForUpstream,
            PrepareError::Unusable(_) | PrepareError::Conversion(_) => Cause::MessageUnusable,
            PrepareError::Sender(_) => Cause::SenderNotGranted,
            PrepareError::Signing(_) => Cause::KeyUnusable,
        };
        Self {
            scope,
            class,
            stage,
            reply: None,
            relay: String::new(),
            detail: error.to_string(),
            meaning: cause.meaning(),
            status: error.status(),
            pipeline_stalled: false,
            look_first: false,
        }
    }

    /// The same of a request that sends nothing: that its fate is unknown does no harm.
    pub fn sends_nothing(mut self) -> Self {
        if self.class == Class::Uncertain {
            self.class = Class::Transient;
            self.stage = Stage::Data;
        }
        self
    }

    /// Whether a login by token was refused in words that another token may mend. Where the reply
    /// says that such logins are switched off or barred, none does.
    pub fn asks_for_token(&self) -> bool {
        let Some(reply) = self.reply.as_ref().filter(|_| self.stage == Stage::Auth) else {
            return false;
        };
        let barred = reply.enhanced.is_some_and(|e| {
            ["5.7.139", "5.7.9", "5.7.14", "5.7.30"].contains(&e.to_string().as_str())
        });
        reply.code == 535 && !barred
    }

    /// Whether the upstream cannot have taken anything, so that another route may be tried:
    /// name, connection, TLS, login, refused authorisation.
    pub fn before_acceptance(&self) -> bool {
        match self.scope {
            Scope::Route => match self.class {
                Class::Transient | Class::Suspend => {
                    self.stage <= Stage::Auth || matches!(self.class, Class::Suspend)
                }
                Class::Permanent | Class::Sender | Class::Slow(_) | Class::Uncertain => false,
            },
            Scope::Message | Scope::Recipient => false,
        }
    }

    /// The enhanced status of RFC 3463 for logs and bounces.
    pub fn dsn(&self) -> String {
        match self.reply.as_ref().and_then(|r| r.enhanced) {
            Some(enhanced) => enhanced.to_string(),
            None => self.status.to_owned(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reply {
            Some(reply) => write!(f, "{reply}"),
            None => f.write_str(&self.detail),
        }
    }
}

fn scope_of(stage: Stage, class: Class, code: u16) -> Scope {
    match class {
        Class::Suspend | Class::Slow(_) => Scope::Route,
        Class::Sender | Class::Uncertain => Scope::Message,
        Class::Transient | Class::Permanent => match stage {
            Stage::Prepare
            | Stage::Resolve
            | Stage::Connect
            | Stage::Hello
            | Stage::Tls
            | Stage::Auth => Scope::Route,
            // 421 before anything was said of a message is about the server; behind RCPT or DATA
            // it may be about this message alone, which must not stop all others.
            Stage::Mail if code == 421 => Scope::Route,
            Stage::Rcpt if code == 421 => Scope::Message,
            Stage::Mail | Stage::Data | Stage::FinalDot => Scope::Message,
            Stage::Rcpt => Scope::Recipient,
        },
    }
}

fn default_status(stage: Stage, class: Class) -> &'static str {
    let permanent = match class {
        Class::Permanent | Class::Sender => true,
        Class::Transient | Class::Suspend | Class::Slow(_) | Class::Uncertain => false,
    };
    match (stage, permanent) {
        (Stage::Prepare, true) => "5.6.0",
        (Stage::Prepare, false) => "4.3.0",
        (Stage::Resolve, _) => "4.4.3",
        (Stage::Connect, _) => "4.4.1",
        (Stage::Hello, _) => "4.4.2",
        (Stage::Tls, _) => "4.7.5",
        (Stage::Auth, _) => "4.7.8",
        (Stage::Mail, true) => "5.1.0",
        (Stage::Rcpt, true) => "5.1.0",
        (Stage::Data | Stage::FinalDot, true) => "5.0.0",
        (Stage::Mail | Stage::Rcpt | Stage::Data | Stage::FinalDot, false) => "4.4.2",
    }
}
