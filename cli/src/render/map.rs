//! The map of an object: which parts are here, and where the connections are.

use haul_engine::MapCell;

use super::Palette;

/// The signs from missing to complete.
pub(super) type Shades = [char; 5];

/// Blocks, or ASCII if the locale cannot show them.
pub(super) fn shades() -> &'static Shades {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    let utf8 = locale.is_none_or(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    });
    if utf8 { &['·', '░', '▒', '▓', '█'] } else { &['.', '-', '+', '*', '#'] }
}

/// Explains the signs of the map.
pub(super) fn legend(shades: &Shades, palette: Palette) -> String {
    let [missing, little, some, most, here] = shades;
    let active = match palette {
        Palette { on: true } => format!(", {}: being fetched", palette.active("in colour")),
        Palette { on: false } => String::new(),
    };
    format!("map: {missing} missing, {little}{some}{most} partly here, {here} here{active}")
}

/// The map in exactly `width` cells.
pub(super) fn map(cells: &[MapCell], width: usize, shades: &Shades, palette: Palette) -> String {
    let mut line = String::with_capacity(width * 4);
    let mut run = String::new();
    for column in 0..width {
        let cell = sample(cells, column, width);
        let shade = shade(cell.done, shades);
        if cell.active && cell.done < 1.0 {
            run.push(shade);
            continue;
        }
        if !run.is_empty() {
            line += &palette.active(&std::mem::take(&mut run));
        }
        line.push(shade);
    }
    if !run.is_empty() {
        line += &palette.active(&run);
    }
    line
}

/// The cell in column `column` of `width`: the mean of the cells under it, weighted by how much of
/// each it covers.
fn sample(cells: &[MapCell], column: usize, width: usize) -> MapCell {
    // Positions are in units of 1/width of a cell, so that the borders are whole numbers.
    let (start, end) = (column * cells.len(), (column + 1) * cells.len());
    let (mut done, mut active) = (0.0_f32, false);
    let under = start / width..end.div_ceil(width);
    for (index, cell) in under.clone().zip(&cells[under]) {
        let covered = end.min((index + 1) * width) - start.max(index * width);
        done += cell.done * covered as f32;
        active |= cell.active;
    }
    MapCell { done: done / (end - start) as f32, active }
}

/// The shade of a cell. Only exact values look empty or full.
fn shade(done: f32, shades: &Shades) -> char {
    match done {
        done if done <= 0.0 => shades[0],
        done if done >= 0.9999 => shades[4],
        done => shades[1 + ((done * 3.0) as usize).min(2)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCKS: Shades = ['·', '░', '▒', '▓', '█'];

    fn cells(done: &[f32]) -> Vec<MapCell> {
        done.iter().map(|&done| MapCell { done, active: false }).collect()
    }

    #[test]
    fn map_shows_where_it_is() {
        let map = |done: &[f32], width| map(&cells(done), width, &BLOCKS, Palette::PLAIN);
        assert_eq!(map(&[1.0, 0.0, 0.1, 0.5, 0.9], 5), "█·░▒▓");
        assert_eq!(map(&[1.0, 0.0], 6), "███···");
        assert_eq!(map(&[1.0, 1.0, 1.0, 0.0, 0.0, 0.0], 3), "█▒·");
        assert_eq!(map(&[1.0; 256], 39), "█".repeat(39));
        // A cell with one byte missing is not full, and one with a single byte is not empty.
        assert_eq!(map(&[0.99, 0.01], 2), "▓░");
        for width in 1..=120 {
            assert_eq!(map(&[0.0, 0.5, 1.0], width).chars().count(), width);
        }
    }

    #[test]
    fn active_cells_are_coloured_and_nothing_is_without_colour() {
        let mut cells = cells(&[1.0, 0.5, 0.0, 0.0]);
        cells[1].active = true;
        cells[2].active = true;
        assert_eq!(map(&cells, 4, &BLOCKS, Palette::COLOUR), "█\x1b[36m▒·\x1b[0m·");
        assert_eq!(map(&cells, 4, &BLOCKS, Palette::PLAIN), "█▒··");
    }
}
