// From a DICOM file to stored values, as cxr.imaging.dicom does: its elements, its form, its pixels.
// Uncompressed little endian, and baseline JPEG, which the browser decodes. DICOM PS3.5, sections 7 and A.4.

const IMPLICIT = "1.2.840.10008.1.2";
const EXPLICIT = "1.2.840.10008.1.2.1";
const BASELINE = "1.2.840.10008.1.2.4.50";
const SYNTAXES = {
  "1.2.840.10008.1.2.1.99": "Deflated Explicit VR Little Endian", "1.2.840.10008.1.2.2": "Explicit VR Big Endian",
  "1.2.840.10008.1.2.4.51": "JPEG Extended", "1.2.840.10008.1.2.4.57": "JPEG Lossless",
  "1.2.840.10008.1.2.4.70": "JPEG Lossless", "1.2.840.10008.1.2.4.80": "JPEG-LS Lossless",
  "1.2.840.10008.1.2.4.81": "JPEG-LS Near-lossless", "1.2.840.10008.1.2.4.90": "JPEG 2000 Lossless",
  "1.2.840.10008.1.2.4.91": "JPEG 2000", "1.2.840.10008.1.2.5": "RLE Lossless",
};
const TAGS = {
  TransferSyntaxUID: 0x00020010, Modality: 0x00080060, BodyPartExamined: 0x00180015, ViewPosition: 0x00185101,
  SamplesPerPixel: 0x00280002, PhotometricInterpretation: 0x00280004, NumberOfFrames: 0x00280008, Rows: 0x00280010,
  Columns: 0x00280011, BitsAllocated: 0x00280100, BitsStored: 0x00280101, HighBit: 0x00280102,
  PixelRepresentation: 0x00280103, PixelPaddingValue: 0x00280120, PixelPaddingRangeLimit: 0x00280121,
  BurnedInAnnotation: 0x00280301, WindowCenter: 0x00281050, WindowWidth: 0x00281051, RescaleIntercept: 0x00281052,
  RescaleSlope: 0x00281053, VOILUTFunction: 0x00281056, ModalityLUTSequence: 0x00283000, LUTDescriptor: 0x00283002,
  LUTData: 0x00283006, VOILUTSequence: 0x00283010, PixelData: 0x7fe00010,
};
const WORDS = ["SamplesPerPixel", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
  "PixelPaddingValue", "PixelPaddingRangeLimit"]; // numbers of 16 bits; all others are text
const LONG = ["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"]; // with 32 bits of length
const [ITEM, END_OF_ITEM, END_OF_SEQUENCE, UNDEFINED] = [0xfffee000, 0xfffee00d, 0xfffee0dd, 0xffffffff];
const CHESTS = ["CHEST", "THORAX", "LUNG", "LUNGS", "RIB", "RIBS", "RIBCAGE", "HEART", "PORT CHEST", "CHEST PORT"];
const LATERALS = ["LATERAL", "LL", "RL", "LLD", "RLD", "LAT"];

// Elements of a file or an item, from `start` to `end` or, with `group`, to another group.
class Elements {
  constructor(bytes, start, end, implicit, group = null) {
    Object.assign(this, { bytes, implicit, found: new Map(), place: start });
    this.data = new DataView(bytes.buffer, bytes.byteOffset);
    while (this.place + 8 <= end) {
      const tag = this.tag();
      if (group !== null && tag >>> 16 !== group) break;
      if (!this.read(tag, end)) break;
    }
  }

  tag(place = this.place) {
    return (this.data.getUint16(place, true) * 0x10000 + this.data.getUint16(place + 2, true)) >>> 0;
  }

  read(tag, end) {
    const kind = this.implicit ? "" : String.fromCharCode(...this.bytes.subarray(this.place + 4, this.place + 6));
    const marker = tag === END_OF_ITEM || tag === END_OF_SEQUENCE;
    const long = LONG.includes(kind);
    const wide = this.implicit || long || marker;
    const length = wide ? this.data.getUint32(this.place + (long ? 8 : 4), true) : this.data.getUint16(this.place + 6, true);
    this.place += long ? 12 : 8;
    if (marker) return false;
    const start = this.place;
    const items = length === UNDEFINED || tag === TAGS.ModalityLUTSequence || tag === TAGS.VOILUTSequence;
    if (length !== UNDEFINED && start + length > end) throw new Refused("damaged");
    const value = items ? this.items(tag, length === UNDEFINED ? end : start + length, kind) : start + length;
    if (!items) this.place = value;
    this.found.set(tag, { kind, items: items ? value : null, bytes: this.bytes.subarray(start, this.place) });
    return true;
  }

  // Elements of each item of a sequence; of pixel data, the bytes of each fragment.
  items(tag, end, kind) {
    const found = [];
    while (this.place + 8 <= end) {
      const [marker, length] = [this.tag(), this.data.getUint32(this.place + 4, true)];
      this.place += 8;
      if (marker === END_OF_SEQUENCE) break;
      if (marker !== ITEM || (length !== UNDEFINED && this.place + length > end)) throw new Refused("damaged");
      const stop = length === UNDEFINED ? end : this.place + length;
      if (tag === TAGS.PixelData) found.push(this.bytes.subarray(this.place, stop));
      else found.push(new Elements(this.bytes, this.place, stop, this.implicit || kind === "UN"));
      this.place = length === UNDEFINED && tag !== TAGS.PixelData ? found.at(-1).place : stop;
    }
    return found;
  }

  get(name) {
    return this.found.get(TAGS[name]);
  }

  // The first value as text; empty where it is missing.
  text(name) {
    const words = String.fromCharCode(...(this.get(name)?.bytes ?? []).slice(0, 128));
    return words.split("\\")[0].replace(/[^\x20-\x7e\xa0-\xff]/g, "").trim();
  }

  // The first value as a number; the default where it is missing.
  number(name, missing) {
    const element = this.get(name);
    if (!element?.bytes.length) return missing;
    const [low, high = 0] = element.bytes;
    const word = low + 256 * high;
    if (WORDS.includes(name)) return word - (this.isSigned(element) && word >= 0x8000 ? 0x10000 : 0);
    if (this.text(name) === "") return missing;
    const value = Number(this.text(name));
    if (!Number.isFinite(value)) throw new Refused("header", { name });
    return value;
  }

  whole(name, missing) {
    const value = this.number(name, missing);
    if (!Number.isInteger(value)) throw new Refused("header", { name });
    return value;
  }

  // Whether an element of VR "US or SS" is SS; implicit files say that by PixelRepresentation.
  isSigned({ kind }) {
    return kind === "SS" || (kind === "" && this.get("PixelRepresentation")?.bytes[0] === 1);
  }
}

const startsElements = (bytes) => [2, 8].includes(bytes[0] + 256 * bytes[1]) || (bytes[0] === 0 && [2, 8].includes(bytes[1]));
const isDicom = (bytes) => String.fromCharCode(...bytes.subarray(128, 132)) === "DICM" || startsElements(bytes);

async function decodeDicom(bytes) {
  try {
    const header = readHeader(bytes);
    const stored = await storedValues(header);
    const { table, remark } = levelsOf(header, stored);
    const [width, height] = [header.whole("Columns"), header.whole("Rows")];
    return { width, height, pixels: Uint16Array.from(stored, (value) => table[value]), remarks: [...remark, ...remarksOf(header)] };
  } catch (error) {
    throw error instanceof RangeError ? new Refused("damaged") : error; // an element that ends behind the file
  }
}

// Elements of a file with or without preamble and transfer syntax, which is then that of its first element.
function readHeader(bytes) {
  const start = String.fromCharCode(...bytes.subarray(128, 132)) === "DICM" ? 132 : 0;
  const meta = new Elements(bytes, start, bytes.length, false, 2);
  const named = /^[A-Z]{2}$/.test(String.fromCharCode(...bytes.subarray(meta.place + 4, meta.place + 6)));
  const big = bytes[meta.place] === 0 && bytes[meta.place + 1] > 0;
  const syntax = meta.text("TransferSyntaxUID") || (big ? "1.2.840.10008.1.2.2" : named ? EXPLICIT : IMPLICIT);
  if (![IMPLICIT, EXPLICIT, BASELINE].includes(syntax)) throw new Refused("syntax", { syntax: SYNTAXES[syntax] ?? syntax });
  return Object.assign(new Elements(bytes, meta.place, bytes.length, syntax === IMPLICIT), { syntax });
}

// The stored values as unsigned integers of 8 or 16 bits; unused bits repeat the sign.
async function storedValues(header) {
  const data = header.get("PixelData");
  const photometric = header.text("PhotometricInterpretation");
  if (!data) throw new Refused("noPixels");
  const colour = header.number("SamplesPerPixel", 1) !== 1 || !["MONOCHROME1", "MONOCHROME2"].includes(photometric);
  if (colour) throw new Refused("colour", { photometric: photometric || "?" });
  const frames = header.whole("NumberOfFrames", 1);
  if (frames > 1) throw new Refused("frames", { frames });
  const [width, height] = [header.whole("Columns"), header.whole("Rows")];
  if (width < 1 || height < 1) throw new Refused("header", { name: "Rows" });
  checkSize(width, height);
  const [allocated, stored] = [header.whole("BitsAllocated"), header.whole("BitsStored")];
  const high = header.whole("HighBit", stored - 1);
  if (![8, 16].includes(allocated) || stored < 1 || stored > allocated || high !== stored - 1) {
    throw new Refused("bits", { stored, allocated, high });
  }
  if (header.syntax === BASELINE) {
    const content = await new Blob(data.items?.slice(1) ?? []).arrayBuffer();
    const image = await decodeJpeg(new Uint8Array(content)).catch(() => null);
    if (image?.width !== width || image.height !== height || allocated !== 8) throw new Refused("damaged");
    return image.pixels;
  }
  const count = width * height;
  if (data.items || data.bytes.length < (count * allocated) / 8) throw new Refused("damaged");
  const values = allocated === 8 ? data.bytes.slice(0, count) : new Uint16Array(data.bytes.slice(0, 2 * count).buffer);
  const [unused, signed] = [32 - stored, header.number("PixelRepresentation", 0) === 1];
  if (stored < allocated) values.forEach((value, k) => (values[k] = signed ? (value << unused) >> unused : (value << unused) >>> unused));
  return values;
}

function remarksOf(header) {
  const [view, part] = [header.text("ViewPosition").toUpperCase(), header.text("BodyPartExamined").toUpperCase()];
  const overlay = (tag) => tag >>> 16 >= 0x6000 && tag >>> 16 < 0x6020 && tag % 0x20000 < 0x10000;
  return [
    ...([...header.found.keys()].some(overlay) ? [text("overlays")] : []),
    ...(header.text("BurnedInAnnotation").toUpperCase() === "YES" ? [text("burntIn")] : []),
    ...(LATERALS.includes(view) ? [text("lateral", { view })] : []),
    ...(part && !CHESTS.includes(part) ? [text("bodyPart", { part })] : []),
  ];
}
