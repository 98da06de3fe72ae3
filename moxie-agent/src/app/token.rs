//! The bearer token of the TCP admin API: made at first start, readable by its owner only.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Random bytes in a token.
const BYTES: usize = 32;

/// Reads the token in `path`, or makes one (0600, `O_EXCL`: of two first starts one makes it and the other reads it).
///
/// # Errors
/// The file cannot be read or made.
pub(super) fn open(path: &Path) -> io::Result<String> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let token = random();
            writeln!(file, "{token}")?;
            Ok(token)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => existing(path),
        Err(error) => Err(error),
    }
}

/// The token that is there. One that others may read is closed to them; an empty one, as a full disk leaves it, is made anew:
/// nobody gets in with nothing.
fn existing(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
        tracing::warn!("{} was open to others; for a token nobody has seen, remove it and start again", path.display());
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
    }
    let token = fs::read_to_string(path)?.trim().to_owned();
    if !token.is_empty() {
        return Ok(token);
    }
    let token = random();
    fs::write(path, format!("{token}\n"))?;
    Ok(token)
}

fn random() -> String {
    let bytes: [u8; BYTES] = rand::random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.token");
        let token = open(&path).unwrap();
        assert_eq!(token.len(), 2 * BYTES);
        assert_eq!(open(&path).unwrap(), token);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_token_that_is_there_is_closed_to_others_and_never_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.token");
        fs::write(&path, "chosen\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(open(&path).unwrap(), "chosen");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        fs::write(&path, "\n").unwrap();
        let token = open(&path).unwrap();
        assert_eq!(token.len(), 2 * BYTES);
        assert_eq!(open(&path).unwrap(), token);
    }
}
