// The numbers and the parameters of the experiment, and the runs beside it.

import { about, create, element, format } from "./data.js";
import { drawErrorCurve } from "./charts.js";

export function startExperimentView() {
  const { model } = about;
  const shown = `${about.count.toLocaleString("en")} of ${about.test_count.toLocaleString("en")}`;
  fillTable("facts", {
    variant: model.variant,
    image: model.spec.shape.join(" × "),
    code: `${model.spec.latent_dim} numbers, ${model.spec.bottleneck}${model.spec.k ? `, k = ${model.spec.k}` : ""}`,
    weights: model.weights.toLocaleString("en"),
    "best epoch": model.best_epoch,
    threshold: `${format(model.mse_threshold)}: ${100 * model.anomaly_quantile} % of the validation images are below`,
    "new codes": `from ${model.density}`,
    "test images": shown,
    ...Object.fromEntries(about.maps.map(({ title, trust }) => [`trust, ${title}`, trust ?? "–"])),
  });
  fillTable("metrics", about.metrics);
  fillTable("params", about.params);
  drawErrorCurve(element("error-curve"));
  const count = about.sweep?.runs.length ?? 0;
  element("sweep-note").textContent = count
    ? `${count} runs ${about.sweep.name ? `of the sweep ${about.sweep.name}` : "of this commit"} that differ from this model in latent_dim and seed alone. Point at a dot for its name.`
    : "No other run differs from this model in latent_dim alone. A sweep adds some: docs/sweeps.md.";
}

function fillTable(id, values) {
  const rows = Object.entries(values).map(([name, value]) => {
    const text = Array.isArray(value) ? `[${value.join(", ")}]` : value === null ? "null" : format(value);
    const row = create("div");
    row.append(create("dt", name), create("dd", text));
    return row;
  });
  element(id).replaceChildren(...rows);
}
