// What is unusual about an image, in the arithmetic, words and thresholds of cxr.use.unusual.

const SIDE = 16;
const LONGEST = 2;
const CHANGES = ["left", "upsideDown", "right", "inverted", "invertedLeft", "invertedUpsideDown", "invertedRight"];

// Texts for an image, what the first network sees of it (size x size) and that network's features.
function warningsOf(detectors, { width, height }, shown, size, features) {
  const ratio = Math.max(width, height) / Math.min(width, height);
  const tenths = ratio % 1 === 0.25 ? ratio - 0.05 : ratio; // as Python, which rounds half to even
  const found = ratio > LONGEST ? [text("aspect", { ratio: tenths.toFixed(1) })] : [];
  if (!detectors) return found;
  const small = shrunk(shown, size);
  const outputs = changesOf(detectors, small);
  const [changed, ...unlike] = valuesOf(detectors, small, outputs, features).map((one, k) => one > detectors.thresholds[k]);
  if (changed) found.push(text("looks", { change: text(CHANGES[outputs.indexOf(Math.max(...outputs.slice(1)), 1) - 1]) }));
  if (unlike.includes(true)) found.push(text("unlike"));
  return found;
}

// The values of the detectors: changed, pixels, features.
function valuesOf({ pixels, stages }, small, outputs, features) {
  let [far, start] = [0, 0];
  for (const stage of stages) {
    far += Math.log1p(distanceOf(stage, features.slice(start, start + stage.mean.length)));
    start += stage.mean.length;
  }
  return [Math.max(...outputs.slice(1)) - outputs[0], distanceOf(pixels, small), far];
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
function distanceOf({ mean, deviation, axes, variance }, numbers) {
  const away = mean.map((value, k) => (numbers[k] - value) / deviation[k]);
  const product = (one, other) => one.reduce((sum, value, k) => sum + value * other[k], 0);
  const along = axes.map((axis) => product(axis, away));
  const inside = along.reduce((sum, value, k) => sum + value ** 2 / variance[k], 0);
  const rest = away.map((value, k) => value - axes.reduce((sum, axis, place) => sum + along[place] * axis[k], 0));
  return inside + product(rest, rest) / variance.at(-1);
}
