//! The text of a config file: JSON with `//` and `/* */` comments, each value with its line and column.
//!
//! What is accepted is what `rc` accepts for ssb-server: `strip-json-comments` followed by `JSON.parse` (`rc`
//! `lib/utils.js`), so a file that works here works there; trailing commas are refused by both. The INI files that `rc`
//! takes as well are not read. A text of nothing but white space and comments holds no settings.

use std::fmt;

/// Arrays and objects inside one another at most; a config needs four.
const MAX_DEPTH: usize = 64;

/// A line and a column, both from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Why a text is no JSON with comments.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{position}: {message}")]
pub struct SyntaxError {
    /// Where.
    pub position: Position,
    /// What was found and what was expected.
    pub message: String,
}

/// A value and where it (for a member of an object: its key) begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Located {
    pub(crate) at: Position,
    pub(crate) value: Json,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(f64),
    String(String),
    Array(Vec<Located>),
    Object(Vec<(String, Located)>),
}

/// Parses a whole file. `None` for a text without any value.
pub(crate) fn parse(text: &str) -> Result<Option<Located>, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser { text, offset: 0 };
    parser.skip_blank()?;
    if parser.peek().is_none() {
        return Ok(None);
    }
    let value = parser.value(0)?;
    parser.skip_blank()?;
    match parser.peek() {
        None => Ok(Some(value)),
        Some(found) => Err(parser.error(format!("the end of the file was expected, found {}", shown(found)))),
    }
}

struct Parser<'a> {
    text: &'a str,
    offset: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.offset..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn position_of(&self, offset: usize) -> Position {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Position {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
        }
    }

    fn position(&self) -> Position {
        self.position_of(self.offset)
    }

    fn error(&self, message: impl Into<String>) -> SyntaxError {
        SyntaxError { position: self.position(), message: message.into() }
    }

    fn unexpected(&self, expected: &str) -> SyntaxError {
        match self.peek() {
            Some(found) => self.error(format!("{expected} was expected, found {}", shown(found))),
            None => self.error(format!("{expected} was expected, but the file ends here")),
        }
    }

    fn skip_blank(&mut self) -> Result<(), SyntaxError> {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
            let rest = &rest[blank..];
            let comment = if rest.starts_with("//") {
                rest.find('\n').unwrap_or(rest.len())
            } else if rest.starts_with("/*") {
                match rest.find("*/") {
                    Some(end) => end + 2,
                    None => {
                        self.offset += blank;
                        return Err(self.error("this comment has no end (*/)"));
                    }
                }
            } else {
                0
            };
            self.offset += blank + comment;
            if comment == 0 {
                return Ok(());
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result<Located, SyntaxError> {
        if depth > MAX_DEPTH {
            return Err(self.error(format!("more than {MAX_DEPTH} arrays and objects inside one another")));
        }
        let at = self.position();
        let value = match self.peek() {
            Some('{') => self.object(depth)?,
            Some('[') => self.array(depth)?,
            Some('"') => Json::String(self.string()?),
            Some('-' | '0'..='9') => self.number()?,
            Some('a'..='z') => self.word()?,
            _ => return Err(self.unexpected("a value")),
        };
        Ok(Located { at, value })
    }

    fn object(&mut self, depth: usize) -> Result<Json, SyntaxError> {
        self.offset += 1;
        let mut members: Vec<(String, Located)> = Vec::new();
        self.skip_blank()?;
        if self.peek() == Some('}') {
            self.offset += 1;
            return Ok(Json::Object(members));
        }
        loop {
            self.skip_blank()?;
            let at = self.position();
            if self.peek() != Some('"') {
                let expected = if self.peek() == Some('}') {
                    "a key (JSON allows no comma before a closing brace)"
                } else {
                    "a key in double quotes"
                };
                return Err(self.unexpected(expected));
            }
            let key = self.string()?;
            self.skip_blank()?;
            if self.peek() != Some(':') {
                return Err(self.unexpected("a colon after the key"));
            }
            self.offset += 1;
            self.skip_blank()?;
            let value = Located { at, value: self.value(depth + 1)?.value };
            // As JSON.parse: of equal keys the last one counts.
            members.retain(|(known, _)| *known != key);
            members.push((key, value));
            self.skip_blank()?;
            match self.peek() {
                Some(',') => self.offset += 1,
                Some('}') => {
                    self.offset += 1;
                    return Ok(Json::Object(members));
                }
                _ => return Err(self.unexpected("a comma or a closing brace")),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Json, SyntaxError> {
        self.offset += 1;
        let mut items = Vec::new();
        self.skip_blank()?;
        if self.peek() == Some(']') {
            self.offset += 1;
            return Ok(Json::Array(items));
        }
        loop {
            self.skip_blank()?;
            if self.peek() == Some(']') {
                return Err(self.unexpected("a value (JSON allows no comma before a closing bracket)"));
            }
            items.push(self.value(depth + 1)?);
            self.skip_blank()?;
            match self.peek() {
                Some(',') => self.offset += 1,
                Some(']') => {
                    self.offset += 1;
                    return Ok(Json::Array(items));
                }
                _ => return Err(self.unexpected("a comma or a closing bracket")),
            }
        }
    }

    fn string(&mut self) -> Result<String, SyntaxError> {
        let rest = self.rest();
        let mut escaped = false;
        for (at, byte) in rest.bytes().enumerate().skip(1) {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    let token = &rest[..=at];
                    let text = serde_json::from_str::<String>(token)
                        .map_err(|_| self.error(format!("{token} is no JSON string: an escape in it is wrong")))?;
                    self.offset += at + 1;
                    return Ok(text);
                }
                b'\n' => break,
                _ => {}
            }
        }
        Err(self.error("this string has no closing quote on its line"))
    }

    fn number(&mut self) -> Result<Json, SyntaxError> {
        let rest = self.rest();
        let length =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.'))).unwrap_or(rest.len());
        let token = &rest[..length];
        let number = serde_json::from_str::<f64>(token).map_err(|_| self.error(format!("{token} is no number")))?;
        self.offset += length;
        Ok(Json::Number(number))
    }

    fn word(&mut self) -> Result<Json, SyntaxError> {
        let rest = self.rest();
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let value = match &rest[..length] {
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            "null" => Json::Null,
            other => return Err(self.error(format!("a value was expected, found {other} (a text needs quotes)"))),
        };
        self.offset += length;
        Ok(value)
    }
}

fn shown(found: char) -> String {
    format!("`{}`", found.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn comments_are_white_space_but_not_inside_strings() {
        let text = "// top\n{ /* a */ \"a\": \"http://x\", // b\r\n \"b\": [1, /* two */ 2.5e1], \"c\": null }\n//end";
        let Some(Located { value: Json::Object(members), .. }) = parse(text).unwrap() else { panic!("no object") };
        assert_eq!(members[0].1.value, Json::String("http://x".into()));
        let Json::Array(items) = &members[1].1.value else { panic!("no array") };
        assert_eq!(items[1].value, Json::Number(25.0));
        assert_eq!(members[1].1.at, Position { line: 3, column: 2 });
    }

    #[test]
    fn a_file_of_comments_alone_has_no_value() {
        assert_eq!(parse("").unwrap(), None);
        assert_eq!(parse(" \n// nothing\n/* at all */").unwrap(), None);
    }

    #[test]
    fn errors_name_line_and_column() {
        assert_eq!(
            error("{\n  \"port\": 8008,\n}"),
            "line 3, column 1: a key (JSON allows no comma before a closing brace) was expected, found `}`"
        );
        assert!(error("{\n  port: 1}").starts_with("line 2, column 3: a key in double quotes"));
        assert!(error("{\"a\": yes}").starts_with("line 1, column 7: a value was expected, found yes"));
        assert!(error("{\"a\": 1").starts_with("line 1, column 8: a comma or a closing brace"));
        assert!(error("{\"a\": 01}").contains("01 is no number"));
        assert!(error("{} {}").contains("end of the file"));
        assert!(error("/* x").contains("no end"));
        assert!(error("{\"a\n\": 1}").contains("no closing quote"));
        assert!(error("host = localhost").contains("found host"));
        assert!(error(&"[".repeat(100_000)).contains("inside one another"));
    }

    #[test]
    fn the_last_of_equal_keys_counts() {
        let Some(Located { value: Json::Object(members), .. }) = parse("{\"a\":1,\"a\":2}").unwrap() else {
            panic!("no object")
        };
        assert_eq!(members.len(), 1);
        assert_eq!(members[0].1.value, Json::Number(2.0));
    }
}
