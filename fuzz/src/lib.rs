//! What is done with bytes that anyone may send: each function takes some and panics where Moxie would be wrong.
//!
//! cargo-fuzz runs them (`fuzz_targets/`), and `cargo test -p moxie-tests --test fuzz` runs them on the corpus.

mod admin;
mod bytes;
mod host;
mod http2;
mod kernel;
mod names;
mod relay;
mod text;
mod wire;

/// One function over bytes.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also its corpus' and its program's.
pub const TARGETS: [(&str, Target); 25] = [
    ("client_hello", wire::client_hello),
    ("tls_record_split", wire::tls_record_split),
    ("sniff_http1", wire::sniff_http1),
    ("sniff_http2", wire::sniff_http2),
    ("h1_head", wire::h1_head),
    ("h1_response", wire::h1_response),
    ("h1_body_framing", wire::h1_body_framing),
    ("h1_edit", wire::h1_edit),
    ("h1_differential", wire::h1_differential),
    ("proxy_head", wire::proxy_head),
    ("hpack", http2::hpack),
    ("h1_relay", relay::h1_relay),
    ("h2_relay", relay::h2_relay),
    ("dns_answer", names::dns_answer),
    ("rule_json", text::rule_json),
    ("shorthand", text::shorthand),
    ("import", text::import),
    ("url_match", text::url_match),
    ("rule_decide", text::rule_decide),
    ("config", text::config),
    ("admin_json", admin::admin_json),
    ("event_stream", admin::event_stream),
    ("container", host::container),
    ("host_texts", host::host_texts),
    ("kernel_answers", kernel::answers),
];

/// Runs the target of this name.
///
/// # Panics
/// There is none, or it found something.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target's name");
    target(bytes);
}
