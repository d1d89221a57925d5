//! What must not compile: making, copying or reusing what stands for a decision.

#[test]
fn a_decision_cannot_be_forged_copied_or_used_twice() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
