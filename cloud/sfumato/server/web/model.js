/**
 * The phone's int8 model under LiteRT.js (WebAssembly, XNNPACK): the very file that ships in the app.
 *
 *     const model = await loadModel(bytes, contract, new URL("vendor/wasm/", import.meta.url).href);
 *     const {p} = await model.run(pixels);         // q, 0..255
 *
 * The Tensor class of LiteRT.js 2.5 knows no int8, so buffers are filled through the bindings below it (the version is pinned).
 */

import {loadLiteRt} from "@litertjs/core";

/** @typedef {import("./bytes.js").Bytes} Bytes */
/** @typedef {import("./contract.js").Contract} Contract */
/** @typedef {import("./contract.js").Tensor} Tensor */
/** @typedef {Awaited<ReturnType<typeof loadLiteRt>>["liteRtWasm"]} Wasm */
/** @typedef {ReturnType<Wasm["loadModel"]>} Loaded */
/** @typedef {ReturnType<Loaded["getInputTensorType"]>} TensorType */

const INT8 = 9;  // ElementType.INT8

/**
 * @param {Bytes} bytes the model file
 * @param {Contract} contract
 * @param {string} folder address of LiteRT's wasm files
 * @returns {Promise<import("./vectors.js").Model>}
 */
export async function loadModel(bytes, contract, folder) {
  const runtime = await loadLiteRt(folder);
  const wasm = runtime.liteRtWasm, environment = runtime.getDefaultEnvironment().liteRtEnvironment;
  const at = wasm._malloc(bytes.length);
  wasm.HEAPU8.set(bytes, at);  // stays there as long as the page: the model reads its weights from it
  const loaded = wasm.loadModel(environment, at, bytes.length);
  const options = {accelerator: /** @type {const} */ ("wasm"), cpuOptions: {numThreads: 1}, gpuOptions: {}, webNNOptions: {}};
  const compiled = await wasm.compileModel(environment, loaded, options);
  const names = namesOf(loaded.getSignature(0).outputNames());
  const input = loaded.getInputTensorType(0, 0);
  check(input, contract.input);
  if (names.length !== contract.outputs.length) throw new Error(`the model has ${names.length} outputs`);
  for (const output of contract.outputs) {
    if (!names.includes(output.name)) throw new Error(`the model has no output ${output.name}: it has ${names}`);
    check(loaded.getOutputTensorType(0, names.indexOf(output.name)), output);
  }
  const {HOST_MEMORY} = wasm.LiteRtTensorBufferType, {READ, WRITE} = wasm.LiteRtTensorBufferLockMode;

  /** @param {Bytes} pixels H * W * 3 */
  async function run(pixels) {
    const buffer = wasm.LiteRtTensorBuffer.createManaged(environment, HOST_MEMORY, input, pixels.length);
    try {
      wasm.HEAPU8.set(flipped(pixels), buffer.lock(WRITE));
      buffer.unlock();
      const outputs = await compiled.run(0, [buffer]);
      return Object.fromEntries(outputs.map((output, i) => {
        const start = output.lock(READ), q = flipped(wasm.HEAPU8.slice(start, start + output.packedSize()));
        output.unlock();
        output.delete();
        return [names[i], q];
      }));
    } finally {
      buffer.delete();
    }
  }

  return {contract, run};
}

/** A pixel as int8, or an int8 output as q: the top bit flipped. @param {Uint8Array} bytes @returns {Bytes} */
function flipped(bytes) {
  return Uint8Array.from(bytes, (byte) => byte ^ 0x80);
}

/** @param {{size: () => number, get: (i: number) => string, delete: () => void}} vector */
function namesOf(vector) {
  const names = Array.from({length: vector.size()}, (_, i) => String(vector.get(i)));
  vector.delete();
  return names;
}

/** @param {TensorType} type @param {Tensor} promised */
function check(type, promised) {
  const layout = type.layout(), dimensions = layout.dimensions();
  const shape = Array.from({length: dimensions.size()}, (_, i) => Number(dimensions.get(i)));
  dimensions.delete();
  layout.delete();
  if (type.elementType().value !== INT8 || String(shape) !== String(promised.shape)) {
    throw new Error(`the model's ${promised.name} is not what the contract says`);
  }
}
