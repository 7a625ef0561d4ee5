// Colours and shapes of dots. Classes: petroff10, chosen for colour-blind readers, and another shape for each ten
// classes. Numbers: viridis.

const PETROFF = ["#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581",
  "#92dadd"];
const VIRIDIS = ["#440154", "#482475", "#414487", "#355f8d", "#2a788e", "#21918c", "#22a884", "#44bf70", "#7ad151",
  "#bddf26", "#fde725"];
export const SHAPES = ["disc", "square", "triangle", "diamond", "cross", "ring"];
const dark = matchMedia("(prefers-color-scheme: dark)");

export function isDark() {
  return dark.matches;
}

/** Call a function whenever the reader's choice of light and dark changes. */
export function onThemeChange(listener) {
  dark.addEventListener("change", listener);
}

const themeColours = new Map(); // those that were asked for: reading a style takes time
onThemeChange(() => themeColours.clear());

/** The value of a colour variable of page.css, as [r, g, b]. */
export function themeColour(name) {
  if (!themeColours.has(name)) {
    themeColours.set(name, parseColour(getComputedStyle(document.documentElement).getPropertyValue(name).trim()));
  }
  return themeColours.get(name);
}

function parseColour(text) {
  return [1, 3, 5].map(start => parseInt(text.slice(start, start + 2), 16));
}

export function toCss([r, g, b], alpha = 1) {
  return `rgb(${r} ${g} ${b} / ${alpha})`;
}

/** [r, g, b] of a class. On a dark page colours are a third lighter, on a light one a tenth darker. */
export function classColour(label) {
  const colour = parseColour(PETROFF[label % PETROFF.length]);
  return colour.map(part => Math.round(isDark() ? part + (255 - part) * 0.3 : part * 0.9));
}

/** Which of SHAPES a class has. */
export function classShape(label) {
  return Math.floor(label / PETROFF.length) % SHAPES.length;
}

/** [r, g, b] of a share from 0 to 1. The end that is like the page's background is left out. */
export function scaleColour(share) {
  const clipped = Math.min(1, Math.max(0, share));
  return viridis(isDark() ? 0.2 + 0.8 * clipped : 0.88 * clipped);
}

/** [r, g, b] of viridis at a share from 0 to 1. */
export function viridis(share) {
  const place = share * (VIRIDIS.length - 1);
  const below = Math.min(Math.floor(place), VIRIDIS.length - 2);
  const [a, b] = [parseColour(VIRIDIS[below]), parseColour(VIRIDIS[below + 1])];
  return a.map((part, i) => Math.round(part + (b[i] - part) * (place - below)));
}
