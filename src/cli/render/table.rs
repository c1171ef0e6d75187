//! Tables without borders: columns as wide as their widest cell on the screen, two spaces between them, no space at the
//! end of a line. `tabled` lays them out; it counts neither escape sequences nor the bytes of a character as width.

use tabled::builder::Builder;
use tabled::settings::{Alignment, Padding, Style};

use super::style::{Paint, plain};

/// Spaces between two columns.
const COLUMN_GAP: usize = 2;

/// One cell: text made safe, and its colour.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    paint: Paint,
    to_the_right: bool,
}

impl Cell {
    /// A cell without colour.
    pub(crate) fn new(text: impl AsRef<str>) -> Self {
        Self::painted(text, Paint::Plain)
    }

    /// A cell in a colour.
    pub(crate) fn painted(text: impl AsRef<str>, paint: Paint) -> Self {
        Self { text: plain(text.as_ref()), paint, to_the_right: false }
    }

    /// A cell for a number: set to the right.
    pub(crate) fn number(text: impl AsRef<str>) -> Self {
        Self { to_the_right: true, ..Self::new(text) }
    }

    /// A state, in its colour.
    pub(crate) fn state(state: &str) -> Self {
        Self::painted(state, Paint::of_state(state))
    }
}

/// Rows under a heading, or without one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<Cell>>,
    indent: usize,
}

impl Table {
    /// A table without a heading: names and values.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A table under the headings `columns`.
    pub(crate) fn headed(columns: &[&str]) -> Self {
        let heading = columns.iter().map(|column| Cell::painted(column, Paint::Heading)).collect();
        Self { rows: vec![heading], indent: 0 }
    }

    /// The table, moved `columns` to the right.
    pub(crate) fn indented(mut self, columns: usize) -> Self {
        self.indent = columns;
        self
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// Adds a row of a name and a value.
    pub(crate) fn pair(&mut self, name: &str, value: Cell) {
        self.row(vec![Cell::painted(name, Paint::Idle), value]);
    }

    /// The table as text, each row a line.
    pub(crate) fn render(&self) -> String {
        let painted = |row: &Vec<Cell>| row.iter().map(|cell| cell.paint.text(&cell.text)).collect::<Vec<_>>();
        let mut table = Builder::from_iter(self.rows.iter().map(painted)).build();
        table.with(Style::empty()).with(Padding::new(0, COLUMN_GAP, 0, 0));
        for (at, row) in self.rows.iter().enumerate() {
            for (column, _) in row.iter().enumerate().filter(|(_, cell)| cell.to_the_right) {
                table.modify((at, column), Alignment::right());
            }
        }
        let indent = " ".repeat(self.indent);
        // The library fills up the last column too, and spaces at the end of a line are in the way of whoever copies it.
        table.to_string().lines().map(|line| format!("{indent}{}\n", line.trim_end())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_their_colour() {
        let mut table = Table::headed(&["NAME", "SIZE", "STATE"]);
        table.row(vec![Cell::new("a"), Cell::number("10 GiB"), Cell::state("in-use")]);
        table.row(vec![Cell::new("longer"), Cell::number("1 B"), Cell::state("available")]);
        let text = anstream::adapter::strip_str(&table.render()).to_string();
        assert_eq!(text, "NAME    SIZE    STATE\na       10 GiB  in-use\nlonger     1 B  available\n");
    }

    #[test]
    fn wide_characters_take_the_columns_that_a_terminal_gives_them() {
        let mut table = Table::new();
        table.row(vec![Cell::new("\u{6f22}"), Cell::new("x")]);
        table.row(vec![Cell::new("e\u{301}"), Cell::new("y")]);
        assert_eq!(table.render(), "\u{6f22}  x\ne\u{301}   y\n");
    }

    #[test]
    fn an_empty_table_is_no_text() {
        assert_eq!(Table::new().render(), "");
    }
}
