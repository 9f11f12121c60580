/**
 * A few seconds from the microphone, as a WAV file would hold them. The browser's own filters are off: networks learned from plain
 * recordings.
 *
 *     const recording = await record(2);    // {rate, samples}
 */

import {RATES} from "./wav_file.js";

const PLAIN = {channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false};

/** @param {number} seconds @returns {Promise<import("./wav_file.js").Recording>} */
export async function record(seconds) {
  if (!navigator.mediaDevices) throw new Error("This browser gives no access to a microphone");
  /** @type {MediaStream} */
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({audio: PLAIN});
  } catch (error) {
    throw new Error(`No microphone: ${error instanceof Error ? error.message : error}`);
  }
  const context = new AudioContext();
  try {
    const rate = context.sampleRate;
    if (!RATES.includes(rate)) throw new Error(`This microphone gives ${rate} samples a second: choose a WAV file instead`);
    await context.audioWorklet.addModule(new URL("recorder.js", import.meta.url));
    await context.resume();
    const node = new AudioWorkletNode(context, "recorder", {channelCount: 1, channelCountMode: "explicit"});
    context.createMediaStreamSource(stream).connect(node).connect(context.destination);  // it passes nothing on: no sound comes out
    return {rate, samples: await collected(node, Math.round(seconds * rate))};
  } finally {
    stream.getTracks().forEach((track) => track.stop());
    await context.close();
  }
}

/** The first samples that arrive, as whole numbers. @param {AudioWorkletNode} node @param {number} count @returns {Promise<Float64Array>} */
function collected(node, count) {
  const samples = new Float64Array(count);
  return new Promise((resolve, reject) => {
    let filled = 0;
    node.onprocessorerror = () => reject(new Error("The microphone could not be read"));
    node.port.onmessage = ({data}) => {
      for (const value of data.subarray(0, count - filled)) samples[filled++] = Math.round(32767 * Math.max(-1, Math.min(1, value)));
      if (filled === count) resolve(samples);
    };
  });
}
