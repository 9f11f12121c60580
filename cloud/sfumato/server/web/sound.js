/**
 * From a recording to the pixels that the model sees: resample, level, centre, log-mel energies. docs/contract.md, "Sound to picture",
 * in the same whole numbers as Python (`sfumato.core.sound`) and the app (`Sound.kt`): all stay below 2^53, so doubles hold them.
 *
 *     const pixels = soundPixels(readWav(content), 48, 64);    // H * W * 3 bytes, three equal planes
 *
 * @typedef {import("./bytes.js").Bytes} Bytes
 * @typedef {import("./wav_file.js").Recording} Recording
 */

/** What a contract's `sound` must say: the constants below. */
export const RECIPE = {version: 1, rate: 8000, window: 256, hop: 96, lowest: 6, steps: 10, quietest: 256};
export const MOST_BANDS = 64;
const {rate: RATE, window: WINDOW, hop: HOP, lowest: LOWEST, steps: STEPS, quietest: QUIETEST} = RECIPE;
const CROSSINGS = 16, BINS = WINDOW / 2 + 1, HALF = 2 ** 15;

const COSINE = Float64Array.from({length: WINDOW}, (_, n) => Math.round(HALF * Math.cos(2 * Math.PI * n / WINDOW)));
const HANN = Float64Array.from({length: WINDOW}, (_, n) => Math.round(HALF * (0.5 - 0.5 * Math.cos(2 * Math.PI * n / WINDOW))));
/** Energies from which on a byte is at least 1, 2 and so on. */
const THRESHOLDS = Float64Array.from({length: 255}, (_, i) => (
  Math.round(2 ** 16 * 2 ** ((i + 1) % STEPS / STEPS)) * 2 ** (LOWEST + Math.floor((i + 1) / STEPS))
));

/** The pixels of a recording. @param {Recording} recording @param {number} height mel bands @param {number} width frames @returns {Bytes} */
export function soundPixels(recording, height, width) {
  const plane = logMel(recording, height, width), pixels = new Uint8Array(3 * plane.length);
  plane.forEach((byte, i) => pixels.fill(byte, 3 * i, 3 * i + 3));
  return pixels;
}

/** Row 0 is the highest band. @param {Recording} recording @param {number} bands @param {number} frames @returns {Bytes} */
export function logMel(recording, bands, frames) {
  if (bands < 1 || bands > MOST_BANDS) throw new Error(`a picture of sound has 1 to ${MOST_BANDS} rows, not ${bands}`);
  const samples = centred(level(resample(recording)), (frames - 1) * HOP + WINDOW), weights = mel(bands);
  const plane = new Uint8Array(bands * frames);
  for (let frame = 0; frame < frames; frame++) {
    const powers = spectrum(samples.subarray(frame * HOP, frame * HOP + WINDOW));
    weights.forEach(({from, shares}, band) => {
      let energy = 0;
      for (let k = 0; k < shares.length; k++) energy += shares[k] * powers[from + k];
      plane[(bands - 1 - band) * frames + frame] = byteOf(energy);
    });
  }
  return plane;
}

/** The samples at the recipe's rate: a windowed sinc. @param {Recording} recording @returns {Float64Array} */
function resample({rate, samples}) {
  if (rate === RATE) return samples;
  const reach = CROSSINGS * rate / RATE, tables = new Map();
  return Float64Array.from({length: Math.max(1, Math.floor(samples.length * RATE / rate))}, (_, i) => {
    const place = Math.floor(i * rate / RATE), behind = i * rate % RATE;  // the last input at or before the output
    const first = Math.ceil(-reach), last = Math.floor(reach) + 1;
    if (!tables.has(behind)) tables.set(behind, taps(rate, behind, first, last));
    const table = tables.get(behind);
    let sum = 2 ** 19;
    for (let j = Math.max(first, -place); j <= Math.min(last, samples.length - 1 - place); j++) sum += table[j - first] * samples[place + j];
    return Math.min(HALF - 1, Math.max(-HALF, Math.floor(sum / 2 ** 20)));
  });
}

/** @param {number} rate @param {number} behind @param {number} first @param {number} last @returns {Float64Array} */
function taps(rate, behind, first, last) {
  return Float64Array.from({length: last - first + 1}, (_, i) => {
    const t = ((first + i) * RATE - behind) / rate;
    if (Math.abs(t) >= CROSSINGS) return 0;
    const sinc = t ? Math.sin(Math.PI * t) / (Math.PI * t) : 1;
    return Math.round(2 ** 20 * (RATE / rate) * sinc * Math.cos(Math.PI * t / (2 * CROSSINGS)) ** 2);
  });
}

/** @param {Float64Array} samples */
function level(samples) {
  const peak = samples.reduce((most, value) => Math.max(most, Math.abs(value)), QUIETEST);
  return samples.map((value) => Math.floor((2 * 32767 * value + peak) / (2 * peak)));
}

/** `length` samples around the centre of energy. @param {Float64Array} samples @param {number} length */
function centred(samples, length) {
  let total = 0, weighted = 0;
  for (let at = 0; at < samples.length; at += HOP) {
    const energy = Math.floor(samples.subarray(at, at + HOP).reduce((sum, value) => sum + value * value, 0) / 2 ** 16);
    total += energy;
    weighted += (at + HOP / 2) * energy;
  }
  const start = (total ? Math.floor(weighted / total) : Math.floor(samples.length / 2)) - Math.floor(length / 2);
  return Float64Array.from({length}, (_, i) => samples[start + i] ?? 0);
}

/** Powers of the frequencies of a frame. @param {Float64Array} frame */
function spectrum(frame) {
  const windowed = frame.map((value, n) => Math.floor((value * HANN[n] + HALF / 2) / HALF));
  return Float64Array.from({length: BINS}, (_, k) => {
    let real = HALF / 2, imaginary = HALF / 2;
    for (let n = 0; n < WINDOW; n++) {
      const turn = k * n % WINDOW;
      real += windowed[n] * COSINE[turn];
      imaginary += windowed[n] * COSINE[(turn + 3 * WINDOW / 4) % WINDOW];  // the sine
    }
    return Math.floor(real / HALF) ** 2 + Math.floor(imaginary / HALF) ** 2;
  });
}

/** The triangle of each band, the lowest first: the first frequency, and the weights from there. @param {number} bands */
function mel(bands) {
  const corner = (/** @type {number} */ j) => 700 * ((47 / 7) ** (j / (bands + 1)) - 1) * WINDOW / RATE;
  return Array.from({length: bands}, (_, band) => {
    const [low, centre, high] = [corner(band), corner(band + 1), corner(band + 2)], from = Math.max(0, Math.ceil(low));
    const shares = Float64Array.from({length: Math.min(BINS - 1, Math.floor(high)) - from + 1}, (_, i) => (
      Math.round(256 * Math.max(0, Math.min((from + i - low) / (centre - low), (high - from - i) / (high - centre))))
    ));
    return {from, shares};
  });
}

/** @param {number} energy */
function byteOf(energy) {
  let low = 0, high = 255;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (energy >= THRESHOLDS[middle]) low = middle + 1;
    else high = middle;
  }
  return low;
}
