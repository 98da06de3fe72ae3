//! What a reader makes of the bytes of one connection, as text that can be compared and kept in a table.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use anyhow::{Context, Result, bail};

/// One request as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub method: String,
    /// Path and query, each byte a character, as in ISO 8859-1.
    pub target: String,
    /// Empty if there is none.
    pub host: String,
    pub body: Body,
}

/// A request's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// All of it, each byte a character.
    Whole(String),
    /// It has not come to its end.
    Open,
}

/// Why a reader saw no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// There was nothing more; a server's last answer said that it closes.
    Done,
    /// Closed after an answer that did not say so.
    Dropped,
    /// It waits for more.
    Waits,
    /// An error, or a close without an answer.
    Refused,
    /// Moxie only: the doubt's code.
    Doubt(String),
}

/// All of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub requests: Vec<Seen>,
    pub end: End,
}

impl View {
    pub fn is_doubtful(&self) -> bool {
        matches!(self.end, End::Doubt(_))
    }
}

impl Seen {
    /// A target without scheme and authority: servers show one or the other.
    pub fn path_of(target: &str) -> String {
        let authority = target.find("://").filter(|at| *at <= 5 && !target.starts_with('/'));
        let Some(authority) = authority else { return target.to_owned() };
        let rest = target.get(authority + 3..).unwrap_or_default();
        let path = rest.find(['/', '?', '#']).and_then(|at| rest.get(at..)).unwrap_or_default();
        if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
    }
}

impl Display for View {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for Seen { method, target, host, body } in &self.requests {
            write!(f, "{} {} {} ", escaped(method), escaped(target), escaped(host))?;
            match body {
                Body::Whole(body) => write!(f, "{}", escaped(body))?,
                Body::Open => f.write_str("…")?,
            }
            f.write_str(" | ")?;
        }
        match &self.end {
            End::Done => f.write_str("done"),
            End::Dropped => f.write_str("dropped"),
            End::Waits => f.write_str("waits"),
            End::Refused => f.write_str("refused"),
            End::Doubt(code) => write!(f, "doubt {code}"),
        }
    }
}

impl FromStr for View {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (requests, end) = text.rsplit_once(" | ").unwrap_or(("", text));
        let end = match end.split_once(' ').unwrap_or((end, "")) {
            ("done", _) => End::Done,
            ("dropped", _) => End::Dropped,
            ("waits", _) => End::Waits,
            ("refused", _) => End::Refused,
            ("doubt", code) => End::Doubt(code.to_owned()),
            _ => bail!("no end of a view: {end:?}"),
        };
        let requests = requests.split(" | ").filter(|request| !request.is_empty()).map(seen).collect::<Result<_>>()?;
        Ok(Self { requests, end })
    }
}

fn seen(text: &str) -> Result<Seen> {
    let words: Vec<_> = text.split(' ').collect();
    let [method, target, host, body] = words[..] else { bail!("no request of a view: {text:?}") };
    let body = if body == "…" { Body::Open } else { Body::Whole(unescaped(body)?) };
    Ok(Seen { method: unescaped(method)?, target: unescaped(target)?, host: unescaped(host)?, body })
}

/// No spaces, no bars, nothing unprintable; `-` for nothing.
fn escaped(text: &str) -> String {
    if text.is_empty() {
        return "-".to_owned();
    }
    text.chars()
        .map(|letter| match letter {
            '-' if text.len() == 1 => "%2d".to_owned(),
            '!'..='~' if !"%|…".contains(letter) => letter.to_string(),
            _ => format!("%{:02x}", u32::from(letter)),
        })
        .collect()
}

fn unescaped(text: &str) -> Result<String> {
    if text == "-" {
        return Ok(String::new());
    }
    let mut parts = text.split('%');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2).context("a % without two digits")?;
        plain.push(char::from(u8::from_str_radix(code, 16)?));
        plain.push_str(rest);
    }
    Ok(plain)
}

/// Each byte a character.
pub fn letters(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

#[test]
fn a_view_is_read_back_as_it_was_written() {
    let whole = |body: &str| Body::Whole(body.to_owned());
    let seen = |target: &str, body| Seen {
        method: "POST".to_owned(),
        target: target.to_owned(),
        host: "a:1".to_owned(),
        body,
    };
    let view = View {
        requests: vec![seen("/ |%\u{ff}\0", whole("")), seen("-", whole("a b")), seen("", Body::Open)],
        end: End::Waits,
    };
    assert_eq!(view.to_string().parse::<View>().unwrap(), view);
    let empty = View { requests: Vec::new(), end: End::Doubt("nul".to_owned()) };
    assert_eq!(empty.to_string().parse::<View>().unwrap(), empty);
}
