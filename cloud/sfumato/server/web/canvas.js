/**
 * Pictures of the browser: photos that it decodes, and canvases that it shows.
 *
 *     const picture = await readPicture(file);      // a PictureError says why it is not read
 *     const pixels = fitPicture(picture, 64, 64);   // H * W * 3
 *     paint(canvas, pixels, 64, 64);
 *
 * The browser decodes all kinds but PNG, and sees neither EXIF nor colour profile of them; everything else is ours. What is transparent
 * lies over white.
 */

import {Picture} from "./picture.js";
import {MAX_DECODED, PictureError, checkBytes, checkSize, damaged, inspect, kindOf} from "./picture_file.js";
import {decodePng} from "./png.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */
/** @typedef {import("./picture_file.js").PictureFile} PictureFile */

/** @type {ImageBitmapOptions} */
export const AS_STORED = {colorSpaceConversion: "none", imageOrientation: "from-image", premultiplyAlpha: "none"};

/** A picture that the browser has decoded. @param {ImageBitmap} bitmap @param {number} [orientation] EXIF's @returns {Picture} */
export function pictureOf(bitmap, orientation = 1) {
  const read = (/** @type {number} */ left, /** @type {number} */ top, /** @type {number} */ width, /** @type {number} */ height) => {
    const context = canvasOf(width, height);
    context.fillRect(0, 0, width, height);
    context.drawImage(bitmap, -left, -top);
    return {data: context.getImageData(0, 0, width, height).data, start: 0, down: 4 * width, across: 4};
  };
  return new Picture(bitmap.height, bitmap.width, orientation, read, () => bitmap.close());
}

/** Decode a file, as Python does, or throw a `PictureError`. @param {Blob} blob @returns {Promise<Picture>} */
export async function readPicture(blob) {
  if (kindOf(new Uint8Array(await blob.slice(0, 32).arrayBuffer()))) checkBytes(blob.size);
  const content = new Uint8Array(await blob.arrayBuffer()), file = inspect(content);
  if (file.png) {
    const {height, width, rgb} = await decodePng(content, file);
    return Picture.ofPixels(rgb, height, width, file.orientation);
  }
  /** @type {ImageBitmap} */
  let bitmap;
  try {
    bitmap = await createImageBitmap(bare(content, file), AS_STORED);
  } catch {
    if (file.kind === "HEIF") throw new PictureError("This browser reads no HEIC: choose the photo as a JPEG", "kind");
    damaged("your browser cannot read it");
  }
  if (file.kind === "AVIF" || file.kind === "HEIF") checkSize(bitmap.height, bitmap.width, MAX_DECODED);
  else if (bitmap.height !== file.height || bitmap.width !== file.width) damaged("its size is not what it says");
  return pictureOf(bitmap, file.orientation);
}

/** The file up to the picture's end, without what browsers treat differently. @param {Bytes} content @param {PictureFile} file */
function bare(content, {kind, hidden, end}) {
  const parts = [];
  let at = 0;
  for (const [start, stop] of hidden) {
    parts.push(content.subarray(at, start));
    if (kind === "WEBP") parts.push(new Uint8Array(stop - start).fill(0x78));  // a chunk "xxxx", which nobody knows
    at = stop;
  }
  return new Blob([...parts, content.subarray(at, end)], {type: `image/${kind.toLowerCase()}`});
}

/**
 * Whether this browser gives back the pixels that were drawn. Some add noise of their own against fingerprinting: the same photo
 * would then get other noise each time, and its uploads could be averaged.
 *
 * @returns {Promise<boolean>}
 */
export async function canvasIsExact() {
  const side = 16, context = canvasOf(side, side), image = context.createImageData(side, side);
  for (let i = 0; i < image.data.length; i++) image.data[i] = i % 4 === 3 ? 255 : (37 * i + (i >> 3)) % 256;
  context.putImageData(image, 0, 0);
  const bitmap = await createImageBitmap(context.canvas, AS_STORED);
  context.fillRect(0, 0, side, side);
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, side, side).data.every((value, i) => value === image.data[i]);
}

/** A white canvas that is read more than it is shown. @param {number} width @param {number} height */
function canvasOf(width, height) {
  const canvas = Object.assign(document.createElement("canvas"), {width, height});
  const context = canvas.getContext("2d", {willReadFrequently: true});
  if (!context) throw new Error("this browser gives no canvas to draw on");
  context.imageSmoothingEnabled = false;
  context.fillStyle = "white";
  return context;
}

/** @param {HTMLCanvasElement} canvas @param {Bytes} pixels RGB, or one plane of grey @param {number} height @param {number} width */
export function paint(canvas, pixels, height, width) {
  Object.assign(canvas, {height, width});
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = context.createImageData(width, height);
  const grey = pixels.length === height * width;
  for (let i = 0; i < height * width; i++) {
    image.data.set(grey ? [pixels[i], pixels[i], pixels[i], 255] : [...pixels.subarray(3 * i, 3 * i + 3), 255], 4 * i);
  }
  context.putImageData(image, 0, 0);
}
