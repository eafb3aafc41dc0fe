//! The preparation of one message for one server, as work that any thread can do.

use std::sync::Arc;

use bytes::Bytes;

use super::attempt::Now;
use super::sender::{Job, prepare_for, signing_keys};
use crate::failure::Scope;
use crate::prepare::dkim::SigningKey;
use crate::prepare::{Preparation, Prepared};
use crate::smtp::capabilities::Capabilities;
use crate::spool::Stored;
use crate::tenant::Tenant;
use crate::tenant::route::Route;
use crate::transport::{Failure, RecipientResult};
use crate::vault::Secrets;

/// What is to be sent, and the recipients that cannot be reached.
pub(super) type Done = (Option<Prepared>, Vec<RecipientResult>);

/// What the preparation of a message needs; it may be done on another thread.
pub(super) struct Preparing {
    pub tenant: Arc<Tenant>,
    pub route: Route,
    pub stored: Arc<Stored>,
    pub content: Bytes,
    pub open: Vec<usize>,
    pub now: Arc<Now>,
    pub secrets: Secrets,
    pub capabilities: Capabilities,
    pub null_refused: bool,
    /// What goes along to support.
    pub information: Option<String>,
}

/// Octets of a message that are prepared in between; more would hold up others.
const QUICK_LIMIT: usize = 256 * 1024;

impl Preparing {
    /// Whether it takes microseconds: an RSA signature takes the better part of a millisecond.
    pub fn is_quick(&self) -> bool {
        self.content.len() <= QUICK_LIMIT
            && signing_keys(&self.tenant, &self.route).all(SigningKey::is_quick)
    }

    /// Does it.
    pub fn run(self) -> Result<Done, Box<Failure>> {
        let done = prepare_for(&Job {
            tenant: &self.tenant,
            route: &self.route,
            stored: &self.stored,
            content: &self.content,
            recipients: &self.open,
            hostname: &self.now.hostname,
            secrets: &self.secrets,
            capabilities: &self.capabilities,
            null_refused: self.null_refused,
            from: None,
            document: None,
            information: self.information.as_deref(),
        });
        let Preparation { prepared, refused } = done.map_err(|error| {
            let mut failure = Failure::of_prepare(&error);
            if matches!(self.route, Route::System { .. }) {
                // What one tenant lacks must not close the relay of all.
                failure.scope = Scope::Message;
            }
            Box::new(failure)
        })?;
        if let Some(why) = prepared.as_ref().and_then(Prepared::no_signature) {
            tracing::info!(id = %self.stored.id, tenant = %self.tenant.id, event = "no-signature", reason = why);
        }
        let refused = refused.into_iter().map(|(index, error)| {
            let mut failure = Failure::of_prepare(&error);
            failure.scope = Scope::Recipient;
            RecipientResult {
                index,
                result: Err(failure),
            }
        });
        Ok((prepared, refused.collect()))
    }
}
