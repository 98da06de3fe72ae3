//! What the kernel half counts.

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $variant:ident => $name:literal,)+) => {
        /// One count of the kernel half; its number is its index in the map.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Counter {
            /// Every counter, by index.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name in metrics: stable, snake case.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

counters! {
    /// A connection was pointed at the agent.
    Diverted => "diverted",
    /// Direct: its port is not wanted.
    OtherPort => "other_port",
    /// Direct: loopback, link-local, multicast and the like.
    ExcludedDestination => "excluded_destination",
    /// Direct: the operator's address lists leave it out.
    ExcludedAddress => "excluded_address",
    /// Direct: no rule could act on what the cgroup does.
    NoRule => "no_rule",
    /// Direct: the kill switch is off.
    Disabled => "disabled",
    /// Direct: the agent's last heartbeat is too old.
    NotBeating => "not_beating",
    /// Direct: the socket carries Moxie's mark.
    Exempt => "exempt",
    /// Direct: the caller is in the agent's own cgroup.
    AgentsOwn => "agents_own",
    /// Direct: the socket is bound to a device, from which loopback cannot be reached.
    BoundDevice => "bound_device",
    /// Direct: the socket is bound to a loopback address, or to one of the other family; let the connect fail as it would without
    /// Moxie.
    LoopbackSource => "loopback_source",
    /// Direct: the address is known to belong only to names that no rule could name.
    KnownName => "known_name",
    /// A DNS answer was not copied to the agent; until that is noticed nothing counts as known.
    AnswerLost => "answer_lost",
    /// Direct: no listener of the agent's in the socket's network namespace, or no `127.0.0.1` to reach it at.
    NoListener => "no_listener",
    /// Direct: an IPv6 destination, and the namespace has no route to any, or no `::1`.
    NoRouteV6 => "no_route_v6",
    /// Direct: the kernel had no room to remember the original destination.
    NoStorage => "no_storage",
    /// Direct: as many handshakes are under way as there is room for.
    HandshakesFull => "handshakes_full",
    /// A diverted connection was announced to the agent's side.
    Announced => "announced",
    /// A diverted connection was announced once more as its handshake ended: the first announcement had gone.
    AnnouncedAgain => "announced_again",
    /// A diverted connection could not be announced; the agent will reset it.
    NotAnnounced => "not_announced",
    /// The original destination was handed to the accepted socket.
    HandedOver => "handed_over",
    /// A connection reached a listener without having been announced (something dialled the listener itself).
    NoHandshake => "no_handshake",
    /// The original destination was known but could not be handed over; the agent will reset the connection.
    NotHandedOver => "not_handed_over",
    /// getpeername() was answered with the original destination.
    PeerShown => "peer_shown",
    /// A UDP connect or send to port 443 was refused.
    QuicRefused => "quic_refused",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counters_number_is_its_place_in_the_list() {
        for (index, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, index);
        }
    }

    #[test]
    fn names_are_snake_case_and_distinct() {
        for (index, counter) in Counter::ALL.iter().enumerate() {
            let name = counter.name();
            assert!(
                name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'),
                "{name}"
            );
            assert!(Counter::ALL.iter().skip(index + 1).all(|other| other.name() != name), "{name} twice");
        }
    }
}
