// From an image file to gray pixels, as cxr.imaging.decode does: {width, height, pixels, remarks}, 8 or 16 bits.
// PNG is decoded here, because a canvas loses 16 bits and colours under an alpha channel; JPEG is the browser's.

const MOST_PIXELS = 128e6;
const PNG = [137, 80, 78, 71, 13, 10, 26, 10];
const JPEG = [0xff, 0xd8, 0xff];
const [START_OF_SCAN, END_OF_IMAGE] = [0xda, 0xd9];
const METADATA = [0xe1, 0xe2]; // EXIF and colour profile
const FRAMES = [0xc0, 0xc1, 0xc2, 0xc3, 0xc5, 0xc6, 0xc7, 0xc9, 0xca, 0xcb, 0xcd, 0xce, 0xcf]; // have the size
const INTERLACED = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];
const CHANNELS = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
const COLOUR = 4; // gray levels between the channels, on average, above which an image is in colour
const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let rest = byte;
  for (let bit = 0; bit < 8; bit++) rest = rest & 1 ? (rest >>> 1) ^ 0xedb88320 : rest >>> 1;
  return rest;
});

class Refused extends Error {
  constructor(key, values = {}) {
    super(key);
    this.key = key;
    this.values = values;
  }
}

async function decode(file) {
  const content = await file.arrayBuffer().catch(() => {
    throw new Refused("unreadable");
  });
  const bytes = new Uint8Array(content);
  if (!bytes.length) throw new Refused("emptyFile");
  if (PNG.every((value, place) => bytes[place] === value)) return decodePng(bytes);
  if (isDicom(bytes)) return decodeDicom(bytes);
  if (JPEG.every((value, place) => bytes[place] === value)) return decodeJpeg(bytes);
  throw new Refused("notImage");
}

function checkSize(width, height) {
  if (width * height > MOST_PIXELS) throw new Refused("tooLarge", { width, height, most: MOST_PIXELS / 1e6 });
}

// The luma of Pillow's "L", ITU-R 601-2 in integers.
function luma(red, green, blue) {
  return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
}

// A remark if the mean difference of the channels is that of a photograph.
const remarksOnColour = (strength, pixels) => (strength > COLOUR * pixels ? [text("inColour")] : []);

// JPEG (ITU-T T.81, annex B). Browsers turn an image by its EXIF orientation, which training ignores, and Firefox fills up
// a truncated one with gray. So the browser gets a file with its end, without EXIF and colour profile.
async function decodeJpeg(bytes) {
  const word = (place) => (bytes[place] << 8) | bytes[place + 1];
  const parts = [bytes.subarray(0, 2)];
  let place = 2;
  while (bytes[place] === 0xff && bytes[place + 1] !== START_OF_SCAN) {
    const kind = bytes[place + 1];
    const end = kind === 0xff ? place + 1 : place + 2 + word(place + 2); // a marker may begin with several 0xff
    if (FRAMES.includes(kind)) checkSize(word(place + 7), word(place + 5));
    if (!METADATA.includes(kind)) parts.push(bytes.subarray(place, end));
    place = end;
  }
  let last = bytes.length;
  do last = bytes.lastIndexOf(END_OF_IMAGE, last - 1);
  while (last > place && bytes[last - 1] !== 0xff);
  if (last <= place) throw new Refused("truncated");
  const whole = await new Blob([...parts, bytes.subarray(place)]).arrayBuffer(); // Firefox decodes no Blob of several parts
  return decodeByBrowser(new Blob([whole]));
}

async function decodeByBrowser(file) {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" }).catch(() => {
    throw new Refused("damaged");
  });
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const colour = context.getImageData(0, 0, width, height).data;
  const pixels = new Uint8Array(width * height);
  let strength = 0;
  for (let k = 0; k < pixels.length; k++) {
    const [red, green, blue] = [colour[4 * k], colour[4 * k + 1], colour[4 * k + 2]];
    pixels[k] = luma(red, green, blue);
    strength += Math.max(red, green, blue) - Math.min(red, green, blue);
  }
  return { width, height, pixels, remarks: remarksOnColour(strength, pixels.length) };
}

// PNG (Portable Network Graphics), third edition, sections 5, 7 to 10; all colour types, depths and interlacing.
async function decodePng(bytes) {
  const data = new DataView(bytes.buffer);
  const parts = [];
  let header, palette;
  for (let place = 8, kind = ""; kind !== "IEND"; ) {
    const end = place + 12 <= bytes.length ? place + 12 + data.getUint32(place) : Infinity;
    if (end > bytes.length) throw new Refused("truncated");
    kind = String.fromCharCode(...bytes.subarray(place + 4, place + 8));
    if (crc32(bytes.subarray(place + 4, end - 4)) !== data.getUint32(end - 4)) throw new Refused("checksum", { kind });
    const content = bytes.subarray(place + 8, end - 4);
    if (kind === "IHDR") header = content;
    if (kind === "PLTE") palette = content;
    if (kind === "IDAT") parts.push(content);
    place = end;
  }
  if (header?.length !== 13 || !parts.length) throw new Refused("damaged");
  const size = new DataView(header.buffer, header.byteOffset);
  const [width, height] = [size.getUint32(0), size.getUint32(4)];
  const [depth, type, , , interlaced] = header.subarray(8);
  const channels = CHANNELS[type];
  if (!channels || !width || !height || (type === 3 && !palette)) throw new Refused("damaged");
  checkSize(width, height);
  const bits = depth * channels;
  const passes = (interlaced ? INTERLACED : [[0, 0, 1, 1]])
    .map(([left, top, across, down]) => {
      const columns = Math.ceil((width - left) / across);
      return { left, top, across, down, columns, rows: columns > 0 ? Math.ceil((height - top) / down) : 0 };
    })
    .filter(({ rows }) => rows > 0);
  const expected = passes.reduce((sum, { columns, rows }) => sum + rows * (1 + Math.ceil((columns * bits) / 8)), 0);
  const raw = await inflate(parts, "deflate", expected).catch(() => {
    throw new Refused("damaged");
  });
  if (raw.length < expected) throw new Refused("damaged");
  const pixels = new (depth === 16 && type === 0 ? Uint16Array : Uint8Array)(width * height);
  let strength = 0;
  const colour = (red, green, blue) => {
    strength += Math.max(red, green, blue) - Math.min(red, green, blue);
    return luma(red, green, blue);
  };
  const gray = reader(type, depth, channels, palette, colour);
  let place = 0;
  for (const { left, top, across, down, columns, rows } of passes) {
    const length = Math.ceil((columns * bits) / 8);
    let above = new Uint8Array(length);
    for (let row = 0; row < rows; row++, place += 1 + length) {
      const line = raw.subarray(place + 1, place + 1 + length);
      unfilter(raw[place], line, above, Math.max(1, bits >> 3));
      const start = (top + row * down) * width + left;
      for (let column = 0; column < columns; column++) pixels[start + column * across] = gray(line, column);
      above = line;
    }
  }
  return { width, height, pixels, remarks: remarksOnColour(strength, pixels.length) };
}

// The checksum of a chunk (PNG, annex D).
function crc32(bytes) {
  let rest = 0xffffffff;
  for (const byte of bytes) rest = CRC[(rest ^ byte) & 255] ^ (rest >>> 8);
  return ~rest >>> 0;
}

// A function from a line and a column to a gray value. As in Pillow, colours of 16 bits count by their high bytes.
function reader(type, depth, channels, palette, colour) {
  const step = (channels * depth) / 8;
  const high = depth / 8;
  if (type === 0 && depth === 16) return (line, column) => (line[2 * column] << 8) | line[2 * column + 1];
  if (type === 2 || type === 6) {
    return (line, column) => colour(line[step * column], line[step * column + high], line[step * column + 2 * high]);
  }
  if (step >= 1 && type !== 3) return (line, column) => line[step * column];
  const most = 2 ** depth - 1;
  const packed = (line, column) => (line[(column * depth) >> 3] >> (8 - depth - ((column * depth) & 7))) & most;
  if (type === 0) return (line, column) => (packed(line, column) * 255) / most;
  return (line, column) => colour(...palette.subarray(3 * packed(line, column), 3 * packed(line, column) + 3));
}

function unfilter(kind, line, above, back) {
  for (let k = 0; k < line.length; k++) {
    const left = k < back ? 0 : line[k - back];
    const corner = k < back ? 0 : above[k - back];
    if (kind === 1) line[k] += left;
    else if (kind === 2) line[k] += above[k];
    else if (kind === 3) line[k] += (left + above[k]) >> 1;
    else if (kind === 4) {
      const [toLeft, toAbove] = [Math.abs(above[k] - corner), Math.abs(left - corner)];
      const toCorner = Math.abs(left + above[k] - 2 * corner);
      line[k] += toLeft <= toAbove && toLeft <= toCorner ? left : toAbove <= toCorner ? above[k] : corner;
    } else if (kind) throw new Refused("damaged");
  }
}

// Decompresses; `most` bounds the result, so that a small file cannot fill the memory.
async function inflate(parts, format, most) {
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream(format));
  const found = new Uint8Array(most);
  let length = 0;
  for (let reader = stream.getReader(), next; !(next = await reader.read()).done; length += next.value.length) {
    if (length + next.value.length > most) throw new Refused("damaged");
    found.set(next.value, length);
  }
  return found.subarray(0, length);
}
