//! ssb-conn's policy, modelled from its source: ssb-conn 6.0.4 (`conn-scheduler.js`, `conn.js`, `interpool-glue.js`) with
//! ssb-conn-db 1.0.5, ssb-conn-hub 1.2.1, ssb-conn-query 1.2.2 and ssb-conn-staging 1.0.0. Comments name the function
//! that each piece models.
//!
//! The scheduler looks at everything each two seconds or so (`updateSoon`). The model computes when it will next find
//! something to do, and looks then. Chance that the scheduler draws anew at each look is drawn once for all looks to
//! come ([`SsbConn::plan`]): the number of looks until it comes up is as likely either way.

use crate::graph::NodeId;
use crate::measure::Cost;
use crate::policy::{AttemptId, Fact, Holding, LinkId, Policy, Wish};
use crate::random::Draws;
use crate::settings::{HOUR, MINUTE, Millis, SECOND};
use crate::world::{Address, World};

/// Peers that aren't rooms to be connected with (`updateHubNow`).
const QUOTA: usize = 4;
/// When links are rotated, for one peer that waits (`updateHubNow`).
const ROTATION: Millis = 2 * HOUR;
/// A dial that is not through after this time is given up (`maxWaitToConnect`)…
const MAX_WAIT: Millis = 10 * SECOND;
/// …but goes on below: multiserver's `net` sets no time, and Linux tries for 127 s (`tcp_syn_retries` 6).
const SYSTEM_TIMEOUT: Millis = 127 * SECOND;
/// Time between two looks (`setInterval` in `start`).
const LOOK: Millis = 2 * SECOND;
/// After a message from others, the scheduler does nothing for so long (`isCurrentlyDownloading`).
const DOWNLOADING: Millis = 500;
/// Chance that a peer's pause is halved at a look (`calculateCooldown`).
const HALVED: f64 = 0.3;

/// An address that is remembered (ssb-conn-db).
#[derive(Debug)]
struct Remembered {
    address: Address,
    failures: u32,
    state_change: Option<Millis>,
    /// `duration.mean > 0`: it was connected once.
    lasted: bool,
    blocked: bool,
    /// The pause that applies, and from when on the address may be dialed.
    ready: Option<(f64, Millis)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Connecting,
    Connected,
}

/// A peer in connection (ssb-conn-hub), in the order in which they came in.
#[derive(Debug)]
struct InHub {
    peer: NodeId,
    /// Which remembered address this is; `None` for who dialed us, from an address that isn't remembered.
    place: Option<usize>,
    doing: Doing,
    links: Vec<LinkId>,
    /// `stateChange` or `hubUpdated`, whichever the scheduler looks at.
    changed: Millis,
    blocked: bool,
}

/// One peer with ssb-conn.
#[derive(Debug)]
pub(crate) struct SsbConn {
    own: NodeId,
    db: Vec<Remembered>,
    hub: Vec<InHub>,
    /// Dials under way, given up or not, and to which remembered address.
    dials: Vec<(AttemptId, usize)>,
    next_attempt: AttemptId,
    last_rotation: Millis,
    last_message: Option<Millis>,
    /// `RANDOM_MULTIPLIER`, one for each start of the program.
    multiplier: f64,
    /// Whether the oldest callers are hung up on when there are too many.
    prunes: bool,
    /// When the first look after the start was, or any time that it may have been.
    first_look: Millis,
    /// A look that was asked for besides those each two seconds (`updateSoon(200)`).
    soon: Option<Millis>,
    wake: Option<Millis>,
    draws: Draws,
}

impl SsbConn {
    /// One that was never started before.
    pub(crate) fn new(own: NodeId, world: &World, draws: Draws) -> Self {
        let remembered = |address: &Address| Remembered {
            address: *address,
            failures: 0,
            state_change: None,
            lasted: false,
            blocked: world.blocks(own, address.peer),
            ready: None,
        };
        let is_pub = (own as usize) < world.graph.pubs;
        SsbConn {
            own,
            db: world.books[own as usize].iter().map(remembered).collect(),
            hub: Vec::new(),
            dials: Vec::new(),
            next_attempt: 0,
            last_rotation: 0,
            last_message: None,
            multiplier: 1.0,
            prunes: !is_pub || world.settings.pubs_prune,
            first_look: 0,
            soon: None,
            wake: None,
            draws,
        }
    }

    /// Remembered addresses that are not in connection, may be dialed, and are not blocked (`peersConnectable`, and the
    /// filters of `maintainConnections`). Pubs of `pub` messages are remembered with `autoconnect: false` and staged with
    /// it again (`setupPubDiscovery`, `updateStagingNow`): they are shown to the user and never dialed, so that the
    /// model leaves them out.
    fn down(&self) -> impl Iterator<Item = usize> + '_ {
        let in_hub = |place| self.hub.iter().any(|peer| peer.place == Some(place));
        (0..self.db.len()).filter(move |place| !self.db[*place].blocked && !in_hub(*place))
    }

    fn connected(&self) -> usize {
        self.hub.iter().filter(|peer| peer.doing == Doing::Connected).count()
    }

    /// `calculateCooldown`, without the chance in it. Whoever is not within the known hops never cools down.
    fn cooldown(&self, place: usize, connected: usize) -> Option<f64> {
        let peer = &self.db[place];
        let hops = f64::from(peer.address.hops?) * SECOND as f64;
        let full = (connected.min(QUOTA) as f64 / QUOTA as f64).max(0.1);
        let retry = (4 * SECOND) as f64 + f64::from(peer.failures.min(64)).powi(3) * 10.0 * SECOND as f64;
        let mut cooldown = (hops + retry) * full;
        match peer.state_change {
            // `hasNoAttempts`
            None => cooldown *= 0.5,
            // `hasOnlyFailedAttempts`
            Some(_) if !peer.lasted => cooldown *= 3.0,
            Some(_) => {}
        }
        Some(cooldown)
    }

    /// The first look at or after a time.
    fn look_after(&self, when: Millis) -> Millis {
        let past = when.saturating_sub(self.first_look);
        self.first_look + past.div_ceil(LOOK) * LOOK
    }

    /// Decides when each peer will have cooled down, and asks to be woken when there is something to do.
    fn plan(&mut self, now: Millis, wishes: &mut Vec<Wish>) {
        let connected = self.connected();
        let free = QUOTA.saturating_sub(connected);
        let down: Vec<usize> = self.down().collect();
        let mut next: Option<Millis> = None;
        let mut at = |when: Millis| next = Some(next.map_or(when, |next| next.min(when)));
        for place in &down {
            let cooldown = self.cooldown(*place, connected);
            let last = self.db[*place].state_change.unwrap_or(0);
            self.db[*place].ready = cooldown.map(|cooldown| {
                let (half, whole) = (last + (cooldown / 2.0) as Millis + 1, last + cooldown as Millis + 1);
                let lucky = half.max(now) + (self.draws.tries_until(HALVED) - 1) * LOOK;
                if lucky < whole { (cooldown / 2.0, lucky) } else { (cooldown, whole) }
            });
            if let Some((_, ready)) = self.db[*place].ready.filter(|_| free > 0) {
                at(ready);
            }
        }
        if free == 0 && !down.is_empty() {
            let period = self.rotation(down.len());
            let up = self.hub.iter().filter(|peer| peer.doing == Doing::Connected);
            if let Some(oldest) = up.map(|peer| peer.changed).min() {
                at(oldest.max(self.last_rotation) + period + 1);
            }
        }
        if let Some((_, wait)) = self.excess(connected) {
            let callers = self.hub.iter().filter(|peer| peer.place.is_none());
            if let Some(oldest) = callers.map(|peer| peer.changed).min() {
                at(oldest + wait + 1);
            }
        }
        for peer in self.hub.iter().filter(|peer| peer.doing == Doing::Connecting) {
            at(peer.changed + MAX_WAIT + 1);
        }
        if self.hub.iter().any(|peer| peer.blocked) {
            at(now);
        }
        let look = next.map(|next| self.look_after(next.max(now + 1)));
        self.wake_at(look.into_iter().chain(self.soon).min(), wishes);
    }

    fn wake_at(&mut self, when: Option<Millis>, wishes: &mut Vec<Wish>) {
        if let Some(when) = when.filter(|when| self.wake != Some(*when)) {
            self.wake = Some(when);
            wishes.push(Wish::WakeAt(when));
        }
    }

    /// `updateSoon(200)`: unless another look was asked for already.
    fn look_soon(&mut self, now: Millis) {
        let when = now + self.draws.between(100, 300);
        self.soon.get_or_insert(when);
    }

    fn rotation(&self, down: usize) -> Millis {
        (ROTATION as f64 * self.multiplier / (down as f64).sqrt()) as Millis
    }

    /// How many links are too many, and how old one must be to be ended for that (`filterOldExcess`).
    fn excess(&self, connected: usize) -> Option<(usize, Millis)> {
        (self.prunes && connected > QUOTA * 2).then(|| {
            let excess = connected - QUOTA;
            (excess, ((2 * MINUTE) as f64 * self.multiplier / excess as f64) as Millis)
        })
    }

    /// `updateNow`.
    fn look(&mut self, now: Millis, wishes: &mut Vec<Wish>) {
        if self.last_message.is_some_and(|last| last + DOWNLOADING > now) {
            return self.wake_at(Some(self.look_after(now + 1)), wishes);
        }
        self.maintain(now, wishes);
        let given_up = |peer: &InHub| peer.doing == Doing::Connecting && peer.changed + MAX_WAIT < now;
        for at in (0..self.hub.len()).rev() {
            if self.hub[at].blocked || given_up(&self.hub[at]) {
                self.disconnect(at, now, wishes);
            }
        }
        self.plan(now, wishes);
    }

    /// `maintainConnections`, for peers that aren't rooms.
    fn maintain(&mut self, now: Millis, wishes: &mut Vec<Wish>) {
        let connected = self.connected();
        let free = QUOTA.saturating_sub(connected);
        let down: Vec<usize> = self.down().collect();
        if let Some((excess, wait)) = self.excess(connected) {
            // Only who dialed us has an `hubUpdated`: `_hubEntryToPeer` takes others from the remembered ones.
            let old =
                |peer: &InHub| peer.doing == Doing::Connected && peer.place.is_none() && now > peer.changed + wait;
            let mut oldest: Vec<usize> = (0..self.hub.len()).filter(|at| old(&self.hub[*at])).collect();
            oldest.truncate(excess);
            for at in oldest.into_iter().rev() {
                self.disconnect(at, now, wishes);
            }
        }
        if free == 0 && !down.is_empty() {
            let period = self.rotation(down.len());
            let old = |peer: &InHub| peer.doing == Doing::Connected && peer.changed + period < now;
            if self.last_rotation + period < now
                && let Some(oldest) = self.hub.iter().position(old)
            {
                self.last_rotation = now;
                self.disconnect(oldest, now, wishes);
            }
        }
        let mut cool: Vec<(f64, usize)> = down
            .into_iter()
            .filter_map(|place| self.db[place].ready.filter(|(_, at)| *at <= now).map(|(pause, _)| (pause, place)))
            .collect();
        cool.sort_by(|one, other| one.0.total_cmp(&other.0));
        for (_, place) in cool.into_iter().take(free) {
            self.connect(place, now, wishes);
        }
    }

    fn enter(&mut self, peer: NodeId, place: Option<usize>, blocked: bool, now: Millis) -> usize {
        self.hub.push(InHub { peer, place, doing: Doing::Connecting, links: Vec::new(), changed: now, blocked });
        self.hub.len() - 1
    }

    /// `ConnHub.connect`, and what `onConnecting` makes of it.
    fn connect(&mut self, place: usize, now: Millis, wishes: &mut Vec<Wish>) {
        let address = self.db[place].address;
        let attempt = self.next_attempt;
        self.next_attempt += 1;
        self.dials.push((attempt, place));
        self.db[place].state_change = Some(now);
        self.enter(address.peer, Some(place), false, now);
        wishes.push(Wish::Dial { attempt, address, timeout: SYSTEM_TIMEOUT });
    }

    /// `ConnHub.disconnect`: of a dial, nothing is ended but the note that there is one. It counts as no failure.
    fn disconnect(&mut self, at: usize, now: Millis, wishes: &mut Vec<Wish>) {
        let peer = self.hub.remove(at);
        if let Some(place) = peer.place {
            self.db[place].state_change = Some(now);
            self.db[place].lasted |= peer.doing == Doing::Connected;
        }
        self.look_soon(now);
        wishes.extend(peer.links.into_iter().map(|link| Wish::HangUp { link }));
    }

    /// `_onRpcConnect` and `onConnected`.
    fn up(&mut self, at: usize, link: LinkId, now: Millis) {
        let peer = &mut self.hub[at];
        (peer.doing, peer.changed) = (Doing::Connected, now);
        peer.links.push(link);
        if let Some(place) = peer.place {
            (self.db[place].state_change, self.db[place].failures) = (Some(now), 0);
        }
    }

    /// Who dialed us: a peer in connection already, or one from an address that isn't remembered.
    fn called(&mut self, peer: NodeId, link: LinkId, blocked: bool, now: Millis) {
        let known = self.hub.iter().position(|known| known.peer == peer);
        let at = known.unwrap_or_else(|| self.enter(peer, None, blocked, now));
        self.up(at, link, now);
    }

    fn dialed(&mut self, attempt: AttemptId, link: LinkId, now: Millis) {
        let Some(dial) = self.dials.iter().position(|(known, _)| *known == attempt) else { return };
        let (_, place) = self.dials.swap_remove(dial);
        let peer = self.db[place].address.peer;
        let known = self.hub.iter().position(|known| known.place == Some(place));
        let at = known.unwrap_or_else(|| self.enter(peer, Some(place), false, now));
        self.up(at, link, now);
    }

    /// The error of `ConnHub.connect`, and `onConnectingFailed`. The source takes the address out of the hub even if a later
    /// dial has succeeded; that is left out.
    fn dial_failed(&mut self, attempt: AttemptId, now: Millis) {
        let Some(dial) = self.dials.iter().position(|(known, _)| *known == attempt) else { return };
        let (_, place) = self.dials.swap_remove(dial);
        let doing = |peer: &InHub| peer.place == Some(place) && peer.doing == Doing::Connecting;
        if let Some(at) = self.hub.iter().position(doing) {
            self.hub.remove(at);
        }
        let peer = &mut self.db[place];
        (peer.failures, peer.state_change) = (peer.failures + 1, Some(now));
    }

    /// `closed` of a link, and `onDisconnected`.
    fn ended(&mut self, link: LinkId, now: Millis) {
        let Some(at) = self.hub.iter().position(|peer| peer.links.contains(&link)) else { return };
        let peer = self.hub.remove(at);
        if let Some(place) = peer.place {
            (self.db[place].lasted, self.db[place].state_change) = (true, Some(now));
        }
        self.look_soon(now);
    }

    /// `ConnHub.reset`: links are closed, dials are not.
    fn reset(&mut self, now: Millis, wishes: &mut Vec<Wish>) {
        for at in (0..self.hub.len()).rev() {
            if self.hub[at].doing == Doing::Connected {
                self.disconnect(at, now, wishes);
            }
        }
    }
}

impl Policy for SsbConn {
    fn note(&mut self, fact: Fact, now: Millis, world: &World, wishes: &mut Vec<Wish>, _: &mut Cost) {
        match fact {
            Fact::Started => {
                self.multiplier = 0.8 + self.draws.unit() * 0.4;
                self.last_rotation = 0;
                self.first_look = now + self.draws.below(LOOK);
            }
            Fact::Stopped => {
                self.hub.clear();
                self.dials.clear();
                (self.soon, self.wake) = (None, None);
                return;
            }
            Fact::Woke => {
                // The system's own tries have run out meanwhile.
                for (attempt, _) in self.dials.clone() {
                    self.dial_failed(attempt, now);
                }
                (self.soon, self.wake) = (None, None);
                self.reset(now, wishes);
            }
            Fact::NetworkChanged => self.reset(now, wishes),
            Fact::Dialed { attempt, link, .. } => self.dialed(attempt, link, now),
            Fact::DialFailed { attempt, .. } => self.dial_failed(attempt, now),
            Fact::Called { peer, link } => self.called(peer, link, world.blocks(self.own, peer), now),
            Fact::Ended { link, .. } => self.ended(link, now),
            Fact::MessageCame { .. } => {
                self.last_message = Some(now);
                return;
            }
            Fact::Heard(_) | Fact::TransferStarted { .. } | Fact::TransferFinished { .. } => return,
            Fact::Tick => {
                self.wake = None;
                self.soon = self.soon.filter(|soon| *soon > now);
                return self.look(now, wishes);
            }
        }
        self.plan(now, wishes);
    }

    fn holds(&self) -> Holding {
        Holding { known: self.db.len(), over_limit: false }
    }

    fn bytes(&self) -> usize {
        0
    }
}
