//! Tables that fit where they are read.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};

/// How wide a terminal is that nobody made wider.
pub(crate) const USUAL_WIDTH: u16 = 80;

/// Where a table is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Room {
    /// On a terminal of so many columns: longer rows are wrapped within their cells.
    Terminal(u16),
    /// In a file or by another program: rows stay lines, however long.
    Unbounded,
}

/// A table as text. The columns from `right_from` on hold numbers. Where it would be wider than there is room, columns
/// come closer, and then the longest cells are wrapped.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>], right_from: usize, room: Room) -> String {
    let limit = match room {
        Room::Terminal(width) => width,
        Room::Unbounded => USUAL_WIDTH,
    };
    let roomy = text(head, rows, right_from, 2, None);
    if width(&roomy) <= usize::from(limit) {
        return roomy;
    }
    let close = text(head, rows, right_from, 1, None);
    match room {
        Room::Terminal(limit) if width(&close) > usize::from(limit) => {
            text(head, rows, right_from, 1, Some(limit))
        }
        Room::Terminal(_) | Room::Unbounded => close,
    }
}

fn width(text: &str) -> usize {
    text.lines().map(|l| l.chars().count()).fold(0, usize::max)
}

fn text(
    head: &[&str],
    rows: &[Vec<String>],
    right_from: usize,
    apart: u16,
    limit: Option<u16>,
) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(head.to_vec());
    table.add_rows(rows.to_vec());
    for at in 0..head.len() {
        if let Some(column) = table.column_mut(at) {
            column.set_padding((0, apart));
            if at >= right_from {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    if let Some(limit) = limit {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(limit);
    }
    let lines: Vec<String> = table.lines().map(|l| l.trim_end().to_owned()).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(cell: &str) -> Vec<Vec<String>> {
        vec![vec!["0-99".to_owned(), cell.to_owned(), "7".to_owned()]]
    }

    #[test]
    fn a_table_is_no_wider_than_its_terminal() {
        let head = ["SLOTS", "ADDRESS", "KEYS"];
        let short = table(&head, &rows("127.0.0.1:7000"), 2, Room::Terminal(80));
        assert_eq!(
            short,
            "SLOTS  ADDRESS         KEYS\n0-99   127.0.0.1:7000     7"
        );
        let long = "a-rather-long-name.of-a-service.of-a-namespace.svc.cluster.local:6379";
        for columns in [80, 60, 40] {
            let wrapped = table(&head, &rows(long), 2, Room::Terminal(columns));
            assert!(width(&wrapped) <= usize::from(columns), "{wrapped}");
            let whole: String = wrapped
                .lines()
                .skip(1)
                .flat_map(|l| l.split_whitespace().map(str::to_owned))
                .collect();
            assert!(whole.contains("0-99") && whole.contains('7'), "{wrapped}");
        }
        let file = table(&head, &rows(long), 2, Room::Unbounded);
        assert_eq!(file.lines().count(), 2, "{file}");
        assert!(file.contains(long), "{file}");
    }
}
