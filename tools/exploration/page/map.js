// The map of the codes: dots or images at points. map_input.js lets a user move, zoom, point, choose and encircle.
//
// Points are in the map's own unit; a view says which of them are seen: x of the screen = left + scaleX * x. Two
// canvases: the dots below, and above them what changes as the pointer moves.

import { about, height, sprite, spritePlace, width } from "./data.js";
import { onThemeChange, themeColour, toCss } from "./colours.js";
import { chooseTicks, prepareCanvas } from "./charts.js";
import { DotPainter } from "./dots.js";
import { listen, select, state } from "./state.js";

const NEAR = 14; // CSS pixels from a dot, within which it is pointed at
const TOOLS = 52; // CSS pixels at the top, which the buttons cover
const TILE = 36; // CSS pixels, the longer side of an image on the map
const NEIGHBOUR_SQUARES = [-1, 0, 1].flatMap(right => [-1, 0, 1].map(down => [right, down]));

export class CodeMap {
  /** canvas, overlay: one above the other. onPoint(index or -1, event): the pointer is at another dot. */
  constructor(canvas, overlay, onPoint) {
    Object.assign(this, { canvas, overlay, onPoint });
    this.xs = this.ys = new Float32Array(about.count);
    this.colours = [];
    this.shapes = new Uint8Array(about.count);
    this.showsImages = false;
    this.axes = null; // { x, y }: names, where the numbers on them mean something
    this.pointed = -1;
    this.path = []; // of the lasso, in CSS pixels
    new ResizeObserver(() => this.resize()).observe(canvas);
    onThemeChange(() => this.draw());
    for (const kind of ["selected", "marks"]) listen(kind, () => this.drawOverlay());
    listen("found", () => this.draw());
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

  /** Images in place of dots, those that cover none that was drawn before. */
  paintImages(ratio) {
    const context = this.canvas.getContext("2d");
    const scale = (TILE / Math.max(height, width)) * ratio;
    const [w, h] = [width * scale, height * scale];
    context.save();
    context.setTransform(1, 0, 0, 1, 0, 0);
    const taken = new Map(); // square of the size of an image -> where the image in it stands
    for (let i = 0; i < about.count; i++) {
      if (state.found && !state.found[i]) continue;
      const [x, y] = [this.screenX(i) * ratio, this.screenY(i) * ratio];
      if (x < -w || y < -h || x > this.canvas.width + w || y > this.canvas.height + h) continue;
      const [column, row] = [Math.floor(x / (w + 4)), Math.floor(y / (h + 4))];
      const isCovering = NEIGHBOUR_SQUARES.some(([right, down]) => {
        const other = taken.get(`${column + right} ${row + down}`);
        return other && Math.abs(other[0] - x) < w + 4 && Math.abs(other[1] - y) < h + 4;
      });
      if (isCovering) continue;
      taken.set(`${column} ${row}`, [x, y]);
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
    context.setLineDash([]);
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
      const isAtEdge = this.screenX(index) + 13 + context.measureText(text).width > columns;
      context.textAlign = isAtEdge ? "right" : "left";
      const place = [this.screenX(index) + (isAtEdge ? -13 : 13), this.screenY(index) + 4];
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

  /** The dots that are on the screen. */
  listVisible() {
    return [...Array(about.count).keys()].filter(i => {
      const [x, y] = [this.screenX(i), this.screenY(i)];
      return x >= 0 && y >= 0 && x <= this.columns && y <= this.rows;
    });
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
