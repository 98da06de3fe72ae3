//! Rules that fire: what they name is changed and nothing else.

use serde_json::json;

use super::ends::{CLIENT, FINISH, ORIGIN};
use super::{Case, GET, OK, case};

const FIRED: &str = "GET /fired HTTP/1.1\r\nHost: api.example\r\n\r\n";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = answers();
    cases.extend(rewrites());
    cases
}

fn answers() -> Vec<Case> {
    let rule = || json!({"status_code": 429, "response": "slow down", "response_media_type": "text/plain", "response_headers": {"Retry-After": "4", "X-mIxEd": "v"}});
    let mock = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 4\r\nX-mIxEd: v\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nslow down";
    vec![
        case("answered-between-others", |s| {
            s.asks(GET).answers(OK).asks(FIRED).answers(OK).asks(GET).answers(OK);
        })
        .fired("/fired", rule(), move |s| {
            s.asks(GET).answers(OK).says(CLIENT, FIRED).hears(CLIENT, mock).asks(GET).answers(OK);
        }),
        case("answered-in-a-pipeline", |s| {
            s.asks(format!("{GET}{FIRED}{GET}")).answers(format!("{OK}{OK}{OK}"));
        })
        .fired("/fired", rule(), move |s| {
            // In order: the rule's answer waits for the one before it.
            s.says(CLIENT, format!("{GET}{FIRED}{GET}")).hears(ORIGIN, GET).answers(OK).hears(CLIENT, mock);
            s.hears(ORIGIN, GET).answers(OK);
        }),
        case("answered-after-a-body", |s| {
            s.asks("POST /fired HTTP/1.1\r\nHost: api.example\r\nContent-Length: 4\r\n\r\nbody")
                .answers(OK)
                .asks(GET)
                .answers(OK);
        })
        .fired("/fired", rule(), move |s| {
            s.says(CLIENT, "POST /fired HTTP/1.1\r\nHost: api.example\r\nContent-Length: 4\r\n\r\nbody")
                .hears(CLIENT, mock);
            s.asks(GET).answers(OK);
        }),
        case("answered-head", |s| {
            s.asks("HEAD /fired HTTP/1.1\r\nHost: api.example\r\n\r\n")
                .answers("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
                .asks(GET)
                .answers(OK);
        })
        .fired("/fired", rule(), move |s| {
            s.says(CLIENT, "HEAD /fired HTTP/1.1\r\nHost: api.example\r\n\r\n")
                .hears(CLIENT, mock.trim_end_matches("slow down"));
            s.asks(GET).answers(OK);
        }),
    ]
}

fn rewrites() -> Vec<Case> {
    let asked = "GET /fired?a=<b> HTTP/1.1\r\nX-b: 1\r\nhOST:  api.example\r\nX-B:2 \r\n\r\n";
    // Behind the length, the odd line leaves no end open.
    let answered = "HTTP/1.1 200 As it was\r\nContent-Length: 2\r\nx-oDD:  1\r\nX-Kept : 2\r\nx-ODD: 3\r\n\r\nok";
    vec![
        case("status-rewritten", |s| {
            s.asks(asked).answers(answered).asks(GET).answers(OK);
        })
        .fired("/fired.*", json!({"call_backend": true, "status_code": 503}), move |s| {
            s.asks(asked).says(ORIGIN, answered);
            s.hears(CLIENT, answered.replace("200 As it was", "503 Service Unavailable")).asks(GET).answers(OK);
        }),
        case("request-header-added", |s| {
            s.asks(asked).answers(answered);
        })
        .fired("/fired.*", json!({"call_backend": true, "custom_headers": {"X-Added": "yes"}}), move |s| {
            s.says(CLIENT, asked)
                .hears(ORIGIN, asked.replace("X-B:2 \r\n", "X-B:2 \r\nX-Added: yes\r\n"))
                .answers(answered);
        }),
        case("response-header-added", |s| {
            s.asks(asked).answers(answered).closes(ORIGIN, FINISH);
        })
        .fired("/fired.*", json!({"call_backend": true, "response_headers": {"X-Added": "yes"}}), move |s| {
            s.asks(asked).says(ORIGIN, answered);
            s.hears(CLIENT, answered.replace("x-ODD: 3\r\n", "x-ODD: 3\r\nX-Added: yes\r\n")).closes(ORIGIN, FINISH);
        }),
        case("response-header-replaced", |s| {
            s.asks(asked).answers(answered).closes(ORIGIN, FINISH);
        })
        .fired("/fired.*", json!({"call_backend": true, "response_headers": {"X-oDd": "new"}}), move |s| {
            s.asks(asked).says(ORIGIN, answered);
            s.hears(CLIENT, answered.replace("x-oDD:  1", "X-oDd: new").replace("x-ODD: 3\r\n", ""))
                .closes(ORIGIN, FINISH);
        }),
        case("status-rewritten-of-chunks-and-trailers", |s| {
            let body = "\r\n2;x=y\r\nok\r\n00\r\nX-T: 1\r\n\r\n";
            s.asks(asked).answers(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{body}"));
        })
        .fired("/fired.*", json!({"call_backend": true, "status_code": 500}), move |s| {
            let body = "\r\n2;x=y\r\nok\r\n00\r\nX-T: 1\r\n\r\n";
            s.asks(asked).says(ORIGIN, format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{body}"));
            s.hears(CLIENT, format!("HTTP/1.1 500 Internal Server Error\r\nTransfer-Encoding: chunked\r\n{body}"));
        }),
        case("delayed-and-else-untouched", |s| {
            s.asks(asked).answers(answered);
        })
        .fired(
            "/fired.*",
            json!({"call_backend": true, "response_delay": "30ms", "response_headers": {"x-odd": "n"}}),
            move |s| {
                s.asks(asked).says(ORIGIN, answered);
                s.hears(CLIENT, answered.replace("x-oDD:  1", "x-odd: n").replace("x-ODD: 3\r\n", ""));
            },
        ),
    ]
}
