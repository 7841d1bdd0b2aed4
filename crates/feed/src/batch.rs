//! Many signatures at once.
//!
//! One multi-scalar multiplication checks a batch; signatures of one author share its key, which nearly halves the work
//! in the shape that replication has. Before it, each signature and key is held to libsodium's rules (see [`crate::keys`]);
//! when a batch fails, its parts are checked, down to each signature by itself, and that verdict stands.
//!
//! One case is left in which a batch says yes and libsodium no: R or the key has a torsion component that does not cancel
//! out. Batches are checked up to the cofactor, single signatures are not. Only the holder of a secret key can make such
//! a signature, on the own feed, and gains a feed that some peers stop at, as a fork would.
//! `docs/decisions/0007-signatures.md` has the reasoning.

use ed25519_zebra::{Signature, VerificationKeyBytes, batch};
use rand_core::{TryCryptoRng, TryRng};
use sha2::{Digest, Sha512};

use crate::message::{Message, MessageError, Unverified};
use crate::{FeedId, keys};

/// Signatures in one multiplication. More gain little.
const BATCH: usize = 512;

/// Fewest signatures for which a batch pays.
const FEWEST: usize = 4;

/// Parts of a batch that are looked at apart when it fails. One bad signature then costs about as much as its batch.
const PARTS: usize = 4;

/// Most signatures that are verified one by one when their batch fails.
const SINGLES: usize = 16;

/// Checks the signatures of many messages, on this thread. Order is kept: one result for each.
///
/// Fastest when messages of one author are next to each other. To use several cores, call it with a part on each.
pub fn verify_batch(messages: Vec<Unverified>) -> Vec<Result<Message, MessageError>> {
    let mut verdicts = Vec::with_capacity(messages.len());
    for part in messages.chunks(BATCH) {
        judge(part, &mut verdicts);
    }
    messages
        .into_iter()
        .zip(verdicts)
        .map(|(unverified, holds)| {
            let message = unverified.into_message();
            if holds {
                Ok(message)
            } else {
                Err(MessageError::Signature { author: message.author, sequence: message.sequence })
            }
        })
        .collect()
}

fn judge(messages: &[Unverified], verdicts: &mut Vec<bool>) {
    if messages.len() >= FEWEST && all_hold(messages) {
        verdicts.resize(verdicts.len() + messages.len(), true);
    } else if messages.len() > SINGLES {
        for part in messages.chunks(messages.len().div_ceil(PARTS)) {
            judge(part, verdicts);
        }
    } else {
        verdicts.extend(messages.iter().map(|message| {
            let (author, signature, signed) = message.parts();
            keys::verify(author, signed, signature)
        }));
    }
}

fn all_hold(messages: &[Unverified]) -> bool {
    let mut verifier = batch::Verifier::new();
    let mut transcript = Sha512::new();
    let mut last: Option<&FeedId> = None;
    for message in messages {
        let (author, signature, signed) = message.parts();
        if last != Some(author) && !keys::is_sound_key(author.as_bytes()) || !keys::is_sound_signature(signature) {
            return false;
        }
        last = Some(author);
        transcript.update(author.as_bytes());
        transcript.update(signature);
        transcript.update(message.message().key.as_bytes());
        verifier.queue((VerificationKeyBytes::from(*author.as_bytes()), Signature::from(*signature), signed));
    }
    verifier.verify(Coefficients { seed: transcript.finalize().into(), used: 64, block: [0; 64], count: 0 }).is_ok()
}

/// The batch's random coefficients: a hash of all that is verified, so that nobody can choose signatures to fit them.
struct Coefficients {
    seed: [u8; 64],
    block: [u8; 64],
    used: usize,
    count: u64,
}

impl TryRng for Coefficients {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        for byte in out {
            if self.used == self.block.len() {
                self.block =
                    Sha512::new().chain_update(self.seed).chain_update(self.count.to_le_bytes()).finalize().into();
                self.count += 1;
                self.used = 0;
            }
            *byte = self.block[self.used];
            self.used += 1;
        }
        Ok(())
    }
}

impl TryCryptoRng for Coefficients {}
