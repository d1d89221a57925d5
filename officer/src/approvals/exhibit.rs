//! What the service shows of one request, as a file: for an officer without a connection. It is the service's word like the
//! answer itself, and nobody's signature is under it: whoever reads it decodes and compares as always.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use proto::ShowReply;

const FIRST_LINE: &str = "cofferdam-exhibit-v1";
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
    let taken = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let reply = STANDARD.encode(shown.encode_to_vec());
    let made = OpenOptions::new().write(true).create_new(true).open(file);
    let mut made = made.with_context(|| {
        format!("cannot make {} (an exhibit is never overwritten)", file.display())
    })?;
    made.write_all(format!("{FIRST_LINE}\ntaken: {taken}\nshown: {reply}\n").as_bytes())?;
    Ok(made.sync_all()?)
}

/// Reads one.
pub(super) fn read(file: &Path) -> Result<Exhibit> {
    let name = file.display();
    let length = fs::metadata(file).with_context(|| format!("cannot read {name}"))?.len();
    ensure!(length <= FILE_BYTES_MAX, "{name} is longer than any exhibit");
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
    parse(&text).with_context(|| format!("{name} is not a file of `officer show --export`"))
}

fn parse(text: &str) -> Result<Exhibit> {
    let mut lines = text.lines();
    ensure!(lines.next() == Some(FIRST_LINE), "its first line is not {FIRST_LINE}");
    let mut value = |name: &str| {
        let value = lines.next().and_then(|line| line.strip_prefix(name));
        value.with_context(|| format!("it has no line \"{name}…\""))
    };
    let taken = value("taken: ")?.parse().context("when it was taken")?;
    let shown = STANDARD.decode(value("shown: ")?).context("what was shown")?;
    let shown = ShowReply::decode(shown.as_slice()).context("what was shown")?;
    ensure!(lines.next().is_none(), "it goes on after its end");
    Ok(Exhibit { shown, taken_unix: Some(taken) })
}
