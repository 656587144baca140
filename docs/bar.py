#!/usr/bin/env python3
"""Draw the text of a terminal, colours included, as an SVG.

docs/bar.svg is a real run in a terminal of 84 columns, against an nginx that gives each
connection 2.5 MB/s; it was interrupted once and continued:

    tmux new-session -x 84 -y 10              # and in it: haul -x 8 http://localhost:8180/film.mp4
    tmux capture-pane -e -p -t 0 | docs/bar.py >docs/bar.svg
"""

import re
import sys
from html import escape

COLUMN, ROW, MARGIN, BAR = 9, 20, 16, 30
COLOURS = {30: "#484f58", 31: "#ff7b72", 32: "#7ee787", 33: "#e3b341",
           34: "#79c0ff", 35: "#d2a8ff", 36: "#39c5cf", 37: "#e6edf3"}
PLAIN = COLOURS[37]
# Blocks are drawn, because fonts leave gaps between them.
BLOCKS = {"░": 0.28, "▒": 0.5, "▓": 0.75, "█": 1.0}


def runs(line):
    """Cut a line into pieces of one look: (column, text, colour, bold)."""
    column, colour, bold = 0, PLAIN, False
    for piece in re.split(r"(\x1b\[[0-9;]*m)", line):
        if piece.startswith("\x1b["):
            for code in (int(word or 0) for word in piece[2:-1].split(";")):
                if code == 0:
                    colour, bold = PLAIN, False
                elif code in (1, 22):
                    bold = code == 1
                elif code in COLOURS or code == 39:
                    colour = COLOURS.get(code, PLAIN)
            continue
        # Blocks and text are drawn in different ways, so they are pieces of their own.
        for part in re.findall(r"[░▒▓█]|[^░▒▓█]+", piece):
            yield column, part, colour, bold
            column += len(part)


lines = [line.rstrip() for line in sys.stdin.read().rstrip("\n").split("\n")]
while lines and not lines[-1]:
    lines.pop()
columns = max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in lines)
width, height = columns * COLUMN + 2 * MARGIN, len(lines) * ROW + 2 * MARGIN + BAR
out = [
    f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
    f'viewBox="0 0 {width} {height}" role="img">',
    "<title>haul in a terminal: a download that was interrupted goes on</title>",
    f'<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>',
]
out += [f'<circle cx="{20 + 18 * i}" cy="20" r="6" fill="{c}"/>'
        for i, c in enumerate(("#ff5f57", "#febc2e", "#28c840"))]
out.append('<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, \'DejaVu Sans Mono\', '
           'monospace" font-size="14.5" xml:space="preserve">')
for number, line in enumerate(lines):
    top = MARGIN + BAR + number * ROW
    for column, text, colour, bold in runs(line):
        left = MARGIN + column * COLUMN
        if text in BLOCKS:
            out.append(f'<rect x="{left}" y="{top + 2}" width="{COLUMN}" height="{ROW - 4}" '
                       f'fill="{colour}" fill-opacity="{BLOCKS[text]}" shape-rendering="crispEdges"/>')
        elif text.strip():
            weight = ' font-weight="bold"' if bold else ""
            out.append(f'<text x="{left}" y="{top + 15}" textLength="{len(text) * COLUMN}" '
                       f'fill="{colour}"{weight}>{escape(text)}</text>')
out += ["</g>", "</svg>"]
print("\n".join(out))
