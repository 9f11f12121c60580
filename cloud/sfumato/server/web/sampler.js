/**
 * The sampler, version 1 (docs/contract.md, "Sampler v1"): from the model's bytes and noise bytes to the upload, in integers.
 * A parameter byte q stands for q / 256; tensors are flat, in the order row, column, plane.
 *
 *     const levels = draw(channel, {p: q}, pixels, noise, null);
 *     const upload = pack(levels, bitsOf(channel));
 */

import {NOISE_BYTES} from "./answer.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */
/** @typedef {import("./contract.js").Channel} Channel */
/** @typedef {Record<string, Bytes>} Parameters */

/** The strength that changes nothing. */
export const FULL = 128;
const BLOCK = 8;
/** With a Gray code this byte stands for 1, not for 255/256. */
export const CERTAIN = 255;

/** Bits a colour sample of the upload. @param {Channel} channel */
export function bitsOf(channel) {
  return channel.levels ? Math.log2(channel.levels) : 8;
}

/** Noise bytes that a picture of this many samples (H * W * colours) needs. @param {Channel} channel @param {number} samples */
export function noiseBytes(channel, samples) {
  if (channel.name === "answer") return NOISE_BYTES;
  return channel.name === "dither" ? samples * bitsOf(channel) : 2 * samples;
}

/**
 * Draw the levels of one picture.
 *
 * @param {Channel} channel
 * @param {Parameters} parameters by output name
 * @param {Bytes} pixels the picture itself, H * W * colours
 * @param {Bytes} noise
 * @param {Int16Array | null} table normal_table.bin; a dither channel needs none
 * @returns {Bytes} H * W * colours levels
 */
export function draw(channel, parameters, pixels, noise, table) {
  if (channel.name === "dither") return dither(parameters.p, noise, bitsOf(channel), channel.gray, channel.colours);
  if (!table || !channel.largest_scale) throw new Error("a gaussian channel needs normal_table.bin and largest_scale");
  const mean = channel.additive ? pixels : parameters.mean;
  return gaussian(mean, parameters.scale, noise, table, 16 * channel.largest_scale, Boolean(channel.additive));
}

/**
 * One noise byte a bit: the bit is 1 if the byte is below the probability.
 *
 * @param {Bytes} q H * W * colours * k probabilities in 1/256: plane colours * j + c is bit j of colour c, bit 0 the most significant
 * @param {Bytes} noise as many bytes
 * @param {number} bits k
 * @param {boolean} [gray] whether they are the level's Gray code: each bit is the exclusive or of the drawn ones up to it, and a
 *     byte of 255 stands for 1
 * @param {number} [colours] 1 of grey pictures
 * @returns {Bytes}
 */
export function dither(q, noise, bits, gray = false, colours = 3) {
  exactly(noise, q.length);
  const levels = new Uint8Array(q.length / bits), certain = gray ? CERTAIN : 256;
  for (let first = 0, to = 0; to < levels.length; first += colours * bits) {
    for (let colour = first; colour < first + colours; colour++) {
      let level = 0;
      for (let j = 0, i = colour; j < bits; j++, i += colours) {
        const drawn = noise[i] < q[i] || q[i] === certain ? 1 : 0;
        level = (level << 1) | (gray ? drawn ^ (level & 1) : drawn);
      }
      levels[to++] = level;
    }
  }
  return levels;
}

/**
 * Two noise bytes a sample, looked up in the normal table.
 *
 * @param {Bytes} mean bytes of the model, or the pixels themselves if `additive`
 * @param {Bytes} scale
 * @param {Bytes} noise
 * @param {Int16Array} table 65,536 quantiles in 1/4080 deviation
 * @param {number} factor K = 16 * largest_scale
 * @param {boolean} additive
 * @returns {Bytes}
 */
export function gaussian(mean, scale, noise, table, factor, additive) {
  exactly(noise, 2 * mean.length);
  const unit = additive ? 65536 : 65280;
  return mean.map((value, i) => {
    const swing = scale[i] * table[noise[2 * i] + 256 * noise[2 * i + 1]] * factor;
    return Math.min(255, Math.max(0, (unit * value + swing + 32768) >> 16));
  });
}

/**
 * Which blocks of 8x8 pixels are open: all bytes of a closed one are 0.
 *
 * @param {Bytes} q
 * @param {number} height
 * @param {number} width
 * @returns {(i: number) => boolean} whether byte i lies in an open block
 */
function inOpenBlocks(q, height, width) {
  const planes = q.length / (height * width), across = width / BLOCK, open = new Uint8Array((height / BLOCK) * across);
  const blockOf = (/** @type {number} */ i) => {
    const pixel = Math.floor(i / planes);
    return Math.floor(pixel / width / BLOCK) * across + Math.floor((pixel % width) / BLOCK);
  };
  q.forEach((byte, i) => { if (byte) open[blockOf(i)] = 1; });
  return (i) => open[blockOf(i)] === 1;
}

/**
 * Probabilities drawn towards a fair coin, in open blocks alone: what a dither channel draws from at a strength of 1 to 128.
 *
 * @param {Channel} channel
 * @param {Parameters} parameters
 * @param {number} strength
 * @param {number} height
 * @param {number} width
 * @returns {Parameters}
 */
export function atStrength(channel, parameters, strength, height, width) {
  if (strength === FULL) return parameters;
  const {p} = parameters, open = channel.gates ? inOpenBlocks(p, height, width) : () => true;
  return {p: p.map((byte, i) => (open(i) ? 128 + (((byte - 128) * strength + 64) >> 7) : byte))};
}

/**
 * The packed upload: levels one after the other, most significant bit first, the last byte filled with zeros.
 *
 * @param {Bytes} levels
 * @param {number} bits
 * @returns {Bytes}
 */
export function pack(levels, bits) {
  const packed = new Uint8Array(Math.ceil((levels.length * bits) / 8));
  for (let i = 0, at = 0; i < levels.length; i++, at += bits) {
    packed[at >> 3] |= levels[i] << (8 - bits - (at & 7));  // 1, 2, 4 and 8 divide 8: a level never crosses a byte
  }
  return packed;
}

/**
 * Exact rate of one picture: how many bits of it the upload can carry. For the user's eyes, never sent.
 *
 * @param {Bytes} q probabilities of a dither channel
 * @param {boolean} [gray] as in `dither`
 */
export function ditherRate(q, gray = false) {
  const counts = new Uint32Array(256);
  for (const byte of q) counts[byte] += 1;
  const share = (/** @type {number} */ p) => (p ? p * Math.log2(p) : 0);
  return counts.reduce((sum, count, byte) => {
    const p = gray && byte === CERTAIN ? 1 : byte / 256;
    return sum + count * (1 + share(p) + share(1 - p));
  }, 0);
}

/**
 * The same where blocks of 8x8 pixels can be closed: a fair coin for every block, and the bits of the open ones. All bytes of a
 * closed block are 0.
 *
 * @param {Bytes} q
 * @param {number} height
 * @param {number} width
 * @param {boolean} [gray] as in `dither`
 */
export function blockRate(q, height, width, gray = false) {
  const open = inOpenBlocks(q, height, width);
  return (height * width) / BLOCK ** 2 + ditherRate(q.filter((_, i) => open(i)), gray);
}

/**
 * The rate of an upload; null for a gaussian channel.
 *
 * @param {Channel} channel
 * @param {Parameters} parameters
 * @param {number} height
 * @param {number} width
 */
export function rateOf(channel, {p}, height, width) {
  if (!p) return null;
  return channel.gates ? blockRate(p, height, width, channel.gray) : ditherRate(p, channel.gray);
}

/** @param {Bytes} noise @param {number} count */
function exactly(noise, count) {
  if (noise.length !== count) throw new Error(`this draw needs ${count} noise bytes, not ${noise.length}`);
}
