//! The demo: one deposit's way from a customer to cold storage, a payout, and attacks that must fail.
//! Never goes on after something that is not as it should be.

mod attacks;
mod coins;
mod folder;
mod setup;

use std::path::Path;

use anyhow::{Result, ensure};

use crate::Stack;
use crate::screen::Screen;

/// Confirmations after which the demo's watcher credits a deposit.
const DEPTH: u32 = 3;

/// Plays the story in `dir`, which is emptied first; if an earlier story made it.
pub async fn play(dir: &Path, stay: bool) -> Result<()> {
    let _lock = folder::take(dir)?;
    let mut screen = Screen::new(10);
    let mut stack = setup::set_up(&mut screen, dir).await?;
    let customers = coins::issue(&mut screen, &stack).await?;
    coins::deposit(&mut screen, &stack, &customers).await?;
    coins::sweep(&mut screen, &stack).await?;
    coins::pay_out(&mut screen, &stack).await?;
    attacks::attack(&mut screen, &stack, &customers).await?;
    verify_log(&mut screen, &mut stack).await?;
    screen.end("The story is told: everything that had to happen did, and nothing else.")?;
    if stay {
        setup::stay(&mut screen, stack, dir).await?;
    }
    Ok(())
}

/// The signer does not share its log, so it rests while an auditor reads it.
async fn verify_log(screen: &mut Screen, stack: &mut Stack) -> Result<()> {
    screen.step("An auditor checks the signer's log with the checkpoint key alone")?;
    stack.signer.stop()?;
    let said = stack.verify_log()?;
    for line in said.lines().filter(|line| !line.trim().is_empty()) {
        screen.say(line)?;
    }
    screen.good("every entry, the tree and every checkpoint hold")?;
    stack.start_signer().await?;
    ensure!(stack.signer.check_running().is_ok(), "the signer did not come back");
    screen.good("the signer is up again, its state folded from that log")
}
