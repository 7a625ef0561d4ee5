// The images that search, legend and lasso leave: how many of each class, their errors, some of them to choose.

import { about, classOf, create, element, errors, format } from "./data.js";
import { showThumbnails } from "./pictures.js";
import { listFound, listen, narrow, select, state } from "./state.js";
import { map } from "./map_panel.js";

const SHOWN_IMAGES = 60;

export function startGroupView() {
  listen("found", showGroup);
  element("take-view").addEventListener("click", () => narrow({ lasso: new Set(map.listVisible()) }));
  element("drop-lasso").addEventListener("click", () => narrow({ lasso: null }));
  showGroup();
}

function showGroup() {
  const found = listFound();
  const sum = found.reduce((total, index) => total + errors[index], 0);
  const anomalies = found.filter(index => errors[index] > about.model.mse_threshold).length;
  element("group-count").textContent = `${found.length.toLocaleString("en")} of ${about.count.toLocaleString("en")}`;
  element("group-error").textContent = found.length ? format(sum / found.length) : "–";
  element("group-anomalies").textContent = `${anomalies} above the threshold ${format(about.model.mse_threshold)}`;
  element("drop-lasso").disabled = !state.lasso;
  const counts = new Map();
  for (const index of found) counts.set(classOf(index), (counts.get(classOf(index)) ?? 0) + 1);
  const rows = about.class_names.map(name => [name, counts.get(name) ?? 0]).filter(([, count]) => count);
  rows.sort((a, b) => b[1] - a[1]);
  element("group-classes").replaceChildren(
    ...rows.map(([name, count]) => {
      const row = create("div", "", "bar-row");
      const bar = create("span", "", "bar");
      bar.style.width = `${(100 * count) / rows[0][1]}%`;
      row.append(create("span", name), bar, create("span", count.toLocaleString("en")));
      return row;
    }),
  );
  const worst = [...found].sort((a, b) => errors[b] - errors[a]).slice(0, SHOWN_IMAGES);
  element("group-title").textContent = found.length > SHOWN_IMAGES ? `The ${SHOWN_IMAGES} with the largest error` : "The largest error first";
  showThumbnails(element("group-images"), worst.map(index => ({ index })), select);
}
