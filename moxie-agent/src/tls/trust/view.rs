//! The file system as the program sees it that shall trust the authority: the host's, or a container's own.
//!
//! What is inside a container is not to be believed: a link there must not lead to a file of the host, and a file there may be a
//! pipe, a device or endless. So names are resolved by the kernel below that root, and only plain files of a bounded size are read.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use super::BUNDLE_PATHS;

/// No set of roots comes near this.
const LARGEST: u64 = 16 * 1024 * 1024;

/// Where names are looked up.
#[derive(Debug)]
pub enum View {
    /// As this process sees them.
    Host,
    /// Below another root directory, links included (openat2(2), Linux 5.6).
    Inside(OwnedFd),
}

impl View {
    /// The view of whoever has `root` as root directory, such as `/proc/PID/root`.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn inside(root: &Path) -> io::Result<Self> {
        let flags = (OFlag::O_PATH | OFlag::O_DIRECTORY).bits();
        Ok(Self::Inside(OpenOptions::new().read(true).custom_flags(flags).open(root)?.into()))
    }

    /// Opens without waiting, whatever it is.
    fn open(&self, path: &Path) -> io::Result<File> {
        let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        match self {
            Self::Host => OpenOptions::new().read(true).custom_flags(flags.bits()).open(path),
            Self::Inside(root) => {
                let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
                Ok(openat2(root, path, OpenHow::new().flags(flags).resolve(resolve))?.into())
            }
        }
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.open(path)?.metadata()
    }

    pub(crate) fn is_file(&self, path: &Path) -> bool {
        self.metadata(path).is_ok_and(|found| found.is_file())
    }

    pub(super) fn is_dir(&self, path: &Path) -> bool {
        self.metadata(path).is_ok_and(|found| found.is_dir())
    }

    /// The content of a plain file.
    pub(super) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "no plain file"));
        }
        let mut content = Vec::new();
        file.take(LARGEST + 1).read_to_end(&mut content)?;
        if content.len() as u64 > LARGEST {
            return Err(io::Error::new(ErrorKind::FileTooLarge, "larger than any set of roots"));
        }
        Ok(content)
    }

    /// What a directory holds, in the order of names.
    pub(super) fn entries(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let opened = self.open(dir)?;
        let listed = fs::read_dir(format!("/proc/self/fd/{}", opened.as_raw_fd()))?;
        let mut found: Vec<PathBuf> = listed.filter_map(|entry| Some(dir.join(entry.ok()?.file_name()))).collect();
        found.sort();
        Ok(found)
    }

    /// Whether two names lead to one file.
    pub(crate) fn is_same(&self, one: &Path, other: &Path) -> bool {
        match (self.metadata(one), self.metadata(other)) {
            (Ok(one), Ok(other)) => identity(&one) == identity(&other),
            _ => false,
        }
    }

    /// The files behind [`BUNDLE_PATHS`], each once, by the first name that leads there.
    #[must_use]
    pub fn bundles(&self) -> Vec<PathBuf> {
        let mut found: Vec<((u64, u64), PathBuf)> = Vec::new();
        for path in BUNDLE_PATHS.iter().map(PathBuf::from) {
            let Ok(file) = self.metadata(&path) else { continue };
            if file.is_file() && !found.iter().any(|(known, _)| *known == identity(&file)) {
                found.push((identity(&file), path));
            }
        }
        found.into_iter().map(|(_, path)| path).collect()
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_inside_never_leads_out() {
        let host = tempfile::tempdir().unwrap();
        fs::write(host.path().join("secret"), "host").unwrap();
        let root = host.path().join("root");
        fs::create_dir_all(root.join("etc/ssl/certs")).unwrap();
        fs::write(root.join("etc/roots.pem"), "inside").unwrap();
        let at = |name: &str| root.join("etc/ssl").join(name);
        symlink("/etc/roots.pem", at("certs/ca-certificates.crt")).unwrap();
        symlink("certs/ca-certificates.crt", at("cert.pem")).unwrap();
        symlink(host.path().join("secret"), at("absolute")).unwrap();
        symlink("../../../../secret", at("relative")).unwrap();
        symlink("/proc/self/root", at("magic")).unwrap();

        let view = View::inside(&root).unwrap();
        let read = |path: &str| view.read(Path::new(path));
        assert_eq!(read("/etc/ssl/cert.pem").unwrap(), b"inside");
        for path in ["/etc/ssl/absolute", "/etc/ssl/relative", "/etc/ssl/magic/etc/passwd"] {
            assert!(read(path).is_err(), "{path}");
        }
        assert_eq!(view.bundles(), [Path::new("/etc/ssl/certs/ca-certificates.crt")], "one file, by its first name");
        assert!(view.is_same(Path::new("/etc/roots.pem"), Path::new("/etc/ssl/cert.pem")));
        assert!(view.is_dir(Path::new("/etc/ssl/certs")) && !view.is_file(Path::new("/etc/ssl/certs")));
        let names = view.entries(Path::new("/etc/ssl/certs")).unwrap();
        assert_eq!(names, [Path::new("/etc/ssl/certs/ca-certificates.crt")]);
    }

    #[test]
    fn only_plain_files_of_a_bounded_size_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let large = dir.path().join("large");
        File::create(&large).unwrap().set_len(LARGEST + 1).unwrap();
        for path in [pipe.as_path(), Path::new("/dev/zero"), dir.path(), large.as_path()] {
            assert!(View::Host.read(path).is_err(), "{}", path.display());
        }
        File::create(&large).unwrap().set_len(LARGEST).unwrap();
        assert!(View::Host.read(&large).is_ok());
    }
}
