/**
 * What the page does, without the page: load the phone's half, perturb a picture, ask the service about the upload.
 *
 *     const session = await openSession(document.baseURI);
 *     const perturbed = await perturb(session, key, await readPicture(file));
 *     const reply = await ask(session, travelling(session, perturbed, false), token);
 *
 * Everything comes from the service's own address, and only `ask` sends anything.
 */

import {get} from "./client.js";
import {loadModel} from "./model.js";
import {openPhone, perturb as perturbPixels} from "./phone.js";
import {fitPicture} from "./picture.js";
import {soundPixels} from "./sound.js";

/** @typedef {import("./phone.js").Phone & {base: string}} Session with the page's address */
/** @typedef {import("./picture.js").Picture | import("./wav_file.js").Recording} Given a picture, or a recording where the contract has `sound` */

/** Load and check the phone's half of the export. @param {string} base @returns {Promise<Session>} */
export async function openSession(base) {
  const wasm = new URL("page/vendor/wasm/", base).href;
  const phone = await openPhone(
    (name) => get(base, name === "contract.json" ? "v1/contract" : `v1/phone/${name}`),
    (weights, contract) => loadModel(weights, contract, wasm),
  );
  return {...phone, base};
}

/**
 * Crop and resize, or compute the picture of a recording, then what `perturb` of phone.js does; the time is that of both.
 *
 * @param {Session} session
 * @param {import("./noise.js").DeviceKey} key
 * @param {Given} given
 * @param {number} [strength] of one of the contract's points
 * @returns {Promise<import("./phone.js").Perturbed>}
 */
export async function perturb(session, key, given, strength) {
  const start = performance.now(), [, height, width] = session.contract.input.shape;
  const pixels = "samples" in given ? soundPixels(given, height, width) : fitPicture(given, height, width);
  const perturbed = await perturbPixels(session, key, pixels, strength);
  return {...perturbed, milliseconds: performance.now() - start};
}
