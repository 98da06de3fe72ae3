//! A directory of one run's own, which stays while a process needs it: what dead runs have left and nobody needs any more is removed.
//!
//! Whoever holds the lock on a directory (flock(2)) makes it or removes it; it ends with its holder, however that ended.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::unistd::geteuid;

use crate::cli::exit::Failure;
use crate::cli::output::note;
use crate::scope::cgroup;

/// Names of the directories: this, and 32 hexadecimal digits.
const PREFIX: &str = "moxie-run-";
/// The file that says where its run was, see [`here`].
const ORIGIN: &str = "origin";
/// How often a directory is made anew that a sweep took for one that was left.
const ATTEMPTS: usize = 8;
/// How many directories one run removes: each takes a descriptor meanwhile.
const SWEPT: usize = 64;
/// For so long a process that is becoming another program may show no variables.
const EXEC: Duration = Duration::from_millis(1);
/// How long nobody has touched what another boot has left: it may be another machine's that lives.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A directory that CMD can read whoever it runs as; removed when dropped.
pub(super) struct Directory {
    path: PathBuf,
    name: String,
    /// None where directories cannot be locked, such as on NFS; nothing is swept there.
    _lock: Option<File>,
    is_needed: bool,
}

impl Directory {
    /// Makes one in `parent`, and removes there what dead runs have left.
    pub(super) fn make(parent: &Path) -> Result<Self, Failure> {
        sweep(parent);
        for _ in 0..ATTEMPTS {
            let name = format!("{PREFIX}{}", crate::journal::record_id());
            let path = parent.join(&name);
            if let Some(lock) = make(&path).map_err(|error| refused(&path, &error))? {
                return Ok(Self { path, name, _lock: lock, is_needed: false });
            }
        }
        Err(Failure::failed(format!("cannot make a directory in {}: others keep taking it", parent.display())))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it, unless processes need it that CMD has left: those of its cgroup, and those whose variables name it.
    pub(super) fn end(mut self, cgroup: Option<&Path>) {
        let path = self.path.display();
        let why = match self.users(cgroup) {
            Ok(left) => match left.len() {
                0 => return,
                1 => format!("1 process that CMD started still runs and needs {path}"),
                count => format!("{count} processes that CMD started still run and need {path}"),
            },
            Err(error) => format!("nobody can tell whether {path} is needed: {error}"),
        };
        note(&format!("{why}: it stays"));
        self.is_needed = true;
    }

    fn users(&self, cgroup: Option<&Path>) -> io::Result<BTreeSet<u32>> {
        let mut users: BTreeSet<u32> = cgroup.map(cgroup::processes_below).into_iter().flatten().collect();
        look_at_all(|pid| {
            if names(&told(pid, "environ")?).any(|name| name == self.name) {
                users.insert(pid);
            }
            Ok(())
        })?;
        Ok(users)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.is_needed {
            return;
        }
        if let Err(error) = fs::remove_dir_all(&self.path) {
            note(&format!("{} is left behind: {error}", self.path.display()));
        }
    }
}

/// Makes a directory and locks it, where it can be locked; none if a sweep was faster.
fn make(path: &Path) -> io::Result<Option<Option<File>>> {
    // Fails if it exists: nobody else may have put files there. Nor may another user be the first to lock it.
    DirBuilder::new().mode(0o700).create(path)?;
    let lock = match hold(path) {
        Hold::Held(lock) => Some(lock),
        Hold::Impossible => None,
        Hold::Taken => return Ok(None),
    };
    // Whatever the umask left of it.
    fs::set_permissions(path, Permissions::from_mode(0o755))?;
    fs::write(path.join(ORIGIN), here())?;
    Ok(Some(lock))
}

/// Removes the directories of this user's dead runs in `parent` that no process uses.
fn sweep(parent: &Path) {
    let left: Vec<(PathBuf, String, File)> = left(parent).take(SWEPT).collect();
    if left.is_empty() {
        return;
    }
    // In doubt, all stay for the next run.
    let Ok(used) = used() else { return };
    for (path, _, _lock) in left.into_iter().filter(|(_, name, _)| !used.contains(name)) {
        // Follows no symbolic link. What cannot be removed stays too.
        let _ = fs::remove_dir_all(path);
    }
}

/// Directories of this user's whose run is dead, held.
fn left(parent: &Path) -> impl Iterator<Item = (PathBuf, String, File)> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| Some((entry.path(), entry.file_name().into_string().ok()?)));
    named.filter(|(_, name)| is_name(name)).filter_map(|(path, name)| match hold(&path) {
        Hold::Held(lock) if is_from_here(&path) => Some((path, name, lock)),
        _ => None,
    })
}

/// The directories that processes use: by their variables, or by files that cover others in their mount namespace.
fn used() -> io::Result<HashSet<String>> {
    let (mut used, mut known) = (HashSet::new(), HashSet::new());
    look_at_all(|pid| {
        used.extend(names(&told(pid, "environ")?).map(str::to_owned));
        let seen = seen_mounts(pid);
        if !known.contains(&seen) {
            let mounts = told(pid, "mountinfo")?;
            used.extend(names(&mounts).map(str::to_owned));
            // A process that is gone tells nothing of the others there.
            if !mounts.is_empty() {
                known.insert(seen);
            }
        }
        Ok(())
    })?;
    Ok(used)
}

/// What decides which mounts a process sees, its namespace and its root; itself where that cannot be read.
fn seen_mounts(pid: u32) -> [PathBuf; 2] {
    ["ns/mnt", "root"].map(|link| {
        let link = PathBuf::from(format!("/proc/{pid}/{link}"));
        fs::read_link(&link).unwrap_or(link)
    })
}

/// Looks at each process twice: see [`EXEC`].
fn look_at_all(mut look: impl FnMut(u32) -> io::Result<()>) -> io::Result<()> {
    processes()?.into_iter().try_for_each(&mut look)?;
    sleep(EXEC);
    processes()?.into_iter().try_for_each(look)
}

/// Whether the processes of its run, if any live, are among those seen here.
fn is_from_here(path: &Path) -> bool {
    match fs::read_to_string(path.join(ORIGIN)) {
        Ok(origin) => {
            let here = here();
            origin == here || (origin.split(' ').next() != here.split(' ').next() && is_old(path))
        }
        // The run ended before it wrote it.
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

fn is_old(path: &Path) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|found| found.modified());
    modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > DAY))
}

/// This boot, and which processes are seen: directories may be shared with containers, which see only their own.
fn here() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{} {}", boot.trim(), namespace.display())
}

/// What comes of locking a directory.
enum Hold {
    Held(File),
    /// Another has it, or has removed it.
    Taken,
    /// It is no directory of this user's, or none that can be locked.
    Impossible,
}

fn hold(path: &Path) -> Hold {
    let options = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let directory = match OpenOptions::new().read(true).custom_flags(options).open(path) {
        Ok(directory) => directory,
        Err(error) if error.kind() == ErrorKind::NotFound => return Hold::Taken,
        Err(_) => return Hold::Impossible,
    };
    let Ok(opened) = directory.metadata() else { return Hold::Impossible };
    if opened.uid() != geteuid().as_raw() {
        return Hold::Impossible;
    }
    match directory.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Hold::Taken,
        Err(TryLockError::Error(_)) => return Hold::Impossible,
    }
    let is_there =
        fs::symlink_metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (opened.dev(), opened.ino()));
    if is_there { Hold::Held(directory) } else { Hold::Taken }
}

fn processes() -> io::Result<Vec<u32>> {
    let entries = fs::read_dir("/proc")?.flatten();
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// What /proc tells of a process: nothing if it is another user's, or gone; an error if it cannot be read for want of something.
fn told(pid: u32, file: &str) -> io::Result<Vec<u8>> {
    match fs::read(format!("/proc/{pid}/{file}")) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)) => Err(error),
        read => Ok(read.unwrap_or_default()),
    }
}

/// The directories that `text` names.
fn names(text: &[u8]) -> impl Iterator<Item = &str> {
    let parts = text.split(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-');
    parts.filter_map(|part| std::str::from_utf8(part).ok()).filter(|part| is_name(part))
}

fn is_name(name: &str) -> bool {
    let id = name.strip_prefix(PREFIX);
    id.is_some_and(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)))
}

fn refused(path: &Path, error: &io::Error) -> Failure {
    Failure::because(format_args!("cannot make {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::{Child, Command, Stdio};
    use std::time::SystemTime;

    use super::*;

    /// A process that a run has left: its variables name the directory.
    fn user(directory: &Path) -> Child {
        let mut command = Command::new("cat");
        command.env("SSL_CERT_FILE", directory.join("bundle.pem")).stdin(Stdio::piped());
        let child = command.spawn().unwrap();
        // It may show them later than it is there.
        let is_shown = (0..10_000).any(|_| {
            sleep(EXEC);
            names(&told(child.id(), "environ").unwrap()).any(|name| directory.ends_with(name))
        });
        assert!(is_shown);
        child
    }

    fn end(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// What is left of a run that was killed.
    fn killed(parent: &Path) -> PathBuf {
        let mut directory = Directory::make(parent).unwrap();
        directory.is_needed = true;
        directory.path().to_owned()
    }

    /// Whether sweeping removes `path`, once no process that was forked in another test holds it any more.
    fn is_swept(path: &Path) -> bool {
        (0..10_000).any(|_| {
            sweep(path.parent().unwrap());
            std::thread::yield_now();
            !path.exists()
        })
    }

    #[test]
    fn the_directory_is_for_everyone_to_read_and_goes_with_the_run() {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::make(parent.path()).unwrap();
        let path = directory.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
        fs::write(path.join("ca.pem"), "x").unwrap();
        directory.end(None);
        assert!(!path.exists());
    }

    #[test]
    fn it_stays_while_a_process_needs_it_and_a_later_run_removes_it() {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::make(parent.path()).unwrap();
        let path = directory.path().to_owned();
        let child = user(&path);
        directory.end(None);
        assert!(path.exists());
        sweep(parent.path());
        assert!(path.exists(), "a process still names it");
        end(child);
        assert!(is_swept(&path));
    }

    #[test]
    fn what_was_killed_is_swept_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let at = |name: &str| parent.path().join(name);
        let alive = Directory::make(parent.path()).unwrap();
        let dead = killed(parent.path());
        fs::create_dir(dead.join("php")).unwrap();
        let digits = "0123456789abcdef0123456789abcdef";
        let elsewhere = at(&format!("{PREFIX}f{}", &digits[1..]));
        fs::create_dir(&elsewhere).unwrap();
        let (boot, _) = here().split_once(' ').map(|(boot, seen)| (boot.to_owned(), seen.to_owned())).unwrap();
        fs::write(elsewhere.join(ORIGIN), format!("{boot} pid:[1]")).unwrap();
        let [before, another_machines] = ["e", "c"].map(|first| {
            let path = at(&format!("{PREFIX}{first}{}", &digits[1..]));
            fs::create_dir(&path).unwrap();
            fs::write(path.join(ORIGIN), "another-boot pid:[1]").unwrap();
            path
        });
        File::open(&before).unwrap().set_modified(SystemTime::now() - 2 * DAY).unwrap();
        fs::create_dir(at("target")).unwrap();
        symlink("target", at(&format!("{PREFIX}{digits}"))).unwrap();
        fs::create_dir(at(&format!("{PREFIX}{digits}0"))).unwrap();
        fs::write(at(&format!("{PREFIX}d{}", &digits[1..])), "").unwrap();
        assert!(is_swept(&dead) && is_swept(&before));
        assert!(alive.path().exists() && elsewhere.exists() && another_machines.exists());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 7);
    }

    #[test]
    fn names_are_found_wherever_they_stand() {
        let name = format!("{PREFIX}0123456789abcdef0123456789abcdef");
        for text in
            ["A=/tmp/@/ca.pem\0B=", "A=/tmp/@\0B=", "A=:/tmp/@/php", "8:1 /@/a.pem//deleted /etc/a ro", "A=\"@\""]
        {
            assert!(names(text.replace('@', &name).as_bytes()).eq([name.as_str()]), "{text}");
        }
        for text in ["", "A=moxie-run-7", "A=@0", "A=x-@"] {
            assert_eq!(names(text.replace('@', &name).as_bytes()).count(), 0, "{text}");
        }
    }

    #[test]
    fn one_that_a_sweep_has_taken_is_not_used() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a");
        fs::create_dir(&path).unwrap();
        let Hold::Held(_held) = hold(&path) else { panic!("nobody else has it") };
        assert!(matches!(hold(&path), Hold::Taken));
        fs::remove_dir(&path).unwrap();
        assert!(matches!(hold(&path), Hold::Taken));
    }
}
