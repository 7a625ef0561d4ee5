"""The pages of `dvc plots show` and `dvc plots diff`: nothing in them comes from a network, and all is drawn.

The pages are made by DVC from the project's own .dvc/ (config, templates) in a clone of a small repository.
"""

import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from dvc_render import VegaRenderer, render_html
from dvc_render.html import PAGE_HTML
from PIL import Image

from tools import plots_page

EPOCHS, POINTS, CLASSES = 12, 60, 10
PLOTS = """\
plots:
  - plots/loss.csv: {template: loss, x: epoch, y: valid, y_label: loss, title: Loss}
  - plots/latent_map.csv: {template: latent_map, x: x, y: y, title: Latent map}
  - plots/curve.csv: {template: linear, x: step, y: value}
  - plots/pairs.csv: {template: scatter, x: a, y: b}
  - plots/picture.png
"""

# Chromium with every address but files unreachable.
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --disable-dev-shm-usage --proxy-server=127.0.0.1:9"
    " --virtual-time-budget=10000 --dump-dom"
).split()
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (apt-get install chromium)")

# Runs in the page once everything is drawn, and leaves what the browser saw in the page itself.
PROBE = """<script>
addEventListener("load", () => setTimeout(() => {
  const seen = {
    asked: performance.getEntriesByType("resource").map(entry => entry.name),
    pictures: [...document.images].map(image => image.naturalWidth),
    ink: [...document.querySelectorAll("canvas")].map(canvas => {
      const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      return pixels.filter((value, i) => i % 4 === 3 && value > 0).length;
    })
  };
  const note = document.createElement("pre");
  note.id = "seen";
  note.textContent = JSON.stringify(seen);
  document.body.append(note);
}, 3000));
</script>"""


class Fetches(HTMLParser):
    """What a browser would fetch for a page (`found`), and the text of its scripts and styles."""

    ATTRIBUTES = ("src", "href", "srcset", "data", "poster", "background", "action", "formaction", "xlink:href")

    def __init__(self, html: str):
        super().__init__()
        self.found, self.policy, self.inside = [], None, None
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.inside = tag
        attributes = dict(attrs)
        self.found += [attributes[name] for name in self.ATTRIBUTES if attributes.get(name)]
        self.found += self.in_style(attributes.get("style") or "")
        match (attributes.get("http-equiv") or "").lower():
            case "refresh":
                self.found.append(attributes["content"])
            case "content-security-policy" if self.inside == "meta":
                self.policy = attributes["content"]

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside == "style":
            self.found += self.in_style(data)

    @staticmethod
    def in_style(style: str) -> list[str]:
        return re.findall(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""", style)


class Drawn(HTMLParser):
    """The marks that Vega drew into a page as SVG: chart id -> Counter of marks and of points on lines."""

    VOID = {"meta", "link", "img", "br", "hr", "input"}

    def __init__(self, html: str):
        super().__init__()
        self.charts, self.texts, self.seen, self.stack = {}, {}, None, []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = {name: value or "" for name, value in attrs}
        classes = attributes.get("class", "").split()
        if "vega-embed" in classes:
            self.charts[attributes["id"]] = Counter()
        mark = next((name.removeprefix("mark-") for name in classes if name.startswith("mark-")), None)
        mark = mark if "role-mark" in classes else None
        chart = attributes.get("id") if "vega-embed" in classes else self.of(1)
        if tag in ("path", "text") and self.of(2):
            self.charts[chart][self.of(2)] += 1
            if self.of(2) == "line":  # M x,y L x,y ...: a letter for each point
                self.charts[chart]["points on lines"] += len(re.findall("[ML]", attributes["d"]))
        if tag not in self.VOID:
            self.stack.append((tag, chart, mark or (self.of(2) if tag == "g" and not classes else None)))

    def of(self, index):
        return self.stack[-1][index] if self.stack else None

    def handle_endtag(self, tag):
        while self.stack and self.stack.pop()[0] != tag:
            pass

    def handle_data(self, data):
        if self.of(0) == "pre":
            self.seen = json.loads(data)
        elif self.of(0) == "text":
            self.texts.setdefault(self.of(1), []).append(data)
