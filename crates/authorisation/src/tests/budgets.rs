//! Budgets: who means well is never slowed, and nobody gets more than there is.

use proptest::collection::vec;
use proptest::prelude::*;
use sbot_feed::FeedId;

use crate::{Accounts, Allowance, Budgets, Cost, MOST_ACCOUNTS, Spent};

const PEER: FeedId = FeedId([1; 32]);

fn id(number: u64) -> FeedId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&number.to_le_bytes());
    FeedId(id)
}

fn tight() -> Budgets {
    let allowance = Some(Allowance { burst: 100, per_hour: 36_000 });
    Budgets { calls: allowance, bytes_in: None, bytes_out: None, wants: None, patience: 60_000 }
}

#[test]
fn a_first_sync_and_many_blobs_at_once_are_never_slowed_by_the_defaults() {
    // All of it in no time at all, as over the fastest of links.
    let mut accounts = Accounts::new(Budgets::default());
    let mut spend = |cost, amount| accounts.spend(&PEER, cost, amount, 0);
    for _ in 0..(1 << 30) / 65_536 {
        assert_eq!(spend(Cost::BytesIn, 65_536), Spent::Within);
        assert_eq!(spend(Cost::BytesOut, 65_536), Spent::Within);
    }
    // Every feed of a large graph by a stream of its own, and 200 blobs: asked whether we have them, and got.
    assert_eq!(spend(Cost::Calls, 16_384), Spent::Within);
    for _ in 0..200 {
        assert_eq!(spend(Cost::Calls, 2), Spent::Within);
        assert_eq!(spend(Cost::Wants, 1), Spent::Within);
        assert_eq!(spend(Cost::BytesOut, 5 << 20), Spent::Within);
    }
    assert_eq!(spend(Cost::Wants, 10_000), Spent::Within);
}

#[test]
fn who_spends_too_much_is_slowed_down_until_it_is_paid_and_then_free_again() {
    let mut accounts = Accounts::new(tight());
    assert_eq!(accounts.spend(&PEER, Cost::Calls, 100, 0), Spent::Within);
    // Ten a second flow in.
    assert_eq!(accounts.spend(&PEER, Cost::Calls, 5, 0), Spent::Slowly(501));
    assert_eq!(accounts.spend(&PEER, Cost::Calls, 0, 400), Spent::Slowly(101));
    assert_eq!(accounts.spend(&PEER, Cost::Calls, 0, 501), Spent::Within);
    assert_eq!(accounts.spend(&PEER, Cost::BytesIn, u64::MAX, 501), Spent::Within, "there is no budget of that");
    assert_eq!(accounts.spend(&PEER, Cost::Calls, 100, 10_501), Spent::Within);
}

#[test]
fn who_goes_on_is_hung_up_on_with_the_budget_as_reason_and_a_new_connection_doesn_t_help() {
    let mut accounts = Accounts::new(tight());
    let mut now = 0;
    let over = loop {
        match accounts.spend(&PEER, Cost::Calls, 20, now) {
            Spent::Within => now += 10,
            // It does wait, and goes on all the same.
            Spent::Slowly(wait) => now += wait,
            Spent::TooMuch(over) => break over,
        }
    };
    assert!((60_000..70_000).contains(&now), "after {now} ms");
    assert_eq!(
        over.to_string(),
        "over budget: more than 36000 calls an hour, 100 at once, and slowed down for 60 s already"
    );
    assert!(matches!(accounts.spend(&PEER, Cost::Calls, 1, now + 1), Spent::TooMuch(_)));
    assert_eq!(accounts.spend(&id(2), Cost::Calls, 1, now + 1), Spent::Within, "others are not to blame");
    assert_eq!(accounts.spend(&PEER, Cost::Calls, 1, now + 60_000), Spent::Within, "it has rested");
}

#[test]
fn accounts_are_bounded_and_the_debtors_stay() {
    let mut accounts = Accounts::new(tight());
    accounts.spend(&id(0), Cost::Calls, 1_000, 0);
    for number in 1..MOST_ACCOUNTS as u64 * 3 {
        accounts.spend(&id(number), Cost::Calls, 50, 0);
        assert!(accounts.len() <= MOST_ACCOUNTS);
    }
    assert!(matches!(accounts.spend(&id(0), Cost::Calls, 1, 0), Spent::Slowly(_)));
    assert_eq!(accounts.spend(&id(u64::MAX), Cost::Calls, 0, 0), Spent::Within);
    assert_eq!(accounts.len(), MOST_ACCOUNTS, "an expense of nothing makes no account");
    accounts.spend(&id(u64::MAX), Cost::Calls, 1, 3_600_000);
    assert_eq!(accounts.len(), 1, "what is full again is forgotten");
}

proptest! {
    #[test]
    fn nobody_who_waits_as_told_gets_more_than_the_bucket_and_what_flows_into_it(
        expenses in vec((0..50u64, 0..5_000u64), 1..200),
        burst in 50..500u64,
        per_second in 1..100u64,
    ) {
        let allowance = Allowance { burst, per_hour: per_second * 3600 };
        let mut accounts = Accounts::new(Budgets { calls: Some(allowance), patience: u64::MAX, ..tight() });
        let (mut now, mut got, mut largest) = (0, 0, 0);
        for (amount, pause) in expenses {
            now += pause;
            got += amount;
            largest = largest.max(amount);
            let mut spent = accounts.spend(&PEER, Cost::Calls, amount, now);
            while let Spent::Slowly(wait) = spent {
                now += wait;
                spent = accounts.spend(&PEER, Cost::Calls, 0, now);
            }
            prop_assert_eq!(spent, Spent::Within);
            prop_assert!(got * 1000 <= burst * 1000 + per_second * now, "{got} by {now} ms");
        }
    }
}
