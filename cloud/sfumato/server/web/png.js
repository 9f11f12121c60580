/**
 * PNGs to pixels, whatever the browser makes of them: of 16 bits, with one clear value, under a profile, or of an animation whose first
 * frame is not the picture that the file shows elsewhere. Source: PNG, 3rd edition.
 *
 *     const {height, width, rgb} = await decodePng(content, inspect(content));
 */

import {cut, damaged} from "./picture_file.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */
/** @typedef {import("./picture_file.js").PictureFile} PictureFile */
/** @typedef {import("./picture_file.js").Png} Png */

const PLANES = [1, 0, 3, 1, 2, 0, 4];  // by type of colour
const WHOLE = [[0, 0, 1, 1]];
const LACED = [[0, 0, 8, 8], [0, 4, 8, 8], [4, 0, 8, 4], [0, 2, 4, 4], [2, 0, 4, 2], [0, 1, 2, 2], [1, 0, 2, 1]];
// First row, first column, step down, step across

/**
 * As stored, not turned yet; what is transparent lies over white, 16 bits are divided by 257 and rounded.
 *
 * @param {Bytes} content
 * @param {PictureFile} file of `inspect`
 * @returns {Promise<{height: number, width: number, rgb: Bytes}>}
 */
export async function decodePng(content, {height, width, png}) {
  if (!png) throw new TypeError("this is no PNG");
  const rgb = new Uint8Array(3 * height * width);
  if (png.width !== width || png.height !== height) rgb.fill(255);  // around a smaller first frame
  const planes = PLANES[png.colour], unit = Math.max(1, (planes * png.depth) >> 3), show = painter(content, png);
  const rows = (png.laced ? LACED : WHOLE).flatMap(([y, x, down, across]) => {
    const columns = Math.max(0, Math.ceil((png.width - x) / across)), count = columns ? Math.max(0, Math.ceil((png.height - y) / down)) : 0;
    return Array.from({length: count}, (_, i) => ({y: y + i * down, x, across, columns, first: i === 0}));
  });
  let next = 0, filled = 0, above = new Uint8Array(0), row = new Uint8Array(0);
  const begin = () => {
    if (next === rows.length) return;
    const length = 1 + Math.ceil((rows[next].columns * planes * png.depth) / 8);
    [above, row, filled] = [rows[next].first ? new Uint8Array(length) : row, new Uint8Array(length), 0];
  };
  begin();
  for await (const piece of inflated(png.parts.map(([start, end]) => content.subarray(start, end)))) {
    for (let at = 0; at < piece.length && next < rows.length;) {
      const count = Math.min(piece.length - at, row.length - filled);
      row.set(piece.subarray(at, at + count), filled);
      at += count;
      filled += count;
      if (filled < row.length) break;
      unfilter(row, above, unit);
      const {y, x, across, columns} = rows[next];
      show(row, columns, rgb, 3 * ((png.top + y) * width + png.left + x), 3 * across);
      next++;
      begin();
    }
  }
  if (next < rows.length) cut();
  return {height, width, rgb};
}

/** What a zlib stream holds, up to its end and its checksum. @param {Bytes[]} parts @returns {AsyncGenerator<Bytes>} */
async function* inflated(parts) {
  const reader = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  for (;;) {
    const {done, value} = await reader.read().catch(() => damaged("its pixels"));
    if (done) return;
    yield value;
  }
}

/** @param {Bytes} row its filter, then its bytes @param {Bytes} above @param {number} unit bytes to the pixel on the left */
function unfilter(row, above, unit) {
  const kind = row[0], end = row.length;
  if (kind > 4) damaged("a filter nobody knows");
  for (let i = 1; kind && i < end; i++) {
    const a = i > unit ? row[i - unit] : 0, b = above[i], c = i > unit ? above[i - unit] : 0;
    if (kind === 1) row[i] += a;
    else if (kind === 2) row[i] += b;
    else if (kind === 3) row[i] += (a + b) >> 1;
    else {
      const p = b - c, q = a - c, toA = Math.abs(p), toB = Math.abs(q), toC = Math.abs(p + q);
      row[i] += toA <= toB && toA <= toC ? a : toB <= toC ? b : c;
    }
  }
}

/**
 * Paints an unfiltered row: (row, columns, rgb, first byte, bytes to the next pixel).
 *
 * @param {Bytes} content @param {Png} png
 */
function painter(content, {depth, colour, palette, clear}) {
  const planes = PLANES[colour], deep = depth === 16, most = (1 << depth) - 1, scale = depth < 8 && colour !== 3 ? 255 / most : 1;
  const colours = palette ? content.subarray(...palette) : new Uint8Array(0);
  const opacities = clear && colour === 3 ? content.subarray(...clear) : new Uint8Array(0);
  const gone = clear && (colour === 0 || colour === 2)
    ? Array.from({length: planes}, (_, c) => (content[clear[0] + 2 * c] << 8) | content[clear[0] + 2 * c + 1]) : null;
  const alphas = colour === 4 || colour === 6, greys = colour === 0 || colour === 4;
  const values = new Uint16Array(4);
  /** @param {number} value */
  const eight = (value) => (deep ? Math.floor((value + 128) / 257) : value * scale);
  return (/** @type {Bytes} */ row, /** @type {number} */ columns, /** @type {Bytes} */ rgb, /** @type {number} */ to, /** @type {number} */ step) => {
    for (let i = 0; i < columns; i++, to += step) {
      for (let c = 0; c < planes; c++) {
        const n = i * planes + c;
        if (deep) values[c] = (row[1 + 2 * n] << 8) | row[2 + 2 * n];
        else if (depth === 8) values[c] = row[1 + n];
        else values[c] = (row[1 + ((n * depth) >> 3)] >> (8 - depth - ((n * depth) & 7))) & most;
      }
      let alpha = 255;
      if (colour === 3) alpha = opacities[values[0]] ?? 255;
      else if (alphas) alpha = eight(values[planes - 1]);
      else if (gone && gone.every((value, c) => value === values[c])) alpha = 0;
      for (let c = 0; c < 3; c++) {
        const value = colour === 3 ? colours[3 * values[0] + c] ?? 0 : eight(values[greys ? 0 : c]);
        rgb[to + c] = alpha === 255 ? value : Math.floor((value * alpha + 255 * (255 - alpha) + 127) / 255);
      }
    }
  };
}
