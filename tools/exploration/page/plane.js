// Codes of two numbers: the plane of all codes, with decoded images on a grid. Its cross is the code.

import { codes, element, height, width } from "./data.js";
import { themeColour, toCss } from "./colours.js";
import { prepareCanvas } from "./charts.js";
import { decode } from "./network.js";
import { drawPixels } from "./pictures.js";

const GRID = 13; // images in each direction
const FRAME = 12; // milliseconds of decoding in a frame
const background = document.createElement("canvas");
let range; // [lowest, size] of each number
let cross = [0, 0];

/** onMove(code): the cross was moved. */
export function startPlane(onMove) {
  range = [0, 1].map(axis => {
    const values = codes.filter((_, i) => i % 2 === axis).sort();
    return [values[0], values[values.length - 1] - values[0] || 1];
  });
  const canvas = element("plane");
  const move = event => {
    const share = [event.offsetX / canvas.clientWidth, 1 - event.offsetY / canvas.clientHeight];
    onMove(range.map(([low, size], axis) => low + Math.min(1, Math.max(0, share[axis])) * size));
  };
  canvas.addEventListener("pointerdown", event => {
    canvas.setPointerCapture(event.pointerId);
    move(event);
  });
  canvas.addEventListener("pointermove", event => event.buttons && move(event));
  canvas.addEventListener("keydown", event => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!step) return;
    event.preventDefault();
    onMove(cross.map((value, axis) => value + (step[axis] * range[axis][1]) / 100));
  });
  new ResizeObserver(drawPlane).observe(canvas);
  [background.width, background.height] = [GRID * width, GRID * height];
  decodeFrom(0);
}

export function movePlane(code) {
  cross = [...code];
  drawPlane();
}

/** Decode the grid from a square on, some in each frame. */
function decodeFrom(square) {
  const start = performance.now();
  const tile = document.createElement("canvas");
  for (; square < GRID * GRID && performance.now() - start < FRAME; square++) {
    const [column, row] = [square % GRID, Math.floor(square / GRID)];
    const share = [(column + 0.5) / GRID, 1 - (row + 0.5) / GRID];
    drawPixels(tile, decode(Float32Array.from(range, ([low, size], axis) => low + share[axis] * size)));
    background.getContext("2d").drawImage(tile, column * width, row * height);
  }
  drawPlane();
  if (square < GRID * GRID) requestAnimationFrame(() => decodeFrom(square));
}

function drawPlane() {
  const { context, columns, rows } = prepareCanvas(element("plane"));
  if (!columns) return;
  context.drawImage(background, 0, 0, columns, rows);
  const [x, y] = range.map(([low, size], axis) => (cross[axis] - low) / size);
  for (const [thickness, colour] of [[5, "#000"], [2, toCss(themeColour("--cross"))]]) {
    context.lineWidth = thickness;
    context.strokeStyle = colour;
    context.beginPath();
    context.arc(x * columns, (1 - y) * rows, 9, 0, 2 * Math.PI);
    context.stroke();
  }
}
