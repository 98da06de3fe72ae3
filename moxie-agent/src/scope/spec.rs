//! What a user opts in: a target, and how much of its traffic comes to the agent.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::rules::HostList;

/// Opaque name of a scope.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct ScopeId(pub String);

impl fmt::Display for ScopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What of a scope's traffic has to come to the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Only what an enabled rule can name.
    #[default]
    Rules,
    /// Everything; TLS that no rule names is not touched.
    Observe,
    /// Everything; TLS is ended for the hosts on a list, and for those that rules name.
    Inspect,
}

impl Mode {
    /// The mode of this name, as the API and labels write it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "rules" => Some(Self::Rules),
            "observe" => Some(Self::Observe),
            "inspect" => Some(Self::Inspect),
            _ => None,
        }
    }

    /// Whether every connection has to come, whatever rules there are.
    #[must_use]
    pub fn wants_all(self) -> bool {
        match self {
            Self::Rules => false,
            Self::Observe | Self::Inspect => true,
        }
    }
}

impl fmt::Display for Mode {
    /// As the API writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rules => "rules",
            Self::Observe => "observe",
            Self::Inspect => "inspect",
        })
    }
}

/// What is opted in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// A cgroup v2 directory, absolute, with everything below it.
    Cgroup(String),
    /// A systemd unit by its full name (`shop.service`, `shop.slice`), now and whenever it starts again.
    Unit(UnitName),
    /// A container by its name, its id or at least the first eight digits of that, now and whenever it starts again.
    Container(String),
    /// Every container with this label, `KEY=VALUE` or `KEY`, now and later.
    Label(Label),
    /// A process and its descendants, moved into a cgroup of their own.
    Pid(u32),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cgroup(path) => write!(f, "cgroup {path}"),
            Self::Unit(unit) => write!(f, "unit {}", unit.as_str()),
            Self::Container(container) => write!(f, "container {container}"),
            Self::Label(label) => write!(f, "label {}", label.as_str()),
            Self::Pid(pid) => write!(f, "pid {pid}"),
        }
    }
}

/// What a user asks for: one target, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeSpec {
    /// What.
    pub target: Target,
    /// How much of it.
    pub mode: Mode,
    /// Hosts whose TLS is ended in mode `inspect`; empty in every other.
    pub inspect: Arc<HostList>,
    /// Whether UDP to port 443 is refused where TCP to it is diverted; `None`: as the configuration says.
    pub refuse_quic: Option<bool>,
}

impl ScopeSpec {
    /// `target`, with everything else as it is unless asked for.
    #[must_use]
    pub fn of(target: Target) -> Self {
        Self { target, mode: Mode::default(), inspect: Arc::default(), refuse_quic: None }
    }
}

/// The full name of a unit that has processes: what its cgroup directory is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct UnitName(String);

/// Kinds of units that have a cgroup (systemd.unit(5)).
const KINDS: [&str; 6] = [".service", ".slice", ".scope", ".socket", ".mount", ".swap"];

/// Bytes of a unit's name with its kind (systemd.unit(5)); a directory's name has no more either.
const LONGEST_UNIT: usize = 255;

impl UnitName {
    /// A unit's name as systemctl takes it: one without a kind is a service.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(name: &str) -> Result<Self, String> {
        if name.is_empty() || name.contains(['/', '\n', '\0']) {
            return Err("write a unit's name, such as \"shop.service\"; a path is a `cgroup`".into());
        }
        if name.contains(|char: char| char.is_whitespace() || char.is_control()) {
            return Err("a unit's name has no blanks and no control characters: write it as `systemctl` lists it, such as \"shop.service\"".into());
        }
        if name.len() > LONGEST_UNIT {
            return Err(format!(
                "a unit's name has at most {LONGEST_UNIT} bytes: write it as `systemctl` lists it, such as \"shop.service\""
            ));
        }
        if name.contains(['*', '?', '[']) {
            return Err(format!("`{name}` is a pattern; write one unit, or the slice that holds them all"));
        }
        if !name.bytes().all(is_in_unit_names) {
            return Err("a unit's name has ASCII letters and digits, and `:`, `-`, `_`, `.`, `\\` and `@`: write it as `systemctl` lists it, \
                 such as \"shop.service\"; `systemd-escape` tells how others are written"
                .into());
        }
        if let Some(kind) = KINDS.iter().find(|kind| name.ends_with(*kind)) {
            check_prefix(name.strip_suffix(kind).unwrap_or(name), kind)?;
            return Ok(Self(name.to_owned()));
        }
        if [".timer", ".target", ".path", ".device", ".automount"].iter().any(|kind| name.ends_with(kind)) {
            return Err(format!("`{name}` has no processes; write the service that it starts"));
        }
        Self::parse(&format!("{name}.service"))
    }

    /// As systemd writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What systemd's `VALID_CHARS_WITH_AT` has.
fn is_in_unit_names(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'-' | b'_' | b'.' | b'\\' | b'@')
}

/// Refuses what stands before a unit's kind in no unit's name, and the root slice.
fn check_prefix(prefix: &str, kind: &str) -> Result<(), String> {
    let name = format!("{prefix}{kind}");
    if prefix.is_empty() || prefix.starts_with('@') {
        return Err(format!("`{name}` has no name before its kind: write it whole, such as \"shop{kind}\""));
    }
    if kind == ".slice" {
        return check_slice(prefix, &name);
    }
    match prefix.split_once('@') {
        Some((template, "")) => Err(format!(
            "`{name}` is a template, which has no processes; write one of its units, such as \"{template}@1{kind}\", or the slice that \
             holds them all"
        )),
        _ => Ok(()),
    }
}

/// Slices are neither templates nor of one, and hyphens in their names stand between those around them (systemd.slice(5)).
fn check_slice(prefix: &str, name: &str) -> Result<(), String> {
    if prefix == "-" {
        return Err(format!(
            "`{name}` is the root of all units, and has the agent in it; write one below it, such as \"system.slice\""
        ));
    }
    if prefix.contains('@') || prefix.split('-').any(str::is_empty) {
        return Err(format!(
            "`{name}` cannot be a slice: it has no `@`, and hyphens only between names, such as \"shop-web.slice\" in \"shop.slice\""
        ));
    }
    Ok(())
}

/// Names that one of a pod's containers is told by: `NAMESPACE/POD/CONTAINER`.
const NAMES_IN_POD: usize = 3;

/// A container's name or id: a letter or digit, then these, dots, hyphens and underscores, which is what the runtimes allow; or three
/// such names with slashes between them, for one of a pod's.
///
/// # Errors
/// What to write instead.
pub fn container_name(name: &str) -> Result<String, String> {
    let names = name.split('/').count();
    if matches!(names, 1 | NAMES_IN_POD) && name.split('/').all(is_container_name) {
        return Ok(name.to_owned());
    }
    Err("write a container's name or id, such as \"shop\": letters and digits, and behind the first one also `_`, `.` and `-`; or one of \
         a pod's as NAMESPACE/POD/CONTAINER"
        .into())
}

fn is_container_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric();
    name.bytes().next().is_some_and(is_plain)
        && name.bytes().all(|byte| is_plain(byte) || matches!(byte, b'_' | b'.' | b'-'))
}

/// A label that containers have: a key, and the value it must have if one is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct Label(String);

impl Label {
    /// `KEY=VALUE`, or `KEY` for any value.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let key = text.split_once('=').map_or(text, |(key, _)| key);
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err("write a label as KEY=VALUE, or KEY for any value".into());
        }
        if text.contains(char::is_control) {
            return Err("a label has no control characters: write it as KEY=VALUE, or KEY for any value".into());
        }
        Ok(Self(text.to_owned()))
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether something with this label's `value` for a key (`None`: without the key) has it.
    pub(super) fn is_had_by<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> bool {
        match self.0.split_once('=') {
            Some((key, wanted)) => value(key) == Some(wanted),
            None => value(&self.0).is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_without_a_kind_is_a_service() {
        let parsed = |name: &str| UnitName::parse(name).map(|unit| unit.as_str().to_owned());
        assert_eq!(parsed("shop").as_deref(), Ok("shop.service"));
        assert_eq!(parsed("shop.v2").as_deref(), Ok("shop.v2.service"));
        assert_eq!(parsed("worker@3.service").as_deref(), Ok("worker@3.service"));
        assert_eq!(parsed("shop.slice").as_deref(), Ok("shop.slice"));
        assert_eq!(parsed("FOO.Service").as_deref(), Ok("FOO.Service.service"), "a kind is in small letters");
        for name in [
            r"system-worker\x2da.slice",
            r"dev-disk-by\x2duuid-a.swap",
            "user@1000.service",
            "a@b@c:1.socket",
            "-.mount",
        ] {
            assert_eq!(parsed(name).as_deref(), Ok(name));
        }
        let longest = "u".repeat(LONGEST_UNIT - ".service".len());
        assert!(parsed(&longest).is_ok());
        for (name, says) in [
            ("", "shop.service"),
            ("a/b", "cgroup"),
            ("w@*", "pattern"),
            ("daily.timer", "no processes"),
            ("my shop", "no blanks"),
            ("shop\t.service", "no blanks"),
            ("shop\u{1b}[2J", "control characters"),
            (&format!("{longest}u"), "at most 255 bytes"),
            ("foo#.service", "`systemctl` lists it"),
            ("foo$", "`systemctl` lists it"),
            ("shöp", "`systemd-escape`"),
            (".service", "\"shop.service\""),
            (".scope", "\"shop.scope\""),
            ("@.service", "\"shop.service\""),
            ("@1", "\"shop.service\""),
            ("foo@.service", "\"foo@1.service\""),
            ("foo@", "\"foo@1.service\""),
            ("-.slice", "\"system.slice\""),
            ("-shop.slice", "cannot be a slice"),
            ("shop-.slice", "cannot be a slice"),
            ("a--b.slice", "cannot be a slice"),
            ("a@1.slice", "cannot be a slice"),
        ] {
            assert!(parsed(name).is_err_and(|text| text.contains(says)), "{name:?}");
        }
    }

    #[test]
    fn a_container_is_named_as_runtimes_name_them() {
        for name in
            ["shop", "5e3a", "a", "shop_1.web-2", &"3f".repeat(32), "default/web-7d9f/app", "kube-system/a.b/c_1"]
        {
            assert_eq!(container_name(name).as_deref(), Ok(name));
        }
        for name in [
            "",
            "/shop",
            "my shop",
            "-shop",
            "_shop",
            "shop\n",
            "sh\u{1b}op",
            "shöp",
            "a=b",
            "default/web",
            "a/b/c/d",
            "a//c",
            "a/b/",
            "/b/c",
            "a/-b/c",
        ] {
            assert!(container_name(name).is_err_and(|text| text.contains("such as \"shop\"")), "{name:?}");
        }
    }

    #[test]
    fn a_label_is_had_with_its_value_or_with_any() {
        let has = |label: &str| Label::parse(label).unwrap().is_had_by(|key| (key == "team").then_some("pay=ments"));
        assert!(has("team"));
        assert!(has("team=pay=ments"));
        assert!(!has("team=pay"));
        assert!(!has("team="));
        assert!(!has("tea"));
        for text in ["", "=x", "a\u{1b}=c", "a=b\u{7}c", "a=b\nc", "a b=c"] {
            assert!(Label::parse(text).is_err(), "{text:?}");
        }
    }
}
