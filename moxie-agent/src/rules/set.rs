//! The compiled rule set: immutable, swapped as a whole, asked on the data path.

mod action;
mod explain;
mod judge;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;

use super::index::Index;
use super::spec::MatchMode;
use super::{Rule, Taken, draw};
use crate::scope::Caller;
pub(super) use action::DEFAULT_MEDIA_TYPE;
pub(super) use judge::Failure;
use judge::Text;

/// The facts of one request that rules look at.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// HTTP method, as sent.
    pub method: &'a str,
    /// `https` or `http`.
    pub scheme: &'a str,
    /// What the client asked for: lower-cased, default port of the scheme dropped (see [`normal_authority`]).
    pub authority: &'a str,
    /// Path as sent, with its leading `/`.
    pub path: &'a str,
    /// Query as sent, without the `?`.
    pub query: Option<&'a str>,
    /// Request headers.
    pub headers: &'a dyn Headers,
    /// Who made the request.
    pub caller: &'a Caller,
}

/// The headers of a request, however they are kept.
pub trait Headers: fmt::Debug + Sync {
    /// The values of every header called `name` (any case), in order; bytes that are no UTF-8 are replaced.
    fn values<'a>(&'a self, name: &str) -> Vec<Cow<'a, str>>;
}

impl Headers for HeaderMap {
    fn values<'a>(&'a self, name: &str) -> Vec<Cow<'a, str>> {
        self.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect()
    }
}

/// What a rule that fired wants done.
#[derive(Clone, Debug)]
pub struct Hit {
    /// The rule; its tally has been counted.
    pub rule: Arc<Rule>,
    /// Where it was counted.
    pub taken: Taken,
    /// Wait before the first byte of the answer.
    pub delay: Duration,
    /// What to do after the wait.
    pub action: Action,
}

/// What to do with a request that a rule fired for.
#[derive(Clone, Debug)]
pub enum Action {
    /// Answer in the backend's place.
    Respond {
        /// Status of the answer.
        status: StatusCode,
        /// Exactly the headers of the answer, `content-type` among them; framing headers are the sender's business.
        headers: Arc<HeaderMap>,
        /// The same as HTTP/1 carries them: lines in the rule's own order and spelling, each with its line end.
        lines: Bytes,
        /// Body of the answer.
        body: Bytes,
    },
    /// Let the call through and replace parts of the real answer.
    Rewrite(Arc<Rewrite>),
}

/// The parts that a `call_backend` rule changes.
#[derive(Clone, Debug, Default)]
pub struct Rewrite {
    /// Headers set on the request (`custom_headers`).
    pub request_headers: HeaderMap,
    /// The same in the rule's own order and spelling.
    pub request_written: Vec<Written>,
    /// Status to show instead, if given.
    pub status: Option<StatusCode>,
    /// Headers to set on the answer: each replaces all headers of its name. `content-type` is among them if the rule gives a body.
    pub response_headers: HeaderMap,
    /// The same in the rule's own order and spelling.
    pub response_written: Vec<Written>,
    /// Body to show instead, if given.
    pub body: Option<Bytes>,
}

impl Rewrite {
    /// Whether the answer stays as the destination gives it.
    #[must_use]
    pub fn leaves_answer(&self) -> bool {
        self.status.is_none() && self.response_headers.is_empty() && self.body.is_none()
    }
}

/// A header as its rule spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its name, in the case in which it was written.
    pub name: Box<str>,
    /// Each of its values, in order.
    pub values: Vec<HeaderValue>,
}

/// What the rules have to do with a host, strongest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Naming {
    /// No rule that is enabled and not expired can name it.
    Unnamed,
    /// Only rules that have fired as often as they may.
    Spent,
    /// A rule that could fire.
    Armed,
}

/// How long after the last firing of a spent rule the clients that it has answered are looked into still: what they do next is what
/// its user wants to know.
pub const SPENT_IS_WATCHED: Duration = Duration::from_secs(600);

/// An immutable set of rules, ready to be asked from many tasks at once.
#[derive(Debug, Default)]
pub struct RuleSet {
    /// In the order in which they are tried; the indexes name them by their place.
    rules: Vec<Prepared>,
    /// The urls of enabled rules.
    urls: Index,
    /// The hosts of enabled `search` rules.
    hosts: Index,
}

/// A rule with what firing it takes.
#[derive(Debug)]
struct Prepared {
    rule: Arc<Rule>,
    /// `None`: the file of the body could not be read, so the rule must not fire.
    action: Option<Action>,
    draw_key: u64,
}

impl RuleSet {
    /// Compiles `rules`, in any order. `seed` drives `percentage`. May take a while: never call it on the data path.
    ///
    /// Rules whose body is a file do not fire; [`RuleSet::compile_with`] takes the files.
    #[must_use]
    pub fn compile(rules: Vec<Arc<Rule>>, seed: u64) -> Self {
        Self::compile_with(rules, seed, &|_| None)
    }

    /// As [`RuleSet::compile`]; `files` reads the body at a relative path, `None` if it cannot.
    #[must_use]
    pub fn compile_with(mut rules: Vec<Arc<Rule>>, seed: u64, files: &dyn Fn(&str) -> Option<Bytes>) -> Self {
        rules.sort_by_key(|rule| (Reverse(rule.spec.priority), rule.seq));
        let prepare = |rule: Arc<Rule>| Prepared {
            action: action::prepare(&rule.spec, files),
            draw_key: draw::key(&rule.spec, seed),
            rule,
        };
        let rules: Vec<Prepared> = rules.into_iter().map(prepare).collect();
        let enabled = || (0..).zip(&rules).filter(|(_, prepared)| prepared.rule.spec.enable);
        let urls = Index::build(enabled().map(|(place, prepared)| (prepared.rule.spec.url.atoms().clone(), place)));
        let hosts = Index::build(enabled().flat_map(|(place, prepared)| {
            prepared.rule.spec.hosts.iter().map(move |host| (host.atoms().clone(), place))
        }));
        Self { rules, urls, hosts }
    }

    /// Whether some rule that could fire at `now` can name a request to `authority`.
    #[must_use]
    pub fn can_name(&self, authority: &str, now: Timestamp) -> bool {
        self.naming(authority, &Caller::default(), now) == Naming::Armed
    }

    /// What the rules have to do with requests of `caller` to `authority` (the connection-level question).
    #[must_use]
    pub fn naming(&self, authority: &str, caller: &Caller, now: Timestamp) -> Naming {
        let text = format!("{authority}/");
        let mut urls = self.urls.walk();
        urls.read(&text);
        let by_url = self.at(urls.possible()).filter(|prepared| {
            let spec = &prepared.rule.spec;
            spec.match_mode != MatchMode::Search && spec.url.can_go_on_after(&text)
        });
        let mut hosts = self.hosts.walk();
        hosts.read(authority);
        let by_host = self.at(hosts.matched()).filter(|prepared| prepared.names_host(authority));
        let named = by_url.chain(by_host).filter(|prepared| caller.meets(&prepared.rule.spec.name));
        let mut found = Naming::Unnamed;
        for prepared in named {
            found = found.max(prepared.stand(now));
            if found == Naming::Armed {
                // Nothing is stronger, and a host may have a hundred thousand rules.
                break;
            }
        }
        found
    }

    /// Whether some rule could fire for `caller` at `now` at all.
    #[must_use]
    pub fn is_armed(&self, caller: &Caller, now: Timestamp) -> bool {
        self.rules.iter().any(|prepared| caller.meets(&prepared.rule.spec.name) && prepared.is_live(now))
    }

    /// Whether some rule that is not idle at `now` could name what a client asks for that has looked up `name` in DNS: the name with any
    /// port, or what it may be long for, since resolvers add domains to short names. May say yes wrongly, never no.
    #[must_use]
    pub fn could_name(&self, name: &str, now: Timestamp) -> bool {
        let ends = name.match_indices('.').map(|(at, _)| at).chain([name.len()]);
        ends.filter_map(|end| name.get(..end)).any(|host| self.could_name_host(host, now))
    }

    fn could_name_host(&self, host: &str, now: Timestamp) -> bool {
        let by_url = ["/", ":"].into_iter().any(|end| {
            let text = format!("{host}{end}");
            let mut walk = self.urls.walk();
            walk.read(&text);
            self.at(walk.possible()).any(|prepared| {
                let spec = &prepared.rule.spec;
                spec.match_mode != MatchMode::Search && prepared.is_of_use(now) && spec.url.can_go_on_after(&text)
            })
        });
        by_url || self.could_search(host, now)
    }

    fn could_search(&self, host: &str, now: Timestamp) -> bool {
        let with_port = format!("{host}:");
        let mut walk = self.hosts.walk();
        walk.read(host);
        let names = |prepared: &Prepared| {
            let mut hosts = prepared.rule.spec.hosts.iter();
            hosts.any(|pattern| pattern.matches(host) || pattern.can_go_on_after(&with_port))
        };
        self.at(walk.possible()).any(|prepared| prepared.is_of_use(now) && names(prepared))
    }

    /// Whether connections of callers that meet the rules called `only` (`None`: every rule) have anything to do with rules at `now`:
    /// one could fire, or has been spent so lately that what it answered is watched.
    #[must_use]
    pub fn is_wanted(&self, only: Option<&[String]>, now: Timestamp) -> bool {
        let meets = |rule: &Rule| only.is_none_or(|only| only.contains(&rule.spec.name));
        self.rules.iter().any(|prepared| meets(&prepared.rule) && (prepared.is_live(now) || prepared.is_watched(now)))
    }

    /// The first rule in order that matches and could be taken; its count is taken with it.
    #[must_use]
    pub fn decide(&self, request: &Request<'_>, now: Timestamp) -> Option<Hit> {
        let text = Text::of(request);
        let named = self.named(&text);
        self.at(named.into_iter()).find_map(|prepared| {
            let matches = prepared.failure(request, &text, true, now).is_none();
            if matches && prepared.is_drawn() { prepared.fire(now) } else { None }
        })
    }

    /// The places of the enabled rules whose url covers the text, in order.
    fn named(&self, text: &Text) -> Vec<u32> {
        let (path, query) = text.split();
        let mut walk = self.urls.walk();
        walk.read(path);
        let mut named: Vec<u32> = walk.matched().collect();
        if !query.is_empty() {
            walk.read(query);
            named.extend(walk.matched());
        }
        named.sort_unstable();
        named.dedup();
        named
    }

    fn at(&self, places: impl Iterator<Item = u32>) -> impl Iterator<Item = &Prepared> {
        places.filter_map(|place| self.rules.get(place as usize))
    }
}

impl Prepared {
    fn names_host(&self, authority: &str) -> bool {
        self.rule.spec.hosts.iter().any(|host| host.matches(authority))
    }

    /// Draws the dice of `percentage`. A sure rule does not draw.
    fn is_drawn(&self) -> bool {
        let percentage = self.rule.spec.percentage;
        percentage >= 100.0
            || draw::falls(self.draw_key, self.rule.tally.draws.fetch_add(1, Ordering::Relaxed), percentage)
    }

    /// Takes one count; `None` if another request took the last.
    fn fire(&self, now: Timestamp) -> Option<Hit> {
        let action = self.action.clone()?;
        let taken = self.rule.tally.take(now)?;
        Some(Hit { rule: Arc::clone(&self.rule), taken, delay: self.rule.spec.response_delay, action })
    }
}

/// Lower-cases a Host or `:authority` value and drops a trailing dot of the name and the default port of `scheme`.
#[must_use]
pub fn normal_authority(authority: &str, scheme: &str) -> String {
    // Credentials are no part of what is asked for.
    let authority = authority.rsplit('@').next().unwrap_or_default().to_lowercase();
    let default_port = if scheme == "https" { "443" } else { "80" };
    // The colons of an IPv6 address are inside its brackets.
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, port),
        _ => (authority.as_str(), ""),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if port.is_empty() || port == default_port { name.to_owned() } else { format!("{name}:{port}") }
}
