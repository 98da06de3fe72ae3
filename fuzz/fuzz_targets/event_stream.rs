//! `event_stream`: see `moxie_fuzz::TARGETS`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| moxie_fuzz::run("event_stream", bytes));
