//! The one-line form of a rule: `GET api.example.com/v1 -> 429 x3 delay 4s header "Retry-After: 4" body {}`.

use serde_json::{Map, Value, json};

/// Why a line is no rule. Each says what to type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShorthandError {
    /// There is no `->`.
    #[error("there is no `->`; write METHOD host/path -> STATUS, such as `GET api.example.com/v1/users -> 429 x3`")]
    NoArrow,
    /// Left of the arrow is not `url` or `METHOD url`.
    #[error(
        "`{0}` is not METHOD host/path; write one such as `GET api.example.com/v1/users`, without blanks in the url"
    )]
    Request(String),
    /// Nothing is right of the arrow.
    #[error("nothing stands behind `->`; write a status such as 429, or `forward`")]
    NoAction,
    /// A quote is not closed.
    #[error("the quote in `{0}` is not closed; end it with the same quote")]
    OpenQuote(String),
    /// A word that nothing is known of.
    #[error(
        "`{0}` means nothing here; write a status, forward, xN, delay TIME, header \"Name: value\", type MEDIA, ttl TIME, \
         percent N, priority N, name X, or body TEXT as the last"
    )]
    Word(String),
    /// A word that says again what an earlier one said.
    #[error("`{0}` says anew what stands before it; write one of the two")]
    Again(String),
    /// A word that wants another behind it.
    #[error("`{word}` stands alone; write {example}")]
    NoArgument {
        /// The word.
        word: String,
        /// How it is written.
        example: &'static str,
    },
    /// An argument of the wrong kind.
    #[error("`{argument}` does not go with `{word}`; write {example}")]
    Argument {
        /// The word.
        word: String,
        /// What stands behind it.
        argument: String,
        /// How it is written.
        example: &'static str,
    },
}

/// Reads a line into a rule's JSON, for [`RuleSpec::from_json`](super::RuleSpec::from_json) to check.
///
/// # Errors
/// The first thing that cannot be read, and what to type.
pub fn parse(line: &str) -> Result<Value, ShorthandError> {
    let (request, action) = line.split_once("->").ok_or(ShorthandError::NoArrow)?;
    let mut rule = Map::new();
    read_request(request.trim(), &mut rule)?;
    let mut words = Words(action.trim());
    if words.0.is_empty() {
        return Err(ShorthandError::NoAction);
    }
    while let Some(word) = words.next()? {
        read_word(&word, &mut words, &mut rule)?;
    }
    Ok(Value::Object(rule))
}

fn read_request(request: &str, rule: &mut Map<String, Value>) -> Result<(), ShorthandError> {
    let url = match request.split_whitespace().collect::<Vec<_>>()[..] {
        [url] => url,
        [method, url] => {
            let methods: Vec<&str> = method.split(',').collect();
            rule.insert("method".to_owned(), if let [one] = methods[..] { json!(one) } else { json!(methods) });
            url
        }
        _ => return Err(ShorthandError::Request(request.to_owned())),
    };
    rule.insert("url".to_owned(), json!(url));
    Ok(())
}

/// Takes one word of the action, with what belongs to it.
fn read_word(word: &str, words: &mut Words<'_>, rule: &mut Map<String, Value>) -> Result<(), ShorthandError> {
    let (field, value) = match word {
        "forward" | "backend" => ("call_backend", json!(true)),
        "delay" => ("response_delay", duration(words.argument(word, "delay 4s, or delay 250ms")?)),
        "ttl" => ("ttl", duration(words.argument(word, "ttl 10m")?)),
        "type" => ("response_media_type", json!(words.argument(word, "type application/xml")?)),
        "name" => ("name", json!(words.argument(word, "name \"rate limit\"")?)),
        "percent" => ("percentage", words.number(word, "percent 30")?),
        "priority" => ("priority", words.number(word, "priority 10")?),
        "header" => {
            let header = words.argument(word, HEADER)?;
            return read_header(header, rule);
        }
        "body" => ("response", body(words.rest())),
        _ => read_count_or_status(word)?,
    };
    if rule.insert(field.to_owned(), value).is_some() {
        return Err(ShorthandError::Again(word.to_owned()));
    }
    Ok(())
}

fn read_count_or_status(word: &str) -> Result<(&'static str, Value), ShorthandError> {
    if let Some(count) = word.strip_prefix('x').and_then(|count| count.parse::<u32>().ok()) {
        return Ok(("mock_count", json!(count)));
    }
    word.parse::<u32>().map(|status| ("status_code", json!(status))).map_err(|_| ShorthandError::Word(word.to_owned()))
}

const HEADER: &str = "header \"Retry-After: 4\"";

fn read_header(header: String, rule: &mut Map<String, Value>) -> Result<(), ShorthandError> {
    let Some((name, value)) = header.split_once(':') else {
        return Err(ShorthandError::Argument { word: "header".to_owned(), argument: header, example: HEADER });
    };
    let headers = rule.entry("response_headers").or_insert_with(|| json!({}));
    let value = json!(value.trim());
    match headers.get_mut(name.trim()) {
        Some(Value::Array(values)) => values.push(value),
        Some(first) => *first = json!([first.take(), value]),
        None => headers[name.trim()] = value,
    }
    Ok(())
}

/// A bare number is seconds.
fn duration(text: String) -> Value {
    text.parse::<f64>().map_or_else(|_| json!(text), Value::from)
}

fn body(text: &str) -> Value {
    let json = serde_json::from_str::<Value>(text).ok();
    json.filter(|json| json.is_object() || json.is_array()).unwrap_or_else(|| json!(text))
}

/// What of the line is still to be read.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    /// The next word, or what is between two quotes.
    fn next(&mut self) -> Result<Option<String>, ShorthandError> {
        let line = self.0.trim_start();
        let Some(first) = line.chars().next() else { return Ok(None) };
        let (word, rest) = if matches!(first, '"' | '\'') {
            line[1..].split_once(first).ok_or_else(|| ShorthandError::OpenQuote(line.to_owned()))?
        } else {
            line.split_at(line.find(char::is_whitespace).unwrap_or(line.len()))
        };
        self.0 = rest;
        Ok(Some(word.to_owned()))
    }

    fn argument(&mut self, word: &str, example: &'static str) -> Result<String, ShorthandError> {
        self.next()?.ok_or_else(|| ShorthandError::NoArgument { word: word.to_owned(), example })
    }

    fn number(&mut self, word: &str, example: &'static str) -> Result<Value, ShorthandError> {
        let argument = self.argument(word, example)?;
        match argument.trim_end_matches('%').parse::<serde_json::Number>() {
            Ok(number) => Ok(Value::Number(number)),
            Err(_) => Err(ShorthandError::Argument { word: word.to_owned(), argument, example }),
        }
    }

    fn rest(&mut self) -> &'a str {
        std::mem::take(&mut self.0).trim()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::RuleSpec;

    #[track_caller]
    fn check(line: &str, rule: Value) {
        assert_eq!(parse(line).as_ref(), Ok(&rule), "{line}");
        RuleSpec::from_json(&rule, jiff::Timestamp::UNIX_EPOCH).expect("a valid rule");
    }

    #[track_caller]
    fn refuse(line: &str, says: &str) {
        let error = parse(line).expect_err("refused").to_string();
        assert!(error.contains(says), "{line}: {error}");
    }

    #[test]
    fn reads_every_word() {
        check(
            r#"GET api.customer.io/v1/activities -> 429 x3 delay 4s header "Retry-After: 4" body {}"#,
            json!({"method": "GET", "url": "api.customer.io/v1/activities", "status_code": 429, "mock_count": 3,
                   "response_delay": "4s", "response_headers": {"Retry-After": "4"}, "response": {}}),
        );
        check("a.b/.* -> forward", json!({"url": "a.b/.*", "call_backend": true}));
        check(
            "GET,POST a.b/c -> backend 503",
            json!({"method": ["GET", "POST"], "url": "a.b/c", "call_backend": true, "status_code": 503}),
        );
        check(
            "a.b/c -> 200 type application/xml ttl 10m percent 12.5 priority -1 name 'two words' delay 0.5 body <a> x </a>",
            json!({"url": "a.b/c", "status_code": 200, "response_media_type": "application/xml", "ttl": "10m", "percentage": 12.5,
                   "priority": -1, "name": "two words", "response_delay": 0.5, "response": "<a> x </a>"}),
        );
        check(
            r#"a.b/c -> 200 header "Set-Cookie: a=1" header "Set-Cookie: b=2" header Via:x body -> 5"#,
            json!({"url": "a.b/c", "status_code": 200, "response_headers": {"Set-Cookie": ["a=1", "b=2"], "Via": "x"}, "response": "-> 5"}),
        );
    }

    #[test]
    fn says_what_to_type() {
        refuse("GET a.b/c 429", "no `->`");
        refuse("-> 429", "METHOD host/path");
        refuse("GET a b -> 429", "without blanks");
        refuse("a/b ->", "a status");
        refuse("a/b -> 429 slow", "`slow` means nothing");
        refuse("a/b -> 429 delay", "delay 4s");
        refuse("a/b -> 429 x3 503", "`503` says anew");
        refuse("a/b -> 429 forward backend", "`backend` says anew");
        refuse("a/b -> 429 percent many", "percent 30");
        refuse("a/b -> 429 header Retry-After", "Retry-After: 4");
        refuse("a/b -> 429 name \"x", "not closed");
    }
}
