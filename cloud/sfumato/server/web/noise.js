/**
 * Keyed noise, version 1 (docs/contract.md, "Noise v1"), on WebCrypto: the same photo from the same device always gets the
 * same noise, so that repeated uploads cannot be averaged.
 *
 *     const key = await importKey(secret);             // 32 bytes
 *     const noise = await keyedNoise(key, pixels, 64 * 64 * 3);
 */

import {sha256} from "./bytes.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */
/** @typedef {{mac: CryptoKey, stream: CryptoKey}} DeviceKey both halves can be used, neither can be read out again */

export const KEY_BYTES = 32;
const LABEL = new TextEncoder().encode("sfumato-noise-v1");
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
 * The initial counter block that belongs to an image hash.
 *
 * @param {DeviceKey} key
 * @param {Bytes} digest SHA-256 of the pixels
 * @returns {Promise<Bytes>} 16 bytes
 */
export async function streamIv(key, digest) {
  const message = new Uint8Array([...LABEL, ...digest]);
  return new Uint8Array(await crypto.subtle.sign("HMAC", key.mac, message), 0, 16);
}

/**
 * The first `count` keystream bytes for a picture.
 *
 * @param {DeviceKey} key
 * @param {Bytes} pixels H * W * 3 bytes as they are fed to the model
 * @param {number} count
 * @returns {Promise<Bytes>}
 */
export async function keyedNoise(key, pixels, count) {
  const counter = await streamIv(key, await sha256(pixels));
  const cipher = {name: "AES-CTR", counter, length: 128};
  return new Uint8Array(await crypto.subtle.encrypt(cipher, key.stream, new Uint8Array(count)));
}
