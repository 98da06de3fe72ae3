//! Lines: their ends, folds, names, colons, and control bytes in values.

use super::Cases;

const CHUNKED: &[u8] = b"3\r\nabc\r\n0\r\n\r\n";

/// The fields that matter, each with a value and a body that goes with it.
const FIELDS: [(&str, &str, &[u8]); 4] = [
    ("Content-Length", "5", b"hello"),
    ("Transfer-Encoding", "chunked", CHUNKED),
    ("Host", "b.example", b""),
    ("X-Any", "y", b""),
];
/// What may stand where CRLF should.
const ENDS: [(&str, &[u8]); 9] = [
    ("lf", b"\n"),
    ("cr", b"\r"),
    ("cr-cr-lf", b"\r\r\n"),
    ("lf-cr", b"\n\r"),
    ("lf-lf", b"\n\n"),
    ("nul-crlf", b"\0\r\n"),
    ("space-crlf", b" \r\n"),
    ("vertical-tab", b"\x0b"),
    ("nel", b"\x85"),
];
/// Ways to write a name before its colon, `{}` being the name.
const NAMES: [(&str, &str); 20] = [
    ("space-before-colon", "{} :"),
    ("tab-before-colon", "{}\t:"),
    ("vertical-tab-before-colon", "{}\x0b:"),
    ("nul-before-colon", "{}\0:"),
    ("space-first", " {}:"),
    ("tab-first", "\t{}:"),
    ("vertical-tab-first", "\x0b{}:"),
    ("control-first", "\x01{}:"),
    ("nul-first", "\0{}:"),
    ("quoted", "\"{}\":"),
    ("comma-first", ",{}:"),
    ("slash", "{}/:"),
    ("brackets", "({}):"),
    ("at", "{}@:"),
    ("equals", "{}="),
    ("no-colon", "{}"),
    ("two-colons", "{}::"),
    ("colon-first", ":{}:"),
    ("high", "{}\u{ff}:"),
    ("upper", "{}\u{0}X:"),
];
/// Control bytes and odd ones.
const BYTES: [(&str, u8); 7] = [("nul", 0), ("soh", 1), ("bs", 8), ("vt", 11), ("esc", 27), ("del", 127), ("ff", 255)];

pub(super) fn add(cases: &mut Cases) {
    ends(cases);
    for (field, value, body) in FIELDS {
        let short = field.to_ascii_lowercase();
        // A second Host is doubted anyway: this one is alone.
        let head = |line: &[u8]| {
            let begin: &[u8] =
                if field == "Host" { b"POST /a HTTP/1.1\r\n" } else { b"POST /a HTTP/1.1\r\nHost: a.example\r\n" };
            [begin, line, b"\r\n", body].concat()
        };
        for (name, pattern) in NAMES {
            let line = format!("{} {value}\r\n", pattern.replace("{}", field));
            cases.add(format!("name/{short}/{name}"), head(line.as_bytes()));
        }
        for (name, fold) in [("space", "\r\n "), ("tab", "\r\n\t"), ("lf", "\n "), ("empty", "\r\n \r\n ")] {
            cases.add(format!("fold/{short}/{name}"), head(format!("{field}:{fold}{value}\r\n").as_bytes()));
        }
        for (name, byte) in BYTES {
            let (before, after) = (
                [field.as_bytes(), b": ", &[byte], value.as_bytes()],
                [field.as_bytes(), b": ", value.as_bytes(), &[byte]],
            );
            cases.add(format!("value/{short}/{name}-before"), head(&[before.concat(), b"\r\n".to_vec()].concat()));
            cases.add(format!("value/{short}/{name}-after"), head(&[after.concat(), b"\r\n".to_vec()].concat()));
        }
    }
    for (name, line) in [
        ("empty-name", ": x\r\n"),
        ("colon", ":\r\n"),
        ("first-folded", " x: y\r\n"),
        ("colons", "x:y:z\r\n"),
        ("underscore", "Content_Length: 3\r\n"),
    ] {
        cases.post(format!("line/{name}"), line, "");
        cases.add(format!("line-first/{name}"), format!("GET /a HTTP/1.1\r\n{line}Host: a.example\r\n\r\n"));
    }
}

fn ends(cases: &mut Cases) {
    for (name, end) in ENDS {
        let with = |parts: &[&[u8]]| parts.concat();
        let (post, host, length): (&[u8], &[u8], &[u8]) =
            (b"POST /a HTTP/1.1", b"Host: a.example", b"Content-Length: 5");
        let coding: &[u8] = b"Transfer-Encoding: chunked";
        let crlf: &[u8] = b"\r\n";
        cases.add(format!("end/request-line/{name}"), with(&[post, end, host, crlf, length, b"\r\n\r\nhello"]));
        cases.add(format!("end/host/{name}"), with(&[post, crlf, host, end, length, b"\r\n\r\nhello"]));
        cases.add(format!("end/length/{name}"), with(&[post, crlf, host, crlf, length, end, b"\r\nhello"]));
        cases.add(format!("end/coding/{name}"), with(&[post, crlf, host, crlf, coding, end, crlf, CHUNKED]));
        cases.add(format!("end/head/{name}"), with(&[post, crlf, host, crlf, length, crlf, end, b"hello"]));
        cases.add(
            format!("end/hidden/{name}"),
            with(&[post, crlf, host, b"\r\nX: y", end, coding, crlf, length, b"\r\n\r\n0\r\n\r\n"]),
        );
    }
}
