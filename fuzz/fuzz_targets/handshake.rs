//! The four messages of a handshake, one of them changed or replaced: both sides agree if and only if none was.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sbot_feed::{Keypair, NetworkKey};
use sbot_shs::handshake::{Client, HandshakeError, Outcome, Server};

#[derive(Arbitrary, Debug)]
struct Attack {
    /// 0 to 3: the message that is attacked.
    message: u8,
    /// The whole message instead of single bytes.
    replace: bool,
    bytes: Vec<(u8, u8)>,
    all: [u8; 112],
}

impl Attack {
    fn on(&self, number: u8, message: &mut [u8]) {
        if self.message % 4 != number {
            return;
        }
        if self.replace {
            let length = message.len();
            message.copy_from_slice(&self.all[..length]);
        }
        for (at, change) in &self.bytes {
            let length = message.len();
            message[usize::from(*at) % length] ^= change;
        }
    }
}

const NETWORK: NetworkKey = NetworkKey([7; 32]);

fn shake(attack: &Attack) -> Result<(bool, Outcome, Outcome), HandshakeError> {
    let (one, two) = (Keypair::from_seed([1; 32]), Keypair::from_seed([2; 32]));
    let mut changed = false;
    let mut on = |number: u8, message: &mut [u8]| {
        let before = message.to_vec();
        attack.on(number, message);
        changed |= before != message;
    };
    let (client, mut message) = Client::start(&NETWORK, &one, &two.id(), [11; 32]);
    on(0, &mut message);
    let (server, mut message) = Server::new(&NETWORK, &two, [12; 32]).challenged(&message)?;
    on(1, &mut message);
    let (client, mut message) = client.challenged(&message)?;
    on(2, &mut message);
    let (mut message, outcome) = server.proven(&message)?.accept();
    on(3, &mut message);
    Ok((changed, client.accepted(&message)?, outcome))
}

fuzz_target!(|attack: Attack| {
    if let Ok((changed, client, server)) = shake(&attack) {
        assert!(!changed, "a changed message was accepted");
        assert!(client.seal == server.open && client.open == server.seal);
    }
});
