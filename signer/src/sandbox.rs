//! What the signer gives up before it reads its first message: it keeps its own few files, its own port and its
//! database, and starts nothing. It never gives a token worker's needs to itself: the starter, made before, has them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use confine::{Confinement, Reach, Report};
use sqlx::postgres::PgConnectOptions;

use crate::config::Config;
use crate::start::StartError;

/// What a command of the signer needs beside what its configuration names.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// Whether it listens for clients.
    pub listens: bool,
    /// Files it was told to read.
    pub read: Vec<PathBuf>,
    /// Folders it was told to write to.
    pub write: Vec<PathBuf>,
}

/// Confines this process for good. Call it before there is a second thread.
///
/// # Errors
/// [`StartError::Confine`], above all when the settings require what the kernel lacks.
pub fn enter(config: &Config, file: &Path, needs: Needs) -> Result<Report, StartError> {
    // Folders that are not there yet could not be opened afterwards.
    for folder in written(config) {
        if let Err(error) = std::fs::create_dir_all(&folder) {
            tracing::warn!("cannot make {}: {error}", folder.display());
        }
    }
    let report = confinement(config, file, needs).enforce(config.sandbox)?;
    for missing in &report.lacking {
        tracing::warn!("this process is not confined by {missing}");
    }
    Ok(report)
}

/// What a signer with this configuration, read from `file`, may still do.
#[must_use]
pub fn confinement(config: &Config, file: &Path, needs: Needs) -> Confinement {
    let Needs { listens, mut read, mut write } = needs;
    read.extend([file.to_owned(), config.policy.clone(), config.policy_signatures()]);
    read.extend(tls_folders(config));
    read.extend(config.sanctions.as_deref().map(folder));
    write.extend(written(config));
    Confinement {
        reach: reach(&config.database_url()),
        listen: match listens {
            true => [Some(config.listen), config.metrics]
                .iter()
                .flatten()
                .map(SocketAddr::port)
                .collect(),
            false => Vec::new(),
        },
        read,
        write,
    }
}

/// Folders of the TLS files: a file that takes another's place is another file, and only its folder's name still holds.
fn tls_folders(config: &Config) -> Vec<PathBuf> {
    let tls = &config.tls;
    let files = [Some(&tls.certificate), Some(&tls.key), Some(&tls.ca), tls.crl.as_ref()];
    files.into_iter().flatten().map(|file| folder(file)).collect()
}

fn folder(file: &Path) -> PathBuf {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).to_owned()
}

/// The state folder, and that of the database when it is a file elsewhere.
fn written(config: &Config) -> Vec<PathBuf> {
    let mut folders = vec![config.state_dir.clone()];
    if let Some(file) = config.database.as_deref().and_then(|url| url.strip_prefix("sqlite:")) {
        let file = file.split_once('?').map_or(file, |(file, _)| file);
        let folder = Path::new(file.trim_start_matches("//")).parent();
        folders.extend(folder.filter(|folder| !folder.as_os_str().is_empty()).map(Path::to_owned));
    }
    folders
}

/// By where the log's database is: the one thing that the signer dials.
fn reach(database: &str) -> Reach {
    if database.starts_with("sqlite:") {
        return Reach::Nobody;
    }
    match PgConnectOptions::from_str(database) {
        Ok(options) if options.get_socket().is_none() && !options.get_host().starts_with('/') => {
            Reach::Port(options.get_port())
        }
        // What cannot be read is refused when it is opened.
        _ => Reach::Local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_says_whom_the_signer_may_reach() {
        for (url, wanted) in [
            ("sqlite:/var/lib/log.sqlite", Reach::Nobody),
            ("postgres://cofferdam@/cofferdam?host=/run/postgresql", Reach::Local),
            ("postgres://cofferdam@%2Frun%2Fpostgresql/cofferdam", Reach::Local),
            ("postgres://cofferdam@localhost/cofferdam", Reach::Port(5432)),
            ("postgres://cofferdam@127.0.0.1:6000/cofferdam", Reach::Port(6000)),
        ] {
            assert_eq!(reach(url), wanted, "{url}");
        }
    }
}
