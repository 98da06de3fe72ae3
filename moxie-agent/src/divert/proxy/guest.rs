//! Who uses the proxy: the client's socket in the kernel's list of connections, and the process that holds it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::scope::cgroup::{self, Hierarchy};

/// How many processes are looked at first, because they came before.
const REMEMBERED: usize = 16;

/// What is known of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Guest {
    pub(super) uid: Option<u32>,
    pub(super) pid: Option<u32>,
    pub(super) cgroup_id: Option<u64>,
}

/// Finds clients; remembers the processes found last, since most come again.
#[derive(Debug, Default)]
pub(super) struct Guests(Mutex<Vec<u32>>);

impl Guests {
    /// Who connected from `client` to `door`, both in this process's network namespace. Blocks for a look at every socket there and
    /// at every process that may be the one.
    pub(super) fn find(&self, client: SocketAddr, door: SocketAddr) -> Guest {
        let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
        let row = tables.iter().find_map(|table| row(&fs::read_to_string(table).ok()?, client, door));
        let Some(Row { uid, inode }) = row else { return Guest::default() };
        let pid = (inode != 0).then(|| self.holder(inode, uid)).flatten();
        Guest { uid: Some(uid), pid, cgroup_id: pid.and_then(cgroup_of) }
    }

    fn holder(&self, inode: u64, uid: u32) -> Option<u32> {
        let link = format!("socket:[{inode}]");
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let found = known.iter().copied().find(|pid| holds(*pid, &link)).or_else(|| {
            let others = processes_of(uid).into_iter().filter(|pid| !known.contains(pid));
            others.into_iter().find(|pid| holds(*pid, &link))
        })?;
        known.retain(|pid| *pid != found);
        known.insert(0, found);
        known.truncate(REMEMBERED);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = known;
        Some(found)
    }
}

/// A line of proc_net_tcp, as far as it matters.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// Whose the socket is.
    pub uid: u32,
    /// The socket.
    pub inode: u64,
}

/// The row of the socket that is bound to `local` and connected to `remote`.
#[must_use]
pub fn row(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<Row> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let (own, other) = (address(fields.nth(1)?)?, address(fields.next()?)?);
        if (own, other) != (canonical(local), canonical(remote)) {
            return None;
        }
        Some(Row { uid: fields.nth(4)?.parse().ok()?, inode: fields.nth(1)?.parse().ok()? })
    })
}

fn canonical(address: SocketAddr) -> (IpAddr, u16) {
    (address.ip().to_canonical(), address.port())
}

/// `0100007F:1F90`: words of the address as this machine stores them, and the port.
fn address(text: &str) -> Option<(IpAddr, u16)> {
    let (ip, port) = text.split_once(':')?;
    let word = |index: usize| u32::from_str_radix(ip.get(index * 8..index * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = match ip.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?)).to_canonical()
        }
        _ => return None,
    };
    Some((ip, u16::from_str_radix(port, 16).ok()?))
}

/// Newest first: a client that has just connected has often just been started.
fn processes_of(uid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let own = |entry: &fs::DirEntry| entry.metadata().is_ok_and(|metadata| metadata.uid() == uid);
    let pids = entries.flatten().filter(own).filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut pids: Vec<u32> = pids.collect();
    pids.sort_unstable_by(|one, other| other.cmp(one));
    pids
}

fn holds(pid: u32, link: &str) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors.flatten().any(|descriptor| fs::read_link(descriptor.path()).is_ok_and(|to| to == Path::new(link)))
}

fn cgroup_of(pid: u32) -> Option<u64> {
    cgroup::id_of(&Hierarchy::find().ok()?.of_process(pid).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a client of this test's own, on loopback")]
    fn a_client_of_either_family_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let door = listener.local_addr().unwrap();
        let mapped = format!("[::ffff:127.0.0.1]:{}", door.port());
        let guests = Guests::default();
        for to in [door.to_string(), mapped] {
            let client = TcpStream::connect(&to).unwrap();
            let (_accepted, from) = listener.accept().unwrap();
            let guest = guests.find(from, door);
            assert_eq!(guest.pid, Some(std::process::id()), "{to}");
            assert_eq!(guest.uid, Some(nix::unistd::geteuid().as_raw()), "{to}");
            drop(client);
        }
        assert_eq!(guests.find("127.0.0.1:1".parse().unwrap(), door), Guest::default());
    }

    #[test]
    fn any_table_is_read_without_a_panic() {
        for table in [
            "",
            "x\n",
            "sl\n0: 0100007F:0001 0100007F:0002",
            "sl\n0: zz:1 1:2 3 4 5 6 7 8 9",
            "sl\n\u{fc}:\n0: 0100007\u{fc}:1 a:b",
        ] {
            assert_eq!(row(table, "127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()), None, "{table:?}");
        }
    }
}
