//! A database whose file goes away while it is open: SQLite writes on into a file without a name, and all of it would be lost.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::{CALL, Sqlite, bounded, make_directory_of, make_new};
use crate::journal::record_id;
use crate::store::StoreError;

/// A file, whatever its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opened {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// Whether the file is where it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is, or it is none.
    InPlace,
    /// No file is.
    Gone,
    /// Another file is.
    Replaced,
}

impl Opened {
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        Ok(Self { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }

    fn standing(&self) -> Standing {
        match Self::at(&self.path) {
            Ok(found) if found == *self => Standing::InPlace,
            Ok(_) => Standing::Replaced,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Standing::Gone,
            // Nothing is known, and calls will say what is wrong.
            Err(_) => Standing::InPlace,
        }
    }
}

impl Sqlite {
    /// Whether the database's file is where it was opened. If the file system does not answer for as long as a call may take, it is
    /// taken to be: calls will say what is wrong.
    pub async fn standing(&self) -> Standing {
        let Some(opened) = self.opened.clone() else { return Standing::InPlace };
        let look = async {
            let turn = self.looking.clone().lock_owned().await;
            let blocking = move || {
                let standing = opened.standing();
                drop(turn);
                standing
            };
            tokio::task::spawn_blocking(blocking).await
        };
        match tokio::time::timeout(CALL, look).await {
            Ok(Ok(standing)) => standing,
            Ok(Err(_)) | Err(_) => Standing::InPlace,
        }
    }

    /// Writes everything to a new file in the place of the one that is gone. From then on the database takes no calls: it is to be
    /// closed, and opened again.
    ///
    /// # Errors
    /// [`StoreError::Make`], [`StoreError::Query`]. The database takes calls as before.
    pub async fn write_anew(&self) -> Result<(), StoreError> {
        let Some(Opened { path, .. }) = &self.opened else { return Ok(()) };
        let query = |source| StoreError::Query { operation: "write its file anew", source };
        make_directory_of(path)?;
        let copy = NewFile::make(beside(path, &format!("-{}", record_id())))?;
        let mut connection = self.pool.acquire().await.map_err(query)?;
        let written = sqlx::query("VACUUM INTO ?").bind(copy.name()?).execute(&mut *connection);
        bounded(written).await.map_err(query)?;
        // Nothing waits from here on: a caller that goes away does not leave the database open beside its new file.
        copy.put(path).map_err(|source| StoreError::Make { path: path.clone(), source })?;
        // Nobody else has a turn: what was written now would be in the old file only. The call alone closes the pool for them.
        drop(self.pool.close());
        Ok(())
    }
}

/// A file on its way to its place. Its own name goes in any case.
struct NewFile(PathBuf);

impl NewFile {
    fn make(path: PathBuf) -> Result<Self, StoreError> {
        match make_new(&path) {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(StoreError::Make { path, source }),
        }
    }

    /// As SQLite takes it: another spelling would be another file.
    fn name(&self) -> Result<String, StoreError> {
        let not_unicode = || StoreError::Make { path: self.0.clone(), source: ErrorKind::InvalidFilename.into() };
        self.0.to_str().map(str::to_owned).ok_or_else(not_unicode)
    }

    /// Gives it the name of a database that is gone.
    fn put(&self, path: &Path) -> io::Result<()> {
        // The logs of a file that came back meanwhile are needed.
        match fs::symlink_metadata(path) {
            Ok(_) => return Err(ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        // A log of the old file's would be taken for the new one's, by whoever opens it first. The open connection needs no name.
        for log in ["-wal", "-shm"] {
            match fs::remove_file(beside(path, log)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::hard_link(&self.0, path)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // SQLite's own is there if it was interrupted.
        for end in ["", "-journal"] {
            let _ = fs::remove_file(beside(&self.0, end));
        }
    }
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}
