// Thousands of dots, drawn pixel by pixel: on a canvas without a GPU, as many calls of arc() take five times as long.

import { SHAPES } from "./colours.js";

const INSIDE = {
  disc: (x, y) => x * x + y * y <= 1,
  square: (x, y) => Math.max(Math.abs(x), Math.abs(y)) <= 0.85,
  triangle: (x, y) => y <= 0.8 && y >= 2 * Math.abs(x) - 1,
  diamond: (x, y) => Math.abs(x) + Math.abs(y) <= 1.15,
  cross: (x, y) => Math.min(Math.abs(x), Math.abs(y)) <= 0.35 && Math.max(Math.abs(x), Math.abs(y)) <= 1,
  ring: (x, y) => x * x + y * y <= 1 && x * x + y * y >= 0.3,
};
const SAMPLES = 4; // in each direction, of a pixel's coverage

/** The pixels of one dot: flat [dx, dy, coverage from 0 to 256, ...]. radius: in pixels. */
function makeStamp(shape, radius) {
  const reach = Math.ceil(radius);
  const stamp = [];
  for (let y = -reach; y <= reach; y++) {
    for (let x = -reach; x <= reach; x++) {
      let hits = 0;
      for (let i = 0; i < SAMPLES * SAMPLES; i++) {
        const right = x - 0.5 + ((i % SAMPLES) + 0.5) / SAMPLES;
        const down = y - 0.5 + (Math.floor(i / SAMPLES) + 0.5) / SAMPLES;
        hits += INSIDE[shape](right / radius, down / radius);
      }
      if (hits) stamp.push(x, y, Math.round((256 * hits) / SAMPLES ** 2));
    }
  }
  return Int16Array.from(stamp);
}

/** Pixels to draw dots into, of the size of a canvas. */
export class DotPainter {
  constructor(context, columns, rows) {
    this.context = context;
    this.columns = columns;
    this.rows = rows;
    this.image = context.createImageData(columns, rows);
    this.pixels = new Uint32Array(this.image.data.buffer); // 0xAABBGGRR
    this.stamps = new Map();
  }

  clear([red, green, blue]) {
    this.pixels.fill((255 << 24) | (blue << 16) | (green << 8) | red);
  }

  /** Draw a dot at a pixel. shape: an index into SHAPES; colour: [r, g, b]. */
  dot(x, y, shape, radius, [red, green, blue]) {
    const key = shape + SHAPES.length * radius;
    if (!this.stamps.has(key)) this.stamps.set(key, makeStamp(SHAPES[shape], radius));
    const stamp = this.stamps.get(key);
    const { pixels, columns, rows } = this;
    const [column, row] = [Math.round(x), Math.round(y)];
    for (let i = 0; i < stamp.length; i += 3) {
      const [px, py, cover] = [column + stamp[i], row + stamp[i + 1], stamp[i + 2]];
      if (px < 0 || py < 0 || px >= columns || py >= rows) continue;
      const at = py * columns + px;
      const below = pixels[at];
      const rest = 256 - cover;
      const mixedRed = (red * cover + (below & 255) * rest) >> 8;
      const mixedGreen = (green * cover + ((below >> 8) & 255) * rest) >> 8;
      const mixedBlue = (blue * cover + ((below >> 16) & 255) * rest) >> 8;
      pixels[at] = (255 << 24) | (mixedBlue << 16) | (mixedGreen << 8) | mixedRed;
    }
  }

  show() {
    this.context.putImageData(this.image, 0, 0);
  }
}
