/**
 * Asking the service about an upload (docs/serve.md). Only `ask` sends anything: the packed upload, its index where the contract has a book, or in answer
 * mode the bytes of the code word, which may also travel as its image.
 *
 *     const reply = await ask({base: "https://photos.example", contract, digest}, travelling(phone, perturbed, false), token);
 */

import {cellsOf} from "./mask.js";
import {bitsOf, pack} from "./sampler.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */
/** @typedef {import("./contract.js").Contract} Contract */

/**
 * @typedef {object} Service
 * @property {string} base its address
 * @property {Contract} contract
 * @property {string} digest sha256 of contract.json in hexadecimal: the service refuses uploads of another one
 *
 * @typedef {object} Reply
 * @property {Record<string, {label: string, probabilities: Record<string, number>, value?: number, mask?: number[]}>} answers
 * @property {number} milliseconds
 */

const PACKED = "application/vnd.sfumato.packed", WORD = "application/vnd.sfumato.word";
const INDEX = "application/vnd.sfumato.index";
const PATIENCE = 20_000;  // milliseconds

/**
 * The upload as it travels, with its content type.
 *
 * @typedef {object} Sent
 * @property {Bytes} content
 * @property {string} type
 */

/**
 * What is sent of a perturbed photo.
 *
 * @param {{contract: Contract}} phone
 * @param {{levels: Bytes, upload: Bytes}} perturbed
 * @param {boolean} asImage a code word as its image
 * @returns {Sent}
 */
export function travelling({contract}, {levels, upload}, asImage) {
  if (contract.index) return {content: upload, type: INDEX};
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

/**
 * Ask the service about an upload.
 *
 * @param {Service} service
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
  for (const {name, classes, values, grid} of contract.keep) {
    const answer = answers?.[name];
    const lacking = (values && !Number.isFinite(answer?.value)) || (grid && !cellsOf(answer?.mask, grid, classes.length));
    if (!classes.includes(answer?.label) || lacking) throw new RefusedError("The answer does not fit the contract", 0);
  }
  return {answers, milliseconds};
}

/** A file of the service. @param {string} base @param {string} path @returns {Promise<Bytes>} */
export async function get(base, path) {
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
