// Small charts: the numbers of a code as bars, and the test error against the number of dimensions.

import { about, codes, format, latentDim } from "./data.js";
import { themeColour, toCss } from "./colours.js";

const FULL_BAR = 0.995; // share of all numbers in the codes that are not longer than the longest bar
const largestCode = codes.map(Math.abs).sort()[Math.floor(FULL_BAR * (codes.length - 1))] || 1;

/** Numbers between two others at steps of 1, 2 or 5 times a power of ten. */
export function chooseTicks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find(factor => factor * power >= rough);
  const ticks = [];
  for (let n = Math.ceil(low / step); n * step <= high; n++) ticks.push(Number((n * step).toPrecision(6)));
  return ticks;
}

/** Clear a canvas of as many pixels as it covers on the screen; returns its context in CSS pixels, and its size in them. */
export function prepareCanvas(canvas) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  const [columns, rows] = [canvas.clientWidth, canvas.clientHeight];
  const size = [Math.round(columns * ratio), Math.round(rows * ratio)];
  const context = canvas.getContext("2d");
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, columns, rows);
  return { context, columns, rows };
}

/** A bar for each number of a code, in the order of what the dimensions carry; zeros of a sparse code have none. */
export function drawCode(canvas, code) {
  const { context, columns, rows } = prepareCanvas(canvas);
  const step = columns / latentDim;
  const middle = rows / 2;
  context.fillStyle = toCss(themeColour("--line"));
  context.fillRect(0, middle - 0.5, columns, 1);
  context.fillStyle = toCss(themeColour("--accent"));
  about.dimensions.forEach((dimension, place) => {
    const length = Math.max(-1, Math.min(1, code[dimension] / largestCode)) * (middle - 2);
    context.fillRect(place * step + step * 0.1, Math.min(middle, middle - length), step * 0.8, Math.abs(length));
  });
  const active = code.reduce((count, value) => count + (value !== 0), 0);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `code: ${latentDim} numbers, ${active} of them not zero`);
  canvas.title = about.dimensions.slice(0, 20).map(d => `z${d} = ${format(code[d])}`).join("\n");
}

/** Test error against latent_dim: this model, its neighbours in the sweep, and PCA. Fills an <svg>. */
export function drawErrorCurve(svg) {
  const own = { latent_dim: latentDim, mse: about.metrics.mse };
  const runs = about.sweep?.runs.filter(run => !run.own) ?? [];
  const largest = Math.max(latentDim, ...runs.map(run => run.latent_dim), 4) * 1.15;
  const pca = about.pca.filter(([dimension]) => dimension <= largest);
  const highest = Math.max(own.mse, ...runs.map(run => run.mse), ...pca.map(([, mse]) => mse)) * 1.08;
  const [left, right, top, bottom] = [62, 560, 12, 250];
  const x = value => left + ((right - left) * Math.log(value)) / Math.log(largest);
  const y = value => bottom - ((bottom - top) * value) / highest;
  const add = (tag, attributes, text = "") => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.textContent = text;
    svg.append(node);
    return node;
  };
  svg.replaceChildren();
  for (const tick of chooseTicks(0, highest, 5)) {
    add("line", { class: "grid", x1: left, x2: right, y1: y(tick), y2: y(tick) });
    add("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, String(tick));
  }
  for (let tick = 1; tick <= largest; tick *= 2) {
    add("text", { x: x(tick), y: bottom + 18, "text-anchor": "middle" }, String(tick));
  }
  add("text", { x: right, y: bottom + 36, "text-anchor": "end" }, "latent_dim");
  add("text", { x: left, y: top - 2 }, "mse on the test images");
  if (pca.length > 1) {
    add("polyline", { class: "pca", points: pca.map(([dimension, mse]) => `${x(dimension)},${y(mse)}`).join(" ") });
    const [dimension, mse] = pca[Math.floor(pca.length / 3)];
    add("text", { x: x(dimension) + 8, y: y(mse) - 6 }, "PCA");
  }
  for (const run of runs) {
    const dot = add("circle", { class: "run", cx: x(run.latent_dim), cy: y(run.mse), r: 4 });
    dot.append(document.createElementNS("http://www.w3.org/2000/svg", "title"));
    dot.firstChild.textContent = `${run.name}: ${format(run.mse)}`;
  }
  add("circle", { class: "own", cx: x(own.latent_dim), cy: y(own.mse), r: 6 });
  const isRight = x(own.latent_dim) > (left + right) / 2;
  const place = { x: x(own.latent_dim) + (isRight ? -12 : 12), y: y(own.mse) + 16 };
  add("text", { ...place, class: "own-label", "text-anchor": isRight ? "end" : "start" }, "this model");
}
