//! The benchmark in miniature, so that it does not rot: for each tier both sides run and do all the work. It never
//! judges a time; `scripts/bench-sweep` does.

use devnet::programs::Programs;

/// What it prints for a tier and a scheme, with few inputs and no limit worth the name.
fn bench(which: &[&str]) -> String {
    let programs = Programs::find().unwrap();
    let programs = programs.with_examples(&["bare_loop", "sweep_bench"]).unwrap();
    let output = programs
        .command("examples/sweep_bench")
        .env_remove("CARGO")
        .args(which)
        .args(["--inputs=11", "--rounds=2", "--large=3"])
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
    let oaep = "the token's calls (rsa-oaep-sha1) and";
    let kwp = "the token's calls (aes-kwp) and";
    for (tier, which, bare) in [
        ("token-hd", &["--tier=token-hd"][..], oaep),
        ("token-hd", &["--tier=token-hd", "--scheme=aes-kwp"], kwp),
        ("sealed-hd", &["--tier=sealed-hd"], "libsecp256k1 deriving"),
    ] {
        let said = bench(which);
        for line in [
            &format!("{tier}, 11 inputs, "),
            &format!("the bare loop: {bare}"),
            "signatures: 22 by the bare loop, 22 by the whole path",
            "ratio: median ",
            "3 inputs from 3 parents of 500 outputs: ",
        ] {
            assert!(said.contains(line), "no \"{line}\" in:\n{said}");
        }
    }
}
