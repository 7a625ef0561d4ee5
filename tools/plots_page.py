"""The page that `dvc plots show` and `dvc plots diff` fill, so that its charts draw without a network.

DVC's own page loads Vega from a content network: offline, every chart in it stays blank. This module
writes `.dvc/plots/offline.html`, which `.dvc/config` names (plots.html_template) and git keeps: a page
with Vega, Vega-Lite and vega-embed inside, taken from the installed vl-convert-python, no download. The
same pin gives the same bytes. Run `python -m tools.plots_page` after a change here or of that pin.
"""

from pathlib import Path

import vl_convert

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / ".dvc" / "plots" / "offline.html"
VEGA_LITE = "5.20"  # DVC's chart templates, and ours beside the page, are written for Vega-Lite 5

# What is not listed here a browser refuses: no script, picture, font or data comes from a network address.
# Vega compiles its expressions ('unsafe-eval'); DVC's pictures are files beside the page ('self', file:).
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src 'self' file: data: blob:; base-uri 'none'; form-action 'none'"
)

# DVC writes style attributes into the boxes of pictures, and only there: hence div[style] and !important.
STYLE = """
body { margin: 0 auto; max-width: 1640px; padding: 16px 24px 48px; background: #fff; color: #222;
  font: 15px/1.45 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 22px; font-weight: 600; margin: 8px 0 0; }
#about { color: #595959; margin: 2px 0 20px; }
main { display: flex; flex-wrap: wrap; gap: 20px; align-items: flex-start; }
main > div { box-sizing: border-box; max-width: 100%; overflow-x: auto; padding: 12px;
  border: 1px solid #ddd; border-radius: 6px; }
main > div[style] { border: 1px solid #ddd !important; text-align: left !important; display: grid;
  gap: 8px 16px; grid-auto-flow: column; grid-auto-columns: minmax(min(100%, 240px), auto); }
main > div[style] > p { grid-row: 1; width: 0; margin: 0; font-weight: 600; }
main > div[style] > div { grid-row: 2; border: 0 !important; margin: 0 !important; }
main > div[style] > div > p { margin: 0 0 4px; color: #595959; font-size: 13px; }
main img { display: block; max-width: 100%; height: auto; }
.vega-bindings { color: #595959; font-size: 13px; }
.failed { color: #b00020; }
"""

# DVC writes vegaEmbed('#id', spec) for each chart; this stands between that call and vega-embed's own.
EMBED = """
const vegaEmbedItself = window.vegaEmbed;
const revisions = new Set();
const look = {
  font: "system-ui, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif",
  title: {fontSize: 15, fontWeight: 600}, header: {labelFontSize: 13}, view: {stroke: "#ddd"},
  axis: {labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", gridColor: "#eee"},
  axisX: {labelFlush: false, labelSeparation: 6},
  legend: {labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", labelLimit: 220}
};
window.vegaEmbed = (selector, spec) => {
  const box = document.getElementById(selector.slice(1));  // an id may begin with a digit, a selector not
  const rows = spec.data.values;
  for (const row of rows) revisions.add(row.rev);
  document.getElementById("revisions").textContent = [...revisions].join(", ");
  return vegaEmbedItself(box, spec, {
    actions: {export: true, source: false, compiled: false, editor: false},  // the editor is a website
    config: look,
    renderer: rows.length > 5000 ? "canvas" : "svg"  // svg is sharper; one element a point gets slow
  }).catch(error => {
    box.className = "failed";
    box.textContent = `${box.id} cannot be drawn: ${error.message}`;
  });
};
"""

LICENCES = """\
Written by tools/plots_page.py, not by hand. The first script holds Vega {vega}, Vega-Lite {vega_lite} and
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
    vega = vl_convert.javascript_bundle(vl_version=VEGA_LITE)  # sets window.vegaEmbed
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
<script>{EMBED}</script>
</head>
<body>
<h1>Autoencoder experiments</h1>
<p id="about">Revisions: <span id="revisions">see the pictures</span>. Point at a mark for its values;
scroll to zoom, drag to move, double-click to reset.</p>
<main>
{{plot_divs}}
</main>
</body>
</html>
"""


def main() -> None:
    TEMPLATE.parent.mkdir(exist_ok=True)
    TEMPLATE.write_text(page(), encoding="utf-8", newline="\n")
    print(f"{TEMPLATE.relative_to(ROOT)}: {TEMPLATE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
