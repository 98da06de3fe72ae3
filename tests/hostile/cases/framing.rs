//! Content-Length and Transfer-Encoding: spellings, doubles, both.

use super::Cases;

const CHUNKED: &str = "3\r\nabc\r\n0\r\n\r\n";
const HELLO: &str = "hello";

/// What a Transfer-Encoding line may say instead of `chunked`.
pub(crate) const CODINGS: [(&str, &str); 46] = [
    ("plain", " chunked"),
    ("no-space", "chunked"),
    ("upper", " CHUNKED"),
    ("mixed", " cHuNkEd"),
    ("tab", "\tchunked"),
    ("spaces", "   chunked   "),
    ("trailing-tab", " chunked\t"),
    ("empty", ""),
    ("space", " "),
    ("identity", " identity"),
    ("identity-chunked", " identity, chunked"),
    ("chunked-identity", " chunked, identity"),
    ("gzip", " gzip"),
    ("gzip-chunked", " gzip, chunked"),
    ("chunked-gzip", " chunked, gzip"),
    ("twice", " chunked, chunked"),
    ("comma-before", " ,chunked"),
    ("comma-after", " chunked,"),
    ("commas", " ,,chunked,,"),
    ("semicolon", " chunked;"),
    ("parameter", " chunked;q=1"),
    ("prefix", " xchunked"),
    ("suffix", " chunkedx"),
    ("two-words", " x chunked"),
    ("words-after", " chunked x"),
    ("quoted", " \"chunked\""),
    ("single-quoted", " 'chunked'"),
    ("vertical-tab-before", " \x0bchunked"),
    ("vertical-tab-after", " chunked\x0b"),
    ("form-feed-before", " \x0cchunked"),
    ("form-feed-after", " chunked\x0c"),
    ("control-before", " \x01chunked"),
    ("control-after", " chunked\x01"),
    ("delete", " chunked\x7f"),
    ("nul-before", " \0chunked"),
    ("nul-after", " chunked\0"),
    ("nbsp", " \u{a0}chunked"),
    ("long-s", " chunke\u{64}\u{301}"),
    ("chunk", " chunk"),
    ("colon", ": chunked"),
    ("equals", "=chunked"),
    ("brackets", " [chunked]"),
    ("folded", "\r\n chunked"),
    ("folded-after", " chunked\r\n "),
    ("folded-list", " chunked,\r\n x"),
    ("lf", " \nchunked"),
];

/// What a Content-Length line may say instead of `5`.
pub(crate) const LENGTHS: [(&str, &str); 44] = [
    ("plain", " 5"),
    ("no-space", "5"),
    ("tab", "\t5"),
    ("spaces", "   5   "),
    ("empty", ""),
    ("space", " "),
    ("plus", " +5"),
    ("minus", " -5"),
    ("minus-zero", " -0"),
    ("zero", " 0"),
    ("leading-zero", " 05"),
    ("leading-zeros", " 0000000005"),
    ("many-zeros", " 00000000000000000000000000000005"),
    ("octal", " 010"),
    ("hex", " 0x5"),
    ("hex-digit", " a"),
    ("comma", " 5,"),
    ("comma-before", " ,5"),
    ("list", " 5, 5"),
    ("list-no-space", " 5,5"),
    ("list-differs", " 5, 6"),
    ("list-zero", " 0, 5"),
    ("semicolon", " 5;"),
    ("two-numbers", " 5 5"),
    ("words", " 5 bytes"),
    ("point", " 5.0"),
    ("exponent", " 5e0"),
    ("quoted", " \"5\""),
    ("underscore", " 0_5"),
    ("vertical-tab-before", " \x0b5"),
    ("vertical-tab-after", " 5\x0b"),
    ("form-feed", " 5\x0c"),
    ("control", " 5\x01"),
    ("nul", " 5\0"),
    ("nul-before", " \x005"),
    ("nbsp", " \u{a0}5"),
    ("arabic", " \u{665}"),
    ("superscript", " \u{2075}"),
    ("folded", "\r\n 5"),
    ("folded-digit", " \r\n 5"),
    ("two-to-32", " 4294967301"),
    ("two-to-63", " 9223372036854775813"),
    ("two-to-64", " 18446744073709551621"),
    ("two-to-128", " 340282366920938463463374607431768211461"),
];

pub(super) fn add(cases: &mut Cases) {
    for (name, coding) in CODINGS {
        let line = format!("Transfer-Encoding:{coding}\r\n");
        cases.post(format!("te/{name}"), &line, CHUNKED);
        let length = format!("Content-Length: {}\r\n", CHUNKED.len());
        cases.post(format!("te-cl/{name}"), format!("{line}{length}"), CHUNKED);
    }
    for (name, coding) in CODINGS.iter().take(20) {
        cases.post(
            format!("cl-te/{name}"),
            format!("Content-Length: 4\r\nTransfer-Encoding:{coding}\r\n"),
            "1\r\nZ\r\nQ\r\n\r\n",
        );
        cases.post(
            format!("te-te/{name}"),
            format!("Transfer-Encoding: chunked\r\nTransfer-Encoding:{coding}\r\n"),
            CHUNKED,
        );
    }
    for (name, length) in LENGTHS {
        cases.post(format!("cl/{name}"), format!("Content-Length:{length}\r\n"), HELLO);
        cases.post(format!("cl-5/{name}"), format!("Content-Length:{length}\r\nContent-Length: 5\r\n"), HELLO);
    }
    for (name, length) in LENGTHS.iter().take(12) {
        cases.post(format!("5-cl/{name}"), format!("Content-Length: 5\r\nContent-Length:{length}\r\n"), HELLO);
    }
    old_versions(cases);
}

fn old_versions(cases: &mut Cases) {
    for (name, persists) in [("close", ""), ("keep-alive", "Connection: keep-alive\r\n")] {
        let head = format!("POST /a HTTP/1.0\r\nHost: a.example\r\n{persists}");
        cases.add(format!("http10/{name}/length"), format!("{head}Content-Length: 5\r\n\r\n{HELLO}"));
        cases.add(format!("http10/{name}/chunked"), format!("{head}Transfer-Encoding: chunked\r\n\r\n{CHUNKED}"));
        cases.add(
            format!("http10/{name}/both"),
            format!("{head}Transfer-Encoding: chunked\r\nContent-Length: 13\r\n\r\n{CHUNKED}"),
        );
        cases.add(format!("http10/{name}/neither"), format!("{head}\r\n"));
    }
}
