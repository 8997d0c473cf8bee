"""`python plot.py BENCH_JSON SVG`: where this tool's seconds went, as stacked bars, and the bare script beside them.

Run in the bench's own environment, which has matplotlib.
"""

import json
import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

mpl.rcParams.update({"svg.hashsalt": "bench", "svg.fonttype": "none", "font.size": 9})
rows = json.loads(Path(sys.argv[1]).read_text())["rows"]
own = [row for row in rows if row["groups"]]
bare = {(row["app"], row["rtt"], row["scenario"]): row["seconds"] for row in rows if row["contestant"] == "bare"}
names = [f"{row['app']}, {row['scenario']}, {row['rtt']:g} ms" for row in own]
figure = Figure(figsize=(9, 1.2 + 0.25 * len(own)), layout="constrained")
axes = figure.subplots()
begin = [0.0] * len(own)
for number, group in enumerate(own[0]["groups"]):
    widths = [max(row["groups"][group], 0) for row in own]
    axes.barh(names, widths, left=begin, label=group, color=mpl.colormaps["tab20"](number), height=0.7)
    begin = [left + width for left, width in zip(begin, widths, strict=True)]
marks = [
    (bare[row["app"], row["rtt"], row["scenario"]], name)
    for row, name in zip(own, names, strict=True)
    if (row["app"], row["rtt"], row["scenario"]) in bare
]
if marks:
    axes.plot(*zip(*marks, strict=True), "k|", markersize=11, markeredgewidth=1.5, label="bare script")
axes.invert_yaxis()
axes.set_xlabel("seconds")
axes.margins(y=0.01)
figure.legend(loc="outside upper center", ncols=6, frameon=False)
figure.savefig(sys.argv[2], metadata={"Date": None})
