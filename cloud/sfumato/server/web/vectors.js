/**
 * vectors.json (docs/contract.md): known answers for noise, sampler, uploads and the model. The page checks them before it takes
 * a photo; tests check them under node.
 *
 *     const {problems} = await checkVectors(vectors, table, null);
 */

import {decide, drawWord, plainWord, stateOf, wordBytes, wordImage, wordOf} from "./answer.js";
import {uploadSize} from "./contract.js";
import {equal, fromBase64, fromHex, sha256, toHex} from "./bytes.js";
import {drawIndex, drawingOf, indexRate, levelsOf} from "./index_code.js";
import {importKey, keyedNoise, parameterBytes, streamIv} from "./noise.js";
import {FULL, atStrength, bitsOf, dither, draw, gaussian, noiseBytes, pack} from "./sampler.js";
import {logMel} from "./sound.js";
import {readWav} from "./wav_file.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */
/** @typedef {import("./contract.js").Channel} Channel */
/** @typedef {import("./contract.js").Contract} Contract */
/** @typedef {{contract: Contract, run: (pixels: Bytes) => Promise<Record<string, Bytes>>}} Model */
/** @typedef {Record<string, any>} Case one entry of vectors.json */
/** @typedef {{problems: string[], largest: number}} Found `largest`: the model's largest deviation, in 1/256 */

const TOLERANCE = 2;  // in 1/256: how far another runtime's model may round

/**
 * What this machine computes differently, one sentence each.
 *
 * @param {Case} vectors
 * @param {Int16Array | null} table normal_table.bin; without it the gaussian cases are left out
 * @param {Model | null} model without it the model cases are left out
 * @param {Uint32Array | null} counts answer_table.bin of a randomised answer
 * @returns {Promise<Found>}
 */
export async function checkVectors(vectors, table, model, counts = null) {
  if (vectors.schema !== "sfumato-vectors/2") return {problems: ["vectors.json is of another schema"], largest: 0};
  /** @type {Case[]} */
  const points = vectors.points ?? [];
  /** @type {[string, Case[], (entry: Case) => boolean | Promise<boolean>][]} */
  const parts = [
    ["noise", vectors.noise, noiseHolds],
    ["dither", vectors.dither, ditherHolds],
    ["gaussian", table ? vectors.gaussian : [], (entry) => gaussianHolds(entry, /** @type {Int16Array} */ (table))],
    ["upload", vectors.upload, (entry) => (entry.bits || table ? uploadHolds(entry, table) : true)],
    ["answer", vectors.answer, answerHolds],
    ["points", points, strengthHolds],
    ["index", vectors.index ?? [], indexHolds],
    ["sound", vectors.sound ?? [], (entry) => equal(sound(entry), fromBase64(entry.picture))],
  ];
  const problems = [];
  for (const [name, cases, holds] of parts) {
    for (const [i, entry] of cases.entries()) {
      if (!(await holds(entry))) problems.push(`${name}, case ${i}: differs`);
    }
  }
  const promised = model?.contract.points ?? [];
  if (model && String(points.map(({strength}) => strength)) !== String(promised.map(({strength}) => strength))) {
    problems.push("points: vectors.json holds other cases");
  }
  if (model?.contract.index && !vectors.index?.length) problems.push("index: vectors.json holds no cases");
  if (model?.contract.sound && !vectors.sound?.length) problems.push("sound: vectors.json holds no cases");
  let largest = 0;
  for (const entry of model ? [...vectors.model, ...points] : []) {
    const found = await modelCase(entry, table, /** @type {Model} */ (model), counts);
    largest = Math.max(largest, found.largest);
    problems.push(...found.problems.map((problem) => `model, ${entry.pattern}: ${problem}`));
  }
  return {problems, largest};
}

/** @param {Case} entry */
async function noiseHolds(entry) {
  const pixels = await picture(entry.pattern, entry.height, entry.width);
  const key = await importKey(fromHex(entry.key)), digest = await sha256(pixels), stored = fromHex(entry.noise);
  const contract = fromHex(entry.contract), parameters = fromHex(entry.parameters);
  const iv = await streamIv(key, contract, await sha256(parameters), digest);
  const noise = await keyedNoise(key, contract, parameters, pixels, stored.length);
  return toHex(digest) === entry.image_sha256 && toHex(iv) === entry.iv && equal(noise, stored);
}

/** @param {Case} entry */
function ditherHolds(entry) {
  const levels = dither(fromHex(entry.p), fromHex(entry.noise), entry.bits, entry.gray, entry.colours);
  return toHex(levels) === entry.levels && toHex(pack(levels, entry.bits)) === entry.packed;
}

/** @param {Case} entry @param {Int16Array} table */
function gaussianHolds(entry, table) {
  const [mean, scale, noise] = [entry.mean, entry.scale, entry.noise].map(fromHex);
  const levels = gaussian(mean, scale, noise, table, 16 * entry.largest_scale, entry.additive);
  return toHex(levels) === entry.levels;
}

/** @param {Case} entry @param {Int16Array | null} table */
async function uploadHolds(entry, table) {
  const pixels = await picture(entry.pattern, entry.height, entry.width);
  const found = await upload(entry, pixels, await importKey(fromHex(entry.key)), table);
  return toHex(found.noise) === entry.noise && toHex(found.packed) === entry.packed;
}

/**
 * Noise and packed upload for given parameters: what Kotlin, Python and JavaScript are compared by.
 *
 * @param {Case} entry `bits`, with `gates`, `gray` and `colours` where the channel has them, or `additive` and `largest_scale`; `contract`, a
 *     digest, and `parameters` by output name, in the order of a contract, in hexadecimal; `strength` may be given, and then `gates`, `height` and `width`
 * @param {Bytes} pixels
 * @param {import("./noise.js").DeviceKey} key
 * @param {Int16Array | null} table
 */
export async function upload(entry, pixels, key, table) {
  const {bits, gates, gray, subsample = 1, colours, additive, largest_scale, strength = FULL, height, width} = entry;
  /** @type {Channel} */
  const channel = bits ? {name: "dither", levels: 1 << bits, gates, gray, subsample, colours} : {name: "gaussian", additive, largest_scale};
  const given = Object.fromEntries(
    Object.entries(/** @type {Record<string, string>} */ (entry.parameters)).map(([name, text]) => [name, fromHex(text)]),
  );
  const parameters = atStrength(channel, given, strength, height, width);
  const q = parameterBytes(Object.keys(parameters), parameters);
  const noise = await keyedNoise(key, fromHex(entry.contract), q, pixels, noiseBytes(channel, pixels.length / subsample ** 2));
  return {noise, packed: pack(draw(channel, parameters, pixels, noise, table), bitsOf(channel))};
}

/** Every byte of an open block at the strength of a point. @param {Case} entry */
function strengthHolds(entry) {
  const every = {p: Uint8Array.from({length: 256}, (_, byte) => byte)};
  return toHex(atStrength({name: "dither"}, every, entry.strength, 1, 256).p) === entry.bytes;
}

/** @param {Case} entry */
function indexHolds(entry) {
  const found = index(entry);
  return found.index === entry.index && found.levels === entry.levels && near(found.rate_bits, entry.rate_bits);
}

/**
 * Index, entry and rate: what Kotlin, Python and JavaScript are compared by.
 *
 * @param {Case} entry `height`, `width`, `planes`, `bits`, `gray`, `power`, `memory`; `p` and `noise` in hexadecimal
 */
export function index(entry) {
  const code = /** @type {import("./index_code.js").Code} */ (entry), q = fromHex(entry.p);
  const drawn = drawIndex(code, q, fromHex(entry.noise));
  return {index: toHex(drawn), levels: toHex(levelsOf(code, drawn)), rate_bits: indexRate(code, q)};
}

/** One plane of a recording's picture: what Kotlin, Python and JavaScript are compared by. @param {Case} entry `wav` in base64, `height` and `width` */
export function sound({wav, height, width}) {
  return logMel(readWav(fromBase64(wav)), height, width);
}

/** @param {number} found @param {number} stored */
function near(found, stored) {
  return Math.abs(found - stored) <= 1e-6 * Math.max(1, stored);
}

/** @param {Case} entry */
function answerHolds(entry) {
  return Object.entries(answer(entry)).every(([name, value]) => JSON.stringify(value) === JSON.stringify(entry[name]));
}

/**
 * Decision, state, word and its two forms: what Kotlin, Python and JavaScript are compared by.
 *
 * @param {Case} entry `classes`, `margins`, `height`, `width`, `scores` in hexadecimal; with a table its `row` and `noise`
 */
export function answer({classes, margins, scores, row, noise, height, width}) {
  const decision = decide(fromHex(scores), classes);
  const word = row ? drawWord(row, fromHex(noise)) : plainWord(decision, classes);
  const words = classes.reduce((/** @type {number} */ product, /** @type {number} */ count) => product * count, 1);
  return {
    decision: decision.map(({first, second, margin}) => [first, second, margin]),
    word,
    bytes: toHex(wordBytes(word, words)),
    packed: toHex(pack(wordImage(word, words, height, width), 1)),
    ...(row ? {state: stateOf(decision, classes, margins)} : {}),
  };
}

/**
 * @param {Case} entry
 * @param {Int16Array | null} table
 * @param {Model} model
 * @param {Uint32Array | null} counts
 * @returns {Promise<Found>}
 */
async function modelCase(entry, table, model, counts) {
  const {contract} = model, [, height, width, planes] = contract.input.shape;
  // A model of grey pictures takes the red plane.
  const pixels = (await picture(entry.pattern, height, width)).filter((_, i) => i % 3 < planes);
  const made = await model.run(pixels), problems = [];
  let largest = 0;
  /** @type {Record<string, Bytes>} */
  const stored = {};
  for (const {name} of contract.outputs) {
    stored[name] = fromBase64(entry.parameters[name]);
    if (made[name].length !== stored[name].length) return {problems: [`${name} has another size`], largest: 255};
    made[name].forEach((byte, i) => { largest = Math.max(largest, Math.abs(byte - stored[name][i])); });
  }
  if (largest > TOLERANCE) problems.push(`the model differs by ${largest}`);
  const [rows, columns] = uploadSize(contract);
  const drawn = atStrength(contract.channel, stored, entry.strength ?? FULL, rows, columns);
  const key = await importKey(fromHex(entry.key)), q = parameterBytes(contract.outputs.map(({name}) => name), drawn);
  const drawing = drawingOf(contract), noise = await keyedNoise(key, fromHex(entry.contract), q, pixels, drawing.noise);
  if (toHex(await sha256(noise)) !== entry.noise_sha256) problems.push("the noise differs");
  const {answer: coded} = contract;
  const {levels, index: number} = coded
    ? {levels: wordImage(wordOf(contract, stored.scores, noise, counts), coded.words, height, width), index: null}
    : drawing.draw(drawn, pixels, noise, table);
  if (number && !equal(number, fromBase64(entry.index))) problems.push("the index differs");
  if (!equal(pack(levels, bitsOf(contract.channel)), fromBase64(entry.upload_packed))) problems.push("the upload differs");
  const rate = drawing.rate(drawn);
  if (rate !== null && !near(rate, entry.rate_bits)) problems.push("the rate differs");
  return {problems, largest};
}

/**
 * A picture by formula.
 *
 * @param {string} name
 * @param {number} height
 * @param {number} width
 * @returns {Promise<Bytes>} H * W * 3
 */
export async function picture(name, height, width) {
  /** @type {Record<string, (x: number, y: number, c: number) => number>} */
  const formulas = {
    black: () => 0,
    white: () => 255,
    ramp: (x, y, c) => (4 * x + 2 * y + 85 * c) % 256,
    checks: (x, y, c) => ((Math.floor(x / 4) + Math.floor(y / 4) + c) % 2 ? 255 : 0),
  };
  const pixels = new Uint8Array(height * width * 3);
  if (name === "grain") {
    for (let at = 0; at < pixels.length; at += 32) {
      const block = new Uint8Array(8);
      new DataView(block.buffer).setUint32(4, at / 32);
      pixels.set((await sha256(block)).subarray(0, pixels.length - at), at);
    }
    return pixels;
  }
  const formula = formulas[name];
  return pixels.map((_, i) => formula(Math.floor(i / 3) % width, Math.floor(i / (3 * width)), i % 3));
}
