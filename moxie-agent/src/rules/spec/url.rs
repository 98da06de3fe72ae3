//! Method, url, match mode and hosts: what a request has to look like.

use serde_json::Value;

use super::fields::{Log, Object};
use super::{MatchMode, Methods};
use crate::rules::pattern::{Anchor, Atom, Pattern};

const COMMON_METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];

/// Whether `text` is a token (RFC 9110 section 5.6.2), as methods are.
fn is_token(text: &str) -> bool {
    let of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(of_token)
}

pub(super) fn methods(rule: &Object<'_>, log: &mut Log) -> Methods {
    let Some(value) = rule.member("method") else { return Methods::Any };
    let all = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    if all.is_empty() {
        log.problem("method", "the list is empty; write \"*\" for any method");
    }
    let mut methods = Vec::new();
    for (nth, one) in all.iter().enumerate() {
        let at = if value.is_array() { format!("method[{nth}]") } else { "method".to_owned() };
        match one {
            Value::String(text) if text == "*" => return Methods::Any,
            Value::String(text) if is_token(text) => {
                let method = known_case(text);
                if !methods.contains(&method) {
                    methods.push(method);
                }
            }
            Value::String(text) => {
                log.problem(&at, format!("{text:?} is not a method; write one such as \"GET\", or \"*\" for any"));
            }
            other => log.wrong_type(&at, "a method such as \"GET\", a list of them, or \"*\"", other),
        }
    }
    Methods::These(methods)
}

/// Methods are compared exactly; but `get` is meant to be `GET`.
fn known_case(method: &str) -> String {
    let common =
        COMMON_METHODS.iter().find(|common| common.eq_ignore_ascii_case(method) && *method == method.to_lowercase());
    common.map_or(method, |common| common).to_owned()
}

pub(super) fn match_mode(rule: &Object<'_>, log: &mut Log) -> MatchMode {
    match rule.text("match", log) {
        None | Some("full") => MatchMode::Full,
        Some("prefix") => MatchMode::Prefix,
        Some("search") => MatchMode::Search,
        Some(other) => {
            log.problem("match", format!("there is no match `{other}`; write \"full\", \"prefix\" or \"search\""));
            MatchMode::Full
        }
    }
}

pub(super) fn url(rule: &Object<'_>, mode: MatchMode, log: &mut Log) -> Option<Pattern> {
    let Some(written) = rule.text("url", log) else {
        if rule.member("url").is_none() {
            log.problem("url", "is missing; write host/path, such as api.example.com/v1/users");
        }
        return None;
    };
    let url = written.strip_prefix('/').unwrap_or(written);
    if url.is_empty() {
        log.problem("url", "is empty; write host/path, such as api.example.com/v1/users");
        return None;
    }
    if let Some(scheme) = scheme(url) {
        log.problem(
            "url",
            format!("a url is a regex without scheme: drop `{scheme}`; `when.scheme` tells http from https"),
        );
        return None;
    }
    let anchor = match mode {
        MatchMode::Full => Anchor::Whole,
        MatchMode::Prefix => Anchor::Start,
        MatchMode::Search => Anchor::Nowhere,
    };
    let pattern = Pattern::compile(url, anchor).map_err(|error| log.problem("url", format!("the url {error}"))).ok()?;
    warn_of(&pattern, mode, log);
    Some(pattern)
}

/// The scheme that a url begins with, with its `://`.
fn scheme(url: &str) -> Option<&str> {
    let end = url.find("://").map(|at| at + 3).or_else(|| url.find(r":\/\/").map(|at| at + 5))?;
    let scheme = &url[..end];
    let letters = scheme.trim_start_matches('^').split(':').next()?;
    let of_scheme = |byte: u8| byte.is_ascii_alphabetic() || b"?()|:*.".contains(&byte);
    (!letters.is_empty() && letters.bytes().all(of_scheme)).then_some(scheme)
}

fn warn_of(pattern: &Pattern, mode: MatchMode, log: &mut Log) {
    let url = pattern.source();
    if let Some(key) = query_behind_bare_question_mark(url) {
        log.warn("url", format!("a bare `?` makes the character before it optional; for a query write `\\?{key}`"));
    }
    if mode == MatchMode::Search {
        return;
    }
    let host = || pattern.atoms().iter().take_while(|atom| **atom != Atom::Char('/'));
    if host().any(|atom| matches!(atom, Atom::Char(c) if c.is_ascii_uppercase())) {
        log.warn("url", "hosts are compared in lower case; write the host in lower case");
    }
    if !pattern.atoms().iter().any(|atom| matches!(atom, Atom::Star | Atom::Char('/'))) {
        log.warn("url", format!("the url names no path, so it matches no request; write `{url}/.*` for every path"));
    }
}

/// The `key=` that follows a `?` which is neither escaped, in a class, nor the begin of a `(?` group.
fn query_behind_bare_question_mark(url: &str) -> Option<&str> {
    let (mut escaped, mut in_class, mut before) = (false, false, None);
    for (at, c) in url.char_indices() {
        if c == '?' && !escaped && !in_class && before != Some('(') {
            let rest = &url[at + 1..];
            let key = rest.find(|c: char| !c.is_alphanumeric() && !"_-.[]%".contains(c)).unwrap_or(rest.len());
            if key > 0 && rest[key..].starts_with('=') {
                return Some(&rest[..=key]);
            }
        }
        match c {
            '[' if !escaped => in_class = true,
            ']' if !escaped => in_class = false,
            _ => {}
        }
        escaped = c == '\\' && !escaped;
        before = Some(c);
    }
    None
}

pub(super) fn hosts(rule: &Object<'_>, mode: MatchMode, log: &mut Log) -> Vec<Pattern> {
    let value = rule.member("hosts");
    let empty = value.is_none_or(|value| value.as_array().is_some_and(Vec::is_empty));
    match mode {
        MatchMode::Search if empty => {
            let message =
                "match `search` needs `hosts`, a list of host regexes, so that only their connections are looked into";
            log.problem("hosts", message);
        }
        MatchMode::Full | MatchMode::Prefix if !empty => {
            log.problem("hosts", "goes with match `search` only; otherwise the url begins with the host");
        }
        _ => {}
    }
    let Some(value) = value else { return Vec::new() };
    let Some(list) = value.as_array() else {
        log.wrong_type("hosts", "a list of host regexes", value);
        return Vec::new();
    };
    list.iter().enumerate().filter_map(|(nth, host)| self::host(host, &format!("hosts[{nth}]"), log)).collect()
}

fn host(value: &Value, at: &str, log: &mut Log) -> Option<Pattern> {
    let Some(text) = value.as_str().filter(|text| !text.is_empty()) else {
        log.wrong_type(at, "a host regex such as \"api\\\\.example\\\\.com\"", value);
        return None;
    };
    Pattern::compile(text, Anchor::Whole).map_err(|error| log.problem(at, format!("the host {error}"))).ok()
}
