//! How the findings of `envol doctor` look: a row each, what to do below it, and a line that sums up.

use super::style::Paint;
use super::table::{Cell, Table};
use crate::doctor::{Finding, State};

/// The findings, for people.
pub(crate) fn doctor_page(findings: &[Finding]) -> String {
    let mut table = Table::headed(&["CHECK", "STATE", "FOUND"]);
    for finding in findings {
        let state = Cell::painted(finding.state.to_string(), paint(finding.state));
        table.row(vec![Cell::new(finding.check.name().replace('_', " ")), state, Cell::new(&finding.found)]);
        if let Some(remedy) = &finding.remedy {
            table.row(vec![Cell::new(""), Cell::new(""), Cell::painted(format!("-> {remedy}"), Paint::Idle)]);
        }
    }
    format!("{}\n{}\n", table.render(), verdict(findings))
}

fn paint(state: State) -> Paint {
    match state {
        State::Fine => Paint::Good,
        State::Limited => Paint::Warning,
        State::Missing => Paint::Failure,
    }
}

fn verdict(findings: &[Finding]) -> String {
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    match (count(State::Missing), count(State::Limited)) {
        (0, 0) => "This machine has all that envol wants.".to_owned(),
        (0, limited) => format!("This machine has what envol needs; {limited} of {} are limited.", findings.len()),
        (missing, _) => format!("Envol needs what is missing here: {missing} of {}.", findings.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Check;

    fn shown(findings: &[Finding]) -> String {
        anstream::adapter::strip_str(&doctor_page(findings)).to_string()
    }

    #[test]
    fn what_to_do_stands_below_what_was_found() {
        let fine = Check::LockedMemory.fine("this process may lock 65 MiB");
        let limited = Check::NbdModule.limited("there, and not \u{1b}[2Jloaded").remedy("modprobe nbd");
        let missing = Check::DomainKey.missing("others may use /k (mode 0644)").remedy("chmod 0600 /k");
        let text = "\
CHECK          STATE    FOUND
locked memory  fine     this process may lock 65 MiB
nbd module     limited  there, and not  [2Jloaded
                        -> modprobe nbd
domain key     missing  others may use /k (mode 0644)
                        -> chmod 0600 /k

Envol needs what is missing here: 1 of 3.
";
        assert_eq!(shown(&[fine.clone(), limited.clone(), missing]), text);
        assert!(
            shown(&[fine.clone(), limited]).ends_with("\nThis machine has what envol needs; 1 of 2 are limited.\n")
        );
        assert!(shown(&[fine]).ends_with("\nThis machine has all that envol wants.\n"));
    }
}
