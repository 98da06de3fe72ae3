//! A request's target (RFC 9112 section 3.2): its form, and where its parts are.
//!
//! Which bytes a path or query has is nobody's business but the origin's, short of control characters.

use super::super::authority::{plain, same, split};
use super::super::span::Span;
use super::Doubt;

/// Where the parts of a target are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Target {
    form: Form,
    pub(super) whole: Span,
    /// Of absolute-form and authority-form.
    pub(super) authority: Option<Span>,
    path: Span,
    pub(super) query: Option<Span>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Form {
    #[default]
    Origin,
    /// With the port that its scheme means.
    Absolute { port: &'static str },
    /// CONNECT's.
    Authority,
}

impl Target {
    /// # Errors
    /// A form that the method does not have, control characters, or an authority with more than one reading.
    pub(super) fn read(whole: Span, method: &[u8], bytes: &[u8]) -> Result<Self, Doubt> {
        let text = whole.of(bytes);
        if text.iter().any(u8::is_ascii_control) {
            return Err(Doubt::OddTarget);
        }
        if method == b"CONNECT" {
            return Self::tunnel(whole, text);
        }
        if text.starts_with(b"/") || text == b"*" {
            return Ok(Self { whole, ..Self::default() }.with_path(whole, text));
        }
        let (scheme, port) = scheme(text).ok_or(Doubt::OddTarget)?;
        let rest = text.get(scheme..).unwrap_or_default();
        let len = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(len).unwrap_or_default();
        plain(authority)?;
        let start = whole.start() + scheme;
        let target = Self {
            form: Form::Absolute { port },
            whole,
            authority: Some(Span::new(start, start + len)),
            ..Self::default()
        };
        Ok(target.with_path(Span::new(start + len, whole.end()), path))
    }

    fn tunnel(whole: Span, text: &[u8]) -> Result<Self, Doubt> {
        let (_, port) = split(plain(text)?);
        port.ok_or(Doubt::OddTarget)?;
        Ok(Self { form: Form::Authority, whole, authority: Some(whole), ..Self::default() })
    }

    fn with_path(self, span: Span, text: &[u8]) -> Self {
        match memchr::memchr(b'?', text).map(|mark| span.start() + mark) {
            Some(mark) => {
                Self { path: Span::new(span.start(), mark), query: Some(Span::new(mark + 1, span.end())), ..self }
            }
            None => Self { path: span, query: None, ..self },
        }
    }

    pub(super) fn path<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        match (self.form, self.path.of(bytes)) {
            (Form::Absolute { .. }, b"") => b"/",
            (_, path) => path,
        }
    }

    /// Whether this is CONNECT's.
    pub(super) fn is_tunnel(&self) -> bool {
        self.form == Form::Authority
    }

    /// # Errors
    /// A Host that is no authority, or another one than the target's. With CONNECT some clients leave the port out.
    pub(super) fn agrees_with(&self, host: Option<&[u8]>, bytes: &[u8]) -> Result<(), Doubt> {
        let Some(host) = host else { return Ok(()) };
        let host = plain(host)?;
        let Some(authority) = self.authority else { return Ok(()) };
        let authority = plain(authority.of(bytes))?;
        let agrees = match self.form {
            Form::Absolute { port } => same(authority, host, port),
            Form::Origin | Form::Authority => split(authority).0.eq_ignore_ascii_case(split(host).0),
        };
        if agrees { Ok(()) } else { Err(Doubt::HostDiffers) }
    }
}

/// Length of `http://` or `https://`, and the port that it means.
fn scheme(text: &[u8]) -> Option<(usize, &'static str)> {
    [("http://", "80"), ("https://", "443")].into_iter().find_map(|(scheme, port)| {
        let begins = text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()));
        begins.then_some((scheme.len(), port))
    })
}
