//! What a DNS answer tells: which names are at which addresses. Input from the network: nothing of it is believed further than that.

use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::rdata::svcb::{SVCB, SvcParamValue};
use hickory_proto::rr::{Name, RData, Record};

/// Most names that an answer may tell of together; a chain of aliases has a handful.
const MOST_NAMES: usize = 16;
/// Most addresses of one answer.
const MOST_ADDRESSES: usize = 64;

/// What an answer tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The name that was asked for, and every other that stands for it or that it stands for: in lower case, without a closing dot.
    pub names: Vec<String>,
    /// Where they are, and for how long that is so.
    pub addresses: Vec<(IpAddr, Duration)>,
}

/// What can be made of a message from port 53.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It is an answer, and all there.
    Whole(Told),
    /// It is about this name, and where that is it does not tell, or not all of it.
    Partly(String),
    /// It is no answer: nothing follows from it.
    NoAnswer,
    /// It does not read.
    Garbled,
}

/// Reads a message; `is_cut` if the end of it is missing.
#[must_use]
pub fn read(bytes: &[u8], is_cut: bool) -> Reading {
    let Ok(message) = Message::from_vec(bytes) else { return partly(bytes) };
    if message.metadata.message_type != MessageType::Response {
        return Reading::NoAnswer;
    }
    let [question] = message.queries.as_slice() else { return Reading::Garbled };
    let asked = spelt(question.name());
    if is_cut || message.metadata.truncation {
        return Reading::Partly(asked);
    }
    let mut told = Told { names: vec![asked.clone()], addresses: Vec::new() };
    for record in message.answers.iter().chain(&message.additionals) {
        told.note(record);
    }
    if told.names.len() > MOST_NAMES || told.addresses.len() > MOST_ADDRESSES {
        return Reading::Partly(asked);
    }
    Reading::Whole(told)
}

/// A message that does not read to its end: at least what it is about.
fn partly(bytes: &[u8]) -> Reading {
    match question(bytes) {
        Some(name) => Reading::Partly(name),
        None => Reading::Garbled,
    }
}

/// The name in the question of a message, where its labels stand one after the other (RFC 1035 section 4.1.2).
fn question(bytes: &[u8]) -> Option<String> {
    let mut rest = bytes.get(moxie_common::hints::QUESTION_AT..)?;
    let mut name = String::new();
    loop {
        let (length, after) = rest.split_first()?;
        match usize::from(*length) {
            0 => return Some(name),
            length if length >= 0xc0 || name.len() > moxie_common::hints::LONGEST_NAME => return None,
            length => {
                let label = String::from_utf8_lossy(after.get(..length)?).to_lowercase();
                if !name.is_empty() {
                    name.push('.');
                }
                name.push_str(&label);
                rest = after.get(length..)?;
            }
        }
    }
}

impl Told {
    fn note(&mut self, record: &Record) {
        let lasts = Duration::from_secs(record.ttl.into());
        match &record.data {
            RData::A(address) => self.is_at(&record.name, address.0.into(), lasts),
            RData::AAAA(address) => self.is_at(&record.name, address.0.into(), lasts),
            RData::CNAME(target) => {
                self.name(&record.name);
                self.name(&target.0);
            }
            RData::HTTPS(service) => self.service(&record.name, &service.0, lasts),
            RData::SVCB(service) => self.service(&record.name, service, lasts),
            _ => {}
        }
    }

    /// RFC 9460: clients may connect to the addresses in a service's hints, or to its other name's.
    fn service(&mut self, name: &Name, service: &SVCB, lasts: Duration) {
        self.name(name);
        if !service.target_name.is_root() {
            self.name(&service.target_name);
        }
        for (_, value) in &service.svc_params {
            match value {
                SvcParamValue::Ipv4Hint(hint) => self.addresses.extend(hint.0.iter().map(|it| (it.0.into(), lasts))),
                SvcParamValue::Ipv6Hint(hint) => self.addresses.extend(hint.0.iter().map(|it| (it.0.into(), lasts))),
                _ => {}
            }
        }
    }

    fn is_at(&mut self, name: &Name, address: IpAddr, lasts: Duration) {
        self.name(name);
        self.addresses.push((address.to_canonical(), lasts));
    }

    fn name(&mut self, name: &Name) {
        let name = spelt(name);
        if !self.names.contains(&name) {
            self.names.push(name);
        }
    }
}

fn spelt(name: &Name) -> String {
    let labels: Vec<String> = name.iter().map(|label| String::from_utf8_lossy(label).to_lowercase()).collect();
    labels.join(".")
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{OpCode, Query};
    use hickory_proto::rr::RecordType;
    use hickory_proto::rr::rdata::{A, AAAA, CNAME};
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn answer(asked: &str, records: Vec<Record>) -> Message {
        let mut message = Message::new(7, MessageType::Response, OpCode::Query);
        message.queries.push(Query::query(name(asked), RecordType::A));
        message.answers.extend(records);
        message
    }

    fn address(owner: &str, ttl: u32, address: &str) -> Record {
        match address.parse().unwrap() {
            IpAddr::V4(v4) => Record::from_rdata(name(owner), ttl, RData::A(A(v4))),
            IpAddr::V6(v6) => Record::from_rdata(name(owner), ttl, RData::AAAA(AAAA(v6))),
        }
    }

    fn told(reading: Reading) -> Told {
        let Reading::Whole(told) = reading else { panic!("{reading:?}") };
        told
    }

    #[test]
    fn every_name_of_the_chain_and_every_address_is_told() {
        let records = vec![
            Record::from_rdata(name("Shop.Example."), 60, RData::CNAME(CNAME(name("cdn.example.")))),
            address("cdn.example.", 30, "198.51.100.7"),
            address("cdn.example.", 20, "2001:db8::7"),
            address("cdn.example.", 20, "::ffff:198.51.100.8"),
        ];
        let told = told(read(&answer("shop.example.", records).to_vec().unwrap(), false));
        assert_eq!(told.names, ["shop.example", "cdn.example"]);
        let seconds = Duration::from_secs;
        let expected = [("198.51.100.7", 30), ("2001:db8::7", 20), ("198.51.100.8", 20)];
        assert_eq!(told.addresses, expected.map(|(address, ttl)| (address.parse().unwrap(), seconds(ttl))));
    }

    #[test]
    fn what_is_missing_is_said() {
        let mut message = answer("shop.example.", vec![address("shop.example.", 30, "198.51.100.7")]);
        let bytes = message.to_vec().unwrap();
        assert_eq!(read(&bytes, true), Reading::Partly("shop.example".into()));
        for end in 12..bytes.len() {
            let cut = read(&bytes[..end], true);
            let expected = [Reading::Partly("shop.example".into()), Reading::Garbled];
            assert!(expected.contains(&cut), "{end}: {cut:?}");
        }
        message.metadata.truncation = true;
        assert_eq!(read(&message.to_vec().unwrap(), false), Reading::Partly("shop.example".into()));
        message.metadata.message_type = MessageType::Query;
        assert_eq!(read(&message.to_vec().unwrap(), false), Reading::NoAnswer);
        assert_eq!(read(b"", false), Reading::Garbled);
        assert_eq!(read(&[0xff; 40], false), Reading::Garbled);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_and_bounded(bytes in proptest::collection::vec(any::<u8>(), 0..600), is_cut: bool) {
            if let Reading::Whole(told) = read(&bytes, is_cut) {
                prop_assert!(told.names.len() <= MOST_NAMES && told.addresses.len() <= MOST_ADDRESSES);
            }
        }

        #[test]
        fn a_damaged_answer_is_read_and_bounded(at in 0_usize..90, byte: u8) {
            let records = vec![
                Record::from_rdata(name("shop.example."), 60, RData::CNAME(CNAME(name("cdn.example.")))),
                address("cdn.example.", 30, "198.51.100.7"),
            ];
            let mut bytes = answer("shop.example.", records).to_vec().unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Reading::Whole(told) = read(&bytes, false) {
                prop_assert!(told.names.len() <= MOST_NAMES && told.addresses.len() <= MOST_ADDRESSES);
            }
        }
    }
}
