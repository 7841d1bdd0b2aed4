//! Settings from several places, laid over one another, each remembering where it came from.
//!
//! A [`Layer`] is one place: a file, the environment, the command line. [`merge`] lays them over one another as `rc` does
//! (`deep-extend`): objects member by member, everything else replaced. A [`Section`] then reads typed values out of an
//! object and remembers which keys were asked for, so that those which nobody asked for can be warned about without a
//! second list of known keys.

use std::cell::RefCell;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::json::{self, Json, Located, Position};
use super::{ConfigError, Warning};

/// Where a setting was made.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// In a file.
    File {
        /// The file's path.
        file: Arc<Path>,
        /// Where in the file the key stands.
        at: Position,
    },
    /// In an environment variable of this name.
    Environment(String),
    /// In a command-line option of this name.
    Option(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, at } => write!(f, "{}:{}:{}", file.display(), at.line, at.column),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Option(name) => write!(f, "option {name}"),
        }
    }
}

/// A value with its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(f64),
    /// `true` beside it: from the environment or the command line, where a number can't be told from a text.
    Text(String, bool),
    Array(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl Value {
    /// What a person would call this value in an error.
    fn described(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Bool(value) => value.to_string(),
            Self::Number(value) => format!("the number {value}"),
            Self::Text(text, _) => {
                let short: String = text.chars().take(60).collect();
                format!("the text {short:?}")
            }
            Self::Array(_) => "an array".into(),
            Self::Object(_) => "an object".into(),
        }
    }
}

/// Settings from one place: always an object.
pub(crate) type Layer = Node;

/// The settings in the text of `file`.
pub(crate) fn file_layer(file: &Path, text: &str) -> Result<Layer, ConfigError> {
    let shared: Arc<Path> = Arc::from(file);
    let empty = || Located { at: Position { line: 1, column: 1 }, value: Json::Object(Vec::new()) };
    let root = json::parse(text)
        .map_err(|source| ConfigError::Syntax { file: file.to_path_buf(), source })?
        .unwrap_or_else(empty);
    let node = locate(&shared, root);
    match node.value {
        Value::Object(_) => Ok(node),
        ref other => Err(ConfigError::Type {
            place: node.place.clone(),
            key: "(the whole file)".into(),
            expected: "an object, { … }".into(),
            found: other.described(),
        }),
    }
}

fn locate(file: &Arc<Path>, located: Located) -> Node {
    let value = match located.value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(value),
        Json::Number(value) => Value::Number(value),
        Json::String(text) => Value::Text(text, false),
        Json::Array(items) => Value::Array(items.into_iter().map(|item| locate(file, item)).collect()),
        Json::Object(members) => {
            Value::Object(members.into_iter().map(|(key, item)| (key, locate(file, item))).collect())
        }
    };
    Node { place: Place::File { file: file.clone(), at: located.at }, value }
}

/// A layer of single settings, each a dotted key path with its text.
pub(crate) fn text_layer(settings: impl IntoIterator<Item = (Vec<String>, String, Place)>) -> Layer {
    let mut root = Node { place: Place::Option("command line".into()), value: Value::Object(Vec::new()) };
    for (path, text, place) in settings {
        let mut node = Node { place: place.clone(), value: Value::Text(text, true) };
        for key in path.into_iter().rev() {
            node = Node { place: place.clone(), value: Value::Object(vec![(key, node)]) };
        }
        root = merge(root, node);
    }
    root
}

/// Lays `over` over `under`.
pub(crate) fn merge(under: Node, over: Node) -> Node {
    let Node { place, value } = over;
    let value = match (under.value, value) {
        (Value::Object(mut members), Value::Object(above)) => {
            for (key, node) in above {
                match members.iter_mut().find(|(known, _)| *known == key) {
                    Some((_, below)) => {
                        let old = std::mem::replace(below, Node { place: place.clone(), value: Value::Null });
                        *below = merge(old, node);
                    }
                    None => members.push((key, node)),
                }
            }
            Value::Object(members)
        }
        (_, above) => above,
    };
    Node { place, value }
}

/// A text or a list of texts, somewhere in an object.
#[derive(Debug)]
pub(crate) struct Leaf {
    /// Its name below that object, dots between the levels.
    pub(crate) name: String,
    /// The whole dotted key path.
    pub(crate) key: String,
    /// Where it was set.
    pub(crate) place: Place,
    /// What it says.
    pub(crate) texts: Vec<String>,
}

/// Reads typed values out of one object.
pub(crate) struct Section<'a> {
    members: &'a [(String, Node)],
    /// Dotted path of this object, empty for the root.
    path: String,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    pub(crate) fn root(layer: &'a Layer) -> Self {
        let members = match &layer.value {
            Value::Object(members) => members.as_slice(),
            _ => &[],
        };
        Self { members, path: String::new(), asked: RefCell::default() }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn error(&self, key: &str, node: &Node, expected: &str) -> ConfigError {
        ConfigError::Type {
            place: node.place.clone(),
            key: self.path_of(key),
            expected: expected.to_owned(),
            found: node.value.described(),
        }
    }

    /// The node of `key`, if there is one; `null` counts as none, as with ssb-config's defaults.
    fn find(&self, key: &'static str) -> Option<&'a Node> {
        self.asked.borrow_mut().push(key);
        let (_, node) = self.members.iter().find(|(known, _)| known == key)?;
        (!matches!(node.value, Value::Null)).then_some(node)
    }

    /// A key that is known and has no effect here.
    pub(crate) fn ignored(&self, key: &'static str, why: &'static str, warnings: &mut Vec<Warning>) {
        if let Some(node) = self.find(key) {
            warnings.push(Warning::NoEffect { place: node.place.clone(), key: self.path_of(key), why });
        }
    }

    /// Whether `key` is set, whatever its value.
    pub(crate) fn place_of(&self, key: &'static str) -> Option<Place> {
        self.find(key).map(|node| node.place.clone())
    }

    pub(crate) fn boolean(&self, key: &'static str) -> Result<Option<bool>, ConfigError> {
        let Some(node) = self.find(key) else { return Ok(None) };
        match &node.value {
            Value::Bool(value) => Ok(Some(*value)),
            Value::Text(text, true) if text == "true" => Ok(Some(true)),
            Value::Text(text, true) if text == "false" => Ok(Some(false)),
            _ => Err(self.error(key, node, "true or false")),
        }
    }

    /// A whole number in `least..=most`.
    pub(crate) fn integer(&self, key: &'static str, least: u64, most: u64) -> Result<Option<u64>, ConfigError> {
        let Some(node) = self.find(key) else { return Ok(None) };
        self.as_integer(key, node, least, most, false).map(Some)
    }

    /// A TCP port; ssb-config takes it as a text too.
    pub(crate) fn port(&self, key: &'static str) -> Result<Option<u16>, ConfigError> {
        let Some(node) = self.find(key) else { return Ok(None) };
        let port = self.as_integer(key, node, 0, u64::from(u16::MAX), true)?;
        Ok(u16::try_from(port).ok())
    }

    fn as_integer(&self, key: &str, node: &Node, least: u64, most: u64, texts: bool) -> Result<u64, ConfigError> {
        let number = match &node.value {
            Value::Number(number) => Some(*number),
            Value::Text(text, untyped) if *untyped || texts => text.parse::<f64>().ok(),
            _ => None,
        };
        // The cast is exact: whole, and within bounds below 2^53.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let whole = number
            .filter(|number| number.fract() == 0.0 && *number >= least as f64 && *number <= most as f64)
            .map(|number| number as u64);
        whole.ok_or_else(|| self.error(key, node, &format!("a whole number from {least} to {most}")))
    }

    pub(crate) fn text(&self, key: &'static str) -> Result<Option<String>, ConfigError> {
        let Some(node) = self.find(key) else { return Ok(None) };
        match &node.value {
            Value::Text(text, _) => Ok(Some(text.clone())),
            _ => Err(self.error(key, node, "a text in double quotes")),
        }
    }

    /// A text that means something: `parse` says what it means, `expected` what it should look like.
    pub(crate) fn parsed<T>(
        &self,
        key: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(node) = self.find(key) else { return Ok(None) };
        let Value::Text(text, _) = &node.value else { return Err(self.error(key, node, expected)) };
        parse(text).map(Some).ok_or_else(|| self.error(key, node, expected))
    }

    /// A text or an array of texts.
    pub(crate) fn parsed_list<T>(
        &self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<Vec<T>>, ConfigError> {
        let Some(node) = self.find(key) else { return Ok(None) };
        let one = |key: &str, node: &Node| match &node.value {
            Value::Text(text, _) => parse(text).ok_or_else(|| self.error(key, node, expected)),
            _ => Err(self.error(key, node, expected)),
        };
        match &node.value {
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| one(&format!("{key}.{index}"), item))
                .collect::<Result<Vec<T>, _>>()
                .map(Some),
            _ => one(key, node).map(|value| Some(vec![value])),
        }
    }

    /// The object under `key`; an empty one if there is none. `None` if it is `false` and may be.
    pub(crate) fn section(&self, key: &'static str) -> Result<Section<'a>, ConfigError> {
        let path = self.path_of(key);
        let members = match self.find(key) {
            None => &[],
            Some(Node { value: Value::Object(members), .. }) => members.as_slice(),
            Some(node) => return Err(self.error(key, node, "an object, { … }")),
        };
        Ok(Section { members, path, asked: RefCell::default() })
    }

    /// The texts, and lists of texts, in the object under `key` and in objects within it; none if there is no such object.
    pub(crate) fn leaves(&self, key: &'static str, expected: &str) -> Result<Vec<Leaf>, ConfigError> {
        let mut found = Vec::new();
        match self.find(key) {
            None => {}
            Some(Node { value: Value::Object(members), .. }) => self.gather(key, "", members, expected, &mut found)?,
            Some(node) => return Err(self.error(key, node, "an object, { … }")),
        }
        Ok(found)
    }

    fn gather(
        &self,
        key: &str,
        above: &str,
        members: &[(String, Node)],
        expected: &str,
        found: &mut Vec<Leaf>,
    ) -> Result<(), ConfigError> {
        for (member, node) in members {
            let name = if above.is_empty() { member.clone() } else { format!("{above}.{member}") };
            let path = format!("{key}.{name}");
            let text = |node: &Node| match &node.value {
                Value::Text(text, _) => Ok(text.clone()),
                _ => Err(self.error(&path, node, expected)),
            };
            let texts = match &node.value {
                Value::Object(members) => {
                    self.gather(key, &name, members, expected, found)?;
                    continue;
                }
                // As with any other key.
                Value::Null => continue,
                Value::Array(items) => items.iter().map(text).collect::<Result<Vec<_>, _>>()?,
                _ => vec![text(node)?],
            };
            found.push(Leaf { name, key: self.path_of(&path), place: node.place.clone(), texts });
        }
        Ok(())
    }

    /// The objects in the array under `key`; a single object counts as an array of one.
    pub(crate) fn sections(&self, key: &'static str) -> Result<Option<Vec<Section<'a>>>, ConfigError> {
        let Some(node) = self.find(key) else { return Ok(None) };
        let one = |path: String, node: &'a Node, key: &str| match &node.value {
            Value::Object(members) => Ok(Section { members, path, asked: RefCell::default() }),
            _ => Err(self.error(key, node, "an object, { … }")),
        };
        match &node.value {
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| {
                    let key = format!("{key}.{index}");
                    one(self.path_of(&key), item, &key)
                })
                .collect::<Result<Vec<_>, _>>()
                .map(Some),
            Value::Object(_) => one(self.path_of(key), node, key).map(|section| Some(vec![section])),
            _ => Err(self.error(key, node, "an array of objects, [{ … }]")),
        }
    }

    /// Refuses a key in this object that nobody asked for: where a slip would let somebody in.
    pub(crate) fn finish_strictly(self) -> Result<(), ConfigError> {
        let asked = self.asked.borrow();
        let Some((key, node)) = self.members.iter().find(|(key, _)| !asked.contains(&key.as_str())) else {
            return Ok(());
        };
        let meant = nearest(key, &asked).map(|known| format!(" (did you mean {known}?)")).unwrap_or_default();
        let message = format!("there is no such setting{meant}: known are {}", asked.join(", "));
        Err(ConfigError::Rule { place: node.place.clone(), key: self.path_of(key), message })
    }

    /// Warns of every key in this object that nobody asked for.
    pub(crate) fn finish(self, warnings: &mut Vec<Warning>) {
        let asked = self.asked.borrow();
        for (key, node) in self.members.iter().filter(|(key, _)| !asked.contains(&key.as_str())) {
            // A variable may begin like ours and belong to another program.
            if matches!(node.place, Place::Environment(_)) {
                continue;
            }
            warnings.push(Warning::UnknownKey {
                place: node.place.clone(),
                key: self.path_of(key),
                nearest: nearest(key, &asked).map(|known| self.path_of(known)),
            });
        }
    }
}

/// The candidate that `word` was most likely meant to be: at most a third of it mistyped.
pub(crate) fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let lower = word.to_lowercase();
    candidates
        .iter()
        .map(|candidate| (distance(&lower, &candidate.to_lowercase()), *candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(lower.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edit distance in characters: insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    // Keys are short; a monster key is compared by its head alone.
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for (i, x) in a.iter().enumerate() {
        let above = |back: usize, column: usize| {
            rows.len().checked_sub(back).and_then(|row| rows.get(row)?.get(column)).copied().unwrap_or(usize::MAX / 2)
        };
        let mut row = vec![i + 1];
        let mut left = i + 1;
        for (j, y) in b.iter().enumerate() {
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            let swap = if swapped { above(2, j - 1) + 1 } else { usize::MAX };
            left = (above(1, j) + usize::from(x != y)).min(above(1, j + 1) + 1).min(left + 1).min(swap);
            row.push(left);
        }
        rows.push(row);
    }
    rows.last().and_then(|row| row.last()).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance_counts_insertions_deletions_replacements_and_swaps() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("prot", "port"), 1);
        assert_eq!(distance("abc", "abc"), 0);
    }

    #[test]
    fn the_nearest_key_ignores_case_and_small_slips_and_nothing_else() {
        assert_eq!(nearest("hopps", &["hops", "dunbar"]), Some("hops"));
        assert_eq!(nearest("FRIENDS", &["friends", "gossip"]), Some("friends"));
        assert_eq!(nearest("patchwork", &["port", "path"]), None);
    }

    #[test]
    fn objects_merge_and_everything_else_is_replaced() {
        let under = file_layer(Path::new("a"), r#"{"caps": {"shs": "x", "sign": "y"}, "master": ["1"]}"#).unwrap();
        let over = file_layer(Path::new("b"), r#"{"caps": {"shs": "z"}, "master": []}"#).unwrap();
        let merged = merge(under, over);
        let root = Section::root(&merged);
        let caps = root.section("caps").unwrap();
        assert_eq!(caps.text("shs").unwrap().as_deref(), Some("z"));
        assert_eq!(caps.text("sign").unwrap().as_deref(), Some("y"));
        assert!(root.parsed_list("master", "", |text| Some(text.to_owned())).unwrap().unwrap().is_empty());
    }
}
