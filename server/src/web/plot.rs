//! Sizes over time, drawn: a picture with a title and a description, and the same as a table. All coordinates are whole numbers.

use super::page::table;
use crate::amounts::{Date, size};
use backstop_protocol::clock::UnixMillis;
use maud::{Markup, html};
use std::fmt::Write as _;

/// Where in the picture lines are drawn: from its left and top edge on, so wide and so high.
const LEFT: u64 = 660;
const TOP: u64 = 90;
const WIDE: u64 = 3200;
const HIGH: u64 = 1600;
/// Most rows of the table beside a picture.
const ROWS: usize = 16;
const DAY_MS: u64 = 86_400_000;

/// How points are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// What grew from one to the next.
    Slope,
    /// What stayed until the next came.
    Steps,
}

/// What is drawn.
pub(super) struct Plot<'a> {
    /// Tells it from others of the page.
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    /// In words, for who does not see it.
    pub(super) about: String,
    /// What a point is, and what its size is of: the heads of the table.
    pub(super) heads: [&'a str; 2],
    /// In the order of time.
    pub(super) points: &'a [(UnixMillis, u64)],
    pub(super) shape: Shape,
    /// The end of the picture.
    pub(super) now: UnixMillis,
}

/// How much lies between two lines, and how many there are above the lowest.
fn scale(most: u64) -> (u64, u64) {
    let mut unit = 1_u64;
    while most / unit >= 1024 && unit < 1 << 50 {
        unit *= 1024;
    }
    let units = most.div_ceil(unit).max(1);
    let steps = [1, 2, 5, 10, 20, 50, 100, 200, 500];
    let step = steps.into_iter().find(|step| units.div_ceil(*step) <= 5);
    let step = step.unwrap_or_else(|| units.div_ceil(5));
    (step.saturating_mul(unit), units.div_ceil(step))
}

/// Part of a length, as `part` is of `whole`.
fn share(length: u64, part: u64, whole: u64) -> u64 {
    let share = u128::from(length) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(share).unwrap_or(length).min(length)
}

impl Plot<'_> {
    /// The picture and its table; nothing where there is no point.
    pub(super) fn draw(&self) -> Markup {
        let Some((from, _)) = self.points.first().copied() else {
            return html! {};
        };
        let span = self.now.millis_since(from).max(1);
        let most = self.points.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0);
        let (step, lines) = scale(most);
        let top = step.saturating_mul(lines);
        let x = |at: UnixMillis| LEFT + share(WIDE, at.millis_since(from), span);
        let y = |bytes: u64| TOP + HIGH - share(HIGH, bytes, top);
        let (line, area) = self.paths(&x, &y);
        let (title, about) = (format!("{}-title", self.id), format!("{}-about", self.id));
        html! {
            figure.plot {
                figcaption { (self.title) }
                svg viewBox="0 0 4000 2000" role="img" aria-labelledby=(format!("{title} {about}")) {
                    title id=(title) { (self.title) }
                    desc id=(about) { (self.about) }
                    @for mark in 0..=lines {
                        @let bytes = step.saturating_mul(mark);
                        line.grid x1=(LEFT) x2=(LEFT + WIDE) y1=(y(bytes)) y2=(y(bytes)) {}
                        text x=(LEFT - 50) y=(y(bytes) + 45) text-anchor="end" { (size(bytes).replace(".0", "")) }
                    }
                    @for (anchor, part) in [("start", 0), ("middle", 1), ("end", 2)] {
                        text x=(LEFT + WIDE * part / 2) y=(TOP + HIGH + 190) text-anchor=(anchor) {
                            (label(UnixMillis(from.0.saturating_add(share(span, part, 2))), span))
                        }
                    }
                    path.area d=(area) {}
                    path.line d=(line) {}
                    @if self.shape == Shape::Steps {
                        @for (at, bytes) in self.points { circle cx=(x(*at)) cy=(y(*bytes)) r="38" {} }
                    }
                }
                details {
                    summary { "As a table" }
                    (table(self.title, &self.heads, &self.rows()))
                }
            }
        }
    }

    /// The line, and what lies below it.
    fn paths(&self, x: &dyn Fn(UnixMillis) -> u64, y: &dyn Fn(u64) -> u64) -> (String, String) {
        let mut line = String::new();
        let (mut start, mut end) = (LEFT, LEFT);
        for (number, (at, bytes)) in self.points.iter().enumerate() {
            let (at, bytes) = (x(*at), y(*bytes));
            // Writing to a string does not fail.
            let _ = match (number, self.shape) {
                (0, _) => {
                    start = at;
                    write!(line, "M{at} {bytes}")
                }
                (_, Shape::Slope) => write!(line, "L{at} {bytes}"),
                (_, Shape::Steps) => write!(line, "H{at}V{bytes}"),
            };
            end = at;
        }
        // What was last is so until now.
        if end < LEFT + WIDE {
            end = LEFT + WIDE;
            let _ = write!(line, "H{end}");
        }
        let floor = TOP + HIGH;
        let area = format!("{line}L{end} {floor}L{start} {floor}Z");
        (line, area)
    }

    /// Few enough to be read, the first and the last among them.
    fn rows(&self) -> Vec<Vec<Markup>> {
        let last = self.points.len().saturating_sub(1);
        let each = self.points.len().div_ceil(ROWS).max(1);
        let shown = self.points.iter().enumerate();
        shown
            .filter(|(number, _)| number % each == 0 || *number == last)
            .map(|(_, (at, bytes))| {
                let date = Date::of(*at);
                vec![
                    html! { time datetime=(date.iso()) { (date.minute()) } },
                    html! { (size(*bytes)) },
                ]
            })
            .collect()
    }
}

/// A time below the picture: as exact as makes sense there.
fn label(at: UnixMillis, span: u64) -> String {
    let date = Date::of(at);
    if span < DAY_MS { date.clock() } else { date.day() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_stand_at_round_sizes_and_the_highest_above_all_points() {
        for (most, want) in [
            (0, (1, 1)),
            (4, (1, 4)),
            (1023, (500, 3)),
            (1 << 20, (1 << 20, 1)),
            (37 << 20, (10 << 20, 4)),
            (1_500_000_000, (1 << 30, 2)),
        ] {
            assert_eq!(scale(most), want, "{most}");
        }
    }

    #[test]
    fn a_table_has_the_first_point_and_the_last_and_not_too_many() {
        let points: Vec<_> = (0..65).map(|at| (UnixMillis(at * DAY_MS), at)).collect();
        let plot = plot(&points, Shape::Slope);
        let rows: Vec<_> = plot
            .rows()
            .into_iter()
            .flatten()
            .map(maud::Markup::into_string)
            .collect();
        assert!(rows.len() <= 2 * (ROWS + 1));
        assert_eq!((rows[1].as_str(), rows[rows.len() - 1].as_str()), ("0 B", "64 B"));
    }

    fn plot(points: &[(UnixMillis, u64)], shape: Shape) -> Plot<'_> {
        Plot {
            id: "p",
            title: "<b>",
            about: "<i>".to_owned(),
            heads: ["when", "how much"],
            points,
            shape,
            now: UnixMillis(u64::MAX),
        }
    }

    #[test]
    fn nothing_is_drawn_where_there_is_nothing() {
        assert_eq!(plot(&[], Shape::Steps).draw().into_string(), "");
        let one = plot(&[(UnixMillis(1), 5)], Shape::Steps).draw().into_string();
        assert!(one.contains("<path") && !one.contains("<b>") && !one.contains("<i>"));
    }

    proptest! {
        /// Whatever the sizes and the times: nothing is drawn outside of the picture.
        #[test]
        fn every_point_lies_in_the_picture(points in proptest::collection::vec((any::<u64>(), any::<u64>()), 1..20), steps in any::<bool>()) {
            let mut points: Vec<_> = points.into_iter().map(|(at, bytes)| (UnixMillis(at), bytes)).collect();
            points.sort_unstable();
            let shape = if steps { Shape::Steps } else { Shape::Slope };
            let drawn = plot(&points, shape).draw().into_string();
            let path = drawn.split(" d=\"").nth(2).and_then(|rest| rest.split('"').next()).unwrap();
            let numbers = path.split(|letter: char| !letter.is_ascii_digit()).filter(|number| !number.is_empty());
            for number in numbers {
                prop_assert!(number.parse::<u64>().unwrap() <= 4000, "{}", path);
            }
        }
    }
}
