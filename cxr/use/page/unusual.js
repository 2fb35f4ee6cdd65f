// What is unusual about an image, in the arithmetic, words and thresholds of cxr.use.unusual.

const SIDE = 16;
const LONGEST = 2;
const EVEN_LINE = 3; // gray levels within a row or column of a border
const CHANGES = ["left", "upsideDown", "right", "inverted", "invertedLeft", "invertedUpsideDown", "invertedRight"];

// Texts for an image and what the first network sees of it (size x size).
function warningsOf(detectors, { width, height }, shown, size) {
  const ratio = Math.max(width, height) / Math.min(width, height);
  const found = ratio > LONGEST ? [text("aspect", { ratio: ratio.toFixed(1) })] : [];
  if (!detectors) return found;
  const small = shrunk(shown, size);
  const [changed, distance, border] = detectors.thresholds;
  const outputs = changesOf(detectors, small);
  const most = Math.max(...outputs.slice(1));
  if (most - outputs[0] > changed) found.push(text("looks", { change: text(CHANGES[outputs.indexOf(most, 1) - 1]) }));
  if (borderOf(shown, size) > border) found.push(text("border"));
  if (distanceOf(detectors, small) > distance) found.push(text("unlike"));
  return found;
}

// 16 x 16 pixels of mean 0 and standard deviation 1.
function shrunk(shown, size) {
  const small = Array.from(resize(shown, size, size, SIDE, SIDE, true), (value) => value / 255);
  const mean = small.reduce((sum, value) => sum + value, 0) / small.length;
  const spread = Math.sqrt(small.reduce((sum, value) => sum + (value - mean) ** 2, 0) / small.length);
  return small.map((value) => (value - mean) / (spread + 1e-3));
}

function changesOf({ change }, small) {
  return change[0].map((_, output) => [...small, 1].reduce((sum, value, k) => sum + value * change[k][output], 0));
}

// The squared Mahalanobis distance under probabilistic principal components.
function distanceOf({ mean, axes, variance }, small) {
  const away = small.map((value, k) => value - mean[k]);
  const product = (one, other) => one.reduce((sum, value, k) => sum + value * other[k], 0);
  const along = axes.map((axis) => product(axis, away));
  const inside = along.reduce((sum, value, k) => sum + value ** 2 / variance[k], 0);
  return inside + (product(away, away) - product(along, along)) / variance.at(-1);
}

// The share of rows and columns, whichever is larger, that lie in even stripes at the edges.
function borderOf(shown, size) {
  const lines = [...Array(size).keys()];
  const shares = [(line, k) => line * size + k, (line, k) => k * size + line].map((place) => {
    const uneven = lines.filter((line) => {
      const values = lines.map((k) => shown[place(line, k)]);
      return Math.max(...values) - Math.min(...values) > EVEN_LINE;
    });
    return uneven.length ? 1 - (uneven.at(-1) - uneven[0] + 1) / size : 1;
  });
  return Math.max(...shares);
}
