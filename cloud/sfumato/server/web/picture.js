/**
 * From a picture to the pixels that the model sees: the crop and resize of docs/contract.md, in the same integers as Python.
 *
 *     const pixels = fit(rgb, 480, 640, 64, 64);    // H * W * 3 bytes, upright
 */

/** @typedef {import("./bytes.js").Bytes} Bytes */
/** @typedef {{top: number, left: number, height: number, width: number}} Box */
/** @typedef {{from: number, weights: Int32Array}} Tap one output's inputs: the first, and the weight of each */

/** Rows that are read at a time: the whole photo never exists twice. */
export const BAND = 256;
const ONE = 1 << 22;

/**
 * Crop around the centre, then resize with an antialiased bilinear filter.
 *
 * @param {Uint8Array} rgb h * w * 3 bytes
 * @param {number} h
 * @param {number} w
 * @param {number} height of the model
 * @param {number} width
 * @returns {Bytes}
 */
export function fit(rgb, h, w, height, width) {
  if (rgb.length !== 3 * h * w) throw new Error(`${h} x ${w} pixels do not fit ${rgb.length} bytes`);
  const box = crop(h, w, height, width);
  return resize(box, height, width, 3, (top, rows) => {
    const band = new Uint8Array(3 * rows * box.width);
    for (let y = 0; y < rows; y++) {
      const start = 3 * ((box.top + top + y) * w + box.left);
      band.set(rgb.subarray(start, start + 3 * box.width), 3 * y * box.width);
    }
    return band;
  });
}

/**
 * The part of a picture that lies in a box, resized.
 *
 * @param {Box} box
 * @param {number} height
 * @param {number} width
 * @param {number} planes bytes of a pixel as it is read: red, green, blue and whatever follows
 * @param {(top: number, rows: number) => Uint8Array | Uint8ClampedArray} read so many rows of the box, from this one on
 * @returns {Bytes}
 */
export function resize(box, height, width, planes, read) {
  const columns = taps(box.width, width), narrow = new Uint8Array(box.height * width * 3);
  for (let top = 0; top < box.height; top += BAND) {
    const rows = Math.min(BAND, box.height - top), data = read(top, rows);
    for (let y = 0; y < rows; y++) {
      for (let c = 0; c < 3; c++) {
        resample(data, planes * y * box.width + c, planes, narrow, 3 * (top + y) * width + c, 3, columns);
      }
    }
  }
  const rows = taps(box.height, height), pixels = new Uint8Array(height * width * 3), step = 3 * width;
  for (let i = 0; i < step; i++) resample(narrow, i, step, pixels, i, step, rows);
  return pixels;
}

/**
 * The part of a picture (h x w) that has the aspect of the target (height x width).
 *
 * @param {number} h @param {number} w @param {number} height @param {number} width
 * @returns {Box}
 */
export function crop(h, w, height, width) {
  if (w * height > h * width) {
    const kept = Math.max(1, Math.floor((2 * h * width + height) / (2 * height)));
    return {top: 0, left: Math.floor((w - kept) / 2), height: h, width: kept};
  }
  const kept = Math.max(1, Math.floor((2 * w * height + width) / (2 * width)));
  return {top: Math.floor((h - kept) / 2), left: 0, height: kept, width: w};
}

/** The weights of each of n outputs from m inputs. @param {number} m @param {number} n @returns {Tap[]} */
export function taps(m, n) {
  const scale = m / n, support = Math.max(scale, 1);
  return Array.from({length: n}, (_, i) => {
    const centre = (i + 0.5) * scale;
    const from = Math.max(0, Math.trunc(centre - support + 0.5)), to = Math.min(m, Math.trunc(centre + support + 0.5));
    const shares = Array.from({length: to - from}, (_, j) => Math.max(0, 1 - Math.abs((from + j - centre + 0.5) / support)));
    const sum = shares.reduce((total, share) => total + share, 0);
    return {from, weights: Int32Array.from(shares, (share) => Math.trunc(0.5 + (share / sum) * ONE))};
  });
}

/**
 * One row or column of one colour.
 *
 * @param {Uint8Array | Uint8ClampedArray} source @param {number} start @param {number} step
 * @param {Bytes} target @param {number} first @param {number} stride
 * @param {Tap[]} outputs
 */
export function resample(source, start, step, target, first, stride, outputs) {
  outputs.forEach(({from, weights}, i) => {
    let sum = ONE / 2;
    for (let j = 0; j < weights.length; j++) sum += weights[j] * source[start + (from + j) * step];
    target[first + i * stride] = Math.min(255, sum >> 22);
  });
}
