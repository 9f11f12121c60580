/**
 * Bytes as text and back.
 *
 *     toHex(fromBase64("AP8="))    // "00ff"
 *
 * @typedef {Uint8Array<ArrayBuffer>} Bytes
 */

/** @param {string} text an even number of hexadecimal digits @returns {Bytes} */
export function fromHex(text) {
  if (text.length % 2 || /[^0-9a-f]/i.test(text)) throw new Error("not hexadecimal");
  return Uint8Array.from({length: text.length / 2}, (_, i) => parseInt(text.slice(2 * i, 2 * i + 2), 16));
}

/** @param {Bytes} bytes */
export function toHex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {string} text @returns {Bytes} */
export function fromBase64(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/** @param {Bytes} left @param {Bytes} right */
export function equal(left, right) {
  return left.length === right.length && left.every((byte, i) => byte === right[i]);
}

/** @param {Bytes} bytes @returns {Promise<Bytes>} 32 bytes */
export async function sha256(bytes) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
}
