//! A database whose file goes away while it is open: SQLite writes on into a file without a name, and all of it would be lost.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::{Sqlite, bounded, make_private};
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
    /// Whether the database's file is where it was opened.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.opened.as_ref().map_or(Standing::InPlace, Opened::standing)
    }

    /// Writes everything to a new file in the place of the one that is gone, and closes the database: it is to be opened again.
    ///
    /// # Errors
    /// [`StoreError::Make`], [`StoreError::Query`]. The database is as it was.
    pub async fn write_anew(&self) -> Result<(), StoreError> {
        let Some(Opened { path, .. }) = &self.opened else { return Ok(()) };
        let query = |source| StoreError::Query { operation: "write its file anew", source };
        let made = |source| StoreError::Make { path: path.clone(), source };
        let copy = beside(path, "-anew");
        let _ = fs::remove_file(&copy);
        make_private(&copy)?;
        let mut connection = self.pool.acquire().await.map_err(query)?;
        let written = sqlx::query("VACUUM INTO ?").bind(copy.to_string_lossy().into_owned()).execute(&mut *connection);
        bounded(written).await.map_err(query)?;
        let linked = fs::hard_link(&copy, path);
        let _ = fs::remove_file(&copy);
        linked.map_err(made)?;
        // Nobody else has a turn before it is closed: what was written now would be in the old file only.
        let closed = self.pool.close();
        drop(connection);
        closed.await;
        // A log of the old file's would be taken for the new one's.
        for log in ["-wal", "-shm"].map(|end| beside(path, end)) {
            let _ = fs::remove_file(log);
        }
        Ok(())
    }
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}
