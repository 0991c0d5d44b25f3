//! Whether clients use the two ends of a move.

use std::time::Instant;

/// What the product and the servers themselves send, and people who look. All else is a client's.
const NOT_OF_CLIENTS: [&str; 19] = [
    "acl",
    "asking",
    "auth",
    "client",
    "cluster",
    "command",
    "config",
    "hello",
    "info",
    "latency",
    "memory",
    "migrate",
    "ping",
    "psync",
    "replconf",
    "restore",
    "restore-asking",
    "role",
    "select",
];

/// How many commands of clients a server has served since it began, by `INFO commandstats`. None where it does not say.
pub(super) fn served(stats: &str) -> Option<u64> {
    let calls = |line: &str| {
        let (name, figures) = line.split_once(':')?;
        let command = name.split('|').next()?;
        let figure = figures.split(',').find_map(|f| f.strip_prefix("calls="))?;
        let calls: u64 = figure.parse().ok()?;
        let ours = NOT_OF_CLIENTS.contains(&command);
        Some(if ours { 0 } else { calls })
    };
    let lines = stats.lines().filter_map(|l| l.strip_prefix("cmdstat_"));
    let mut lines = lines.peekable();
    // Whoever asks is counted himself, so that no server has nothing to say.
    lines.peek()?;
    lines.map(calls).sum()
}

/// What clients ask of the two ends of a move.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// What each end had served when it was first looked at.
    first: Option<(Instant, [u64; 2])>,
    per_s: Option<u32>,
}

impl Traffic {
    /// Takes note of what each end has served by now.
    pub(super) fn note(&mut self, now: Instant, served: [Option<u64>; 2]) {
        let [Some(source), Some(target)] = served else {
            *self = Self::default();
            return;
        };
        let served = [source, target];
        let (begun, first) = *self.first.get_or_insert((now, served));
        let more = |at: usize| served[at].checked_sub(first[at]);
        let ms = now.saturating_duration_since(begun).as_millis();
        self.per_s = match (more(0), more(1)) {
            (Some(source), Some(target)) if ms > 0 => {
                let per_s = u128::from(source.max(target)) * 1_000 / ms;
                Some(u32::try_from(per_s).unwrap_or(u32::MAX))
            }
            (Some(_), Some(_)) => None,
            // Somebody has set the figures back.
            _ => {
                self.first = Some((now, served));
                None
            }
        };
    }

    /// How many commands a second the end with more of them was sent since the first look. None before a second look.
    pub(super) fn per_s(&self) -> Option<u32> {
        self.per_s
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_clients_send_is_counted() {
        let stats = "# Commandstats\r\ncmdstat_get:calls=20,usec=9,usec_per_call=0.45,rejected_calls=0,failed_calls=0\r\n\
                     cmdstat_set:calls=3,usec=1\r\ncmdstat_cluster|nodes:calls=700,usec=4\r\ncmdstat_migrate:calls=9,usec=1\r\n\
                     cmdstat_script|load:calls=1,usec=1\r\nother:calls=7\r\n";
        assert_eq!(served(stats), Some(24));
        for unknown in [
            "",
            "# Commandstats\r\n",
            "cmdstat_get:usec=9\r\ncmdstat_set:calls=1\r\n",
        ] {
            assert_eq!(served(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn the_busier_end_counts_from_the_first_look_on() {
        let (mut traffic, begun) = (Traffic::default(), Instant::now());
        let ms = |ms| begun + Duration::from_millis(ms);
        traffic.note(begun, [Some(100), Some(50)]);
        assert_eq!(traffic.per_s(), None);
        traffic.note(ms(100), [Some(101), Some(60)]);
        assert_eq!(traffic.per_s(), Some(100));
        traffic.note(ms(1_000), [Some(110), Some(60)]);
        assert_eq!(traffic.per_s(), Some(10));
        traffic.note(ms(1_100), [Some(0), Some(60)]);
        assert_eq!(traffic.per_s(), None, "somebody set the figures back");
        traffic.note(ms(1_200), [Some(0), Some(60)]);
        assert_eq!(traffic.per_s(), Some(0));
        traffic.note(ms(1_300), [Some(0), None]);
        assert_eq!(traffic.per_s(), None, "one end does not say");
    }
}
