/**
 * From a picture to the pixels that the model sees: turn, crop and resize of docs/contract.md, in the same integers as Python.
 *
 *     const pixels = fit(rgb, 480, 640, 64, 64);    // H * W * 3 bytes, upright
 *     const same = fitPicture(Picture.ofPixels(rgb, 480, 640), 64, 64);
 */

/** @typedef {import("./bytes.js").Bytes} Bytes */
/** @typedef {{top: number, left: number, height: number, width: number}} Box */
/** @typedef {{from: number, weights: Int32Array}} Tap one output's inputs: the first, and the weight of each */

/**
 * Bytes of pixels: colour c of the one in row y and column x is `data[start + y * down + x * across + c]`.
 *
 * @typedef {object} Part
 * @property {Uint8Array | Uint8ClampedArray} data
 * @property {number} start @property {number} down @property {number} across
 */

const BAND = 256;  // rows that are read at a time: the whole photo never exists twice
const ONE = 1 << 22;

/** A decoded picture, which is turned as it is read. */
export class Picture {
  /**
   * @param {number} height as stored
   * @param {number} width
   * @param {number} orientation EXIF's
   * @param {(left: number, top: number, width: number, height: number) => Part} stored pixels of a box of the picture as stored
   * @param {() => void} close gives its memory back
   */
  constructor(height, width, orientation, stored, close = () => {}) {
    this.lies = orientation >= 5;  // its rows are the upright picture's columns
    this.height = this.lies ? width : height;
    this.width = this.lies ? height : width;
    this.orientation = orientation;
    this.stored = stored;
    this.close = close;
  }

  /** Pixels as they are stored, row by row. @param {Uint8Array} rgb h * w * 3 bytes @param {number} h @param {number} w @param {number} [orientation] EXIF's */
  static ofPixels(rgb, h, w, orientation = 1) {
    if (rgb.length !== 3 * h * w) throw new Error(`${h} x ${w} pixels do not fit ${rgb.length} bytes`);
    const stored = (/** @type {number} */ left, /** @type {number} */ top) => ({data: rgb, start: 3 * (top * w + left), down: 3 * w, across: 3});
    return new Picture(h, w, orientation, stored);
  }

  /** A part of the upright picture. @param {number} left @param {number} top @param {number} width @param {number} height @returns {Part} */
  part(left, top, width, height) {
    const {orientation, lies} = this, [across, down] = lies ? [this.height, this.width] : [this.width, this.height];
    let [x, y, w, h] = lies ? [top, left, height, width] : [left, top, width, height];
    const back = [2, 3, 7, 8].includes(orientation), up = [3, 4, 6, 7].includes(orientation);  // columns and rows, from the end
    if (back) x = across - x - w;
    if (up) y = down - y - h;
    const box = this.stored(x, y, w, h);
    const start = box.start + (back ? (w - 1) * box.across : 0) + (up ? (h - 1) * box.down : 0);
    const columns = back ? -box.across : box.across, rows = up ? -box.down : box.down;
    return {data: box.data, start, down: lies ? columns : rows, across: lies ? rows : columns};
  }
}

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
  return fitPicture(Picture.ofPixels(rgb, h, w), height, width);
}

/**
 * The same of a picture that is turned, and perhaps decoded, as it is read.
 *
 * @param {Picture} picture
 * @param {number} height
 * @param {number} width
 * @returns {Bytes}
 */
export function fitPicture(picture, height, width) {
  const box = crop(picture.height, picture.width, height, width);
  const columns = taps(box.width, width), narrow = new Uint8Array(box.height * width * 3);
  for (let top = 0; top < box.height; top += BAND) {
    const rows = Math.min(BAND, box.height - top), {data, start, down, across} = picture.part(box.left, box.top + top, box.width, rows);
    for (let y = 0; y < rows; y++) {
      for (let c = 0; c < 3; c++) {
        resample(data, start + y * down + c, across, narrow, 3 * (top + y) * width + c, 3, columns);
      }
    }
  }
  const rows = taps(box.height, height), pixels = new Uint8Array(height * width * 3), step = 3 * width;
  for (let i = 0; i < step; i++) resample(narrow, i, step, pixels, i, step, rows);
  return pixels;
}

/**
 * RGB as one plane of grey: `(19595 red + 38470 green + 7471 blue + 32768) >> 16`; what is grey already keeps its values.
 *
 * @param {Bytes} rgb
 * @returns {Bytes}
 */
export function toGrey(rgb) {
  return Uint8Array.from({length: rgb.length / 3}, (_, i) => (19595 * rgb[3 * i] + 38470 * rgb[3 * i + 1] + 7471 * rgb[3 * i + 2] + 32768) >> 16);
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
  // Multiplied by the reciprocal, as Pillow and the app do, and not divided.
  const scale = m / n, support = Math.max(scale, 1), shrink = 1 / support;
  return Array.from({length: n}, (_, i) => {
    const centre = (i + 0.5) * scale;
    const from = Math.max(0, Math.trunc(centre - support + 0.5)), to = Math.min(m, Math.trunc(centre + support + 0.5));
    const shares = Array.from({length: to - from}, (_, j) => Math.max(0, 1 - Math.abs((from + j - centre + 0.5) * shrink)));
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
