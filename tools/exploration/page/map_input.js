// What pointers, the wheel and keys do to the map.

import { about } from "./data.js";
import { narrow, select } from "./state.js";

const NEAR_A_CLICK = 28; // CSS pixels from a dot, within which a click or a finger chooses it
const STILL = 4; // CSS pixels that a pointer may move in a click

export class MapInput {
  constructor(map) {
    this.map = map;
    this.isLasso = false; // a drag encircles dots; else it moves the map
    this.pointers = new Map(); // those that are down: id -> [x, y]
    const { overlay } = map;
    overlay.addEventListener("pointerdown", event => this.press(event));
    overlay.addEventListener("pointermove", event => this.drag(event));
    for (const kind of ["pointerup", "pointercancel"]) overlay.addEventListener(kind, event => this.release(event));
    overlay.addEventListener("pointerleave", () => map.point(-1));
    overlay.addEventListener("wheel", event => this.turnWheel(event), { passive: false });
    overlay.addEventListener("keydown", event => this.pressKey(event));
  }

  press(event) {
    this.map.overlay.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    this.hasMoved = false;
    this.start = [event.offsetX, event.offsetY];
    this.map.path = this.isLasso || event.shiftKey ? [[event.offsetX, event.offsetY]] : [];
  }

  drag(event) {
    const [x, y] = [event.offsetX, event.offsetY];
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      this.map.point(this.map.findNear(x, y));
      return;
    }
    if (Math.hypot(x - this.start[0], y - this.start[1]) > STILL) this.hasMoved = true;
    if (this.pointers.size === 2) {
      const [[, other]] = [...this.pointers].filter(([id]) => id !== event.pointerId);
      const spread = ([a, b]) => Math.hypot(a - other[0], b - other[1]);
      this.map.zoom(spread([x, y]) / (spread(before) || 1), (x + other[0]) / 2, (y + other[1]) / 2);
      this.map.move((x - before[0]) / 2, (y - before[1]) / 2);
    } else if (this.map.path.length) {
      this.map.path.push([x, y]);
      this.map.drawOverlay();
    } else if (this.hasMoved) {
      this.map.point(-1);
      this.map.move(x - before[0], y - before[1]);
    }
    this.pointers.set(event.pointerId, [x, y]);
  }

  release(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    if (this.hasMoved && this.map.path.length > 2) this.closeLasso();
    else if (!this.hasMoved && event.type === "pointerup") {
      const index = this.map.findNear(event.offsetX, event.offsetY, NEAR_A_CLICK);
      if (index >= 0) select(index);
    }
    this.map.path = [];
    this.map.drawOverlay();
  }

  closeLasso() {
    const inside = [...Array(about.count).keys()].filter(i => isInside(this.map.path, this.map.screenX(i), this.map.screenY(i)));
    narrow({ lasso: inside.length ? new Set(inside) : null });
  }

  turnWheel(event) {
    event.preventDefault();
    this.map.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.offsetX, event.offsetY);
  }

  pressKey(event) {
    const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const actions = {
      "+": () => this.map.zoom(1.3),
      "=": () => this.map.zoom(1.3),
      "-": () => this.map.zoom(1 / 1.3),
      0: () => this.map.showAll(),
      Escape: () => narrow({ lasso: null }),
    };
    if (direction && event.shiftKey) this.map.move(-60 * direction[0], -60 * direction[1]);
    else if (direction) this.map.step(...direction);
    else if (event.key in actions) actions[event.key]();
    else return;
    event.preventDefault();
  }
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
