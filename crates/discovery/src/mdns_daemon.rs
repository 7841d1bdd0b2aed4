//! The task that announces this node by multicast DNS and listens for others.

use std::time::Duration;

use mdns_sd::{IfKind, Receiver, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent, ServiceInfo};
use sbot_feed::FeedId;
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::mdns::{Found, SERVICE, Service, Services, name_of};
use crate::sighting::Spotter;

/// UDP port of multicast DNS (RFC 6762, 3).
const PORT: u16 = 5353;
/// Time between two looks at what is to be announced, and at how much is kept.
const LOOK: Duration = Duration::from_secs(5);
/// Most records that the library may keep; each takes less than a kilobyte. A local network has a few for each node and
/// interface. The library has no bound of its own: with more it is started anew. It doesn't come to that while packets come
/// faster than it reads them, which they do the sooner the more it keeps.
const MOST_RECORDS: i64 = 5_000;
/// Pause before it is started anew.
const PAUSE: Duration = Duration::from_secs(30);
/// Time for the goodbye.
const FAREWELL: Duration = Duration::from_secs(1);

/// Announcing and listening, until it is stopped.
pub struct Mdns {
    stop: oneshot::Sender<()>,
    stopped: oneshot::Receiver<()>,
}

impl Mdns {
    /// Starts; the second value is the work itself, to be run as a task. Announces what `service` gives, whenever that
    /// changes, or merely listens while it gives nothing. Ends when nobody takes sightings any more, too.
    pub fn start(
        own: FeedId,
        service: impl Fn() -> Option<Service> + Send + Sync,
        spotter: Spotter,
    ) -> (Mdns, impl Future<Output = ()> + Send) {
        let (stop, stopping) = oneshot::channel();
        let (done, stopped) = oneshot::channel();
        let work = async move {
            let mut stopping = stopping;
            let mut failed = false;
            loop {
                match Daemon::start(own) {
                    Ok(daemon) => {
                        let end = daemon.run(&service, &spotter, &mut stopping).await;
                        if matches!(end, End::Stopped) {
                            break;
                        }
                    }
                    // Told once, not twice a minute.
                    Err(error) if !failed => {
                        failed = true;
                        tracing::warn!(%error, "can't look for peers by multicast DNS");
                    }
                    Err(_) => {}
                }
                tokio::select! {
                    () = sleep(PAUSE) => {}
                    _ = &mut stopping => break,
                }
            }
            // Nobody may wait for it.
            let _ = done.send(());
        };
        (Mdns { stop, stopped }, work)
    }

    /// Says goodbye, so that others need not wait for the records to expire.
    pub async fn stop(self) {
        // It may have ended by itself.
        let _ = self.stop.send(());
        let _ = timeout(2 * FAREWELL, self.stopped).await;
    }
}

/// Why a daemon has ended.
enum End {
    /// It was to.
    Stopped,
    /// It kept too much, or wasn't listened to in time.
    Flooded,
}

/// The library at work, in a thread of its own, which ends with this value.
struct Daemon {
    daemon: ServiceDaemon,
    own: FeedId,
    events: Receiver<ServiceEvent>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.daemon.shutdown();
    }
}

impl Daemon {
    fn start(own: FeedId) -> mdns_sd::Result<Daemon> {
        let daemon = ServiceDaemon::new_with_port(PORT)?;
        // Whoever is on this machine is no neighbour.
        daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])?;
        let events = daemon.browse(SERVICE)?;
        Ok(Daemon { daemon, own, events })
    }

    /// Works until the end, and forgets whom it has found.
    async fn run(
        self,
        service: impl Fn() -> Option<Service>,
        spotter: &Spotter,
        stopping: &mut oneshot::Receiver<()>,
    ) -> End {
        let mut services = Services::new(self.own);
        let (mut announced, mut failed) = (None, false);
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = loop {
            let news = tokio::select! {
                event = self.events.recv_async() => match event {
                    Ok(ServiceEvent::ServiceResolved(found)) => services.resolved(read(&found)),
                    Ok(ServiceEvent::ServiceRemoved(_, name)) => services.removed(&name),
                    Ok(_) => continue,
                    Err(_) => break End::Flooded,
                },
                _ = looks.tick() => {
                    if spotter.is_ended() {
                        break End::Stopped;
                    }
                    // One that is too busy to answer is as bad.
                    if self.kept().await.is_none_or(|kept| kept > MOST_RECORDS) {
                        break End::Flooded;
                    }
                    let now = service();
                    if now != announced {
                        if let Err(error) = self.announce(now.as_ref())
                            && !std::mem::replace(&mut failed, true)
                        {
                            tracing::warn!(%error, "can't announce this node by multicast DNS");
                        }
                        announced = now;
                    }
                    continue;
                }
                _ = &mut *stopping => break End::Stopped,
            };
            if spotter.pass_on(news).await.is_err() {
                break End::Stopped;
            }
        };
        if matches!(end, End::Flooded) {
            tracing::warn!("multicast DNS is started anew: more was said than any network has to say");
        }
        // The goodbye is part of it. While a flood lasts the library doesn't come to it: there is never a second one beside
        // it.
        if let Ok(ended) = self.daemon.shutdown() {
            match end {
                End::Stopped => drop(timeout(FAREWELL, ended.recv_async()).await),
                End::Flooded => tokio::select! {
                    _ = ended.recv_async() => {}
                    _ = &mut *stopping => return End::Stopped,
                },
            }
        }
        // That nobody listens any more is no matter now.
        let _ = spotter.pass_on(services.clear()).await;
        end
    }

    fn announce(&self, service: Option<&Service>) -> mdns_sd::Result<()> {
        let name = name_of(&self.own);
        let Some(service) = service else {
            return self.daemon.unregister(&format!("{name}.{SERVICE}")).map(drop);
        };
        let txt = service.txt(&self.own);
        let host = format!("{name}.local.");
        let info = ServiceInfo::new(SERVICE, &name, &host, service.ips.as_slice(), service.port, &txt[..])?;
        let info = if service.ips.is_empty() { info.enable_addr_auto() } else { info };
        self.daemon.register(info)
    }

    /// How many records the library keeps; `None` if it doesn't say so in time.
    async fn kept(&self) -> Option<i64> {
        let metrics = self.daemon.get_metrics().ok()?;
        let metrics = timeout(LOOK, metrics.recv_async()).await.ok()?.ok()?;
        Some(metrics.iter().filter(|(name, _)| name.starts_with("cached-")).map(|(_, count)| count).sum())
    }
}

fn read(found: &ResolvedService) -> Found {
    let ip = |ip: &ScopedIp| match ip {
        ScopedIp::V6(v6) => ((*v6.addr()).into(), v6.scope_id().index),
        ip => (ip.to_ip_addr(), 0),
    };
    let text = |name| found.get_property_val_str(name).map(str::to_owned);
    Found {
        name: found.fullname.clone(),
        port: found.port,
        ips: found.addresses.iter().map(ip).collect(),
        key: text("key"),
        address: text("address"),
    }
}
