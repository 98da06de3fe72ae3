//! Files that children of any user read, replaced whole.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::TrustError;

/// Makes `dir` and what is above it; one that was there keeps its mode.
pub(super) fn directory(dir: &Path) -> Result<(), TrustError> {
    let unwritable = |source| TrustError::Unwritable { path: dir.into(), source };
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(unwritable)?;
    // The umask of a service may have closed it.
    fs::set_permissions(dir, Permissions::from_mode(0o755)).map_err(unwritable)
}

/// Writes `dir/name`, 0644.
pub(super) fn file(dir: &Path, name: &str, content: &[u8]) -> Result<PathBuf, TrustError> {
    let path = dir.join(name);
    let draft = dir.join(format!(".{name}.{:016x}", rand::random::<u64>()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&draft)?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.write_all(content)?;
        fs::rename(&draft, &path)
    };
    match write() {
        Ok(()) => Ok(path),
        Err(source) => {
            // May not exist; what matters is the error above.
            let _ = fs::remove_file(&draft);
            Err(TrustError::Unwritable { path, source })
        }
    }
}
