//! The task that is at a hub.

use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use rustls::pki_types::CertificateDer;
use sbot_feed::{FeedId, NetworkKey};
use sbot_multiserver::{HubAddress, Session};
use serde_json::Value;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout, timeout_at};

use super::attendance::{Attendance, Presence};
use super::http::{Http, with_causes};
use super::message::Said;
use super::names::HubNames;
use super::rates::{Debt, Rate, Rates};
use super::sse::{Event, Reader};

/// Events that wait to be taken. While they do, the hub isn't read.
pub const WAITING_EVENTS: usize = 64;
/// Messages that wait to be sent: a few dials at once, each some ten signals. More are dropped.
pub const WAITING_POSTS: usize = 256;
/// Messages in a row that could not be sent, before the hub is given up.
const MOST_UNSENT: u32 = 5;
/// Time for the goodbye.
const FAREWELL: Duration = Duration::from_secs(2);
/// Time between two looks at who has been silent.
const LOOK: Duration = Duration::from_secs(1);

/// What is read from a hub a second, in bytes, for each of the two streams: a hub of ten thousand peers says 15 KB a
/// second. A hub that says more is read more slowly.
const READ: Rate = Rate { per_second: 1 << 20, at_once: 16 << 20 };
/// Announcements of one whom we know: it needs one a minute.
const KNOWN_ANNOUNCE: Rate = Rate { per_second: 1, at_once: 10 };
/// Announcements of all strangers: three thousand need fifty a second.
const STRANGERS_ANNOUNCE: Rate = Rate { per_second: 50, at_once: 1_000 };
/// Letters of one whom we know: a dial is some ten to thirty.
const KNOWN_LETTERS: Rate = Rate { per_second: 10, at_once: 200 };
/// Letters of all strangers.
const STRANGERS_LETTERS: Rate = Rate { per_second: 10, at_once: 200 };
/// Answers to newcomers.
const ANSWERS: Rate = Rate { per_second: 2, at_once: 50 };

/// How far a peer is from us in the social graph; `None` for strangers.
pub type Hops = Arc<dyn Fn(&FeedId) -> Option<u32> + Send + Sync>;

/// How to be at a hub.
#[derive(Clone)]
pub struct HubSettings {
    /// Time for a connection and an answer.
    pub patience: Duration,
    /// A hub that says nothing for so long is lost. It says something every 30 s.
    pub silence: Duration,
    /// Time between two announcements, give or take a quarter.
    pub announce: Duration,
    /// Who doesn't announce itself for so long is forgotten.
    pub forget: Duration,
    /// Who keeps announcing itself is told of again after so long.
    pub repeat: Duration,
    /// Certificate authorities beside those of the system.
    pub roots: Vec<CertificateDer<'static>>,
    /// Who is how near.
    pub hops: Hops,
}

impl Default for HubSettings {
    fn default() -> Self {
        HubSettings {
            patience: Duration::from_secs(15),
            silence: Duration::from_secs(75),
            announce: Duration::from_secs(60),
            forget: Duration::from_secs(200),
            repeat: Duration::from_secs(600),
            roots: Vec::new(),
            hops: Arc::new(|_| None),
        }
    }
}

/// What happens at a hub.
#[derive(Debug, Clone, PartialEq)]
pub enum HubEvent {
    /// We hear what is said there from now on.
    Joined,
    /// Somebody says that it is this peer and that it is there. Told again now and then while it says so.
    Announced(FeedId),
    /// It says so no longer, or says that it leaves.
    Gone(FeedId),
    /// Somebody who says that it is this peer has posted a signal for us.
    Signal {
        /// From whom.
        from: FeedId,
        /// Which attempt at a connection it belongs to.
        session: Session,
        /// An offer, an answer or a candidate, or anything else: an object.
        signal: Value,
    },
    /// The hub can't be used, or no longer: the reason, for people. The last event.
    Lost(String),
}

/// What has been heard and said at a hub so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HubCounts {
    /// Announcements, goodbyes and signals that were listened to.
    pub heard: u64,
    /// Passed over because too much was said.
    pub too_many: u64,
    /// Passed over because they were too long or malformed.
    pub unreadable: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages not sent: too many waited, the hub refused them, or they were too long.
    pub unsent: u64,
    /// Peers that are remembered to be there.
    pub there: u64,
}

#[derive(Default)]
struct Counters {
    heard: AtomicU64,
    too_many: AtomicU64,
    unreadable: AtomicU64,
    sent: AtomicU64,
    unsent: AtomicU64,
    there: AtomicU64,
    told: AtomicBool,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

struct Post {
    channel: String,
    said: Said,
}

/// Speaks at a hub. Dropped without [`Hub::leave`] it goes without a goodbye.
pub struct Hub {
    own: FeedId,
    names: HubNames,
    posts: mpsc::Sender<Post>,
    announcing: Arc<Notify>,
    leaving: oneshot::Sender<oneshot::Sender<()>>,
    counters: Arc<Counters>,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("own", &self.own).field("counts", &self.counts()).finish_non_exhaustive()
    }
}

/// Goes to a hub and stays until it is lost or left, or nobody takes events any more. Must be called within a tokio
/// runtime.
pub fn join(
    hub: HubAddress,
    network: &NetworkKey,
    own: FeedId,
    settings: HubSettings,
) -> (Hub, mpsc::Receiver<HubEvent>) {
    let names = HubNames::new(network);
    let (posts, waiting) = mpsc::channel(WAITING_POSTS);
    let (events, heard) = mpsc::channel(WAITING_EVENTS);
    let (leaving, left) = oneshot::channel();
    let (announcing, counters) = (Arc::new(Notify::new()), Arc::new(Counters::default()));
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let attendance = Attendance::new(millis(settings.forget), millis(settings.repeat));
    let visit = Visit {
        began: Instant::now(),
        hub: hub.to_string(),
        own,
        names: names.clone(),
        settings,
        events,
        counters: Arc::clone(&counters),
        attendance: Mutex::new(attendance),
    };
    tokio::spawn(visit.run(hub, waiting, Arc::clone(&announcing), left));
    (Hub { own, names, posts, announcing, leaving, counters }, heard)
}

impl Hub {
    /// Says that we are there, now and then again every minute.
    pub fn announce(&self) {
        self.announcing.notify_one();
    }

    /// Says to one peer that we are there.
    pub fn answer(&self, to: FeedId) {
        self.post(to, Said::Here(self.own));
    }

    /// Posts a signal into a peer's letter box. They are sent one after the other; if too many wait it is dropped.
    pub fn signal(&self, to: FeedId, session: Session, signal: Value) {
        self.post(to, Said::Signal { from: self.own, session, signal });
    }

    fn post(&self, to: FeedId, said: Said) {
        if self.posts.try_send(Post { channel: self.names.letter_box(&to), said }).is_err() {
            count(&self.counters.unsent);
        }
    }

    /// What has been heard and said so far.
    pub fn counts(&self) -> HubCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &*self.counters;
        HubCounts {
            heard: get(&counters.heard),
            too_many: get(&counters.too_many),
            unreadable: get(&counters.unreadable),
            sent: get(&counters.sent),
            unsent: get(&counters.unsent),
            there: get(&counters.there),
        }
    }

    /// Says goodbye, if we were announced, and goes. No event follows.
    pub async fn leave(self) {
        let (done, gone) = oneshot::channel();
        if self.leaving.send(done).is_ok() {
            // It ends in any case.
            let _ = timeout(FAREWELL, gone).await;
        }
    }
}

/// One stay at a hub.
struct Visit {
    began: Instant,
    hub: String,
    own: FeedId,
    names: HubNames,
    settings: HubSettings,
    events: mpsc::Sender<HubEvent>,
    counters: Arc<Counters>,
    attendance: Mutex<Attendance>,
}

/// Why a stay ends.
enum End {
    /// The hub can't be used, or no longer.
    Lost(String),
    /// Nobody takes events any more, or speaks.
    Unwanted,
}

impl Visit {
    async fn run(
        self,
        hub: HubAddress,
        posts: mpsc::Receiver<Post>,
        announcing: Arc<Notify>,
        mut left: oneshot::Receiver<oneshot::Sender<()>>,
    ) {
        let http = tokio::select! {
            http = Http::new(&hub, &self.settings.roots, self.settings.patience) => http,
            // Who waits for it learns so from the channel's end.
            _ = &mut left => return,
        };
        let http = match http {
            Ok(http) => http,
            Err(error) => return self.lost(error.to_string()).await,
        };
        let announced = AtomicBool::new(false);
        let end = tokio::select! {
            end = self.listen(&http) => end,
            end = self.speak(&http, posts, &announcing, &announced) => end,
            () = self.events.closed() => End::Unwanted,
            done = &mut left => {
                if let Ok(done) = done {
                    if announced.load(Ordering::Relaxed) {
                        let goodbye = Said::Gone(self.own);
                        // The others will notice that we are silent.
                        let _ = timeout(FAREWELL, self.publish(&http, HubNames::ANNOUNCE, &goodbye)).await;
                    }
                    // It may not wait any more.
                    let _ = done.send(());
                }
                End::Unwanted
            }
        };
        if let End::Lost(why) = end {
            self.lost(why).await;
        }
    }

    async fn lost(&self, why: String) {
        // Nobody may take it any more.
        let _ = self.events.send(HubEvent::Lost(why)).await;
    }

    async fn tell(&self, event: HubEvent) -> Result<(), End> {
        self.events.send(event).await.map_err(|_| End::Unwanted)
    }

    fn now(&self) -> u64 {
        // For half a billion years.
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Listens to what everyone says, and to what is said to us. In two streams, though a hub offers one for both: only so
    /// it can be told what was said to everyone. A single offer to all would make a crowd of peers call on whoever it names.
    async fn listen(&self, http: &Http) -> End {
        let own = self.names.letter_box(&self.own);
        let (announce, own) = (self.names.path(HubNames::ANNOUNCE), self.names.path(&own));
        let streams = tokio::try_join!(http.listen(&announce), http.listen(&own));
        let (announcements, letters) = match streams {
            Ok(streams) => streams,
            Err(error) => return End::Lost(error.to_string()),
        };
        let listening = async {
            self.tell(HubEvent::Joined).await?;
            let announcements = self.hear(announcements, Rates::new(KNOWN_ANNOUNCE, STRANGERS_ANNOUNCE), false);
            let letters = self.hear(letters, Rates::new(KNOWN_LETTERS, STRANGERS_LETTERS), true);
            tokio::try_join!(announcements, letters, self.forget_the_silent())
        };
        match listening.await {
            Err(end) => end,
            Ok((never, ..)) => match never {},
        }
    }

    /// Takes what comes in one stream, until it ends.
    async fn hear(&self, body: Incoming, mut rates: Rates, to_us: bool) -> Result<Infallible, End> {
        let mut stream = Stream::new(body, self.settings.silence);
        loop {
            let said = match stream.next().await.map_err(End::Lost)? {
                Event::Message(text) => text.parse::<Said>(),
                Event::Sign => continue,
                Event::Unreadable => {
                    self.passed_over(&self.counters.unreadable);
                    continue;
                }
            };
            let said = match said {
                Ok(Said::Signal { .. }) if !to_us => {
                    self.passed_over(&self.counters.unreadable);
                    continue;
                }
                Ok(said) => said,
                Err(error) => {
                    tracing::trace!(hub = self.hub, %error, "not understood");
                    self.passed_over(&self.counters.unreadable);
                    continue;
                }
            };
            let who = said.who();
            if who == self.own {
                continue;
            }
            let hops = (self.settings.hops)(&who);
            if !rates.allow(who, hops.is_some(), self.now()) {
                self.passed_over(&self.counters.too_many);
                continue;
            }
            count(&self.counters.heard);
            self.heard(said, hops).await?;
        }
    }

    async fn heard(&self, said: Said, hops: Option<u32>) -> Result<(), End> {
        let news = match said {
            Said::Signal { from, session, signal } => {
                return self.tell(HubEvent::Signal { from, session, signal }).await;
            }
            Said::Here(peer) => self.attend(|attendance| attendance.here(peer, hops, self.now())),
            Said::Gone(peer) if self.attend(|attendance| attendance.gone(&peer)) => vec![Presence::Gone(peer)],
            Said::Gone(_) => Vec::new(),
        };
        for one in news {
            self.tell(match one {
                Presence::Here(peer) => HubEvent::Announced(peer),
                Presence::Gone(peer) => HubEvent::Gone(peer),
            })
            .await?;
        }
        Ok(())
    }

    fn attend<T>(&self, change: impl FnOnce(&mut Attendance) -> T) -> T {
        // Nothing under the lock can leave it half done.
        let mut attendance = self.attendance.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut attendance);
        self.counters.there.store(attendance.len() as u64, Ordering::Relaxed);
        changed
    }

    async fn forget_the_silent(&self) -> Result<Infallible, End> {
        let mut looks = interval(LOOK.min(self.settings.forget));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            for peer in self.attend(|attendance| attendance.silent(self.now())) {
                self.tell(HubEvent::Gone(peer)).await?;
            }
        }
    }

    /// Counts what is not listened to. Told once, not as often as somebody likes.
    fn passed_over(&self, counter: &AtomicU64) {
        count(counter);
        if !self.counters.told.swap(true, Ordering::Relaxed) {
            tracing::info!(hub = self.hub, "not everything that is said at this hub can be listened to");
        }
    }

    /// Says what is to be said, one after the other.
    async fn speak(
        &self,
        http: &Http,
        mut posts: mpsc::Receiver<Post>,
        announcing: &Notify,
        announced: &AtomicBool,
    ) -> End {
        let (mut unsent, mut answers, mut again) = (0, Debt::default(), None);
        loop {
            let due = async {
                match again {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let post = tokio::select! {
                () = announcing.notified() => None,
                () = due => None,
                post = posts.recv() => match post {
                    Some(Post { said: Said::Here(_), .. }) if !answers.allow(1, ANSWERS, self.now()) => continue,
                    Some(post) => Some(post),
                    None => return End::Unwanted,
                },
            };
            let said = match &post {
                Some(post) => self.publish(http, &post.channel, &post.said).await,
                None => {
                    again = Some(Instant::now() + self.settings.announce.mul_f64(0.75 + fastrand::f64() / 2.0));
                    announced.store(true, Ordering::Relaxed);
                    self.publish(http, HubNames::ANNOUNCE, &Said::Here(self.own)).await
                }
            };
            match said {
                Ok(()) => {
                    unsent = 0;
                    count(&self.counters.sent);
                }
                Err(error) => {
                    unsent += 1;
                    count(&self.counters.unsent);
                    tracing::debug!(hub = self.hub, error, "a message was not sent");
                    if unsent >= MOST_UNSENT {
                        return End::Lost(format!("nothing can be said there: {error}"));
                    }
                }
            }
        }
    }

    async fn publish(&self, http: &Http, channel: &str, said: &Said) -> Result<(), String> {
        let text = said.text().map_err(|error| error.to_string())?;
        http.publish(&self.names.path(channel), text).await.map_err(|error| error.to_string())
    }
}

/// A stream of events as it comes in.
struct Stream {
    body: Incoming,
    reader: Reader,
    /// What has come and was not read yet.
    piece: Bytes,
    debt: Debt,
    began: Instant,
    /// Nothing is taken before, so that the rate is kept.
    not_before: Instant,
    silence: Duration,
}

impl Stream {
    fn new(body: Incoming, silence: Duration) -> Stream {
        let now = Instant::now();
        let (reader, piece, debt) = (Reader::new(), Bytes::new(), Debt::default());
        Stream { body, reader, piece, debt, began: now, not_before: now, silence }
    }

    /// What comes next. Half a line is no sign of life: it may never end.
    async fn next(&mut self) -> Result<Event, String> {
        let silence = self.silence;
        let silent = || format!("nothing was heard for {silence:?}");
        let until = Instant::now() + self.silence;
        loop {
            let mut rest = &self.piece[..];
            let event = self.reader.next(&mut rest);
            let read = self.piece.len() - rest.len();
            self.piece.advance(read);
            if let Some(event) = event {
                return Ok(event);
            }
            sleep_until(self.not_before).await;
            // What is there already would be taken in any case.
            if Instant::now() >= until {
                return Err(silent());
            }
            let frame = timeout_at(until, self.body.frame()).await.map_err(|_| silent())?;
            let frame = frame.ok_or("it has ended the connection")?.map_err(|error| with_causes(&error))?;
            if let Ok(piece) = frame.into_data() {
                let now = Instant::now();
                let passed = u64::try_from(now.duration_since(self.began).as_millis()).unwrap_or(u64::MAX);
                let pause = self.debt.add(piece.len() as u64, READ, passed);
                self.not_before = now + Duration::from_millis(pause);
                self.piece = piece;
            }
        }
    }
}
