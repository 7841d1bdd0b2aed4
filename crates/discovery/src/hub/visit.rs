//! A stay at a hub: what is heard and said there.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use sbot_feed::FeedId;
use sbot_multiserver::HubAddress;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::attendance::{Attendance, Presence};
use super::http::Http;
use super::join::{Counters, FAREWELL, HubEvent, HubSettings, Post, count};
use super::message::Said;
use super::names::HubNames;
use super::rates::{Debt, Rate, Rates};
use super::sse::Event;
use super::stream::Stream;

/// Messages in a row that could not be sent, before the hub is given up.
const MOST_UNSENT: u32 = 5;
/// Time between two looks at who has been silent.
const LOOK: Duration = Duration::from_secs(1);

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

/// One stay at a hub.
pub(super) struct Visit {
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
    pub(super) fn new(
        hub: String,
        own: FeedId,
        names: HubNames,
        settings: HubSettings,
        events: mpsc::Sender<HubEvent>,
        counters: Arc<Counters>,
    ) -> Visit {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let attendance = Mutex::new(Attendance::new(millis(settings.forget), millis(settings.repeat)));
        Visit { began: Instant::now(), hub, own, names, settings, events, counters, attendance }
    }

    /// Stays until the hub is lost or left, or nobody cares any more.
    pub(super) async fn run(
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
