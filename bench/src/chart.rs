//! Line charts as SVG: axes, scales and paths. Knows numbers and names, nothing of load tests.
//!
//! A chart is drawn into a fixed box of user units and scales with the page. Colours and dashes are the
//! page's: lines have the classes `s0`, `s1`, …. What can be read by pointing is in `<title>`, which
//! browsers show without a script. Values that are no numbers are gaps.

use std::fmt::Write;

use crate::escape::escape;

/// The box, in user units.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 250.0;

/// Where the plot stands in it; outside are the axes' labels.
const LEFT: f64 = 46.0;
const RIGHT: f64 = 590.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 214.0;

/// About how many ticks an axis has.
const TICKS: f64 = 5.0;

/// Half the width of a point that stands alone, in user units.
const DOT: f64 = 2.5;

/// Width of a letter in the name of a band, about, in user units; a name without room is left out.
const LETTER: f64 = 6.0;

/// Steps of an axis of time, in s; beyond them, whole multiples of the last.
const TIME_STEPS: [f64; 13] =
    [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0];

/// Smallest value a logarithmic axis shows.
const LOG_MIN: f64 = 1e-3;

/// Values to places between 0 and 1, with the values that are labelled.
#[derive(Clone, Debug)]
pub struct Axis {
    from: f64,
    to: f64,
    log: bool,
    ticks: Vec<f64>,
    label: fn(f64) -> String,
}

impl Axis {
    /// From 0 to a round number at or above `max`.
    pub fn from_zero(max: f64) -> Axis {
        let max = if max.is_finite() && max > 0.0 { max } else { 1.0 };
        let step = round_up(max / TICKS);
        let to = (max / step).ceil() * step;
        Axis { from: 0.0, to, log: false, ticks: steps(step, to), label: short }
    }

    /// Whole powers of ten around what there is between `min` and `max`.
    pub fn log(min: f64, max: f64) -> Axis {
        let min = if min.is_finite() { min.max(LOG_MIN) } else { LOG_MIN };
        let max = if max.is_finite() { max.max(min) } else { min };
        let from = 10_f64.powf((min * 1.000_001).log10().floor());
        let to = 10_f64.powf((max * 0.999_999).log10().ceil()).max(from * 10.0);
        let mut ticks = vec![];
        let mut decade = from;
        while decade <= to * 1.000_001 {
            let between: &[f64] = if to / from > 150.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
            ticks.extend(between.iter().map(|part| decade * part).filter(|tick| *tick <= to * 1.000_001));
            decade *= 10.0;
        }
        Axis { from, to, log: true, ticks, label: short }
    }

    /// Seconds between two moments.
    pub fn time(from: f64, to: f64) -> Axis {
        let to = if to > from { to } else { from + 1.0 };
        let wanted = (to - from) / (TICKS * 2.0);
        let last = TIME_STEPS[TIME_STEPS.len() - 1];
        let step = TIME_STEPS.into_iter().find(|step| *step >= wanted);
        let step = step.unwrap_or_else(|| (wanted / last).ceil() * last);
        let ticks = steps(step, to).into_iter().filter(|tick| *tick >= from).collect();
        Axis { from, to, log: false, ticks, label: clock }
    }

    /// Where a value stands, if it can be shown.
    fn place(&self, value: f64) -> Option<f64> {
        let place = if self.log {
            (value.max(self.from) / self.from).log10() / (self.to / self.from).log10()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        place.is_finite().then(|| place.clamp(0.0, 1.0))
    }

    fn x(&self, value: f64) -> Option<f64> {
        self.place(value).map(|place| LEFT + place * (RIGHT - LEFT))
    }

    fn y(&self, value: f64) -> Option<f64> {
        self.place(value).map(|place| BOTTOM - place * (BOTTOM - TOP))
    }
}

/// How points are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// By lines; a gap breaks them.
    Line,
    /// As columns, each as wide as to the next point.
    Columns,
}

/// One line and its name in the legend.
#[derive(Clone, Debug)]
pub struct Line {
    /// In the legend.
    pub name: String,
    /// From left to right; no value: a gap.
    pub points: Vec<(f64, Option<f64>)>,
    /// How they are joined.
    pub shape: Shape,
}

/// A stretch of the horizontal axis with a name.
#[derive(Clone, Debug)]
pub struct Band {
    /// Begin and end.
    pub range: (f64, f64),
    /// Written at its top.
    pub name: String,
}

/// A chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// What it shows, for those who cannot see it too.
    pub title: String,
    /// Of the vertical axis.
    pub unit: &'static str,
    /// Of the horizontal axis.
    pub x_unit: &'static str,
    /// Horizontal.
    pub x: Axis,
    /// Vertical.
    pub y: Axis,
    /// In the order of the legend.
    pub lines: Vec<Line>,
    /// Behind the lines.
    pub bands: Vec<Band>,
    /// Moments worth a mark, and what happened.
    pub marks: Vec<(f64, String)>,
}

impl Chart {
    /// Whether there is anything to see.
    pub fn is_empty(&self) -> bool {
        !self.lines.iter().flat_map(|line| &line.points).any(|(_, value)| finite(*value).is_some())
    }

    /// The `<svg>` element.
    pub fn svg(&self) -> String {
        let mut out = String::new();
        let title = escape(&self.title);
        out.push_str(&format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-label=\"{title}\"><title>{title}</title>\n"
        ));
        self.draw_bands(&mut out);
        self.draw_axes(&mut out);
        for (place, line) in self.lines.iter().enumerate() {
            let (class, drawn) = match line.shape {
                Shape::Line => ("line", self.line(line)),
                Shape::Columns => ("columns", self.columns(line)),
            };
            if !drawn.is_empty() {
                put(&mut out, format_args!("<path class=\"{class} s{}\" d=\"{drawn}\"/>\n", place % COLOURS));
            }
        }
        if self.is_empty() {
            let (x, y) = ((LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0);
            put(&mut out, format_args!("<text class=\"none\" x=\"{x}\" y=\"{y}\">nothing recorded</text>\n"));
        }
        self.draw_marks(&mut out);
        self.draw_readings(&mut out);
        out.push_str("</svg>\n");
        out
    }

    fn draw_bands(&self, out: &mut String) {
        for (nth, band) in self.bands.iter().enumerate() {
            let (Some(from), Some(to)) = (self.x.x(band.range.0), self.x.x(band.range.1)) else { continue };
            let (width, height) = ((to - from).max(0.0), BOTTOM - TOP);
            let class = if nth % 2 == 0 { "band" } else { "band odd" };
            put(
                out,
                format_args!(
                    "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\"/>\n"
                ),
            );
            let letters = u32::try_from(band.name.chars().count()).unwrap_or(u32::MAX);
            if width >= f64::from(letters) * LETTER + 6.0 {
                let (x, y, name) = (from + 3.0, TOP + 11.0, escape(&band.name));
                put(out, format_args!("<text class=\"phase\" x=\"{x:.1}\" y=\"{y}\">{name}</text>\n"));
            }
        }
    }

    fn draw_axes(&self, out: &mut String) {
        for tick in &self.y.ticks {
            let Some(y) = self.y.y(*tick) else { continue };
            let (x, base, label) = (LEFT - 6.0, y + 3.5, (self.y.label)(*tick));
            put(out, format_args!("<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>"));
            put(out, format_args!("<text class=\"tick y\" x=\"{x}\" y=\"{base:.1}\">{label}</text>\n"));
        }
        for tick in &self.x.ticks {
            let Some(x) = self.x.x(*tick) else { continue };
            let (end, base, label) = (BOTTOM + 4.0, BOTTOM + 16.0, (self.x.label)(*tick));
            put(out, format_args!("<path class=\"axis\" d=\"M{x:.1} {BOTTOM}V{end}\"/>"));
            put(out, format_args!("<text class=\"tick x\" x=\"{x:.1}\" y=\"{base}\">{label}</text>\n"));
        }
        put(out, format_args!("<path class=\"axis\" d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\"/>\n"));
        put(out, format_args!("<text class=\"unit y\" x=\"4\" y=\"12\">{}</text>", escape(self.unit)));
        let y = HEIGHT - 4.0;
        put(
            out,
            format_args!("<text class=\"unit x\" x=\"{RIGHT}\" y=\"{y}\">{}</text>\n", escape(self.x_unit)),
        );
    }

    fn line(&self, line: &Line) -> String {
        let mut path = String::new();
        let places: Vec<Option<(f64, f64)>> =
            line.points.iter().map(|(x, value)| Some((self.x.x(*x)?, self.y.y(finite(*value)?)?))).collect();
        for stretch in places.split(Option::is_none) {
            let mut places = stretch.iter().flatten();
            match (places.next(), stretch.len()) {
                (Some((x, y)), 1) => {
                    let from = x - DOT;
                    put(&mut path, format_args!("M{from:.1} {y:.1}h{}", DOT * 2.0));
                }
                (Some((x, y)), _) => {
                    put(&mut path, format_args!("M{x:.1} {y:.1}"));
                    places.for_each(|(x, y)| put(&mut path, format_args!("L{x:.1} {y:.1}")));
                }
                (None, _) => {}
            }
        }
        path
    }

    fn columns(&self, line: &Line) -> String {
        let mut path = String::new();
        for pair in line.points.windows(2) {
            let [(from, Some(value)), (to, _)] = pair else { continue };
            let corners = (self.x.x(*from), self.x.x(*to), finite(Some(*value)).and_then(|v| self.y.y(v)));
            if let (Some(from), Some(to), Some(y)) = corners {
                put(&mut path, format_args!("M{from:.1} {BOTTOM}V{y:.1}H{to:.1}V{BOTTOM}Z"));
            }
        }
        path
    }

    fn draw_marks(&self, out: &mut String) {
        for (at, what) in &self.marks {
            let Some(x) = self.x.x(*at) else { continue };
            let what = escape(what);
            put(
                out,
                format_args!(
                    "<path class=\"mark\" d=\"M{x:.1} {TOP}V{BOTTOM}\"><title>{what}</title></path>\n"
                ),
            );
        }
    }

    /// Invisible columns that tell, when pointed at, what all lines show there.
    fn draw_readings(&self, out: &mut String) {
        let Some(first) = self.lines.iter().max_by_key(|line| line.points.len()) else { return };
        let columns = first.shape == Shape::Columns;
        for (nth, (x, _)) in first.points.iter().enumerate() {
            let Some(from) = self.x.x(*x) else { continue };
            let to = first.points.get(nth + 1).and_then(|(next, _)| self.x.x(*next)).unwrap_or(RIGHT);
            let at = |line: &Line| line.points.iter().find(|(own, _)| own == x).and_then(|(_, v)| finite(*v));
            let values =
                self.lines.iter().filter_map(|line| Some(format!("{}: {}", line.name, exact(at(line)?))));
            let values: Vec<String> = values.collect();
            if values.is_empty() || to <= from {
                continue;
            }
            let place =
                if columns { format!("from {} {}", exact(*x), self.x_unit) } else { (self.x.label)(*x) };
            let (height, text) = (BOTTOM - TOP, escape(&format!("{place}\n{}", values.join("\n"))));
            let width = to - from;
            put(
                out,
                format_args!(
                    "<rect class=\"reading\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\">\
                     <title>{text}</title></rect>\n"
                ),
            );
        }
    }
}

/// How many classes `s…` the page has; further lines begin anew.
pub const COLOURS: usize = 8;

/// Writing to a string cannot fail.
fn put(out: &mut String, what: std::fmt::Arguments) {
    out.write_fmt(what).ok();
}

fn finite(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite())
}

/// 1, 2 or 5 times a power of ten, at or above `value`.
fn round_up(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| decade * factor >= value * 0.999_999);
    decade * factor.unwrap_or(10.0)
}

/// 0, `step`, 2 `step`, … up to `to`.
fn steps(step: f64, to: f64) -> Vec<f64> {
    let multiples = (0..).map(|nth: u32| f64::from(nth) * step);
    multiples.take_while(|tick| *tick <= to + step * 1e-6).collect()
}

/// A number in few characters: `0.05`, `12`, `1.5k`, `20M`.
pub fn short(value: f64) -> String {
    let (scaled, suffix) = match value.abs() {
        size if size >= 1e9 => (value / 1e9, "G"),
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    format!("{}{suffix}", trimmed(format!("{scaled:.3}")))
}

/// A number as it was found, to three decimals.
pub fn exact(value: f64) -> String {
    trimmed(format!("{value:.3}"))
}

/// Without the noughts at the end of its decimals.
fn trimmed(text: String) -> String {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Seconds as a person reads them: `45 s`, `2:30`, `1:00:00`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, and is never negative"
)]
fn clock(seconds: f64) -> String {
    let whole = (seconds.max(0.0) + 1e-6) as u64;
    let (hours, minutes, rest) = (whole / 3600, whole / 60 % 60, whole % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest} s"),
        (0, _) => format!("{minutes}:{rest:02}"),
        _ => format!("{hours}:{minutes:02}:{rest:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, Option<f64>)>, y: Axis) -> Chart {
        let end = points.last().map_or(0.0, |(x, _)| *x);
        let line = |name: &str, shape| Line { name: name.into(), points: points.clone(), shape };
        Chart {
            title: "A <chart> & \"more\"".into(),
            unit: "ms",
            x_unit: "time",
            x: Axis::time(0.0, end),
            y,
            lines: vec![line("one & <only>", Shape::Line), line("columns", Shape::Columns)],
            bands: vec![Band { range: (0.0, end), name: "<phase>".into() }],
            marks: vec![(end / 2.0, "it's \u{0} gone".into())],
        }
    }

    /// Parses it as XML, finds no number that is none, and gives the texts of its paths.
    fn paths(svg: &str) -> Vec<String> {
        let document = roxmltree::Document::parse(svg).unwrap_or_else(|why| panic!("{why}: {svg}"));
        let numbers: Vec<&str> = document
            .descendants()
            .flat_map(|node| node.attributes())
            .filter(|attribute| ["d", "x", "y", "width", "height"].contains(&attribute.name()))
            .map(|attribute| attribute.value())
            .collect();
        assert!(!numbers.iter().any(|text| text.contains("NaN") || text.contains("inf")), "{svg}");
        let drawn = |node: &roxmltree::Node| {
            node.attribute("class")
                .is_some_and(|class| class.starts_with("line") || class.starts_with("columns"))
        };
        document
            .descendants()
            .filter(drawn)
            .filter_map(|node| node.attribute("d"))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn any_series_is_well_formed_and_without_nan() {
        let many = |count: u32| (0..count).map(|n| (f64::from(n), Some(f64::from(n * n % 97)))).collect();
        let axes = || {
            [
                Axis::from_zero(97.0),
                Axis::log(0.0, 97.0),
                Axis::from_zero(f64::NAN),
                Axis::log(f64::NAN, f64::INFINITY),
            ]
        };
        for y in axes() {
            assert_eq!(paths(&chart(vec![], y.clone()).svg()), Vec::<String>::new());
            let one = paths(&chart(many(1), y.clone()).svg());
            assert_eq!(one.len(), 1, "a column needs an end, a point does not: {one:?}");
            assert!(one[0].contains('h'));
            let all = paths(&chart(many(600), y.clone()).svg());
            assert_eq!((all[0].matches(['M', 'L']).count(), all[1].matches('Z').count()), (600, 599));
            let gaps = vec![
                (0.0, Some(1.0)),
                (1.0, Some(2.0)),
                (2.0, None),
                (3.0, Some(f64::NAN)),
                (4.0, Some(f64::INFINITY)),
                (5.0, Some(3.0)),
            ];
            let drawn = paths(&chart(gaps, y).svg());
            assert_eq!((drawn[0].matches('M').count(), drawn[0].matches('L').count()), (2, 1), "{drawn:?}");
        }
    }

    #[test]
    fn axes_have_round_labels() {
        let labels = |axis: &Axis| axis.ticks.iter().map(|tick| (axis.label)(*tick)).collect::<Vec<_>>();
        assert_eq!(labels(&Axis::from_zero(4.2)), ["0", "1", "2", "3", "4", "5"]);
        assert_eq!(labels(&Axis::from_zero(90_000.0)), ["0", "20k", "40k", "60k", "80k", "100k"]);
        assert_eq!(labels(&Axis::from_zero(0.0)), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        assert_eq!(labels(&Axis::log(0.3, 250.0)), ["0.1", "1", "10", "100", "1k"]);
        assert_eq!(labels(&Axis::log(1.0, 9.0)), ["1", "2", "5", "10"]);
        assert_eq!(
            labels(&Axis::time(0.0, 9.0)),
            ["0 s", "1 s", "2 s", "3 s", "4 s", "5 s", "6 s", "7 s", "8 s", "9 s"]
        );
        assert_eq!(labels(&Axis::time(0.0, 200.0)), ["0 s", "30 s", "1:00", "1:30", "2:00", "2:30", "3:00"]);
        assert_eq!(Axis::time(0.0, 86_400.0).ticks.len(), 9);
    }

    #[test]
    fn values_stand_in_proportion_and_inside() {
        let (plain, log) = (Axis::from_zero(10.0), Axis::log(1.0, 100.0));
        assert_eq!((plain.place(5.0), log.place(10.0)), (Some(0.5), Some(0.5)));
        assert_eq!((plain.place(-1.0), plain.place(99.0), log.place(0.0)), (Some(0.0), Some(1.0), Some(0.0)));
        assert_eq!(plain.place(f64::NAN), None);
    }
}
