//! Memory that was needed once and is not any more, given back to the kernel.

use std::fs;
use std::ops::Range;

use rustix::mm::{Advice, madvise};

/// Gives back what the allocator keeps of what connections of a busy time have freed.
pub fn free_heap() {
    #[cfg(target_env = "gnu")]
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn_blocking(|| {
            // SAFETY: malloc_trim takes a number and has no other precondition; it locks what it works on.
            unsafe { libc::malloc_trim(0) }
        });
    }
}

/// Gives back the pages of the program's own code and constants: most of what ran until the agent was ready does not run again. What
/// does comes back from the file, page by page.
pub fn unload_code() {
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else { return };
    let Ok(program) = std::env::current_exe() else { return };
    let code = maps.lines().filter(|line| program.to_str().is_some_and(|program| line.ends_with(program)));
    for range in code.filter_map(unwritten) {
        // SAFETY: the range is a mapping of this program's file that nobody has written to, not even the loader, so every page of it
        // is read from the file again as it was, at the next access.
        let _ =
            unsafe { madvise(std::ptr::with_exposed_provenance_mut(range.start), range.len(), Advice::LinuxDontNeed) };
    }
}

/// The addresses of a mapping that is as it is in the file, by its line in `/proc/self/maps`: the code, and the constants, with which
/// a program's file begins. Others that cannot be written to (any more) have been relocated.
fn unwritten(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (access, offset) = (fields.next()?, fields.next()?);
    let is_unwritten = access == "r-xp" || access == "r--p" && offset.bytes().all(|digit| digit == b'0');
    let range = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
    is_unwritten.then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_file_can_bring_back_is_given_back() {
        let check = |access: &str, offset: &str, expected| {
            let line = format!("55d0c0e00000-55d0c2000000 {access} {offset} fe:00 1234 /usr/bin/moxie");
            assert_eq!(unwritten(&line), expected, "{line}");
        };
        let all = Some(0x55d0_c0e0_0000..0x55d0_c200_0000);
        check("r-xp", "00a76000", all.clone());
        check("r--p", "00000000", all);
        // What the loader has relocated, and data.
        check("r--p", "01d1b000", None);
        check("rw-p", "01d24000", None);
        check("rwxp", "00a76000", None);
    }

    #[test]
    fn the_program_goes_on_without_its_code() {
        let resident = || {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap().to_owned();
            line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap()
        };
        let before = resident();
        unload_code();
        assert!(resident() < before, "{} of {before} KiB", resident());
    }
}
