//! Bytes from the network.

use std::fmt::Debug;

use http::HeaderValue;
use moxie_agent::datapath::sniff::{self, Progress};
use moxie_agent::divert::proxy::head;
use moxie_agent::http1::{
    Asked, Awaited, Body, Doubt, Edit, Framing, Read, RequestHead, ResponseHead, StatusLine, Version,
};

use super::bytes::{growing, piece};

/// A verdict is final and does not depend on segmentation.
fn is_final<T: PartialEq + Debug>(bytes: &[u8], step: usize, parse: impl Fn(&[u8]) -> Progress<T>) {
    let mut last = Progress::Partial;
    for part in growing(bytes, step) {
        let now = parse(part);
        assert!(last == Progress::Partial || now == last, "{last:?}, then {now:?}");
        last = now;
    }
}

pub(crate) fn client_hello(bytes: &[u8]) {
    let (step, bytes) = piece(bytes);
    is_final(bytes, step, sniff::client_hello::parse);
}

/// What a hello says does not depend on the records that it comes in.
pub(crate) fn tls_record_split(bytes: &[u8]) {
    let (step, hello) = piece(bytes);
    if hello.is_empty() || hello.len() > 1 << 14 {
        return;
    }
    let record = |part: &[u8]| {
        let length = u16::try_from(part.len()).expect("at most 2^14");
        [&[22, 3, 1], length.to_be_bytes().as_slice(), part].concat()
    };
    let whole = sniff::client_hello::parse(&record(hello));
    let split: Vec<u8> = hello.chunks(step).flat_map(record).collect();
    assert_eq!(sniff::client_hello::parse(&split), whole);
}

pub(crate) fn sniff_http1(bytes: &[u8]) {
    let (step, bytes) = piece(bytes);
    is_final(bytes, step, sniff::http1::parse);
}

pub(crate) fn sniff_http2(bytes: &[u8]) {
    let _ = sniff::http2::parse(bytes);
    let _ = sniff::http2::parse(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes].concat());
}

pub(crate) fn proxy_head(bytes: &[u8]) {
    if let Ok(Some(head)) = head::parse(bytes) {
        assert!(!head.host.is_empty() && head.port > 0 && head.length <= bytes.len());
    }
}

/// Everything that a request's head says.
fn request(head: &RequestHead, bytes: &[u8]) -> String {
    let fields: Vec<_> = head.fields(bytes).collect();
    format!(
        "{} {:?} {:?} {:?} {:?} {:?} {:?} {} {} {} {} {fields:?}",
        head.method(bytes),
        head.target(bytes),
        head.path(bytes),
        head.query(bytes),
        head.authority(bytes),
        head.version(),
        head.framing(),
        head.persists(),
        head.expects_continue(),
        head.switches(),
        head.len(),
    )
}

fn read(bytes: &[u8], step: usize) -> Result<Option<String>, Doubt> {
    let mut head = RequestHead::default();
    for part in growing(bytes, step) {
        if head.read(part)? == Read::Done {
            return Ok(Some(request(&head, part)));
        }
    }
    Ok(None)
}

/// Segmentation changes nothing; a head that was read used as many bytes as it says.
pub(crate) fn h1_head(bytes: &[u8]) {
    let (step, bytes) = piece(bytes);
    let whole = read(bytes, bytes.len().max(1));
    assert_eq!(read(bytes, step), whole);
    let mut head = RequestHead::default();
    if head.read(bytes) == Ok(Read::Done) {
        assert!(head.len() <= bytes.len() && bytes[..head.len()].ends_with(b"\r\n\r\n"));
        assert_ne!(head.framing(), Framing::UntilClose);
    }
}

pub(crate) fn h1_response(bytes: &[u8]) {
    let (step, bytes) = piece(bytes);
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let awaited = Awaited {
        method: [Asked::Other, Asked::Head, Asked::Connect][usize::from(kind % 3)],
        version: if kind & 64 == 0 { Version::Http11 } else { Version::Http10 },
    };
    let read = |step: usize| {
        let mut head = ResponseHead::default();
        for part in growing(bytes, step) {
            if head.read(part, &awaited)? == Read::Done {
                let fields: Vec<_> = head.fields(part).map(|field| format!("{field:?}")).collect();
                return Ok::<_, Doubt>(Some((
                    head.status(),
                    head.framing(),
                    head.persists(),
                    head.switches(),
                    head.len(),
                    fields,
                )));
            }
        }
        Ok(None)
    };
    assert_eq!(read(step), read(bytes.len().max(1)));
}

/// What a body takes does not depend on segmentation, and its data is what it said.
pub(crate) fn h1_body_framing(bytes: &[u8]) {
    let (step, bytes) = piece(bytes);
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let framing = match kind % 4 {
        0 => Framing::Length(u64::from(*kind)),
        1 => Framing::UntilClose,
        _ => Framing::Chunked,
    };
    let take = |step: usize| {
        let (mut body, mut data, mut len) = (Body::new(framing), Vec::new(), 0);
        for part in bytes.chunks(step) {
            let before = data.len();
            let taken = body.take_data(part, |piece| data.extend_from_slice(piece))?;
            assert!(taken.len <= part.len() && taken.data == data.len() - before);
            len += taken.len;
            if taken.ended {
                return Ok::<_, Doubt>((data, len, true));
            }
            assert_eq!(taken.len, part.len());
        }
        Ok((data, len, false))
    };
    assert_eq!(take(step), take(bytes.len().max(1)));
}

/// A head with an edit reads as the same head but for what was edited; without one it is the same bytes.
pub(crate) fn h1_edit(bytes: &[u8]) {
    let mut head = RequestHead::default();
    if head.read(bytes) == Ok(Read::Done) {
        let mut out = Vec::new();
        head.edited(bytes, &[], &mut out);
        assert_eq!(out, bytes[..head.len()]);
        let values = [HeaderValue::from_static("1"), HeaderValue::from_static("2")];
        let edits = [Edit::Set { name: "X-Moxie-Set", values: &values }, Edit::Remove { name: "accept" }];
        out.clear();
        head.edited(bytes, &edits, &mut out);
        let mut again = RequestHead::default();
        assert_eq!(again.read(&out), Ok(Read::Done));
        assert_eq!(again.len(), out.len());
        assert_eq!((again.framing(), again.authority(&out)), (head.framing(), head.authority(bytes)));
        let edited = ["x-moxie-set", "accept"];
        let other = |name: &str| !edited.iter().any(|edited| name.eq_ignore_ascii_case(edited));
        let kept = |head: &RequestHead, bytes: &[u8]| -> Vec<String> {
            head.fields(bytes)
                .filter(|field| other(field.name))
                .map(|field| format!("{} {:?}", field.name, field.value))
                .collect()
        };
        assert_eq!(kept(&again, &out), kept(&head, bytes));
    }
    let awaited = Awaited { method: Asked::Other, version: Version::Http11 };
    let mut head = ResponseHead::default();
    if head.read(bytes, &awaited) == Ok(Read::Done) {
        // Another status would end elsewhere.
        let status = head.status();
        let mut out = Vec::new();
        head.edited(bytes, None, &[], &mut out);
        assert_eq!(out, bytes[..head.len()]);
        out.clear();
        head.edited(bytes, Some(StatusLine { status, reason: "Busy" }), &[Edit::Remove { name: "x" }], &mut out);
        let mut again = ResponseHead::default();
        assert_eq!(again.read(&out, &awaited), Ok(Read::Done));
        assert_eq!((again.status(), again.len()), (status, out.len()));
    }
}

/// Where httparse reads a head too, it reads the same.
pub(crate) fn h1_differential(bytes: &[u8]) {
    let mut ours = RequestHead::default();
    let mut fields = [httparse::EMPTY_HEADER; 256];
    let mut theirs = httparse::Request::new(&mut fields);
    let (Ok(Read::Done), Ok(read)) = (ours.read(bytes), theirs.parse(bytes)) else { return };
    assert_eq!(read, httparse::Status::Complete(ours.len()));
    assert_eq!(Some(ours.method(bytes)), theirs.method);
    assert_eq!(ours.target(bytes), theirs.path.unwrap_or_default().as_bytes());
    assert_eq!(ours.version() == Version::Http11, theirs.version == Some(1));
    let ours: Vec<_> = ours.fields(bytes).map(|field| (field.name, field.value)).collect();
    let theirs: Vec<_> = theirs.headers.iter().map(|field| (field.name, field.value)).collect();
    assert_eq!(ours, theirs);
}
