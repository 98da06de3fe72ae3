//! `moxie openapi` (hidden): the OpenAPI description, for `docs/openapi.json`.

use super::exit::{Exit, Failure};
use super::output;

pub(super) fn run() -> Result<Exit, Failure> {
    let json = crate::admin::openapi().to_pretty_json();
    output::print(&json.map_err(|error| Failure::because("cannot write the description", &error))?)?;
    Ok(Exit::Done)
}
