//! Names of maps and programs in the kernel object; the kernel keeps the first 15 bytes of each.

/// Array of one [`Control`](crate::Control): heartbeat and switches.
pub const CONTROL: &str = "CONTROL";
/// Array of [`PORT_WORDS`](crate::PORT_WORDS) words: the wanted destination ports, one bit each.
pub const PORTS: &str = "PORTS";
/// Array of one word for each [`Tag`](crate::Tag): what may be diverted to its listener set ([`reach`](crate::reach)).
pub const LISTENERS: &str = "LISTENERS";
/// Per-CPU array: one count for each [`Counter`](crate::Counter).
pub const COUNTERS: &str = "COUNTERS";
/// Socket storage: the [`Origin`](crate::Origin) of a diverted socket, and of the socket accepted for it.
pub const ORIGINS: &str = "ORIGINS";
/// Hash of [`HandshakeKey`](crate::HandshakeKey) to [`Origin`](crate::Origin): handshakes under way.
pub const HANDSHAKES: &str = "HANDSHAKES";
/// Array of one [`UnderWay`](crate::UnderWay): how many those are.
pub const UNDER_WAY: &str = "UNDER_WAY";

/// Longest-prefix trie of [`AddressKey`](crate::AddressKey) to one of [`listed`](crate::listed): the address lists.
pub const ADDRESSES: &str = "ADDRESSES";
/// Cgroup storage of the programs on a scope: its [`Share`](crate::Share), for each attach type.
pub const SHARES: &str = "SHARES";
/// Hash of [`HintKey`](crate::hints::HintKey) to [`Hint`](crate::hints::Hint): addresses that are left direct.
pub const HINTS: &str = "HINTS";
/// LRU hash of [`QuestionKey`](crate::hints::QuestionKey) to the generation under which it was found to be about no rule's name.
pub const QUESTIONS: &str = "QUESTIONS";
/// Ring of [`Answer`](crate::hints::Answer)s.
pub const ANSWERS: &str = "ANSWERS";
/// Array of counts, by place: answers that the agent has to look at, as the kernel half counts them.
pub const ASKED: &str = "ASKED";
/// Array of counts, by place: answers that the agent has looked at.
pub const HANDLED: &str = "HANDLED";
/// Per-CPU cgroup storage of the programs that refuse QUIC: one count for each cgroup and hook.
pub const REFUSED: &str = "REFUSED";

/// `cgroup/connect4`, on a scope: diverts.
pub const CONNECT4: &str = "moxie_connect4";
/// `cgroup/connect6`, on a scope.
pub const CONNECT6: &str = "moxie_connect6";
/// `cgroup/getpeername4`, on a scope: shows the original destination.
pub const GETPEERNAME4: &str = "moxie_peer4";
/// `cgroup/getpeername6`, on a scope.
pub const GETPEERNAME6: &str = "moxie_peer6";
/// `cgroup/connect4`, on a scope that wants QUIC refused.
pub const QUIC4: &str = "moxie_quic4";
/// `cgroup/connect6`, on a scope that wants QUIC refused.
pub const QUIC6: &str = "moxie_quic6";
/// `cgroup/sendmsg4`, on a scope that wants QUIC refused.
pub const SENDMSG4: &str = "moxie_sendmsg4";
/// `cgroup/sendmsg6`, on a scope that wants QUIC refused.
pub const SENDMSG6: &str = "moxie_sendmsg6";
/// `cgroup_skb/ingress`, on a scope that rules are for: copies DNS answers.
pub const ANSWER: &str = "moxie_answer";
/// `sock_ops`, on a scope: announces a diverted connection before its SYN leaves.
pub const ANNOUNCE: &str = "moxie_announce";
/// `sock_ops`, on the agent's own cgroup: adopts an announced connection before it can be accepted.
pub const ADOPT: &str = "moxie_adopt";
