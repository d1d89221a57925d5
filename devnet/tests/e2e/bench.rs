//! The benchmark in miniature, so that it does not rot: for each tier both sides run and do all the work. It never
//! judges a time; `scripts/bench-sweep` does.

use devnet::programs::Programs;

/// What it prints for a tier, with few inputs and no limit worth the name.
fn bench(tier: &str) -> String {
    let programs = Programs::find().unwrap();
    let programs = programs.with_examples(&["bare_loop", "sweep_bench"]).unwrap();
    let output = programs
        .command("examples/sweep_bench")
        .env_remove("CARGO")
        .args(["--tier", tier, "--inputs=11", "--rounds=2", "--large=3"])
        .arg("--permille-max=1000000000")
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{error}");
    said
}

#[test]
fn the_benchmark_runs_and_both_sides_of_it_do_all_the_work() {
    for tier in ["token-hd", "sealed-hd"] {
        let said = bench(tier);
        for line in [
            &format!("{tier}, 11 inputs, "),
            "signatures: 22 by the bare loop, 22 by the whole path",
            "ratio: median ",
            "3 inputs from 3 parents of 500 outputs: ",
        ] {
            assert!(said.contains(line), "no \"{line}\" in:\n{said}");
        }
    }
}
