//! The input cut into what a target needs.

/// The first byte as a number of bytes, and the rest: how a peer's writes may be cut.
pub(crate) fn piece(bytes: &[u8]) -> (usize, &[u8]) {
    match bytes.split_first() {
        Some((first, rest)) => (usize::from(*first % 32) + 1, rest),
        None => (1, bytes),
    }
}

/// Ever longer beginnings of `bytes`, the last of them whole.
pub(crate) fn growing(bytes: &[u8], piece: usize) -> impl Iterator<Item = &[u8]> {
    let steps = bytes.len().div_ceil(piece);
    (0..=steps).map(move |step| &bytes[..bytes.len().min(step * piece)])
}

/// The two texts before and after the first LF.
pub(crate) fn two_lines(bytes: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(bytes).ok()?.split_once('\n')
}
