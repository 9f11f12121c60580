/**
 * contract.json as the page reads it (docs/contract.md). What it does not know, it refuses.
 *
 *     const contract = parseContract(text);
 *     const entry = fileOf(contract, modelOf(contract).file);
 *
 * @typedef {object} Channel
 * @property {string} name
 * @property {number} [levels]
 * @property {boolean} [additive]
 * @property {number} [largest_scale]
 *
 * @typedef {{name: string, shape: number[], int8_scale: number, int8_zero_point: number}} Tensor
 * @typedef {{name: string, sha256: string, bytes: number}} File
 *
 * @typedef {object} Contract
 * @property {string} schema
 * @property {File[]} files
 * @property {Tensor} input
 * @property {Tensor[]} outputs
 * @property {{variant: string, file: string}[]} models
 * @property {Channel} channel
 * @property {number} sampler
 * @property {number} noise
 * @property {{name: string, classes: string[]}[]} keep
 */

const KNOWN = {schema: "sfumato-contract/1", sampler: 1, noise: 1};

/** @param {string} text @returns {Contract} */
export function parseContract(text) {
  const contract = /** @type {Contract & Record<string, unknown>} */ (JSON.parse(text));
  for (const [name, value] of Object.entries(KNOWN)) {
    if (contract[name] !== value) throw new Error(`the contract's ${name} is ${contract[name]}, this page knows ${value}`);
  }
  const {input, outputs, channel} = contract;
  if (!["dither", "gaussian"].includes(channel.name)) throw new Error(`this page knows no channel ${channel.name}`);
  const pixels = Math.abs(input.int8_scale * 255 - 1) < 1e-6 && input.int8_zero_point === -128;
  const probabilities = outputs.every((entry) => entry.int8_scale * 256 === 1 && entry.int8_zero_point === -128);
  if (!pixels || !probabilities) throw new Error("the contract's scales are not those that this page computes with");
  return contract;
}

/** @param {Contract} contract */
export function modelOf(contract) {
  const found = contract.models.find((model) => model.variant === "int8");
  if (!found) throw new Error("this export holds no int8 model");
  return found;
}

/** @param {Contract} contract @param {string} name */
export function fileOf(contract, name) {
  const found = contract.files.find((file) => file.name === name);
  if (!found) throw new Error(`the contract does not list ${name}`);
  return found;
}
