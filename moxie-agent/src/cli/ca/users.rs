//! Who uses a trust set now: processes whose variables name it, or that see a file of it in another's place.

use std::fs;
use std::path::{Path, PathBuf};

/// The processes that use `dir`, but for this one. What /proc does not show (other users' processes, without root) is not seen.
pub(super) fn of(dir: &Path) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != std::process::id() && is_user(Some(*pid), dir)).collect()
}

/// Whether a process uses `dir`.
pub(super) fn is_user(pid: Option<u32>, dir: &Path) -> bool {
    pid.is_some_and(|pid| has_variable(pid, dir) || !mounts(pid, dir).is_empty())
}

fn has_variable(pid: u32, dir: &Path) -> bool {
    let name = dir.to_string_lossy();
    let mut needle = name.as_bytes().to_vec();
    needle.push(b'/');
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.windows(needle.len()).any(|window| window == needle)
}

/// A file of a trust set where a process sees another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mounted {
    /// Where, for that process.
    pub(super) over: PathBuf,
    /// Whether the file that is seen has been replaced or removed since.
    pub(super) is_stale: bool,
}

/// `dir`, and what is in it, among what a process has mounted.
pub(super) fn mounts(pid: u32, dir: &Path) -> Vec<Mounted> {
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    table.lines().filter_map(|line| mounted(line, dir)).collect()
}

/// proc_pid_mountinfo(5): ids, device, the path within its file system, the mount point, …
fn mounted(line: &str, dir: &Path) -> Option<Mounted> {
    let mut fields = line.split(' ').skip(3);
    let (source, over) = (unescaped(fields.next()?), unescaped(fields.next()?));
    let is_stale = source.ends_with("//deleted");
    let source = PathBuf::from(source.trim_end_matches("//deleted").trim_start_matches('/'));
    // The path begins where the file system does: its end has to be the directory's, of which at least the name is seen.
    let is_there = |path: &Path| path.components().count() > 1 && dir.ends_with(path);
    source.ancestors().any(is_there).then(|| Mounted { over: PathBuf::from(over), is_stale })
}

/// Blanks and the like are written as three octal digits behind a backslash.
fn unescaped(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (escape, meant)| text.replace(escape, meant))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_set_are_told_from_others() {
        let dir = Path::new("/var/lib/moxie/trust/containers/web");
        let at = |source: &str| {
            mounted(&format!("172 143 8:1 {source} /etc/ssl/cert.pem ro,relatime - ext4 /dev/sda1 rw"), dir)
        };
        let found = |is_stale| Some(Mounted { over: "/etc/ssl/cert.pem".into(), is_stale });
        assert_eq!(at("/var/lib/moxie/trust/containers/web/bundle-host.pem"), found(false));
        assert_eq!(at("/moxie/trust/containers/web/bundle-host.pem//deleted"), found(true), "a disk of its own");
        assert_eq!(at("/var/lib/moxie/trust/containers/web"), found(false));
        assert_eq!(at("/var/lib/moxie/trust/containers/web/php/moxie.ini"), found(false));
        assert_eq!(at("/var/lib/moxie/trust/containers/other/bundle-host.pem"), None);
        assert_eq!(at("/"), None);
        assert_eq!(at("/bundle.pem"), None);
        assert_eq!(mounted("", dir), None);
    }

    #[test]
    fn a_process_whose_variables_name_the_set_uses_it() {
        let path = std::env::vars().find(|(name, _)| name == "PATH").unwrap().1;
        let parent = Path::new(path.split(':').next().unwrap()).parent().unwrap().to_owned();
        assert!(is_user(Some(std::process::id()), &parent));
        assert!(!is_user(Some(std::process::id()), Path::new("/nothing/of/it")));
        assert!(!is_user(None, &parent) && !of(Path::new("/nothing/of/it")).contains(&std::process::id()));
    }
}
