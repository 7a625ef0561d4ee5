// The way between the codes of two images, as a film and as a strip.

import { about, classOf, codeOf, create, element, labels, nearestImages } from "./data.js";
import { drawCode } from "./charts.js";
import { decode } from "./network.js";
import { createThumbnail, drawPixels, showThumbnails } from "./pictures.js";
import { mark, select, state } from "./state.js";

const FRAMES = 9; // of the strip
const SECONDS = 3; // of the film, one way
const ends = { a: 0, b: Math.max(0, labels.findIndex(label => label !== labels[0])) || about.count - 1 };
let startTime = 0; // of the film; 0: it does not play

export function startPathView() {
  for (const end of ["a", "b"]) {
    element(`set-${end}`).addEventListener("click", () => setEnd(end, state.selected));
    element(`end-${end}`).addEventListener("click", () => select(ends[end]));
  }
  element("position").addEventListener("input", () => {
    stop();
    showPosition();
  });
  element("play").addEventListener("click", () => (startTime ? stop() : play()));
  for (let i = 0; i < FRAMES; i++) element("strip").append(create("canvas", "", "picture"));
  showEnds();
}

/** Take an image as the beginning, a, or the end, b, of the way. */
export function setEnd(end, index) {
  ends[end] = index;
  showEnds();
}

/** Show the way again, with its ends marked on the map. */
export function showEnds() {
  for (const end of ["a", "b"]) {
    element(`end-${end}`).replaceChildren(createThumbnail(ends[end]), create("span", classOf(ends[end])));
    element(`end-${end}`).title = about.names[ends[end]];
  }
  [...element("strip").children].forEach((canvas, i) => drawPixels(canvas, decode(codeAt(i / (FRAMES - 1)))));
  const shares = [...element("strip").children].map((_, i) => i / (FRAMES - 1));
  showThumbnails(element("strip-neighbours"), shares.map(share => nearestImages(codeAt(share), 1)[0]), select);
  showPosition();
}

export function stopFilm() {
  if (startTime) stop();
}

function codeAt(share) {
  const [a, b] = [codeOf(ends.a), codeOf(ends.b)];
  return a.map((value, d) => (1 - share) * value + share * b[d]);
}

function showPosition() {
  const code = codeAt(Number(element("position").value));
  drawPixels(element("film"), decode(code));
  drawCode(element("film-code"), code);
  if (element("panel-path").hidden) return;
  const nearest = nearestImages(code, 1)[0].index;
  mark([{ index: ends.a, text: "A" }, { index: ends.b, text: "B" }, { index: nearest, text: "nearest" }]);
}

function play() {
  startTime = performance.now();
  element("play").textContent = "Pause";
  requestAnimationFrame(advance);
}

function stop() {
  startTime = 0;
  element("play").textContent = "Play";
}

function advance(time) {
  if (!startTime) return;
  const turn = (Math.max(0, time - startTime) / 1000 / SECONDS) % 2; // there and back
  element("position").value = turn < 1 ? turn : 2 - turn;
  showPosition();
  requestAnimationFrame(advance);
}
