/** Runs beside the page's own thread and hands on what the microphone hears (`microphone.js`), block by block. */

const {AudioWorkletProcessor, registerProcessor} = /** @type {any} */ (globalThis);

class Recorder extends AudioWorkletProcessor {
  /** @param {Float32Array[][]} inputs of one channel */
  process([[heard]]) {
    if (heard) this.port.postMessage(heard.slice());  // the browser fills the block again
    return true;
  }
}

registerProcessor("recorder", Recorder);
