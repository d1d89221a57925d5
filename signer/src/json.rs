//! Lines of the service's own log as JSON, for those who collect them. It never writes a byte that a caller could use to
//! begin a new line or end a string.

use std::fmt::{self, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// One object a line: `unix_ms`, `level`, `target`, `message`, and whatever else was said.
#[derive(Clone, Copy, Debug)]
pub struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let meta = event.metadata();
        write!(
            writer,
            "{{\"unix_ms\":{now},\"level\":\"{}\",\"target\":\"{}\"",
            meta.level(),
            meta.target()
        )?;
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        writeln!(writer, "{}}}", fields.0)
    }
}

struct Fields(String);

impl Fields {
    fn add(&mut self, field: &Field, text: &str) {
        self.0.push_str(",\"");
        escape(field.name(), &mut self.0);
        self.0.push_str("\":\"");
        escape(text, &mut self.0);
        self.0.push('"');
    }

    fn add_bare(&mut self, field: &Field, value: impl fmt::Display) {
        self.0.push_str(",\"");
        escape(field.name(), &mut self.0);
        let _ = write!(self.0, "\":{value}");
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add_bare(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add_bare(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add_bare(field, value);
    }
}

/// As a JSON string holds it; everything that is not plain text is written by number.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn one_event_is_one_object_on_one_line_whatever_it_says() {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .event_format(Json)
            .finish();
        let nasty = "a\"b\\c\nd\u{1b}[2J\u{2028}é";
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(caller = nasty, entries = 7_u64, whole = true, "said {nasty}");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["level"], "WARN");
        assert_eq!(read["caller"], nasty);
        assert_eq!(read["message"], format!("said {nasty}"));
        assert_eq!((&read["entries"], &read["whole"]), (&7.into(), &true.into()));
    }
}
