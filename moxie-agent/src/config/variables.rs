//! The `MOXIE_*` variables: what each sets, and a word about those that set nothing.

use toml::Value;

use super::suggest;

/// What a variable's text stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The text itself.
    Text,
    /// A whole number.
    Number,
    /// A list, its entries separated by this character.
    List(char),
}

/// One variable.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// The key it sets; `None` for those the command line reads itself.
    pub key: Option<&'static str>,
    /// How its text is read.
    pub shape: Shape,
}

const fn sets(name: &'static str, key: &'static str, shape: Shape) -> Variable {
    Variable { name, key: Some(key), shape }
}

const fn read_by_the_command_line(name: &'static str) -> Variable {
    Variable { name, key: None, shape: Shape::Text }
}

/// Every variable that Moxie reads; the guide's page on configuration lists the same.
pub const VARIABLES: [Variable; 14] = [
    sets("MOXIE_ENVIRONMENT", "environment", Shape::Text),
    sets("MOXIE_ADMIN_ADDR", "admin.addr", Shape::Text),
    sets("MOXIE_ADMIN_HOSTS", "admin.hosts", Shape::List(',')),
    sets("MOXIE_TOKEN", "admin.token", Shape::Text),
    sets("MOXIE_STORE", "store.url", Shape::Text),
    sets("MOXIE_VIA", "divert.via", Shape::Text),
    sets("MOXIE_PROXY", "divert.proxy", Shape::Text),
    sets("MOXIE_UPSTREAM_CA", "tls.upstream_ca", Shape::List(':')),
    sets("MOXIE_SEED", "rules.seed", Shape::Number),
    sets("MOXIE_LOG", "log.filter", Shape::Text),
    sets("MOXIE_LOG_FORMAT", "log.format", Shape::Text),
    read_by_the_command_line("MOXIE_CONFIG"),
    read_by_the_command_line("MOXIE_STATE_DIR"),
    read_by_the_command_line("MOXIE_URL"),
];

impl Shape {
    pub(super) fn value(self, text: &str) -> Value {
        let string = || Value::String(text.to_owned());
        match self {
            Self::Text => string(),
            // What is no number stays a text, which the setting then refuses by name.
            Self::Number => text.parse().map_or_else(|_| string(), Value::Integer),
            Self::List(separator) => {
                let entries = text.split(separator).map(str::trim).filter(|entry| !entry.is_empty());
                Value::Array(entries.map(|entry| Value::String(entry.to_owned())).collect())
            }
        }
    }
}

/// A warning for each of `names` that looks like a variable of Moxie's but is none.
pub fn unknown_variables<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let known: Vec<&str> = VARIABLES.iter().map(|variable| variable.name).collect();
    let unknown = names.into_iter().filter(|name| name.starts_with("MOXIE_") && !known.contains(name));
    unknown.map(|name| format!("{name} sets nothing{}", suggest::did_you_mean(name, &known))).collect()
}
