//! A name server of the lab's: the clients' own resolver asks it, and a test says what it answers.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Lab, origins};

/// How long the server waits before it looks whether it is to end.
const TURN: Duration = Duration::from_millis(50);

/// Where the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolver {
    /// On the clients' loopback, as systemd-resolved and Docker's are.
    Loopback,
    /// Beyond the cable.
    Remote,
}

/// What is answered about a name.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// Where it is.
    pub addresses: Vec<IpAddr>,
    /// The name that it is another name for.
    pub alias_of: Option<String>,
    /// Seconds for which that holds.
    pub ttl: u32,
    /// Say only that the answer does not fit (TC).
    pub is_cut: bool,
}

/// The server; ends when dropped.
#[derive(Debug)]
pub struct Dns {
    zone: Arc<Mutex<HashMap<String, Entry>>>,
    stop: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Lab {
    /// Starts a name server, and has the lab's clients ask it for what is not in the lab's hosts file.
    ///
    /// # Errors
    /// What the system refused.
    pub fn dns(&self, resolver: Resolver) -> Result<Dns> {
        let remote = origins::PLACES.first().context("there are no stand-ins")?.address;
        let (network, address) = match resolver {
            Resolver::Loopback => (&self.app, "127.0.0.1"),
            Resolver::Remote => (&self.net, remote),
        };
        let bind = || UdpSocket::bind((address, 53)).with_context(|| format!("cannot listen on {address}:53"));
        let socket = network.enter(bind)?;
        socket.set_read_timeout(Some(TURN))?;
        let options = "options timeout:10 attempts:1";
        fs::write(self.files().join("resolv.conf"), format!("nameserver {address}\n{options}\n"))?;
        fs::write(self.files().join("nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files dns\n")?;
        let (zone, stop) = (Arc::<Mutex<HashMap<_, _>>>::default(), Arc::new(AtomicBool::new(false)));
        let server = thread::spawn({
            let (zone, stop) = (Arc::clone(&zone), Arc::clone(&stop));
            move || serve(&socket, &zone, &stop)
        });
        Ok(Dns { zone, stop, server: Some(server) })
    }
}

impl Dns {
    /// Says what is answered about a name from now on.
    pub fn set(&self, name: &str, entry: Entry) {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), entry);
    }

    /// A name is at an address, for so many seconds.
    ///
    /// # Panics
    /// It is no address.
    pub fn at(&self, name: &str, address: &str, ttl: u32) {
        let address = address.parse().expect("an address");
        self.set(name, Entry { addresses: vec![address], ttl, ..Entry::default() });
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

fn serve(socket: &UdpSocket, zone: &Mutex<HashMap<String, Entry>>, stop: &AtomicBool) {
    let mut buffer = [0; 1500];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
        let reply = buffer.get(..length).and_then(|query| {
            let zone = zone.lock().unwrap_or_else(PoisonError::into_inner);
            reply(query, &zone)
        });
        if let Some(reply) = reply {
            // A client that has gone wants no answer.
            let _ = socket.send_to(&reply, client);
        }
    }
}

/// The answer to a query (RFC 1035 section 4.1); its question is taken over byte for byte.
fn reply(query: &[u8], zone: &HashMap<String, Entry>) -> Option<Vec<u8>> {
    let (name, end) = name_at(query, 12)?;
    let wants_v6 = match query.get(end..end + 2)? {
        [0, 1] => false,
        [0, 28] => true,
        _ => return Some(head(query, end, 0x8180, &[])),
    };
    let Some(entry) = zone.get(&name) else { return Some(head(query, end, 0x8183, &[])) };
    if entry.is_cut {
        return Some(head(query, end, 0x8380, &[]));
    }
    let mut records = Vec::new();
    // A pointer to the question's name.
    let mut owner = vec![0xc0, 12];
    let mut found = entry;
    if let Some(other) = &entry.alias_of {
        let target = spelt(other);
        records.push(record(&owner, 5, entry.ttl, &target));
        owner = target;
        found = zone.get(other)?;
    }
    for address in found.addresses.iter().filter(|address| address.is_ipv6() == wants_v6) {
        records.push(match address {
            IpAddr::V4(v4) => record(&owner, 1, found.ttl, &v4.octets()),
            IpAddr::V6(v6) => record(&owner, 28, found.ttl, &v6.octets()),
        });
    }
    Some(head(query, end, 0x8180, &records))
}

fn head(query: &[u8], end: usize, flags: u16, records: &[Vec<u8>]) -> Vec<u8> {
    let mut reply = query.get(..2).unwrap_or_default().to_vec();
    reply.extend(flags.to_be_bytes());
    let count = u16::try_from(records.len()).unwrap_or(0);
    for number in [1, count, 0, 0] {
        reply.extend(number.to_be_bytes());
    }
    reply.extend(query.get(12..end + 4).unwrap_or_default());
    reply.extend(records.concat());
    reply
}

fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap_or(0);
    [owner, &kind.to_be_bytes(), &1_u16.to_be_bytes(), &ttl.to_be_bytes(), &length.to_be_bytes(), data].concat()
}

fn spelt(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap_or(0));
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// The name that begins at `at`, in lower case, and where it ends.
fn name_at(query: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_lowercase());
        at += length;
    }
}
