//! `moxie ca show|env|install|uninstall`: making programs trust the authority.

mod install;

use clap::Subcommand;

use super::client::Client;
use super::exit::{Exit, Failure};
use super::{Context, output, settings};
use crate::tls::trust;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the authority's certificate (PEM)
    Show,
    /// Print variables that make the common runtimes trust the authority: eval "$(moxie ca env --shell)"
    Env {
        /// As `export` lines, for a shell; otherwise as KEY=VALUE lines, for EnvironmentFile= or --env-file
        #[arg(long)]
        shell: bool,
    },
    /// Add the authority to the host's own roots
    Install,
    /// Take the authority out of the host's own roots
    Uninstall,
}

pub(super) async fn run(command: Command, context: &Context) -> Result<Exit, Failure> {
    match command {
        Command::Show => output::print(authority(context).await?.trim_end())?,
        Command::Env { shell } => env(shell, context).await?,
        Command::Install => install::install(&authority(context).await?)?,
        Command::Uninstall => install::uninstall()?,
    }
    Ok(Exit::Done)
}

/// The authority's certificate: from the state directory of this host, else from the agent.
async fn authority(context: &Context) -> Result<String, Failure> {
    if context.global.url.is_none() {
        let file = settings::state_dir(context).authority().join("ca.pem");
        if let Ok(pem) = std::fs::read_to_string(file) {
            return Ok(pem);
        }
    }
    Client::locate(context)?.text("/api/v1/ca.pem").await
}

async fn env(shell: bool, context: &Context) -> Result<(), Failure> {
    let pem = authority(context).await?;
    let dir = settings::state_dir(context).root().join("trust");
    let trust = trust::prepare(&pem, &dir, |name| context.env.text(name))
        .map_err(|error| Failure::because("cannot write the bundle of roots", &error))?;
    for warning in &trust.warnings {
        output::note(warning);
    }
    let lines = trust.variables.iter().map(|(name, value)| line(name, value, shell));
    output::print(&lines.collect::<Vec<_>>().join("\n"))
}

fn line(name: &str, value: &str, shell: bool) -> String {
    if shell { format!("export {name}='{}'", value.replace('\'', r"'\''")) } else { format!("{name}={value}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_the_value_back() {
        assert_eq!(line("A", "/x/b.pem", false), "A=/x/b.pem");
        assert_eq!(line("A", "it's", true), r"export A='it'\''s'");
    }
}
