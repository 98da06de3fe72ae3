//! Bodies by every framing, whole and in pieces of any size.

use proptest::prelude::*;

use super::*;

/// The body's data and wire length, none while it has not ended.
fn take(framing: Framing, bytes: &[u8], piece: usize) -> Result<Option<(Vec<u8>, usize)>, Doubt> {
    let mut body = Body::new(framing);
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let rest = &bytes[at..bytes.len().min(at + piece)];
        let before = data.len();
        let taken = body.take_data(rest, |part| data.extend_from_slice(part))?;
        assert_eq!(taken.data, data.len() - before);
        at += taken.len;
        if taken.ended {
            assert!(body.is_ended() && body.may_close());
            return Ok(Some((data, at)));
        }
        assert_eq!(taken.len, rest.len(), "a body that has not ended takes all");
        if at == bytes.len() {
            return Ok(None);
        }
    }
}

#[test]
fn bodies_end_where_their_framing_says() {
    let check = |framing: Framing, bytes: &str, data: &str, after: &str| {
        let wire = bytes.len() - after.len();
        for piece in [1, 2, 3, 7, usize::MAX / 2] {
            assert_eq!(
                take(framing, bytes.as_bytes(), piece),
                Ok(Some((data.as_bytes().to_vec(), wire))),
                "{bytes:?} by {piece}"
            );
        }
        for end in 0..wire {
            assert_eq!(take(framing, &bytes.as_bytes()[..end], usize::MAX / 2), Ok(None), "{:?}", &bytes[..end]);
        }
    };
    check(Framing::None, "GET /", "", "GET /");
    check(Framing::Length(0), "GET /", "", "GET /");
    check(Framing::Length(3), "abcGET /", "abc", "GET /");
    check(Framing::Chunked, "0\r\n\r\nGET /", "", "GET /");
    check(Framing::Chunked, "3\r\nabc\r\n0\r\n\r\nGET /", "abc", "GET /");
    check(Framing::Chunked, "03\r\nabc\r\nA;x=\"y;z\"\r\n0123456789\r\n000;e\r\n\r\n", "abc0123456789", "");
    check(Framing::Chunked, "3;\tx \u{e4}\r\n\r\n0\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n0", "\r\n0", "0");
    check(Framing::Chunked, "0\r\nContent-Lengthy: 5\r\nA-name-of-more-than-twenty-bytes: x\r\n\r\n", "", "");
}

#[test]
fn a_body_until_the_close_takes_all_and_never_ends() {
    let mut body = Body::new(Framing::UntilClose);
    assert_eq!(body.take(b"0\r\n\r\n"), Ok(Taken { len: 5, data: 5, ended: false }));
    assert!(!body.is_ended() && body.may_close());
}

#[test]
fn huge_lengths_are_counted() {
    for framing in [Framing::Length(i64::MAX as u64), Framing::Length(u64::MAX)] {
        let mut body = Body::new(framing);
        assert_eq!(body.take(b"abc"), Ok(Taken { len: 3, data: 3, ended: false }));
        assert!(!body.may_close());
    }
    assert_eq!(take(Framing::Chunked, b"7fffffffffffffff\r\nabc", 1), Ok(None));
}

#[test]
fn chunks_with_two_readings_are_doubted_and_stay_so() {
    let check = |bytes: &[u8], doubt: Doubt| {
        for piece in [1, 2, usize::MAX / 2] {
            assert_eq!(
                take(Framing::Chunked, bytes, piece),
                Err(doubt),
                "{:?} by {piece}",
                bytes.escape_ascii().to_string()
            );
        }
    };
    for bytes in [
        "\r\n",
        "\n",
        ";x\r\n",
        " 3\r\n",
        "3 \r\n",
        "3 ;x\r\n",
        "+3\r\n",
        "-3\r\n",
        "0x3\r\n",
        "3\t\r\n",
        "g\r\n",
        "3,\r\n",
        "00000000000000003\r\n",
        "3\0",
        "\u{e4}",
    ] {
        let expected = if bytes == "\n" { Doubt::BareLineFeed } else { Doubt::OddChunkSize };
        check(bytes.as_bytes(), expected);
    }
    check(b"8000000000000000\r\n", Doubt::ChunkTooLarge);
    check(b"ffffffffffffffff\r\n", Doubt::ChunkTooLarge);
    check(b"3\n", Doubt::BareLineFeed);
    check(b"3;x\n", Doubt::BareLineFeed);
    check(b"3\rabc", Doubt::BareCarriageReturn);
    check(b"3;\0\r\n", Doubt::Nul);
    check(b"3;\x01\r\n", Doubt::OddChunkExtension);
    check(b"3\r\nabcd\r\n", Doubt::OddChunkEnd);
    check(b"3\r\nabc\n", Doubt::OddChunkEnd);
    check(b"3\r\nabc\rx", Doubt::OddChunkEnd);
    check(b"3\r\nabc0\r\n\r\n", Doubt::OddChunkEnd);
    check(b"0\r\n\n", Doubt::BareLineFeed);
    check(b"0\r\n\rx", Doubt::BareCarriageReturn);
    check(b"0\r\nX: a\rb", Doubt::BareCarriageReturn);
    check(b"0\r\nX: a\n", Doubt::BareLineFeed);
    check(b"0\r\nX: \0", Doubt::Nul);
    check(b"0\r\n X: a", Doubt::Folded);
    check(b"0\r\nX: a\r\n\tb", Doubt::Folded);
    check(b"0\r\nX : a", Doubt::SpaceBeforeColon);
    check(b"0\r\n: a", Doubt::EmptyName);
    check(b"0\r\nGET / HTTP/1.1\r\n", Doubt::SpaceBeforeColon);
    check(b"0\r\nX\r\n", Doubt::NoColon);
    check(b"0\r\nX\x01: a", Doubt::OddName);
    for name in ["Content-Length", "TRANSFER-ENCODING", "host", "Connection", "Upgrade"] {
        check(format!("0\r\n{name}: 5\r\n\r\n").as_bytes(), Doubt::OddTrailer);
    }
    let mut body = Body::new(Framing::Chunked);
    assert_eq!(body.take(b"x"), Err(Doubt::OddChunkSize));
    assert_eq!(body.take(b"0\r\n\r\n"), Err(Doubt::OddChunkSize));
}

#[test]
fn chunk_lines_and_trailers_are_bounded() {
    let chunk_line = |len: usize| format!("0;{}\r\n", "x".repeat(len - 4));
    assert_eq!(take(Framing::Chunked, chunk_line(MAX_CHUNK_LINE).as_bytes(), 100), Ok(None));
    assert_eq!(take(Framing::Chunked, chunk_line(MAX_CHUNK_LINE + 1).as_bytes(), 100), Err(Doubt::ChunkLineTooLong));
    let trailers = |len: usize| format!("0\r\nX:{}\r\n\r\n", "x".repeat(len - 6));
    assert!(take(Framing::Chunked, trailers(MAX_TRAILERS).as_bytes(), 100).unwrap().is_some());
    assert_eq!(take(Framing::Chunked, trailers(MAX_TRAILERS + 1).as_bytes(), 100), Err(Doubt::TrailersTooLong));
}

proptest! {
    #[test]
    fn chunks_come_out_as_they_went_in(chunks in prop::collection::vec("[\\x00-\\x7f]{1,40}", 0..8), piece in 1_usize..50) {
        let wire: String = chunks.iter().map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).collect();
        let wire = wire + "0\r\n\r\nmore";
        prop_assert_eq!(take(Framing::Chunked, wire.as_bytes(), piece), Ok(Some((chunks.concat().into_bytes(), wire.len() - 4))));
    }

    #[test]
    fn taking_does_not_depend_on_segmentation(bytes in "(0|3|abc|;x|\r\n|\r|\n|:|X: y\r\n| |\0|[ -~]){0,30}", piece in 1_usize..9) {
        prop_assert_eq!(take(Framing::Chunked, bytes.as_bytes(), piece), take(Framing::Chunked, bytes.as_bytes(), usize::MAX / 2));
    }
}
