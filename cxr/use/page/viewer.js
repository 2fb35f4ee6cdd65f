// The radiograph on a canvas: window, zoom, and an attention map over it.

// Matplotlib's "inferno" (van der Walt and Smith, CC0) at nine equal steps.
const INFERNO = [
  [0, 0, 4], [31, 12, 72], [85, 15, 109], [136, 34, 106], [186, 54, 85], [227, 89, 51], [249, 140, 10], [249, 201, 50],
  [252, 255, 164],
];
const MOST_SIDE = 2048; // pixels of the displayed film; a larger one is thinned for display only
const HEAT = 256; // pixels of the displayed map

class Viewer {
  constructor(canvas) {
    this.canvas = canvas;
    this.film = null;
    this.heat = [];
    this.opacity = 0;
    this.reset();
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  reset() {
    Object.assign(this, { level: 128, width: 256, inverted: false, zoom: 1, x: 0, y: 0, stale: true });
  }

  show({ width, height, pixels }) {
    const step = Math.ceil(Math.max(width, height) / MOST_SIDE);
    const [columns, rows] = [Math.floor(width / step), Math.floor(height / step)];
    this.gray = new Float32Array(columns * rows);
    const unit = pixels instanceof Uint16Array ? 257 : 1;
    for (let row = 0, place = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++, place++) {
        this.gray[place] = pixels[row * step * width + column * step] / unit;
      }
    }
    this.film = new OffscreenCanvas(columns, rows);
    this.heat = [];
    this.reset();
    this.draw();
  }

  clear() {
    this.film = null;
    this.draw();
  }

  // Maps of `attentionOf`, each drawn where its network saw the film.
  showMaps(maps) {
    this.heat = maps.map((map) => ({ canvas: colour(map), ...map.preprocessing, share: 1 / maps.length }));
    this.draw();
  }

  set(changes) {
    const window = ["level", "width", "inverted"].some((name) => name in changes);
    Object.assign(this, changes, window && { stale: true });
    this.draw();
  }

  develop() {
    const { width, height } = this.film;
    const shown = new ImageData(width, height);
    const words = new Uint32Array(shown.data.buffer);
    const low = this.level - this.width / 2;
    for (let place = 0; place < words.length; place++) {
      let value = Math.max(0, Math.min(255, ((this.gray[place] - low) * 255) / this.width)) | 0;
      if (this.inverted) value = 255 - value;
      words[place] = 0xff000000 | (value * 0x010101);
    }
    this.film.getContext("2d").putImageData(shown, 0, 0);
    this.stale = false;
  }

  draw() {
    const { canvas, film } = this;
    [canvas.width, canvas.height] = [canvas.clientWidth, canvas.clientHeight].map((side) => side * devicePixelRatio);
    if (!film) return;
    if (this.stale) this.develop();
    const context = canvas.getContext("2d");
    const scale = this.scale();
    const left = canvas.width / 2 + (this.x - 0.5) * film.width * scale;
    const top = canvas.height / 2 + (this.y - 0.5) * film.height * scale;
    context.imageSmoothingQuality = "high";
    context.drawImage(film, left, top, film.width * scale, film.height * scale);
    let mixed = 0; // of the maps drawn so far, so that all have the same weight
    for (const { canvas: map, size, cached, crop, share } of this.opacity ? this.heat : []) {
      const [start, side] = crop ? [Math.floor((cached - size) / 2) / cached, size / cached] : [0, 1];
      mixed += share;
      context.globalAlpha = this.opacity * Math.max(share, share / mixed);
      const [width, height] = [film.width * scale, film.height * scale];
      context.drawImage(map, left + start * width, top + start * height, side * width, side * height);
    }
    context.globalAlpha = 1;
  }

  // Pixels of the canvas per pixel of the film.
  scale() {
    return Math.min(this.canvas.width / this.film.width, this.canvas.height / this.film.height) * this.zoom;
  }

  // Moves by parts of the canvas, keeping the film's centre inside.
  move(right, down) {
    const { canvas, film } = this;
    if (!film) return;
    const bound = (value) => Math.max(-0.5, Math.min(0.5, value));
    const [width, height] = [film.width * this.scale(), film.height * this.scale()];
    this.set({ x: bound(this.x + (right * canvas.width) / width), y: bound(this.y + (down * canvas.height) / height) });
  }
}

// A map as a picture, transparent where the network did not look.
function colour({ width, height, values }) {
  const picture = new ImageData(HEAT, HEAT);
  const at = (row, column) =>
    values[Math.max(0, Math.min(height - 1, row)) * width + Math.max(0, Math.min(width - 1, column))];
  for (let y = 0, place = 0; y < HEAT; y++) {
    const row = ((y + 0.5) * height) / HEAT - 0.5;
    const [top, down] = [Math.floor(row), row - Math.floor(row)];
    for (let x = 0; x < HEAT; x++, place += 4) {
      const column = ((x + 0.5) * width) / HEAT - 0.5;
      const [left, right] = [Math.floor(column), column - Math.floor(column)];
      const above = at(top, left) * (1 - right) + at(top, left + 1) * right;
      const below = at(top + 1, left) * (1 - right) + at(top + 1, left + 1) * right;
      const value = above * (1 - down) + below * down;
      const step = Math.min(INFERNO.length - 2, Math.floor(value * (INFERNO.length - 1)));
      const part = value * (INFERNO.length - 1) - step;
      for (let k = 0; k < 3; k++) picture.data[place + k] = INFERNO[step][k] * (1 - part) + INFERNO[step + 1][k] * part;
      picture.data[place + 3] = 255 * Math.max(0, Math.min(1, 2 * value - 0.5));
    }
  }
  const canvas = new OffscreenCanvas(HEAT, HEAT);
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas;
}
