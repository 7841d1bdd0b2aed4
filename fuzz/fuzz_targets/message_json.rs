//! Messages as peers send them: the JSON, its exact printing, every rule, the id. What is accepted stays accepted, with
//! the same id, when it is stored and served again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sbot_feed::{HmacKey, Keypair, Message, content_of, json, parse_message, private_box, verify_batch};

fuzz_target!(|data: &[u8]| {
    if let Ok(document) = json::parse(data) {
        let print = |document: &json::Document<'_>| {
            let (mut compact, mut indented) = (Vec::new(), Vec::new());
            document.root().print(&mut compact);
            document.root().print_indented(&mut indented, 0);
            (compact, indented)
        };
        let (compact, indented) = print(&document);
        for text in [&compact, &indented] {
            match json::parse(text) {
                Ok(again) => assert_eq!(print(&again), (compact.clone(), indented.clone()), "printing is not stable"),
                Err(error) => panic!("what was printed can't be read: {error:?}"),
            }
        }
    }
    for hmac in [None, Some(HmacKey([9; 32]))] {
        let Ok(unverified) = parse_message(data, hmac.as_ref()) else { continue };
        let message = unverified.message().clone();
        match parse_message(&message.value, hmac.as_ref()) {
            Ok(again) => assert_eq!(*again.message(), message),
            Err(error) => panic!("a stored message can't be read: {error}"),
        }
        match Message::trusted(message.key, message.value.clone()) {
            Ok(trusted) => assert_eq!(trusted, message),
            Err(error) => panic!("a stored message is not trusted: {error}"),
        }
        assert_eq!(message.content(), content_of(&message.value));
        let one = unverified.clone().verify();
        let batch = verify_batch(vec![unverified.clone(), unverified]);
        assert!(batch.iter().all(|verdict| verdict.is_ok() == one.is_ok()), "a batch judges otherwise");
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = private_box::open(text, &Keypair::from_seed([1; 32]));
        let _ = sbot_feed::uri::parse(text);
        let _ = sbot_feed::secret::parse(text);
    }
});
