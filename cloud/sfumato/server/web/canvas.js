/**
 * Pictures of the browser: photos that it decodes, and canvases that it shows.
 *
 *     const pixels = fit(await createImageBitmap(file, AS_STORED), 64, 64);    // H * W * 3
 *     paint(canvas, pixels, 64, 64);
 *
 * The browser decodes; everything after that is ours. Colour profiles are not applied, transparent pixels lie over white.
 */

import {BAND, crop, resize} from "./picture.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */

/** @type {ImageBitmapOptions} */
export const AS_STORED = {colorSpaceConversion: "none", imageOrientation: "from-image", premultiplyAlpha: "none"};

/**
 * Crop around the centre, then resize with an antialiased bilinear filter.
 *
 * @param {ImageBitmap} bitmap
 * @param {number} height
 * @param {number} width
 * @returns {Bytes}
 */
export function fit(bitmap, height, width) {
  const box = crop(bitmap.height, bitmap.width, height, width);
  const context = canvasOf(box.width, Math.min(BAND, box.height));
  return resize(box, height, width, 4, (top, rows) => {
    context.fillRect(0, 0, box.width, rows);
    context.drawImage(bitmap, -box.left, -box.top - top);
    return context.getImageData(0, 0, box.width, rows).data;
  });
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

/** @param {HTMLCanvasElement} canvas @param {Bytes} pixels RGB @param {number} height @param {number} width */
export function paint(canvas, pixels, height, width) {
  Object.assign(canvas, {height, width});
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = context.createImageData(width, height);
  for (let i = 0; i < height * width; i++) image.data.set([...pixels.subarray(3 * i, 3 * i + 3), 255], 4 * i);
  context.putImageData(image, 0, 0);
}
