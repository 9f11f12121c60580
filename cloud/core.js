/**
 * What the browser page computes with, as a library for others (docs/javascript.md): the very modules that it serves, without its
 * document, its storage and its interpreter. `npm pack` in cloud/npm makes the package sfumato-core of them.
 *
 *     import {openPhone, perturb, ask, travelling} from "sfumato-core";
 */

export {decide, drawWord, labelsOf, plainWord, readTable, stateOf, wordBytes, wordImage, wordOf} from "./sfumato/server/web/answer.js";
export {equal, fromBase64, fromHex, sha256, toHex} from "./sfumato/server/web/bytes.js";
export {RefusedError, ask, travelling} from "./sfumato/server/web/client.js";
export {fileOf, modelOf, parseContract, uploadSize} from "./sfumato/server/web/contract.js";
export {distance, features, readLimits, unlike} from "./sfumato/server/web/familiar.js";
export {Ledger, LedgerError, LimitError, drawId, ledgerKey, sentence} from "./sfumato/server/web/ledger.js";
export {codeOf, drawIndex, indexRate, levelsOf, noiseOf} from "./sfumato/server/web/index_code.js";
export {cellsOf, overlaid} from "./sfumato/server/web/mask.js";
export {KEY_BYTES, importKey, keyedNoise, parameterBytes} from "./sfumato/server/web/noise.js";
export {brightened, noiseMap, tinted} from "./sfumato/server/web/paint.js";
export {openPhone, perturb} from "./sfumato/server/web/phone.js";
export {Picture, fit, fitPicture} from "./sfumato/server/web/picture.js";
export {PictureError, inspect} from "./sfumato/server/web/picture_file.js";
export {decodePng} from "./sfumato/server/web/png.js";
export {FULL, atStrength, bitsOf, dither, draw, gaussian, noiseBytes, pack, rateOf} from "./sfumato/server/web/sampler.js";
export {RECIPE, logMel, soundPixels} from "./sfumato/server/web/sound.js";
export {checkVectors, picture} from "./sfumato/server/web/vectors.js";
export {WavError, readWav} from "./sfumato/server/web/wav_file.js";
