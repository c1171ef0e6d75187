//! The figures as a picture: a panel for each job, a line for each rung, all on one logarithmic axis of bytes in a second,
//! so that an equal distance is an equal ratio wherever it lies.
//!
//! Opaque and dark on light, whatever the page around it is. Circles are the ladder, squares other servers; the pale bar
//! behind a mark reaches from the slowest to the fastest round.

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::error::BenchFailure;
use super::table::{backing, change, cipher, short};
use crate::bench::report::{Figures, JobReport, Report, RungReport};

type Canvas<'s> = DrawingArea<SVGBackend<'s>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

const WIDTH: u32 = 1290;
/// Panels beside each other.
const COLUMNS: usize = 3;
/// Pixels of a rung's line.
const LINE: u32 = 30;
/// Pixels above the panels, and below them.
const HEAD: u32 = 92;
const FOOT: u32 = 34;
/// Pixels above the lines of a panel, for its title, and below them, for the axis.
const PANEL_HEAD: u32 = 38;
const AXIS: u32 = 34;
/// Pixels left of the panels, for the rungs' names, and right of each, for its figures.
const NAMES: u32 = 138;
const FIGURES: u32 = 142;
/// The longest request whose rate is told in requests, not in bytes.
const SMALL: u32 = 16 << 10;

const PAPER: RGBColor = RGBColor(0xfd, 0xfd, 0xfc);
const INK: RGBColor = RGBColor(0x1d, 0x23, 0x2b);
const PALE_INK: RGBColor = RGBColor(0x5d, 0x66, 0x72);
const GRID: RGBColor = RGBColor(0xdd, 0xe1, 0xe6);
/// Colours that colour-blind people tell apart (Okabe and Ito), in the order of the ladder.
const LADDER: [RGBColor; 5] = [
    RGBColor(0x7a, 0x80, 0x88),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
];
const SERVER: RGBColor = RGBColor(0xa8, 0x4f, 0x86);

/// The picture, as SVG.
pub(super) fn draw(report: &Report) -> Result<String, BenchFailure> {
    let sheet = Sheet::of(report);
    let mut svg = String::new();
    let drawn = sheet.draw(&SVGBackend::with_string(&mut svg, (WIDTH, sheet.height())).into_drawing_area());
    drawn.map_err(|error| BenchFailure::Drawing(error.to_string()))?;
    Ok(svg)
}

/// What is drawn, and the axis that all of it shares.
struct Sheet<'r> {
    report: &'r Report,
    /// Those that are not absent, from above.
    rungs: Vec<(&'r RungReport, RGBColor)>,
    axis: std::ops::Range<f64>,
}

impl<'r> Sheet<'r> {
    fn of(report: &'r Report) -> Self {
        let colours = LADDER.into_iter().chain(std::iter::repeat(SERVER));
        let rungs = report.rungs.iter().zip(colours).filter(|(rung, _)| rung.absent.is_none());
        let all = report.jobs.iter().flat_map(|job| &job.results);
        let (least, most) = all.fold((f64::INFINITY, 1.0_f64), |(least, most), figures| {
            (least.min(extreme(figures, f64::min)), most.max(extreme(figures, f64::max)))
        });
        // Room for a mark at either end.
        let axis = least.clamp(1.0, most) / 1.4..most * 1.4;
        Self { report, rungs: rungs.collect(), axis }
    }

    fn rows(&self) -> u32 {
        u32::try_from(self.report.jobs.len().div_ceil(COLUMNS)).expect("few jobs")
    }

    fn panel_height(&self) -> u32 {
        PANEL_HEAD + LINE * u32::try_from(self.rungs.len()).expect("few rungs") + AXIS
    }

    fn height(&self) -> u32 {
        HEAD + self.rows() * self.panel_height() + FOOT
    }

    fn draw(&self, canvas: &Canvas<'_>) -> Drawn {
        canvas.fill(&PAPER)?;
        self.head(canvas)?;
        let (_, below) = canvas.split_vertically(HEAD);
        let (rows, _) = below.split_vertically(self.rows() * self.panel_height());
        let rows = rows.split_evenly((self.report.jobs.len().div_ceil(COLUMNS), 1));
        for (row, jobs) in rows.iter().zip(self.report.jobs.chunks(COLUMNS)) {
            self.names(row)?;
            let (_, panels) = row.split_horizontally(NAMES);
            for (panel, job) in panels.split_evenly((1, COLUMNS)).iter().zip(jobs) {
                self.panel(panel, job)?;
            }
        }
        self.foot(canvas)?;
        canvas.present()
    }

    fn head(&self, canvas: &Canvas<'_>) -> Drawn {
        let report = self.report;
        let machine = &report.machine;
        let title = "envol bench: from the cipher to NBD, and what each rung costs";
        text(canvas, title, (20, 18), 22, INK, HPos::Left, FontStyle::Bold)?;
        let place = format!(
            "{}, {} cores, Linux {}  ·  {}  ·  {}",
            machine.cpu,
            machine.cores,
            machine.kernel,
            backing(report),
            cipher(report)
        );
        text(canvas, &place, (20, 46), 13, PALE_INK, HPos::Left, FontStyle::Normal)?;
        let how = format!(
            "Median of {} rounds of {} s, all rungs in turn. Right of each line: its rate, and the change from the \
             rung below{}.",
            report.settings.rounds,
            report.settings.seconds,
            if self.has_servers() { " (other servers, squares: from envol's NBD)" } else { "" }
        );
        text(canvas, &how, (20, 66), 13, PALE_INK, HPos::Left, FontStyle::Normal)
    }

    fn has_servers(&self) -> bool {
        self.rungs.iter().any(|(rung, _)| !rung.is_of_ladder())
    }

    fn foot(&self, canvas: &Canvas<'_>) -> Drawn {
        let y = i32::try_from(self.height() - FOOT + 12).expect("a small picture");
        let report = self.report;
        let debug = if report.build == "debug" { ", BUILT WITHOUT OPTIMISATION: no figure means anything" } else { "" };
        let absent =
            report.rungs.iter().filter_map(|rung| Some(format!("  ·  no {}: {}", rung.label, rung.absent.as_ref()?)));
        let made = format!("envol {}{debug}{}", report.version, absent.collect::<String>());
        text(canvas, &made, (20, y), 12, PALE_INK, HPos::Left, FontStyle::Normal)?;
        let right = (i32::try_from(WIDTH).expect("a small picture") - 20, y);
        text(canvas, &report.time, right, 12, PALE_INK, HPos::Right, FontStyle::Normal)
    }

    /// The rungs' names, left of a row of panels.
    fn names(&self, row: &Canvas<'_>) -> Drawn {
        for (line, (rung, _)) in self.rungs.iter().enumerate() {
            let style = if rung.id == "nbd" { FontStyle::Bold } else { FontStyle::Normal };
            let at = (i32::try_from(NAMES).expect("small") - 12, middle_of(line) - 7);
            text(row, &shortened(&rung.label), at, 14, INK, HPos::Right, style)?;
        }
        Ok(())
    }

    fn panel(&self, panel: &Canvas<'_>, job: &JobReport) -> Drawn {
        text(panel, job.title, (4, 12), 15, INK, HPos::Left, FontStyle::Bold)?;
        let lines = self.rungs.len();
        let mut chart = ChartBuilder::on(panel)
            .margin_top(PANEL_HEAD)
            .margin_right(FIGURES)
            .margin_left(4)
            .x_label_area_size(AXIS)
            .build_cartesian_2d(self.axis.clone().log_scale(), 0.0..count(lines))?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(GRID)
            .x_labels(6)
            .x_label_formatter(&|bytes| format!("{}B/s", round(*bytes)))
            .label_style(font(12, FontStyle::Normal).color(&PALE_INK))
            .draw()?;
        for (line, (rung, colour)) in self.rungs.iter().enumerate() {
            let Some(figures) = job.of(&rung.id) else { continue };
            let y = count(lines - line) - 0.5;
            mark(&mut chart, (figures, y), *colour, rung.is_of_ladder(), self.axis.start)?;
            Self::figures(panel, job, line, figures)?;
        }
        Ok(())
    }

    /// Right of a line: its figures.
    fn figures(panel: &Canvas<'_>, job: &JobReport, line: usize, figures: &Figures) -> Drawn {
        let right = i32::try_from(panel.dim_in_pixel().0).expect("small");
        let y = middle_of(line) - 7;
        // Small requests are counted, large ones weighed.
        let rate = if job.block_size <= SMALL {
            format!("{} IOPS", short(figures.iops))
        } else {
            format!("{}B/s", short(figures.bytes_per_second))
        };
        text(panel, &rate, (right - 64, y), 13, INK, HPos::Right, FontStyle::Normal)?;
        let ratio = figures.ratio.map(change).unwrap_or_default().replace('-', "\u{2212}");
        text(panel, &ratio, (right - 16, y), 13, INK, HPos::Right, FontStyle::Normal)
    }
}

type Chart<'a, 's> =
    ChartContext<'a, SVGBackend<'s>, Cartesian2d<plotters::coord::combinators::LogCoord<f64>, RangedCoordf64>>;

/// A stem from the left, the span of the rounds, and the mark of the median.
fn mark(chart: &mut Chart<'_, '_>, at: (&Figures, f64), colour: RGBColor, round: bool, left: f64) -> Drawn {
    let (figures, y) = at;
    let value = figures.bytes_per_second.max(left);
    let (least, most) = (extreme(figures, f64::min).max(left), extreme(figures, f64::max).max(left));
    chart.draw_series([PathElement::new([(left, y), (value, y)], colour.mix(0.55).stroke_width(2))])?;
    chart.draw_series([PathElement::new([(least, y), (most, y)], colour.mix(0.30).stroke_width(9))])?;
    if round {
        chart.draw_series([Circle::new((value, y), 6, colour.filled())])?;
    } else {
        let square = Rectangle::new([(-5, -5), (5, 5)], colour.filled());
        chart.draw_series([EmptyElement::at((value, y)) + square])?;
    }
    Ok(())
}

/// The slowest or fastest round, in bytes in a second.
fn extreme(figures: &Figures, choose: fn(f64, f64) -> f64) -> f64 {
    let length = figures.bytes_per_second / figures.iops.max(f64::MIN_POSITIVE);
    figures.iops_by_round.iter().copied().reduce(choose).unwrap_or(figures.iops) * length
}

/// Where the middle of a line is, in pixels of its panel.
fn middle_of(line: usize) -> i32 {
    let lines = u32::try_from(line).expect("few rungs");
    i32::try_from(PANEL_HEAD + lines * LINE + LINE / 2).expect("a small picture")
}

fn count(lines: usize) -> f64 {
    u32::try_from(lines).map_or(0.0, f64::from)
}

/// The figure of an axis: `100 M`, never `100.0 M`.
fn round(value: f64) -> String {
    let text = short(value);
    let (digits, prefix) = text.split_once(' ').unwrap_or((&text, ""));
    let digits = if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
    format!("{digits} {prefix}")
}

/// A name that fits beside the panels.
fn shortened(label: &str) -> String {
    const LONGEST: usize = 19;
    if label.chars().count() <= LONGEST {
        return label.to_owned();
    }
    label.chars().take(LONGEST - 1).chain(['\u{2026}']).collect()
}

fn font(pixels: u32, style: FontStyle) -> FontDesc<'static> {
    // The backend divides by this, since what it is given is a line's height.
    FontDesc::new(FontFamily::SansSerif, f64::from(pixels) * 1.24, style)
}

/// One line of text, its top at `at`.
fn text(
    canvas: &Canvas<'_>,
    line: &str,
    at: (i32, i32),
    pixels: u32,
    colour: RGBColor,
    anchor: HPos,
    style: FontStyle,
) -> Drawn {
    let style = font(pixels, style).color(&colour).pos(Pos::new(anchor, VPos::Top));
    canvas.draw(&Text::new(line, at, style))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_an_axis_are_round() {
        assert_eq!([1e6, 1e8, 1e9, 1.5e9].map(round), ["1 M", "100 M", "1 G", "1.5 G"]);
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(shortened("NBD over unix"), "NBD over unix");
        assert_eq!(shortened("nbd+unix:///disk?socket=/tmp/x"), "nbd+unix:///disk?s\u{2026}");
    }
}
