//! Which environment this host belongs to, and whether the daemon may run there.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use toml::Value;

use super::raw::Setting;

/// Names of environments that the daemon stays out of, compared without regard to case.
const REFUSED: [&str; 3] = ["prod", "production", "live"];

/// The name of an environment: `dev`, `stg`, …
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment(String);

/// Why the daemon does not start in this environment.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// Nobody said which environment this is.
    #[error("no environment is named, and Moxie changes the calls of services only where someone said it may")]
    Unnamed,
    /// It is one where services have users.
    #[error("the environment is called {0}, and Moxie does not change the calls of services there")]
    Refused(Environment),
    /// The override exists, but someone other than root could have written it.
    #[error("the override {0} does not count: it must be a file that belongs to root and that nobody else may write")]
    Override(PathBuf),
}

impl Environment {
    /// The name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn is_refused(&self) -> bool {
        REFUSED.iter().any(|name| self.0.eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Setting for Environment {
    fn read(value: &Value) -> Result<Self, String> {
        let name = value.as_str().map(str::trim).filter(|name| !name.is_empty());
        name.map(|name| Self(name.to_owned()))
            .ok_or_else(|| format!("is {value}: write a name, such as \"dev\" or \"stg\""))
    }
}

/// Whether the daemon may start in `environment`; `override_file` lets it start anywhere if only root could have made it.
///
/// # Errors
/// Why not.
pub fn admit(environment: Option<&Environment>, override_file: &Path) -> Result<(), EnvironmentError> {
    let refusal = match environment {
        Some(environment) if !environment.is_refused() => return Ok(()),
        Some(environment) => EnvironmentError::Refused(environment.clone()),
        None => EnvironmentError::Unnamed,
    };
    match std::fs::symlink_metadata(override_file) {
        Ok(file) if file.is_file() && file.uid() == 0 && file.mode() & 0o022 == 0 => Ok(()),
        Ok(_) => Err(EnvironmentError::Override(override_file.to_path_buf())),
        Err(_) => Err(refusal),
    }
}
