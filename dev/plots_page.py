"""The page that `dvc plots show` and `dvc plots diff` fill, so that it draws without a network and reads in order.

DVC's own page loads Vega from a content network: offline, every chart in it stays blank. This module generates
`.dvc/plots/offline.html`, which `.dvc/config` names (plots.html_template) and git keeps: a page with Vega,
Vega-Lite and vega-embed inside, taken from the installed vl-convert-python, without a download. The same pin
gives the same bytes.

DVC puts charts first, in the order of dvc.yaml, then pictures by folder. The page's own script sorts them into
SECTIONS, folds away what shows the same again, and draws once what is equal in several revisions.
"""

import json
from pathlib import Path

import vl_convert

ROOT = Path(__file__).parents[1]
TEMPLATE = Path(".dvc/plots/offline.html")
VEGA_LITE = "5.20"  # DVC's chart templates, and ours beside the page, are written for Vega-Lite 5

# Headings of the page, and below each the files of dvc.yaml's plots in the order of the page.
# FOLDED holds those that show less than another one: a map's picture has the points of its chart.
FOLDED = "The same in another form"
SECTIONS = {
    "Reconstructions": [
        "plots/reconstruct/reconstructions.png",
        "plots/evaluate/worst.png",
        "plots/reconstruct/denoising.png",
        "plots/evaluate/denoising.png",
        "plots/evaluate/denoising.csv",
    ],
    "Training": ["plots/loss.csv", "plots/training.png"],
    "Codes": [
        "plots/embed/tsne.csv",
        "plots/embed/umap.csv",
        "plots/embed/pca.csv",
        "plots/dimensions.csv",
        "plots/evaluate/spectrum.png",
        "plots/embed/traversals.png",
        "plots/reconstruct/samples.png",
        "plots/sample/samples.png",
        "plots/reconstruct/plane.png",
        "plots/reconstruct/interpolations.png",
    ],
    "Scores": [
        "plots/codes.csv",
        "plots/per_class.csv",
        "plots/sample/scores.csv",
        "plots/evaluate/pca.png",
        "plots/evaluate/errors.png",
    ],
    FOLDED: [
        "plots/pca.csv",
        "plots/intrinsic.csv",
        "plots/spectrum.csv",
        "plots/embed/tsne.png",
        "plots/embed/umap.png",
        "plots/embed/pca.png",
        "plots/embed/dimensions.png",
        "plots/evaluate/codes.png",
    ],
}

# Titles of charts to which dvc.yaml can't give one, since it names their folder alone.
TITLES = {
    "plots/embed/tsne.csv": "t-SNE of the codes",
    "plots/embed/umap.csv": "UMAP of the codes",
    "plots/embed/pca.csv": "PCA of the codes",
}

# What is not listed here a browser refuses: no script, picture, font or data comes from a network address.
# Vega compiles its expressions ('unsafe-eval'); DVC's pictures are files beside the page ('self', file:).
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src 'self' file: data: blob:; base-uri 'none'; form-action 'none'"
)

STYLE = """
body { margin: 0 auto; max-width: 1640px; padding: 16px 24px 48px; background: #fff; color: #222;
  font: 15px/1.45 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 22px; font-weight: 600; margin: 8px 0 0; }
h2, summary { font-size: 18px; font-weight: 600; margin: 24px 0 8px; }
summary { cursor: pointer; }
#about { color: #595959; margin: 2px 0; }
.plots { display: flex; flex-wrap: wrap; gap: 16px; align-items: flex-start; }
.plot { box-sizing: border-box; max-width: 100%; overflow-x: auto; padding: 12px;
  border: 1px solid #ddd; border-radius: 6px; }
.plot:not(.pictures) { max-height: 960px; overflow-y: auto; }
.pictures { display: flex; flex-wrap: wrap; gap: 8px 12px; }
.pictures > p { flex: 100%; width: 0; margin: 0; color: #595959; font-size: 13px; white-space: nowrap; }
.pictures > div > p { margin: 0 0 2px; font-size: 13px; font-weight: 600; }
.pictures > div:only-of-type > p { display: none; }
.pictures img { display: block; cursor: zoom-in; width: min(22.5vw, 370px); min-width: 240px; max-width: 100%; }
.pictures > div:only-of-type img { width: min(29vw, 500px); }
.pictures img.enlarged, .pictures > div:only-of-type img.enlarged { cursor: zoom-out; width: auto; }
.vega-bindings { color: #595959; font-size: 13px; }
.failed { color: #b00020; }
"""

# DVC writes vegaEmbed('#id', spec) for each chart while the page is read. The charts wait until it is whole.
SCRIPT = """
const drawChart = window.vegaEmbed;
const charts = [];
window.vegaEmbed = (selector, spec) => charts.push([selector.slice(1), spec]);
const look = {
  font: "system-ui, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif",
  title: {fontSize: 15, fontWeight: 600}, header: {labelFontSize: 13}, view: {stroke: "#ddd"},
  axis: {labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", gridColor: "#eee"},
  axisX: {labelFlush: false, labelSeparation: 6},
  legend: {labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", labelLimit: 220}
};

// The id that DVC gives to the box of a file.
const boxId = path => path.replace(/[!@#$%^&*()[\\]{};,<>?\\\\/:.|`~=_+ ]/g, "_");

// Moves the boxes of all plots below the headings; unknown ones go below "Other" and, folded, last.
function arrangeBoxes(main) {
  const boxes = new Map([...main.children].map(box => [box.id, box]));
  const sections = Object.entries(SECTIONS).map(([heading, paths]) => [heading, paths.map(boxId)]);
  const known = new Set(sections.flatMap(([, ids]) => ids));
  sections.splice(-1, 0, ["Other", [...boxes.keys()].filter(id => !known.has(id))]);
  // without what it repeats, a folded plot is a plot like all others: `dvc plots show plots/pca.csv`
  const alone = sections.slice(0, -1).every(([, ids]) => !ids.some(id => boxes.has(id)));
  for (const [heading, ids] of sections) {
    const found = ids.filter(id => boxes.has(id)).map(id => boxes.get(id));
    if (!found.length) continue;
    const folded = heading === FOLDED && !alone;
    const section = document.createElement(folded ? "details" : "section");
    const title = document.createElement(folded ? "summary" : "h2");
    title.textContent = heading === FOLDED && alone ? "Plots" : heading;
    const plots = document.createElement("div");
    plots.className = "plots";
    plots.append(...found);
    section.append(title, plots);
    main.append(section);
  }
  for (const box of boxes.values()) {
    box.classList.add("plot");
    if (box.querySelector("img")) box.classList.add("pictures");
    for (const styled of [box, ...box.querySelectorAll("[style]")]) styled.removeAttribute("style");
  }
}

// Keeps one of several revisions with the same rows, under the names of all.
function mergeEqualRevisions(spec) {
  const rows = new Map(), equal = new Map(), names = new Map();
  for (const {rev, ...row} of spec.data.values) {
    if (!rows.has(rev)) rows.set(rev, []);
    rows.get(rev).push(JSON.stringify(row));
  }
  for (const [rev, texts] of rows) {
    const text = texts.join();
    equal.set(text, [...(equal.get(text) ?? []), rev]);
  }
  for (const revisions of equal.values()) names.set(revisions[0], revisions.join(", "));
  spec.data.values = spec.data.values.filter(row => names.has(row.rev));
  for (const row of spec.data.values) row.rev = names.get(row.rev);
  for (const colour of colourChannels(spec)) {
    const {domain, range} = colour.scale ?? {};
    if (!domain || !range) continue;
    const kept = domain.map((rev, i) => i).filter(i => names.has(domain[i]));
    colour.scale.domain = kept.map(i => names.get(domain[i]));
    colour.scale.range = kept.map(i => range[i]);
  }
}

// Every colour channel of a chart and its layers that tells revisions (or the values of another field) apart.
function colourChannels(spec, field = "rev") {
  if (!spec || typeof spec !== "object") return [];
  const parts = Object.entries(spec).filter(([key]) => key !== "data").map(([, part]) => part);
  const inside = parts.flatMap(part => colourChannels(part, field));
  return spec.color?.field === field ? [spec.color, ...inside] : inside;
}

function draw(id, spec, revisions) {
  const box = document.getElementById(id);
  const alone = revisions.size === 1;
  mergeEqualRevisions(spec);
  for (const colour of colourChannels(spec)) {
    colour.title = "revision";
    if (alone) colour.legend = null;
  }
  if (spec.data.values.every(row => row.class === "")) {  // images without classes
    for (const colour of colourChannels(spec, "class")) colour.legend = null;
  }
  if (spec.facet && spec.spec) spec.spec.width = spec.spec.height = alone ? 320 : 250;  // a map for each revision
  if (spec.title?.text in TITLES) spec.title.text = TITLES[spec.title.text];
  drawChart(box, spec, {
    actions: {export: true, source: false, compiled: false, editor: false},  // the editor is a website
    config: look,
    renderer: spec.data.values.length > 5000 ? "canvas" : "svg"  // svg is sharper; one element a point gets slow
  }).catch(error => {
    box.className = "failed";
    box.textContent = `${box.id} cannot be drawn: ${error.message}`;
  });
}

document.addEventListener("DOMContentLoaded", () => {
  const main = document.querySelector("main");
  const named = [...main.querySelectorAll("div > div > p")].map(caption => caption.textContent);
  for (const [id, spec] of charts.splice(0)) {  // a table without rows has no chart
    if (spec.data?.values.length) charts.push([id, spec]);
    else document.getElementById(id).remove();
  }
  const revisions = new Set([...charts.flatMap(([, spec]) => spec.data.values.map(row => row.rev)), ...named]);
  document.getElementById("revisions").textContent = [...revisions].join(", ");
  arrangeBoxes(main);
  for (const [id, spec] of charts) draw(id, spec, revisions);
  main.addEventListener("click", event => event.target.matches("img") && event.target.classList.toggle("enlarged"));
});
"""

LICENCES = """\
Written by dev/plots_page.py, not by hand. The first script holds Vega {vega}, Vega-Lite {vega_lite} and
vega-embed {vega_embed} as bundled by vl-convert-python, with the packages that they use:

BSD 3-Clause: vega and its vega-* packages, Copyright (c) 2015-2023, University of Washington Interactive
Data Lab; vega-lite and vega-embed, Copyright (c) 2015, and vega-themes, Copyright (c) 2016, University of
Washington Interactive Data Lab; vega-tooltip, Copyright 2016 Interactive Data Lab and contributors;
vega-schema-url-parser, Copyright (c) 2017, Vega. All rights reserved.
Redistribution and use in source and binary forms, with or without modification, are permitted provided
that the following conditions are met: 1. Redistributions of source code must retain the above copyright
notice, this list of conditions and the following disclaimer. 2. Redistributions in binary form must
reproduce the above copyright notice, this list of conditions and the following disclaimer in the
documentation and/or other materials provided with the distribution. 3. Neither the name of the copyright
holder nor the names of its contributors may be used to endorse or promote products derived from this
software without specific prior written permission.
THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS" AND ANY EXPRESS OR IMPLIED
WARRANTIES, INCLUDING, BUT NOT LIMITED TO, THE IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A
PARTICULAR PURPOSE ARE DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT OWNER OR CONTRIBUTORS BE LIABLE FOR ANY
DIRECT, INDIRECT, INCIDENTAL, SPECIAL, EXEMPLARY, OR CONSEQUENTIAL DAMAGES (INCLUDING, BUT NOT LIMITED TO,
PROCUREMENT OF SUBSTITUTE GOODS OR SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION)
HOWEVER CAUSED AND ON ANY THEORY OF LIABILITY, WHETHER IN CONTRACT, STRICT LIABILITY, OR TORT (INCLUDING
NEGLIGENCE OR OTHERWISE) ARISING IN ANY WAY OUT OF THE USE OF THIS SOFTWARE, EVEN IF ADVISED OF THE
POSSIBILITY OF SUCH DAMAGE.

ISC: the d3-* packages and internmap, Copyright 2010-2026 Mike Bostock; d3-delaunay, Copyright 2018-2026
Observable, Inc. and 2021 Mapbox; delaunator, Copyright (c) 2026, Mapbox; topojson-client, Copyright
2012-2019 Michael Bostock; semver, Copyright (c) Isaac Z. Schlueter and Contributors.
Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is
hereby granted, provided that the above copyright notice and this permission notice appear in all copies.
THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE
INCLUDING ALL IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR
ANY SPECIAL, DIRECT, INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF
USE, DATA OR PROFITS, WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF
OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.

MIT: fast-json-patch, Copyright (c) 2013, 2014, 2020 Joachim Wester; json-stringify-pretty-compact,
Copyright (c) 2014, 2016, 2017, 2019, 2021, 2022 Simon Lydell; within d3-geo, GeographicLib, Copyright
2008-2012 Charles Karney; within d3-geo-projection, integrate-adaptive-simpson, Copyright 2015 Ricky Reusser.
Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without
limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of
the Software, and to permit persons to whom the Software is furnished to do so, subject to the following
conditions: The above copyright notice and this permission notice shall be included in all copies or
substantial portions of the Software. THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND,
EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR
PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.

Apache License 2.0 (www.apache.org/licenses/LICENSE-2.0): the ColorBrewer colour schemes in
d3-scale-chromatic, Copyright 2002 Cynthia Brewer, Mark Harrower, and The Pennsylvania State University.
"""


def page() -> str:
    """The template: a whole page with {plot_divs} where DVC puts the charts and pictures."""
    licences = LICENCES.format(
        vega=vl_convert.get_vega_version(),
        vega_lite=VEGA_LITE,
        vega_embed=vl_convert.get_vega_embed_version(),
    )
    # sets window.vegaEmbed; the package's own types demand a snippet, which its code does not
    vega = vl_convert.javascript_bundle(vl_version=VEGA_LITE)  # type: ignore[call-arg]
    tables = {"SECTIONS": SECTIONS, "FOLDED": FOLDED, "TITLES": TITLES}
    constants = "\n".join(f"const {name} = {json.dumps(value, indent=2)};" for name, value in tables.items())
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Plots of the autoencoder experiments</title>
<!--
{licences}-->
<style>{STYLE}</style>
<script>(function () {{
{vega}
}})();</script>
<script>
{constants}
{SCRIPT}</script>
</head>
<body>
<h1>Autoencoder experiments</h1>
<p id="about">Revisions: <span id="revisions"></span>. Point at a mark for its values; scroll to zoom, drag to move,
double-click to reset. Click on a picture for its full size.</p>
<main>
{{plot_divs}}
</main>
</body>
</html>
"""
