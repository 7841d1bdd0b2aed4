//! Method arguments from the words of a command line, as ssb-server's command reads them.
//!
//! `createLogStream --limit 5 --value.link %x` becomes the one argument `{"limit": 5, "value": {"link": "%x"}}`; words
//! without dashes come before it. The rules are minimist's (minimist 1.2 `index.js`, muxrpcli `index.js`), with two
//! additions: `true` and `false` are booleans also when they follow an option (minimist makes texts of them, which
//! ssb-server then takes as true), and a word that begins like a JSON object, array or text is read as JSON.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

/// An argument. Members keep the order in which they were written.
#[derive(Debug, Clone)]
pub(crate) enum Arg {
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Arg>),
    Object(Vec<(String, Arg)>),
    /// JSON as it was written.
    Json(Box<RawValue>),
}

impl PartialEq for Arg {
    fn eq(&self, other: &Self) -> bool {
        serde_json::to_string(self).ok() == serde_json::to_string(other).ok()
    }
}

impl Serialize for Arg {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(value) => serializer.serialize_bool(*value),
            // As JavaScript prints it: whole numbers without a point.
            #[allow(clippy::cast_possible_truncation)]
            Self::Number(value) if value.fract() == 0.0 && value.abs() < 9e15 => {
                serializer.serialize_i64(*value as i64)
            }
            Self::Number(value) => serializer.serialize_f64(*value),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => items.serialize(serializer),
            Self::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (key, value) in members {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
            Self::Json(raw) => raw.serialize(serializer),
        }
    }
}

/// Words taken apart.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Parsed {
    /// Words without dashes.
    pub(crate) positional: Vec<Arg>,
    /// Options; dotted names are nested.
    pub(crate) options: Vec<(String, Arg)>,
}

impl Parsed {
    /// The method's arguments: the words, then the options if there are any.
    pub(crate) fn into_arguments(self) -> Vec<Arg> {
        let mut arguments = self.positional;
        if !self.options.is_empty() {
            arguments.push(Arg::Object(self.options));
        }
        arguments
    }
}

/// Takes `words` apart. The values of the options named in `texts` stay texts, whatever they look like.
pub(crate) fn parse(words: &[String], texts: &[&str]) -> Result<Parsed, String> {
    let mut parser = Parser { options: Vec::new(), texts };
    let mut positional = Vec::new();
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        if let Some(option) = word.strip_prefix("--").filter(|option| !option.is_empty()) {
            if let Some((name, value)) = option.split_once('=').filter(|(name, _)| !name.is_empty()) {
                parser.set_text(name, value)?;
            } else if let Some(name) = option.strip_prefix("no-").filter(|name| !name.is_empty()) {
                parser.set(name, Arg::Bool(false))?;
            } else {
                match words.next_if(|next| !is_option(next)) {
                    Some(value) => parser.set_text(option, value)?,
                    None => parser.set(option, Arg::Bool(true))?,
                }
            }
        } else if word.len() > 1 && word.starts_with('-') && !word.starts_with("--") {
            if let Some(last) = parser.letters(word)? {
                match words.next_if(|next| !next.is_empty() && !is_option(next)) {
                    Some(value) => parser.set_text(&last, value)?,
                    None => parser.set(&last, Arg::Bool(true))?,
                }
            }
        } else {
            positional.push(word_argument(word)?);
        }
    }
    Ok(Parsed { positional, options: parser.options })
}

/// Nested options as dotted names with their texts.
pub(crate) fn flattened(options: &[(String, Arg)]) -> Result<Vec<(String, String)>, String> {
    let mut flat = Vec::new();
    for (key, value) in options {
        match value {
            Arg::Object(inner) => {
                flat.extend(flattened(inner)?.into_iter().map(|(name, value)| (format!("{key}.{name}"), value)));
            }
            Arg::Text(text) => flat.push((key.clone(), text.clone())),
            Arg::List(_) => return Err(format!("--{key} is there more than once")),
            other => flat.push((key.clone(), serde_json::to_string(other).unwrap_or_default())),
        }
    }
    Ok(flat)
}

/// A word that stands alone.
fn word_argument(word: &str) -> Result<Arg, String> {
    match word {
        "true" => return Ok(Arg::Bool(true)),
        "false" => return Ok(Arg::Bool(false)),
        _ => {}
    }
    if word == "null" || word.starts_with(['{', '[', '"']) {
        let raw: Box<RawValue> =
            serde_json::from_str(word).map_err(|error| format!("this argument is no JSON ({error}): {word}"))?;
        return Ok(Arg::Json(raw));
    }
    Ok(number(word).map_or_else(|| Arg::Text(word.to_owned()), Arg::Number))
}

/// Whether `word` begins like an option: one or two dashes, then something else.
fn is_option(word: &str) -> bool {
    let rest = word.strip_prefix("--").or_else(|| word.strip_prefix('-'));
    rest.and_then(|rest| rest.chars().next()).is_some_and(|next| next != '-')
}

/// What minimist takes for a number: decimal with an optional exponent, or hexadecimal after `0x`.
fn number(text: &str) -> Option<f64> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        let all_hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        // More than 128 bits are no sensible argument: left a text.
        #[allow(clippy::cast_precision_loss)]
        return all_hex.then(|| u128::from_str_radix(digits, 16).ok()).flatten().map(|value| value as f64);
    }
    let decimal = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    (decimal && !text.contains('E')).then(|| text.parse().ok()).flatten().filter(|value: &f64| value.is_finite())
}

struct Parser<'a> {
    options: Vec<(String, Arg)>,
    texts: &'a [&'a str],
}

impl Parser<'_> {
    fn set_text(&mut self, name: &str, value: &str) -> Result<(), String> {
        let value = if self.texts.contains(&name) {
            Arg::Text(value.to_owned())
        } else {
            match value {
                "true" => Arg::Bool(true),
                "false" => Arg::Bool(false),
                _ => number(value).map_or_else(|| Arg::Text(value.to_owned()), Arg::Number),
            }
        };
        self.set(name, value)
    }

    fn set(&mut self, name: &str, value: Arg) -> Result<(), String> {
        let value = match value {
            // An option that is a text has no true.
            Arg::Bool(true) if self.texts.contains(&name) => Arg::Text(String::new()),
            other => other,
        };
        let path: Vec<&str> = name.split('.').collect();
        if path.contains(&"__proto__") {
            return Ok(());
        }
        insert(&mut self.options, &path, value)
            .map_err(|key| format!("--{name}: {key} is a value already and can't have parts"))
    }

    /// Sets the letters of `-abc`. Returns the last one if it still waits for its value.
    fn letters(&mut self, word: &str) -> Result<Option<String>, String> {
        let chars: Vec<char> = word.chars().skip(1).collect();
        let Some((last, letters)) = chars.split_last() else { return Ok(None) };
        for (at, letter) in letters.iter().enumerate() {
            let name = letter.to_string();
            let rest: String = chars.iter().skip(at + 1).collect();
            let following = letters.get(at + 1);
            let takes_rest = following.is_some_and(|next| !(next.is_ascii_alphanumeric() || *next == '_'));
            if rest == "-" {
                self.set_text(&name, &rest)?;
            } else if let Some(value) = rest.strip_prefix('=').filter(|_| letter.is_ascii_alphabetic()) {
                self.set_text(&name, value)?;
                return Ok(None);
            } else if (letter.is_ascii_alphabetic() && ends_in_number(&rest)) || takes_rest {
                self.set_text(&name, &rest)?;
                return Ok(None);
            } else {
                self.set(&name, Arg::Bool(true))?;
            }
        }
        Ok((*last != '-').then(|| last.to_string()))
    }
}

fn ends_in_number(text: &str) -> bool {
    text.strip_suffix('.').unwrap_or(text).ends_with(|last: char| last.is_ascii_digit())
}

/// Sets a nested value: a second value makes a list, a boolean is replaced.
fn insert(members: &mut Vec<(String, Arg)>, path: &[&str], value: Arg) -> Result<(), String> {
    let Some((key, deeper)) = path.split_first() else { return Ok(()) };
    let place = members.iter().position(|(known, _)| known == key);
    let Some((_, old)) = place.and_then(|at| members.get_mut(at)) else {
        let value = match deeper {
            [] => value,
            _ => {
                let mut inner = Vec::new();
                insert(&mut inner, deeper, value)?;
                Arg::Object(inner)
            }
        };
        members.push(((*key).to_owned(), value));
        return Ok(());
    };
    if !deeper.is_empty() {
        let Arg::Object(inner) = old else { return Err((*key).to_owned()) };
        return insert(inner, deeper, value);
    }
    match old {
        Arg::Bool(_) => *old = value,
        Arg::List(items) => items.push(value),
        _ => {
            let first = std::mem::replace(old, Arg::Bool(false));
            *old = Arg::List(vec![first, value]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &[&str]) -> String {
        let words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        serde_json::to_string(&parse(&words, &[]).unwrap().into_arguments()).unwrap()
    }

    /// Each line beside what `minimist(words)`, its words and then its options, gives in node.
    #[test]
    fn words_become_what_minimist_makes_of_them() {
        for (line, expected) in [
            (&["--limit", "5", "--reverse"][..], r#"[{"limit":5,"reverse":true}]"#),
            (&["@x.ed25519", "12", "0x1f", "1e3", "1.5", ".5", "5."], r#"["@x.ed25519",12,31,1000,1.5,0.5,5]"#),
            (&["--a.b.c", "1", "--a.d", "x"], r#"[{"a":{"b":{"c":1},"d":"x"}}]"#),
            (&["--x", "1", "--x", "2", "--x=3"], r#"[{"x":[1,2,3]}]"#),
            (&["--live", "--live"], r#"[{"live":true}]"#),
            (&["--no-keys", "--values=no"], r#"[{"keys":false,"values":"no"}]"#),
            (&["--a=b=c", "--empty="], r#"[{"a":"b=c","empty":""}]"#),
            (&["--n=-5"], r#"[{"n":-5}]"#),
            (&["--text", "-"], r#"[{"text":"-"}]"#),
            (&["--text", "two words\n"], r#"[{"text":"two words\n"}]"#),
            (&["-l", "5", "-rv"], r#"[{"l":5,"r":true,"v":true}]"#),
            (&["-n5", "-k=v", "-a/b/c"], r#"[{"n":5,"k":"v","a":"/b/c"}]"#),
            (&["-a-", "-b"], r#"[{"a":"-","b":true}]"#),
            (&["--n", "---x"], r#"[{"n":"---x"}]"#),
            (&["--a", "--b"], r#"[{"a":true,"b":true}]"#),
            (&["--__proto__.x", "1", "--y", "2"], r#"[{"y":2}]"#),
            (&["--", "-"], r#"["--","-"]"#),
            (&[], "[]"),
        ] {
            assert_eq!(arguments(line), expected, "{line:?}");
        }
    }

    #[test]
    fn words_that_look_like_json_are_json_and_keep_their_text() {
        assert_eq!(
            arguments(&[r#"{"type": "post",  "n": 1.0}"#, "[1]", "null", "true", "\"5\""]),
            r#"[{"type": "post",  "n": 1.0},[1],null,true,"5"]"#
        );
        assert!(parse(&["{type: post}".to_owned()], &[]).unwrap_err().contains("no JSON"));
    }

    #[test]
    fn true_and_false_after_an_option_are_booleans() {
        assert_eq!(arguments(&["--keys", "false", "--live=true"]), r#"[{"keys":false,"live":true}]"#);
    }

    #[test]
    fn options_named_as_texts_stay_texts() {
        let words = ["--text", "2020", "--type", "true", "--n", "1", "--text2"].map(str::to_owned);
        let parsed = parse(&words, &["text", "type", "text2"]).unwrap();
        assert_eq!(
            serde_json::to_string(&Arg::Object(parsed.options)).unwrap(),
            r#"{"text":"2020","type":"true","n":1,"text2":""}"#
        );
    }

    #[test]
    fn a_value_can_not_become_a_group() {
        let words = ["--a", "1", "--a.b", "2"].map(str::to_owned);
        assert_eq!(parse(&words, &[]).unwrap_err(), "--a.b: a is a value already and can't have parts");
    }
}
