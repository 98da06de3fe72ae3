//! `moxie man`: the manual page, with every command on it.

use super::exit::{Exit, Failure};
use super::output;

pub(super) fn run(command: &clap::Command) -> Result<Exit, Failure> {
    let page = page(command).map_err(|error| Failure::because("cannot render the page", &error))?;
    output::print(page.trim_end())?;
    Ok(Exit::Done)
}

/// The page, in roff.
pub(super) fn page(command: &clap::Command) -> std::io::Result<String> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    for (path, sub) in leaves(command, "moxie") {
        let sub = clap_mangen::Man::new(sub.clone().bin_name(path.clone()));
        page.extend_from_slice(format!(".SH \"{}\"\n", path.to_uppercase()).as_bytes());
        sub.render_description_section(&mut page)?;
        sub.render_options_section(&mut page)?;
    }
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// Every command that does something, with the words that name it.
fn leaves<'a>(command: &'a clap::Command, path: &str) -> Vec<(String, &'a clap::Command)> {
    let subs = command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help");
    subs.flat_map(|sub| {
        let path = format!("{path} {}", sub.get_name());
        let below = leaves(sub, &path);
        if below.is_empty() { vec![(path, sub)] } else { below }
    })
    .collect()
}
