//! A hub's stream: whatever it sends is read within bounds, the same in whichever pieces it comes, and what is understood
//! of it can be written again. What is said at random moments never makes more be remembered than there are places.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sbot_discovery::hub::sse::{Event, Reader};
use sbot_discovery::hub::{Attendance, MAX_MESSAGE, MOST_KNOWN, MOST_STRANGERS, Rate, Rates, Said};

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    cut: u16,
    step: u16,
    stream: &'a [u8],
}

fn read(pieces: &[&[u8]]) -> Vec<Event> {
    let (mut reader, mut events) = (Reader::new(), Vec::new());
    for mut piece in pieces.iter().copied() {
        while let Some(event) = reader.next(&mut piece) {
            events.push(event);
        }
        assert!(piece.is_empty());
        assert!(reader.held() <= 2 * MAX_MESSAGE + 64);
    }
    events
}

fuzz_target!(|input: Input<'_>| {
    let events = read(&[input.stream]);
    let (one, two) = input.stream.split_at(usize::from(input.cut).min(input.stream.len()));
    assert_eq!(events, read(&[one, &[], two]));

    let rate = Rate { per_second: 1, at_once: 4 };
    let (mut attendance, mut rates, mut now) = (Attendance::new(1_000, 5_000), Rates::new(rate, rate), 0);
    for event in events {
        let Event::Message(text) = event else { continue };
        assert!(text.len() <= MAX_MESSAGE);
        let Ok(said) = text.parse::<Said>() else { continue };
        // Numbers may be written otherwise, and longer.
        if let Ok(again) = said.text() {
            assert!(!again.contains(['\r', '\n']));
            assert!(again.parse::<Said>().is_ok());
        }
        now += u64::from(input.step);
        let who = said.who();
        let hops = (who.0[0] % 2 == 0).then_some(u32::from(who.0[1]));
        if rates.allow(who, hops.is_some(), now) {
            match said {
                Said::Here(peer) => drop(attendance.here(peer, hops, now)),
                Said::Gone(peer) => drop(attendance.gone(&peer)),
                Said::Signal { signal, .. } => assert!(signal.is_object()),
            }
        }
        attendance.silent(now);
        assert!(attendance.len() <= MOST_KNOWN + MOST_STRANGERS);
    }
});
