/**
 * The page itself: buttons, pictures, texts. The work is done in session.js.
 *
 * A picture, or a recording where the model takes those, is perturbed as soon as it is chosen; nothing is sent before "Send the upload"
 * is pressed.
 */

import {labelsOf} from "./answer.js";
import {fromHex} from "./bytes.js";
import {canvasIsExact, paint, pictureOf, readPicture} from "./canvas.js";
import {RefusedError, ask, travelling} from "./client.js";
import {uploadSize} from "./contract.js";
import {keep, storedKey} from "./key_store.js";
import {LedgerError, sentence} from "./ledger.js";
import {openLedger} from "./ledger_store.js";
import {cellsOf, colourOf, overlaid} from "./mask.js";
import {record} from "./microphone.js";
import {KEY_BYTES} from "./noise.js";
import {brightened, noiseMap, tinted} from "./paint.js";
import {Picture, crop} from "./picture.js";
import {FULL, bitsOf} from "./sampler.js";
import {openSession, perturb} from "./session.js";
import {readWav} from "./wav_file.js";

/** @typedef {import("./noise.js").DeviceKey} DeviceKey */
/** @typedef {import("./phone.js").Perturbed} Perturbed */
/** @typedef {import("./session.js").Session} Session */

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
function part(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`the page has no ${id}`);
  return found;
}

const page = {
  status: part("status", HTMLElement),
  choose: part("choose", HTMLElement),
  chooseText: part("choose-text", HTMLElement),
  file: part("file", HTMLInputElement),
  dial: part("dial", HTMLElement),
  strength: part("strength", HTMLSelectElement),
  camera: part("camera", HTMLButtonElement),
  result: part("result", HTMLElement),
  original: part("original", HTMLCanvasElement),
  promise: part("promise", HTMLElement),
  noiseMap: part("noise-map", HTMLElement),
  noise: part("noise", HTMLCanvasElement),
  upload: part("upload", HTMLCanvasElement),
  uploadCaption: part("upload-caption", HTMLElement),
  facts: part("facts", HTMLElement),
  bits: part("bits", HTMLElement),
  unlike: part("unlike", HTMLElement),
  travels: part("travels", HTMLElement),
  account: part("account", HTMLElement),
  send: part("send", HTMLButtonElement),
  answer: part("answer", HTMLElement),
  viewfinder: part("viewfinder", HTMLDialogElement),
  video: part("video", HTMLVideoElement),
  scene: part("scene", HTMLElement),
  kept: part("kept", HTMLElement),
  shoot: part("shoot", HTMLButtonElement),
  other: part("other", HTMLButtonElement),
  settings: part("settings", HTMLDetailsElement),
  form: part("form", HTMLElement),
  asImage: part("as-image", HTMLInputElement),
  token: part("token", HTMLInputElement),
  limit: part("limit", HTMLInputElement),
  setLimit: part("set-limit", HTMLButtonElement),
  repair: part("repair", HTMLButtonElement),
  key: part("key", HTMLInputElement),
  useKey: part("use-key", HTMLButtonElement),
  newKey: part("new-key", HTMLButtonElement),
};

/** @type {Session} */
let session;
/** @type {DeviceKey} */
let deviceKey;
/** @type {import("./ledger.js").Ledger} */
let ledger;
/** @type {import("./session.js").Given | null} what was last chosen, for another key */
let chosen = null;
/** What is chosen, in words: `file` of any kind, `photo` of the kind that the model was made for. */
let words = {file: "picture", photo: "photo"};
const LISTENING_S = 2;
/** bytes of the photo; 0: unknown */
let photoSize = 0;
/** @type {Perturbed | null} */
let perturbed = null;

/** Show the state (working, ready, sent or failed) and its message. @param {string} state @param {string} message */
function showStatus(state, message) {
  page.status.dataset.state = state;
  page.status.textContent = message;
}

/** @type {Promise<void>} what is being done, and what waits for it */
let work = Promise.resolve();

/** Do one thing after the other, and show what went wrong. @param {() => Promise<void>} action */
function doing(action) {
  document.body.setAttribute("aria-busy", "true");  // at once, for what is pressed before it begins
  work = work.then(async () => {
    document.body.setAttribute("aria-busy", "true");
    try {
      await action();
    } catch (error) {
      showStatus("failed", error instanceof Error ? error.message : String(error));
      if (error instanceof RefusedError && error.status === 401) {
        page.settings.open = true;
        page.token.focus();
      }
      if (error instanceof LedgerError) {
        page.settings.open = true;
        page.repair.hidden = false;
      }
    } finally {
      document.body.removeAttribute("aria-busy");
    }
  });
}

/**
 * Do it unless something is being done: a button pressed twice sends once, and never what is not shown yet.
 *
 * @param {() => Promise<void>} action
 */
function ifIdle(action) {
  if (!document.body.hasAttribute("aria-busy")) doing(action);
}

async function start() {
  showStatus("working", "Loading the model ...");
  if (!window.isSecureContext) throw new Error("Open this page over https: browsers give keys to nothing else");
  if (!(await canvasIsExact())) {
    throw new Error("This browser alters pixels that are read from a canvas (a guard against fingerprinting): allow canvas "
      + "access for this page. With altered pixels every upload of a photo would carry other noise, and could be averaged.");
  }
  session = await openSession(document.baseURI);
  deviceKey = (await storedKey()) ?? (await newKey());
  if (session.contract.sound) saySound();
  if (session.contract.answer) sayWord();
  showPoints();
  ledger = await openLedger();
  await showAccount();
  page.status.dataset.deviation = String(session.deviation);
  for (const control of [page.file, page.camera, page.useKey, page.newKey, page.setLimit]) control.disabled = false;
  showStatus("ready", `Ready. Choose a ${words.file}: it stays on this device.`);
}

/** The strengths to choose from, each with the bits and the accuracy that were measured there. */
function showPoints() {
  const {points} = session.contract;
  if (!points) return;
  page.strength.replaceChildren(...points.map(({strength, rate_bits, accuracy}) => {
    const right = Object.entries(accuracy).map(([name, share]) => `${name} ${(100 * share).toFixed(1)} %`).join(", ");
    return new Option(`${rate_bits.mean.toFixed(1)} bits; ${right} (strength ${strength})`, String(strength));
  }));
  page.dial.hidden = false;
}

/** Perturb a picture or a recording and show the result. @param {import("./session.js").Given} given @param {number} size its bytes; 0: unknown */
async function take(given, size) {
  showStatus("working", "Perturbing ...");
  page.answer.replaceChildren();
  page.send.disabled = true;
  perturbed = null;
  if (chosen !== given) letGo();
  chosen = given;
  try {
    perturbed = await perturb(session, deviceKey, given, Number(page.strength.value) || FULL);
  } catch (error) {
    forget();
    throw error;
  }
  photoSize = size;
  const {pixels, parameters, levels} = perturbed;
  const {channel, answer, input: {shape: [, height, width]}} = session.contract;
  paint(page.original, pixels, height, width);
  if (!answer) paint(page.noise, tinted(noiseMap(channel, parameters)), ...uploadSize(session.contract));
  paint(page.upload, brightened(levels, bitsOf(channel)), ...uploadSize(session.contract));
  showUpload();
  page.result.hidden = page.send.hidden = false;
  page.send.disabled = false;
  page.send.focus();
  showStatus("ready", "Perturbed. Nothing was sent yet.");
}

/** Give back the memory of what was chosen. */
function letGo() {
  if (chosen instanceof Picture) chosen.close();
}

/** Nothing of the last picture stays, on the page or in memory, and nothing can be sent. */
function forget() {
  letGo();
  chosen = perturbed = null;
  photoSize = 0;
  page.send.disabled = true;
  page.result.hidden = page.send.hidden = page.unlike.hidden = true;
  for (const canvas of [page.original, page.noise, page.upload]) canvas.width = canvas.height = 0;
  for (const text of [page.facts, page.bits, page.answer, page.travels]) text.replaceChildren();
}

/** What will be sent, in figures and words. */
function showUpload() {
  if (!perturbed) return;
  const {word, rate, unlike, milliseconds} = perturbed, {answer} = session.contract, bound = meanBound();
  const size = bytes(travelling(session, perturbed, page.asImage.checked).content.length);
  showFacts({
    [words.photo[0].toUpperCase() + words.photo.slice(1)]: photoSize ? bytes(photoSize) : "not counted",
    "Upload": size,
    ...(answer ? {"Code word": `${word} of 0 to ${answer.words - 1}`} : {}),
    ...(rate === null ? {} : {"Rate of this upload": `at most ${rate.toFixed(1)} bits`}),
    ...(bound === null ? {} : {"Bound for all photos": `at most ${bound.toFixed(1)} bits on average`}),
    "Perturbed in": `${milliseconds.toFixed(1)} ms`,
  });
  page.bits.textContent = aboutBits(rate, bound);
  if (word !== null) {
    const said = labelsOf(session.contract, word).map(({name, label}) => `${name}: ${label}`).join(", ");
    const form = page.asImage.checked ? " as an image" : "";
    page.travels.textContent = `What travels is the number ${word}${form} in ${size}, which says ${said}, and nothing else `
      + `of the ${words.photo}${answer?.table ? "; it was drawn so that it is not always this device's own answer" : ""}.`;
  }
  page.unlike.hidden = !unlike;
  page.send.textContent = `Send the ${answer ? "code word" : "upload"}${unlike ? " anyway" : ""} (${size})`;
}

/** What uploads tell at most, on average over the maker's test photos at this strength; null where it was not measured. */
function meanBound() {
  const {answer, points, figures} = session.contract;
  if (answer) return answer.entropy_bits;
  const point = points?.find(({strength}) => strength === Number(page.strength.value));
  if (point) return point.rate_bits.mean;
  const mean = /** @type {{rate_bits?: {mean?: {int8?: unknown}}} | undefined} */ (figures)?.rate_bits?.mean?.int8;
  return typeof mean === "number" ? mean : null;
}

/** The two figures in bits, in words. @param {number | null} rate @param {number | null} bound */
function aboutBits(rate, bound) {
  const {answer} = session.contract;
  if (answer) {
    return `Any word is one of ${answer.words}, so it tells at most ${Math.log2(answer.words).toFixed(1)} bits of a ${words.photo}. The bound is the `
      + `entropy of the words of the maker's test ${words.photo}s: what a word tells on average.`;
  }
  const texts = [];
  if (rate !== null) {
    texts.push(`The rate is computed here from this ${words.photo} alone, shows how far its upload is from pure noise, and is not sent: it `
      + `depends on the ${words.photo}. The account counts it.`);
  }
  if (bound !== null) {
    texts.push(`The bound is the mean rate of the maker's test ${words.photo}s: on average over them no reader learns more from an upload. `
      + `One ${words.photo}'s rate may be above it. The report of the audit may show a tighter bound (leakage bound).`);
  }
  return texts.join(" ");
}

/** A bundle that takes recordings: a WAV file or the microphone in place of pictures and the camera. */
function saySound() {
  words = {file: "recording", photo: "recording"};
  page.promise.textContent = "Your recording is perturbed here, in this browser, as a picture of its sound. Only the perturbed one is sent.";
  page.choose.setAttribute("aria-label", "Choose a recording");
  page.chooseText.textContent = "Choose a WAV file";
  page.file.accept = ".wav,audio/wav";
  page.camera.textContent = `Record ${LISTENING_S} seconds`;
  page.original.setAttribute("aria-label", "What the model sees of the recording: time from left to right, high tones above");
  page.unlike.textContent = "This recording looks like none of those that this model was made for: its answer means nothing, however sure "
    + "it sounds. This was found in this browser and is not sent.";
}

/** An answer bundle: there is no noise to show, and what is sent is a number. */
function sayWord() {
  page.promise.textContent = `Your ${words.photo} is answered here, in this browser. Only the code word of that answer is sent.`;
  page.uploadCaption.replaceChildren("Code word ", element("span", "as a picture"));
  page.upload.setAttribute("aria-label", "The code word as a picture");
  page.noiseMap.hidden = true;
  page.travels.hidden = false;
  page.form.hidden = false;
}

async function send() {
  if (!perturbed) return;
  showStatus("working", "Sending ...");
  // Counted first: what the service may have is in the account, whatever becomes of the answer.
  page.account.textContent = sentence(await ledger.spend(location.hostname, perturbed.draw, perturbed.rate));
  const sent = travelling(session, perturbed, page.asImage.checked);
  const {answers, milliseconds} = await ask(session, sent, page.token.value.trim());
  page.answer.replaceChildren(...Object.entries(answers).map(([name, {label, probabilities, value, mask}]) => {
    const list = document.createElement("dl");
    for (const [option, probability] of Object.entries(probabilities)) {
      const term = element("dt", option), share = element("dd", `${(100 * probability).toFixed(1)} %`);
      const bar = Object.assign(document.createElement("meter"), {value: probability});
      bar.setAttribute("aria-hidden", "true");
      share.prepend(bar);
      list.append(term, share);
    }
    const section = document.createElement("section");
    const drawn = mask ? maskOf(name, mask) : null;
    section.append(element("h3", drawn ? name : `${name}: ${value === undefined ? label : value.toFixed(1)}`), ...(drawn ? [drawn] : []), list);
    section.dataset.label = label;
    return section;
  }));
  showStatus("sent", `Sent ${bytes(sent.content.length)} and nothing else; answered in ${milliseconds.toFixed(0)} ms.`);
}

/** The photo with a mask over it, and what its colours mean. @param {string} name @param {number[]} runs */
function maskOf(name, runs) {
  const kept = session.contract.keep.find((one) => one.name === name);
  const cells = kept?.grid && cellsOf(runs, kept.grid, kept.classes.length);
  if (!perturbed || !kept?.grid || !cells) return null;
  const {input: {shape: [, height, width]}} = session.contract;
  const figure = document.createElement("figure"), canvas = document.createElement("canvas");
  figure.className = "mask";
  paint(canvas, overlaid(perturbed.pixels, height, width, cells, kept.grid), height, width);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Where in the ${words.photo} the service finds: ${kept.classes.slice(1).join(", ")}`);
  const caption = document.createElement("figcaption");
  kept.classes.forEach((label, i) => {
    const colour = colourOf(i);
    if (!colour || !cells.includes(i)) return;
    const mark = element("span", label);
    mark.style.borderBottom = `3px solid rgb(${colour.join(" ")})`;
    caption.append(mark, " ");
  });
  figure.append(canvas, caption);
  return figure;
}

/** What was sent by now, in words. */
async function showAccount() {
  const account = await ledger.account(location.hostname), {day} = account.limit;
  page.account.textContent = sentence(account);
  page.limit.value = day === null ? "" : String(day / 1e6);
}

async function setLimit() {
  const text = page.limit.value.trim(), bits = text === "" ? null : Number(text);
  await ledger.setLimit(location.hostname, bits, (await ledger.account(location.hostname)).limit.total);
  await showAccount();
  showStatus("ready", bits === null ? "There is no limit now." : `No more than ${bits} bits a day will be sent from this browser.`);
}

async function repair() {
  await ledger.repair();
  location.reload();
}

/** @param {Record<string, string>} facts */
function showFacts(facts) {
  page.facts.replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

/** @param {string} tag @param {string} text */
function element(tag, text) {
  return Object.assign(document.createElement(tag), {textContent: text});
}

/** @param {number} number */
function count(number) {
  return number.toLocaleString("en");
}

/** @param {number} number */
function bytes(number) {
  return `${count(number)} ${number === 1 ? "byte" : "bytes"}`;
}

/** @param {Blob} file */
async function takeFile(file) {
  showStatus("working", `Reading the ${words.file} ...`);
  forget();  // before the new one is read: it may be none
  const given = session.contract.sound ? readWav(new Uint8Array(await file.arrayBuffer())) : await readPicture(file);
  await take(given, file.size);
}

async function listen() {
  showStatus("working", `Listening for ${LISTENING_S} seconds ...`);
  forget();
  await take(await record(LISTENING_S), 0);
}

/** The side that the camera last used looks to: a phone's front first. */
let facing = "user";

async function openCamera() {
  await startCamera({facingMode: facing});
  const devices = await navigator.mediaDevices.enumerateDevices();
  page.other.hidden = devices.filter(({kind}) => kind === "videoinput").length < 2;
  page.viewfinder.showModal();
}

/** @param {MediaTrackConstraints} video */
async function startCamera(video) {
  if (!navigator.mediaDevices) throw new Error("This browser gives no access to a camera");
  stopCamera();  // a phone opens one at a time
  try {
    page.video.srcObject = await navigator.mediaDevices.getUserMedia({video});
  } catch (error) {
    page.viewfinder.close();
    throw new Error(`No camera: ${error instanceof Error ? error.message : error}`);
  }
  // Cameras that do not say where they look are those of computers, and look at who sits there.
  page.scene.classList.toggle("mirrored", settings()?.facingMode !== "environment");
}

/** Of the camera that is open. */
function settings() {
  const stream = page.video.srcObject;
  return stream instanceof MediaStream ? stream.getVideoTracks()[0]?.getSettings() : undefined;
}

/** The camera on the other side; of several that do not say where they look, the next. */
async function otherCamera() {
  const before = settings()?.deviceId;
  facing = facing === "user" ? "environment" : "user";
  await startCamera({facingMode: facing});
  if (settings()?.deviceId !== before) return;
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(({kind}) => kind === "videoinput");
  const next = cameras[(cameras.findIndex(({deviceId}) => deviceId === before) + 1) % cameras.length];
  if (next && next.deviceId !== before) await startCamera({deviceId: {exact: next.deviceId}});
}

/** The part of the camera's picture that is kept, where it lies. */
function frameKept() {
  const {videoHeight, videoWidth} = page.video, {input: {shape: [, height, width]}} = session.contract;
  page.shoot.disabled = !videoWidth;
  if (!videoWidth) return;
  const box = crop(videoHeight, videoWidth, height, width), share = (/** @type {number} */ part, /** @type {number} */ all) => `${(100 * part) / all}%`;
  Object.assign(page.kept.style, {
    left: share(box.left, videoWidth), width: share(box.width, videoWidth), top: share(box.top, videoHeight), height: share(box.height, videoHeight),
  });
}

function stopCamera() {
  const stream = page.video.srcObject;
  if (stream instanceof MediaStream) stream.getTracks().forEach((track) => track.stop());
  page.video.srcObject = null;
  page.shoot.disabled = true;
}

async function shoot() {
  const picture = pictureOf(await createImageBitmap(page.video));
  page.viewfinder.close();
  await take(picture, 0);
}

/** @returns {Promise<DeviceKey>} */
function newKey() {
  return keep(crypto.getRandomValues(new Uint8Array(KEY_BYTES)));
}

/** Another key, and with it another upload of the picture at hand. @param {() => Promise<DeviceKey>} find */
async function changeKey(find) {
  deviceKey = await find();
  page.key.value = "";
  showStatus("ready", "This browser now uses that key.");
  if (chosen) await take(chosen, 0);
}

page.file.addEventListener("change", () => {
  const [file] = page.file.files ?? [];
  if (file) doing(() => takeFile(file));
  page.file.value = "";  // the same file again must be a change
});
for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());
document.addEventListener("dragover", () => page.choose.classList.add("over"));
document.addEventListener("dragleave", () => page.choose.classList.remove("over"));
document.addEventListener("drop", (event) => {
  page.choose.classList.remove("over");
  const [file] = event.dataTransfer?.files ?? [];
  if (file && !page.file.disabled) doing(() => takeFile(file));
});
page.asImage.addEventListener("change", showUpload);
page.strength.addEventListener("change", () => doing(async () => { if (chosen) await take(chosen, photoSize); }));
page.send.addEventListener("click", () => ifIdle(send));
page.camera.addEventListener("click", () => ifIdle(session.contract.sound ? listen : openCamera));
page.shoot.addEventListener("click", () => ifIdle(shoot));
page.other.addEventListener("click", () => ifIdle(otherCamera));
for (const name of ["loadedmetadata", "resize"]) page.video.addEventListener(name, frameKept);  // a phone may be turned
page.viewfinder.addEventListener("close", stopCamera);
page.useKey.addEventListener("click", () => doing(() => changeKey(() => keep(fromHex(page.key.value.trim())))));
page.setLimit.addEventListener("click", () => doing(setLimit));
page.repair.addEventListener("click", () => doing(repair));
page.newKey.addEventListener("click", () => doing(() => changeKey(newKey)));
doing(start);
