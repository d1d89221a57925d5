//! The demo's output: numbered steps, short lines, timings. Colours only on a terminal; never decides anything.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Instant;

use anyhow::Result;
use bitcoin::{Amount, Denomination};

/// Where the story is told.
#[derive(Debug)]
pub struct Screen {
    colour: bool,
    step: u32,
    steps: u32,
    begun: Instant,
    step_begun: Option<Instant>,
}

impl Screen {
    /// A screen for a story of `steps` steps.
    pub fn new(steps: u32) -> Self {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { colour, step: 0, steps, begun: Instant::now(), step_begun: None }
    }

    /// Begins a step, telling how long the last one took.
    pub fn step(&mut self, title: &str) -> Result<()> {
        self.close_step()?;
        self.step = self.step.saturating_add(1);
        let number = format!("{:>2}/{}", self.step, self.steps);
        let (bold, plain) = (self.code("1"), self.code("0"));
        self.step_begun = Some(Instant::now());
        print(&format!("\n{bold}{number}  {title}{plain}\n"))
    }

    /// A line within a step.
    pub fn say(&self, line: &str) -> Result<()> {
        print(&format!("       {line}\n"))
    }

    /// Two columns within a step.
    pub fn fact(&self, name: &str, value: &str) -> Result<()> {
        let (dim, plain) = (self.code("2"), self.code("0"));
        print(&format!("       {dim}{name:<13}{plain} {value}\n"))
    }

    /// Something that had to hold, and does.
    pub fn good(&self, line: &str) -> Result<()> {
        let (green, plain) = (self.code("32"), self.code("0"));
        print(&format!("     {green}✓{plain} {line}\n"))
    }

    /// Ends the last step and tells how long the story took.
    pub fn end(&mut self, line: &str) -> Result<()> {
        self.close_step()?;
        let (bold, plain) = (self.code("1;32"), self.code("0"));
        print(&format!("\n{bold}{line}{plain} ({})\n", seconds(self.begun)))
    }

    fn close_step(&mut self) -> Result<()> {
        match self.step_begun.take() {
            Some(begun) => {
                let (dim, plain) = (self.code("2"), self.code("0"));
                print(&format!("       {dim}{}{plain}\n", seconds(begun)))
            }
            None => Ok(()),
        }
    }

    fn code(&self, code: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m") } else { String::new() }
    }
}

/// An amount as people write it.
pub fn btc(amount: Amount) -> String {
    format!("{} BTC", amount.display_in(Denomination::Bitcoin))
}

fn seconds(begun: Instant) -> String {
    let elapsed = begun.elapsed();
    format!("{}.{} s", elapsed.as_secs(), elapsed.subsec_millis() / 100)
}

fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}
