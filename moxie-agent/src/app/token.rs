//! The bearer token of the TCP admin API: made at first start, readable by its owner only.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
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
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(fs::read_to_string(path)?.trim().to_owned()),
        Err(error) => Err(error),
    }
}

fn random() -> String {
    let bytes: [u8; BYTES] = rand::random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_token_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.token");
        let token = open(&path).unwrap();
        assert_eq!(token.len(), 2 * BYTES);
        assert_eq!(open(&path).unwrap(), token);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
