//! Nothing secret can be given in arguments, where every user of the machine could read it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

/// What the value of an option may be: a file, a number, a name, or a fingerprint that is on two screens anyway. A new
/// kind is looked at by a person before it is added here.
const KINDS: &[&str] = &[
    "<FILE>",
    "<PEM>",
    "<HEX>",
    "<N>",
    "<M>",
    "<NUMBER>",
    "<TofN>",
    "<NETWORK>",
    "<SCRIPT>",
    "<SCHEME>",
    "<TIER>",
    "<THREADS>",
];

fn help(command: &str) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_ceremony")).args([command, "--help"]).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn no_option_takes_a_secret() {
    let commands =
        ["create", "verify", "transcript", "drill", "exit", "restore", "extend", "reseal"];
    // None was added without this test hearing of it.
    let listed = String::from_utf8(
        Command::new(env!("CARGO_BIN_EXE_ceremony")).arg("--help").output().unwrap().stdout,
    )
    .unwrap();
    let known = listed.lines().skip_while(|line| *line != "Commands:").skip(1);
    let known = known.take_while(|line| !line.is_empty()).count();
    assert_eq!(known, commands.len().saturating_add(1), "help, and: {listed}");

    let mut values = 0_u32;
    for command in commands {
        for line in help(command).lines().map(str::trim) {
            let mut words = line.split_whitespace();
            let (Some(option), Some(value)) = (words.next(), words.next()) else { continue };
            if option.starts_with("--") && value.starts_with('<') {
                assert!(KINDS.contains(&value), "{command} {option} {value}");
                values = values.saturating_add(1);
            }
        }
    }
    assert!(values > 40, "{values} options with values were found");
}

#[test]
fn a_secret_in_an_argument_is_refused() {
    for arguments in [
        vec!["drill", "--passphrase", "correct horse"],
        vec!["drill", "--passphrase=correct"],
        vec!["drill", "--seed", "000102"],
        vec!["create", "--mnemonic", "academic acid"],
    ] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_ceremony")).args(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}
