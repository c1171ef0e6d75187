//! The figures as tables, one for each job, under what must be known to read them.

use crate::bench::report::{Figures, JobReport, Report, RungReport};
use crate::cli::render::{Cell, Paint, Table, human_size, plain};

/// All of it.
pub(super) fn page(report: &Report) -> String {
    let mut page = facts(report).render();
    if report.build == "debug" {
        let warning = "This is a build without optimisation: no figure below means anything.";
        page.push_str(&format!("{}\n", Paint::Warning.text(warning)));
    }
    for job in &report.jobs {
        page.push_str(&format!("\n{}\n{}", Paint::Heading.text(job.title), figures(report, job).render()));
    }
    page.push_str(&remarks(report));
    page
}

/// In which machine, on what, how.
pub(super) fn facts(report: &Report) -> Table {
    let (machine, settings) = (&report.machine, &report.settings);
    let mut table = Table::new();
    table.pair("envol", Cell::new(format!("{} ({}), {}", report.version, report.build, report.time)));
    table.pair("machine", Cell::new(format!("{}, {} cores, Linux {}", machine.cpu, machine.cores, machine.kernel)));
    table.pair("cipher", Cell::new(cipher(report)));
    table.pair("backing", Cell::new(format!("{}, {}", report.backing.directory, backing(report))));
    let how = format!("median of {} rounds of {} s, all in turn", settings.rounds, settings.seconds);
    table.pair("figures", Cell::new(how));
    table
}

/// Which cipher.
pub(super) fn cipher(report: &Report) -> String {
    format!("AES-256-XTS, engine {}, {}-byte sectors", report.cipher.engine, report.cipher.sector_size)
}

/// On what the data lay, and whether it was in memory.
pub(super) fn backing(report: &Report) -> String {
    let cached = match report.backing.in_page_cache {
        None => "the file system cannot tell what is in the page cache".to_owned(),
        Some(part) => format!("{:.0}% in the page cache", part * 100.0),
    };
    let file_system = report.backing.file_system.as_deref().unwrap_or("an unknown file system");
    format!("{} on {file_system}, {cached}", human_size(report.backing.size))
}

fn figures(report: &Report, job: &JobReport) -> Table {
    let mut table = Table::headed(&["RUNG", "IOPS", "BYTES/S", "P50", "P99", "AGAINST THE RUNG BELOW"]);
    for rung in &report.rungs {
        let Some(figures) = job.of(&rung.id) else { continue };
        table.row(vec![
            Cell::new(&rung.label),
            Cell::number(short(figures.iops)),
            Cell::number(format!("{}B", short(figures.bytes_per_second))),
            Cell::number(microseconds(figures.p50_us)),
            Cell::number(microseconds(figures.p99_us)),
            Cell::new(against(rung, figures)),
        ]);
    }
    table
}

/// How the figures stand to what they are compared with.
fn against(rung: &RungReport, figures: &Figures) -> String {
    match (figures.ratio, figures.of_possible) {
        (None, _) => String::new(),
        (Some(ratio), _) if !rung.is_of_ladder() => format!("{ratio:.2} x envol's NBD"),
        (Some(ratio), None) => change(ratio),
        (Some(ratio), Some(possible)) => {
            format!("{}; {:.0}% of cipher and file in turn", change(ratio), possible * 100.0)
        }
    }
}

/// A ratio as a loss or a gain.
pub(super) fn change(ratio: f64) -> String {
    if ratio > 2.0 { format!("{ratio:.1} x") } else { format!("{:+.0}%", (ratio - 1.0) * 100.0) }
}

/// What is absent and why, and what must be known of the rest.
fn remarks(report: &Report) -> String {
    let remarks = report.rungs.iter().flat_map(|rung| {
        let absent = rung.absent.iter().map(|reason| format!("absent: {reason}"));
        absent.chain(rung.notes.iter().cloned()).map(move |remark| format!("{}: {remark}", rung.label))
    });
    let lines: String = remarks.map(|remark| format!("{}\n", Paint::Idle.text(plain(&remark)))).collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

fn microseconds(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(us) if us < 10.0 => format!("{us:.1} us"),
        Some(us) if us < 10_000.0 => format!("{us:.0} us"),
        Some(us) => format!("{:.0} ms", us / 1000.0),
    }
}

/// Three digits and a decimal prefix: `12.3 k`, `1.20 G`.
pub(super) fn short(value: f64) -> String {
    let (scaled, prefix) = [(1e9, " G"), (1e6, " M"), (1e3, " k")]
        .into_iter()
        // What would round up to 1000 is already one of the next.
        .find(|(unit, _)| value >= 0.9995 * unit)
        .map_or((value, " "), |(unit, prefix)| (value / unit, prefix));
    let digits = if scaled < 9.995 {
        2
    } else if scaled < 99.95 {
        1
    } else {
        0
    };
    format!("{scaled:.digits$}{prefix}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [
            (0.0, "0.00"),
            (999.4, "999"),
            (999.6, "1.00 k"),
            (12_345.0, "12.3 k"),
            (9_996.0, "10.0 k"),
            (305_000.0, "305 k"),
            (999_600.0, "1.00 M"),
            (11_750_000_000.0, "11.8 G"),
        ] {
            assert_eq!(short(value), text, "{value}");
        }
    }

    #[test]
    fn a_ratio_is_shown_as_what_is_lost_or_won() {
        assert_eq!([0.25, 1.0, 1.5, 3.0].map(change), ["-75%", "+0%", "+50%", "3.0 x"]);
    }
}
