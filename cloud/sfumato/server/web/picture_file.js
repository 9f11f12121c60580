/**
 * What a picture file says of itself, read before anything is decoded: kind, size, orientation, and whether it is whole. The same
 * rules as in Python (`sfumato.core.picture_file`) and in the app (`PictureFile.kt`): docs/contract.md, "Picture to input".
 *
 *     const file = inspect(new Uint8Array(await blob.arrayBuffer()));
 *     file.orientation
 *
 * Browsers agree on sound files and not on odd ones: some turn a picture by XMP or not at all, some show half a file.
 */

/** @typedef {import("./bytes.js").Bytes} Bytes */
/** @typedef {"JPEG" | "PNG" | "GIF" | "BMP" | "WEBP" | "AVIF" | "HEIF"} Kind */
/** @typedef {"kind" | "size" | "form" | "damaged"} Reason */

/**
 * What stands in a file beside its pixels. Sizes are as stored, before any turn; 0 where only a decoder can say.
 *
 * @typedef {object} PictureFile
 * @property {Kind} kind
 * @property {number} height
 * @property {number} width
 * @property {number} orientation EXIF's, 1 to 8; 1 where the browser's decoder turns by the container (AVIF, HEIF)
 * @property {Range[]} hidden parts that no decoder may see: EXIF and colour profiles, with which browsers do different things
 * @property {number} end of the picture; what follows is not looked at
 * @property {Png | null} png
 *
 * @typedef {[number, number]} Range start and end of some bytes
 *
 * @typedef {object} Png
 * @property {number} depth @property {number} colour @property {boolean} laced
 * @property {Range | null} palette @property {Range | null} clear the chunks PLTE and tRNS
 * @property {Range[]} parts of the compressed pixels
 * @property {number} left of the frame that is shown, on the picture
 * @property {number} top @property {number} width @property {number} height
 */

export const MAX_BYTES = 160_000_000;
export const MAX_PIXELS = 250_000_000;  // of a JPEG
export const MAX_DECODED = 50_000_000;  // of every other kind
const MAX_SCANNED = 1_200_000_000;  // pixels times scans of a JPEG in several scans
const MAX_SIDE = 32_767;

/** A picture that is not read. */
export class PictureError extends Error {
  /** @param {string} message @param {Reason} reason */
  constructor(message, reason) {
    super(message);
    this.reason = reason;
  }
}

/** Read a file's structure, or throw a `PictureError`. @param {Bytes} content @returns {PictureFile} */
export function inspect(content) {
  const kind = kindOf(content);
  if (!kind) throw new PictureError("This is no picture of a kind that is read here (JPEG, PNG, WebP, GIF, BMP, AVIF)", "kind");
  checkBytes(content.length);
  const read = {JPEG: jpeg, PNG: png, GIF: gif, BMP: bmp, WEBP: webp, AVIF: avif, HEIF: avif}[kind];
  try {
    return {orientation: 1, hidden: [], end: content.length, png: null, ...read(content, view(content)), kind};
  } catch (error) {
    if (error instanceof RangeError) cut();  // the file ends within a header
    throw error;
  }
}

/** By the first bytes; the name's ending means nothing. @param {Bytes} content @returns {Kind | null} */
export function kindOf(content) {
  const head = content.subarray(0, 32), starts = (/** @type {string} */ text, at = 0) => textAt(head, at, text.length) === text;
  if (starts("\xff\xd8\xff")) return "JPEG";
  if (starts("\x89PNG\r\n\x1a\n")) return "PNG";
  if (starts("GIF87a") || starts("GIF89a")) return "GIF";
  if (starts("RIFF") && starts("WEBP", 8)) return "WEBP";
  if (starts("BM")) return "BMP";
  if (!starts("ftyp", 4)) return null;
  const brands = brandsOf(content);
  if (brands.includes("avif") || brands.includes("avis")) return "AVIF";
  return "heic heix hevc heim heis mif1 msf1".split(" ").includes(brands[0]) ? "HEIF" : null;
}

/** Of an ISO file, its own first. @param {Bytes} content */
function brandsOf(content) {
  const head = content.subarray(0, 32), brands = [textAt(head, 8, 4)], end = Math.min(head.length, view(head).getUint32(0));
  for (let at = 16; at < end; at += 4) brands.push(textAt(head, at, 4));
  return brands;
}

/** @param {number} count bytes of a file */
export function checkBytes(count) {
  if (count > MAX_BYTES) throw new PictureError(`The file has ${count} bytes, more than the ${MAX_BYTES} allowed`, "size");
}

/** @param {number} height @param {number} width @param {number} most pixels */
export function checkSize(height, width, most) {
  if (height * width > most) throw new PictureError(`The picture has ${width} x ${height} pixels, more than the ${most} allowed`, "size");
  if (Math.max(height, width) > MAX_SIDE) {
    throw new PictureError(`The picture has ${width} x ${height} pixels, a side of more than the ${MAX_SIDE} allowed`, "size");
  }
}

/** @returns {never} */
export function cut() {
  throw new PictureError("The end of the picture is missing: copy it again", "damaged");
}

/** @param {string} what @returns {never} */
export function damaged(what) {
  throw new PictureError(`The picture is damaged (${what}): copy it again`, "damaged");
}

/** Of an EXIF block without its `Exif\0\0`: 1 to 8; 1 where it says none, or not as SHORT. @param {Bytes} block */
export function exifOrientation(block) {
  const magic = textAt(block, 0, 4), little = magic === "II*\0", data = view(block);
  if ((!little && magic !== "MM\0*") || block.length < 10) return 1;
  const start = data.getUint32(4, little);
  if (start + 2 > block.length) return 1;
  const end = Math.min(start + 2 + 12 * data.getUint16(start, little), block.length - 11);
  for (let at = start + 2; at < end; at += 12) {
    if (data.getUint16(at, little) !== 0x0112) continue;
    const value = data.getUint16(at + 8, little), short = data.getUint16(at + 2, little) === 3 && data.getUint32(at + 4, little) === 1;
    return short && value >= 1 && value <= 8 ? value : 1;
  }
  return 1;
}

// --- JPEG ---

/** Frames that are read: baseline, extended and progressive, of 8 bits. */
const READ_FRAMES = [0xc0, 0xc1, 0xc2];

/**
 * Marker, start and end of every segment up to the picture's end (D9, empty), as a decoder walks them.
 *
 * @param {Bytes} content @param {DataView} data
 * @returns {Generator<[number, number, number]>}
 */
function* segments(content, data) {
  for (let at = content.indexOf(0xff, 2); at >= 0 && at + 1 < content.length; at = content.indexOf(0xff, at)) {
    const code = content[at + 1];
    at += code === 0xff ? 1 : 2;
    if (code === 0 || code === 0xff || (code >= 0xd0 && code <= 0xd8) || code === 1) continue;  // data, filling, restarts
    if (code === 0xd9) {
      yield [code, at, at];
      return;
    }
    const length = at + 2 <= content.length ? data.getUint16(at) : 0;
    yield [code, at + 2, at + length];
    at += length;
  }
}

/** @param {Bytes} content @param {DataView} data */
function jpeg(content, data) {
  let scans = 0, end = 0, height = 0, width = 0;
  /** @type {number | null} */
  let orientation = null;
  /** @type {Range[]} */
  const hidden = [];
  for (const [code, start, stop] of segments(content, data)) {
    if (code === 0xd9) end = start;
    if (code === 0xda) scans++;
    const exif = code === 0xe1 && textAt(content, start, 6) === "Exif\0\0";
    if (exif && orientation === null && !scans) orientation = exifOrientation(content.subarray(start + 6, stop));
    if (exif || (code === 0xe2 && textAt(content, start, 12) === "ICC_PROFILE\0")) hidden.push([start - 4, Math.min(stop, content.length)]);
    if (code < 0xc0 || code > 0xcf || code === 0xc4 || code === 0xc8 || code === 0xcc || width) continue;
    const depth = data.getUint8(start), planes = data.getUint8(start + 5);
    [height, width] = [data.getUint16(start + 1), data.getUint16(start + 3)];
    if (!READ_FRAMES.includes(code) || depth !== 8) {
      throw new PictureError("A JPEG of 12 bits, without loss or of arithmetic codes: save it as an ordinary one", "form");
    }
    if (!height || !width || ![1, 3, 4].includes(planes)) damaged("its size is missing");
    checkSize(height, width, MAX_PIXELS);
  }
  if (scans > 1 && width * height * scans > MAX_SCANNED) {
    throw new PictureError(`A JPEG of ${width} x ${height} pixels in ${scans} scans takes too long to decode`, "size");
  }
  if (!end || !scans || !width) cut();
  return {height, width, orientation: orientation ?? 1, hidden, end};
}

// --- PNG ---

/** Depths of each type of colour. @type {Record<number, number[]>} */
const DEPTHS = {0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16]};

/**
 * Kind, start and end of every chunk up to IEND. Each one's checksum is compared.
 *
 * @param {Bytes} content @param {DataView} data
 * @returns {Generator<[string, number, number]>}
 */
function* chunks(content, data) {
  for (let at = 8; at + 12 <= content.length;) {
    const kind = textAt(content, at + 4, 4), end = at + 8 + data.getUint32(at);
    if (end + 4 > content.length) cut();
    if (crc32(content, at + 4, end) !== data.getUint32(end)) damaged(`a checksum of ${kind} is wrong`);
    yield [kind, at + 8, end];
    if (kind === "IEND") return;
    at = end + 4;
  }
  cut();
}

/** @param {Bytes} content @param {DataView} data */
function png(content, data) {
  /** @type {{height: number, width: number, depth: number, colour: number, laced: boolean} | null} */
  let header = null;
  /** @type {number | null} */
  let orientation = null;
  /** @type {number[] | null} of the first frame, if it stands behind a picture that is not one */
  let control = null;
  /** @type {Range | null} */
  let palette = null;
  /** @type {Range | null} */
  let clear = null;
  let animated = false, led = false, frames = 0, last = "", end = 0;
  /** @type {Range[]} */
  const pixels = [];
  /** @type {Range[]} */
  const frame = [];
  for (const [kind, start, stop] of chunks(content, data)) {
    const length = stop - start, begun = pixels.length > 0;
    if (!header) {
      header = pngHeader(kind, length, start, data);
    } else if (kind === "IHDR" || (kind.charCodeAt(0) < 0x60 && !["PLTE", "IDAT", "IEND"].includes(kind))) {
      damaged(`a chunk ${kind}`);
    }
    const {colour} = header;
    if (kind === "PLTE") {
      if (palette || begun || length % 3 || !length || length > 768 || colour === 0 || colour === 4) damaged("its palette");
      palette = [start, stop];
    } else if (kind === "tRNS") {
      const fits = colour === 0 ? length === 2 : colour === 2 ? length === 6 : true;
      if (clear || begun || !fits || (colour === 3 && !palette)) damaged("its transparency");
      clear = [start, stop];
    } else if (kind === "eXIf") {
      orientation ??= exifOrientation(content.subarray(start, stop));
    } else if ((kind === "acTL" && length !== 8) || (kind === "fcTL" && length !== 26)) {
      damaged(`a chunk ${kind}`);
    } else if (kind === "acTL" && !begun) {
      animated = data.getUint32(start) > 0;
    } else if (kind === "fcTL") {
      if (begun) frames++;
      else led = true;
      if (frames === 1 && !control) control = [4, 8, 12, 16].map((at) => data.getUint32(start + at));
    } else if (kind === "IDAT") {
      if (begun && last !== kind) damaged("its pixels are not together");
      pixels.push([start, stop]);
    } else if (kind === "fdAT" && frames === 1) {
      frame.push([start + 4, stop]);
    }
    [last, end] = [kind, stop + 4];
  }
  if (!header || !pixels.length || (header.colour === 3 && !palette)) damaged("it has no pixels, or no palette");
  const {height, width, depth, colour, laced} = header, still = animated && !led && control;
  const [across, down, left, top] = still || [width, height, 0, 0];
  if (!across || !down || left + across > width || top + down > height) damaged("its first frame lies outside");
  const shown = {depth, colour, laced, palette, clear, parts: still ? frame : pixels, left, top, width: across, height: down};
  return {height, width, orientation: orientation ?? 1, end, png: shown};
}

/** @param {string} kind @param {number} length @param {number} start @param {DataView} data */
function pngHeader(kind, length, start, data) {
  if (kind !== "IHDR" || length !== 13) damaged("its header is missing");
  const width = data.getUint32(start), height = data.getUint32(start + 4);
  const [depth, colour, compression, method, laced] = [8, 9, 10, 11, 12].map((at) => data.getUint8(start + at));
  if (!width || !height || !DEPTHS[colour]?.includes(depth) || compression || method || laced > 1) damaged("its header");
  checkSize(height, width, MAX_DECODED);
  return {height, width, depth, colour, laced: laced === 1};
}

const CRC = Uint32Array.from({length: 256}, (_, i) => {
  let value = i;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

/** @param {Bytes} content @param {number} start @param {number} end */
function crc32(content, start, end) {
  let value = 0xffffffff;
  for (let i = start; i < end; i++) value = CRC[(value ^ content[i]) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

// --- GIF, BMP, WebP, AVIF ---

/** @param {Bytes} _ @param {DataView} data */
function gif(_, data) {
  const width = data.getUint16(6, true), height = data.getUint16(8, true), flags = data.getUint8(10);
  if (!width || !height) damaged("its size is missing");
  checkSize(height, width, MAX_DECODED);
  const colours = (/** @type {number} */ form) => (form & 0x80 ? 3 << ((form & 7) + 1) : 0);
  /** Behind the empty block that ends them. @param {number} at */
  const behind = (at) => {
    while (data.getUint8(at)) at += 1 + data.getUint8(at);
    return at + 1;
  };
  let at = 13 + colours(flags);
  while (data.getUint8(at) === 0x21) at = behind(at + 2);
  if (data.getUint8(at) !== 0x2c) damaged("it has no picture");
  const [left, top, across, down] = [1, 3, 5, 7].map((next) => data.getUint16(at + next, true)), form = data.getUint8(at + 9);
  if (!across || !down || left + across > width || top + down > height) damaged("its first frame lies outside");
  if (!((flags | form) & 0x80)) damaged("it has no palette");
  at += 10 + colours(form);
  if (data.getUint8(at) < 2 || data.getUint8(at) > 8) damaged("its codes");
  behind(at + 1);
  return {height, width};
}

/** Bits a pixel that are read, without compression and with masks. @type {Record<number, number[]>} */
const BMP_FORMS = {0: [1, 4, 8, 24, 32], 3: [32]};

/** @param {Bytes} content @param {DataView} data */
function bmp({length}, data) {
  const start = data.getUint32(10, true), header = data.getUint32(14, true), old = header === 12;
  if (![12, 40, 52, 56, 64, 108, 124].includes(header)) damaged("its header");
  const width = old ? data.getUint16(18, true) : data.getInt32(18, true);
  const height = Math.abs(old ? data.getUint16(20, true) : data.getInt32(22, true));
  const planes = data.getUint16(old ? 22 : 26, true), depth = data.getUint16(old ? 24 : 28, true);
  const form = old ? 0 : data.getUint32(30, true);
  if (width <= 0 || !height || planes !== 1) damaged("its header");
  if (!BMP_FORMS[form]?.includes(depth)) throw new PictureError(`A BMP of ${depth} bits in form ${form}: save it as a PNG`, "form");
  checkSize(height, width, MAX_DECODED);
  if (start + Math.floor((width * depth + 31) / 32) * 4 * height > length) cut();
  return {height, width};
}

/** @param {Bytes} content @param {DataView} data */
function webp(content, data) {
  const end = 8 + data.getUint32(4, true);
  if (end > content.length) cut();
  let height = 0, width = 0, pictures = 0;
  /** @type {number | null} */
  let orientation = null;
  /** @type {Range[]} */
  const hidden = [];
  for (let at = 12; at + 8 <= end;) {
    const kind = textAt(content, at, 4), length = data.getUint32(at + 4, true), first = at === 12;
    at += 8;
    if (at + length > end) cut();
    if (first && kind === "VP8X" && length >= 10) {
      [width, height] = [4, 7].map((next) => 1 + (data.getUint16(at + next, true) | (data.getUint8(at + next + 2) << 16)));
    } else if (first && kind === "VP8 " && length >= 10) {
      [width, height] = [6, 8].map((next) => data.getUint16(at + next, true) & 0x3fff);
    } else if (first && kind === "VP8L" && length >= 5) {
      const bits = data.getUint32(at + 1, true);
      [width, height] = [1 + (bits & 0x3fff), 1 + ((bits >>> 14) & 0x3fff)];
    } else if (kind === "EXIF") {
      orientation ??= exifOrientation(content.subarray(at, at + length));
    }
    if (kind === "EXIF" || kind === "ICCP") hidden.push([at - 8, at - 4]);  // under another name nobody reads it
    if (["VP8 ", "VP8L", "ANMF"].includes(kind)) pictures++;
    at += length + (length % 2);
  }
  if (!width || !height || !pictures) damaged("it has no picture");
  checkSize(height, width, MAX_DECODED);
  return {height, width, orientation: orientation ?? 1, hidden, end};
}

/** @param {Bytes} content @param {DataView} data */
function avif(content, data) {
  const film = brandsOf(content).includes("avis"), still = kindOf(content) === "AVIF";
  let height = 0, width = 0, plain = !film;
  for (const [name, start, end] of boxes(content, data, 0, content.length, ["meta", "iprp", "ipco"])) {
    const clear = name === "auxC" && textAt(content, start, Math.min(64, end - start)).includes(":alpha");
    if (still && (clear || (name === "av1C" && data.getUint8(start + 2) & 0x40))) plain = false;
    if (name !== "ispe" || end - start < 12) continue;
    const across = data.getUint32(start + 4), down = data.getUint32(start + 8);
    checkSize(down, across, MAX_DECODED);  // of tiles and thumbnails too: the largest is the picture
    if (across * down > width * height) [width, height] = [across, down];
  }
  // Decoders differ by up to 20 levels.
  if (!plain) throw new PictureError("An AVIF that moves, is partly clear or has more than 8 bits: save it as a PNG", "form");
  return {height, width};
}

/**
 * Kind, start and end of the properties of an ISO file's pictures.
 *
 * @param {Bytes} content @param {DataView} data @param {number} at @param {number} end @param {string[]} inside the boxes to enter
 * @returns {Generator<[string, number, number]>}
 */
function* boxes(content, data, at, end, inside) {
  while (at + 8 <= end) {
    const kind = textAt(content, at + 4, 4);
    let length = data.getUint32(at), start = at + 8;
    if (length === 1) [length, start] = [Number(data.getBigUint64(at + 8)), at + 16];
    const stop = length ? at + length : end;
    if (stop < start || stop > end) cut();
    if (!inside.length) yield [kind, start, stop];
    else if (kind === inside[0]) yield* boxes(content, data, start + (kind === "meta" ? 4 : 0), stop, inside.slice(1));
    at = stop;
  }
}

/** @param {Bytes} content */
function view(content) {
  return new DataView(content.buffer, content.byteOffset, content.byteLength);
}

/** @param {Bytes} content @param {number} at @param {number} count */
function textAt(content, at, count) {
  return String.fromCharCode(...content.subarray(at, at + count));
}
