// Images on canvases, and lists of small images that can be chosen.

import { about, channels, classOf, create, format, height, sprite, spritePlace, width } from "./data.js";
import { viridis } from "./colours.js";

const LARGEST_ERROR = 0.5; // difference of a pixel that has the last colour
const errorColours = Array.from({ length: 256 }, (_, i) => viridis(i / 255));

/** Draw pixels (channels, height, width) in [0, 1] on a canvas, which gets their size; CSS enlarges it. */
export function drawPixels(canvas, pixels) {
  const size = height * width;
  drawEach(canvas, i => {
    const red = 255 * pixels[i];
    return channels === 3 ? [red, 255 * pixels[size + i], 255 * pixels[2 * size + i]] : [red, red, red];
  });
}

/** Draw the absolute difference of two images, mean over channels, in colours from 0 to LARGEST_ERROR. */
export function drawError(canvas, a, b) {
  const size = height * width;
  drawEach(canvas, i => {
    let difference = 0;
    for (let c = 0; c < channels; c++) difference += Math.abs(a[c * size + i] - b[c * size + i]);
    return errorColours[Math.min(255, Math.round((255 * difference) / channels / LARGEST_ERROR))];
  });
}

function drawEach(canvas, colour) {
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let i = 0; i < height * width; i++) image.data.set([...colour(i), 255], 4 * i);
  context.putImageData(image, 0, 0);
}

/** A canvas that shows an image of the test part. */
export function createThumbnail(index) {
  const canvas = create("canvas", "", "picture");
  [canvas.width, canvas.height] = [width, height];
  canvas.getContext("2d").drawImage(sprite, ...spritePlace(index), width, height, 0, 0, width, height);
  return canvas;
}

/** Fill a list with buttons of images. images: [{ index, distance }]; distance may be missing. */
export function showThumbnails(list, images, choose) {
  list.replaceChildren(
    ...images.map(({ index, distance }) => {
      const button = create("button", "", "thumbnail");
      button.type = "button";
      const text = [classOf(index), about.names[index]].filter(Boolean).join(", ");
      button.title = distance === undefined ? text : `${text}; distance ${format(distance)}`;
      button.setAttribute("aria-label", button.title);
      button.append(createThumbnail(index), create("span", classOf(index)));
      button.addEventListener("click", () => choose(index));
      return button;
    }),
  );
}
