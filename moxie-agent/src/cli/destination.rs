//! A file that a user names to be written: a regular one whole or not at all, what is none as it stands.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open, readlinkat};
use nix::sys::stat::Mode;
use nix::unistd::geteuid;

/// As many symbolic links as the kernel follows (path_resolution(7)).
const LINKS: usize = 40;
/// The open files of this process, by their numbers (proc_pid_fd(5)).
const OWN: &str = "/proc/self/fd";
/// Sticky, and anyone may write to it.
const SHARED: u32 = 0o1002;

/// A file that is going to be written. What keeps it from being written is known once it is open.
pub(super) struct Destination {
    file: File,
    draft: Option<Draft>,
}

impl Destination {
    /// Symbolic links are followed, see [`followed`]. What is no regular file (a pipe, a terminal, a device, what `/dev/stdout` stands
    /// for) is opened; a fifo waits for its reader, as in a shell.
    ///
    /// # Errors
    /// A directory, a file in no directory, one that this user may not write, or a link that is not followed.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let target = followed(path)?;
        if let Some(number) = own(&target) {
            return Ok(Self { file: reopened(number)?, draft: None });
        }
        match find(&target) {
            Ok((_, found)) if found.is_dir() => Err(ErrorKind::IsADirectory.into()),
            // What was found, whatever is there by now.
            Ok((file, found)) if !found.is_file() => {
                Ok(Self { file: appended(&Path::new(OWN).join(file.as_raw_fd().to_string()))?, draft: None })
            }
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

/// Where the symbolic links of `path` lead, whether or not something is there. One that stands for an open file of this process is left
/// as it is, below [`OWN`].
///
/// # Errors
/// An open file of another process, or another user's link where anyone may put one: whoever made it would choose what is written.
pub(super) fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..=LINKS {
        if let Some(number) = descriptor(&path)? {
            return Ok(Path::new(OWN).join(number.to_string()));
        }
        let Some(link) = link(&path)? else { return Ok(path) };
        path = path.parent().unwrap_or(Path::new("")).join(link);
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

/// Where `path` itself leads, if it is a symbolic link. Which ones are not followed: as by the kernel itself with `protected_symlinks`
/// (proc_sys_fs(5)).
fn link(path: &Path) -> io::Result<Option<PathBuf>> {
    let (file, found) = match find(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    if !found.is_symlink() {
        return Ok(None);
    }
    let directory = fs::metadata(Path::new(".").join(path.parent().unwrap_or(Path::new(""))))?;
    let is_trusted = [geteuid().as_raw(), directory.uid()].contains(&found.uid());
    if directory.mode() & SHARED == SHARED && !is_trusted {
        return Err(denied("it is another user's symbolic link in a directory that anyone may write to"));
    }
    Ok(Some(readlinkat(&file, "")?.into()))
}

/// What is at `path`, by no symbolic link at its end: neither to be read nor to be written.
fn find(path: &Path) -> io::Result<(File, Metadata)> {
    let file = File::from(open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?);
    let found = file.metadata()?;
    Ok((file, found))
}

/// The number of an open file of this process, by a path in proc_pid_fd(5).
///
/// # Errors
/// It is another process's.
fn descriptor(path: &Path) -> io::Result<Option<u32>> {
    let Some(directory) = path.parent().and_then(|parent| fs::canonicalize(parent).ok()) else { return Ok(None) };
    if !directory.starts_with("/proc") || directory.file_name() != Some(OsStr::new("fd")) {
        return Ok(None);
    }
    let Some(number) = path.file_name().and_then(OsStr::to_str).and_then(|name| name.parse().ok()) else {
        return Ok(None);
    };
    if fs::canonicalize("/proc/self").is_ok_and(|own| directory.starts_with(own)) {
        Ok(Some(number))
    } else {
        Err(denied("it is an open file of another process"))
    }
}

fn denied(why: &str) -> io::Error {
    io::Error::new(ErrorKind::PermissionDenied, why)
}

/// The number of a path below [`OWN`].
fn own(path: &Path) -> Option<u32> {
    path.strip_prefix(OWN).ok()?.to_str()?.parse().ok()
}

/// Stdout and stderr themselves, which go on where others have written, and which may be sockets.
fn reopened(number: u32) -> io::Result<File> {
    match number {
        1 => io::stdout().as_fd().try_clone_to_owned().map(File::from),
        2 => io::stderr().as_fd().try_clone_to_owned().map(File::from),
        _ => appended(&Path::new(OWN).join(number.to_string())),
    }
}

/// Behind what is in it already, if it keeps anything; a terminal does not become this process's own.
fn appended(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).custom_flags(libc::O_NOCTTY).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown, lchown, symlink};
    use std::process::{Command, Stdio};

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
        for stdout in ["/dev/stdout", "/proc/thread-self/fd/1"] {
            assert_eq!(own(&followed(Path::new(stdout)).unwrap()), Some(1), "{stdout}");
        }
    }

    fn is_denied(path: &Path) -> bool {
        Destination::open(path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    }

    #[test]
    fn the_open_file_of_another_process_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let mut other = Command::new("cat").stdin(Stdio::piped()).stdout(log).spawn().unwrap();
        let (descriptor, link) = (PathBuf::from(format!("/proc/{}/fd/1", other.id())), dir.path().join("link"));
        symlink(&descriptor, &link).unwrap();
        assert!(is_denied(&descriptor) && is_denied(&link));
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn another_users_link_is_not_followed_where_anyone_may_put_one() {
        let dir = tempfile::tempdir().unwrap();
        let (link, target) = (dir.path().join("link"), dir.path().join("target"));
        let permit = |mode| fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        symlink("target", &link).unwrap();
        permit(0o1777);
        assert_eq!(followed(&link).unwrap(), target);
        if let Err(error) = lchown(&link, Some(1), None) {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "cannot run, and CI=true: {error}");
            eprintln!("cannot run: {error}");
            return;
        }
        assert!(is_denied(&link) && followed(&link).is_err());
        fs::write(&target, "old").unwrap();
        assert!(is_denied(&link));
        for mode in [0o1755, 0o777] {
            permit(mode);
            assert_eq!(followed(&link).unwrap(), target, "{mode:o}");
        }
        permit(0o1777);
        chown(dir.path(), Some(1), None).unwrap();
        assert_eq!(followed(&link).unwrap(), target, "the directory's owner made it");
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
