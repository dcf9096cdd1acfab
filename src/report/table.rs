//! Tables of plain text.

use super::printable;
use crate::probe::ProbeResult;

/// Longest cell, in characters; what is longer is cut and says so.
const MAX_CELL: usize = 90;

/// Aligns rows under a header, two spaces between columns.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let cut = |cell: &str| {
        let cell = printable(cell).replace(['\n', '\t'], " ");
        if cell.chars().count() <= MAX_CELL { cell } else { cell.chars().take(MAX_CELL - 1).chain(['…']).collect() }
    };
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    let rows: Vec<Vec<String>> =
        std::iter::once(header).chain(rows.iter().map(|row| row.iter().map(|cell| cut(cell)).collect())).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// The probe's lines: attempt, expected, what happened.
pub fn probe_table(lines: &[ProbeResult]) -> String {
    let rows: Vec<Vec<String>> = lines
        .iter()
        .map(|line| {
            let verdict = if line.ok { "ok" } else { "RED" };
            vec![verdict.to_owned(), line.attempt.clone(), line.expected.clone(), line.happened.clone()]
        })
        .collect();
    table(&["", "attempt", "expected", "what happened"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_harmless() {
        let rows = vec![vec!["a".to_owned(), "long cell".to_owned()], vec!["bcd\x1b[2J".to_owned(), "x".to_owned()]];
        assert_eq!(table(&["n", "what"], &rows), "n       what\na       long cell\nbcd[2J  x\n");
    }
}
