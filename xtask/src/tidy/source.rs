//! What each source file must and must not have.

use super::Text;

/// A file longer than this is worth a look.
const LONG: usize = 400;

/// The stages of the data path, by file and number.
const STAGES: [(&str, u32); 6] =
    [("accept", 1), ("original_dst", 2), ("sniff", 3), ("decide", 4), ("act", 5), ("record", 6)];

/// Looks at one file by itself.
pub(super) fn check(file: &Text) -> Vec<String> {
    let mut findings = Vec::new();
    if file.path.ends_with(".rs") {
        findings.extend(undocumented(file));
        findings.extend(unfinished(file));
    }
    findings.extend(tabs(file));
    findings
}

fn undocumented(file: &Text) -> Option<String> {
    let says = file.text.lines().next().and_then(|line| line.strip_prefix("//! ")).is_some_and(|said| !said.is_empty());
    (!says).then(|| format!("{}:1: does not open with `//! what it is`", file.path))
}

/// Macros that say that something is not done; spelled in two parts so that this file passes.
fn unfinished(file: &Text) -> Vec<String> {
    let words = [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("dbg", "!(")];
    let is_unfinished = |line: &str| words.iter().any(|word| line.contains(word));
    lines(file, is_unfinished).map(|line| format!("{}:{line}: is not finished", file.path)).collect()
}

fn tabs(file: &Text) -> Vec<String> {
    lines(file, |line| line.contains('\t')).map(|line| format!("{}:{line}: has a tab", file.path)).collect()
}

/// Numbers of the lines that `wanted` accepts.
fn lines<'file>(file: &'file Text, wanted: impl Fn(&str) -> bool + 'file) -> impl Iterator<Item = usize> + 'file {
    file.text.lines().enumerate().filter(move |(_, line)| wanted(line)).map(|(number, _)| number + 1)
}

/// Each stage of the data path says which it is, what it takes and gives, and what it never does.
pub(super) fn stages(files: &[Text]) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, number) in STAGES {
        let path = format!("moxie-agent/src/datapath/{name}.rs");
        let Some(file) = files.iter().find(|file| file.path == path) else {
            findings.push(format!("{path}: there is no such stage"));
            continue;
        };
        let doc: String = file.text.lines().take_while(|line| line.starts_with("//!")).collect();
        for part in [&format!("Stage {number} of {}", STAGES.len()), "In:", "Out:", "Never:"] {
            if !doc.contains(part) {
                findings.push(format!("{path}:1: its docs have no `{part}`"));
            }
        }
    }
    findings
}

/// Files whose production part has grown long.
pub(super) fn long(files: &[Text]) -> Vec<String> {
    let sources = files.iter().filter(|file| file.path.ends_with(".rs") && !file.path.ends_with("tests.rs"));
    let counted = sources.map(|file| (file, production(&file.text)));
    counted.filter(|(_, lines)| *lines > LONG).map(|(file, lines)| format!("{} has {lines} lines", file.path)).collect()
}

/// Lines before the tests.
fn production(text: &str) -> usize {
    text.lines().take_while(|line| *line != "#[cfg(test)]").count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> Text {
        Text { path: path.into(), text: text.into() }
    }

    #[test]
    fn a_tidy_file_gives_no_finding_and_each_fault_gives_one() {
        let check = |text: &str| check(&file("a/b.rs", text));
        assert_eq!(check("//! A thing.\nfn a() {}\n"), Vec::<String>::new());
        assert_eq!(check("fn a() {}\n"), ["a/b.rs:1: does not open with `//! what it is`"]);
        assert_eq!(check("//! A.\nfn a() {\n\tb()\n}\n"), ["a/b.rs:3: has a tab"]);
        assert_eq!(check(concat!("//! A.\nfn a() { todo", "!() }\n")), ["a/b.rs:2: is not finished"]);
    }

    #[test]
    fn a_stage_with_the_wrong_number_is_found() {
        let doc = |number| format!("//! A stage.\n//! Stage {number} of 6. In: a. Out: b. Never: c.\n");
        let with = |number: u32| {
            let files: Vec<Text> = STAGES
                .iter()
                .map(|(name, own)| {
                    let number = if *name == "decide" { number } else { *own };
                    file(&format!("moxie-agent/src/datapath/{name}.rs"), &doc(number))
                })
                .collect();
            stages(&files)
        };
        assert_eq!(with(4), Vec::<String>::new());
        assert_eq!(with(5), ["moxie-agent/src/datapath/decide.rs:1: its docs have no `Stage 4 of 6`"]);
        assert_eq!(stages(&[]).len(), STAGES.len());
    }

    #[test]
    fn only_production_lines_count() {
        let text = format!("{}#[cfg(test)]\n{}", "line\n".repeat(LONG), "test\n".repeat(LONG));
        assert!(long(&[file("a.rs", &text)]).is_empty());
        assert_eq!(long(&[file("a.rs", &"line\n".repeat(LONG + 1))]), ["a.rs has 401 lines"]);
    }
}
