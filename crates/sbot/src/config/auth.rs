//! Who may do what (`auth`): a preset, and what is changed of it.

use sbot_authorisation::{Access, Allowance, Budgets, Policy, PolicyError, Preset, RULES};
use sbot_feed::FeedId;
use sbot_rpc::Limits;

use super::layers::{Section, nearest};
use super::{Config, ConfigError, MAX_HOPS};

/// Most of anything that a budget can be set to: no overflow is near.
const MOST: u64 = 1 << 50;

/// Most seconds of patience.
const MOST_PATIENCE: u64 = 3_600;

/// Who may do what (`auth`, a key of our own).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// `auth.preset`: `default`, `open pub`, `friends only` or `private`.
    pub preset: Preset,
    /// `auth.rules`: who may by a rule, in place of what the preset says.
    pub rules: Vec<(String, Access)>,
    /// `auth.reach`: how far from us feeds are exchanged at most, in hops; `None` to leave it to the preset.
    pub reach: Option<u8>,
    /// `auth.rooms`: servers that may keep a connection whatever the preset says, beside those in `seeds`.
    pub rooms: Vec<FeedId>,
    /// `auth.budgets`: what one peer may cost.
    pub budgets: Budgets,
    /// `auth.budgets.streams`: calls and streams of one peer that may be open at a time.
    pub streams: usize,
}

impl Default for Auth {
    fn default() -> Self {
        Auth {
            preset: Preset::default(),
            rules: Vec::new(),
            reach: None,
            rooms: Vec::new(),
            budgets: Budgets::default(),
            streams: Limits::REMOTE.max_requests,
        }
    }
}

impl Config {
    /// The policy that these settings make.
    ///
    /// # Errors
    /// A rule in [`Auth::rules`] that there isn't, or that can't be given away.
    pub fn policy(&self) -> Result<Policy, PolicyError> {
        let mut policy = Policy::new(self.auth.preset, self.friends.hops, self.blobs.max);
        for (rule, access) in &self.auth.rules {
            policy.set(rule, *access)?;
        }
        if self.auth.reach.is_some() {
            policy.set_reach(self.auth.reach);
        }
        Ok(policy)
    }
}

pub(super) fn read_auth(config: &mut Config, root: &Section<'_>) -> Result<(), ConfigError> {
    let section = root.section("auth")?;
    let presets = Preset::ALL.map(Preset::name).join(", ");
    if let Some(preset) = section.parsed("preset", &format!("one of {presets}"), Preset::from_name)? {
        config.auth.preset = preset;
    }
    let reach = section.integer("reach", 0, MAX_HOPS.into())?;
    config.auth.reach = reach.and_then(|hops| u8::try_from(hops).ok()).or(config.auth.reach);
    if let Some(rooms) = section.parsed_list("rooms", "feed ids, @….ed25519", |text| text.parse().ok())? {
        config.auth.rooms = rooms;
    }
    // Tried out as it is read, so that what is wrong is told with its place.
    let mut policy = Policy::new(config.auth.preset, config.friends.hops, config.blobs.max);
    for leaf in section.leaves("rules", "a role, or a list of roles")? {
        let wrong = |message: String| ConfigError::Rule { place: leaf.place.clone(), key: leaf.key.clone(), message };
        // On the command line a list is a text.
        let names = leaf.texts.iter().flat_map(|text| text.split(',')).map(str::trim);
        let access = Access::from_names(names).map_err(|error| wrong(error.to_string()))?;
        policy.set(&leaf.name, access).map_err(|error| wrong(guessed(error).to_string()))?;
        config.auth.rules.push((leaf.name, access));
    }
    read_budgets(&mut config.auth, &section)?;
    section.finish_strictly()
}

/// With the rule that was meant, perhaps.
fn guessed(error: PolicyError) -> PolicyError {
    match error {
        PolicyError::UnknownRule { name, meant: None } => {
            let known: Vec<&'static str> = RULES.iter().map(|rule| rule.name).collect();
            PolicyError::UnknownRule { meant: nearest(&name, &known), name }
        }
        other => other,
    }
}

/// `auth.budgets`; 0 is without bounds.
fn read_budgets(auth: &mut Auth, section: &Section<'_>) -> Result<(), ConfigError> {
    let section = section.section("budgets")?;
    let bounded = |amount: u64, allowance: fn(u64) -> Allowance| (amount > 0).then(|| allowance(amount));
    let budgets = &mut auth.budgets;
    if let Some(calls) = section.integer("calls", 0, 1_000_000)? {
        budgets.calls = bounded(calls, Budgets::calls_a_second);
    }
    for (budget, key) in
        [(&mut budgets.bytes_in, "bytesIn"), (&mut budgets.bytes_out, "bytesOut"), (&mut budgets.wants, "wants")]
    {
        if let Some(amount) = section.integer(key, 0, MOST)? {
            *budget = bounded(amount, Budgets::an_hour);
        }
    }
    if let Some(seconds) = section.integer("patience", 0, MOST_PATIENCE)? {
        budgets.patience = seconds * 1_000;
    }
    let most = Limits::REMOTE.max_requests;
    if let Some(streams) = section.integer("streams", 1, most as u64)? {
        auth.streams = usize::try_from(streams).unwrap_or(most);
    }
    section.finish_strictly()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sbot_authorisation::{Allowance, Budgets};

    use crate::config::{Config, ConfigError, Loaded, Sources};

    fn load(text: &str, options: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("config"), text).unwrap();
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Config::load(&Sources { path: Some(directory.path().to_path_buf()), options, ..Sources::default() })
    }

    fn error(text: &str) -> String {
        let error = load(text, &[]).unwrap_err().to_string();
        error.rsplit_once("/config:").unwrap().1.to_owned()
    }

    #[test]
    fn a_preset_and_changes_of_it_make_the_policy() {
        let config = load(
            r#"{"auth": {"preset": "friends only", "reach": 2,
                "rules": {"blobs.get": "friend", "connect": ["stranger", "guest"], "gossip": {"ping": "master"}}}}"#,
            &[("auth.rules.blobs.has", "followed, room"), ("auth.rules.over.rtc", "friend")],
        );
        let policy = config.unwrap().config.policy().unwrap();
        assert_eq!(policy.preset().name(), "friends only");
        assert_eq!(policy.reach(), 2);
        for (rule, access) in [
            ("blobs.get", "friend"),
            ("connect", "stranger and guest"),
            ("gossip.ping", "master"),
            ("blobs.has", "followed and room"),
            ("over.rtc", "friend"),
            ("blobs.changes", "friend"),
        ] {
            assert_eq!(policy.access(rule).unwrap().to_string(), access, "{rule}");
        }
        let untouched = load("{}", &[]).unwrap().config;
        assert_eq!(untouched.policy().unwrap().preset().name(), "default");
    }

    #[test]
    fn budgets_are_read_and_0_is_without_bounds() {
        let text = r#"{"auth": {"budgets": {"calls": 50, "bytesIn": 0, "wants": 7, "patience": 5, "streams": 100}}}"#;
        let auth = load(text, &[]).unwrap().config.auth;
        let defaults = Budgets::default();
        assert_eq!(auth.budgets.calls, Some(Allowance { burst: 5_000, per_hour: 180_000 }));
        assert_eq!((auth.budgets.bytes_in, auth.budgets.bytes_out), (None, defaults.bytes_out));
        assert_eq!(auth.budgets.wants, Some(Allowance { burst: 7, per_hour: 7 }));
        assert_eq!((auth.budgets.patience, auth.streams), (5_000, 100));
        let error = error(r#"{"auth": {"budgets": {"streams": 99999}}}"#);
        assert!(error.contains("auth.budgets.streams must be a whole number from 1 to 16384"), "{error}");
    }

    #[test]
    fn what_nobody_knows_is_an_error_with_its_line_and_what_is_known() {
        assert_eq!(
            error("{\"auth\": {\n  \"preset\": \"freinds\"}}"),
            "2:3: auth.preset must be one of default, open pub, friends only, private, found the text \"freinds\""
        );
        assert_eq!(
            error(r#"{"auth": {"rule": {"blobs.get": "friend"}}}"#),
            "1:11: auth.rule: there is no such setting (did you mean rules?): known are preset, reach, rooms, rules, budgets"
        );
        let budget = error(r#"{"auth": {"budgets": {"call": 5}}}"#);
        assert!(budget.contains("auth.budgets.call: there is no such setting (did you mean calls?)"), "{budget}");
        let rule = error("{\"auth\": {\n\n \"rules\": {\"blobs.got\": \"friend\"}}}");
        assert!(
            rule.starts_with(
                "3:12: auth.rules.blobs.got: there is no rule \"blobs.got\" (did you mean blobs.get?): known are dial,"
            ),
            "{rule}"
        );
        let role = error(r#"{"auth": {"rules": {"blobs.get": ["friend", "fiend"]}}}"#);
        assert!(role.contains("auth.rules.blobs.get: there is no role \"fiend\": known are guest, room, "), "{role}");
        let wide = error(r#"{"auth": {"rules": {"private.read": "friend"}}}"#);
        assert!(wide.contains("auth.rules.private.read: private.read can't be given to friend"), "{wide}");
        let kind = error(r#"{"auth": {"rules": {"blobs.get": 3}}}"#);
        assert!(kind.contains("auth.rules.blobs.get must be a role, or a list of roles, found the number 3"), "{kind}");
        let many = error(r#"{"auth": {"rules": "friend"}}"#);
        assert!(many.contains("auth.rules must be an object"), "{many}");
    }
}
