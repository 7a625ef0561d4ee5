"""The page: the template in page/ with its style, its scripts and the data in it, one HTML file without any link.

The scripts are modules that import each other. Here they become one: imports and the word export go, so no two modules
may have a name in common at their top level. Only this script and this style may run: the page states their hashes.
"""

import base64
import hashlib
import json
import re
from pathlib import Path

import jinja2

from tools.exploration.contents import Contents

FOLDER = Path(__file__).with_name("page")
SCRIPTS = (  # each after those that it imports
    *("data.js", "network.js", "sampling.js", "colours.js", "pictures.js", "state.js", "charts.js"),
    *("dots.js", "map.js", "map_input.js", "map_panel.js"),
    *("image_view.js", "plane.js", "decode_view.js", "path_view.js", "pad.js", "draw_view.js"),
    *("group_view.js", "experiment_view.js", "main.js"),
)


def render(contents: Contents) -> bytes:
    """The HTML file."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined
    )
    script, style = join_scripts(), (FOLDER / "page.css").read_text(encoding="utf-8")
    text = environment.get_template("page.html").render(
        title=contents.about["title"],
        summary=contents.about["summary"],
        script=script,
        style=style,
        script_hash=compute_hash(script),
        style_hash=compute_hash(style),
        about=encode_json(contents.about),
        numbers=base64.b64encode(contents.numbers).decode(),
        images=base64.b64encode(contents.images).decode(),
    )
    return text.encode()


def join_scripts() -> str:
    """All scripts as one module."""
    texts = [(FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS]
    return "\n" + "\n".join(re.sub(r"^import [^;]*;\n|^export ", "", text, flags=re.MULTILINE) for text in texts)


def compute_hash(text: str) -> str:
    """What the page's policy calls a script or a style that it allows."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def encode_json(value: object) -> str:
    """JSON that can stand in a script element: no < in it ends that element or opens another."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
