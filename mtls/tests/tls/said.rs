//! What the service says, kept for each test apart; never what another test's service said.

use std::cell::RefCell;
use std::io;
use std::sync::Once;

thread_local! {
    // A test and its service run on one thread.
    static LINES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct Lines;

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.with_borrow_mut(|lines| lines.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Before any service opens. One listener for the whole program: `tracing` remembers of a line that nobody listens to it if
/// a thread without a listener says it first, while one other thread has one.
pub(crate) fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(|| Lines).finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
}

/// What was said since the last time.
pub(crate) fn take() -> String {
    String::from_utf8(LINES.take()).unwrap()
}
