// What stands around the map: its choices, the search, the legend, and the card of the dot that is pointed at.

import { about, array, classOf, codes, create, element, errors, format, imagePixels, labels, latentDim } from "./data.js";
import { SHAPES, classColour, classShape, onThemeChange, scaleColour, toCss } from "./colours.js";
import { DotPainter } from "./dots.js";
import { CodeMap } from "./map.js";
import { MapInput } from "./map_input.js";
import { decode, encode } from "./network.js";
import { drawError, drawPixels } from "./pictures.js";
import { listFound, listen, narrow, select, state } from "./state.js";

const CLIPPED = 0.01; // share of the images at each end of a colour scale that share its last colour
const threshold = about.model.mse_threshold;

export const map = new CodeMap(element("dots"), element("overlay"), showCard);
const mapInput = new MapInput(map);

export function startMapPanel() {
  fillChoices();
  for (const id of ["map-choice", "axis-x", "axis-y"]) element(id).addEventListener("change", placeDots);
  element("colour-choice").addEventListener("change", colourDots);
  onThemeChange(colourDots);
  listen("found", showFound);
  element("search").addEventListener("input", event => narrow({ query: event.target.value }));
  element("search").addEventListener("keydown", event => {
    if (event.key === "Enter") selectNextFound();
  });
  for (const [id, factor] of [["zoom-in", 1.4], ["zoom-out", 1 / 1.4]]) {
    element(id).addEventListener("click", () => map.zoom(factor));
  }
  element("zoom-all").addEventListener("click", () => map.showAll());
  toggle("lasso", isOn => (mapInput.isLasso = isOn));
  toggle("images", isOn => {
    map.showsImages = isOn;
    map.draw();
  });
  placeDots();
  colourDots();
  showFound();
}

/** A button that stays pressed. */
function toggle(id, act) {
  element(id).addEventListener("click", () => {
    const isOn = element(id).getAttribute("aria-pressed") !== "true";
    element(id).setAttribute("aria-pressed", isOn);
    act(isOn);
  });
}

function addOption(select, value, text) {
  const option = create("option", text);
  option.value = value;
  select.append(option);
}

function fillChoices() {
  for (const { name, title } of about.maps) addOption(element("map-choice"), name, title);
  addOption(element("map-choice"), "axes", "two axes");
  if (latentDim === 2) element("map-choice").value = "axes";
  if (about.class_names.length) addOption(element("colour-choice"), "class", "class");
  addOption(element("colour-choice"), "error", "error");
  about.dimensions.forEach(dimension => {
    for (const id of ["axis-x", "axis-y", "colour-choice"]) addOption(element(id), dimension, `z${dimension}`);
  });
  for (const id of ["axis-x", "axis-y"]) addOption(element(id), "error", "error");
  const [first, second] = latentDim === 2 ? [0, 1] : about.dimensions;
  element("axis-x").value = first;
  element("axis-y").value = second ?? "error";
}

/** The numbers of all images on an axis: one dimension of the code, or the error. */
function readValues(name) {
  if (name === "error") return errors;
  return Float32Array.from({ length: about.count }, (_, index) => codes[index * latentDim + Number(name)]);
}

function placeDots() {
  const name = element("map-choice").value;
  element("axes").hidden = name !== "axes";
  if (name === "axes") {
    const [x, y] = [element("axis-x").value, element("axis-y").value];
    const title = axis => (axis === "error" ? "error" : `z${axis}`);
    map.setPoints(readValues(x), readValues(y), { x: title(x), y: title(y) }, false);
    return;
  }
  const points = array(`map.${name}`);
  const values = start => Float32Array.from({ length: about.count }, (_, index) => points[2 * index + start]);
  map.setPoints(values(0), values(1), name === "pca" ? { x: "PCA 1", y: "PCA 2" } : null, true);
}

function colourDots() {
  const choice = element("colour-choice").value;
  const isByClass = choice === "class";
  element("classes").hidden = !isByClass;
  element("scale").hidden = isByClass;
  if (isByClass) {
    const colours = about.class_names.map((_, label) => classColour(label));
    map.setColours(Array.from(labels, label => colours[label]), Uint8Array.from(labels, classShape));
    showLegend(colours);
    return;
  }
  const values = readValues(choice);
  const sorted = Float32Array.from(values).sort();
  const low = sorted[Math.floor(CLIPPED * (sorted.length - 1))];
  const high = sorted[Math.ceil((1 - CLIPPED) * (sorted.length - 1))];
  const share = value => (value - low) / (high - low || 1);
  map.setColours(Array.from(values, value => scaleColour(share(value))), new Uint8Array(about.count));
  element("scale-low").textContent = `≤ ${format(low)}`;
  element("scale-high").textContent = `≥ ${format(high)}`;
  const stops = Array.from({ length: 9 }, (_, i) => toCss(scaleColour(i / 8)));
  element("scale-bar").style.background = `linear-gradient(to right, ${stops.join(", ")})`;
  element("scale-note").textContent = choice === "error" ? `mean squared error per pixel; threshold ${format(threshold)}` : "";
}

function showLegend(colours) {
  const counts = new Map();
  for (const label of labels) counts.set(label, (counts.get(label) ?? 0) + 1);
  element("classes").replaceChildren(
    ...about.class_names.map((name, label) => {
      const button = create("button", "", "chip");
      button.type = "button";
      button.setAttribute("aria-pressed", state.classes.has(name));
      button.append(createSymbol(label, colours[label]), create("span", name), create("small", counts.get(label) ?? 0));
      button.addEventListener("click", () => {
        const classes = new Set(state.classes);
        if (!classes.delete(name)) classes.add(name);
        button.setAttribute("aria-pressed", classes.has(name));
        narrow({ classes });
      });
      return button;
    }),
  );
}

/** The dot of a class, as it is on the map. */
function createSymbol(label, colour) {
  const canvas = create("canvas", "", "symbol");
  [canvas.width, canvas.height] = [24, 24];
  const context = canvas.getContext("2d");
  const painter = new DotPainter(context, 24, 24);
  painter.dot(12, 12, classShape(label), 10, colour);
  painter.show();
  return canvas;
}

function showFound() {
  const count = listFound().length;
  const all = about.count.toLocaleString("en");
  element("found").textContent = state.found ? `${count.toLocaleString("en")} of ${all}` : `${all} images`;
}

function selectNextFound() {
  const found = listFound();
  if (found.length) select(found.find(index => index > state.selected) ?? found[0]);
}

/** Show what is known of the dot that is pointed at, in the corner of the map that it is not in. */
function showCard(index) {
  const card = element("card");
  card.hidden = index < 0;
  if (index < 0) return;
  const pixels = imagePixels(index);
  const output = decode(encode(pixels).code);
  drawPixels(element("card-original"), pixels);
  drawPixels(element("card-output"), output);
  drawError(element("card-error"), pixels, output);
  element("card-class").textContent = classOf(index);
  element("card-name").textContent = about.names[index];
  element("card-score").textContent = `error ${format(errors[index])}`;
  card.classList.toggle("at-left", map.screenX(index) > map.columns / 2);
  card.classList.toggle("at-top", map.screenY(index) > map.rows / 2);
}
