//! Files that the installer keeps beside a trust set: what was there before, and where to look later.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::cli::exit::{Exit, Failure};

/// What was installed for whom. Only a hint where to look: what is true is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    /// The unit's or container's name.
    pub(super) name: String,
    /// Its own variables that the trust set continues.
    pub(super) preset: BTreeMap<String, String>,
    /// When the files last changed.
    pub(super) changed: Moment,
    /// A container's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    /// What was written elsewhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) files: Vec<PathBuf>,
}

/// A point in time that can be compared with the start of a process of the same boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moment {
    boot: String,
    /// CLOCK_MONOTONIC, microseconds.
    micros: u64,
}

impl Moment {
    pub(super) fn now() -> Self {
        let clock = clock_gettime(ClockId::CLOCK_MONOTONIC);
        let micros = clock.map_or(0, |now| now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000);
        Self { boot: boot(), micros: u64::try_from(micros).unwrap_or(0) }
    }

    /// Whether it is after `micros` of this boot.
    pub(super) fn is_after(&self, micros: u64) -> bool {
        self.boot == boot() && self.micros > micros
    }
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

impl Record {
    /// A record that is missing or no record is none.
    pub(super) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), Failure> {
        let text =
            serde_json::to_string_pretty(self).map_err(|error| Failure::because("no record can be made", &error))?;
        write_private(path, &text)
    }
}

/// The names of the records in a directory.
pub(super) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect()
}

/// Writes a file that anyone may read.
pub(super) fn write_public(path: &Path, text: &str) -> Result<(), Failure> {
    write(path, text, 0o644).map_err(|error| refused("write", path, &error))
}

/// Writes a file for root alone.
pub(super) fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    write(path, text, 0o600).map_err(|error| refused("write", path, &error))
}

/// Whole or not at all, whoever reads it meanwhile.
fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    let draft = directory.join(format!(".moxie-{:016x}", rand::random::<u64>()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
        // Whatever the umask left of it.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        fs::rename(&draft, path)
    })();
    if written.is_err() {
        // May not exist; what matters is the error.
        let _ = fs::remove_file(&draft);
    }
    written
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), Failure> {
    gone(fs::remove_file(path), path)
}

/// Removes a directory of Moxie's with all that is in it, if it is there.
pub(super) fn remove_dir(path: &Path) -> Result<(), Failure> {
    gone(fs::remove_dir_all(path), path)
}

/// Removes the directory that a file of Moxie's was in, unless there are more.
pub(super) fn tidy(file: &Path) {
    // One that is not empty stays, which is what is wanted.
    let _ = file.parent().map(fs::remove_dir);
}

fn gone(done: io::Result<()>, path: &Path) -> Result<(), Failure> {
    match done {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(refused("remove", path, &error)),
        _ => Ok(()),
    }
}

/// Why a file could not be touched; who is not root is told so.
pub(super) fn refused(verb: &str, path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::because(format_args!("cannot {verb} {}", path.display()), error);
    if error.kind() == ErrorKind::PermissionDenied {
        return failure.with_exit(Exit::Denied).next("the same with sudo");
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_is_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("units/pay.service.json");
        assert_eq!(Record::read(&path), None);
        let record = Record { name: "pay.service".into(), changed: Moment::now(), ..Record::default() };
        record.write(&path).unwrap();
        assert_eq!(Record::read(&path), Some(record.clone()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(&dir.path().join("units")), ["pay.service"]);
        assert!(record.changed.is_after(0) && !record.changed.is_after(u64::MAX));
        assert!(!Moment { boot: "another".into(), micros: 5 }.is_after(0), "before a reboot is before everything");
        tidy(&path);
        assert!(path.exists());
        remove(&path).unwrap();
        remove(&path).unwrap();
        tidy(&path);
        assert!(!path.parent().unwrap().exists());
        remove_dir(&dir.path().join("units")).unwrap();
        remove_dir(&dir.path().join("units")).unwrap();
    }
}
