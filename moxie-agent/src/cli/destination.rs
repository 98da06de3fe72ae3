//! A file that a user names to be written: a regular one whole or not at all, what is none as it stands.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// As many symbolic links as the kernel follows (path_resolution(7)).
const LINKS: usize = 40;

/// A file that is going to be written. What keeps it from being written is known once it is open.
pub(super) struct Destination {
    file: File,
    draft: Option<Draft>,
}

impl Destination {
    /// Symbolic links are followed. What is no regular file (a pipe, a terminal, a device, what `/dev/stdout` stands for) is opened;
    /// a fifo waits for its reader, as in a shell.
    ///
    /// # Errors
    /// A directory, a file in no directory, or one that this user may not write.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let target = followed(path);
        if let Some(descriptor) = descriptor(&target) {
            return Ok(Self { file: reopened(&target, &descriptor)?, draft: None });
        }
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => Err(ErrorKind::IsADirectory.into()),
            Ok(found) if !found.is_file() => Ok(Self { file: appended(&target)?, draft: None }),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            Err(_) if target.as_os_str().as_bytes().ends_with(b"/") => Err(ErrorKind::IsADirectory.into()),
            _ => {
                let (draft, file) = Draft::beside(target)?;
                Ok(Self { file, draft: Some(draft) })
            }
        }
    }

    /// Writes it, and puts it in place.
    pub(super) fn write(mut self, content: &[u8]) -> io::Result<()> {
        self.file.write_all(content)?;
        self.draft.map_or(Ok(()), Draft::put_in_place)
    }
}

/// What a rename puts in place; removed if that does not happen.
struct Draft {
    path: PathBuf,
    target: PathBuf,
}

impl Draft {
    fn beside(target: PathBuf) -> io::Result<(Self, File)> {
        let Some(_) = target.file_name() else { return Err(ErrorKind::NotFound.into()) };
        let path = target.with_file_name(format!(".moxie-{}", crate::journal::record_id()));
        let file = File::create_new(&path)?;
        Ok((Self { path, target }, file))
    }

    fn put_in_place(self) -> io::Result<()> {
        fs::rename(&self.path, &self.target)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Gone already if it is in place.
        let _ = fs::remove_file(&self.path);
    }
}

/// Where the symbolic links of `path` lead, whether or not something is there. One that stands for an open file is left as it is.
pub(super) fn followed(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        if descriptor(&path).is_some() {
            break;
        }
        let Ok(link) = fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("")).join(link);
    }
    path
}

/// An open file of a process, by its path in proc_pid_fd(5).
struct Descriptor {
    number: Option<u32>,
    is_own: bool,
}

fn descriptor(path: &Path) -> Option<Descriptor> {
    let directory = fs::canonicalize(path.parent()?).ok()?;
    if !directory.starts_with("/proc") || directory.file_name() != Some(OsStr::new("fd")) {
        return None;
    }
    let number = path.file_name().and_then(OsStr::to_str).and_then(|name| name.parse().ok());
    Some(Descriptor { number, is_own: fs::canonicalize("/proc/self/fd").is_ok_and(|own| own == directory) })
}

/// Stdout and stderr themselves, which go on where others have written, and which may be sockets.
fn reopened(path: &Path, descriptor: &Descriptor) -> io::Result<File> {
    match (descriptor.is_own, descriptor.number) {
        (true, Some(1)) => io::stdout().as_fd().try_clone_to_owned().map(File::from),
        (true, Some(2)) => io::stderr().as_fd().try_clone_to_owned().map(File::from),
        _ => appended(path),
    }
}

/// Behind what is in it already, if it keeps anything; a terminal does not become this process's own.
fn appended(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).custom_flags(libc::O_NOCTTY).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, symlink};

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    fn write(path: &Path) {
        Destination::open(path).unwrap().write(b"new").unwrap();
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = entries.collect();
        names.sort();
        names
    }

    #[test]
    fn a_regular_file_appears_whole_and_leaves_no_draft() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let opened = Destination::open(&path).unwrap();
        assert!(!path.exists());
        opened.write(b"old, and longer").unwrap();
        drop(Destination::open(&path).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"old, and longer");
        write(&path);
        assert_eq!((fs::read(&path).unwrap(), names(dir.path())), (b"new".to_vec(), vec!["a".to_owned()]));
    }

    #[test]
    fn symbolic_links_stay_and_what_they_lead_to_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/there"), "old").unwrap();
        for (link, to) in [("one", "sub/there"), ("two", "one"), ("dangling", "sub/made")] {
            let path = dir.path().join(link);
            symlink(to, &path).unwrap();
            write(&path);
            assert_eq!(
                (fs::read_link(&path).unwrap(), fs::read(&path).unwrap()),
                (to.into(), b"new".to_vec()),
                "{link}"
            );
        }
        assert_eq!(names(&dir.path().join("sub")), ["made", "there"]);
        symlink("loop", dir.path().join("loop")).unwrap();
        assert!(Destination::open(&dir.path().join("loop")).is_err());
    }

    #[test]
    fn a_fifo_is_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let (fifo, link) = (dir.path().join("fifo"), dir.path().join("link"));
        mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        symlink("fifo", &link).unwrap();
        for path in [&fifo, &link] {
            let reader = std::thread::spawn({
                let fifo = fifo.clone();
                move || fs::read(fifo).unwrap()
            });
            write(path);
            assert_eq!(reader.join().unwrap(), b"new");
        }
        assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(names(dir.path()), ["fifo", "link"]);
    }

    #[test]
    fn an_open_file_is_written_behind_what_it_holds() {
        use std::os::fd::AsRawFd;
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("log"), dir.path().join("link"));
        fs::write(&path, "before, ").unwrap();
        let open = File::open(&path).unwrap();
        symlink(format!("/proc/self/fd/{}", open.as_raw_fd()), &link).unwrap();
        write(&link);
        assert_eq!(
            (fs::read(&path).unwrap(), names(dir.path())),
            (b"before, new".to_vec(), vec!["link".into(), "log".into()])
        );
        let stdout = descriptor(&followed(Path::new("/dev/stdout"))).unwrap();
        assert_eq!((stdout.number, stdout.is_own), (Some(1), true));
    }

    #[test]
    fn what_cannot_be_written_is_known_before() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        for name in ["", ".", "none/report", "none/", "file/", "file/report"] {
            assert!(Destination::open(&dir.path().join(name)).is_err(), "{name:?}");
        }
        for path in ["", "/", ".."] {
            assert!(Destination::open(Path::new(path)).is_err(), "{path:?}");
        }
        assert_eq!(names(dir.path()), ["file"]);
    }
}
