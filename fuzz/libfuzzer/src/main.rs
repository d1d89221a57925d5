//! One target under libFuzzer, chosen by `COFFERDAM_FUZZ_TARGET`. It holds no target itself.
#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("COFFERDAM_FUZZ_TARGET").expect("set COFFERDAM_FUZZ_TARGET");
    fuzz::find(&name).unwrap_or_else(|| panic!("there is no target \"{name}\"")).run
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
