/**
 * The phone's half of an export: read and check it, then turn pictures into uploads. Nothing here sends anything, shows anything or
 * knows where files and the network come from.
 *
 *     const phone = await openPhone((name) => readFile(`${folder}/${name}`), load);
 *     const perturbed = await perturb(phone, key, pixels);
 *
 * `load` gives the interpreter: `async (model, contract) => ({run: async (pixels) => ({p: q})})`, from the bytes of a picture of the model's
 * size to the bytes q of every output (q = int8 + 128), by name.
 */

import {readTable, wordBytes, wordImage, wordOf} from "./answer.js";
import {fromHex, sha256, toHex} from "./bytes.js";
import {fileOf, modelOf, parseContract, uploadSize} from "./contract.js";
import {readLimits, unlike} from "./familiar.js";
import {drawId} from "./ledger.js";
import {drawingOf} from "./index_code.js";
import {keyedNoise, parameterBytes} from "./noise.js";
import {toGrey} from "./picture.js";
import {FULL, atStrength, bitsOf, pack} from "./sampler.js";
import {checkVectors} from "./vectors.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */
/** @typedef {import("./contract.js").Contract} Contract */
/** @typedef {import("./vectors.js").Model} Model */

/**
 * @typedef {object} Phone
 * @property {Contract} contract
 * @property {string} digest sha256 of contract.json
 * @property {Model} model
 * @property {Int16Array | null} table normal_table.bin of a gaussian channel
 * @property {Uint32Array | null} counts answer_table.bin of a randomised answer
 * @property {import("./familiar.js").Limits | null} limits what ordinary photos look like; null in bundles of earlier versions
 * @property {number} deviation how far the model is from vectors.json, in 1/256
 *
 * @typedef {object} Perturbed
 * @property {Bytes} pixels what the model saw
 * @property {Record<string, Bytes>} parameters that the upload was drawn from
 * @property {Bytes} levels
 * @property {number | null} word the code word; null in picture mode
 * @property {Bytes} upload what travels: packed levels, the index of the book's entry, or the bytes of the code word
 * @property {Bytes} draw what the account remembers of it
 * @property {number | null} rate in bits: how much of the photo this upload can carry; null for a gaussian channel
 * @property {boolean | null} unlike the photo looks like none of those that the model was made for, so its answer means nothing; null:
 *     the bundle does not say what they look like. It depends on the photo: it stays here
 * @property {number} milliseconds
 */

/**
 * Read and check the phone's half of an export: every file against the contract, noise, sampler and the network against vectors.json.
 *
 * @param {(name: string) => Promise<Uint8Array>} read a file of the export
 * @param {(model: Bytes, contract: Contract) => Promise<{run: Model["run"]}>} load opens the int8 model
 * @returns {Promise<Phone>}
 */
export async function openPhone(read, load) {
  const content = async (/** @type {string} */ name) => new Uint8Array(await read(name));
  const text = await content("contract.json");
  const contract = parseContract(new TextDecoder().decode(text)), limits = readLimits(contract.figures);
  const file = async (/** @type {string} */ name) => {
    const bytes = await content(name);
    if (toHex(await sha256(bytes)) !== fileOf(contract, name).sha256) throw new Error(`${name} is not the contract's`);
    return bytes;
  };
  const gaussian = contract.channel.name === "gaussian";
  const randomised = contract.answer?.table;
  const [weights, vectors, quantiles, rows] = await Promise.all([
    file(modelOf(contract).file), file("vectors.json"), gaussian ? file("normal_table.bin") : null, randomised ? file(randomised) : null,
  ]);
  const table = quantiles && new Int16Array(quantiles.buffer);
  const classes = contract.keep.map((entry) => entry.classes.length);
  const counts = rows && readTable(rows, classes, /** @type {number[]} */ (contract.answer?.margins));
  const model = {contract, run: (await load(weights, contract)).run};
  const found = await checkVectors(JSON.parse(new TextDecoder().decode(vectors)), table, model, counts);
  if (found.problems.length) throw new Error(`this machine computes something else: ${found.problems.join("; ")}`);
  return {contract, digest: toHex(await sha256(text)), model, table, counts, limits, deviation: found.largest};
}

/**
 * Run, draw, pack; in answer mode the draw is the code word.
 *
 * @param {Phone} phone
 * @param {import("./noise.js").DeviceKey} key
 * @param {Bytes} pixels H * W * 3 of the model's size (`fit`); a model of grey pictures takes them too, or H * W
 * @param {number} [strength] of one of the contract's points
 * @returns {Promise<Perturbed>}
 */
export async function perturb({contract, digest, model, table, counts, limits}, key, pixels, strength = FULL) {
  const start = performance.now(), [, height, width, planes] = contract.input.shape, {channel} = contract;
  if (planes === 1 && pixels.length === 3 * height * width) pixels = toGrey(pixels);
  if (pixels.length !== planes * height * width) throw new Error(`the model takes ${height} x ${width} pixels, not ${pixels.length / planes} in all`);
  if (strength !== FULL && !contract.points?.some((point) => point.strength === strength)) {
    throw new Error(`this export has no point of strength ${strength}`);
  }
  const [rows, columns] = uploadSize(contract);
  const parameters = atStrength(channel, await model.run(pixels), strength, rows, columns);
  const q = parameterBytes(contract.outputs.map(({name}) => name), parameters);
  const id = await drawId(key, fromHex(digest), q, pixels);
  const drawing = drawingOf(contract), noise = await keyedNoise(key, fromHex(digest), q, pixels, drawing.noise);
  const strange = limits && unlike(limits, pixels, height, width);
  if (contract.answer) {
    const {words} = contract.answer, word = wordOf(contract, parameters.scores, noise, counts);
    const milliseconds = performance.now() - start, levels = wordImage(word, words, height, width);
    const rate = Math.log2(words);
    return {pixels, parameters, levels, word, upload: wordBytes(word, words), draw: id, rate, unlike: strange, milliseconds};
  }
  const {levels, index} = drawing.draw(parameters, pixels, noise, table), upload = index ?? pack(levels, bitsOf(channel));
  const milliseconds = performance.now() - start, rate = drawing.rate(parameters);
  return {pixels, parameters, levels, word: null, upload, draw: id, rate, unlike: strange, milliseconds};
}
