//! The TCP connections that processes of a cgroup have open without the agent, as `/proc` tells them.

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::{cgroup, process};

/// `TCP_ESTABLISHED`, as the tables write it.
const ESTABLISHED: &str = "01";

/// A connection, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSocket {
    /// Where it goes, as the kernel knows it.
    pub peer: SocketAddr,
    /// Short name of the process.
    pub comm: Option<String>,
}

/// The established connections of processes at or below `top` that do not end on loopback: what is diverted does. Blocks for a look
/// at every descriptor of every such process; what vanishes meanwhile is passed over.
#[must_use]
pub fn open_below(top: &Path) -> Vec<OpenSocket> {
    let mut open = Vec::new();
    for pid in cgroup::processes_below(top) {
        let inodes = sockets_of(pid);
        if inodes.is_empty() {
            continue;
        }
        let comm = process::comm_of(pid);
        for table in ["tcp", "tcp6"] {
            // The process's own namespace, not the agent's.
            let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
            let peers = text.lines().skip(1).filter_map(|line| established(line, &inodes));
            open.extend(peers.map(|peer| OpenSocket { peer, comm: comm.clone() }));
        }
    }
    open
}

fn sockets_of(pid: u32) -> HashSet<u64> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return HashSet::new() };
    let links = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    links.filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()).collect()
}

/// Fields of proc_net_tcp(5): number, local address, remote address, state, queues, timer, retransmissions, uid, timeout, inode.
///
/// The peer of a socket that is connected to another host, where one of `inodes` is its.
#[must_use]
pub fn established(line: &str, inodes: &HashSet<u64>) -> Option<SocketAddr> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [_, _, remote, ESTABLISHED, _, _, _, _, _, inode, ..] = fields.as_slice() else { return None };
    let peer = address(remote)?;
    (inodes.contains(&inode.parse().ok()?) && !peer.ip().is_loopback()).then_some(peer)
}

/// Words of the address in the host's order, each as eight digits; then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    let words: Vec<[u8; 4]> = (0..address.len() / 8).map(word).collect::<Option<_>>()?;
    let ip = match words.as_slice() {
        [word] => IpAddr::V4(Ipv4Addr::from(*word)),
        words => {
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            Ipv6Addr::from(bytes).to_canonical()
        }
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    const V4: &str =
        "   0: 026433C6:C350 0A6433C6:01BB 01 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000 20";

    #[test]
    fn a_line_of_the_table_is_read() {
        let peer = established(V4, &HashSet::from([4711]));
        assert_eq!(peer, Some("198.51.100.10:443".parse().unwrap()));
        assert_eq!(established(V4, &HashSet::from([1])), None, "another process's");
        assert_eq!(established(&V4.replace(" 01 ", " 06 "), &HashSet::from([4711])), None, "closed already");
        assert_eq!(established(&V4.replace("0A6433C6", "0100007F"), &HashSet::from([4711])), None, "diverted");
    }

    #[test]
    fn a_mapped_address_is_an_ipv4_one() {
        assert_eq!(address("0000000000000000FFFF00000A6433C6:0050"), Some("198.51.100.10:80".parse().unwrap()));
        assert_eq!(address("nonsense"), None);
    }
}
