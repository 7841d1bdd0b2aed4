//! The transports of a node, with `rtc` among them if it is built in.

use sbot_feed::{FeedId, Keypair, NetworkKey};
use sbot_multiserver::{
    Authorise, Bind, DialSettings, Dialer, HubAddress, ListenError, ListenSettings, Listener, Net, Session, Unix,
};
use serde_json::Value;

use super::Hubs;
use crate::config::Rtc as Settings;

#[cfg(feature = "rtc")]
mod rtc {
    use std::io;
    use std::sync::Weak;

    use sbot_multiserver::{Acceptor, Endpoint, Outgoing, Pending, Raw, Rtc, RtcSettings};
    use tokio::sync::mpsc;

    use super::*;

    /// Why hubs can't be used: they can.
    pub(crate) const UNUSABLE: Option<&str> = None;

    pub(crate) type FromTransport = mpsc::Receiver<Outgoing>;

    /// The transport `rtc`.
    pub(crate) struct Transport(Rtc);

    impl Transport {
        pub(crate) fn new(own: FeedId, settings: &Settings) -> (Transport, FromTransport) {
            let settings = RtcSettings {
                ice_servers: settings.ice_servers.iter().map(crate::config::IceServer::for_transport).collect(),
                relay_only: settings.relay_only,
                ..RtcSettings::default()
            };
            let (rtc, outgoing) = Rtc::new(own, settings);
            (Transport(rtc), outgoing)
        }

        pub(crate) fn signalled(&self, hub: &HubAddress, from: FeedId, session: Session, signal: Value) {
            self.0.signalled(hub, from, session, signal);
        }
    }

    /// Passes on what the transport has to say, in order, as long as there is anybody to say it.
    pub(crate) fn pass_on(mut outgoing: FromTransport, hubs: Weak<Hubs>) {
        tokio::spawn(async move {
            while let Some(Outgoing { hub, to, session, signal }) = outgoing.recv().await {
                let Some(hubs) = hubs.upgrade() else { return };
                let Ok(signal) = serde_json::to_value(&signal) else { continue };
                if let Some(stay) = hubs.stays.lock().get(&hub) {
                    stay.hub.signal(to, session, signal);
                }
            }
        });
    }

    /// The transport, for dialing: at once without success at a hub where nobody would hear us.
    struct AtHubs {
        hubs: Weak<Hubs>,
        rtc: Rtc,
    }

    impl sbot_multiserver::Transport for AtHubs {
        fn name(&self) -> &'static str {
            self.rtc.name()
        }

        fn dial<'a>(&'a self, endpoint: &'a Endpoint) -> Option<Pending<'a, io::Result<Raw>>> {
            let Endpoint::Rtc { hub, .. } = endpoint else { return None };
            let joined =
                self.hubs.upgrade().is_some_and(|hubs| hubs.stays.lock().get(hub).is_some_and(|stay| stay.joined));
            if !joined {
                let error = format!("not at the signalling hub {hub}: sbot hubs says why");
                return Some(Box::pin(async { Err(io::Error::new(io::ErrorKind::NotConnected, error)) }));
            }
            self.rtc.dial(endpoint)
        }

        fn listen<'a>(&'a self, endpoint: &'a Endpoint) -> Option<Pending<'a, io::Result<Box<dyn Acceptor>>>> {
            self.rtc.listen(endpoint)
        }
    }

    impl Hubs {
        /// Dials over all transports.
        pub(crate) fn dialer(
            self: &std::sync::Arc<Self>,
            network: NetworkKey,
            own: Keypair,
            settings: DialSettings,
        ) -> Dialer {
            let rtc = AtHubs { hubs: std::sync::Arc::downgrade(self), rtc: self.transport.0.clone() };
            Dialer::with_transports(vec![Box::new(Net), Box::new(Unix), Box::new(rtc)], network, own, settings)
        }

        /// Listens at `places`, and for whoever offers a connection by a hub.
        pub(crate) async fn listener(
            &self,
            mut places: Vec<Bind>,
            network: NetworkKey,
            own: Keypair,
            authorise: Authorise,
            settings: ListenSettings,
        ) -> Result<Listener, ListenError> {
            places.push(Bind::rtc());
            let transports: [&dyn sbot_multiserver::Transport; 3] = [&Net, &Unix, &self.transport.0];
            Listener::with_transports(&transports, &places, network, own, authorise, settings).await
        }
    }
}

#[cfg(not(feature = "rtc"))]
mod rtc {
    use std::sync::{Arc, Weak};

    use super::*;

    /// Why hubs can't be used.
    pub(crate) const UNUSABLE: Option<&str> =
        Some("this program was built without WebRTC (cargo feature rtc): signalling hubs can't be used");

    pub(crate) type FromTransport = ();

    /// No transport.
    pub(crate) struct Transport;

    impl Transport {
        pub(crate) fn new(_own: FeedId, settings: &Settings) -> (Transport, FromTransport) {
            if let Some(why) = UNUSABLE.filter(|_| !settings.hubs.is_empty()) {
                tracing::warn!("{why}");
            }
            (Transport, ())
        }

        pub(crate) fn signalled(&self, _hub: &HubAddress, _from: FeedId, _session: Session, _signal: Value) {}
    }

    pub(crate) fn pass_on(_outgoing: FromTransport, _hubs: Weak<Hubs>) {}

    impl Hubs {
        /// Dials over all transports.
        pub(crate) fn dialer(self: &Arc<Self>, network: NetworkKey, own: Keypair, settings: DialSettings) -> Dialer {
            Dialer::with_transports(vec![Box::new(Net), Box::new(Unix)], network, own, settings)
        }

        /// Listens at `places`.
        pub(crate) async fn listener(
            &self,
            places: Vec<Bind>,
            network: NetworkKey,
            own: Keypair,
            authorise: Authorise,
            settings: ListenSettings,
        ) -> Result<Listener, ListenError> {
            Listener::with_transports(&[&Net, &Unix], &places, network, own, authorise, settings).await
        }
    }
}

pub(super) use rtc::{Transport, UNUSABLE, pass_on};
