// What several views share: the chosen image, the images that count as found, marks on the map. Views listen to changes.

import { about, classOf } from "./data.js";

const listeners = new Map();

/** Call a function after each change of a kind: selected, found, marks. */
export function listen(kind, listener) {
  listeners.set(kind, [...(listeners.get(kind) ?? []), listener]);
}

function announce(kind) {
  for (const listener of listeners.get(kind) ?? []) listener();
}

export const state = {
  selected: 0, // the image that is chosen
  classes: new Set(), // chosen in the legend; none: all
  query: "", // searched
  lasso: null, // a Set of images, or null
  found: null, // a Uint8Array with 1 for each image that classes, query and lasso leave; null: all
  marks: [], // [{ index, text }] on the map
};

export function select(index) {
  state.selected = index;
  announce("selected");
}

/** Mark images on the map; texts of the same image are joined. */
export function mark(marks) {
  const texts = new Map();
  for (const { index, text } of marks) texts.set(index, [...(texts.get(index) ?? []), text]);
  state.marks = [...texts].map(([index, parts]) => ({ index, text: parts.join(", ") }));
  announce("marks");
}

/** Change classes, query or lasso. */
export function narrow(change) {
  Object.assign(state, change);
  const { classes, lasso } = state;
  const matches = matcher(state.query);
  const all = !classes.size && !lasso && !matches;
  state.found = all
    ? null
    : Uint8Array.from({ length: about.count }, (_, index) => {
        const isOfClass = !classes.size || classes.has(classOf(index));
        return isOfClass && (!lasso || lasso.has(index)) && (!matches || matches(index)) ? 1 : 0;
      });
  announce("found");
}

/** Images of the class of this name if there is one, else those with the text in their class or file name. */
function matcher(query) {
  const text = query.trim().toLowerCase();
  if (!text) return null;
  const isClass = about.class_names.some(name => name.toLowerCase() === text);
  if (isClass) return index => classOf(index).toLowerCase() === text;
  return index => about.names[index].toLowerCase().includes(text) || classOf(index).toLowerCase().includes(text);
}

/** The images that are found, in their order. */
export function listFound() {
  return [...Array(about.count).keys()].filter(index => !state.found || state.found[index]);
}
