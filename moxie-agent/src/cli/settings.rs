//! Reading the configuration for a command: the file, the environment, the flags.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;

use super::Context;
use super::exit::Failure;
use crate::config::{self, Config, Flags, Invalid};
use crate::paths::{self, StateDir};

/// Where the configuration file is; commands that start an agent take it.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct ConfigFile {
    /// Configuration file [default: /etc/moxie/moxie.toml, if it exists]
    #[arg(long, env = "MOXIE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    /// Whether a file was named, by flag or variable.
    pub(super) fn is_given(&self) -> bool {
        self.config.is_some()
    }
}

/// The configuration, valid.
pub(super) fn load(file: &ConfigFile, flags: &Flags, context: &Context) -> Result<Config, Failure> {
    let text = read(file)?;
    config::read(&text, |name| context.env.text(name), flags).map_err(|Invalid(problems)| {
        Failure::usage("the configuration is not valid").details(problems.iter().map(ToString::to_string))
    })
}

/// A word for each variable that looks like Moxie's and is none.
pub(super) fn warn_of_unknown_variables(context: &Context) {
    for warning in config::unknown_variables(context.env.names()) {
        super::output::note(&warning);
    }
}

/// The state directory that the command line and the environment name.
pub(super) fn state_dir(context: &Context) -> StateDir {
    StateDir::locate(context.global.state_dir.as_deref(), |name| context.env.text(name))
}

/// URL of the store: the configured one, else a file in the state directory.
pub(super) fn store_url(config: &Config, state: &StateDir) -> String {
    let configured = config.store.url.as_ref().map(|url| url.expose().to_owned());
    configured.unwrap_or_else(|| format!("sqlite://{}", state.database().display()))
}

fn read(file: &ConfigFile) -> Result<String, Failure> {
    let path = file.config.as_deref().unwrap_or(Path::new(paths::CONFIG_FILE));
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == ErrorKind::NotFound && file.config.is_none() => Ok(String::new()),
        Err(error) => Err(Failure::because(format_args!("cannot read {}", path.display()), &error)),
    }
}
