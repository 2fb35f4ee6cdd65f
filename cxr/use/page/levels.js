// From stored values of a DICOM file to brightness, as cxr.imaging.dicom_levels does: modality LUT, VOI LUT or window,
// inversion, padding. All of it is computed once for each stored value. DICOM PS3.3, C.7.6.3, C.11.1 and C.11.2.

const [LOWER, UPPER] = [0.01, 0.99]; // percentiles between which an image is shown if its own window shows nothing
const FLAT = 1 / 255;

// The brightness of each stored value, 0 to 65535, by its unsigned form; and a remark or none.
function levelsOf(header, stored) {
  const bits = 8 * stored.BYTES_PER_ELEMENT;
  const signed = header.number("PixelRepresentation", 0) === 1;
  const means = Array.from({ length: 2 ** bits }, (_, k) => (signed && k >= 2 ** (bits - 1) ? k - 2 ** bits : k));
  const { values, low, high } = modality(header, means, bits, signed);
  const padding = paddingOf(header, means);
  let { levels, path } = interest(header, values, low, high);
  const remark = [];
  if (path && (!levels || isFlat(levels, padding, stored, header.whole("Columns")))) {
    const [from, to] = percentiles(values, padding, stored);
    levels = values.map((value) => (to > from ? (value - from) / (to - from) : 0));
    remark.push(text("showsNothing", { path }));
  }
  const inverted = header.text("PhotometricInterpretation") === "MONOCHROME1";
  const table = levels.map((level, k) => {
    const shown = Math.max(0, Math.min(1, level));
    return padding[k] ? 0 : roundHalfToEven((inverted ? 1 - shown : shown) * 65535);
  });
  return { table, remark };
}

// What each stored value means, and the lowest and highest that it can mean.
function modality(header, means, bits, signed) {
  const [item] = header.get("ModalityLUTSequence")?.items ?? [];
  if (item) {
    const { look, most, entries } = lookup(item, 2 ** (signed ? bits - 1 : bits) - 1);
    const needed = 2 ** Math.ceil(Math.log2(entries.reduce((a, b) => Math.max(a, b), 0) + 1)) - 1;
    return { values: means.map(look), low: 0, high: Math.min(most, needed) };
  }
  const [slope, intercept] = [header.number("RescaleSlope", 1), header.number("RescaleIntercept", 0)];
  const width = header.whole("BitsStored");
  const ends = signed ? [-(2 ** (width - 1)), 2 ** (width - 1) - 1] : [0, 2 ** width - 1];
  const [low, high] = ends.map((end) => end * slope + intercept).sort((a, b) => a - b);
  return { values: means.map((value) => value * slope + intercept), low, high };
}

// The brightness of each value by the VOI LUT or the first window, and what that is called; null if it is not valid.
function interest(header, values, low, high) {
  const [item] = header.get("VOILUTSequence")?.items ?? [];
  if (item) {
    const { look, most } = lookup(item, high);
    return { levels: values.map((value) => look(value) / most), path: "VOI LUT" };
  }
  const [center, width] = [header.number("WindowCenter", null), header.number("WindowWidth", null)];
  if (center === null || width === null) return { levels: values.map((value) => (value - low) / (high - low || 1)), path: "" };
  const path = `window ${Number(center.toPrecision(6))}/${Number(width.toPrecision(6))}`;
  const kind = header.text("VOILUTFunction");
  if (width <= 0 || (width < 1 && !["LINEAR_EXACT", "SIGMOID"].includes(kind))) return { levels: null, path };
  let level = (value) => (value - (center - 0.5)) / (width - 1) + 0.5;
  if (kind === "SIGMOID") level = (value) => 1 / (1 + Math.exp((-4 * (value - center)) / width));
  else if (kind === "LINEAR_EXACT") level = (value) => (value - center) / width + 0.5;
  else if (width === 1) level = (value) => Number(value > center - 0.5);
  return { levels: values.map(level), path };
}

// A table of PS3.3, C.11.1.1, and the most that its bits hold. `highest` is that of the values to look up; a first value
// above it is a negative number that was read as unsigned.
function lookup(item, highest) {
  const [descriptor, data] = [item.get("LUTDescriptor")?.bytes, item.get("LUTData")?.bytes];
  if (descriptor?.length !== 6 || !data) throw new Refused("header", { name: "LUTDescriptor" });
  const [count, start, bits] = [0, 2, 4].map((place) => descriptor[place] + 256 * descriptor[place + 1]);
  const length = count || 65536;
  const entries = data.length < 2 * length ? data : new Uint16Array(data.slice(0, 2 * length).buffer);
  if (entries.length < length || bits < 1 || bits > 16) throw new Refused("header", { name: "LUTData" });
  const signed = item.get("LUTDescriptor").kind === "SS" || start > highest;
  const first = signed && start >= 0x8000 ? start - 0x10000 : start;
  const look = (value) => entries[Math.max(0, Math.min(length - 1, roundHalfToEven(value - first)))];
  return { look, most: 2 ** bits - 1, entries: entries.subarray(0, length) };
}

function paddingOf(header, means) {
  const value = header.number("PixelPaddingValue", null);
  if (value === null) return means.map(() => false);
  const [low, high] = [value, header.number("PixelPaddingRangeLimit", value)].sort((a, b) => a - b);
  return means.map((one) => one >= low && one <= high);
}

function isFlat(levels, padding, stored, columns) {
  const rows = stored.length / columns;
  for (const step of [4, 1]) { // a part tells of nearly all images
    let [count, sum, squares] = [0, 0, 0];
    for (let row = 0; row < rows; row += step) {
      for (let column = 0; column < columns; column += step) {
        const one = stored[row * columns + column];
        if (padding[one]) continue;
        const level = Math.max(0, Math.min(1, levels[one]));
        [count, sum, squares] = [count + 1, sum + level, squares + level * level];
      }
    }
    if (Math.sqrt(squares / count - (sum / count) ** 2) >= FLAT) return false;
  }
  return true;
}

function percentiles(values, padding, stored) {
  const counts = new Uint32Array(values.length);
  for (const one of stored) counts[one] += 1;
  const shown = [...counts.keys()].filter((k) => counts[k] && !padding[k]).sort((a, b) => values[a] - values[b]);
  const total = shown.reduce((sum, k) => sum + counts[k], 0);
  if (!total) return [0, 0];
  const at = (rank) => values[shown.find((k) => (rank -= counts[k]) < 0)];
  return [LOWER, UPPER].map((share) => {
    const place = share * (total - 1);
    const [below, part] = [Math.floor(place), place - Math.floor(place)];
    return at(below) * (1 - part) + at(Math.min(total - 1, below + 1)) * part;
  });
}
