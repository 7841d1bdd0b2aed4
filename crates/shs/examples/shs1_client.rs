//! The client's role over stdin and stdout, as the test suite `shs1-test` of npm drives it.
//!
//! Arguments: network key and the server's public key, in hexadecimal. After the handshake it writes the keys and
//! nonces of both directions. Run the suite with `npx shs1testclient target/debug/examples/shs1_client`.

use std::error::Error;
use std::io::{Read, Write};

use sbot_feed::{FeedId, Keypair, NetworkKey};
use sbot_shs::handshake::{ACCEPTANCE, CHALLENGE, Client};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let network = NetworkKey(bytes(arguments.next())?);
    let server = FeedId(bytes(arguments.next())?);
    let mut ephemeral = [0; 32];
    getrandom::fill(&mut ephemeral).map_err(|error| error.to_string())?;
    let (mut stdin, mut stdout) = (std::io::stdin(), std::io::stdout());

    let (client, challenge) = Client::start(&network, &Keypair::generate(), &server, ephemeral);
    stdout.write_all(&challenge)?;
    stdout.flush()?;
    let mut message = [0; CHALLENGE];
    stdin.read_exact(&mut message)?;
    let (client, proof) = client.challenged(&message)?;
    stdout.write_all(&proof)?;
    stdout.flush()?;
    let mut message = [0; ACCEPTANCE];
    stdin.read_exact(&mut message)?;
    let outcome = client.accepted(&message)?;
    let (seal, open) = (&outcome.seal, &outcome.open);
    stdout.write_all(&[&seal.key[..], &seal.nonce, &open.key, &open.nonce].concat())?;
    stdout.flush()?;
    // The suite takes an exit before its own SIGTERM for a failure: wait for it, or for the end of stdin.
    let _ = stdin.read(&mut [0]);
    Ok(())
}

fn bytes<const LENGTH: usize>(hexadecimal: Option<String>) -> Result<[u8; LENGTH], Box<dyn Error>> {
    let text = hexadecimal.ok_or("an argument is missing")?;
    let digits = text.as_bytes();
    if digits.len() != 2 * LENGTH {
        return Err(format!("{text:?} is not {LENGTH} bytes in hexadecimal").into());
    }
    let mut bytes = [0; LENGTH];
    for (byte, digits) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits)?, 16)?;
    }
    Ok(bytes)
}
