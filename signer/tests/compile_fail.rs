//! A permit to sign cannot be forged, copied or used twice: these programs must not compile.

#[test]
fn permits_cannot_be_forged_copied_or_used_twice() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
