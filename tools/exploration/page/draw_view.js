// Draw something, or open a file, and see what the model makes of it.

import { about, channels, create, element, format, height, imagePixels, meanSquaredError, nearestImages, pixelCount,
  readCanvas, width } from "./data.js";
import { drawCode } from "./charts.js";
import { onThemeChange } from "./colours.js";
import { describeUnits, judge } from "./image_view.js";
import { decode, encode } from "./network.js";
import { Pad } from "./pad.js";
import { drawError, drawPixels, showThumbnails } from "./pictures.js";
import { mark, select, state } from "./state.js";

const { fitting, mse_threshold: bound } = about.model;
let pad, lastCode;

export function startDrawView() {
  const isDark = meanBorder() < 0.5;
  element("brush-colour").value = isDark ? "#ffffff" : "#000000";
  element("brush-size").max = Math.max(4, Math.round(Math.min(height, width) / 8));
  element("brush-size").value = Math.max(1, Math.min(height, width) / 14);
  pad = new Pad(element("pad"), readBrush, showOutput);
  const paper = new Float32Array(pixelCount).fill(isDark ? 0 : 1);
  element("clear").addEventListener("click", () => pad.setPixels(paper));
  element("take-selected").addEventListener("click", () => pad.setPixels(imagePixels(state.selected)));
  element("file").addEventListener("change", event => event.target.files[0] && openFile(event.target.files[0]));
  onThemeChange(() => drawCode(element("draw-code"), lastCode));
  new ResizeObserver(() => drawCode(element("draw-code"), lastCode)).observe(element("draw-code"));
  pad.setPixels(imagePixels(state.selected));
}

/** Show what belongs to the drawing again, with its neighbour marked on the map. */
export function showDrawing() {
  pad.change();
}

/** Mean of the pixels at the border of the first images: what a blank sheet looks like. */
function meanBorder() {
  let [sum, count] = [0, 0];
  for (let index = 0; index < Math.min(20, about.count); index++) {
    const pixels = imagePixels(index);
    for (let i = 0; i < pixelCount; i++) {
      const [x, y] = [i % width, Math.floor(i / width) % height];
      if (x && y && x < width - 1 && y < height - 1) continue;
      sum += pixels[i];
      count += 1;
    }
  }
  return sum / count;
}

function readBrush() {
  const text = element("brush-colour").value;
  const rgb = [1, 3, 5].map(start => parseInt(text.slice(start, start + 2), 16) / 255);
  return { colour: channels === 3 ? rgb : [toGrey(rgb)], radius: Number(element("brush-size").value) / 2 };
}

function toGrey([red, green, blue]) {
  return 0.299 * red + 0.587 * green + 0.114 * blue; // ITU-R 601-2, as Pillow
}

function showOutput(pixels) {
  const { code } = encode(pixels);
  const output = decode(code);
  lastCode = code;
  drawPixels(element("draw-output"), output);
  drawError(element("draw-error"), pixels, output);
  const error = meanSquaredError(pixels, output);
  element("draw-score").textContent = `${format(error)}, ${judge(error)}`;
  element("gauge").style.width = `${Math.min(100, (50 * error) / bound)}%`;
  drawCode(element("draw-code"), code);
  element("draw-units").textContent = describeUnits(code);
  const nearest = nearestImages(code, 8);
  showThumbnails(element("draw-neighbours"), nearest, select);
  if (!element("panel-draw").hidden) mark([{ index: nearest[0].index, text: "nearest" }]);
}

/** Bring an image file to the model's size, as the model's training did, except that browsers resize differently. */
async function openFile(file) {
  const note = element("file-note");
  note.textContent = "";
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    note.textContent = `${file.name}: must be an image that this browser can read; choose another file`;
    return;
  }
  const canvas = create("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = fitting.background;
  context.fillRect(0, 0, width, height);
  const scales = [width / bitmap.width, height / bitmap.height];
  const scale = fitting.fit === "pad" ? Math.min(...scales) : Math.max(...scales);
  const [w, h] = fitting.fit === "stretch" ? [width, height] : [bitmap.width * scale, bitmap.height * scale];
  context.drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h);
  pad.setPixels(channels === 3 ? readCanvas(canvas) : readGrey(context));
  note.textContent = file.name;
}

function readGrey(context) {
  const { data } = context.getImageData(0, 0, width, height);
  return Float32Array.from({ length: pixelCount }, (_, i) => toGrey(data.subarray(4 * i, 4 * i + 3)) / 255);
}
