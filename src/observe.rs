//! Log lines of every process: to standard error, one line each, for journald or a file.

use std::fmt;
use std::io;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::Environment;

/// What is logged where `RUST_LOG` says nothing.
const DEFAULT_FILTER: &str = "info";

/// Begins logging as `who` (`storage`, `worker 1`), filtered by `RUST_LOG`. The first call counts.
pub fn start(who: &str, environment: Environment<'_>) {
    let wanted = environment("RUST_LOG").and_then(|text| text.into_string().ok());
    let wanted = wanted.filter(|text| !text.is_empty()).and_then(|text| EnvFilter::try_new(text).ok());
    let filter = wanted.unwrap_or_else(|| EnvFilter::new(DEFAULT_FILTER));
    // journald writes the time of every line itself.
    let has_time = environment("JOURNAL_STREAM").is_none();
    let line = Line { who: who.to_owned(), has_time };
    // Refused only where somebody has begun already, as in tests of several roles in one process.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .event_format(line)
        .try_init();
}

/// `2026-01-01T00:00:00.000000Z INFO worker 1: text field=value`
struct Line {
    who: String,
    has_time: bool,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.has_time {
            SystemTime.format_time(&mut writer)?;
            writer.write_char(' ')?;
        } else {
            writer.write_str(journal_level(*event.metadata().level()))?;
        }
        write!(writer, "{} {}: ", event.metadata().level(), self.who)?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// What journald takes the priority of a line from (`sd-daemon(3)`).
fn journal_level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

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

    fn logged(has_time: bool) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .event_format(Line { who: "worker 1".to_owned(), has_time })
            .finish();
        tracing::subscriber::with_default(subscriber, || tracing::warn!(rooms = 3, "busy"));
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_says_who_speaks_and_to_journald_how_bad_it_is() {
        assert_eq!(logged(false), "<4>WARN worker 1: busy rooms=3\n");
    }

    #[test]
    fn a_line_begins_with_the_time_unless_journald_writes_it() {
        let line = logged(true);
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.contains('T'), "{line}");
        assert_eq!(rest, "WARN worker 1: busy rooms=3\n");
    }
}
