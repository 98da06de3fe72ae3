//! How much of the host the unit leaves to the agent, by systemd's own reckoning; it may only become less.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::command;

const UNIT: &str = "systemd/moxie.service";
/// In tenths, from 0 (locked in) to 100 (root's own shell); measured with systemd 252.
const BUDGET: u32 = 34;

/// Says so if the unit is more exposed than it has to be.
pub(super) fn check() -> Result<Option<String>> {
    let tenths = measure(Path::new(UNIT))?;
    let said = |tenths| format!("{}.{}", tenths / 10, tenths % 10);
    let over =
        format!("{UNIT}: its exposure is {} and may be {} (systemd-analyze security)", said(tenths), said(BUDGET));
    Ok((tenths > BUDGET).then_some(over))
}

fn measure(unit: &Path) -> Result<u32> {
    ensure!(command::is_installed("systemd-analyze"), "systemd-analyze is not installed: cargo xtask setup");
    let mut analyze = command::program("systemd-analyze");
    analyze.args(["security", "--offline=true", "--no-pager"]).arg(unit);
    let output = analyze.output().context("cannot run systemd-analyze")?;
    let told = String::from_utf8_lossy(&output.stdout);
    exposure(&told).with_context(|| format!("systemd-analyze tells no exposure: {told}"))
}

/// The figure of the last line, `→ Overall exposure level for moxie.service: 3.5 OK`, in tenths.
fn exposure(told: &str) -> Option<u32> {
    let (_, rest) = told.rsplit_once("exposure level for ")?;
    let figure = rest.split_whitespace().nth(1)?;
    let (whole, part) = figure.split_once('.')?;
    Some(whole.parse::<u32>().ok()? * 10 + part.parse::<u32>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figure_is_found() {
        assert_eq!(exposure("✗ A\n→ Overall exposure level for moxie.service: 3.5 OK :-)\n"), Some(35));
        assert_eq!(exposure("→ Overall exposure level for x.service: 10.0 UNSAFE"), Some(100));
        assert_eq!(exposure("no unit"), None);
    }

    #[test]
    fn a_unit_with_more_rights_is_more_exposed() {
        let text = std::fs::read_to_string(Path::new("..").join(UNIT)).unwrap();
        let directory = std::env::temp_dir().join(format!("moxie-exposure-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let measured = [text.clone(), text.replace("NoNewPrivileges=yes", "")].map(|text| {
            let unit = directory.join("moxie.service");
            std::fs::write(&unit, text).unwrap();
            measure(&unit).unwrap()
        });
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(measured[0] < measured[1], "{measured:?}");
    }
}
