//! SETTINGS (RFC 9113 section 6.5): passed on, with two values cut to what the relay itself can hold.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::hpack::MAX_CAPACITY;
use super::side::MAX_PAYLOAD;

/// Octets of one value with its name.
pub(super) const EACH: usize = 6;
/// Most different settings that are kept of a client; those beyond are passed on but not said again.
const MAX_KEPT: usize = 64;
const HEADER_TABLE_SIZE: u16 = 1;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const DEFAULT_WINDOW: i64 = 65_535;
const DEFAULT_TABLE: usize = 4096;

/// What the two sides have set.
#[derive(Debug)]
pub(super) struct Settings {
    /// The client's, as they are now.
    client: Vec<(u16, u32)>,
    /// What a stream's window toward the client is at first.
    pub(super) client_window: i64,
    /// How large a table the client keeps for header compression.
    pub(super) client_table: usize,
    /// What a stream's window toward the destination is at first, as far as the client knows.
    pub(super) origin_window: i64,
    /// How large a table the destination keeps.
    pub(super) origin_table: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            client: Vec::new(),
            client_window: DEFAULT_WINDOW,
            client_table: DEFAULT_TABLE,
            origin_window: DEFAULT_WINDOW,
            origin_table: DEFAULT_TABLE,
        }
    }
}

impl Settings {
    /// Notes what the client sets.
    pub(super) fn client_sets(&mut self, payload: &Bytes) {
        for (name, value) in values(payload) {
            if name == INITIAL_WINDOW_SIZE {
                self.client_window = i64::from(value);
            }
            if name == HEADER_TABLE_SIZE {
                self.client_table = usize::try_from(value).unwrap_or(usize::MAX);
            }
            if let Some(known) = self.client.iter_mut().find(|(known, _)| *known == name) {
                known.1 = value;
            } else if self.client.len() < MAX_KEPT {
                self.client.push((name, value));
            }
        }
    }

    /// Notes what the destination sets.
    pub(super) fn origin_sets(&mut self, payload: &Bytes) {
        for (name, value) in values(payload) {
            if name == INITIAL_WINDOW_SIZE {
                self.origin_window = i64::from(value);
            }
            if name == HEADER_TABLE_SIZE {
                self.origin_table = usize::try_from(value).unwrap_or(usize::MAX);
            }
        }
    }

    /// Everything that the client has set, to be passed on.
    pub(super) fn of_client(&self) -> Bytes {
        let mut payload = BytesMut::new();
        for (name, value) in &self.client {
            put(&mut payload, *name, *value);
        }
        payload.freeze()
    }
}

/// A payload to be passed on.
pub(super) fn passed_on(payload: &Bytes) -> Bytes {
    let mut cut = BytesMut::with_capacity(payload.len());
    for (name, value) in values(payload) {
        put(&mut cut, name, value);
    }
    cut.freeze()
}

fn put(payload: &mut BytesMut, name: u16, value: u32) {
    let most = |most: usize| u32::try_from(most).unwrap_or(u32::MAX);
    payload.put_u16(name);
    payload.put_u32(match name {
        HEADER_TABLE_SIZE => value.min(most(MAX_CAPACITY)),
        // One that may not be is the other side's to judge.
        MAX_FRAME_SIZE if value < 1 << 24 => value.min(most(MAX_PAYLOAD)),
        _ => value,
    });
}

fn values(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> {
    payload.chunks_exact(EACH).filter_map(|each| {
        let (name, value) = each.split_at_checked(2)?;
        Some((u16::from_be_bytes(name.try_into().ok()?), u32::from_be_bytes(value.try_into().ok()?)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(of: &[(u16, u32)]) -> Bytes {
        let mut payload = BytesMut::new();
        for (name, value) in of {
            payload.put_u16(*name);
            payload.put_u32(*value);
        }
        payload.freeze()
    }

    #[test]
    fn settings_pass_but_for_what_the_relay_could_not_hold() {
        let set = [(1, 1 << 20), (2, 0), (3, 7), (4, 1 << 20), (5, (1 << 24) - 1), (8, 1), (0xabcd, 5)];
        let cut = [(1, 65_536), (2, 0), (3, 7), (4, 1 << 20), (5, 1 << 20), (8, 1), (0xabcd, 5)];
        assert_eq!(passed_on(&payload(&set)), payload(&cut));
        let small = [(1, 0), (5, 16_384), (5, 1 << 24)];
        assert_eq!(passed_on(&payload(&small)), payload(&small));
    }

    #[test]
    fn what_the_client_has_set_last_holds() {
        let mut settings = Settings::default();
        settings.client_sets(&payload(&[(4, 10), (3, 1)]));
        settings.client_sets(&payload(&[(4, 20)]));
        assert_eq!(settings.of_client(), payload(&[(4, 20), (3, 1)]));
        assert_eq!(settings.client_window, 20);
    }
}
