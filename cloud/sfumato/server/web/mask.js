/**
 * Masks: the class of every cell of a grid over the photo, as the service answers (docs/contract.md, "Masks").
 *
 *     const cells = cellsOf(answer.mask, kept.grid, kept.classes.length);      // class numbers, row by row
 *     const pixels = overlaid(photo, height, width, cells, kept.grid);
 */

/** @typedef {import("./bytes.js").Bytes} Bytes */

const MOST_CELLS = 65_536;
/** What marks the second class, the third and so on; the first leaves the photo as it is. */
const COLOURS = [[230, 60, 40], [40, 120, 230], [240, 190, 20], [30, 170, 90], [160, 70, 200], [20, 190, 200]];

/** Rows and columns of at most so many cells. @param {unknown} grid */
export function isGrid(grid) {
  return Array.isArray(grid) && grid.length === 2 && grid.every((side) => Number.isInteger(side) && side >= 1)
    && grid[0] * grid[1] <= MOST_CELLS;
}

/**
 * Class numbers of all cells, row by row; null for what is no mask of this grid.
 *
 * @param {unknown} runs class, number of cells, class, number of cells, and so on
 * @param {number[]} grid rows and columns
 * @param {number} classes
 * @returns {Uint8Array | null}
 */
export function cellsOf(runs, [rows, columns], classes) {
  if (!Array.isArray(runs) || runs.length % 2) return null;
  const cells = new Uint8Array(rows * columns);
  let at = 0;
  for (let i = 0; i < runs.length; i += 2) {
    const [named, count] = [runs[i], runs[i + 1]];
    if (!Number.isInteger(named) || named < 0 || named >= classes || !Number.isInteger(count) || count < 1) return null;
    if (at + count > cells.length) return null;
    cells.fill(named, at, at + count);
    at += count;
  }
  return at === cells.length ? cells : null;
}

/** The colour that marks a class; null for the first. @param {number} index */
export function colourOf(index) {
  return index ? COLOURS[(index - 1) % COLOURS.length] : null;
}

/**
 * A photo with its mask: cells of the first class as they are, others half in their colour.
 *
 * @param {Bytes} pixels RGB, or one plane of grey
 * @param {number} height
 * @param {number} width
 * @param {Uint8Array} cells of `cellsOf`
 * @param {number[]} grid rows and columns
 * @returns {Bytes} RGB
 */
export function overlaid(pixels, height, width, cells, [rows, columns]) {
  const out = new Uint8Array(3 * height * width), planes = pixels.length / (height * width);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = y * width + x, row = Math.floor((y * rows) / height), column = Math.floor((x * columns) / width);
      const colour = colourOf(cells[row * columns + column]);
      for (let c = 0; c < 3; c++) {
        const value = pixels[planes * at + (planes === 3 ? c : 0)];
        out[3 * at + c] = colour ? (value + colour[c]) >> 1 : value;
      }
    }
  }
  return out;
}
