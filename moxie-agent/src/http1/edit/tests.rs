//! Heads with spans changed, and every other byte as it was.

use super::*;
use crate::http1::{Asked, Awaited, Read, Version};

fn values(values: &[&'static str]) -> Vec<HeaderValue> {
    values.iter().map(|value| HeaderValue::from_static(value)).collect()
}

fn request(head: &str, edits: &[Edit<'_>]) -> String {
    let mut read = RequestHead::default();
    assert_eq!(read.read(head.as_bytes()), Ok(Read::Done));
    let mut out = b"before ".to_vec();
    read.edited(format!("{head}body").as_bytes(), edits, &mut out);
    String::from_utf8(out).unwrap().strip_prefix("before ").unwrap().to_owned()
}

fn response(head: &str, status: Option<StatusLine<'_>>, edits: &[Edit<'_>]) -> String {
    let mut read = ResponseHead::default();
    let awaited = Awaited { method: Asked::Other, version: Version::Http11 };
    assert_eq!(read.read(head.as_bytes(), &awaited), Ok(Read::Done));
    let mut out = Vec::new();
    read.edited(head.as_bytes(), status, edits, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn nothing_asked_is_nothing_changed() {
    let head = "\r\nGET /a  HTTP/1.0\r\n".replace("  ", " ") + "hOST:a\r\nX:   v  \r\nx-a: 1\r\nX-A: 2\r\n\r\n";
    assert_eq!(request(&head, &[]), head);
    let head = "HTTP/1.0 200\nX:\r\n fold\r\nodd line\nName : x\r\n\r\n";
    assert_eq!(response(head, None, &[]), head);
}

#[test]
fn a_field_is_set_where_it_was_and_its_other_lines_go() {
    let one = values(&["new"]);
    let two = values(&["1", "2"]);
    let head = "GET / HTTP/1.0\r\nA: 1\r\nx-b: 2\r\nC: 3\r\nX-B: 4\r\n\r\n";
    let set = |name, values| Edit::Set { name, values };
    assert_eq!(request(head, &[set("X-b", &one)]), "GET / HTTP/1.0\r\nA: 1\r\nX-b: new\r\nC: 3\r\n\r\n");
    assert_eq!(request(head, &[set("a", &two)]), "GET / HTTP/1.0\r\na: 1\r\na: 2\r\nx-b: 2\r\nC: 3\r\nX-B: 4\r\n\r\n");
    assert_eq!(
        request(head, &[set("New", &one), Edit::Remove { name: "c" }]),
        "GET / HTTP/1.0\r\nA: 1\r\nx-b: 2\r\nX-B: 4\r\nNew: new\r\n\r\n"
    );
    assert_eq!(request(head, &[set("x-B", &[])]), "GET / HTTP/1.0\r\nA: 1\r\nC: 3\r\n\r\n");
    assert_eq!(
        request(head, &[Edit::Remove { name: "x-b" }, Edit::Remove { name: "absent" }]),
        "GET / HTTP/1.0\r\nA: 1\r\nC: 3\r\n\r\n"
    );
    assert_eq!(request(head, &[set("bad name", &one), set("", &one)]), head);
    assert_eq!(request("GET / HTTP/1.0\r\n\r\n", &[set("A", &one)]), "GET / HTTP/1.0\r\nA: new\r\n\r\n");
}

#[test]
fn a_status_line_keeps_its_version_and_line_end() {
    let status = |status, reason| Some(StatusLine { status, reason });
    assert_eq!(
        response("HTTP/1.0 200 OK\r\nA: 1\r\n\r\n", status(503, "Busy\r\nX: y"), &[]),
        "HTTP/1.0 503 BusyX: y\r\nA: 1\r\n\r\n"
    );
    assert_eq!(response("HTTP/1.1 200\nA: 1\n\n", status(404, ""), &[]), "HTTP/1.1 404 \nA: 1\n\n");
    let added = values(&["1"]);
    assert_eq!(
        response("HTTP/1.1 200\n\n", None, &[Edit::Set { name: "A", values: &added }]),
        "HTTP/1.1 200\nA: 1\n\n"
    );
}

#[test]
fn a_folded_field_goes_with_all_its_lines() {
    let head = "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n c\r\nY: d\r\n\r\n";
    let set = values(&["z"]);
    assert_eq!(
        response(head, None, &[Edit::Set { name: "x", values: &set }]),
        "HTTP/1.1 200 OK\r\nx: z\r\nY: d\r\n\r\n"
    );
}
