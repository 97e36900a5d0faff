//! A flood of one line drowns the others and fills a disk: who makes a download fail makes a line, a
//! thousand a second. So a line of each kind is written some times, and then counted.

use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::clock::Clock;
use crate::gateway::telemetry::REQUESTS;
use crate::policy::clients::Notice;
use crate::policy::repeats::Repeats;

const MOST: u64 = 20;
const WINDOW: Duration = Duration::from_secs(10);

/// Leaves out what was said too often. Requests are not repeats of each other: each is a line of its
/// own. Who debugs wants all.
pub(super) struct Unrepeated {
    clock: Clock,
    said: Mutex<Repeats<Identifier>>,
}

impl Unrepeated {
    pub(super) fn new() -> Unrepeated {
        Unrepeated { clock: Clock::system(), said: Mutex::new(Repeats::new(MOST, WINDOW)) }
    }
}

impl<S: Subscriber> Layer<S> for Unrepeated {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let line = event.metadata();
        let is_of_itself = line.module_path() == Some(module_path!());
        if is_of_itself || *line.level() > Level::INFO || line.target() == REQUESTS {
            return true;
        }
        let notice = self.said.lock().notice(line.callsite(), self.clock.now());
        if let Notice::Say { unsaid: unsaid @ 1.. } = notice {
            let mut message = Message::default();
            event.record(&mut message);
            warn!(unsaid, of = message.0, "so many lines like the one that follows were left out");
        }
        notice != Notice::Count
    }
}

#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use tracing::{debug, info};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Default)]
    struct Written([AtomicU64; 3]);

    struct Count(Arc<Written>);

    impl<S: Subscriber> Layer<S> for Count {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let kind = match (event.metadata().target(), *event.metadata().level()) {
                (REQUESTS, _) => 0,
                (_, Level::DEBUG) => 1,
                _ => 2,
            };
            self.0.0[kind].fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_flood_of_one_line_is_some_lines_and_the_others_are_heard() {
        let (layer, written) = (Unrepeated::new(), Arc::new(Written::default()));
        let clock = layer.clock.clone();
        let counts = || [0, 1, 2].map(|kind: usize| written.0[kind].load(Ordering::Relaxed));
        tracing::subscriber::with_default(
            tracing_subscriber::registry().with(layer).with(Count(written.clone())),
            || {
                let flood = || {
                    for _ in 0..1000 {
                        warn!("full");
                        info!(target: REQUESTS, "request");
                        debug!("detail");
                    }
                };
                flood();
                assert_eq!(counts(), [1000, 1000, MOST]);
                warn!("another");
                assert_eq!(counts(), [1000, 1000, MOST + 1]);
                clock.advance(WINDOW);
                flood();
                assert_eq!(counts(), [2000, 2000, 2 * MOST + 1]);
            },
        );
    }
}
