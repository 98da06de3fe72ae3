//! `[scopes]`: which containers opt themselves in.

use toml::Value;

use super::Problem;
use super::raw::{Section, Setting};
use crate::scope::spec::Label;

/// The label by which containers opt themselves in unless another is set.
const LABEL: &str = "moxie.intercept=true";

/// What opts itself in.
#[derive(Clone, Debug)]
pub struct Scopes {
    /// `label`: containers with it are opted in without a scope; `moxie.intercept=true` unless set, `""` for none.
    pub label: Option<Label>,
}

impl TryFrom<Section> for Scopes {
    type Error = Vec<Problem>;

    fn try_from(mut raw: Section) -> Result<Self, Self::Error> {
        let Chosen(label) = raw.take("label").unwrap_or_else(|| Chosen(Label::parse(LABEL).ok()));
        raw.finish(Self { label })
    }
}

struct Chosen(Option<Label>);

impl Setting for Chosen {
    fn read(value: &Value) -> Result<Self, String> {
        let text = String::read(value)?;
        if text.is_empty() {
            return Ok(Self(None));
        }
        Label::parse(&text).map(|label| Self(Some(label))).map_err(|message| format!("is {value}: {message}"))
    }
}
