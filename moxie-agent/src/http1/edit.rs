//! A head again, with named parts changed and everything else byte for byte: case, order, white space, odd lines.

use http::HeaderValue;

use super::fields::FieldSpan;
use super::{RequestHead, ResponseHead, is_token_byte};

/// One change of a head's fields.
#[derive(Clone, Copy, Debug)]
pub enum Edit<'e> {
    /// The field is sent with these values, a line each, where its first line was; at the end if there was none. Its other lines
    /// go. No value is [`Edit::Remove`].
    Set {
        /// Its name as it is to be spelt; one that is no token is not sent.
        name: &'e str,
        /// Its values, which by their type hold no line break.
        values: &'e [HeaderValue],
    },
    /// The field's lines go.
    Remove {
        /// Its name, in any case.
        name: &'e str,
    },
}

/// What a status line is to say after its version.
#[derive(Clone, Copy, Debug)]
pub struct StatusLine<'e> {
    /// 100 to 999.
    pub status: u16,
    /// Its phrase; may be empty.
    pub reason: &'e str,
}

impl RequestHead {
    /// Appends this head, which has been read whole from `bytes`, with `edits` to `out`.
    pub fn edited(&self, bytes: &[u8], edits: &[Edit<'_>], out: &mut Vec<u8>) {
        fields(self.spans(), bytes.get(..self.len()).unwrap_or(bytes), 0, edits, b"\r\n", out);
    }
}

impl ResponseHead {
    /// Appends this head, which has been read whole from `bytes`, with `edits` to `out`, and with another status if one is given.
    pub fn edited(&self, bytes: &[u8], status: Option<StatusLine<'_>>, edits: &[Edit<'_>], out: &mut Vec<u8>) {
        let head = bytes.get(..self.len()).unwrap_or(bytes);
        let line_end = self.line_end().of(bytes);
        let mut from = 0;
        if let Some(StatusLine { status, reason }) = status {
            // The version as it was; a phrase is text without line breaks.
            out.extend_from_slice(head.get(..8).unwrap_or_default());
            out.extend_from_slice(format!(" {status:03} ").as_bytes());
            out.extend(reason.bytes().filter(|byte| !byte.is_ascii_control()));
            from = self.status_line().end();
        }
        fields(self.spans(), head, from, edits, line_end, out);
    }
}

/// Copies `head` from `from` on, with the fields changed.
fn fields(spans: &[FieldSpan], head: &[u8], mut from: usize, edits: &[Edit<'_>], line_end: &[u8], out: &mut Vec<u8>) {
    for (at, span) in spans.iter().enumerate() {
        let name = span.name(head);
        let Some(edit) = edits.iter().find(|edit| edit.name().eq_ignore_ascii_case(name)) else { continue };
        out.extend_from_slice(head.get(from..span.whole.start()).unwrap_or_default());
        from = span.whole.end();
        let first = !spans.iter().take(at).any(|earlier| earlier.name(head).eq_ignore_ascii_case(name));
        if first {
            edit.write(line_end, out);
        }
    }
    let last_line = head.len() - if head.ends_with(b"\r\n") { 2 } else { 1 }.min(head.len());
    out.extend_from_slice(head.get(from..last_line).unwrap_or_default());
    for edit in edits.iter().filter(|edit| !spans.iter().any(|span| span.name(head).eq_ignore_ascii_case(edit.name())))
    {
        edit.write(line_end, out);
    }
    out.extend_from_slice(head.get(last_line..).unwrap_or_default());
}

impl Edit<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Set { name, .. } | Self::Remove { name } => name,
        }
    }

    fn write(&self, line_end: &[u8], out: &mut Vec<u8>) {
        let Self::Set { name, values } = self else { return };
        if name.is_empty() || !name.bytes().all(is_token_byte) {
            return;
        }
        for value in *values {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(line_end);
        }
    }
}

#[cfg(test)]
mod tests;
