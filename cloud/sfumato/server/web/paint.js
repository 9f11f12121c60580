/**
 * Parameters and uploads as pictures to look at: where the noise goes, and what the cloud sees.
 *
 *     const pixels = tinted(noiseMap(channel, parameters));    // RGB, one pixel for each sample
 */

import {planesOf} from "./contract.js";
import {CERTAIN, bitsOf} from "./sampler.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */
/** @typedef {import("./contract.js").Channel} Channel */

/** Dark where a pixel carries information, bright where there is only noise. */
const STOPS = [[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]];

/**
 * How uncertain each pixel of the upload is, 0..1: the mean entropy of its bits, or its scale as a share of the largest. 1 in closed
 * blocks, of which nothing is sent.
 *
 * @param {Channel} channel
 * @param {Record<string, Bytes>} parameters
 * @returns {Float64Array} H * W
 */
export function noiseMap(channel, parameters) {
  const dither = channel.name === "dither", values = dither ? parameters.p : parameters.scale;
  const planes = dither ? planesOf(channel) * bitsOf(channel) : 3, map = new Float64Array(values.length / planes);
  const share = (/** @type {number} */ p) => (p ? -p * Math.log2(p) : 0);
  values.forEach((byte, i) => {
    const p = channel.gray && byte === CERTAIN ? 1 : byte / 256;
    map[Math.floor(i / planes)] += (dither ? share(p) + share(1 - p) : p) / planes;
  });
  if (!channel.gates) return map;
  const closed = (/** @type {number} */ pixel) => values.subarray(pixel * planes, (pixel + 1) * planes).every((byte) => !byte);
  return map.map((value, pixel) => (closed(pixel) ? 1 : value));
}

/** Stretched over 0..1: at a low rate nearly every bit is close to uniform. @param {Float64Array} map @returns {Bytes} RGB */
export function tinted(map) {
  const sorted = Float64Array.from(map).sort();
  const low = sorted[Math.floor(0.002 * sorted.length)], high = sorted[sorted.length - 1];
  const pixels = new Uint8Array(3 * map.length);
  map.forEach((value, i) => {
    const at = (Math.max(0, value - low) / Math.max(high - low, 1e-9)) * (STOPS.length - 1);
    const below = Math.min(STOPS.length - 2, Math.floor(at));
    for (let c = 0; c < 3; c++) {
      pixels[3 * i + c] = Math.round(STOPS[below][c] + (at - below) * (STOPS[below + 1][c] - STOPS[below][c]));
    }
  });
  return pixels;
}

/** Levels as the cloud reads them. @param {Bytes} levels @param {number} bits @returns {Bytes} RGB, or one plane */
export function brightened(levels, bits) {
  return levels.map((level) => Math.round((255 * level) / ((1 << bits) - 1)));
}
