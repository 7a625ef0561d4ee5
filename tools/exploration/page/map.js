// The map of the codes: dots or images at points, moved, zoomed, pointed at, chosen, encircled.
//
// Points are in the map's own unit; a view says which of them are seen: x of the screen = left + scaleX * x. Two
// canvases: the dots below, and above them what changes as the pointer moves.

import { about, height, sprite, spritePlace, width } from "./data.js";
import { onThemeChange, themeColour, toCss } from "./colours.js";
import { chooseTicks, prepareCanvas } from "./charts.js";
import { DotPainter } from "./dots.js";
import { listen, narrow, select, state } from "./state.js";

const NEAR = 14; // CSS pixels from a dot, within which it is pointed at
const TOOLS = 52; // CSS pixels at the top, which the buttons cover
const TILE = 36; // CSS pixels, the longer side of an image on the map

export class CodeMap {
  /** canvas, overlay: one above the other. onPoint(index or -1, event): the pointer is at another dot. */
  constructor(canvas, overlay, onPoint) {
    Object.assign(this, { canvas, overlay, onPoint });
    this.xs = this.ys = new Float32Array(about.count);
    this.colours = [];
    this.shapes = new Uint8Array(about.count);
    this.mode = "move"; // or lasso
    this.showsImages = false;
    this.axes = null; // { x, y }: names, where the numbers on them mean something
    this.pointed = -1;
    this.pointers = new Map();
    this.path = []; // of the lasso, in CSS pixels
    new ResizeObserver(() => this.resize()).observe(canvas);
    onThemeChange(() => this.draw());
    for (const kind of ["selected", "marks"]) listen(kind, () => this.drawOverlay());
    listen("found", () => this.draw());
    overlay.addEventListener("pointerdown", event => this.press(event));
    overlay.addEventListener("pointermove", event => this.drag(event));
    for (const kind of ["pointerup", "pointercancel"]) overlay.addEventListener(kind, event => this.release(event));
    overlay.addEventListener("pointerleave", () => this.point(-1));
    overlay.addEventListener("wheel", event => this.turnWheel(event), { passive: false });
    overlay.addEventListener("keydown", event => this.pressKey(event));
  }

  /** Show other points. isotropic: a unit is as long in both directions. */
  setPoints(xs, ys, axes, isotropic) {
    Object.assign(this, { xs, ys, axes, isotropic });
    this.showAll();
  }

  /** The colour [r, g, b] and the shape of each dot. */
  setColours(colours, shapes) {
    Object.assign(this, { colours, shapes });
    this.draw();
  }

  resize() {
    const { columns, rows } = prepareCanvas(this.overlay);
    prepareCanvas(this.canvas);
    const isFirst = !this.painter;
    if (!this.canvas.width || !this.canvas.height) return;
    this.painter = new DotPainter(this.canvas.getContext("2d"), this.canvas.width, this.canvas.height);
    if (isFirst || !this.columns) this.showAll();
    else {
      this.view.left += (columns - this.columns) / 2;
      this.view.top += (rows - this.rows) / 2;
    }
    [this.columns, this.rows] = [columns, rows];
    this.paint();
  }

  /** See all points. */
  showAll() {
    const [lowX, highX, lowY, highY] = [...findRange(this.xs), ...findRange(this.ys)];
    const margin = this.axes ? 40 : 20;
    const [columns, rows] = [this.overlay.clientWidth, this.overlay.clientHeight];
    let scaleX = (columns - 2 * margin) / (highX - lowX || 1);
    let scaleY = (rows - margin - TOOLS) / (highY - lowY || 1);
    if (this.isotropic) scaleX = scaleY = Math.min(scaleX, scaleY);
    const [left, top] = [columns / 2 - (scaleX * (lowX + highX)) / 2, (rows - margin + TOOLS) / 2 + (scaleY * (lowY + highY)) / 2];
    this.view = { scaleX, scaleY, left, top };
    this.draw();
  }

  screenX(index) {
    return this.view.left + this.view.scaleX * this.xs[index];
  }

  screenY(index) {
    return this.view.top - this.view.scaleY * this.ys[index];
  }

  /** Zoom about a place on the screen. */
  zoom(factor, x = this.columns / 2, y = this.rows / 2) {
    const { scaleX, scaleY, left, top } = this.view;
    this.view = { scaleX: scaleX * factor, scaleY: scaleY * factor, left: x + (left - x) * factor, top: y + (top - y) * factor };
    this.draw();
  }

  move(right, down) {
    this.view.left += right;
    this.view.top += down;
    this.draw();
  }

  /** Draw in the next frame, once. */
  draw() {
    if (this.isWaiting || !this.painter) return;
    this.isWaiting = true;
    requestAnimationFrame(() => {
      this.isWaiting = false;
      this.paint();
    });
  }

  paint() {
    if (!this.colours.length) return; // not yet known
    const ratio = this.canvas.width / this.columns;
    const { painter } = this;
    const [faint, radius] = [themeColour("--faint"), Math.max(1.5, this.chooseRadius() * ratio)];
    painter.clear(themeColour("--card"));
    const { found } = state;
    for (const isFront of found ? [0, 1] : [1]) {
      for (let i = 0; i < about.count; i++) {
        if (found && found[i] !== isFront) continue;
        const [x, y] = [this.screenX(i) * ratio, this.screenY(i) * ratio];
        if (x < -9 || y < -9 || x > painter.columns + 9 || y > painter.rows + 9) continue;
        painter.dot(x, y, this.shapes[i], isFront ? radius : radius * 0.75, isFront ? this.colours[i] : faint);
      }
    }
    painter.show();
    if (this.showsImages) this.paintImages(ratio);
    this.drawOverlay();
  }

  /** CSS pixels: dots grow as they become fewer on the screen. */
  chooseRadius() {
    return about.count > 4000 ? 2.25 : about.count > 600 ? 3.25 : 4.5;
  }

  /** Images in place of dots, as many as fit side by side: the first of each square that moves with the map. */
  paintImages(ratio) {
    const context = this.canvas.getContext("2d");
    const scale = (TILE / Math.max(height, width)) * ratio;
    const [w, h] = [width * scale, height * scale];
    context.save();
    context.setTransform(1, 0, 0, 1, 0, 0);
    const taken = new Set();
    for (let i = 0; i < about.count; i++) {
      if (state.found && !state.found[i]) continue;
      const [x, y] = [this.screenX(i) * ratio, this.screenY(i) * ratio];
      if (x < -w || y < -h || x > this.canvas.width + w || y > this.canvas.height + h) continue;
      const square = `${Math.floor((x - this.view.left * ratio) / w)} ${Math.floor((y - this.view.top * ratio) / h)}`;
      if (taken.has(square)) continue;
      taken.add(square);
      context.fillStyle = toCss(this.colours[i]);
      context.fillRect(x - w / 2 - 2, y - h / 2 - 2, w + 4, h + 4);
      context.drawImage(sprite, ...spritePlace(i), width, height, x - w / 2, y - h / 2, w, h);
    }
    context.restore();
  }

  /** Axes, the chosen dot, marks, the lasso. */
  drawOverlay() {
    if (!this.painter) return;
    const { context, columns, rows } = prepareCanvas(this.overlay);
    context.font = "12px system-ui, sans-serif";
    if (this.axes) this.drawAxes(context, columns, rows);
    const ink = toCss(themeColour("--ink"));
    const ring = (index, radius, thickness) => {
      context.lineWidth = thickness;
      context.strokeStyle = ink;
      context.beginPath();
      context.arc(this.screenX(index), this.screenY(index), radius, 0, 2 * Math.PI);
      context.stroke();
    };
    context.lineJoin = "round";
    ring(state.selected, 9, 2.5);
    for (const { index, text } of state.marks) {
      ring(index, 6, 1.5);
      const place = [this.screenX(index) + 13, this.screenY(index) + 4];
      context.lineWidth = 4;
      context.strokeStyle = toCss(themeColour("--card"));
      context.strokeText(text, ...place);
      context.fillStyle = ink;
      context.fillText(text, ...place);
    }
    if (this.pointed >= 0) ring(this.pointed, 6, 1.5);
    if (this.path.length > 1) {
      context.setLineDash([4, 4]);
      context.beginPath();
      for (const [x, y] of this.path) context.lineTo(x, y);
      context.closePath();
      context.stroke();
    }
  }

  drawAxes(context, columns, rows) {
    const { scaleX, scaleY, left, top } = this.view;
    context.fillStyle = toCss(themeColour("--soft"));
    context.textAlign = "center";
    for (const tick of chooseTicks((50 - left) / scaleX, (columns - 30 - left) / scaleX, 6)) {
      context.fillText(String(tick), left + scaleX * tick, rows - 8);
    }
    context.textAlign = "left";
    for (const tick of chooseTicks((top - rows + 40) / scaleY, (top - 30) / scaleY, 6)) {
      context.fillText(String(tick), 6, top - scaleY * tick + 4);
    }
    context.fillText(this.axes.y, 6, 16);
    context.textAlign = "right";
    context.fillText(this.axes.x, columns - 8, rows - 24);
    context.textAlign = "left";
  }

  /** The dot nearest to a place on the screen, -1 if none is near. Dots that are not found don't count. */
  findNear(x, y, limit = NEAR) {
    let [best, nearest] = [-1, limit * limit];
    for (let i = 0; i < about.count; i++) {
      if (state.found && !state.found[i]) continue;
      const distance = (this.screenX(i) - x) ** 2 + (this.screenY(i) - y) ** 2;
      if (distance < nearest) [best, nearest] = [i, distance];
    }
    return best;
  }

  point(index) {
    if (index === this.pointed) return;
    this.pointed = index;
    this.overlay.style.cursor = index >= 0 ? "pointer" : "";
    this.onPoint(index);
    this.drawOverlay();
  }

  press(event) {
    this.overlay.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    this.hasMoved = false;
    this.start = [event.offsetX, event.offsetY];
    this.path = this.mode === "lasso" || event.shiftKey ? [[event.offsetX, event.offsetY]] : [];
  }

  drag(event) {
    const [x, y] = [event.offsetX, event.offsetY];
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      this.point(this.findNear(x, y));
      return;
    }
    if (Math.hypot(x - this.start[0], y - this.start[1]) > 4) this.hasMoved = true;
    if (this.pointers.size === 2) {
      const [[, other]] = [...this.pointers].filter(([id]) => id !== event.pointerId);
      const spread = ([a, b]) => Math.hypot(a - other[0], b - other[1]);
      this.zoom(spread([x, y]) / (spread(before) || 1), (x + other[0]) / 2, (y + other[1]) / 2);
      this.move((x - before[0]) / 2, (y - before[1]) / 2);
    } else if (this.path.length) {
      this.path.push([x, y]);
      this.drawOverlay();
    } else if (this.hasMoved) {
      this.point(-1);
      this.move(x - before[0], y - before[1]);
    }
    this.pointers.set(event.pointerId, [x, y]);
  }

  release(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    if (this.hasMoved && this.path.length > 2) this.closeLasso();
    else if (!this.hasMoved && event.type === "pointerup") {
      const index = this.findNear(event.offsetX, event.offsetY, 2 * NEAR);
      if (index >= 0) select(index);
    }
    this.path = [];
    this.drawOverlay();
  }

  closeLasso() {
    const inside = [...Array(about.count).keys()].filter(i => isInside(this.path, this.screenX(i), this.screenY(i)));
    narrow({ lasso: inside.length ? new Set(inside) : null });
  }

  /** The dots that are on the screen. */
  listVisible() {
    return [...Array(about.count).keys()].filter(i => {
      const [x, y] = [this.screenX(i), this.screenY(i)];
      return x >= 0 && y >= 0 && x <= this.columns && y <= this.rows;
    });
  }

  turnWheel(event) {
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.offsetX, event.offsetY);
  }

  pressKey(event) {
    const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const actions = {
      "+": () => this.zoom(1.3),
      "=": () => this.zoom(1.3),
      "-": () => this.zoom(1 / 1.3),
      0: () => this.showAll(),
      Escape: () => narrow({ lasso: null }),
    };
    if (direction && event.shiftKey) this.move(-60 * direction[0], -60 * direction[1]);
    else if (direction) this.step(...direction);
    else if (event.key in actions) actions[event.key]();
    else return;
    event.preventDefault();
  }

  /** Choose the next dot in a direction. */
  step(right, down) {
    const [x, y] = [this.screenX(state.selected), this.screenY(state.selected)];
    let [best, least] = [-1, Infinity];
    for (let i = 0; i < about.count; i++) {
      if (i === state.selected || (state.found && !state.found[i])) continue;
      const [dx, dy] = [this.screenX(i) - x, this.screenY(i) - y];
      const ahead = dx * right + dy * down;
      const aside = Math.abs(dx * down) + Math.abs(dy * right);
      if (ahead > 0 && aside <= ahead && ahead + 2 * aside < least) [best, least] = [i, ahead + 2 * aside];
    }
    if (best >= 0) select(best);
  }
}

function findRange(values) {
  return values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
}

/** Whether a place is inside a polygon: a line from it to the right crosses the polygon an odd number of times. */
function isInside(polygon, x, y) {
  let inside = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [[ax, ay], [bx, by]] = [polygon[i], polygon[j]];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  }
  return inside;
}
