/**
 * Whether a photo looks like those that a model was made for, as sfumato.runtime.familiar (docs/decisions/0027): 43 numbers of the
 * picture itself, each compared with its mean and spread over ordinary photos. The largest distance counts. Nothing of it is sent.
 *
 *     const limits = readLimits(contract.figures);    // null in bundles of earlier versions
 *     limits && unlike(limits, pixels, height, width)
 *
 * @typedef {object} Limits
 * @property {number[]} means of every number over ordinary photos
 * @property {number[]} spreads its standard deviation there
 * @property {number} limit a photo whose distance is larger is unlike them
 * @property {number} alarms share of ordinary photos that may lie beyond the limit
 * @property {number} images how many ordinary photos there were
 */

/** @typedef {import("./bytes.js").Bytes} Bytes */

const GRID = 4;  // cells a side
const FEATURES = 2 * GRID ** 2 + 11;
const KEYS = "alarms images limit means spreads";

/**
 * The limits among a contract's figures; null in bundles of earlier versions.
 *
 * @param {Record<string, unknown> | undefined} figures
 * @returns {Limits | null}
 */
export function readLimits(figures) {
  if (!figures || !("familiar" in figures)) return null;
  const found = /** @type {Limits} */ (figures.familiar ?? {});
  const {means, spreads, limit, alarms, images} = found;
  const numbers = [means, spreads].every((row) => Array.isArray(row) && row.length === FEATURES && row.every(Number.isFinite));
  const whole = Object.keys(found).sort().join(" ") === KEYS && numbers && spreads.every((spread) => spread > 0)
    && [limit, alarms].every(Number.isFinite) && limit > 0 && alarms > 0 && alarms < 1 && Number.isInteger(images) && images > 0;
  if (!whole) throw new Error("the contract's figures are damaged (familiar): export again");
  return found;
}

/** Whether a photo is farther from ordinary ones than the limit. @param {Limits} limits @param {Bytes} pixels @param {number} height @param {number} width */
export function unlike(limits, pixels, height, width) {
  return distance(limits, pixels, height, width) > limits.limit;
}

/**
 * How far a photo is from ordinary ones, in standard deviations of the number that is farthest off.
 *
 * @param {Limits} limits
 * @param {Bytes} pixels
 * @param {number} height
 * @param {number} width
 */
export function distance({means, spreads}, pixels, height, width) {
  return Math.max(...features(pixels, height, width).map((value, i) => Math.abs(value - means[i]) / spreads[i]));
}

/**
 * The 43 numbers of a photo, in Python's order.
 *
 * @param {Bytes} pixels H * W * 3, or H * W of grey, which counts as if all three colours were alike
 * @param {number} height
 * @param {number} width
 * @returns {number[]}
 */
export function features(pixels, height, width) {
  const planes = pixels.length / (height * width);
  const colour = (/** @type {number} */ c) => Float64Array.from({length: height * width}, (_, i) => pixels[planes * i + (c % planes)] / 255);
  const [red, green, blue] = [0, 1, 2].map(colour), grey = green.map((value, i) => (red[i] + value + blue[i]) / 3);
  /** Of `step(i)` for every pixel i that has `down` more rows and `right` more columns after it. */
  const change = (/** @type {number} */ down, /** @type {number} */ right, /** @type {(i: number) => number} */ step) =>
    log(mean(block(0, height - down, 0, width - right, width).map((i) => Math.abs(step(i)))));
  const [across, down] = [1, width].map((next) => (/** @type {number} */ i) => grey[i + next] - grey[i]);
  const [across2, down2] = [1, width].map((next) => (/** @type {number} */ i) => grey[i + 2 * next] - 2 * grey[i + next] + grey[i]);
  const [a, a2, d, d2] = [change(0, 1, across), change(0, 2, across2), change(1, 0, down), change(2, 0, down2)];
  const cells = Array.from({length: GRID ** 2}, (_, cell) => {
    const [top, bottom] = edges(Math.floor(cell / GRID), height), [left, right] = edges(cell % GRID, width);
    return block(top, bottom, left, right, width).map((i) => grey[i]);
  });
  const colours = [red, blue].map((values) => Array.from(values, (value, i) => value - green[i]));
  return [
    ...cells.map(mean),
    ...cells.map((cell) => log(deviation(cell))),
    a, a2, d, d2, a - d, a2 - a, d2 - d,
    ...colours.map(mean),
    ...colours.map((values) => log(mean(values.map(Math.abs)))),
  ];
}

/** Where a cell begins and ends. @param {number} cell @param {number} side */
function edges(cell, side) {
  return [cell, cell + 1].map((i) => Math.floor((i * side) / GRID));
}

/** The places of a block's pixels. @param {number} top @param {number} bottom @param {number} left @param {number} right @param {number} width */
function block(top, bottom, left, right, width) {
  const columns = right - left;
  return Array.from({length: (bottom - top) * columns}, (_, i) => (top + Math.floor(i / columns)) * width + left + (i % columns));
}

/** @param {number[]} values */
function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** @param {number[]} values */
function deviation(values) {
  const centre = mean(values);
  return Math.sqrt(mean(values.map((value) => (value - centre) ** 2)));
}

/** @param {number} value */
function log(value) {
  return Math.log(value + 1 / 255);
}
