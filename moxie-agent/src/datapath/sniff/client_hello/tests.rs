//! Hellos of real stacks, hellos cut and re-framed at random, and hellos that lie.

use std::sync::Arc;

use proptest::prelude::*;
use rustls::pki_types::ServerName;

use super::*;

fn rustls_hello(name: &str, alpn: &[&str], sni: bool) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config.enable_sni = sni;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

fn fixture(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn done(name: Option<&str>, alpn: &[&str]) -> Progress<ClientHello> {
    let alpn = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Progress::Done(ClientHello { server_name: name.map(str::to_owned), alpn })
}

/// Every hello that this page knows, with what it says.
fn known() -> Vec<(Vec<u8>, Progress<ClientHello>)> {
    let name = Some("api.customer.io");
    vec![
        (fixture(include_str!("../fixtures/client_hello_curl.hex")), done(name, &["h2", "http/1.1"])),
        (fixture(include_str!("../fixtures/client_hello_openssl.hex")), done(None, &[])),
        (fixture(include_str!("../fixtures/client_hello_python.hex")), done(name, &[])),
        (fixture(include_str!("../fixtures/client_hello_node.hex")), done(name, &["h2", "http/1.1"])),
        (fixture(include_str!("../fixtures/client_hello_java.hex")), done(name, &[])),
        (fixture(include_str!("../fixtures/client_hello_go.hex")), done(Some("api.example.com"), &["h2", "http/1.1"])),
        (fixture(include_str!("../fixtures/client_hello_tls12.hex")), done(Some("api.example.com"), &[])),
        (fixture(include_str!("../fixtures/client_hello_ruby.hex")), done(Some("api.example.com"), &[])),
        // Chromium 156 and Firefox 153 ESR of Debian 12, headless, asked for https://api.customer.io/ in a network namespace that has
        // loopback only, where a listener kept the first record. More than a segment, for the post-quantum key share; GREASE, also of
        // an encrypted inner hello; Chromium's order is another each time, here with the name behind everything large.
        (fixture(include_str!("../fixtures/client_hello_chromium.hex")), done(name, &["h2", "http/1.1"])),
        (fixture(include_str!("../fixtures/client_hello_firefox.hex")), done(name, &["h2", "http/1.1"])),
        (browser_hello(), done(name, &["h2", "http/1.1"])),
        (rustls_hello("api.customer.io", &["h2"], true), done(name, &["h2"])),
        (rustls_hello("api.customer.io", &[], false), done(None, &[])),
        (rustls_hello("192.0.2.1", &["http/1.1"], true), done(None, &["http/1.1"])),
    ]
}

fn payload(records: &[u8]) -> Vec<u8> {
    unframe(records).0
}

/// `message` in records that end at each of `cuts`.
fn framed(message: &[u8], cuts: &[usize]) -> Vec<u8> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % message.len()).chain([0, message.len()]).collect();
    ends.sort_unstable();
    ends.dedup();
    let mut bytes = Vec::new();
    for pair in ends.windows(2) {
        let fragment = &message[pair[0]..pair[1]];
        bytes.extend([HANDSHAKE, 3, 1]);
        bytes.extend(u16::try_from(fragment.len()).unwrap().to_be_bytes());
        bytes.extend(fragment);
    }
    bytes
}

fn prefixed(width: usize, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    [&length[length.len() - width..], content].concat()
}

/// A hello with exactly these extensions, in one record.
fn with_extensions(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    framed(&with_message(extensions), &[])
}

/// The same without a record around it.
fn with_message(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let block: Vec<u8> =
        extensions.iter().flat_map(|(kind, content)| [&kind.to_be_bytes(), &*prefixed(2, content)].concat()).collect();
    let body = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0], &prefixed(2, &block)].concat();
    [&[CLIENT_HELLO], &*prefixed(3, &body)].concat()
}

fn server_names(names: &[&[u8]]) -> (u16, Vec<u8>) {
    let list: Vec<u8> = names.iter().flat_map(|name| [&[0], &*prefixed(2, name)].concat()).collect();
    (0, prefixed(2, &list))
}

/// The shape of a browser's: GREASE first and last, an encrypted inner hello, a post-quantum key share, the name behind it all.
fn browser_hello() -> Vec<u8> {
    let grease = |kind: u16| (kind, vec![]);
    let alpn = [prefixed(1, b"h2"), prefixed(1, b"http/1.1")].concat();
    let x25519_mlkem768 = [&[0x11, 0xec][..], &prefixed(2, &[5; 1216])].concat();
    with_extensions(&[
        grease(0x4a4a),
        (43, prefixed(1, &[0x7a, 0x7a, 3, 4, 3, 3])),
        (0xfe0d, vec![9; 282]),
        (51, prefixed(2, &x25519_mlkem768)),
        (16, prefixed(2, &alpn)),
        (21, vec![0; 200]),
        server_names(&[b"api.customer.io"]),
        grease(0xbaba),
    ])
}

#[test]
fn a_hello_in_two_records_is_read_wherever_it_is_cut() {
    for (bytes, expected) in known() {
        let message = payload(&bytes);
        for cut in 1..message.len() {
            assert_eq!(parse(&framed(&message, &[cut])), expected, "cut at {cut}");
        }
    }
}

#[test]
fn a_hello_padded_beyond_one_record_is_read() {
    let (name, padding) = (server_names(&[b"a.example"]), (21, vec![0; 20_000]));
    let message = with_message(&[padding, name]);
    for records in 2..=5 {
        let cuts: Vec<usize> = (1..records).map(|record| record * message.len() / records).collect();
        let bytes = framed(&message, &cuts);
        assert_eq!(parse(&bytes), done(Some("a.example"), &[]), "{records} records");
        assert_eq!(parse(&bytes[..bytes.len() - 1]), Progress::Partial);
    }
}

#[test]
fn hellos_of_real_stacks_are_read() {
    for (bytes, expected) in known() {
        assert_eq!(parse(&bytes), expected);
    }
}

#[test]
fn every_prefix_is_partial_and_what_follows_changes_nothing() {
    for (bytes, expected) in known() {
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Progress::Partial, "{end} of {}", bytes.len());
        }
        assert_eq!(parse(&[&*bytes, b"\x14\x03\x03 anything"].concat()), expected);
    }
}

#[test]
fn every_prefix_of_a_hello_in_small_records_is_partial() {
    for (bytes, expected) in known() {
        let message = payload(&bytes);
        let small = framed(&message, &(0..message.len()).collect::<Vec<_>>());
        assert_eq!(parse(&small), expected);
        // Records are of 6 bytes, so the cuts go through all their places; of long hellos every cut would take a minute.
        for end in (0..small.len()).step_by(if message.len() > 600 { 7 } else { 1 }) {
            assert_eq!(parse(&small[..end]), Progress::Partial);
        }
    }
}

#[test]
fn names_are_normalised_or_none() {
    let check = |names: &[&[u8]], expected: Option<&str>| {
        assert_eq!(parse(&with_extensions(&[server_names(names)])), done(expected, &[]), "{names:?}");
    };
    let long = [&[b'a'; 63][..], b".", &[b'b'; 63], b".", &[b'c'; 63], b"."].concat();
    let longest = [&long[..], &[b'd'; 61]].concat();
    check(&[b"API.Customer.IO"], Some("api.customer.io"));
    check(&[b"api.customer.io."], Some("api.customer.io"));
    check(&[b"api.customer.io.."], None);
    check(&[&longest], Some(std::str::from_utf8(&longest).unwrap()));
    check(&[&[&longest[..], b"d"].concat()], None);
    check(&[&[b'a'; 255]], None);
    check(&[b"192.0.2.1"], None);
    check(&[b"::1"], None);
    check(&[b"api.customer.io\0.example"], None);
    check(&[b"*.customer.io"], None);
    check(&[b"\xff\xfe"], None);
    check(&[b""], None);
    check(&[b"."], None);
    check(&[b"a.example", b"b.example"], None);
    check(&[b"xn--bcher-kva.example"], Some("xn--bcher-kva.example"));
    check(&[b"my_service.example"], Some("my_service.example"));
}

#[test]
fn odd_extensions_do_not_stop_the_reading() {
    let name = server_names(&[b"a.example"]);
    let h2 = (16, prefixed(2, &prefixed(1, b"h2")));
    let grease = (0x0a0a, vec![]);
    let ech = (0xfe0d, vec![0; 300]);
    let broken = (16, vec![0, 9, 2]);
    let check = |extensions: &[(u16, Vec<u8>)], expected| assert_eq!(parse(&with_extensions(extensions)), expected);
    check(&[], done(None, &[]));
    check(
        &[grease.clone(), name.clone(), grease.clone(), h2.clone(), (21, vec![0; 12_000])],
        done(Some("a.example"), &["h2"]),
    );
    check(&[ech, h2.clone(), name.clone()], done(Some("a.example"), &["h2"]));
    check(&[name.clone(), name.clone()], done(None, &[]));
    check(&[(0, vec![0, 9, 0])], done(None, &[]));
    check(&[name.clone(), broken], done(Some("a.example"), &[]));
    check(&[name, h2.clone(), h2], done(Some("a.example"), &["h2"]));
}

#[test]
fn a_hello_without_an_extension_block_is_a_hello() {
    let body = [&[3, 1][..], &[7; 32], &[0], &[0, 2, 0, 47], &[1, 0]].concat();
    assert_eq!(parse(&framed(&[&[CLIENT_HELLO], &*prefixed(3, &body)].concat(), &[])), done(None, &[]));
}

#[test]
fn what_cannot_become_a_hello_is_refused_at_once() {
    let check = |bytes: &[u8]| assert_eq!(parse(bytes), Progress::Other, "{bytes:02x?}");
    check(b"G");
    check(b"SSH-2.0-OpenSSH_9.2\r\n");
    check(&[0x80, 0x2e, 1, 0, 2]); // SSLv2
    check(&[22, 2]);
    check(&[22, 3, 1, 0x42]); // record of more than 2^14 + 256
    check(&[22, 3, 1, 0, 0]); // record of zero length
    check(&[22, 3, 1, 0, 5, 2]); // ServerHello
    check(&[22, 3, 1, 0, 5, 1, 2]); // hello of more than 64 KiB
    check(&[22, 3, 1, 0, 5, 1, 0, 0, 40, 2]); // version 2.x
    check(&[22, 3, 1, 0, 1, 1, 21]); // an alert between the records of the hello
    let session_of_33 = [&[22, 3, 1, 1, 0, 1, 0, 0, 200, 3, 3][..], &[7; 32], &[33]].concat();
    check(&session_of_33);
    let cut_suites = [&[22, 3, 1, 1, 0, 1, 0, 0, 200, 3, 3][..], &[7; 32], &[0, 0, 3]].concat();
    check(&cut_suites);
}

proptest! {
    #[test]
    fn the_cut_into_records_does_not_matter(which in 0_usize..12, cuts in prop::collection::vec(any::<usize>(), 0..12)) {
        let (bytes, expected) = known().swap_remove(which);
        prop_assert_eq!(parse(&framed(&payload(&bytes), &cuts)), expected);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = parse(&bytes);
        let _ = parse(&[&[22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3][..], &bytes].concat());
    }

    #[test]
    fn a_changed_byte_never_panics_and_the_verdict_stays(which in 0_usize..12, at in any::<usize>(), byte in any::<u8>()) {
        let (mut bytes, _) = known().swap_remove(which);
        let at = at % bytes.len();
        bytes[at] = byte;
        // Once refused, no longer input is accepted: `Other` and `Done` are final.
        let mut last = Progress::Partial;
        for end in 0..=bytes.len() {
            let now = parse(&bytes[..end]);
            prop_assert!(last == Progress::Partial || now == last);
            last = now;
        }
    }
}
