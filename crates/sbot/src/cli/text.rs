//! Text for people: what strangers wrote made harmless, times, short names, JSON laid out.

use std::fmt::Write;

/// `text` with everything that could steer a terminal or turn the reading direction written out as an escape. Line
/// breaks and tabs become one space each.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            c if is_steering(c) => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// Control characters (C0, DEL, C1), and the marks that override the direction of text or break lines.
fn is_steering(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// JSON text in which nothing can steer a terminal: JSON may hold DEL, C1 and direction marks unescaped.
pub(crate) fn printable_json(json: &str) -> String {
    if !json.chars().any(|c| is_steering(c) && c != '\n') {
        return json.to_owned();
    }
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_steering(c) && c != '\n' {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// At most `width` characters of `text`, with an ellipsis if there were more.
pub(crate) fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let head: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", head.trim_end())
}

/// The first characters of a reference: enough to tell feeds apart by eye.
pub(crate) fn short_id(id: &str) -> String {
    let printed = printable(id);
    shortened(printed.split('=').next().unwrap_or_default(), 10)
}

/// Milliseconds since 1970 as `2026-11-21 06:07:41` (UTC); a dash for what is no time.
pub(crate) fn time(milliseconds: f64) -> String {
    // Years 0 to 9999.
    if !(-62_167_219_200_000.0..253_402_300_800_000.0).contains(&milliseconds) {
        return "-".into();
    }
    #[allow(clippy::cast_possible_truncation)]
    let seconds = (milliseconds / 1000.0).floor() as i64;
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Civil date from a day count: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// JSON laid out with two spaces, members in their order, numbers and texts as they are. Text that is no JSON comes back
/// as it is.
pub(crate) fn indented(json: &str) -> String {
    if serde_json::from_str::<&serde_json::value::RawValue>(json).is_err() {
        return json.to_owned();
    }
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    let mut opened = false;
    let newline = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    for c in json.chars() {
        if in_string {
            out.push(c);
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_string = false,
                _ => {}
            }
            continue;
        }
        if matches!(c, ' ' | '\n' | '\r' | '\t') {
            continue;
        }
        if matches!(c, '}' | ']') {
            depth = depth.saturating_sub(1);
            if !opened {
                newline(&mut out, depth);
            }
            opened = false;
            out.push(c);
            continue;
        }
        if opened {
            newline(&mut out, depth);
            opened = false;
        }
        match c {
            '{' | '[' => {
                depth += 1;
                opened = true;
                out.push(c);
            }
            ',' => {
                out.push(c);
                newline(&mut out, depth);
            }
            ':' => out.push_str(": "),
            '"' => {
                in_string = true;
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// JSON on one line: line breaks can only stand between tokens.
pub(crate) fn one_line(json: &str) -> String {
    json.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_steer_a_terminal_is_written_out() {
        assert_eq!(printable("a\x1b[31mb\nc\td\u{9b}e\u{202e}f\u{7f}"), "a\\u{1b}[31mb c d\\u{9b}e\\u{202e}f\\u{7f}");
        assert_eq!(printable("grüße 👋"), "grüße 👋");
        assert_eq!(printable_json("{\"a\":\"\u{9b}\u{202e}\"}"), r#"{"a":"\u009b\u202e"}"#);
    }

    #[test]
    fn times_are_calendar_times() {
        assert_eq!(time(0.0), "1970-01-01 00:00:00");
        assert_eq!(time(1_709_210_096_789.5), "2024-02-29 12:34:56");
        assert_eq!(time(-1.0), "1969-12-31 23:59:59");
        assert_eq!(time(253_402_300_799_999.0), "9999-12-31 23:59:59");
        for wrong in [f64::NAN, f64::INFINITY, 1e300, -1e300] {
            assert_eq!(time(wrong), "-");
        }
    }

    #[test]
    fn json_is_laid_out_without_touching_its_tokens() {
        assert_eq!(
            indented(r#"{"z":1.0,"a":[1,"x,{}\"",[],{}],"e":{"k":null}}"#),
            "{\n  \"z\": 1.0,\n  \"a\": [\n    1,\n    \"x,{}\\\"\",\n    [],\n    {}\n  ],\n  \"e\": {\n    \"k\": null\n  }\n}"
        );
        assert_eq!(indented("[ ]"), "[]");
        assert_eq!(indented("true"), "true");
        assert_eq!(indented("{oops"), "{oops");
    }

    #[test]
    fn long_text_is_cut_by_characters() {
        assert_eq!(shortened("äöüß", 4), "äöüß");
        assert_eq!(shortened("äöüßx", 4), "äöü…");
        assert_eq!(short_id("@FCX/tsDLpubCPKKfIrw4gc+SQkHcaD17s7GI6i/ziWY=.ed25519"), "@FCX/tsDL…");
    }
}
