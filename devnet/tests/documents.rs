//! What the documents name exists: files, and the tests in them. It never says whether a test shows what is claimed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it counted"
)]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn documents() -> Vec<PathBuf> {
    let root = root();
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let top = ["README.md", "SECURITY.md", "ARCHITECTURE.md", "CONTRIBUTING.md"]
        .map(|name| root.join(name));
    top.into_iter().chain(docs).filter(|path| path.extension().is_some_and(|e| e == "md")).collect()
}

/// What stands between backticks, outside of blocks of code.
fn quoted(text: &str) -> Vec<String> {
    let mut quoted = Vec::new();
    let mut block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            block = !block;
        } else if !block {
            quoted.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    quoted
}

/// The whole text of a test file, or of all in a folder of tests.
fn source(path: &Path) -> Option<String> {
    if path.is_dir() {
        let mut all = String::new();
        for entry in fs::read_dir(path).ok()? {
            all.push_str(&source(&entry.ok()?.path()).unwrap_or_default());
        }
        return Some(all);
    }
    fs::read_to_string(path).ok()
}

/// `file: test`, `file: one, two`, `… test`, `file: the_beginning_of_…`.
#[test]
fn files_and_tests_that_documents_name_are_there() {
    let (mut files, mut tests, mut wrong) = (0, 0, Vec::new());
    for document in documents() {
        let name = document.file_name().unwrap().to_string_lossy().into_owned();
        let mut last: Option<String> = None;
        for text in quoted(&fs::read_to_string(&document).unwrap()) {
            let (file, named) = match text.split_once(": ") {
                Some((file, named)) if file.contains('/') && file.ends_with(".rs") => (file, named),
                _ if text.contains('/') && text.ends_with(".rs") => (text.as_str(), ""),
                _ => match text.strip_prefix("… ") {
                    Some(named) if is_name(named) => ("", named),
                    _ => continue,
                },
            };
            if !file.is_empty() {
                files += 1;
                last = source(&root().join(file));
                if last.is_none() {
                    wrong.push(format!("{name}: there is no {file}"));
                }
            }
            let Some(source) = &last else { continue };
            for test in named.split(", ").filter(|test| !test.is_empty()) {
                tests += 1;
                let there = match test.strip_suffix('…') {
                    Some(beginning) => source.contains(&format!("fn {beginning}")),
                    None => source.contains(&format!("fn {test}(")),
                };
                if !there && is_name(test.trim_end_matches('…')) {
                    wrong.push(format!("{name}: no {test} in {text}"));
                }
            }
        }
    }
    println!("documents: {files} files and {tests} tests named");
    assert_eq!(wrong, Vec::<String>::new());
    assert!(files > 100 && tests > 50, "{files} files, {tests} tests: they were not found");
}

fn is_name(text: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.contains('_')
        && text.trim_end_matches('…').chars().all(|c| word(c) || c == ',' || c == ' ')
}
