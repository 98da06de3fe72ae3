//! `moxie ca env`: the variables and mounts that bring trust about, in the form that whatever starts the program takes.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{cdi, container, record, unit};
use crate::cli::Context;
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::tls::trust::{self, Place, Trust, View};

/// Where images keep their bundle, for those that nothing is known about: Debian and Alpine, Red Hat.
const IMAGE_BUNDLES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    form: Form,
    /// With --systemd: for this unit, with its own variables and roots continued
    #[arg(long, value_name = "NAME", requires = "systemd")]
    unit: Option<String>,
    /// With --docker or --compose: for a container like this running one, with its own variables and roots continued
    #[arg(long, value_name = "NAME", conflicts_with_all = ["shell", "systemd", "cdi"])]
    container: Option<String>,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct Form {
    /// As `export` lines, for a shell; otherwise as KEY=VALUE lines, for EnvironmentFile= or --env-file
    #[arg(long)]
    shell: bool,
    /// As a drop-in for a unit
    #[arg(long)]
    systemd: bool,
    /// As options for `docker run` or `podman run`, one a line
    #[arg(long)]
    docker: bool,
    /// As an override file for Compose, for these services; may be repeated
    #[arg(long, value_name = "SERVICE")]
    compose: Vec<String>,
    /// As a specification of the Container Device Interface
    #[arg(long)]
    cdi: bool,
}

pub(super) fn run(arguments: &Arguments, authority: &str, trust: &Path, context: &Context) -> Result<(), Failure> {
    let form = &arguments.form;
    if arguments.container.is_some() && !form.docker && form.compose.is_empty() {
        return Err(Failure::usage("--container goes with --docker or with --compose SERVICE"));
    }
    let of_container = || match &arguments.container {
        Some(name) => container::like(name, authority, trust).map(|(set, dir)| (mounts(&set, &dir), set)),
        None => handed_to_any(authority, trust).map(|set| (mounts(&set, &any_container(trust)), set)),
    };
    let text = match &arguments.unit {
        Some(name) => unit::drop_in_text(name, authority, trust)?,
        None if form.systemd => {
            let dir = trust.join("any-unit");
            let prepared = prepare(Place { dir: &dir, shown: &dir, view: &View::Host }, authority, |_| None)?;
            unit::plain_drop_in(&prepared, &dir)?
        }
        None if form.docker => of_container().map(|(mounts, set)| options(&mounts, &set))?,
        None if !form.compose.is_empty() => {
            of_container().map(|(mounts, set)| compose(&form.compose, &mounts, &set))?
        }
        None if form.cdi => format!("{:#}", cdi::specification(&handed_to_any(authority, trust)?, trust)),
        None => {
            let place = Place { dir: trust, shown: trust, view: &View::Host };
            let prepared = prepare(place, authority, |name| context.env.text(name))?;
            let lines = prepared.variables.iter().map(|(name, value)| line(name, value, form.shell));
            lines.collect::<Vec<_>>().join("\n")
        }
    };
    output::print(text.trim_end())
}

fn prepare(place: Place<'_>, authority: &str, preset: impl Fn(&str) -> Option<String>) -> Result<Trust, Failure> {
    let prepared = trust::prepare_at(place, authority, preset)
        .map_err(|error| Failure::because("cannot write the bundle of roots", &error))?;
    prepared.warnings.iter().for_each(|warning| output::note(warning));
    Ok(prepared)
}

/// The trust set that every container may share.
pub(super) fn any_container(trust: &Path) -> PathBuf {
    trust.join("any-container")
}

/// Made of the host's roots, since nothing is known of an image before it runs.
pub(super) fn for_any_container(authority: &str, trust: &Path) -> Result<Trust, Failure> {
    let dir = any_container(trust);
    let mut prepared =
        prepare(Place { dir: &dir, shown: Path::new(super::SHOWN), view: &View::Host }, authority, |_| None)?;
    let bundle = dir.join("bundle.pem");
    prepared.binds = IMAGE_BUNDLES.iter().map(|over| (bundle.clone(), PathBuf::from(over))).collect();
    Ok(prepared)
}

fn handed_to_any(authority: &str, trust: &Path) -> Result<Trust, Failure> {
    let set = for_any_container(authority, trust)?;
    hand_out(&any_container(trust));
    Ok(set)
}

/// Notes that a trust set was handed out, so that what was installed and is undone does not take it along.
pub(super) fn hand_out(dir: &Path) {
    let mark = mark(dir);
    if !mark.exists() {
        // Who may not write may still read what is there.
        let _ = record::write_public(&mark, "");
    }
}

/// Whether a trust set was handed out: programs that nothing was installed for may use it.
pub(super) fn is_handed_out(dir: &Path) -> bool {
    mark(dir).exists()
}

fn mark(dir: &Path) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(".handed-out");
    name.into()
}

/// What is mounted where: the set itself, and its bundle over the image's.
pub(super) fn mounts(set: &Trust, dir: &Path) -> Vec<(PathBuf, PathBuf)> {
    let files = (dir.to_path_buf(), PathBuf::from(super::SHOWN));
    std::iter::once(files).chain(set.binds.iter().cloned()).collect()
}

fn line(name: &str, value: &str, shell: bool) -> String {
    if shell { format!("export {name}={}", quoted(value)) } else { format!("{name}={value}") }
}

/// One word for a shell.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

fn options(mounts: &[(PathBuf, PathBuf)], set: &Trust) -> String {
    let mounts = mounts
        .iter()
        .map(|(host, inside)| format!("--volume {}", quoted(&format!("{}:{}:ro", host.display(), inside.display()))));
    let variables = set.variables.iter().map(|(name, value)| format!("--env {}", quoted(&format!("{name}={value}"))));
    mounts.chain(variables).collect::<Vec<_>>().join(" \\\n")
}

/// YAML takes a JSON text for a quoted one; `$` would name a variable of Compose.
fn compose(services: &[String], mounts: &[(PathBuf, PathBuf)], set: &Trust) -> String {
    let text = |value: &str| serde_json::Value::from(value.replace('$', "$$")).to_string();
    let variables: String =
        set.variables.iter().map(|(name, value)| format!("      {name}: {}\n", text(value))).collect();
    let mounts: String = mounts
        .iter()
        .map(|(host, inside)| {
            let (host, inside) = (text(&host.to_string_lossy()), text(&inside.to_string_lossy()));
            format!("      - {{type: bind, source: {host}, target: {inside}, read_only: true}}\n")
        })
        .collect();
    let services = services
        .iter()
        .map(|service| format!("  {}:\n    environment:\n{variables}    volumes:\n{mounts}", text(service)));
    format!("# docker compose -f compose.yaml -f THIS_FILE up --detach\nservices:\n{}", services.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> Trust {
        Trust {
            variables: vec![("A".into(), "it's $x".into()), ("B".into(), "-Da=\"b\"".into())],
            binds: vec![("/t/bundle.pem".into(), "/etc/ssl/cert.pem".into())],
            warnings: vec![],
            freshness: trust::Freshness::Changed,
        }
    }

    #[test]
    fn a_shell_reads_the_value_back() {
        assert_eq!(line("A", "/x/b.pem", false), "A=/x/b.pem");
        assert_eq!(line("A", "it's", true), r"export A='it'\''s'");
    }

    #[test]
    fn options_read_back_as_words() {
        let words = shlex::split(&options(&mounts(&set(), Path::new("/t")), &set())).unwrap();
        let expected = [
            ["--volume", "/t:/etc/moxie/trust:ro"],
            ["--volume", "/t/bundle.pem:/etc/ssl/cert.pem:ro"],
            ["--env", "A=it's $x"],
            ["--env", "B=-Da=\"b\""],
        ];
        assert_eq!(words, expected.concat());
    }

    #[test]
    fn compose_gets_every_service_and_no_variable_of_its_own() {
        let text = compose(&["web".into(), "worker".into()], &mounts(&set(), Path::new("/t")), &set());
        assert_eq!(
            text.matches("    environment:\n      A: \"it's $$x\"\n      B: \"-Da=\\\"b\\\"\"\n").count(),
            2,
            "{text}"
        );
        assert!(text.contains("  \"web\":\n") && text.contains("  \"worker\":\n"), "{text}");
        assert!(text.contains("{type: bind, source: \"/t\", target: \"/etc/moxie/trust\", read_only: true}"), "{text}");
    }
}
