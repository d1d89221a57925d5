//! The `officer` program. It never does anything but parse its arguments and report.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let mut out = std::io::stdout().lock();
    match officer::cli::run(officer::cli::Officer::parse(), &mut out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut chain = error.chain().map(ToString::to_string);
            let first = chain.next().unwrap_or_default();
            let rest: String = chain.map(|cause| format!("\n  because: {cause}")).collect();
            let _ = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("officer: {first}{rest}\n"),
            );
            match error.downcast_ref::<officer::replay::simulate::Differs>() {
                Some(differs) => ExitCode::from(differs.exit_code()),
                None => ExitCode::FAILURE,
            }
        }
    }
}
