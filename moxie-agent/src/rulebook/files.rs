//! Bodies that are files below one directory. Nothing outside it is read, by no spelling and through no link.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

/// Larger bodies are refused: each is kept in memory as long as its rule.
const LARGEST: u64 = 16 << 20;

#[derive(Clone, Debug)]
pub(super) struct Files(Option<PathBuf>);

impl Files {
    pub(super) fn none() -> Self {
        Self(None)
    }

    pub(super) fn below(directory: PathBuf) -> Self {
        Self(Some(directory))
    }

    /// The file at `path` below the directory. `None`, and a log line, if it cannot be had.
    pub(super) fn read(&self, path: &str) -> Option<Bytes> {
        let directory = self.0.as_deref()?;
        match read_below(directory, Path::new(path)) {
            Ok(body) => Some(body),
            Err(error) => {
                tracing::warn!("a rule's body cannot be read from {path} in {}: {error}", directory.display());
                None
            }
        }
    }
}

fn read_below(directory: &Path, path: &Path) -> std::io::Result<Bytes> {
    use std::io::{Error, ErrorKind};
    let plain = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let resolved = directory.join(path).canonicalize()?;
    if !plain || !resolved.starts_with(directory.canonicalize()?) {
        return Err(Error::new(ErrorKind::PermissionDenied, "it is outside"));
    }
    // A pipe or a device could block the change for good.
    if !resolved.metadata()?.is_file() {
        return Err(Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut body = Vec::new();
    File::open(&resolved)?.take(LARGEST + 1).read_to_end(&mut body)?;
    if body.len() as u64 > LARGEST {
        return Err(Error::new(ErrorKind::FileTooLarge, "it is larger than 16 MiB"));
    }
    Ok(body.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_the_directory_is_read() {
        let root = tempfile::tempdir().unwrap();
        let inside = root.path().join("files");
        std::fs::create_dir_all(inside.join("sub")).unwrap();
        std::fs::write(root.path().join("secret"), "secret").unwrap();
        std::fs::write(inside.join("sub/body"), "body").unwrap();
        std::os::unix::fs::symlink(root.path().join("secret"), inside.join("link")).unwrap();
        let files = Files::below(inside.clone());

        assert_eq!(files.read("sub/body").unwrap(), "body");
        assert_eq!(files.read("./sub/body").unwrap(), "body");
        let absolute = root.path().join("secret");
        for path in ["../secret", "sub/../../secret", "link", "sub", "missing", "", absolute.to_str().unwrap()] {
            assert_eq!(files.read(path), None, "{path}");
        }
        assert_eq!(Files::none().read("sub/body"), None);
        File::create(inside.join("large")).unwrap().set_len(LARGEST + 1).unwrap();
        assert_eq!(files.read("large"), None);
    }
}
