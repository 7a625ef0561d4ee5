// What Python put into the page: the description, the arrays and the images. Shapes are those of contents.py.

export const about = JSON.parse(element("about").textContent);
export const [channels, height, width] = about.model.spec.shape;
export const pixelCount = channels * height * width;
export const latentDim = about.model.spec.latent_dim;

const numbers = decodeBase64(element("numbers").textContent);

export function element(id) {
  return document.getElementById(id);
}

/** An element with a text, which is never read as HTML. */
export function create(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}

/** One of the arrays in about.arrays, flat. */
export function array(name) {
  const { type, start, length } = about.arrays[name];
  const kind = type === "uint16" ? Uint16Array : Float32Array;
  return new kind(numbers.buffer, start, length);
}

function decodeBase64(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

export const codes = array("codes"); // (count, latentDim)
export const errors = array("errors"); // (count,), MSE per pixel
export const labels = array("labels"); // (count,)
export const meanCode = array("mean_code"); // (latentDim,)

/** All images side by side, as a canvas to draw from. */
export const sprite = document.createElement("canvas");

/** Decode the picture of all images. Colours are taken as they stand in the file. */
export async function loadSprite() {
  const blob = new Blob([decodeBase64(element("images-png").textContent)], { type: "image/png" });
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  sprite.width = bitmap.width;
  sprite.height = bitmap.height;
  sprite.getContext("2d", { willReadFrequently: true }).drawImage(bitmap, 0, 0);
}

/** Where an image stands in the sprite: [x, y] of its first pixel. */
export function spritePlace(index) {
  return [(index % about.columns) * width, Math.floor(index / about.columns) * height];
}

/** The pixels of an image, (channels, height, width) in [0, 1]. */
export function imagePixels(index) {
  const [x, y] = spritePlace(index);
  return readCanvas(sprite, x, y);
}

/** Pixels of a canvas from (x, y) on, one image's, as (channels, height, width) in [0, 1]. */
export function readCanvas(canvas, x = 0, y = 0) {
  const { data } = canvas.getContext("2d", { willReadFrequently: true }).getImageData(x, y, width, height);
  const pixels = new Float32Array(pixelCount);
  const size = height * width;
  for (let channel = 0; channel < channels; channel++) {
    for (let i = 0; i < size; i++) pixels[channel * size + i] = data[4 * i + channel] / 255;
  }
  return pixels;
}

/** The code of an image, a copy. */
export function codeOf(index) {
  return codes.slice(index * latentDim, (index + 1) * latentDim);
}

/** The class of an image; "" if there are no classes. */
export function classOf(index) {
  return about.class_names[labels[index]] ?? "";
}

/** The `count` images whose codes are nearest to a code: [{ index, distance }], the nearest first. */
export function nearestImages(code, count, except = -1) {
  const found = [];
  for (let index = 0; index < about.count; index++) {
    if (index === except) continue;
    let sum = 0;
    for (let d = 0, at = index * latentDim; d < latentDim; d++, at++) sum += (codes[at] - code[d]) ** 2;
    if (found.length < count || sum < found[found.length - 1].distance) {
      let place = found.length;
      while (place > 0 && found[place - 1].distance > sum) place--;
      found.splice(place, 0, { index, distance: sum });
      if (found.length > count) found.pop();
    }
  }
  return found.map(({ index, distance }) => ({ index, distance: Math.sqrt(distance) }));
}

/** Mean squared error per pixel of two images. */
export function meanSquaredError(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] - b[i]) ** 2;
  return sum / a.length;
}

/** A number with three significant digits. */
export function format(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-4 || size >= 1e5) ? value.toExponential(2) : String(Number(value.toPrecision(3)));
}
