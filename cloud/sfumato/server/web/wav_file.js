/**
 * What a WAV file holds, as 16-bit samples of one channel: docs/contract.md, "Sound to picture", by the same rules as Python
 * (`sfumato.core.wav_file`) and the app (`WavFile.kt`). Everything but 8 and 16-bit PCM is refused.
 *
 *     const {rate, samples} = readWav(new Uint8Array(await blob.arrayBuffer()));
 *
 * @typedef {import("./bytes.js").Bytes} Bytes
 * @typedef {{rate: number, samples: Float64Array}} Recording samples a second, and whole numbers in -32,768..32,767, at least one
 */

export const MAX_BYTES = 16_000_000;
export const RATES = [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000];
export const LONGEST_S = 16;
const MAX_CHANNELS = 8;
const PCM = 1, EXTENSIBLE = 0xfffe;
const PCM_GUID = [1, 0, 0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71];

/** A recording that is not read. */
export class WavError extends Error {}

/** @param {string} why @returns {never} */
function damaged(why) {
  throw new WavError(`This is a damaged WAV file: ${why}`);
}

/** Read a WAV file, or throw a `WavError`. @param {Bytes} content @returns {Recording} */
export function readWav(content) {
  if (content.length > MAX_BYTES) throw new WavError(`This file has more than the ${MAX_BYTES} bytes allowed: cut the recording`);
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  const name = (/** @type {number} */ at) => String.fromCharCode(...content.subarray(at, at + 4));
  if (name(0) !== "RIFF" || name(8) !== "WAVE") throw new WavError("This is no WAV file");
  /** @type {DataView | null} */
  let form = null;
  for (let at = 12; at + 8 <= content.length;) {
    const kind = name(at), size = view.getUint32(at + 4, true), start = at + 8;
    if (start + size > content.length) damaged("the file is cut");
    const body = new DataView(content.buffer, content.byteOffset + start, size);
    if (kind === "fmt ") {
      if (form) damaged("two headers");
      form = body;
    } else if (kind === "data") {
      return samplesOf(form ?? damaged("no header before the samples"), body);
    }
    at = start + size + size % 2;  // a chunk of odd length is followed by one byte
  }
  return damaged("no samples");
}

/** @param {DataView} form @param {DataView} body @returns {Recording} */
function samplesOf(form, body) {
  if (form.byteLength < 16) damaged("its header is too short");
  const [kind, channels, frame, bits] = [0, 2, 12, 14].map((at) => form.getUint16(at, true));
  const rate = form.getUint32(4, true), bytesASecond = form.getUint32(8, true);
  const extended = kind === EXTENSIBLE && form.byteLength >= 40 && PCM_GUID.every((byte, i) => byte === form.getUint8(24 + i));
  if ((kind !== PCM && !extended) || (bits !== 8 && bits !== 16)) {
    throw new WavError(`This is a WAV file of form ${kind} with ${bits} bits a sample: save it as PCM of 8 or 16 bits`);
  }
  if (channels < 1 || channels > MAX_CHANNELS) throw new WavError(`This recording has ${channels} channels: 1 to ${MAX_CHANNELS} are read`);
  if (!RATES.includes(rate)) throw new WavError(`This recording has ${rate} samples a second: save it with one of ${RATES.join(", ")}`);
  if (frame !== channels * bits / 8 || bytesASecond !== rate * frame || body.byteLength % frame) damaged("its header contradicts itself");
  const length = body.byteLength / frame;
  if (!length) damaged("no samples");
  if (length > LONGEST_S * rate) throw new WavError(`This recording takes ${(length / rate).toFixed(1)} seconds: cut it to ${LONGEST_S} at most`);
  const samples = Float64Array.from({length}, (_, i) => {
    let sum = 0;
    for (let c = 0; c < channels; c++) {
      sum += bits === 8 ? 256 * (body.getUint8(i * frame + c) - 128) : body.getInt16(i * frame + 2 * c, true);
    }
    return Math.floor((2 * sum + channels) / (2 * channels));
  });
  return {rate, samples};
}
