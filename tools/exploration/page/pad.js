// A pad to draw on, with the pixels of a model's image: the brush sets pixels, so nothing is resized.

import { channels, height, pixelCount, width } from "./data.js";
import { drawPixels } from "./pictures.js";

export class Pad {
  /** canvas shows the pixels. readBrush() -> { colour: [r, g, b] in [0, 1], radius in pixels }. onChange(pixels). */
  constructor(canvas, readBrush, onChange) {
    Object.assign(this, { canvas, readBrush, onChange });
    this.pixels = new Float32Array(pixelCount);
    this.cursor = [width / 2, height / 2]; // of the keyboard
    canvas.addEventListener("pointerdown", event => {
      canvas.setPointerCapture(event.pointerId);
      this.begin(this.place(event));
    });
    canvas.addEventListener("pointermove", event => event.buttons && this.last && this.strokeTo(this.place(event)));
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, () => (this.last = null));
    canvas.addEventListener("keydown", event => this.pressKey(event));
  }

  /** Show other pixels (channels, height, width) in [0, 1]. */
  setPixels(pixels) {
    this.pixels.set(pixels);
    this.change();
  }

  change() {
    drawPixels(this.canvas, this.pixels);
    this.onChange(this.pixels);
  }

  place(event) {
    const { clientWidth, clientHeight } = this.canvas;
    return [(event.offsetX / clientWidth) * width, (event.offsetY / clientHeight) * height];
  }

  /** Begin a stroke. Within one the brush covers a pixel once, so that crossings do not grow bolder. */
  begin(place) {
    this.before = this.pixels.slice();
    this.cover = new Float32Array(height * width);
    this.last = place;
    this.strokeTo(place);
  }

  strokeTo(place) {
    const { colour, radius } = this.readBrush();
    const [[ax, ay], [bx, by]] = [this.last, place];
    const length = (bx - ax) ** 2 + (by - ay) ** 2;
    const size = height * width;
    for (let i = 0; i < size; i++) {
      const [x, y] = [(i % width) + 0.5, Math.floor(i / width) + 0.5];
      const share = length ? Math.min(1, Math.max(0, ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length)) : 0;
      const distance = Math.hypot(ax + share * (bx - ax) - x, ay + share * (by - ay) - y);
      const cover = Math.min(1, Math.max(0, radius + 0.5 - distance));
      if (cover <= this.cover[i]) continue;
      this.cover[i] = cover;
      for (let c = 0; c < channels; c++) {
        const at = c * size + i;
        this.pixels[at] = this.before[at] * (1 - cover) + colour[c] * cover;
      }
    }
    this.last = place;
    this.change();
  }

  /** Arrows move the brush; with Shift they draw. Space sets a dot. */
  pressKey(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step && event.key !== " ") return;
    event.preventDefault();
    const from = this.cursor;
    if (step) {
      const stride = Math.max(1, width / 28);
      this.cursor = [
        Math.min(width, Math.max(0, from[0] + stride * step[0])),
        Math.min(height, Math.max(0, from[1] + stride * step[1])),
      ];
    }
    if (!step || event.shiftKey) {
      if (!this.isTyping) this.begin(from);
      this.strokeTo(this.cursor);
      this.isTyping = Boolean(step);
    } else this.isTyping = false;
    this.last = null;
    if (this.isTyping) this.last = this.cursor;
    this.showCursor();
  }

  showCursor() {
    drawPixels(this.canvas, this.pixels);
    const context = this.canvas.getContext("2d");
    context.fillStyle = "#e76300";
    context.fillRect(Math.floor(this.cursor[0]), Math.floor(this.cursor[1]), 1, 1);
  }
}
