//! What a hub has done, in numbers.

use std::fmt::Write;

/// What a hub is doing, and has done since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Open connections.
    pub connections: usize,
    /// Open subscriptions.
    pub subscribers: usize,
    /// Subscriptions to channels: one subscription may be to several.
    pub subscriptions: usize,
    /// Channels that somebody is subscribed to.
    pub channels: usize,
    /// Bytes that wait to be sent.
    pub waiting: usize,
    /// Messages that came in.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Messages that were passed on, once for each who got it.
    pub deliveries: u64,
    /// Subscribers that were dropped because they were too slow.
    pub slow: u64,
    /// Connections refused: too many, in all or from one address.
    pub refused_connections: u64,
    /// Subscriptions refused: too many, in all or from one address, or to too many channels.
    pub refused_subscriptions: u64,
    /// Requests refused: too many, or too many bytes, from one address in a short time.
    pub refused_requests: u64,
    /// Messages refused: too long, or not sent in time.
    pub refused_messages: u64,
}

impl Counts {
    /// In Prometheus' text format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |kind: &str, name: &str, help: &str, value: u64| {
            // A string takes whatever is written to it.
            let _ =
                write!(text, "# HELP sbot_hub_{name} {help}\n# TYPE sbot_hub_{name} {kind}\nsbot_hub_{name} {value}\n");
        };
        let gauges = [
            ("connections", "Open connections.", self.connections),
            ("subscribers", "Open subscriptions.", self.subscribers),
            ("subscriptions", "Channels that subscribers are subscribed to, in all.", self.subscriptions),
            ("channels", "Channels that somebody is subscribed to.", self.channels),
            ("waiting_bytes", "Bytes that wait to be sent.", self.waiting),
        ];
        for (name, help, value) in gauges {
            line("gauge", name, help, value as u64);
        }
        let counters = [
            ("messages_total", "Messages that came in.", self.messages),
            ("message_bytes_total", "Bytes of the messages that came in.", self.bytes),
            ("deliveries_total", "Messages passed on, once for each who got it.", self.deliveries),
            ("slow_subscribers_total", "Subscribers dropped because they didn't read.", self.slow),
            ("refused_connections_total", "Connections refused: too many.", self.refused_connections),
            ("refused_subscriptions_total", "Subscriptions refused: too many.", self.refused_subscriptions),
            ("refused_requests_total", "Requests refused: too many in a short time.", self.refused_requests),
            ("refused_messages_total", "Messages refused: too long, or too slow.", self.refused_messages),
        ];
        for (name, help, value) in counters {
            line("counter", name, help, value);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_a_type_and_a_value_for_each_number() {
        let text = Counts { subscribers: 3, messages: 17, ..Counts::default() }.text();
        assert!(text.contains("# TYPE sbot_hub_subscribers gauge\nsbot_hub_subscribers 3\n"), "{text}");
        assert!(text.contains("# TYPE sbot_hub_messages_total counter\nsbot_hub_messages_total 17\n"), "{text}");
        assert_eq!(text.lines().count(), 3 * 13);
    }
}
