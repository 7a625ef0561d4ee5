// A slider for each number of the code, and the image that the decoder makes of them.

import { about, codeOf, codes, create, element, format, latentDim, meanCode, nearestImages } from "./data.js";
import { decode } from "./network.js";
import { drawPixels, showThumbnails } from "./pictures.js";
import { movePlane, startPlane } from "./plane.js";
import { sampleCode } from "./sampling.js";
import { listen, mark, select, state } from "./state.js";

const SHOWN_SLIDERS = 16; // until all are asked for
const sliders = []; // [{ dimension, input, output }], in the order of about.dimensions
const current = new Float32Array(latentDim);
let isDecoding = false;

export function startDecodeView() {
  about.dimensions.forEach((dimension, place) => element("sliders").append(createSlider(dimension, place)));
  const more = element("all-sliders");
  more.hidden = latentDim <= SHOWN_SLIDERS;
  more.textContent = `Show all ${latentDim}`;
  more.addEventListener("click", () => {
    for (const row of element("sliders").children) row.hidden = false;
    more.hidden = true;
  });
  listen("selected", () => element("panel-decode").hidden || setCode(codeOf(state.selected)));
  element("from-selected").addEventListener("click", () => setCode(codeOf(state.selected)));
  element("from-mean").addEventListener("click", () => setCode(meanCode));
  element("from-prior").addEventListener("click", () => setCode(sampleCode()));
  element("from-prior").title = `from ${about.model.density}`;
  element("plane").hidden = latentDim !== 2;
  element("split").classList.toggle("with-plane", latentDim === 2);
  if (latentDim === 2) startPlane(setCode);
  setCode(codeOf(state.selected));
}

/** Show a code on the sliders, and its image. */
export function setCode(code) {
  current.set(code);
  for (const { dimension, input, output } of sliders) {
    const value = current[dimension];
    if (value < Number(input.min)) input.min = value;
    if (value > Number(input.max)) input.max = value;
    input.value = value;
    output.textContent = format(value);
  }
  requestDecoding();
}

function createSlider(dimension, place) {
  const row = create("label", "", "slider");
  const input = create("input");
  const output = create("output");
  let [low, high] = [Infinity, -Infinity];
  for (let at = dimension; at < codes.length; at += latentDim) {
    low = Math.min(low, codes[at]);
    high = Math.max(high, codes[at]);
  }
  if (low === high) [low, high] = [low - 1, high + 1];
  Object.assign(input, { type: "range", min: low, max: high, step: (high - low) / 500 });
  input.addEventListener("input", () => {
    current[dimension] = Number(input.value);
    output.textContent = format(current[dimension]);
    requestDecoding();
  });
  const added = about.mse_added[place];
  row.title = added === null ? "" : `without it the error grows by ${format(added)}`;
  row.append(create("span", `z${dimension}`), input, output);
  row.hidden = place >= SHOWN_SLIDERS;
  sliders.push({ dimension, input, output });
  return row;
}

/** Decode in the next frame, once. */
function requestDecoding() {
  if (isDecoding) return;
  isDecoding = true;
  requestAnimationFrame(() => {
    isDecoding = false;
    drawPixels(element("decoded"), decode(current));
    const nearest = nearestImages(current, 8);
    showThumbnails(element("decoded-neighbours"), nearest, select);
    if (latentDim === 2) movePlane(current);
    if (!element("panel-decode").hidden) mark([{ index: nearest[0].index, text: "nearest" }]);
  });
}
