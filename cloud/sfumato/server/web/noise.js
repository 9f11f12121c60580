/**
 * Keyed noise, version 2 (docs/contract.md, "Noise v2"), on WebCrypto: an upload that is made again is the same upload, so that
 * nothing can be averaged; under another contract, or with other parameters, the noise is independent.
 *
 *     const key = await importKey(secret);             // 32 bytes
 *     const q = parameterBytes(contract.outputs.map(({name}) => name), parameters);
 *     const noise = await keyedNoise(key, digest, q, pixels, 64 * 64 * 3);
 */

import {sha256} from "./bytes.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */
/** @typedef {{mac: CryptoKey, stream: CryptoKey}} DeviceKey both halves can be used, neither can be read out again */

export const KEY_BYTES = 32;
const DIGEST_BYTES = 32;
const LABEL = new TextEncoder().encode("sfumato-noise-v2");
const INFO = new TextEncoder().encode("noise");

/**
 * The two keys that follow from a device secret.
 *
 * @param {Bytes} secret 32 bytes
 * @returns {Promise<DeviceKey>}
 */
export async function importKey(secret) {
  if (secret.length !== KEY_BYTES) throw new Error(`a device key has ${KEY_BYTES} bytes, not ${secret.length}`);
  const {subtle} = crypto;
  const mac = await subtle.importKey("raw", secret, {name: "HMAC", hash: "SHA-256"}, false, ["sign"]);
  const base = await subtle.importKey("raw", secret, "HKDF", false, ["deriveKey"]);
  const derive = {name: "HKDF", hash: "SHA-256", salt: new Uint8Array(32), info: INFO};
  const stream = await subtle.deriveKey(derive, base, {name: "AES-CTR", length: 256}, false, ["encrypt"]);
  return {mac, stream};
}

/**
 * The bytes q of every output, one output after the other.
 *
 * @param {string[]} names outputs in the order of the contract
 * @param {Record<string, Bytes>} parameters
 * @returns {Bytes}
 */
export function parameterBytes(names, parameters) {
  const parts = names.map((name) => parameters[name]);
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/**
 * The initial counter block that belongs to three SHA-256 digests.
 *
 * @param {DeviceKey} key
 * @param {Bytes} contract of contract.json
 * @param {Bytes} parameters of the bytes q
 * @param {Bytes} image of the pixels
 * @returns {Promise<Bytes>} 16 bytes
 */
export async function streamIv(key, contract, parameters, image) {
  for (const digest of [contract, parameters, image]) {
    if (digest.length !== DIGEST_BYTES) throw new Error(`a SHA-256 digest has ${DIGEST_BYTES} bytes, not ${digest.length}`);
  }
  const message = new Uint8Array([...LABEL, ...contract, ...parameters, ...image]);
  return new Uint8Array(await crypto.subtle.sign("HMAC", key.mac, message), 0, 16);
}

/**
 * The first `count` keystream bytes for one upload.
 *
 * @param {DeviceKey} key
 * @param {Bytes} contract SHA-256 of contract.json, 32 bytes
 * @param {Bytes} parameters the bytes q that the network gave for the picture (`parameterBytes`)
 * @param {Bytes} pixels H * W * 3 bytes as they are fed to the model
 * @param {number} count
 * @returns {Promise<Bytes>}
 */
export async function keyedNoise(key, contract, parameters, pixels, count) {
  const counter = await streamIv(key, contract, await sha256(parameters), await sha256(pixels));
  const cipher = {name: "AES-CTR", counter, length: 128};
  return new Uint8Array(await crypto.subtle.encrypt(cipher, key.stream, new Uint8Array(count)));
}
