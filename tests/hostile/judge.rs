//! Whether Moxie's view may stand beside a server's.

use super::view::{Body, End, Seen, View};

/// Why a rule could act on something that the server does not see as Moxie does; none if it could not.
///
/// Moxie may see less than a server, with a doubt. A server may see less: by refusing the rest, or by an answer that closes, after
/// which Moxie looks at nothing any more either.
pub fn disagreement(ours: &View, theirs: &View) -> Option<String> {
    for (number, (our, their)) in ours.requests.iter().zip(&theirs.requests).enumerate() {
        if !same(our, their) {
            return Some(format!("request {number} is {our:?} here and {their:?} there"));
        }
        if our.body == Body::Open && !ours.is_doubtful() {
            return Some(format!("request {number} has ended there, here it has not"));
        }
    }
    let (our_count, their_count) = (ours.requests.len(), theirs.requests.len());
    if their_count > our_count && !ours.is_doubtful() {
        return Some(format!("{their_count} requests there, {our_count} here"));
    }
    let next = ours.requests.get(their_count)?;
    match theirs.end {
        End::Refused | End::Done => None,
        // It waits for the end of a body of which Moxie knows as much.
        End::Waits if next.body == Body::Open => None,
        _ => Some(format!("request {their_count} is {next:?} here and nothing there")),
    }
}

fn same(our: &Seen, their: &Seen) -> bool {
    let bodies = match (&our.body, &their.body) {
        (Body::Whole(our), Body::Whole(their)) => our == their,
        _ => true,
    };
    // Where the target names the authority and there is no Host, some servers show none.
    let hosts = their.host.is_empty() || host(our) == host(their);
    our.method == their.method && path(our) == path(their) && hosts && bodies
}

/// Without the port that goes without saying.
fn host(seen: &Seen) -> String {
    let default = if seen.method == "CONNECT" { ":443" } else { ":80" };
    seen.host.strip_suffix(default).unwrap_or(&seen.host).to_ascii_lowercase()
}

/// Without the fragment, which a client should not have sent and hyper does not show, and with the slash that nginx leaves out.
fn path(seen: &Seen) -> String {
    let path = seen.target.split('#').next().unwrap_or_default();
    if path.starts_with('?') { format!("/{path}") } else { path.to_owned() }
}

#[test]
fn a_difference_is_told() {
    let judged = |ours: &str, theirs: &str| disagreement(&ours.parse().unwrap(), &theirs.parse().unwrap()).is_some();
    let (one, two) = ("GET /1 a - | ", "POST /2 a b | ");
    for end in ["done", "doubt nul"] {
        assert!(!judged(&format!("{one}{end}"), &format!("{one}done")));
        assert!(!judged(&format!("{one}{two}{end}"), &format!("{one}refused")));
        assert!(!judged(&format!("{one}{two}{end}"), &format!("{one}done")));
        assert!(judged(&format!("{one}{two}{end}"), &format!("{one}dropped")));
        assert!(judged(&format!("{one}{two}{end}"), &format!("{one}waits")));
        assert!(judged(&format!("{two}{end}"), &format!("{one}done")));
        assert!(judged(&format!("{two}{end}"), "POST /2 a bc | done"));
        assert!(judged(&format!("{two}{end}"), "POST /2 c b | done"));
        assert!(!judged(&format!("{two}{end}"), "POST /2 A:80 b | done"));
    }
    assert!(judged(&format!("{one}done"), &format!("{one}{two}done")));
    assert!(!judged(&format!("{one}doubt nul"), &format!("{one}{two}done")));
    assert!(!judged("POST /2 a … | waits", "waits"));
    assert!(!judged("POST /2 a … | waits", "refused"));
    assert!(judged("POST /2 a … | waits", "POST /2 a b | waits"));
    assert!(!judged("POST /2 a … | doubt odd_chunk_size", "POST /2 a b | done"));
}
