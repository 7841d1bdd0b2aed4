use super::*;
use curve25519_dalek::edwards::CompressedEdwardsY;
use proptest::prelude::*;

const NETWORK: NetworkKey = NetworkKey([5; 32]);

fn keypair(seed: u8) -> Keypair {
    Keypair::from_seed([seed; 32])
}

/// All four messages between client 1 and server 2, each changed on its way by `change`.
fn shake(
    networks: [NetworkKey; 2],
    dialed: FeedId,
    mut change: impl FnMut(usize, &mut [u8]),
) -> Result<(Outcome, Outcome), HandshakeError> {
    let (client, mut one) = Client::start(&networks[0], &keypair(1), &dialed, [11; 32]);
    change(1, &mut one);
    let (server, mut two) = Server::new(&networks[1], &keypair(2), [12; 32]).challenged(&one)?;
    change(2, &mut two);
    let (client, mut three) = client.challenged(&two)?;
    change(3, &mut three);
    let proven = server.proven(&three)?;
    assert_eq!(proven.client(), keypair(1).id());
    let (mut four, server) = proven.accept();
    change(4, &mut four);
    Ok((client.accepted(&four)?, server))
}

#[test]
fn both_sides_learn_who_the_other_is_and_agree_on_the_keys() {
    let (client, server) = shake([NETWORK; 2], keypair(2).id(), |_, _| {}).unwrap();
    assert_eq!(client.remote, keypair(2).id());
    assert_eq!(server.remote, keypair(1).id());
    assert_eq!(client.seal, server.open);
    assert_eq!(client.open, server.seal);
    assert_ne!(client.seal, client.open);
}

#[test]
fn a_node_can_dial_itself() {
    let own = keypair(1);
    let (client, one) = Client::start(&NETWORK, &own, &own.id(), [11; 32]);
    let (server, two) = Server::new(&NETWORK, &own, [12; 32]).challenged(&one).unwrap();
    let (client, three) = client.challenged(&two).unwrap();
    let (four, outcome) = server.proven(&three).unwrap().accept();
    assert_eq!(client.accepted(&four).unwrap().seal, outcome.open);
}

#[test]
fn another_network_is_refused_at_the_first_message() {
    let result = shake([NETWORK, NetworkKey([6; 32])], keypair(2).id(), |_, _| {});
    assert_eq!(result.unwrap_err(), HandshakeError::Network);
}

#[test]
fn a_wrong_number_is_refused_at_the_proof() {
    assert_eq!(shake([NETWORK; 2], keypair(3).id(), |_, _| {}).unwrap_err(), HandshakeError::Proof);
}

#[test]
fn ephemeral_keys_of_low_order_are_refused() {
    // The points of order 1, 2, 4 and 8 on the curve and its twist (RFC 7748, section 6.1 asks for this check).
    let order_8 = "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800";
    let mut points = vec![[0; 32], {
        let mut one = [0; 32];
        one[0] = 1;
        one
    }];
    points.push(std::array::from_fn(|i| u8::from_str_radix(&order_8[2 * i..2 * i + 2], 16).unwrap()));
    for public in points {
        let mut challenge = [0; CHALLENGE];
        challenge[..32].copy_from_slice(&authenticate(&NETWORK, &public));
        challenge[32..].copy_from_slice(&public);
        let refused = Server::new(&NETWORK, &keypair(2), [1; 32]).challenged(&challenge).err();
        assert_eq!(refused, Some(HandshakeError::Key("ephemeral")));
        let (client, _) = Client::start(&NETWORK, &keypair(1), &keypair(2).id(), [1; 32]);
        assert_eq!(client.challenged(&challenge).err(), Some(HandshakeError::Key("ephemeral")));
    }
}

#[test]
fn long_term_keys_that_libsodium_refuses_are_refused() {
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut non_canonical = [0xff; 32];
    non_canonical[0] = 0xf0; // y = p + 3, on the curve or not: another encoding of 3
    non_canonical[31] = 0x7f;
    // A point of order 8 added to a good key: on the curve, outside the prime-order group.
    let torsion = curve25519_dalek::constants::EIGHT_TORSION[1];
    let good = CompressedEdwardsY(*keypair(2).id().as_bytes()).decompress().unwrap();
    for key in [neutral, [0; 32], non_canonical, (good + torsion).compress().0] {
        assert_eq!(exchange_public(&FeedId(key)).err(), Some(HandshakeError::Key("long-term")), "{key:?}");
        let (_, two) = Client::start(&NETWORK, &keypair(2), &keypair(1).id(), [9; 32]);
        let (client, _) = Client::start(&NETWORK, &keypair(1), &FeedId(key), [1; 32]);
        assert_eq!(client.challenged(&two).err(), Some(HandshakeError::Key("long-term")));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_changed_byte_in_any_message_is_noticed(message in 1usize..=4, at: prop::sample::Index, change in 1u8..) {
        let result = shake([NETWORK; 2], keypair(2).id(), |number, bytes| {
            if number == message {
                let at = at.index(bytes.len());
                bytes[at] ^= change;
            }
        });
        prop_assert!(result.is_err());
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), CHALLENGE + PROOF)) {
        let mut one = [0; CHALLENGE];
        one.copy_from_slice(&bytes[..CHALLENGE]);
        prop_assert!(Server::new(&NETWORK, &keypair(2), [1; 32]).challenged(&one).is_err());
        // As if it knew the network key.
        one[32..].copy_from_slice(&bytes[32..64]);
        let mut key = [0; 32];
        key.copy_from_slice(&bytes[32..64]);
        one[..32].copy_from_slice(&authenticate(&NETWORK, &key));
        if let Ok((server, _)) = Server::new(&NETWORK, &keypair(2), [1; 32]).challenged(&one) {
            let mut three = [0; PROOF];
            three.copy_from_slice(&bytes[CHALLENGE..]);
            prop_assert_eq!(server.proven(&three).err(), Some(HandshakeError::Proof));
        }
    }
}
