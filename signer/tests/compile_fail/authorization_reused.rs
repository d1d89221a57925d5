//! A commit takes the authorization away: it grants once.
use policy::Authorization;
use signer::log::Step;

fn twice(authorization: Authorization) -> (Step<()>, Step<()>) {
    let first = Step { events: vec![], grant: Some(authorization), out: () };
    let second = Step { events: vec![], grant: Some(authorization), out: () };
    (first, second)
}

fn main() {
    let _ = twice;
}
