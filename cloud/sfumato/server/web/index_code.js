/**
 * Sampler 2 (docs/contract.md, "Index"): an upload is the number of an entry of a public book, drawn with keyed noise. In double
 * precision; the order of operations is part of the definition.
 *
 *     const code = codeOf(contract);
 *     const index = drawIndex(code, q, noise);         // noiseOf(code) bytes
 *     const levels = levelsOf(code, index);
 */

import {planesOf, uploadSize} from "./contract.js";
import {CERTAIN, bitsOf, draw, noiseBytes, rateOf} from "./sampler.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */
/**
 * @typedef {object} Code
 * @property {number} height of the upload, in samples
 * @property {number} width
 * @property {number} planes bits of a pixel
 * @property {number} bits of an index
 * @property {boolean} gray whether a byte of 255 stands for 1, and bits are the level's Gray code
 * @property {number} memory bits of the index before a step that its pixel depends on
 * @property {number} power to which the draw follows the channel's probabilities, 1 or 2
 */

const VALUES = 65536, LEAST = 0.25;

/** The book of a contract; null where uploads are no indices. @param {import("./contract.js").Contract} contract @returns {Code | null} */
export function codeOf(contract) {
  if (!contract.index) return null;
  const [height, width] = uploadSize(contract), {channel, index: {bits, power, memory}} = contract;
  return {height, width, planes: 3 * bitsOf(channel), bits, gray: Boolean(channel.gray), power, memory};
}

/**
 * How pictures of a contract are drawn: as the index of its book where it has one, else sample by sample.
 *
 * @typedef {object} Drawing
 * @property {number} noise bytes of it
 * @property {(parameters: Record<string, Bytes>, pixels: Bytes, noise: Bytes, table: Int16Array | null) => {levels: Bytes, index: Bytes | null}} draw
 * @property {(parameters: Record<string, Bytes>) => number | null} rate in bits; null for a gaussian channel
 *
 * @param {import("./contract.js").Contract} contract
 * @returns {Drawing}
 */
export function drawingOf(contract) {
  const {channel} = contract, code = codeOf(contract), [rows, columns] = uploadSize(contract);
  if (!code) {
    return {
      noise: noiseBytes(channel, planesOf(channel) * rows * columns),
      draw: (parameters, pixels, noise, table) => ({levels: draw(channel, parameters, pixels, noise, table), index: null}),
      rate: (parameters) => rateOf(channel, parameters, rows, columns),
    };
  }
  return {
    noise: noiseOf(code),
    draw: ({p}, _pixels, noise) => {
      const index = drawIndex(code, p, noise);
      return {levels: levelsOf(code, index), index};
    },
    rate: ({p}) => indexRate(code, p),
  };
}

/** Noise bytes of a draw: two for the last state and two a step. @param {Code} code */
export function noiseOf({height, width}) {
  return 2 * (height * width + 1);
}

/** How many bits of the index lie before a step. @param {Code} code @param {number} step */
function endOf({height, width, bits}, step) {
  return Math.floor(bits * step / (height * width));
}

/** The pixel of each step, in order. @param {Code} code */
function orderOf({height, width}) {
  const pixels = height * width, common = (/** @type {number} */ a, /** @type {number} */ b) => {
    while (b) [a, b] = [b, a % b];
    return a;
  };
  let stride = Math.ceil(5 * pixels / 8);
  while (common(stride, pixels) > 1) stride += 1;
  return Array.from({length: pixels}, (_, step) => step * stride % pixels);
}

/** The value of a pixel for a step and register (lowbias32, Wellons, 2018). @param {number} step @param {number} register @param {number} planes */
function valueOf(step, register, planes) {
  let x = (step << 16) | register;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> (32 - planes);
}

/** Multiply by the power of two that brings the largest to 0.5 .. 1. @param {Float64Array} values */
function scale(values) {
  let largest = 0, unit = 1;
  for (let i = 0; i < values.length; i++) if (values[i] > largest) largest = values[i];
  while (largest * unit < 0.5) unit *= 2;
  while (largest * unit >= 1) unit /= 2;
  if (unit !== 1) for (let i = 0; i < values.length; i++) values[i] *= unit;
}

/** Weight of each value of a pixel whose bytes begin at `at`. @param {Code} code @param {Bytes} q @param {number} at */
function weightsOf({planes, gray, power}, q, at) {
  const weights = new Float64Array(1 << planes);
  weights[0] = 1;
  for (let plane = 0; plane < planes; plane++) {
    const byte = q[at + plane], given = gray && byte === CERTAIN ? 256 : byte, half = 1 << plane;
    const one = Math.min(Math.max(given, LEAST), 256 - LEAST) / 256;
    for (let value = 0; value < half; value++) {
      weights[half + value] = weights[value] * one;
      weights[value] *= 1 - one;
    }
  }
  return power === 2 ? weights.map((weight) => weight * weight) : weights;
}

/**
 * The sums before each step and after the last.
 *
 * @param {Code} code
 * @param {Bytes} q
 * @param {((step: number, each: Float64Array, taken: number) => void) | null} watch is told what the sums after a step were added up
 *     from: `each[state + states * i]`, in an array that the next step fills again
 */
function forward(code, q, watch) {
  const {planes} = code, order = orderOf(code), states = 1 << code.memory, shift = 32 - planes;
  /** @type {Float64Array} */
  let sums = new Float64Array(states), room = new Float64Array(0);
  sums[0] = 1;
  const all = [sums], weights = [];
  for (let step = 0; step < order.length; step++) {
    const taken = endOf(code, step + 1) - endOf(code, step), ways = 1 << taken, count = states << taken, first = step << 16;
    const weight = weightsOf(code, q, planes * order[step]), next = new Float64Array(states);
    if (room.length !== count) room = new Float64Array(count);
    const each = room;
    // Registers that share their upper bits come from one sum; the hash is that of valueOf, written out: called, it takes twice as long.
    for (let upper = 0, at = 0; at < count; upper++) {
      const sum = sums[upper];
      for (const end = at + ways; at < end; at++) {
        let x = first | at;
        x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
        x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
        const value = sum * weight[(x ^ (x >>> 16)) >>> shift];
        next[at & (states - 1)] += value;
        each[at] = value;
      }
    }
    if (watch) watch(step, each, taken);
    scale(next);
    sums = next;
    all.push(sums);
    weights.push(weight);
  }
  return {all, weights};
}

/**
 * The index of one picture.
 *
 * @param {Code} code
 * @param {Bytes} q probabilities in 1/256, H * W * planes
 * @param {Bytes} noise `noiseOf` of them
 * @returns {Bytes}
 */
export function drawIndex(code, q, noise) {
  const {bits, planes} = code, steps = code.height * code.width, states = 1 << code.memory;
  if (q.length !== steps * planes || noise.length !== noiseOf(code)) {
    throw new Error(`an index is drawn from ${steps * planes} probabilities and ${noiseOf(code)} noise bytes`);
  }
  const {all, weights} = forward(code, q, null), index = new Uint8Array(Math.ceil(bits / 8));
  let state = choose(all[steps], noise, 0);
  for (let step = steps - 1; step >= 0; step--) {
    const end = endOf(code, step + 1), taken = end - endOf(code, step);
    const each = Float64Array.from({length: 1 << taken}, (_, i) => {
      const register = state + states * i;
      return all[step][register >> taken] * weights[step][valueOf(step, register, planes)];
    });
    const register = state + states * choose(each, noise, 2 * (steps - step));
    for (let bit = 0; bit < taken; bit++) index[(end - 1 - bit) >> 3] |= ((register >> bit) & 1) << (7 - ((end - 1 - bit) & 7));
    state = register >> taken;
  }
  return index;
}

/** The first whose cumulative sum is above u total / 65536. @param {Float64Array} each @param {Bytes} noise @param {number} at */
function choose(each, noise, at) {
  const total = each.reduce((sum, value) => sum + value, 0), place = (noise[at] + 256 * noise[at + 1]) * total / VALUES;
  let reached = 0, chosen = -1;
  while (reached <= place) reached += each[++chosen];
  return chosen;
}

/**
 * The bits of the book without the entropy of the draw: the most that this picture's index tells. For the user's eyes, never sent.
 *
 * @param {Code} code
 * @param {Bytes} q
 */
export function indexRate(code, q) {
  const states = 1 << code.memory;
  let entropy = new Float64Array(states);  // of the ways to each state
  const {all} = forward(code, q, (_, each, taken) => {
    const next = new Float64Array(states), count = 1 << taken, weights = new Float64Array(count), behind = new Float64Array(count);
    for (let state = 0; state < states; state++) {
      for (let i = 0; i < count; i++) {
        weights[i] = each[state + states * i];
        behind[i] = entropy[(state + states * i) >> taken];
      }
      next[state] = mixed(weights, behind);
    }
    entropy = next;
  });
  return code.bits - mixed(all[all.length - 1], entropy);
}

/** `-s log2 s` of s = 0 .. 65536 of 65,536: logarithms are most of the time of a rate. @type {Float64Array | null} */
let entropies = null;

/** Entropy of a choice among weights, as `choose` makes it, and of what lies behind each. @param {Float64Array} weights @param {Float64Array} behind */
function mixed(weights, behind) {
  entropies ??= Float64Array.from({length: VALUES + 1}, (_, count) => (count ? -count / VALUES * Math.log2(count / VALUES) : 0));
  let total = 0, reached = 0, below = 0, sum = 0;
  for (let i = 0; i < weights.length; i++) total += weights[i];
  if (!total) return 0;
  for (let i = 0; i < weights.length; i++) {
    reached += weights[i];
    const upTo = Math.ceil(reached * VALUES / total), count = upTo - below;
    sum += count / VALUES * behind[i] + entropies[count];
    below = upTo;
  }
  return sum;
}

/**
 * The entry of the book.
 *
 * @param {Code} code
 * @param {Bytes} index
 * @returns {Bytes} H * W * 3 levels
 */
export function levelsOf(code, index) {
  const {bits, planes, gray} = code, depth = planes / 3, order = orderOf(code);
  if (index.length !== Math.ceil(bits / 8)) throw new Error(`the index has ${index.length} bytes; this model takes ${Math.ceil(bits / 8)}`);
  const bitAt = (/** @type {number} */ at) => (at < 0 ? 0 : (index[at >> 3] >> (7 - (at & 7))) & 1);
  for (let at = bits; at < 8 * index.length; at++) if (bitAt(at)) throw new Error("the index's last byte is not filled with zeros");
  const levels = new Uint8Array(3 * order.length);
  order.forEach((pixel, step) => {
    const end = endOf(code, step + 1), length = code.memory + end - endOf(code, step);
    let register = 0;
    for (let at = end - length; at < end; at++) register = 2 * register + bitAt(at);
    const value = valueOf(step, register, planes);
    for (let colour = 0; colour < 3; colour++) {
      let level = 0;
      for (let bit = 0; bit < depth; bit++) {
        const drawn = (value >> (3 * bit + colour)) & 1;
        level = 2 * level + (gray ? drawn ^ (level & 1) : drawn);
      }
      levels[3 * pixel + colour] = level;
    }
  });
  return levels;
}
