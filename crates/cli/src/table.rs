//! Tables of at most [`WIDTH`] characters a line, with columns that always come in the same order.
//!
//! When a table is too wide, names are shortened: in their middle, with `…`, and never so far that two
//! values of the column that differ would look the same. If that does not make it fit, names stay
//! whole and rows continue on a second line, headings included. Addresses and numbers are never
//! shortened.

/// The longest line, in characters.
pub const WIDTH: usize = 100;
/// Between two columns.
const GAP: usize = 2;
/// Before what continues a row.
const INDENT: usize = 4;
/// No name becomes shorter than this.
const SHORTEST: usize = 8;

/// To which side a column leans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Align {
    Left,
    Right,
}

/// A heading and how its values are laid out.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    title: &'static str,
    align: Align,
    shortens: bool,
    breaks: bool,
}

impl Column {
    /// A column of words or addresses, which are never shortened.
    pub const fn text(title: &'static str) -> Self {
        Self { title, align: Align::Left, shortens: false, breaks: false }
    }

    /// A column of names, which may be shortened.
    pub const fn name(title: &'static str) -> Self {
        Self { title, align: Align::Left, shortens: true, breaks: false }
    }

    /// A column of numbers and quantities.
    pub const fn number(title: &'static str) -> Self {
        Self { title, align: Align::Right, shortens: false, breaks: false }
    }

    /// The same column, always at the beginning of the next line of a row.
    pub const fn on_next_line(mut self) -> Self {
        self.breaks = true;
        self
    }
}

/// Rows under headings.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row. Empty cells show as `-`; surplus ones are left out.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let shown = |cell: String| if cell.is_empty() { "-".to_owned() } else { cell };
        self.push(cells.into_iter().map(shown), "-");
    }

    /// Adds what belongs to the row before. Empty cells stay empty.
    pub fn continued(&mut self, cells: impl IntoIterator<Item = String>) {
        self.push(cells.into_iter(), "");
    }

    fn push(&mut self, cells: impl Iterator<Item = String>, missing: &str) {
        let mut cells: Vec<String> = cells.map(|cell| crate::units::printable(&cell)).collect();
        cells.resize(self.columns.len(), missing.to_owned());
        self.rows.push(cells);
    }

    /// The text, with a newline after every line.
    pub fn render(mut self) -> String {
        let limits = self.limits();
        for row in &mut self.rows {
            for (cell, &limit) in row.iter_mut().zip(&limits) {
                *cell = elide(cell, limit);
            }
        }
        let lines = self.fold(&limits);
        let mut text = String::new();
        let titles: Vec<String> = self.columns.iter().map(|column| column.title.to_owned()).collect();
        for row in core::iter::once(&titles).chain(&self.rows) {
            self.push_row(&mut text, row, &lines);
        }
        text
    }

    /// How wide each column is: shortened where that makes rows fit on their lines, else whole.
    fn limits(&self) -> Vec<usize> {
        let whole: Vec<usize> =
            (0..self.columns.len()).map(|index| self.width(index).min(WIDTH - INDENT)).collect();
        let floors: Vec<usize> = (0..self.columns.len()).map(|index| self.floor(index)).collect();
        let wanted = 1 + self.columns.iter().skip(1).filter(|column| column.breaks).count();
        let mut limits = whole.clone();
        while self.fold(&limits).len() > wanted {
            let widest = (0..limits.len())
                .filter(|&index| limits.get(index) > floors.get(index))
                .max_by_key(|&index| limits.get(index).copied());
            let Some(limit) = widest.and_then(|index| limits.get_mut(index)) else { return whole };
            *limit -= 1;
        }
        limits
    }

    /// The narrowest that the column may become.
    fn floor(&self, index: usize) -> usize {
        let width = self.width(index);
        let Some(column) = self.columns.get(index).filter(|column| column.shortens) else {
            // Even an address has to fit on a line of its own.
            return width.min(WIDTH - INDENT);
        };
        let mut values: Vec<&str> =
            self.rows.iter().filter_map(|row| row.get(index)).map(String::as_str).collect();
        values.sort_unstable();
        values.dedup();
        let stays_distinct = |limit: usize| {
            let mut short: Vec<String> = values.iter().map(|value| elide(value, limit)).collect();
            short.sort_unstable();
            short.windows(2).all(|pair| pair.first() != pair.get(1))
        };
        let shortest = SHORTEST.max(column.title.chars().count()).min(width);
        // From the widest down: the first limit at which two values become equal ends it.
        let mut floor = width.min(WIDTH - INDENT);
        while floor > shortest && stays_distinct(floor - 1) {
            floor -= 1;
        }
        floor
    }

    /// The widest cell of a column, heading included, in characters.
    fn width(&self, index: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(index)).map(|cell| cell.chars().count());
        let title = self.columns.get(index).map_or(0, |column| column.title.chars().count());
        cells.max().unwrap_or(0).max(title)
    }

    /// Which columns stand on which line of a row, with their widths.
    fn fold(&self, widths: &[usize]) -> Vec<Vec<(usize, usize)>> {
        let mut lines: Vec<Vec<(usize, usize)>> = vec![Vec::new()];
        let mut used = 0;
        for ((index, column), &width) in self.columns.iter().enumerate().zip(widths) {
            if used > 0 && (column.breaks || used + GAP + width > WIDTH) {
                lines.push(Vec::new());
                used = INDENT;
            } else if used > 0 {
                used += GAP;
            }
            used += width;
            if let Some(line) = lines.last_mut() {
                line.push((index, width));
            }
        }
        lines
    }

    fn push_row(&self, text: &mut String, row: &[String], lines: &[Vec<(usize, usize)>]) {
        for (number, line) in lines.iter().enumerate() {
            let mut out = " ".repeat(if number == 0 { 0 } else { INDENT });
            for (position, &(index, width)) in line.iter().enumerate() {
                if position > 0 {
                    out.push_str(&" ".repeat(GAP));
                }
                let cell = row.get(index).map_or("", String::as_str);
                let fill = " ".repeat(width.saturating_sub(cell.chars().count()));
                match self.columns.get(index).map(|column| column.align) {
                    Some(Align::Right) => out.extend([fill.as_str(), cell]),
                    _ => out.extend([cell, fill.as_str()]),
                }
            }
            text.push_str(out.trim_end());
            text.push('\n');
        }
    }
}

/// At most `limit` characters of `text`: its beginning, `…`, and its end, which tells siblings apart.
fn elide(text: &str, limit: usize) -> String {
    let length = text.chars().count();
    if length <= limit {
        return text.to_owned();
    }
    let kept = limit.saturating_sub(1);
    let tail = kept.div_ceil(2);
    let head = kept - tail;
    let mut short: String = text.chars().take(head).collect();
    short.push('…');
    short.extend(text.chars().skip(length - tail));
    short
}

/// Breaks words into lines of at most [`WIDTH`], the first after `label`, the others indented as far.
/// A word that is too long for a line is broken after a `/`, `]` or `,`, or else anywhere.
pub fn paragraph(indent: usize, label: &str, label_width: usize, words: &str) -> String {
    let left = indent + label_width + usize::from(label_width > 0);
    let room = WIDTH.saturating_sub(left).max(20);
    let mut lines: Vec<String> = vec![String::new()];
    for word in words.split_whitespace() {
        for (position, piece) in pieces(word, room).into_iter().enumerate() {
            let Some(line) = lines.last_mut() else { break };
            let gap = usize::from(!line.is_empty() && position == 0);
            if line.chars().count() + gap + piece.chars().count() > room {
                lines.push(piece);
            } else {
                line.push_str(&" ".repeat(gap));
                line.push_str(&piece);
            }
        }
    }
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        let label = if number == 0 { label } else { "" };
        let start = format!("{:indent$}{label:label_width$}", "");
        let gap = usize::from(label_width > 0);
        text.push_str(format!("{start}{:gap$}{line}", "").trim_end());
        text.push('\n');
    }
    text
}

/// A word, in pieces of at most `room` characters that end at a separator where there is one.
fn pieces(word: &str, room: usize) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest: Vec<char> = word.chars().collect();
    while rest.len() > room {
        let cut = rest
            .iter()
            .take(room)
            .rposition(|c| matches!(c, '/' | ']' | ','))
            // A path reads better when a line starts with its slash.
            .map(|at| if rest.get(at) == Some(&'/') { at } else { at + 1 })
            .filter(|&cut| cut > 0)
            .unwrap_or(room);
        let tail = rest.split_off(cut);
        pieces.push(rest.into_iter().collect());
        rest = tail;
    }
    pieces.push(rest.into_iter().collect());
    pieces
}

#[cfg(test)]
mod tests;
