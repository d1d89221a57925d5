//! A private PostgreSQL server in a temporary folder. It never outlives the test process, however that ends.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

/// Runs the server until its standard input ends; `crash` on a line kills it and starts it again.
const SCRIPT: &str = r#"
set -eu
bin=$1
shift
dir=$(mktemp -d /tmp/cofferdam-postgres.XXXXXX)
trap 'set +e; kill -QUIT $pid 2>/dev/null; wait $pid 2>/dev/null; rm -rf "$dir"' EXIT
pid=
"$bin/initdb" -D "$dir/data" -U cofferdam -A trust -E UTF8 --no-locale --no-sync >"$dir/log" 2>&1 || { cat "$dir/log" >&2; exit 1; }
serve() {
    tries=0
    until "$bin/psql" -h "$dir" -U cofferdam -d postgres -qAtc 'SELECT 1' >/dev/null 2>&1; do
        # Right after a crash the old one's sessions may still be ending: then it is started again.
        if [ -z "$pid" ] || ! kill -0 $pid 2>/dev/null; then
            "$bin/postgres" -D "$dir/data" -k "$dir" -c listen_addresses= "$@" >>"$dir/log" 2>&1 &
            pid=$!
        fi
        tries=$((tries + 1))
        if [ $tries -gt 600 ]; then cat "$dir/log" >&2; exit 1; fi
        sleep 0.05
    done
    echo "$dir"
}
serve "$@"
while read -r line; do
    kill -KILL $pid
    wait $pid 2>/dev/null || true
    pid=
    serve "$@"
done
"#;

pub(crate) struct Cluster {
    _process: Child,
    stdin: ChildStdin,
    stdout: BufReader<std::process::ChildStdout>,
    folder: PathBuf,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With more arguments for the server.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        let bin = binaries();
        let mut command = if is_root() {
            // PostgreSQL refuses to run as root.
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--", "sh"]);
            command
        } else {
            Command::new("sh")
        };
        command.arg("-c").arg(SCRIPT).arg("sh").arg(&bin).args(arguments).current_dir("/tmp");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("sh and runuser are there");
        let stdin = process.stdin.take().unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let mut cluster = Self { _process: process, stdin, stdout, folder: PathBuf::new() };
        cluster.folder = cluster.ready();
        cluster
    }

    /// Kills the server as a power cut would, and starts it again.
    pub(crate) fn crash(&mut self) {
        self.stdin.write_all(b"crash\n").unwrap();
        self.ready();
    }

    /// URL of a database of this server.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://cofferdam@localhost/{database}?host={}", self.folder.display())
    }

    fn ready(&mut self) -> PathBuf {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        assert!(line.starts_with('/'), "PostgreSQL did not start; see above for its log");
        PathBuf::from(line.trim_end())
    }
}

/// The URL of a new, empty database on the server all tests share.
pub(crate) async fn fresh_database() -> String {
    static SHARED: OnceLock<Mutex<Cluster>> = OnceLock::new();
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let cluster =
        tokio::task::spawn_blocking(|| SHARED.get_or_init(|| Mutex::new(Cluster::start())));
    let cluster = cluster.await.unwrap();
    let name = format!("log{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let (admin, url) = {
        let cluster = cluster.lock().unwrap();
        (cluster.url("postgres"), cluster.url(&name))
    };
    create(&admin, &name).await;
    url
}

pub(crate) async fn create(admin: &str, name: &str) {
    use sqlx::{Connection as _, PgConnection};
    let mut connection = PgConnection::connect(admin).await.unwrap();
    let statement = format!("CREATE DATABASE {name}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// The newest server binaries of a Debian system.
fn binaries() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let bins = versions.map(|version| version.path().join("bin"));
    let newest = bins.filter(|bin| bin.join("postgres").exists()).max();
    newest
        .expect("PostgreSQL is not installed, and these tests need it: apt-get install postgresql")
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(Path::new("/proc/self")).is_ok_and(|own| own.uid() == 0)
}
