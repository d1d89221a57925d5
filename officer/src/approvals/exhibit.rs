//! What the service shows of one request, or of one order, as a file: for an officer without a connection. It is the service's word like the
//! answer itself, and nobody's signature is under it: whoever reads it decodes and compares as always.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use proto::{ShowOrderReply, ShowReply};

const FIRST_LINE: &str = "cofferdam-exhibit-v1";
const FIRST_LINE_OF_ORDER: &str = "cofferdam-exhibit-order-v1";
/// No answer is longer, as the connection bounds it; here in base64.
const FILE_BYTES_MAX: u64 = 6 << 20;

/// What was shown, and when it was asked for, by the word of whoever wrote the file.
#[derive(Clone, Debug)]
pub(super) struct Exhibit {
    pub(super) shown: ShowReply,
    pub(super) taken_unix: Option<u64>,
}

/// Writes it; an existing file is never overwritten.
pub(super) fn write(shown: &ShowReply, file: &Path) -> Result<()> {
    write_as(FIRST_LINE, &shown.encode_to_vec(), file)
}

/// The same of an order.
pub(super) fn write_order(shown: &ShowOrderReply, file: &Path) -> Result<()> {
    write_as(FIRST_LINE_OF_ORDER, &shown.encode_to_vec(), file)
}

fn write_as(first_line: &str, shown: &[u8], file: &Path) -> Result<()> {
    let taken = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let reply = STANDARD.encode(shown);
    let made = OpenOptions::new().write(true).create_new(true).open(file);
    let mut made = made.with_context(|| {
        format!("cannot make {} (an exhibit is never overwritten)", file.display())
    })?;
    made.write_all(format!("{first_line}\ntaken: {taken}\nshown: {reply}\n").as_bytes())?;
    Ok(made.sync_all()?)
}

/// Reads one.
pub(super) fn read(file: &Path) -> Result<Exhibit> {
    let (shown, taken_unix) = read_as(FIRST_LINE, file, "officer show --export")?;
    let shown = ShowReply::decode(shown.as_slice()).context("what was shown")?;
    Ok(Exhibit { shown, taken_unix: Some(taken_unix) })
}

/// The same of an order, and when it was asked for.
pub(super) fn read_order(file: &Path) -> Result<(ShowOrderReply, u64)> {
    let (shown, taken_unix) = read_as(FIRST_LINE_OF_ORDER, file, "officer unbind --export")?;
    let shown = ShowOrderReply::decode(shown.as_slice()).context("what was shown")?;
    Ok((shown, taken_unix))
}

fn read_as(first_line: &str, file: &Path, by: &str) -> Result<(Vec<u8>, u64)> {
    let name = file.display();
    let length = fs::metadata(file).with_context(|| format!("cannot read {name}"))?.len();
    ensure!(length <= FILE_BYTES_MAX, "{name} is longer than any exhibit");
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
    parse(first_line, &text).with_context(|| format!("{name} is not a file of `{by}`"))
}

fn parse(first_line: &str, text: &str) -> Result<(Vec<u8>, u64)> {
    let mut lines = text.lines();
    ensure!(lines.next() == Some(first_line), "its first line is not {first_line}");
    let mut value = |name: &str| {
        let value = lines.next().and_then(|line| line.strip_prefix(name));
        value.with_context(|| format!("it has no line \"{name}…\""))
    };
    let taken = value("taken: ")?.parse().context("when it was taken")?;
    let shown = STANDARD.decode(value("shown: ")?).context("what was shown")?;
    ensure!(lines.next().is_none(), "it goes on after its end");
    Ok((shown, taken))
}
