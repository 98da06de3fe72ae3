//! What the agent says when it refuses (problem+json, RFC 9457), as a failure of the command.

use http::StatusCode;
use serde::Deserialize;

use crate::cli::exit::{Exit, Failure};
use crate::rules::spec::Problem;

/// The members of a problem that a person wants to see.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Told {
    title: String,
    code: String,
    detail: String,
    errors: Vec<Problem>,
    request_id: String,
}

/// The failure that an answer with an error status stands for.
pub(super) fn failure(status: StatusCode, body: &[u8]) -> Failure {
    // A body that is no problem comes from something else on the way; its status still counts.
    let told: Told = serde_json::from_slice(body).unwrap_or_default();
    let title = if told.title.is_empty() { format!("the agent answered {status}") } else { told.title };
    // That there are problems is what the list of them says.
    let is_listed = told.code == "invalid" && !told.errors.is_empty();
    let what = if told.detail.is_empty() || is_listed { title } else { format!("{title}: {}", told.detail) };
    let failure = Failure::new(exit(status), what).details(told.errors.iter().map(line));
    match status {
        StatusCode::UNAUTHORIZED => failure.next("MOXIE_TOKEN=$(sudo cat /var/lib/moxie/admin.token) moxie …"),
        _ if status.is_server_error() && !told.request_id.is_empty() => {
            failure.next(format!("journalctl -u moxie | grep {}", told.request_id))
        }
        _ => match listing(&told.code) {
            Some(command) => failure.next(command),
            None => failure,
        },
    }
}

/// The command that shows what there is, where something was asked for that is not there.
fn listing(code: &str) -> Option<&'static str> {
    match code {
        "rule_not_found" | "rule_exists" => Some("moxie rule ls"),
        "scope_not_found" | "scope_exists" => Some("moxie scope ls"),
        "exchange_not_found" => Some("moxie traffic ls"),
        _ => None,
    }
}

fn exit(status: StatusCode) -> Exit {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Denied,
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Exit::Usage,
        _ => Exit::Failed,
    }
}

/// One wrong field.
pub(in crate::cli) fn line(problem: &Problem) -> String {
    if problem.field.is_empty() { problem.message.clone() } else { format!("{}: {}", problem.field, problem.message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_field_is_shown_and_the_status_gives_the_exit() {
        let body = br#"{"title":"Unprocessable Content","code":"invalid","detail":"2 problems to mend",
            "errors":[{"field":"url","message":"is required"},{"field":"","message":"write an object"}]}"#;
        let failure = failure(StatusCode::UNPROCESSABLE_ENTITY, body);
        assert_eq!(failure.to_string(), "Unprocessable Content\n  url: is required\n  write an object");
        assert_eq!(failure.exit(), Exit::Usage);
    }

    #[test]
    fn what_is_not_there_is_followed_by_what_is() {
        for (code, next) in [("rule_not_found", "moxie rule ls"), ("scope_exists", "moxie scope ls")] {
            let body = format!(r#"{{"title":"Not Found","code":"{code}","detail":"no such thing"}}"#);
            let told = failure(StatusCode::NOT_FOUND, body.as_bytes()).to_string();
            assert!(told.contains(next), "{told}");
        }
    }

    #[test]
    fn a_status_without_a_problem_still_counts() {
        for (status, exit) in [
            (StatusCode::UNAUTHORIZED, Exit::Denied),
            (StatusCode::FORBIDDEN, Exit::Denied),
            (StatusCode::BAD_REQUEST, Exit::Usage),
            (StatusCode::NOT_FOUND, Exit::Failed),
            (StatusCode::BAD_GATEWAY, Exit::Failed),
        ] {
            assert_eq!(failure(status, b"<html>").exit(), exit, "{status}");
        }
    }
}
