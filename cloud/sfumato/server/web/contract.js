/**
 * contract.json as the page reads it (docs/contract.md). What it does not know, it refuses.
 *
 *     const contract = parseContract(text);
 *     const entry = fileOf(contract, modelOf(contract).file);
 *
 * @typedef {object} Channel
 * @property {string} name
 * @property {number} [levels]
 * @property {boolean} [gates] whether blocks can be closed
 * @property {boolean} [gray] whether the bits of a sample are its level's Gray code
 * @property {number} [subsample] height and width of the square of pixels that a sample of the upload stands for; without it a pixel
 * @property {number} [colours] 1 where an upload has one plane, for grey pictures; without it three
 * @property {boolean} [additive]
 * @property {number} [largest_scale]
 *
 * @typedef {{name: string, shape: number[], int8_scale: number, int8_zero_point: number}} Tensor
 * @typedef {{name: string, sha256: string, bytes: number}} File
 *
 * @typedef {object} Answer how an answer becomes a word (docs/contract.md, "Answer")
 * @property {number} words
 * @property {number} image_code
 * @property {number[]} margins
 * @property {string | null} [table]
 * @property {number} entropy_bits
 *
 * @typedef {object} Point a strength at which the model may be used, and what was measured there (docs/contract.md, "Strength")
 * @property {number} strength
 * @property {Record<string, number>} accuracy a fraction, per kept attribute
 * @property {{mean: number, p95: number, max: number}} rate_bits
 * @property {{png: number, packed: number}} upload_bytes
 *
 * @typedef {object} Contract
 * @property {string} schema
 * @property {"picture" | "answer"} mode
 * @property {File[]} files
 * @property {Tensor} input
 * @property {Tensor[]} outputs
 * @property {{variant: string, file: string}[]} models
 * @property {Channel} channel
 * @property {number} sampler
 * @property {number} noise
 * @property {{name: string, classes: string[], values?: number[], grid?: number[]}[]} keep `grid` of a mask: rows and columns of its cells
 * @property {{encoding: string}} upload
 * @property {Answer | null} [answer] in answer mode alone
 * @property {{version: number, bits: number, power: number, memory: number} | null} [index] in picture mode, where uploads are entries of a public book
 * @property {Record<string, number> | null} [sound] the model takes pictures of recordings, computed so; without it photos
 * @property {Point[] | null} [points] the strongest first; without them the model is used at full strength
 * @property {Record<string, unknown>} [figures]
 */

import {isGrid} from "./mask.js";
import {FULL} from "./sampler.js";
import {MOST_BANDS, RECIPE} from "./sound.js";

const REPEATING = "sfumato-contract/1";
/** Scale and zero point of the image: pixels 0..1, or 8 (x - 128/255) of them. The bytes are the same. */
const INPUTS = [[1 / 255, -128], [8 / 255, 0]];
const KNOWN = {schema: "sfumato-contract/2", noise: 2};

/** Height and width of the upload in samples. @param {Contract} contract @returns {[number, number]} */
export function uploadSize({channel, input: {shape: [, height, width]}}) {
  const side = channel.subsample ?? 1;
  return [height / side, width / side];
}

/** Samples a pixel of the upload: 3, or 1 of grey pictures. @param {Channel} channel */
export function planesOf(channel) {
  return channel.colours ?? 3;
}

/** @param {string} text @returns {Contract} */
export function parseContract(text) {
  const contract = /** @type {Contract & Record<string, unknown>} */ (JSON.parse(text));
  if (contract.schema === REPEATING) {
    throw new Error(`the contract's schema is ${REPEATING}: its noise (version 1) repeats between releases, so two uploads of `
      + "one photo can be compared; export the run again with this version");
  }
  for (const [name, value] of Object.entries(KNOWN)) {
    if (contract[name] !== value) throw new Error(`the contract's ${name} is ${contract[name]}, this page knows ${value}`);
  }
  const {input, outputs, channel} = contract, sampler = contract.index ? 2 : 1;
  if (contract.sampler !== sampler) throw new Error(`the contract's sampler is ${contract.sampler}, this page knows ${sampler} for it`);
  const channels = {picture: ["dither", "gaussian"], answer: ["answer"]}[contract.mode];
  if (!channels) throw new Error(`this page knows no mode ${contract.mode}`);
  if (!channels.includes(channel.name)) throw new Error(`this page knows no channel ${channel.name}`);
  if (contract.mode === "answer") checkAnswer(contract);
  const masks = contract.keep.filter(({grid}) => grid);
  if (masks.some(({grid, values, classes}) => contract.mode === "answer" || values || !isGrid(grid) || classes.length > 256)) {
    throw new Error(`this page does not know the mask ${masks[0].name}`);
  }
  checkPoints(contract);
  if (![2, 4].includes(channel.subsample ?? 2)) throw new Error(`this page knows no subsample of ${channel.subsample}`);
  if (channel.gates && channel.subsample) throw new Error("gates close blocks of pixels: they have no subsample");
  if (contract.window) throw new Error("this page has no window for grey values beyond 8 bits: perturb with Python");
  const planes = input.shape[3];
  if (![1, 3].includes(planes) || ![1, undefined].includes(channel.colours) || (channel.colours && channel.name !== "dither")) {
    throw new Error("this page knows images of three planes, and of one with the channel dither");
  }
  if (contract.mode === "picture" && planes !== planesOf(channel)) throw new Error("the contract's image and channel have other planes");
  const [rows, columns] = uploadSize(contract);
  if (contract.mode === "picture" && outputs.some(({shape}) => shape[1] !== rows || shape[2] !== columns)) {
    throw new Error("the contract's outputs have another size than its upload");
  }
  checkIndex(contract);
  checkSound(contract);
  const pixels = INPUTS.some(([scale, zero]) => Math.abs(input.int8_scale / scale - 1) < 1e-6 && input.int8_zero_point === zero);
  const probabilities = contract.mode === "answer"
    || outputs.every((entry) => entry.int8_scale * 256 === 1 && entry.int8_zero_point === -128);
  if (!pixels || !probabilities) throw new Error("the contract's scales are not those that this page computes with");
  return contract;
}

/**
 * Words, margins, table and scores must belong to the kept attributes.
 *
 * @param {Contract} contract
 */
function checkAnswer({answer, channel, keep, outputs, upload, files}) {
  const counts = keep.map(({classes}) => classes.length);
  const words = counts.reduce((product, count) => product * count, 1);
  const sum = counts.reduce((total, count) => total + count, 0);
  const scores = outputs.length === 1 && outputs[0].name === "scores" && String(outputs[0].shape) === String([1, 1, 1, sum]);
  if (!answer || channel.levels !== 2 || upload.encoding !== "word" || !scores || !(outputs[0].int8_scale > 0)) {
    throw new Error("channel, outputs, upload and answer do not belong to the mode answer");
  }
  const {margins, table, image_code} = answer;
  if (answer.words !== words || words < 2 || words > 65536) throw new Error(`${answer.words} words do not belong to ${counts} classes`);
  if (image_code !== 1) throw new Error(`the contract's image code is ${image_code}, this page knows 1`);
  const rising = margins.every((margin, i) => Number.isInteger(margin) && margin <= 255 && margin > (i ? margins[i - 1] : 0));
  if (!rising || (!table && margins.length)) throw new Error("the answer's margins do not increase, or belong to no table");
  const states = counts.reduce((product, count) => product * count * (count - 1) * (margins.length + 1), 1);
  const listed = files.find(({name}) => name === table);
  if (table && listed?.bytes !== 4 * states * words) throw new Error(`${table} is not a table of ${states} states and ${words} words`);
}

/**
 * The book must belong to the channel.
 *
 * @param {Contract} contract
 */
function checkIndex(contract) {
  const {index, channel, points, upload} = contract;
  if (!index !== (upload.encoding !== "index")) throw new Error("the contract's upload and index do not belong together");
  if (!index) return;
  const [height, width] = uploadSize(contract), planes = channel.levels === 4 ? 6 : 3, {version, bits, power, memory} = index;
  if (channel.name !== "dither" || ![2, 4].includes(channel.levels ?? 0) || channel.gates || channel.colours || points) {
    throw new Error("an index belongs to the channel dither with 2 or 4 levels and three colours, without gates and points");
  }
  if (version !== 1 || ![1, 2].includes(power) || !Number.isInteger(memory) || memory < 4 || memory > 10) throw new Error("this page does not know the contract's book");
  const pixels = height * width;
  if (!Number.isInteger(bits) || bits < pixels * planes / 3 || pixels > 65536 || bits > pixels * Math.min(planes, 4)) {
    throw new Error(`an index of ${bits} bits does not belong to ${height} x ${width} pixels`);
  }
}

/**
 * How recordings become pictures must be what this page computes.
 *
 * @param {Contract} contract
 */
function checkSound({sound, input: {shape: [, height]}}) {
  if (!sound) return;
  const known = Object.entries(RECIPE);
  if (Object.keys(sound).length !== known.length || known.some(([name, value]) => sound[name] !== value)) {
    throw new Error("this page does not know the contract's recipe for sound");
  }
  if (height > MOST_BANDS) throw new Error(`a picture of sound has ${MOST_BANDS} rows at most, not ${height}`);
}

/**
 * Points descend from full strength, and each says what was measured there.
 *
 * @param {Contract} contract
 */
function checkPoints({points, channel, keep}) {
  if (points === null || points === undefined) return;
  if (channel.name !== "dither") throw new Error(`points belong to the channel dither, not ${channel.name}`);
  const descending = points.every(({strength}, i) => Number.isInteger(strength) && strength >= 1
    && (i ? strength < points[i - 1].strength : strength === FULL));
  if (!points.length || !descending) throw new Error("the contract's points do not descend from strength 128");
  const names = String(keep.map(({name}) => name).sort());
  const measured = points.every(({accuracy, rate_bits}) => String(Object.keys(accuracy).sort()) === names
    && Object.values(accuracy).every((share) => share >= 0 && share <= 1) && rate_bits.mean >= 0);
  if (!measured) throw new Error("a point of the contract does not say what was measured there");
}

/** @param {Contract} contract */
export function modelOf(contract) {
  const found = contract.models.find((model) => model.variant === "int8");
  if (!found) throw new Error("this export holds no int8 model");
  return found;
}

/** @param {Contract} contract @param {string} name */
export function fileOf(contract, name) {
  const found = contract.files.find((file) => file.name === name);
  if (!found) throw new Error(`the contract does not list ${name}`);
  return found;
}
