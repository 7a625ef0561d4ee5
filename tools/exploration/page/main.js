// Starts the views and lets one be seen at a time.

import { codeOf, element, imagePixels, loadSprite } from "./data.js";
import { setCode, startDecodeView } from "./decode_view.js";
import { showDrawing, startDrawView } from "./draw_view.js";
import { startExperimentView } from "./experiment_view.js";
import { startGroupView } from "./group_view.js";
import { startImageView } from "./image_view.js";
import { map, startMapPanel } from "./map_panel.js";
import { decode, encode } from "./network.js";
import { setEnd, showEnds, startPathView, stopFilm } from "./path_view.js";
import { mark, state } from "./state.js";

const TABS = ["image", "decode", "path", "draw", "group", "experiment"];
const ENTER = { decode: () => setCode(codeOf(state.selected)), path: showEnds, draw: showDrawing };

function showTab(name) {
  stopFilm();
  mark([]);
  for (const tab of TABS) {
    const isShown = tab === name;
    element(`panel-${tab}`).hidden = !isShown;
    element(`tab-${tab}`).setAttribute("aria-selected", isShown);
    element(`tab-${tab}`).tabIndex = isShown ? 0 : -1;
  }
  ENTER[name]?.();
}

/** Arrows, Home and End move between tabs. */
function pressTabKey(event) {
  const place = TABS.findIndex(tab => element(`tab-${tab}`) === document.activeElement);
  const last = TABS.length - 1;
  const next = { ArrowLeft: place ? place - 1 : last, ArrowRight: place < last ? place + 1 : 0, Home: 0, End: last }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  showTab(TABS[next]);
  element(`tab-${TABS[next]}`).focus();
}

function startTabs() {
  for (const tab of TABS) element(`tab-${tab}`).addEventListener("click", () => showTab(tab));
  element("tabs").addEventListener("keydown", pressTabKey);
  const shortcuts = { "to-decode": "decode", "to-draw": "draw" };
  for (const [id, tab] of Object.entries(shortcuts)) element(id).addEventListener("click", () => showTab(tab));
  element("to-draw").addEventListener("click", () => element("take-selected").click());
  for (const end of ["a", "b"]) {
    element(`to-path-${end}`).addEventListener("click", () => {
      setEnd(end, state.selected);
      showTab("path");
    });
  }
}

await loadSprite();
startMapPanel();
startImageView();
startDecodeView();
startPathView();
startDrawView();
startGroupView();
startExperimentView();
startTabs();
showTab("image");
window.explorer = { encode, decode, imagePixels, map, state }; // for the console, and for tests
document.documentElement.dataset.ready = Math.round(performance.now()); // milliseconds since the page was asked for
