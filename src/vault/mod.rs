//! Secrets: what they are in configuration, how they are kept, how they never show.

mod redact;
mod secret;
mod store;

pub use redact::Confidential;
pub use secret::{Secret, SecretError, SecretRef};
pub use store::{KeySource, Vault, VaultError, write_durably};

use std::sync::Arc;

/// Finds the value behind a reference.
#[derive(Clone)]
pub struct Secrets {
    vault: Arc<Vault>,
}

impl Secrets {
    /// A resolver over an opened vault.
    pub fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }

    /// The vault itself.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// The value of a secret, read anew: a changed one is used at the next need.
    pub fn resolve(&self, reference: &SecretRef) -> Result<Secret, SecretError> {
        match reference {
            SecretRef::Plain(secret) => Ok(secret.clone()),
            SecretRef::Vault(name) => match self.vault.get(name) {
                Ok(Some(secret)) => Ok(secret),
                Ok(None) => Err(SecretError::NotInVault(name.clone())),
                Err(error) => Err(SecretError::Vault(error.to_string())),
            },
            outside => outside.read(),
        }
    }
}
