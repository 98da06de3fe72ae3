//! HTTP/1 on the wire (RFC 9112), observed and never changed: where messages begin and end, what their heads say, and where.
//!
//! Nothing here keeps, changes or refuses bytes. A reader either knows beyond doubt what every server and client would make of
//! them, or says why not: a [`Doubt`]. After one, the rest of a connection is passed on and not looked into, so no rule ever acts
//! on a request that its origin did not see as that request.
//!
//! Requests are read strictly, for origins differ in what they let through. Answers are read leniently where no boundary depends on
//! it. For one connection: [`RequestHead`], a [`Body`] by its framing, the next head. Each answer belongs to the oldest request
//! that has none yet ([`Awaited`]), and interim answers come before it. What only the order of messages shows has doubts too:
//! [`Doubt::Unasked`], [`Doubt::AfterLast`], [`Doubt::BeforeSwitch`].

pub(crate) mod authority;
pub mod body;
pub mod edit;
mod facts;
mod fields;
mod lines;
pub mod request;
pub mod response;
mod span;

pub use body::{Body, Taken};
pub use edit::{Edit, StatusLine};
pub use fields::Field;
pub use request::RequestHead;
pub use response::{Asked, Awaited, ResponseHead};

/// Longest head that is interpreted, in bytes with its empty lines.
pub const MAX_HEAD: usize = 256 * 1024;

/// How far a head has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// The empty line at its end has been read.
    Done,
    /// More bytes are needed.
    Partial,
}

/// Minor version of HTTP/1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
}

/// How the end of a body is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// So many bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Whatever comes until the connection closes; answers only.
    UntilClose,
}

/// Why bytes are not interpreted any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Doubt {
    /// More than [`MAX_HEAD`].
    #[error("the head is longer than 256 KiB")]
    HeadTooLong,
    /// Its end did not come in time.
    #[error("the head did not become whole in time")]
    HeadTooSlow,
    /// The client ended before it.
    #[error("the client stopped sending in the middle of a head")]
    HeadCut,
    /// A line ends in LF alone.
    #[error("a line ends without a carriage return")]
    BareLineFeed,
    /// CR within a line.
    #[error("a carriage return stands alone")]
    BareCarriageReturn,
    /// NUL in a head or a chunk line.
    #[error("there is a NUL byte")]
    Nul,
    /// A request line that is not three words with one space between.
    #[error("the request line is not METHOD TARGET VERSION with one space between")]
    OddRequestLine,
    /// A method that is no token, or longer than [`request::MAX_METHOD`].
    #[error("the method is no token of at most 64 bytes")]
    OddMethod,
    /// A target of none of the four forms, or with control characters.
    #[error("the request target has none of the forms of RFC 9112")]
    OddTarget,
    /// Neither `HTTP/1.0` nor `HTTP/1.1`.
    #[error("the version is neither HTTP/1.0 nor HTTP/1.1")]
    OddVersion,
    /// No `HTTP/1.x` and three digits.
    #[error("the status line is not HTTP/1.x with a status of three digits")]
    OddStatusLine,
    /// A field line continues the one before it (RFC 9112 section 5.2).
    #[error("a header line is folded")]
    Folded,
    /// White space between a name and its colon.
    #[error("there is white space before a header's colon")]
    SpaceBeforeColon,
    /// A field line without a colon.
    #[error("a header line has no colon")]
    NoColon,
    /// A field line that begins with its colon.
    #[error("a header has no name")]
    EmptyName,
    /// A name that is no token.
    #[error("a header's name is no token")]
    OddName,
    /// HTTP/1.1 without a Host, and no CONNECT: a request for nobody (RFC 9112 section 3.2).
    #[error("there is no Host")]
    NoHost,
    /// Host more than once.
    #[error("there is more than one Host")]
    SeveralHosts,
    /// A Host, or a target's authority, that is not a plain host with an optional port.
    #[error("the host is not a plain name or address with an optional port")]
    OddHost,
    /// The target names one authority, Host another.
    #[error("the Host differs from the target's authority")]
    HostDiffers,
    /// A length that is not a plain decimal number.
    #[error("the Content-Length is not one plain number")]
    OddLength,
    /// Several lengths that differ.
    #[error("there are several lengths that differ")]
    LengthsDiffer,
    /// A length and a transfer coding.
    #[error("there are both a Content-Length and a Transfer-Encoding")]
    LengthAndCoding,
    /// Any transfer coding but `chunked`, once.
    #[error("the Transfer-Encoding is not chunked alone")]
    OddCoding,
    /// A transfer coding in HTTP/1.0, or toward a client that speaks HTTP/1.0.
    #[error("there is a Transfer-Encoding in HTTP/1.0")]
    CodingInHttp10,
    /// A transfer coding in an answer whose status has no body, which some clients read all the same.
    #[error("there is a Transfer-Encoding in an answer that has no body")]
    CodingWithoutBody,
    /// A Connection field with bytes that no list of tokens has.
    #[error("the Connection header is not a list of tokens")]
    OddConnection,
    /// A CONNECT with content: what follows is content to some and the tunnel's to others.
    #[error("a CONNECT request has a body")]
    ConnectWithBody,
    /// A chunk size that is not 1 to 16 hexadecimal digits followed by CRLF or an extension.
    #[error("a chunk size is not a plain hexadecimal number")]
    OddChunkSize,
    /// A chunk size of 2^63 or more.
    #[error("a chunk is larger than any reader counts")]
    ChunkTooLarge,
    /// A chunk extension with control characters.
    #[error("a chunk extension has control characters")]
    OddChunkExtension,
    /// A chunk line beyond [`body::MAX_CHUNK_LINE`].
    #[error("a chunk extension is longer than 4 KiB")]
    ChunkLineTooLong,
    /// A chunk's data is not followed by CRLF.
    #[error("a chunk does not end where its size says")]
    OddChunkEnd,
    /// A trailer that says how a message is framed or routed.
    #[error("a trailer says what only a head may say")]
    OddTrailer,
    /// Trailers beyond [`body::MAX_TRAILERS`].
    #[error("the trailers are longer than 64 KiB")]
    TrailersTooLong,
    /// An answer, or a part of one, that no request asked for.
    #[error("the destination sent what no request asked for")]
    Unasked,
    /// Bytes after a message that was to be the connection's last.
    #[error("more came after a message that ends the connection")]
    AfterLast,
    /// A final answer came while the client still waited for leave to send its body: it may send it, or another request.
    #[error("the body was refused before it was sent, so what follows may be the body or another request")]
    BodyRefused,
    /// Bytes after a request that may change the protocol, before its answer.
    #[error("more came before it was known whether the protocol changes")]
    BeforeSwitch,
}

impl Doubt {
    /// The name in records and metrics: stable, in snake case.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::HeadTooLong => "head_too_long",
            Self::HeadTooSlow => "head_too_slow",
            Self::HeadCut => "head_cut",
            Self::BareLineFeed => "bare_line_feed",
            Self::BareCarriageReturn => "bare_carriage_return",
            Self::Nul => "nul",
            Self::OddRequestLine => "odd_request_line",
            Self::OddMethod => "odd_method",
            Self::OddTarget => "odd_target",
            Self::OddVersion => "odd_version",
            Self::OddStatusLine => "odd_status_line",
            Self::Folded => "folded",
            Self::SpaceBeforeColon => "space_before_colon",
            Self::NoColon => "no_colon",
            Self::EmptyName => "empty_name",
            Self::OddName => "odd_name",
            Self::NoHost => "no_host",
            Self::SeveralHosts => "several_hosts",
            Self::OddHost => "odd_host",
            Self::HostDiffers => "host_differs",
            Self::OddLength => "odd_length",
            Self::LengthsDiffer => "lengths_differ",
            Self::LengthAndCoding => "length_and_coding",
            Self::OddCoding => "odd_coding",
            Self::CodingInHttp10 => "coding_in_http10",
            Self::CodingWithoutBody => "coding_without_body",
            Self::OddConnection => "odd_connection",
            Self::ConnectWithBody => "connect_with_body",
            Self::OddChunkSize => "odd_chunk_size",
            Self::ChunkTooLarge => "chunk_too_large",
            Self::OddChunkExtension => "odd_chunk_extension",
            Self::ChunkLineTooLong => "chunk_line_too_long",
            Self::OddChunkEnd => "odd_chunk_end",
            Self::OddTrailer => "odd_trailer",
            Self::TrailersTooLong => "trailers_too_long",
            Self::Unasked => "unasked",
            Self::AfterLast => "after_last",
            Self::BodyRefused => "body_refused",
            Self::BeforeSwitch => "before_switch",
        }
    }
}

/// `tchar` of RFC 9110 section 5.6.2.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
