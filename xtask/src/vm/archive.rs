//! A file system to start from, in the format that the kernel unpacks: cpio, "newc".
//!
//! Source: the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// What is at a path.
#[derive(Debug)]
enum Entry {
    Directory { mode: u32 },
    Link(PathBuf),
    Text { text: String, mode: u32 },
    File { source: PathBuf, mode: u32, modified: u32 },
}

/// Paths of the file system, each with what is there; everything belongs to root.
#[derive(Debug, Default)]
pub(super) struct Archive {
    // Sorted, so that a directory comes before what is in it.
    entries: BTreeMap<PathBuf, Entry>,
}

impl Archive {
    pub(super) fn directory(&mut self, path: impl Into<PathBuf>, mode: u32) {
        self.add(path.into(), Entry::Directory { mode });
    }

    pub(super) fn link(&mut self, path: impl Into<PathBuf>, target: impl Into<PathBuf>) {
        self.add(path.into(), Entry::Link(target.into()));
    }

    pub(super) fn text(&mut self, path: impl Into<PathBuf>, mode: u32, text: impl Into<String>) {
        self.add(path.into(), Entry::Text { text: text.into(), mode });
    }

    /// The file `source` at `path`, with its time: Python trusts what it compiled earlier only if the time is the same.
    pub(super) fn file(&mut self, path: impl Into<PathBuf>, source: impl Into<PathBuf>) -> Result<()> {
        let source = source.into();
        let found = fs::metadata(&source).with_context(|| format!("cannot read {}", source.display()))?;
        let (mode, modified) = (found.permissions().mode() & 0o7777, u32::try_from(found.mtime()).unwrap_or(0));
        self.add(path.into(), Entry::File { source, mode, modified });
        Ok(())
    }

    pub(super) fn has(&self, path: &Path) -> bool {
        self.entries.contains_key(path)
    }

    fn add(&mut self, path: PathBuf, entry: Entry) {
        for parent in path.ancestors().skip(1).filter(|parent| parent.parent().is_some()) {
            self.entries.entry(parent.to_owned()).or_insert(Entry::Directory { mode: 0o755 });
        }
        self.entries.insert(path, entry);
    }

    pub(super) fn write(&self, mut to: impl Write) -> Result<()> {
        for (number, (path, entry)) in (1..).zip(&self.entries) {
            entry.write(number, path, &mut to).with_context(|| format!("cannot pack {}", path.display()))?;
        }
        record(&mut to, Head { number: 0, mode: 0, modified: 0 }, "TRAILER!!!", &[])?;
        Ok(to.flush()?)
    }
}

impl Entry {
    fn write(&self, number: u32, path: &Path, to: &mut impl Write) -> io::Result<()> {
        let name = path.to_string_lossy();
        let name = name.trim_start_matches('/');
        let head = |mode| Head { number, mode, modified: 0 };
        match self {
            Self::Directory { mode } => record(to, head(DIRECTORY | mode), name, &[]),
            Self::Link(target) => record(to, head(LINK | 0o777), name, target.to_string_lossy().as_bytes()),
            Self::Text { text, mode } => record(to, head(FILE | mode), name, text.as_bytes()),
            Self::File { source, mode, modified } => {
                record(to, Head { number, mode: FILE | mode, modified: *modified }, name, &fs::read(source)?)
            }
        }
    }
}

/// The fields of a record that are not counted.
struct Head {
    number: u32,
    mode: u32,
    modified: u32,
}

fn record(to: &mut impl Write, head: Head, name: &str, content: &[u8]) -> io::Result<()> {
    let length = |bytes: usize| u32::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge));
    let (Head { number, mode, modified }, links) = (head, 1);
    // Inode, mode, owner, group, links, time, size, device (four fields), length of the name with its end, checksum.
    let fields = [number, mode, 0, 0, links, modified, length(content.len())?, 0, 0, 0, 0, length(name.len() + 1)?, 0];
    let mut text = String::from("070701");
    for field in fields {
        text.push_str(&format!("{field:08x}"));
    }
    text.push_str(name);
    text.push('\0');
    to.write_all(text.as_bytes())?;
    to.write_all(padding(text.len()))?;
    to.write_all(content)?;
    to.write_all(padding(content.len()))
}

/// Names and contents end at a multiple of four.
fn padding(length: usize) -> &'static [u8] {
    match length % 4 {
        0 => &[],
        1 => &[0; 3],
        2 => &[0; 2],
        _ => &[0; 1],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_first_and_everything_is_padded() {
        let mut archive = Archive::default();
        archive.text("/a/file", 0o644, "hello");
        archive.link("/link", "a/file");
        let mut bytes = Vec::new();
        archive.write(&mut bytes).unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8(bytes).unwrap();
        let at = |needle: &str| text.find(needle).unwrap();
        assert!(
            at("a\0") < at("a/file\0") && at("a/file\0") < at("link\0") && at("link\0") < at("TRAILER!!!\0"),
            "{text:?}"
        );
        for magic in text.match_indices("070701").map(|(at, _)| at) {
            assert_eq!(magic % 4, 0, "{text:?}");
        }
        assert!(text.contains("hello\0\0\0"), "{text:?}");
        assert!(text.starts_with("07070100000001000041ed"), "{text:?}");
    }
}
