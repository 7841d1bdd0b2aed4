//! What the config may change, and what not.

use super::{peer, policy};
use crate::{About, Access, AccessError, Asker, Came, Fact, PolicyError, Preset, Question, RULES, Role};

fn access(names: &[&str]) -> Access {
    Access::from_names(names.iter().copied()).unwrap()
}

#[test]
fn each_rule_can_be_given_to_others_and_the_rest_stays() {
    let asked = Question::Call { method: "blobs.get", about: About::NOTHING };
    let mut policy = policy(Preset::Default);
    policy.set("blobs.get", access(&["friend"])).unwrap();
    assert!(!policy.decide(&peer(), &asked).is_allowed());
    assert!(policy.decide(&Asker { hops: Some(3), ..peer() }, &asked).is_allowed());
    let other = Question::Call { method: "blobs.has", about: About::NOTHING };
    assert!(policy.decide(&peer(), &other).is_allowed());
    policy.set("blobs.get", access(&["room", "guest"])).unwrap();
    assert!(!policy.decide(&Asker { master: true, ..peer() }, &asked).is_allowed());
    for room in [Asker { room: true, ..peer() }, Asker { room: true, master: true, ..peer() }] {
        let decision = policy.decide(&room, &asked);
        assert!(decision.is_allowed() && decision.facts().any(|fact| fact == Fact::Room), "{decision}");
    }
    assert!(policy.decide(&Asker { came: Came::Socket, ..peer() }, &asked).is_allowed());
}

#[test]
fn ways_of_coming_can_be_closed_one_by_one() {
    let mut policy = policy(Preset::Default);
    policy.set("over.rtc", access(&["friend"])).unwrap();
    let over = |came, hops| policy.decide(&Asker { came, hops, ..peer() }, &Question::Connect);
    assert!(over(Came::Tcp, None).is_allowed() && over(Came::Unknown, None).is_allowed());
    assert_eq!(over(Came::Rtc, None).rule(), "over.rtc");
    assert!(!over(Came::Rtc, None).is_allowed() && over(Came::Rtc, Some(2)).is_allowed());
}

#[test]
fn what_decrypts_or_shows_what_was_told_privately_can_be_given_to_no_peer() {
    let mut policy = policy(Preset::OpenPub);
    for name in
        ["get", "createLogStream", "messagesByType", "private.read", "links", "friends.get", "createRawLogStream"]
    {
        for who in ["stranger", "followed", "guest", "room"] {
            let error =
                policy.set(name, access(&["master", who][usize::from(who == "stranger" || who == "followed")..]));
            assert!(matches!(error, Err(PolicyError::TooWide { .. })), "{name} {who}");
        }
        policy.set(name, access(&["owner"])).unwrap();
    }
    let error = policy.set("get", access(&["friend"])).unwrap_err().to_string();
    assert!(error.starts_with("get can't be given to friend: it reads the whole log"), "{error}");
}

#[test]
fn unknown_rules_and_roles_are_errors_that_list_the_known_ones() {
    let mut policy = policy(Preset::Default);
    let error = policy.set("Blobs.get", access(&["friend"])).unwrap_err().to_string();
    assert!(error.starts_with(r#"there is no rule "Blobs.get" (did you mean blobs.get?): known are dial, connect, "#));
    assert!(RULES.iter().all(|rule| error.contains(rule.name)), "{error}");
    let error = Access::from_names(["fiend"]).unwrap_err().to_string();
    assert_eq!(
        error,
        "there is no role \"fiend\": known are guest, room, stranger, followed-by-friend, friend, followed, master, owner"
    );
    assert_eq!(Access::from_names(["blocked"]), Err(AccessError::Blocked));
    assert_eq!(Access::from_names([]), Err(AccessError::Nobody));
    assert_eq!(Access::from_names(["friend", "owner"]), Err(AccessError::Two("friend", "owner")));
    assert_eq!(access(&["friend", "friend", "room"]).to_string(), "friend and room");
}

#[test]
fn dialing_reaches_as_far_as_the_rule_says() {
    for (preset, within) in
        [(Preset::Default, None), (Preset::OpenPub, None), (Preset::FriendsOnly, Some(3)), (Preset::Private, Some(1))]
    {
        assert_eq!(policy(preset).dials_within(), within, "{}", preset.name());
    }
    let mut policy = policy(Preset::Default);
    policy.set("dial", access(&["owner"])).unwrap();
    assert_eq!(policy.dials_within(), Some(0));
}

#[test]
fn whether_a_friend_follows_a_peer_is_found_out_only_where_it_matters() {
    let mut policy = policy(Preset::Default);
    assert!(!policy.minds_followers_of_followers() && super::policy(Preset::OpenPub).minds_followers_of_followers());
    policy.set("connect", access(&["followed-by-friend"])).unwrap();
    assert!(policy.minds_followers_of_followers());
    policy.set("connect", access(&["friend"])).unwrap();
    assert!(!policy.minds_followers_of_followers());
}

#[test]
fn no_rule_is_named_as_a_group_of_others() {
    // Settings nest where names have dots: such a name would be a text and an object at once.
    for rule in RULES {
        let within =
            |other: &&crate::Rule| other.name.strip_prefix(rule.name).is_some_and(|rest| rest.starts_with('.'));
        assert_eq!(RULES.iter().find(within), None, "{rule}");
    }
}

#[test]
fn names_are_found_again() {
    assert!(Role::ALL.into_iter().all(|role| Role::from_name(role.name()) == Some(role)));
    assert!(Preset::ALL.into_iter().all(|preset| Preset::from_name(preset.name()) == Some(preset)));
}
