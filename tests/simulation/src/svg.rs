//! A line chart as SVG: two axes, some lines, their names.

use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 48.0;
/// How many marks an axis has, about.
const MARKS: f64 = 6.0;

/// A line of a chart.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) colour: &'static str,
    pub(crate) dashed: bool,
    pub(crate) points: Vec<(f64, f64)>,
}

/// A chart.
pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    pub(crate) across: &'a str,
    pub(crate) up: &'a str,
    /// Whether each mark across is ten times the one before: points are given as their logarithms to base 10.
    pub(crate) decades: bool,
    pub(crate) lines: Vec<Line>,
}

impl Chart<'_> {
    /// The file's text.
    pub(crate) fn draw(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| line.points.iter().copied());
        let low = points().map(|point| point.0).fold(f64::INFINITY, f64::min);
        let low = if low.is_finite() { low.floor() } else { 0.0 };
        let high = points().map(|point| point.0).fold(low + 1e-9, f64::max);
        let top = points().map(|point| point.1).fold(1e-9, f64::max) * 1.05;
        let x = |value: f64| LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
        let mut text = String::new();
        let mut put = |part: String| {
            text.push_str(&part);
            text.push('\n');
        };
        put(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"11\">"
        ));
        put(format!("<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>"));
        put(format!("<text x=\"{LEFT}\" y=\"16\" font-size=\"14\">{}</text>", self.title));
        let step = if self.decades { 1.0 } else { round_step((high - low) / MARKS) };
        let mut mark = (low / step).ceil() * step;
        while mark <= high + 1e-9 {
            let (at, floor) = (x(mark), HEIGHT - BOTTOM);
            put(format!("<path d=\"M{at:.1} {TOP}V{floor}\" stroke=\"#e4e4e4\"/>"));
            let label = if self.decades { short(10f64.powf(mark)) } else { short(mark) };
            put(format!("<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>", floor + 15.0));
            mark += step;
        }
        let step = round_step(top / MARKS);
        let mut mark = 0.0;
        while mark <= top {
            let at = y(mark);
            put(format!("<path d=\"M{LEFT} {at:.1}H{}\" stroke=\"#e4e4e4\"/>", WIDTH - RIGHT));
            put(format!("<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", LEFT - 5.0, at + 4.0, short(mark)));
            mark += step;
        }
        put(format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            HEIGHT - 12.0,
            self.across
        ));
        put(format!(
            "<text transform=\"translate(14 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (TOP + HEIGHT - BOTTOM) / 2.0,
            self.up
        ));
        let mut legend = LEFT;
        for line in &self.lines {
            let mut path = String::new();
            for (place, point) in line.points.iter().enumerate() {
                let letter = if place == 0 { 'M' } else { 'L' };
                let _ = write!(path, "{letter}{:.1} {:.1}", x(point.0), y(point.1));
            }
            let dash = if line.dashed { " stroke-dasharray=\"5 3\"" } else { "" };
            let stroke = format!("fill=\"none\" stroke=\"{}\" stroke-width=\"1.3\"{dash}", line.colour);
            put(format!("<path d=\"{path}\" {stroke}/>"));
            put(format!("<path d=\"M{legend} {}h18\" {stroke}/>", HEIGHT - 16.0));
            put(format!("<text x=\"{}\" y=\"{}\">{}</text>", legend + 22.0, HEIGHT - 12.0, line.name));
            legend += 34.0 + 6.0 * line.name.len() as f64;
        }
        put("</svg>".to_owned());
        text
    }
}

/// 1, 2 or 5 times a power of ten: the next that is not smaller.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.max(1e-9).log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|round| *round >= step).unwrap_or(step)
}

fn short(value: f64) -> String {
    match value.abs() {
        1e6.. => format!("{} M", value / 1e6),
        1e4.. => format!("{} k", value / 1e3),
        1.0.. => format!("{}", (value * 10.0).round() / 10.0),
        _ => format!("{}", (value * 1e3).round() / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_numbers() {
        for (step, round) in [(0.7, 1.0), (1.0, 1.0), (3.0, 5.0), (17.0, 20.0), (60.0, 100.0)] {
            assert!((round_step(step) - round).abs() < 1e-9, "{step}");
        }
    }
}
