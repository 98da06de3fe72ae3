//! `sniff_http1`: see `moxie_fuzz::TARGETS`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| moxie_fuzz::run("sniff_http1", bytes));
