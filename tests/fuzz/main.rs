//! The corpus of the fuzz targets, run as any other test: what once was found stays found.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![expect(unreachable_pub, reason = "a test program is nobody's library")]

#[path = "../../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::path::{Path, PathBuf};

const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz");

fn names_in(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn the_corpus_finds_nothing() {
    for (name, _) in targets::TARGETS {
        let seeds = names_in(&Path::new(FUZZ).join("corpus").join(name));
        assert!(!seeds.is_empty(), "{name} has no corpus");
        for seed in seeds {
            let bytes = fs::read(&seed).unwrap();
            let ran = std::panic::catch_unwind(|| targets::run(name, &bytes));
            assert!(ran.is_ok(), "{} (the panic is above)", seed.display());
        }
    }
}

#[test]
fn every_target_has_its_program_and_every_program_its_target() {
    let mut known: Vec<String> = targets::TARGETS.iter().map(|(name, _)| format!("{name}.rs")).collect();
    known.sort();
    let programs = names_in(&Path::new(FUZZ).join("fuzz_targets"));
    let found: Vec<_> = programs.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(found, known);
    let manifest = fs::read_to_string(Path::new(FUZZ).join("Cargo.toml")).unwrap();
    for (name, _) in targets::TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/Cargo.toml has no {name}");
    }
}

/// A few steps of what the fuzzer does, with a seed of its own: each byte of each entry lost, doubled or turned.
#[test]
fn the_corpus_a_little_changed_finds_nothing() {
    for (name, _) in targets::TARGETS {
        for seed in names_in(&Path::new(FUZZ).join("corpus").join(name)) {
            let bytes = fs::read(&seed).unwrap();
            for at in (0..bytes.len()).step_by(bytes.len().div_ceil(64).max(1)) {
                let (before, after) = bytes.split_at(at);
                let turned = [before, &[after[0] ^ 0x20], &after[1..]].concat();
                for changed in [turned, [before, &after[1..]].concat(), [before, &after[..1], after].concat()] {
                    let ran = std::panic::catch_unwind(|| targets::run(name, &changed));
                    assert!(ran.is_ok(), "{} changed at {at}: {}", seed.display(), changed.escape_ascii());
                }
            }
        }
    }
}
