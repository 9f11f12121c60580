/**
 * Noise and sampler of the page under node, for tests that compare languages. No package is needed, node 20 is enough.
 *
 *     node cloud/vectors_cli.js check export/vectors.json [normal_table.bin]
 *         what this JavaScript computes differently, one sentence a line; exit code 1 if anything
 *     node cloud/vectors_cli.js upload [normal_table.bin] < cases.jsonl
 *         a case of the list `upload` of vectors.json a line (`pixels` in hexadecimal may stand for `pattern`, `height` and `width`),
 *         with `strength` also `gates`, `height` and `width` -> {"noise": hex, "packed": hex} a line
 *     node cloud/vectors_cli.js answer < cases.jsonl
 *         a case of the list `answer` a line -> {"decision", "word", "bytes", "packed"}, with a table also "state", a line
 *     node cloud/vectors_cli.js index < cases.jsonl
 *         a case of the list `index` a line -> {"index", "levels", "rate_bits"} a line
 *     node cloud/vectors_cli.js sound < cases.jsonl
 *         {"wav": base64, "height", "width"} -> {"picture": hex}, one plane, or {"refusal"} a line
 *     node cloud/vectors_cli.js familiar < cases.jsonl
 *         {"pixels": hex, "height", "width", "figures" of a contract} -> {"features", "distance", "unlike"} a line, or {"refusal"};
 *         without limits among the figures "unlike" is null and there is no distance
 */

import {readFileSync} from "node:fs";

import {fromHex, toHex} from "./sfumato/server/web/bytes.js";
import {distance, features, readLimits, unlike} from "./sfumato/server/web/familiar.js";
import {importKey} from "./sfumato/server/web/noise.js";
import {answer, checkVectors, index, picture, sound, upload} from "./sfumato/server/web/vectors.js";

/** @param {string | undefined} path */
function readTable(path) {
  return path ? new Int16Array(new Uint8Array(readFileSync(path)).buffer) : null;
}

/** @returns {import("./sfumato/server/web/vectors.js").Case[]} one a line of standard input */
function readCases() {
  return readFileSync(0, "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line));
}

/** @param {import("./sfumato/server/web/vectors.js").Case} entry */
function familiar({pixels, height, width, figures}) {
  try {
    const limits = readLimits(figures), picture = fromHex(pixels), found = {features: features(picture, height, width)};
    if (!limits) return {...found, unlike: null};
    return {...found, distance: distance(limits, picture, height, width), unlike: unlike(limits, picture, height, width)};
  } catch (error) {
    return {refusal: error instanceof Error ? error.message : String(error)};
  }
}

/** @param {import("./sfumato/server/web/vectors.js").Case} entry */
function heard(entry) {
  try {
    return {picture: toHex(sound(entry))};
  } catch (error) {
    return {refusal: error instanceof Error ? error.message : String(error)};
  }
}

const [command, ...files] = process.argv.slice(2);
if (command === "check") {
  const vectors = JSON.parse(readFileSync(files[0], "utf8"));
  const {problems} = await checkVectors(vectors, readTable(files[1]), null);
  problems.forEach((problem) => console.log(problem));
  process.exitCode = problems.length ? 1 : 0;
} else if (command === "upload") {
  const table = readTable(files[0]);
  for (const entry of readCases()) {
    const {pattern, height, width} = entry;
    const pixels = entry.pixels ? fromHex(entry.pixels) : await picture(pattern, height, width);
    const {noise, packed} = await upload(entry, pixels, await importKey(fromHex(entry.key)), table);
    console.log(JSON.stringify({noise: toHex(noise), packed: toHex(packed)}));
  }
} else if (command === "answer") {
  for (const entry of readCases()) console.log(JSON.stringify(answer(entry)));
} else if (command === "index") {
  for (const entry of readCases()) console.log(JSON.stringify(index(entry)));
} else if (command === "sound") {
  for (const entry of readCases()) console.log(JSON.stringify(heard(entry)));
} else if (command === "familiar") {
  for (const entry of readCases()) console.log(JSON.stringify(familiar(entry)));
} else {
  console.error("vectors_cli: give check VECTORS [TABLE], or upload [TABLE], answer, index, sound or familiar with cases on standard input");
  process.exitCode = 2;
}
