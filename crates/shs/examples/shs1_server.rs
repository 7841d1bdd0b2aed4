//! The server's role over stdin and stdout, as the test suite `shs1-test` of npm drives it.
//!
//! Arguments: network key, the server's secret key (64 bytes) and public key, in hexadecimal. After the handshake it
//! writes the keys and nonces of both directions. Run the suite with
//! `npx shs1testserver target/debug/examples/shs1_server`.

use std::error::Error;
use std::io::{Read, Write};

use sbot_feed::{Keypair, NetworkKey};
use sbot_shs::handshake::{CHALLENGE, PROOF, Server};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let network = NetworkKey(bytes(arguments.next())?);
    let own = Keypair::from_secret_bytes(&bytes(arguments.next())?).ok_or("the secret key's halves differ")?;
    let mut ephemeral = [0; 32];
    getrandom::fill(&mut ephemeral).map_err(|error| error.to_string())?;
    let (mut stdin, mut stdout) = (std::io::stdin(), std::io::stdout());

    let mut message = [0; CHALLENGE];
    stdin.read_exact(&mut message)?;
    let (server, challenge) = Server::new(&network, &own, ephemeral).challenged(&message)?;
    stdout.write_all(&challenge)?;
    stdout.flush()?;
    let mut message = [0; PROOF];
    stdin.read_exact(&mut message)?;
    let (acceptance, outcome) = server.proven(&message)?.accept();
    let (seal, open) = (&outcome.seal, &outcome.open);
    stdout.write_all(&[&acceptance[..], &seal.key, &seal.nonce, &open.key, &open.nonce].concat())?;
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
