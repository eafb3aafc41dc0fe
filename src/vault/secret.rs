//! A secret value and where it comes from.

use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use zeroize::Zeroizing;

/// Largest secret in octets: a key file, a service account.
const SECRET_LIMIT: u64 = 64 * 1024;

/// A secret value. It has no `Display` and no `Serialize`, its `Debug` says nothing, and its
/// memory is wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a value.
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value itself. Call it only where it goes to its destination.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Where a secret comes from, as configuration says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// `{ vault = "name" }`
    Vault(String),
    /// `{ file = "path" }`: the file's text without its last line end.
    File(PathBuf),
    /// `{ env = "VAR" }`
    Env(String),
    /// `{ credential = "name" }`: a systemd credential.
    Credential(String),
    /// Plain text.
    Plain(Secret),
}

/// Why a secret cannot be had. Names where it should be, never what it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// No such entry.
    #[error("the vault has no secret named {0}; set it: postbote vault set {0}")]
    NotInVault(String),
    /// The vault as a whole.
    #[error("{0}")]
    Vault(String),
    /// The file.
    #[error("the file {0} cannot be read: {1}")]
    File(String, String),
    /// The variable.
    #[error("the environment variable {0} is not set")]
    Env(String),
    /// The credential.
    #[error("there is no systemd credential {0}: {1}")]
    Credential(String, String),
}

impl SecretRef {
    /// Reads a secret that does not stand in the vault.
    pub(super) fn read(&self) -> Result<Secret, SecretError> {
        match self {
            SecretRef::File(path) => read_file(path)
                .map_err(|e| SecretError::File(path.display().to_string(), e.to_string())),
            SecretRef::Env(name) => std::env::var(name)
                .map(Secret::new)
                .map_err(|_| SecretError::Env(name.clone())),
            SecretRef::Credential(name) => {
                let unavailable = |why: String| SecretError::Credential(name.clone(), why);
                if name.contains('/') {
                    return Err(unavailable("a credential's name has no slash".to_owned()));
                }
                let directory = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
                    unavailable("not started by systemd with LoadCredential=".to_owned())
                })?;
                read_file(&PathBuf::from(directory).join(name))
                    .map_err(|e| unavailable(e.to_string()))
            }
            SecretRef::Plain(secret) => Ok(secret.clone()),
            SecretRef::Vault(name) => Err(SecretError::NotInVault(name.clone())),
        }
    }

    /// The same without a vault: the vault's own key.
    pub fn read_outside_vault(&self) -> Result<Secret, SecretError> {
        self.read()
    }
}

fn read_file(path: &std::path::Path) -> std::io::Result<Secret> {
    // Without waiting: a pipe that nobody writes to must not hold us up.
    let file = std::fs::File::options()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(SECRET_LIMIT).read_to_string(&mut text)?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}
