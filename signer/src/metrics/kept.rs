//! The page of numbers in the state folder, written again every few seconds, for whoever may read that folder, without a
//! port: the doctor above all. It never waits for the disk: a page that is lost is written again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Watched, page};

/// Its name in the state folder, as Prometheus' node exporter wants it.
pub const FILE: &str = "numbers.prom";
/// How often it is written.
pub const EVERY: Duration = Duration::from_secs(5);

/// Writes it for ever; an error is said once, until it worked again.
pub async fn keep(watched: Arc<Watched>, state_dir: PathBuf) {
    let mut said = false;
    loop {
        let (text, folder) = (page::write(&watched), state_dir.clone());
        let written = tokio::task::spawn_blocking(move || write(&folder, &text)).await;
        match written.map_err(io::Error::other).flatten() {
            Ok(()) => said = false,
            Err(error) if !said => {
                tracing::warn!("cannot write {}: {error}", state_dir.join(FILE).display());
                said = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Whoever reads sees the whole page before or the whole page after.
fn write(folder: &Path, text: &str) -> io::Result<()> {
    let next = folder.join(format!(".{FILE}"));
    std::fs::write(&next, text)?;
    std::fs::rename(next, folder.join(FILE))
}
