//! `moxie off`, `moxie on`: the kill switch.

use http::Method;
use serde_json::json;

use super::client::Client;
use super::exit::{Exit, Failure};
use super::{Context, output};

/// Where new connections go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Divert {
    /// Direct, every one.
    Off,
    /// To the agent, where they are opted in.
    On,
}

pub(super) async fn run(divert: Divert, context: &Context) -> Result<Exit, Failure> {
    let body = json!({"enabled": divert == Divert::On});
    Client::locate(context)?.call(Method::PUT, "/api/v1/divert", Some(&body)).await?;
    output::print(match divert {
        Divert::Off => "off: every new connection goes direct; `moxie on` undoes this",
        Divert::On => "on: new connections of the scopes come to the agent",
    })?;
    Ok(Exit::Done)
}
