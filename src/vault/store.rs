//! The vault: secrets encrypted at rest in one file of the data directory.
//!
//! Each is sealed by AES-256-GCM-SIV with a fresh nonce and bound to its name, so that entries
//! cannot be exchanged. A change is written to a new file, synced, and renamed over the old one.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::secret::{Secret, SecretRef};

const NONCE_LENGTH: usize = 12;
const CHECK_NAME: &str = "\u{0}check";

/// Where the vault's key comes from.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// `DATA_DIR/vault.key`, made at first start.
    DataDirectory,
    /// As configured in `[vault] key`.
    Configured(SecretRef),
}

/// Why the vault cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The key is missing while there are secrets sealed with it.
    #[error(
        "the vault's key {0} is missing, but {1} holds secrets sealed with it; bring the key back (it is not made anew: the secrets would be lost)"
    )]
    KeyMissing(PathBuf, PathBuf),
    /// The key cannot be used.
    #[error("the vault's key cannot be used: {0}")]
    Key(String),
    /// The key is not the one that sealed the vault.
    #[error("the vault {0} was sealed with another key; bring back the key that was used before")]
    WrongKey(PathBuf),
    /// One entry is damaged.
    #[error(
        "the secret {0} in the vault is damaged or was moved; set it again: postbote vault set {0}"
    )]
    Damaged(String),
    /// A file problem.
    #[error("the vault {0} cannot be used: {1}")]
    File(PathBuf, String),
    /// Not an allowed name.
    #[error("{0:?} is not a name for a secret: letters, digits and . _ - / @, at most 100")]
    Name(String),
}

#[derive(Serialize, Deserialize, Default)]
struct Contents {
    version: u32,
    check: Option<String>,
    secrets: BTreeMap<String, Entry>,
}

#[derive(Serialize, Deserialize, Clone)]
struct Entry {
    sealed: String,
    set: String,
}

struct Loaded {
    stamp: Option<(u64, i64, i64, u64)>,
    contents: Contents,
}

/// An opened vault.
pub struct Vault {
    path: PathBuf,
    key: RandomizedNonceKey,
    loaded: Mutex<Loaded>,
}

impl Vault {
    /// Opens the vault of a data directory, makes key and file at first use.
    pub fn open(data_dir: &Path, source: &KeySource) -> Result<Self, VaultError> {
        let path = data_dir.join("vault.json");
        let key_bytes = match source {
            KeySource::Configured(reference) => {
                let secret = reference
                    .read_outside_vault()
                    .map_err(|e| VaultError::Key(e.to_string()))?;
                decode_key(secret.expose())?
            }
            KeySource::DataDirectory => data_directory_key(data_dir, &path)?,
        };
        let key = RandomizedNonceKey::new(&AES_256_GCM_SIV, key_bytes.as_ref())
            .map_err(|_| VaultError::Key("it has not 32 octets".to_owned()))?;
        let vault = Self {
            path,
            key,
            loaded: Mutex::new(Loaded {
                stamp: None,
                contents: Contents::default(),
            }),
        };
        let contents = vault.read_file()?;
        if let Some(check) = &contents.check {
            vault
                .unseal(CHECK_NAME, check)
                .map_err(|_| VaultError::WrongKey(vault.path.clone()))?;
        }
        Ok(vault)
    }

    /// The file, to be watched for changes.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// One secret.
    pub fn get(&self, name: &str) -> Result<Option<Secret>, VaultError> {
        let mut loaded = self
            .loaded
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let stamp = self.stamp();
        if loaded.stamp != stamp || stamp.is_none() {
            *loaded = Loaded {
                stamp,
                contents: self.read_file()?,
            };
        }
        match loaded.contents.secrets.get(name) {
            Some(entry) => self.unseal(name, &entry.sealed).map(Some),
            None => Ok(None),
        }
    }

    /// Seals a value into a file of its own, for what changes too often for the one file of all;
    /// durable when it returns. It is bound to `name`, not to the path.
    pub fn write_apart(&self, path: &Path, name: &str, value: &Secret) -> Result<(), VaultError> {
        if self.stamp().is_none() {
            // Another key is known as such by what the vault's file says of this one.
            self.change(|_| true)?;
        }
        let sealed = self.seal(name, value.expose())?;
        write_durably(path, format!("{sealed}\n").as_bytes())
            .map_err(|e| VaultError::File(path.to_owned(), e.to_string()))
    }

    /// Reads a value that [`Self::write_apart`] sealed; `None` if there is no such file.
    pub fn read_apart(&self, path: &Path, name: &str) -> Result<Option<Secret>, VaultError> {
        match std::fs::read_to_string(path) {
            Ok(text) => self.unseal(name, text.trim_end()).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(VaultError::File(path.to_owned(), error.to_string())),
        }
    }

    /// A number that changes with the stored form of each secret, by name.
    pub fn fingerprints(&self) -> Result<BTreeMap<String, u64>, VaultError> {
        use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let contents = self.read_file()?;
        Ok(contents
            .secrets
            .into_iter()
            .map(|(name, entry)| (name, hasher.hash_one(&entry.sealed)))
            .collect())
    }

    /// Names with the time when they were set.
    pub fn list(&self) -> Result<Vec<(String, String)>, VaultError> {
        Ok(self
            .read_file()?
            .secrets
            .into_iter()
            .map(|(name, entry)| (name, entry.set))
            .collect())
    }

    /// Stores a secret; durable when it returns.
    pub fn set(&self, name: &str, secret: &Secret) -> Result<(), VaultError> {
        let valid = !name.is_empty()
            && name.len() <= 100
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-/@".contains(&b));
        if !valid {
            return Err(VaultError::Name(name.to_owned()));
        }
        let entry = Entry {
            sealed: self.seal(name, secret.expose())?,
            set: jiff::Timestamp::now()
                .strftime("%Y-%m-%dT%H:%M:%SZ")
                .to_string(),
        };
        self.change(|contents| {
            contents.secrets.insert(name.to_owned(), entry);
            true
        })
        .map(|_| ())
    }

    /// Removes a secret; `false` if there was none.
    pub fn remove(&self, name: &str) -> Result<bool, VaultError> {
        self.change(|contents| contents.secrets.remove(name).is_some())
    }

    fn change(&self, edit: impl FnOnce(&mut Contents) -> bool) -> Result<bool, VaultError> {
        let _lock = self.lock()?;
        let mut contents = self.read_file()?;
        if !edit(&mut contents) {
            return Ok(false);
        }
        contents.version = 1;
        if contents.check.is_none() {
            contents.check = Some(self.seal(CHECK_NAME, "postbote")?);
        }
        let text = serde_json::to_vec_pretty(&contents).map_err(|e| self.file_error(e))?;
        write_durably(&self.path, &text).map_err(|e| self.file_error(e))?;
        Ok(true)
    }

    fn lock(&self) -> Result<File, VaultError> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.path.with_extension("lock"))
            .map_err(|e| self.file_error(e))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|e| self.file_error(e))?;
        Ok(file)
    }

    fn stamp(&self) -> Option<(u64, i64, i64, u64)> {
        let m = std::fs::metadata(&self.path).ok()?;
        Some((m.ino(), m.mtime(), m.mtime_nsec(), m.len()))
    }

    fn read_file(&self) -> Result<Contents, VaultError> {
        match std::fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| self.file_error(e)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Contents::default()),
            Err(error) => Err(self.file_error(error)),
        }
    }

    fn file_error(&self, error: impl std::fmt::Display) -> VaultError {
        VaultError::File(self.path.clone(), error.to_string())
    }

    fn seal(&self, name: &str, value: &str) -> Result<String, VaultError> {
        let mut sealed = value.as_bytes().to_vec();
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(binding(name)), &mut sealed)
            .map_err(|_| VaultError::Key("sealing failed".to_owned()))?;
        let mut out = nonce.as_ref().to_vec();
        out.append(&mut sealed);
        Ok(BASE64.encode(out))
    }

    fn unseal(&self, name: &str, sealed: &str) -> Result<Secret, VaultError> {
        let damaged = || VaultError::Damaged(name.to_owned());
        let bytes = BASE64.decode(sealed).map_err(|_| damaged())?;
        let (nonce, rest) = bytes.split_at_checked(NONCE_LENGTH).ok_or_else(damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let mut buffer = Zeroizing::new(rest.to_vec());
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(binding(name)), &mut buffer)
            .map_err(|_| damaged())?;
        String::from_utf8(plain.to_vec())
            .map(Secret::new)
            .map_err(|_| damaged())
    }
}

/// What a sealed value is bound to besides its key.
fn binding(name: &str) -> Vec<u8> {
    format!("postbote vault 1\u{0}{name}").into_bytes()
}

fn decode_key(text: &str) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let bytes = BASE64
        .decode(text.trim())
        .map(Zeroizing::new)
        .map_err(|_| {
            VaultError::Key(
                "it is not base64; make one: head -c 32 /dev/urandom | base64".to_owned(),
            )
        })?;
    if bytes.len() == 32 {
        Ok(bytes)
    } else {
        Err(VaultError::Key(format!(
            "it has {} octets instead of 32; make one: head -c 32 /dev/urandom | base64",
            bytes.len()
        )))
    }
}

fn data_directory_key(data_dir: &Path, vault: &Path) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let path = data_dir.join("vault.key");
    let shown = |e: std::io::Error| VaultError::Key(format!("{}: {e}", path.display()));
    let no_follow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    match OpenOptions::new()
        .read(true)
        .custom_flags(no_follow | rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(&path)
    {
        Ok(file) => {
            let metadata = file.metadata().map_err(shown)?;
            if !metadata.is_file() || metadata.len() > 1024 {
                return Err(VaultError::Key(format!(
                    "{} is not a key file",
                    path.display()
                )));
            }
            let owner = metadata.uid();
            if owner != rustix::process::geteuid().as_raw() && owner != 0 {
                return Err(VaultError::Key(format!(
                    "{} belongs to user {owner}, who could change it; give it to the user that runs Postbote",
                    path.display()
                )));
            }
            if metadata.mode() & 0o077 != 0 {
                return Err(VaultError::Key(format!(
                    "{0} may be read by others; run: chmod 600 {0}",
                    path.display()
                )));
            }
            let mut text = Zeroizing::new(String::new());
            file.take(1024).read_to_string(&mut text).map_err(shown)?;
            decode_key(&text)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if vault.exists() {
                return Err(VaultError::KeyMissing(path, vault.to_owned()));
            }
            let mut bytes = Zeroizing::new(vec![0u8; 32]);
            aws_lc_rs::rand::fill(&mut bytes)
                .map_err(|_| VaultError::Key("the machine gives no random numbers".to_owned()))?;
            let text = Zeroizing::new(BASE64.encode(&*bytes) + "\n");
            write_durably(&path, text.as_bytes()).map_err(shown)?;
            Ok(bytes)
        }
        Err(error) => Err(shown(error)),
    }
}

/// Replaces a file so that after a crash either the old or the new one is there, whole. A new
/// file has mode 0600; an old one keeps its mode and, where we may, its owner. A link stays one.
pub fn write_durably(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let temporary = path.with_extension(format!("tmp{}", std::process::id()));
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)?;
    if let Ok(old) = std::fs::metadata(&path) {
        file.set_permissions(std::fs::Permissions::from_mode(old.mode() & 0o777))?;
        // Only root may give files away; everybody else owns it already or cannot.
        let _ = std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()));
    }
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, &path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path) -> Result<Vault, VaultError> {
        Vault::open(dir, &KeySource::DataDirectory)
    }

    #[test]
    fn keeps_and_binds() {
        let dir = tempfile::tempdir().expect("tempdir");
        let vault = open(dir.path()).expect("open");
        vault
            .set("a", &Secret::new("canary-one".into()))
            .expect("set");
        vault
            .set("b", &Secret::new("canary-two".into()))
            .expect("set");
        let again = open(dir.path()).expect("open again");
        assert_eq!(
            again.get("a").expect("get").expect("there").expose(),
            "canary-one"
        );
        assert!(again.get("c").expect("get").is_none());
        let text = std::fs::read_to_string(vault.path()).expect("file");
        assert!(!text.contains("canary"));
        // Entries exchanged by somebody who can write the file do not open.
        let mut contents: Contents = serde_json::from_str(&text).expect("json");
        let (a, b) = (contents.secrets["a"].clone(), contents.secrets["b"].clone());
        contents.secrets.insert("a".into(), b);
        contents.secrets.insert("b".into(), a);
        std::fs::write(vault.path(), serde_json::to_vec(&contents).expect("json")).expect("write");
        assert!(matches!(again.get("a"), Err(VaultError::Damaged(_))));
        assert!(matches!(
            vault.set("bad name\n", &Secret::new("x".into())),
            Err(VaultError::Name(_))
        ));
    }

    /// A token in a file of its own is reason enough not to begin anew.
    #[test]
    fn what_is_kept_apart_binds_the_key_as_well() {
        let dir = tempfile::tempdir().expect("tempdir");
        let token = dir.path().join("a.token");
        let vault = open(dir.path()).expect("open");
        vault
            .write_apart(&token, "a", &Secret::new("canary".into()))
            .expect("write");
        let key = dir.path().join("vault.key");
        let text = std::fs::read(&key).expect("key");
        std::fs::remove_file(&key).expect("remove");
        assert!(matches!(open(dir.path()), Err(VaultError::KeyMissing(..))));
        let other = BASE64.encode([7u8; 32]) + "\n";
        write_durably(&key, other.as_bytes()).expect("write");
        assert!(matches!(open(dir.path()), Err(VaultError::WrongKey(_))));
        write_durably(&key, &text).expect("write");
        let again = open(dir.path()).expect("open");
        let kept = again.read_apart(&token, "a").expect("read").expect("there");
        assert_eq!(kept.expose(), "canary");
    }

    #[test]
    fn never_makes_a_second_key() {
        let dir = tempfile::tempdir().expect("tempdir");
        open(dir.path())
            .expect("open")
            .set("a", &Secret::new("x".into()))
            .expect("set");
        std::fs::remove_file(dir.path().join("vault.key")).expect("remove");
        assert!(matches!(open(dir.path()), Err(VaultError::KeyMissing(..))));
        let other = SecretRef::Plain(Secret::new(BASE64.encode([7u8; 32])));
        assert!(matches!(
            Vault::open(dir.path(), &KeySource::Configured(other)),
            Err(VaultError::WrongKey(_))
        ));
    }
}
