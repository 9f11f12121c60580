/**
 * From a picture to the pixels that the model sees: the crop and resize of docs/contract.md, in the same integers as Python.
 *
 *     const pixels = fit(await createImageBitmap(file, AS_STORED), 64, 64);    // H * W * 3
 *
 * The browser decodes; everything after that is ours. Colour profiles are not applied, transparent pixels lie over white.
 */

/** @typedef {import("./bytes.js").Bytes} Bytes */
/** @typedef {{from: number, weights: Int32Array}} Tap one output's inputs: the first, and the weight of each */

/** @type {ImageBitmapOptions} */
export const AS_STORED = {colorSpaceConversion: "none", imageOrientation: "from-image", premultiplyAlpha: "none"};
const BAND = 256;  // rows that are read at a time: the whole photo never exists twice
const ONE = 1 << 22;

/**
 * Crop around the centre, then resize with an antialiased bilinear filter.
 *
 * @param {ImageBitmap} bitmap
 * @param {number} height
 * @param {number} width
 * @returns {Bytes}
 */
export function fit(bitmap, height, width) {
  const box = crop(bitmap.height, bitmap.width, height, width);
  const columns = taps(box.width, width), narrow = new Uint8Array(box.height * width * 3);
  const context = canvasOf(box.width, Math.min(BAND, box.height));
  for (let top = 0; top < box.height; top += BAND) {
    const rows = Math.min(BAND, box.height - top);
    context.fillRect(0, 0, box.width, rows);
    context.drawImage(bitmap, -box.left, -box.top - top);
    const {data} = context.getImageData(0, 0, box.width, rows);
    for (let y = 0; y < rows; y++) {
      for (let c = 0; c < 3; c++) {
        resample(data, 4 * y * box.width + c, 4, narrow, 3 * (top + y) * width + c, 3, columns);
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

/**
 * Whether this browser gives back the pixels that were drawn. Some add noise of their own against fingerprinting: the same photo
 * would then get other noise each time, and its uploads could be averaged.
 *
 * @returns {Promise<boolean>}
 */
export async function canvasIsExact() {
  const side = 16, context = canvasOf(side, side), image = context.createImageData(side, side);
  for (let i = 0; i < image.data.length; i++) image.data[i] = i % 4 === 3 ? 255 : (37 * i + (i >> 3)) % 256;
  context.putImageData(image, 0, 0);
  const bitmap = await createImageBitmap(context.canvas, AS_STORED);
  context.fillRect(0, 0, side, side);
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, side, side).data.every((value, i) => value === image.data[i]);
}

/** A white canvas that is read more than it is shown. @param {number} width @param {number} height */
function canvasOf(width, height) {
  const canvas = Object.assign(document.createElement("canvas"), {width, height});
  const context = canvas.getContext("2d", {willReadFrequently: true});
  if (!context) throw new Error("this browser gives no canvas to draw on");
  context.imageSmoothingEnabled = false;
  context.fillStyle = "white";
  return context;
}
