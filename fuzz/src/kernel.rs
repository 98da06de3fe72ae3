//! What the kernel answers by netlink: not hostile, but read by hand.

use moxie_agent::netlink::{self, Answer};
use moxie_agent::sock_diag::SocketFacts;

pub(crate) fn answers(bytes: &[u8]) {
    netlink::messages(bytes, &mut |_, answer| {
        if let Answer::Content(content) = answer {
            let _ = SocketFacts::read(content);
        }
    });
    let _ = SocketFacts::read(bytes);
}
