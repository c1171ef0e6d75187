//! Tables without borders: columns as wide as their widest cell, two spaces between them, the last column unpadded.
//!
//! Colour is applied after padding, so escape sequences never count as width.

use super::style::{Paint, plain};

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

    fn width(&self) -> usize {
        self.text.chars().count()
    }

    fn padded(&self, width: usize, last: bool) -> String {
        let space = " ".repeat(width.saturating_sub(self.width()));
        let text = self.paint.text(&self.text);
        match (self.to_the_right, last) {
            (true, _) => space + &text,
            (false, true) => text,
            (false, false) => text + &space,
        }
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
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width =
            |column: usize| self.rows.iter().filter_map(|row| Some(row.get(column)?.width())).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        self.rows.iter().map(|row| self.line(row, &widths)).collect()
    }

    fn line(&self, row: &[Cell], widths: &[usize]) -> String {
        let last = row.len().saturating_sub(1);
        let cells: Vec<String> =
            row.iter().zip(widths).enumerate().map(|(at, (cell, width))| cell.padded(*width, at == last)).collect();
        format!("{}{}\n", " ".repeat(self.indent), cells.join("  "))
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
    fn an_empty_table_is_no_text() {
        assert_eq!(Table::new().render(), "");
    }
}
