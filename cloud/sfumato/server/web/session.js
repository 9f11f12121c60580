/**
 * What the page does, without the page: load the phone's half, perturb a picture, ask the service about the upload.
 *
 *     const session = await openSession(document.baseURI);
 *     const perturbed = await perturb(session, key, await createImageBitmap(file, AS_STORED));
 *     const reply = await ask(session, travelling(session, perturbed, false), token);
 *
 * Everything comes from the service's own address, and only `ask` sends anything: the packed upload, or in answer mode the bytes of
 * the code word, which may also travel as its image.
 */

import {readTable, wordBytes, wordImage, wordOf} from "./answer.js";
import {fromHex, sha256, toHex} from "./bytes.js";
import {fileOf, modelOf, parseContract, uploadSize} from "./contract.js";
import {readLimits, unlike} from "./familiar.js";
import {drawId} from "./ledger.js";
import {loadModel} from "./model.js";
import {keyedNoise, parameterBytes} from "./noise.js";
import {fit} from "./picture.js";
import {FULL, atStrength, bitsOf, draw, noiseBytes, pack, rateOf} from "./sampler.js";
import {checkVectors} from "./vectors.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */
/** @typedef {import("./contract.js").Contract} Contract */
/** @typedef {import("./vectors.js").Model} Model */

/**
 * @typedef {object} Session
 * @property {string} base the page's address
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
 * @property {Bytes} upload what travels: packed levels, or the bytes of the code word
 * @property {Bytes} draw what the account remembers of it
 * @property {number | null} rate in bits: how much of the photo this upload can carry; null for a gaussian channel
 * @property {boolean | null} unlike the photo looks like none of those that the model was made for, so its answer means nothing; null:
 *     the bundle does not say what they look like. It depends on the photo: it stays here
 * @property {number} milliseconds
 *
 * @typedef {object} Reply
 * @property {Record<string, {label: string, probabilities: Record<string, number>}>} answers
 * @property {number} milliseconds
 */

const PACKED = "application/vnd.sfumato.packed", WORD = "application/vnd.sfumato.word";
const PATIENCE = 20_000;  // milliseconds

/**
 * The upload as it travels, with its content type.
 *
 * @typedef {object} Sent
 * @property {Bytes} content
 * @property {string} type
 */

/** @param {Session} session @param {Perturbed} perturbed @param {boolean} asImage a code word as its image @returns {Sent} */
export function travelling({contract}, {levels, upload}, asImage) {
  if (!contract.answer) return {content: upload, type: PACKED};
  return asImage ? {content: pack(levels, bitsOf(contract.channel)), type: PACKED} : {content: upload, type: WORD};
}

/** The service refused, or gave no answer. */
export class RefusedError extends Error {
  /** @param {string} message @param {number} status 0: no answer */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Load and check the phone's half of the export. @param {string} base @returns {Promise<Session>} */
export async function openSession(base) {
  const text = await get(base, "v1/contract");
  const contract = parseContract(new TextDecoder().decode(text)), limits = readLimits(contract.figures);
  const file = async (/** @type {string} */ name) => {
    const content = await get(base, `v1/phone/${name}`);
    if (toHex(await sha256(content)) !== fileOf(contract, name).sha256) throw new Error(`${name} is not the contract's`);
    return content;
  };
  const gaussian = contract.channel.name === "gaussian";
  const randomised = contract.answer?.table;
  const [weights, vectors, quantiles, rows] = await Promise.all([
    file(modelOf(contract).file), file("vectors.json"), gaussian ? file("normal_table.bin") : null, randomised ? file(randomised) : null,
  ]);
  const table = quantiles && new Int16Array(quantiles.buffer);
  const classes = contract.keep.map((entry) => entry.classes.length);
  const counts = rows && readTable(rows, classes, /** @type {number[]} */ (contract.answer?.margins));
  const model = await loadModel(weights, contract, new URL("page/vendor/wasm/", base).href);
  const found = await checkVectors(JSON.parse(new TextDecoder().decode(vectors)), table, model, counts);
  if (found.problems.length) throw new Error(`this browser computes something else: ${found.problems.join("; ")}`);
  return {base, contract, digest: toHex(await sha256(text)), model, table, counts, limits, deviation: found.largest};
}

/**
 * Crop, resize, run, draw, pack; in answer mode the draw is the code word.
 *
 * @param {Session} session
 * @param {import("./noise.js").DeviceKey} key
 * @param {ImageBitmap} bitmap
 * @param {number} [strength] of one of the contract's points
 * @returns {Promise<Perturbed>}
 */
export async function perturb({contract, digest, model, table, counts, limits}, key, bitmap, strength = FULL) {
  const start = performance.now(), [, height, width] = contract.input.shape, {channel} = contract;
  const pixels = fit(bitmap, height, width);
  const [rows, columns] = uploadSize(contract);
  const parameters = atStrength(channel, await model.run(pixels), strength, rows, columns);
  const q = parameterBytes(contract.outputs.map(({name}) => name), parameters);
  const id = await drawId(key, fromHex(digest), q, pixels);
  const noise = await keyedNoise(key, fromHex(digest), q, pixels, noiseBytes(channel, 3 * rows * columns));
  const strange = limits && unlike(limits, pixels, height, width);
  if (contract.answer) {
    const {words} = contract.answer, word = wordOf(contract, parameters.scores, noise, counts);
    const milliseconds = performance.now() - start, levels = wordImage(word, words, height, width);
    const rate = Math.log2(words);
    return {pixels, parameters, levels, word, upload: wordBytes(word, words), draw: id, rate, unlike: strange, milliseconds};
  }
  const levels = draw(channel, parameters, pixels, noise, table);
  const upload = pack(levels, bitsOf(channel));
  const milliseconds = performance.now() - start;
  const rate = rateOf(channel, parameters, rows, columns);
  return {pixels, parameters, levels, word: null, upload, draw: id, rate, unlike: strange, milliseconds};
}

/**
 * Ask the service about an upload.
 *
 * @param {Session} session
 * @param {Sent} sent of `travelling`
 * @param {string} token empty: none
 * @returns {Promise<Reply>}
 */
export async function ask({base, contract, digest}, {content, type}, token) {
  /** @type {Record<string, string>} */
  const headers = {"Content-Type": type, "Sfumato-Contract": digest};
  if (token) headers.Authorization = `Bearer ${token}`;
  const start = performance.now();
  const response = await request(base, "v1/predict", {method: "POST", headers, body: content});
  const {answers} = await response.json();
  const milliseconds = performance.now() - start;
  for (const {name, classes} of contract.keep) {
    if (!classes.includes(answers?.[name]?.label)) throw new RefusedError("The answer does not fit the contract", 0);
  }
  return {answers, milliseconds};
}

/** @param {string} base @param {string} path @returns {Promise<Bytes>} */
async function get(base, path) {
  const response = await request(base, path, {});
  return new Uint8Array(await response.arrayBuffer());
}

/** @param {string} base @param {string} path @param {RequestInit} more */
async function request(base, path, more) {
  const signal = AbortSignal.timeout(PATIENCE);
  /** @type {Response} */
  let response;
  try {
    response = await fetch(new URL(path, base), {credentials: "omit", redirect: "error", signal, ...more});
  } catch (error) {
    throw new RefusedError(`The service gives no answer (${error instanceof Error ? error.message : error})`, 0);
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  const reason = problem.title ? `${problem.title}: ${problem.detail}` : response.statusText;
  throw new RefusedError(`The service refuses (${response.status}): ${reason}`, response.status);
}
