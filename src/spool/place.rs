//! Whether a directory is a place for a spool: ours alone, and on a disk.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use super::store::StoreError;

/// File systems that forget, or that lie about syncs and locks, by their magic number (statfs).
const DOUBTFUL: [(i64, &str); 6] = [
    (0x0102_1994, "tmpfs: its content is lost at the next boot"),
    (0x8584_58f6, "ramfs: its content is lost at the next boot"),
    (
        0x794c_7630,
        "overlayfs, the layer of a container: it is lost with the container; mount a volume",
    ),
    (0x6969, "NFS: locks and syncs may not hold"),
    (0xff53_4d42, "CIFS: locks and syncs may not hold"),
    (0x0102_1997, "9p: locks and syncs may not hold"),
];

/// Refuses directories and files that somebody else can have put there or can change; warns of
/// doubtful file systems.
pub(super) fn check(data_dir: &Path, spool: &Path) -> Result<(), StoreError> {
    let refuse =
        |path: &Path, why: &str| Err(StoreError::Directory(path.to_owned(), why.to_owned()));
    let read = |path: &Path| {
        std::fs::symlink_metadata(path)
            .map_err(|e| StoreError::Directory(path.to_owned(), e.to_string()))
    };
    let ours = rustix::process::geteuid().as_raw();
    let bodies = spool.join("bodies");
    for directory in [data_dir, spool, &bodies] {
        // The data directory itself may be a link that the operator made.
        let metadata = if directory == data_dir {
            std::fs::metadata(directory)
                .map_err(|e| StoreError::Directory(directory.to_owned(), e.to_string()))?
        } else {
            read(directory)?
        };
        if !metadata.is_dir() {
            return refuse(directory, "it is not a directory; move away what is there");
        }
        if metadata.uid() != ours {
            return refuse(
                directory,
                &format!(
                    "it belongs to user {}, this process is user {ours}; run: chown -R {ours} {}",
                    metadata.uid(),
                    directory.display()
                ),
            );
        }
        if metadata.permissions().mode() & 0o022 != 0 {
            return refuse(
                directory,
                &format!(
                    "others may write in it (mode {:o}); run: chmod go-w {}",
                    metadata.permissions().mode() & 0o7777,
                    directory.display()
                ),
            );
        }
    }
    for entry in std::fs::read_dir(spool)
        .map_err(|e| StoreError::Directory(spool.to_owned(), e.to_string()))?
        .flatten()
    {
        let path = entry.path();
        let metadata = read(&path)?;
        let kind = metadata.file_type();
        if kind.is_symlink() || kind.is_fifo() || kind.is_socket() {
            return refuse(&path, "it is not a plain file; move it away");
        }
        if metadata.is_file() && metadata.nlink() > 1 {
            return refuse(&path, "it has a second name (hard link); remove that");
        }
    }
    if let Ok(found) = rustix::fs::statfs(spool)
        && let Some((_, why)) = DOUBTFUL.iter().find(|(magic, _)| *magic == found.f_type)
    {
        tracing::warn!(event = "doubtful-file-system", path = %spool.display(), reason = why, "accepted mail is not safe there; change server.data_dir");
    }
    Ok(())
}
