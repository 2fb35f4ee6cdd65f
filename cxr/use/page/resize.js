// From gray pixels to what a network sees, in the arithmetic of OpenCV's resize, so that gray values are the same.

// What cv2.resize(INTER_AREA) and cv2.resize(INTER_LINEAR) return for pixels (height, width), as (rows, columns).
function resize(pixels, width, height, columns, rows, byArea) {
  if (width === columns && height === rows) return pixels;
  return (byArea ? resizeByArea : resizeLinearly)(pixels, width, height, columns, rows);
}

const roundHalfToEven = (value) => {
  const down = Math.floor(value);
  const rest = value - down;
  return rest > 0.5 || (rest === 0.5 && down % 2) ? down + 1 : down;
};

function resizeByArea(pixels, width, height, columns, rows) {
  const deep = pixels instanceof Uint16Array;
  const found = new (deep ? Float32Array : Uint8Array)(rows * columns);
  const [across, down] = [width / columns, height / rows];
  if (Number.isInteger(across) && Number.isInteger(down)) {
    const scale = Math.fround(1 / (across * down));
    for (let row = 0, place = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++, place++) {
        let sum = 0;
        for (let y = row * down; y < (row + 1) * down; y++) {
          for (let x = column * across; x < (column + 1) * across; x++) sum += pixels[y * width + x];
        }
        const mean = Math.fround(sum * scale);
        if (deep) found[place] = mean;
        else found[place] = across === 2 && down === 2 ? (sum + 2) >> 2 : roundHalfToEven(mean);
      }
    }
    return found;
  }
  const [xs, ys] = [areas(width, columns), areas(height, rows)];
  const line = new Float32Array(columns);
  const sums = new Float32Array(columns);
  for (let k = 0; k < ys.length; k++) {
    const { to, from, share } = ys[k];
    line.fill(0);
    for (const one of xs) line[one.to] += Math.fround(pixels[from * width + one.from] * one.share);
    for (let column = 0; column < columns; column++) sums[column] += Math.fround(share * line[column]);
    if (k + 1 === ys.length || ys[k + 1].to !== to) {
      for (let column = 0; column < columns; column++) {
        found[to * columns + column] = deep ? sums[column] : roundHalfToEven(sums[column]);
      }
      sums.fill(0);
    }
  }
  return found;
}

// Which source pixel contributes which share to which target pixel, along one axis.
function areas(source, target) {
  const scale = source / target;
  const found = [];
  const add = (to, from, share) => found.push({ to, from, share: Math.fround(share) });
  for (let to = 0; to < target; to++) {
    const [start, end] = [to * scale, to * scale + scale];
    const cell = Math.min(scale, source - start);
    const last = Math.min(Math.floor(end), source - 1);
    const first = Math.min(Math.ceil(start), last);
    if (first - start > 1e-3) add(to, first - 1, (first - start) / cell);
    for (let from = first; from < last; from++) add(to, from, 1 / cell);
    if (end - last > 1e-3) add(to, last, Math.min(end - last, 1, cell) / cell);
  }
  return found;
}

function resizeLinearly(pixels, width, height, columns, rows) {
  const deep = pixels instanceof Uint16Array;
  const found = new (deep ? Float32Array : Uint8Array)(rows * columns);
  const [xs, ys] = [places(width, columns, deep, true), places(height, rows, deep, false)];
  for (let row = 0, place = 0; row < rows; row++) {
    const { first: top, next: bottom, before: up, after: low } = ys[row];
    for (let column = 0; column < columns; column++, place++) {
      const { first, next, before, after } = xs[column];
      const above = pixels[top * width + first] * before + pixels[top * width + next] * after;
      const below = pixels[bottom * width + first] * before + pixels[bottom * width + next] * after;
      if (deep) found[place] = above * up + below * low;
      else found[place] = (((up * (above >> 4)) >> 16) + ((low * (below >> 4)) >> 16) + 2) >> 2;
    }
  }
  return found;
}

// For each target pixel its two neighbours and their shares: of 2048, or of 1 in floating point. Outside the image both
// neighbours are the border; OpenCV then sets the shares to 1 and 0 across, but not down, which rounds differently.
function places(source, target, deep, across) {
  const unit = deep ? 1 : 2048;
  return Array.from({ length: target }, (_, to) => {
    const exact = Math.fround((to + 0.5) * (source / target) - 0.5);
    const start = Math.floor(exact);
    const outside = across && (start < 0 || start >= source - 1);
    const part = outside ? 0 : Math.fround(exact - start);
    const [before, after] = [Math.fround(1 - part) * unit, part * unit].map((v) => (deep ? v : roundHalfToEven(v)));
    const inside = (from) => Math.max(0, Math.min(source - 1, from));
    return { first: inside(start), next: inside(start + 1), before, after };
  });
}

// A radiograph as a cache has it, (size, size) uint8: cxr.imaging.decode.reduced.
function reduced({ width, height, pixels }, size) {
  let small = resize(pixels, width, height, size, size, Math.min(width, height) >= size);
  if (pixels instanceof Uint16Array) small = Uint8Array.from(small, (value) => roundHalfToEven(value / 257));
  const [source, unit] = pixels.length <= small.length ? [pixels, pixels instanceof Uint16Array ? 257 : 1] : [small, 1];
  const mean = source.reduce((sum, value) => sum + value, 0) / source.length;
  const spread = Math.sqrt(source.reduce((sum, value) => sum + (value - mean) ** 2, 0) / source.length);
  if (spread / unit < 1) throw new Refused("blank");
  return small;
}

// What a network sees of a cached image: cxr.imaging.preprocessing.Preprocessing.view.
function view(small, { size, cached, crop }) {
  if (!crop) return resize(small, cached, cached, size, size, cached >= 2 * size);
  const start = Math.floor((cached - size) / 2);
  const found = new Uint8Array(size * size);
  for (let row = 0; row < size; row++) {
    const from = (row + start) * cached + start;
    found.set(small.subarray(from, from + size), row * size);
  }
  return found;
}
