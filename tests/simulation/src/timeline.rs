//! When each peer is online: sessions and absences, the same for every policy.

use crate::random::Draws;
use crate::settings::{DAY, HOUR, MINUTE, Millis, Settings};

/// Pauses between sessions are at least this long; sessions that are closer become one.
const SHORTEST_PAUSE: Millis = 5 * MINUTE;

/// A time online.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Session {
    /// Its begin.
    pub(crate) from: Millis,
    /// Its end.
    pub(crate) to: Millis,
    /// What follows is a sleep of the machine, and not the end of the program.
    pub(crate) then_sleeps: bool,
}

/// The times online of one peer, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timeline(Vec<Session>);

impl Timeline {
    /// A machine that is always on, but for outages.
    pub(crate) fn always_on(settings: &Settings, draws: &mut Draws) -> Timeline {
        let mut sessions = Vec::new();
        // Not all start in the same instant.
        let mut from = draws.below(10 * MINUTE);
        while from < settings.duration {
            let to = (from + draws.exponential(settings.outage_every)).min(settings.duration);
            sessions.push(Session { from, to, then_sleeps: false });
            from = to + draws.between(MINUTE, settings.outage_most);
        }
        Timeline(sessions)
    }

    /// A person's machine: some sessions a day, most of them by day where the person lives.
    pub(crate) fn person(settings: &Settings, draws: &mut Draws) -> Timeline {
        let zone = draws.below(DAY);
        let (eight, midnight) = (8 * HOUR, DAY);
        let a_day = settings.sessions_a_day * draws.between(30, 170) as f64 / 100.0;
        let mut sessions: Vec<Session> = Vec::new();
        let mut back: Millis = 0;
        for day in 0..=settings.duration / DAY {
            if draws.chance(settings.away) {
                back = back.max(day * DAY + draws.between(DAY, settings.away_most));
            }
            let whole = a_day as u64 + u64::from(draws.chance(a_day.fract()));
            for _ in 0..whole {
                let local =
                    if draws.chance(settings.by_day) { draws.between(eight, midnight) } else { draws.below(DAY) };
                let from = day * DAY + (zone + local) % DAY;
                let length = draws.log_normal(settings.session_median as f64, settings.session_sigma) as Millis;
                let to = from + length.clamp(MINUTE, DAY);
                if from >= back {
                    sessions.push(Session { from, to, then_sleeps: draws.chance(settings.asleep) });
                }
            }
        }
        sessions.sort_unstable_by_key(|session| (session.from, session.to));
        let mut merged: Vec<Session> = Vec::new();
        for session in sessions {
            match merged.last_mut().filter(|last| session.from < last.to + SHORTEST_PAUSE) {
                Some(last) => last.to = last.to.max(session.to),
                None => merged.push(session),
            }
        }
        merged.retain_mut(|session| {
            session.to = session.to.min(settings.duration);
            session.from < session.to
        });
        Timeline(merged)
    }

    /// The sessions, in order.
    pub(crate) fn sessions(&self) -> &[Session] {
        &self.0
    }

    /// How long the peer is online between two times.
    pub(crate) fn online(&self, from: Millis, to: Millis) -> Millis {
        let first = self.0.partition_point(|session| session.to <= from);
        let within = self.0[first..].iter().take_while(|session| session.from < to);
        within.map(|session| session.to.min(to) - session.from.max(from)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_follow_one_another_and_their_time_is_counted() {
        let settings = Settings::default();
        let mut draws = Draws::new(5);
        let mut online = 0;
        for _ in 0..200 {
            let timeline = Timeline::person(&settings, &mut draws);
            let sessions = timeline.sessions();
            assert!(sessions.iter().all(|session| session.from < session.to && session.to <= settings.duration));
            assert!(sessions.windows(2).all(|two| two[0].to + SHORTEST_PAUSE <= two[1].from));
            let sum: Millis = sessions.iter().map(|session| session.to - session.from).sum();
            assert_eq!(timeline.online(0, settings.duration), sum);
            let (early, late) = (10 * DAY, 11 * DAY);
            let parts = timeline.online(0, early) + timeline.online(early, late) + timeline.online(late, 30 * DAY);
            assert_eq!(parts, sum);
            online += sum;
        }
        let share = online as f64 / (200 * settings.duration) as f64;
        assert!((0.08..0.4).contains(&share), "online for {share} of the time");
    }
}
