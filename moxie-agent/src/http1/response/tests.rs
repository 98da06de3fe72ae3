//! Heads of answers: what is read off them, and what is doubted.

use proptest::prelude::*;

use super::*;

const GET: Awaited = Awaited { method: Asked::Other, version: Version::Http11 };
const HEAD: Awaited = Awaited { method: Asked::Head, version: Version::Http11 };
const CONNECT: Awaited = Awaited { method: Asked::Connect, version: Version::Http11 };
const OLD: Awaited = Awaited { method: Asked::Other, version: Version::Http10 };

fn read(bytes: &[u8], awaited: &Awaited) -> Result<Option<ResponseHead>, Doubt> {
    let mut head = ResponseHead::default();
    Ok((head.read(bytes, awaited)? == Read::Done).then_some(head))
}

fn framing(bytes: &[u8], awaited: &Awaited) -> Result<Option<Framing>, Doubt> {
    Ok(read(bytes, awaited)?.map(|head| head.framing()))
}

#[test]
fn answers_end_as_their_client_takes_it() {
    let check = |awaited: &Awaited, answer: &str, expected: Framing| {
        assert_eq!(framing(answer.as_bytes(), awaited), Ok(Some(expected)), "{answer:?}");
        for end in 0..answer.len() {
            assert_eq!(framing(&answer.as_bytes()[..end], awaited), Ok(None), "{:?}", &answer[..end]);
        }
    };
    check(&GET, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Framing::Length(5));
    check(&GET, "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n", Framing::Chunked);
    check(&GET, "HTTP/1.0 200 \r\n\r\n", Framing::UntilClose);
    check(&GET, "HTTP/1.1 200 \u{e4}\r\nContent-Length: 0\r\n\r\n", Framing::Length(0));
    check(&HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Framing::None);
    check(&HEAD, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Framing::None);
    check(&GET, "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", Framing::None);
    check(&GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Framing::None);
    check(&GET, "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n", Framing::None);
    check(&GET, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", Framing::None);
    check(&CONNECT, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Framing::None);
    check(&CONNECT, "HTTP/1.1 407 No\r\nContent-Length: 5\r\n\r\n", Framing::Length(5));
    check(&GET, "HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n", Framing::Length(0));
    check(&GET, "HTTP/1.1 999 Odd\nContent-Length: 5\n\n", Framing::Length(5));
}

#[test]
fn what_ends_nothing_is_let_through() {
    let check = |lines: &str, expected: Result<Framing, Doubt>| {
        let answer = format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n");
        assert_eq!(framing(answer.as_bytes(), &GET), expected.map(Some), "{lines:?}");
    };
    let whole = Ok(Framing::Length(5));
    for line in ["X: a\r\n b\r\n\tc", ": x", "\"X\": y", "X: \u{7f}", "X: y\n b"] {
        check(&format!("{line}\r\nContent-Length: 5"), whole);
        check(&format!("Content-Length: 5\r\n{line}"), whole);
    }
    // Some clients see no header behind these.
    for (line, doubt) in [
        ("no colon", Doubt::NoColon),
        ("Name : x", Doubt::OddName),
        ("X\u{1}: y", Doubt::OddName),
        ("N\u{e4}me: x", Doubt::OddName),
    ] {
        check(&format!("Content-Length: 5\r\n{line}\r\nX: y"), whole);
        check(line, Ok(Framing::UntilClose));
        check(&format!("{line}\r\nX: y\r\nContent-Length: 5"), Err(doubt));
        check(&format!("{line}\r\nConnection: close"), Err(doubt));
    }
}

#[test]
fn what_leaves_an_end_open_is_doubted() {
    let check = |awaited: &Awaited, answer: &str, doubt: Doubt| {
        assert_eq!(framing(answer.as_bytes(), awaited), Err(doubt), "{answer:?}");
    };
    for answer in [
        "SSH-2",
        "HTTP/2",
        "ICY 200 OK",
        "\r\n",
        "HTTP/1.2 200 OK\r\n",
        "HTTP/1.1  200 OK\r\n",
        "HTTP/1.1 20\r\n",
        "HTTP/1.1 099 x\r\n",
        "HTTP/1.1 2000\r\n",
        "HTTP/1.1 200OK\r\n",
    ] {
        check(&GET, answer, Doubt::OddStatusLine);
    }
    let with = |lines: &str| format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n");
    check(&GET, &with("Content-Length: 5\r\nTransfer-Encoding: chunked"), Doubt::LengthAndCoding);
    check(&GET, &with("Content-Length: 5, 5"), Doubt::OddLength);
    check(&GET, &with("Content-Length: 5\r\nContent-Length: 6"), Doubt::LengthsDiffer);
    check(&GET, &with("Content-Length : 5"), Doubt::OddName);
    check(&GET, &with("Content-Length\u{b}: 5"), Doubt::OddName);
    check(&GET, &with("Content-Length: 5\r\n 6"), Doubt::Folded);
    check(&GET, &with("Transfer-Encoding:\r\n chunked"), Doubt::Folded);
    check(&GET, &with("Transfer-Encoding: gzip"), Doubt::OddCoding);
    check(&GET, &with("Transfer-Encoding: gzip, chunked"), Doubt::OddCoding);
    check(&GET, &with("Transfer-Encoding: chunked\t"), Doubt::OddCoding);
    check(&GET, &with("Transfer-Encoding: chunked "), Doubt::OddCoding);
    check(&GET, "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n", Doubt::CodingWithoutBody);
    check(&GET, "HTTP/1.1 304 No\r\nTransfer-Encoding: chunked\r\n\r\n", Doubt::CodingWithoutBody);
    check(&GET, &with("X: a\rContent-Length: 5"), Doubt::BareCarriageReturn);
    check(&GET, &with("X: \0"), Doubt::Nul);
    check(&GET, &with(" folded: first"), Doubt::Folded);
    check(&GET, &with("Connection: clo\u{e4}se"), Doubt::OddConnection);
    check(&GET, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Doubt::CodingInHttp10);
    check(&OLD, &with("Transfer-Encoding: chunked"), Doubt::CodingInHttp10);
}

#[test]
fn who_closes_is_known() {
    let check = |awaited: &Awaited, answer: &str, persists: bool, interim: bool, switches: bool| {
        let head = read(answer.as_bytes(), awaited).unwrap().unwrap();
        assert_eq!((head.persists(), head.interim(), head.switches()), (persists, interim, switches), "{answer:?}");
    };
    check(&GET, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true, false, false);
    check(&GET, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", false, false, false);
    check(&GET, "HTTP/1.1 200 OK\r\n\r\n", false, false, false);
    check(&GET, "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false, false, false);
    check(&OLD, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, false, false);
    check(&OLD, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", true, false, false);
    check(&GET, "HTTP/1.1 100 Continue\r\n\r\n", true, true, false);
    check(&GET, "HTTP/1.1 101 Switching\r\n\r\n", false, false, true);
    check(&CONNECT, "HTTP/1.1 200 Established\r\n\r\n", false, false, true);
}

#[test]
fn a_folded_field_is_one_field() {
    let bytes = b"HTTP/1.1 200 OK\r\nX:  a\r\n\t b \r\nodd\r\nName : v\r\n\r\n";
    let head = read(bytes, &GET).unwrap().unwrap();
    let fields: Vec<_> = head.fields(bytes).map(|field| (field.name, field.value)).collect();
    assert_eq!(fields, [("X", b"a\r\n\t b".as_slice()), ("Name", b"v")]);
    assert_eq!(head.len(), bytes.len());
}

#[test]
fn the_request_says_how_its_answer_is_read() {
    let check = |request: &[u8], method: Asked, version: Version| {
        let mut head = RequestHead::default();
        assert_eq!(head.read(request), Ok(Read::Done));
        assert_eq!(Awaited::by(&head, request), Awaited { method, version });
    };
    check(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", Asked::Head, Version::Http11);
    check(b"head / HTTP/1.1\r\nHost: a\r\n\r\n", Asked::Other, Version::Http11);
    check(b"CONNECT a:1 HTTP/1.0\r\n\r\n", Asked::Connect, Version::Http10);
}

proptest! {
    #[test]
    fn reading_does_not_depend_on_segmentation(begin in "(HTTP/1\\.1 200 OK\r\n)?", rest in crate::http1::request::tests::LIKE_A_HEAD, steps in prop::collection::vec(1_usize..9, 1..9)) {
        let bytes = [begin.as_bytes(), rest.as_bytes()].concat();
        let mut in_pieces = ResponseHead::default();
        let mut end = 0;
        let mut found = Ok(Read::Partial);
        for step in steps.iter().cycle() {
            found = in_pieces.read(&bytes[..end], &GET);
            if found != Ok(Read::Partial) || end == bytes.len() {
                break;
            }
            end = bytes.len().min(end + step);
        }
        let whole = framing(&bytes, &GET);
        prop_assert_eq!(found.map(|read| (read == Read::Done).then_some(in_pieces.framing())), whole);
    }
}
