/**
 * Answer mode, version 1 (docs/contract.md, "Answer"): what travels is the code word of the phone's own decision. Scores are
 * bytes q = int8 + 128, those of all attributes one after the other; everything is computed in integers, as in Python.
 *
 *     const decision = decide(q, [9, 2]);
 *     const word = table ? drawWord(rowOf(table, stateOf(decision, [9, 2], margins), 18), noise) : plainWord(decision, [9, 2]);
 *     const upload = wordBytes(word, 18);
 */

/** @typedef {import("./bytes.js").Bytes} Bytes */
/** @typedef {import("./contract.js").Contract} Contract */
/** @typedef {{first: number, second: number, margin: number}[]} Decision an attribute each: best class, runner-up, distance */

export const NOISE_BYTES = 2;
const GRID = 4;
const TOTAL = 65536;

/**
 * Best class, runner-up and margin of every attribute; of equal scores the first counts.
 *
 * @param {Uint8Array} q
 * @param {number[]} classes class count of each attribute
 * @returns {Decision}
 */
export function decide(q, classes) {
  const sum = classes.reduce((total, count) => total + count, 0);
  if (q.length !== sum) throw new Error(`a decision needs ${sum} scores, not ${q.length}`);
  let start = 0;
  return classes.map((count) => {
    const part = q.subarray(start, start + count);
    start += count;
    const first = part.indexOf(Math.max(...part));
    const rest = Int16Array.from(part, (score, i) => (i === first ? -1 : score)), second = rest.indexOf(Math.max(...rest));
    return {first, second, margin: part[first] - part[second]};
  });
}

/** The word without a table: the best classes in mixed radix. @param {Decision} decision @param {number[]} classes */
export function plainWord(decision, classes) {
  return mixed(decision.map(({first}) => first), classes);
}

/**
 * The row of the table that a decision falls into.
 *
 * @param {Decision} decision
 * @param {number[]} classes
 * @param {number[]} margins increasing int8 steps; a margin lies in bin b if it reaches b of them
 */
export function stateOf(decision, classes, margins) {
  const bins = margins.length + 1;
  const digits = decision.map(({first, second, margin}, i) => {
    const place = second < first ? second : second - 1, bin = margins.filter((step) => step <= margin).length;
    return (first * (classes[i] - 1) + place) * bins + bin;
  });
  return mixed(digits, classes.map((count) => count * (count - 1) * bins));
}

/**
 * answer_table.bin: a row of cumulative counts out of 65,536 for every state.
 *
 * @param {Bytes} bytes
 * @param {number[]} classes
 * @param {number[]} margins
 * @returns {Uint32Array}
 */
export function readTable(bytes, classes, margins) {
  const words = classes.reduce((product, count) => product * count, 1);
  const states = classes.reduce((product, count) => product * count * (count - 1) * (margins.length + 1), 1);
  if (bytes.length !== 4 * states * words) throw new Error(`answer_table.bin has ${bytes.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const table = Uint32Array.from({length: states * words}, (_, i) => view.getUint32(4 * i, true));
  table.forEach((count, i) => {
    const rises = i % words === 0 || count >= table[i - 1], whole = i % words < words - 1 || count === TOTAL;
    if (!rises || !whole) throw new Error(`answer_table.bin: a row's counts do not rise to ${TOTAL}`);
  });
  return table;
}

/** @param {Uint32Array} table @param {number} state @param {number} words @returns {Uint32Array} */
export function rowOf(table, state, words) {
  return table.subarray(state * words, (state + 1) * words);
}

/** The word that two noise bytes choose: how many counts do not exceed them. @param {ArrayLike<number>} row @param {Bytes} noise */
export function drawWord(row, noise) {
  const u = noise[0] + 256 * noise[1];
  return Array.from(row).filter((count) => count <= u).length;
}

/**
 * The word of a bundle for its scores: what travels.
 *
 * @param {Contract} contract of an answer bundle
 * @param {Bytes} q scores
 * @param {Bytes} noise two bytes
 * @param {Uint32Array | null} table of a randomised answer
 */
export function wordOf({keep, answer}, q, noise, table) {
  if (!answer) throw new Error("this export has no code words");
  const classes = keep.map((entry) => entry.classes.length), decision = decide(q, classes);
  if (answer.table && !table) throw new Error(`a randomised answer needs ${answer.table}`);
  return table ? drawWord(rowOf(table, stateOf(decision, classes, answer.margins), answer.words), noise) : plainWord(decision, classes);
}

/** What a word says: a class of every kept attribute, by name. @param {Contract} contract @param {number} word */
export function labelsOf({keep}, word) {
  return [...keep].reverse().map(({name, classes}) => {
    const label = classes[word % classes.length];
    word = Math.floor(word / classes.length);
    return {name, label};
  }).reverse();
}

/** A word as it travels: one byte up to 256 words, else two, the first more significant. @param {number} word @param {number} words */
export function wordBytes(word, words) {
  demand(word, words);
  return new Uint8Array(words <= 256 ? [word] : [word >> 8, word & 255]);
}

/**
 * The word as an image: 4 x 4 cells a colour, cell (row * 4 + column) * 3 + colour shows bit `cell mod n` of n, the first bit the
 * most significant.
 *
 * @param {number} word
 * @param {number} words
 * @param {number} height
 * @param {number} width
 * @returns {Bytes} H * W * 3 levels, 0 or 1
 */
export function wordImage(word, words, height, width) {
  demand(word, words);
  const bits = 32 - Math.clz32(words - 1);
  return new Uint8Array(height * width * 3).map((_, i) => {
    const x = Math.floor(i / 3) % width, y = Math.floor(i / (3 * width));
    const cell = (Math.floor((y * GRID) / height) * GRID + Math.floor((x * GRID) / width)) * 3 + (i % 3);
    return (word >> (bits - 1 - (cell % bits))) & 1;
  });
}

/** @param {number} word @param {number} words */
function demand(word, words) {
  if (!(word >= 0 && word < words)) throw new Error(`there is no word ${word}: this model has the words 0 to ${words - 1}`);
}

/** Digits as a number of mixed radix, the first most significant. @param {number[]} digits @param {number[]} bases */
function mixed(digits, bases) {
  return digits.reduce((number, digit, i) => number * bases[i] + digit, 0);
}
