//! A hub behind a proxy that speaks TLS.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sbot_discovery::hub::{HubEvent, HubSettings};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;

/// A proxy with TLS before `hub`, for the name `localhost`, and the certificate of the authority that vouches for it.
async fn proxy(hub: SocketAddr) -> (SocketAddr, CertificateDer<'static>) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate.into()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let (Ok(mut stream), Ok(mut hub)) = (acceptor.accept(stream).await, TcpStream::connect(hub).await) {
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut hub).await;
                }
            });
        }
    });
    (address, authority.der().clone())
}

#[tokio::test]
async fn peers_meet_over_https_and_trust_only_known_authorities() {
    let hub = Ours::start().await;
    let (proxy, root) = proxy(hub.address).await;
    let at = HubAddress::parse(&format!("https://localhost:{}", proxy.port())).unwrap();
    let trusting = || HubSettings { roots: vec![root.clone()], ..knowing() };
    let (one, two) = (Visitor::join(1, &at, trusting()), Visitor::join(2, &at, trusting()));
    let (one, mut two) = (one.joined().await, two.joined().await);
    one.hub.announce();
    assert_eq!(two.next().await, HubEvent::Announced(one.id));
    // Another name than its certificate's.
    let other_name = HubAddress::parse(&format!("https://127.0.0.1:{}", proxy.port())).unwrap();
    let lost = Visitor::join(3, &other_name, trusting()).lost().await;
    assert!(lost.contains("not valid for name"), "{lost}");
    // Without its authority: the system may have no others either.
    let lost = Visitor::join(3, &at, knowing()).lost().await;
    assert!(lost.contains("UnknownIssuer") || lost.contains("certificates of authorities are missing"), "{lost}");
    // Plain http is no TLS.
    let plain = HubAddress::parse(&format!("https://localhost:{}", hub.address.port())).unwrap();
    let lost = Visitor::join(3, &plain, trusting()).lost().await;
    assert!(!lost.is_empty(), "{lost}");
    drop(one);
    hub.stop().await;
}
