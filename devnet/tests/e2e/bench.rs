//! The benchmarks in miniature, so that they do not rot: for each tier both sides run and do all the work, and so do the
//! wallets that are shown beside them. It never judges a time; `scripts/bench-sweep` and `scripts/bench-service` do.

use devnet::programs::Programs;

/// What a benchmark prints.
fn bench(which: &str, arguments: &[&str]) -> String {
    let programs = Programs::find().unwrap();
    let programs = programs.with_examples(&["bare_loop", "sweep_bench", "service_bench"]).unwrap();
    let output = programs
        .command(&format!("examples/{which}"))
        .env_remove("CARGO")
        .args(arguments)
        .args(["--rounds=2", "--lenient"])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{error}");
    said
}

/// What the sweep's prints, with few inputs.
fn sweep(which: &[&str]) -> String {
    bench("sweep_bench", &[which, &["--inputs=11", "--small=2", "--large=3"]].concat())
}

fn holds(said: &str, lines: &[&str]) {
    for line in lines {
        assert!(said.contains(line), "no \"{line}\" in:\n{said}");
    }
}

/// Both sides of one tier, all of whose work is counted.
fn runs(tier: &str, which: &[&str], bare: &str, asked: &str) {
    let said = sweep(which);
    holds(
        &said,
        &[
            &format!("{tier}, 11 inputs, "),
            &format!("the bare loop: {bare}"),
            "signatures: 22 by the bare loop, 22 by the whole path",
            "rate of the whole path: ",
            &format!("; {asked} is asked"),
            "2 inputs: ",
            "3 inputs from 3 parents of 500 outputs: ",
        ],
    );
}

#[test]
fn the_benchmark_runs_and_both_sides_of_it_do_all_the_work() {
    let oaep = "the token's calls (rsa-oaep-sha1) and";
    runs("token-hd", &["--tier=token-hd"], oaep, "0.930");
    let kwp = ["--tier=token-hd", "--scheme=aes-kwp"];
    runs("token-hd", &kwp, "the token's calls (aes-kwp) and", "0.930");
    runs("sealed-hd", &["--tier=sealed-hd"], "libsecp256k1 deriving", "0.900");
}

#[test]
fn the_benchmark_of_a_token_key_runs_and_other_wallets_beside_it() {
    let said = sweep(&["--tier=token", "--peers"]);
    holds(
        &said,
        &[
            "token, 11 inputs, ",
            "the bare loop: the token's calls (its own key) and",
            "signatures: 22 by the bare loop, 22 by the whole path",
            "; 0.880 is asked",
            "with 11 inputs: signrawtransactionwithwallet ",
            "bdk_wallet with 11 inputs: build ",
        ],
    );
}

#[test]
fn the_benchmark_of_the_service_runs_and_every_request_gets_its_answer() {
    let few = ["--callers=4", "--requests=9", "--denied-callers=3", "--denied-requests=7"];
    let said = bench("service_bench", &few);
    holds(
        &said,
        &[
            "token-hd, 9 requests of one input by 4 callers, ",
            "signatures: 18 by the bare loop, 18 by the service",
            "rate of the service: ",
            "; 0.750 is asked",
            "flushes",
            "7 requests by 3 callers, denied",
            "; 4.000 is asked",
        ],
    );
}
