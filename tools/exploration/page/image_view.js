// The chosen image: what the model makes of it, its code, its neighbours; noise, active units and samples where they
// belong to the kind of model.

import { about, classOf, codeOf, create, element, errors, format, imagePixels, latentDim, meanSquaredError,
  nearestImages } from "./data.js";
import { drawCode } from "./charts.js";
import { onThemeChange } from "./colours.js";
import { decode, encode } from "./network.js";
import { drawError, drawPixels, showThumbnails } from "./pictures.js";
import { corrupt, drawNoise, sampleAround } from "./sampling.js";
import { listen, select, state } from "./state.js";

const NEIGHBOURS = 8;
const SAMPLES_SHOWN = 8;
const { corruption, mse_threshold: limit, spec: { bottleneck: kind } } = about.model;
let noise = drawNoise();

export function startImageView() {
  listen("selected", showImage);
  onThemeChange(showImage);
  new ResizeObserver(() => drawCode(element("image-code"), codeOf(state.selected))).observe(element("image-code"));
  element("noise-block").hidden = element("noisy-figure").hidden = !corruption;
  element("sample-block").hidden = kind !== "gaussian";
  if (corruption) {
    const slider = element("noise");
    slider.max = corruption.corruption === "gaussian" ? Math.max(1, 2 * corruption.level) : 1;
    element("noise-kind").textContent = `${corruption.corruption.replaceAll("_", " ")}, trained with ${corruption.level}`;
    slider.value = corruption.level;
    slider.addEventListener("input", showImage);
    element("new-noise").addEventListener("click", () => {
      noise = drawNoise();
      showImage();
    });
  }
  element("spread").addEventListener("input", showSamples);
  element("new-samples").addEventListener("click", showSamples);
  showImage();
}

/** What a code lacks of being full, as a text: of a sparse model the units that are active. */
export function describeUnits(code) {
  const active = about.dimensions.filter(dimension => code[dimension] !== 0);
  if (kind !== "top_k" && kind !== "relu") return latentDim === 1 ? "one number" : `${latentDim} numbers, those that carry most at the left`;
  const strongest = [...active].sort((a, b) => Math.abs(code[b]) - Math.abs(code[a])).slice(0, 8);
  const rest = active.length > 8 ? ", …" : "";
  return `${active.length} of ${latentDim} units are active: ${strongest.map(d => `z${d} ${format(code[d])}`).join(", ")}${rest}`;
}

/** Whether an error is above the threshold for anomalies, as a text. */
export function judge(error) {
  return error > limit ? `above the threshold ${format(limit)}: an anomaly` : `below the threshold ${format(limit)}: ordinary`;
}

function showImage() {
  const { selected } = state;
  const pixels = imagePixels(selected);
  const given = corruption ? corrupt(pixels, Number(element("noise").value), noise) : pixels;
  const { code } = encode(given);
  const output = decode(code);
  drawPixels(element("image-original"), pixels);
  if (corruption) {
    drawPixels(element("image-noisy"), given);
    const [before, after] = [meanSquaredError(given, pixels), meanSquaredError(output, pixels)];
    element("noise-value").textContent = format(Number(element("noise").value));
    element("noise-gain").textContent = before
      ? `error ${format(before)} before, ${format(after)} after: ${format(10 * Math.log10(before / after))} dB gained`
      : `error ${format(after)}`;
  }
  drawPixels(element("image-output"), output);
  drawError(element("image-error"), pixels, output);
  element("image-class").textContent = classOf(selected) || "no classes";
  element("image-name").textContent = about.names[selected];
  element("image-score").textContent = `${format(errors[selected])}, ${judge(errors[selected])}`;
  drawCode(element("image-code"), code);
  element("image-units").textContent = describeUnits(code);
  showThumbnails(element("image-neighbours"), nearestImages(codeOf(selected), NEIGHBOURS, selected), select);
  showSamples();
}

function showSamples() {
  if (kind !== "gaussian") return;
  const { code, logVar } = encode(imagePixels(state.selected));
  const spread = Number(element("spread").value);
  element("spread-value").textContent = format(spread);
  const list = element("samples");
  while (list.children.length < SAMPLES_SHOWN) list.append(create("canvas", "", "picture"));
  for (const canvas of list.children) drawPixels(canvas, decode(sampleAround(code, logVar, spread)));
}
