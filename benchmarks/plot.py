#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Draws latency and bus bandwidth over message size from the CSV files of the GPU benchmarks.

One picture for each collective, transport, element type and number of ranks that the files have;
each names the commands that made it. Needs matplotlib.
"""
import argparse
import csv
import os
import sys
from collections import defaultdict


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("csv", nargs="+", help="files that --csv of the benchmarks wrote")
    parser.add_argument("--out", default=".", help="folder for the pictures")
    parser.add_argument("--format", choices=("svg", "png"), default="svg")
    return parser.parse_args()


def read(paths):
    """What was measured: {picture: {line: {bytes: row}}} and {picture: commands}. Of a row measured
    twice the later one counts."""
    lines = defaultdict(lambda: defaultdict(dict))
    commands = defaultdict(dict)
    for path in paths:
        command, header = "", None
        with open(path, newline="", encoding="utf-8") as file:
            for cells in csv.reader(file):
                if not cells:
                    continue
                if cells[0].startswith("# "):
                    command = ",".join(cells)[2:]
                elif cells[0] == "collective":
                    header = cells
                else:
                    row = dict(zip(header, cells))
                    picture = tuple(row[k] for k in ("collective", "transport", "dtype", "ranks"))
                    lines[picture][name_of(row)][int(row["bytes"])] = row
                    commands[picture][short(command)] = None
    return lines, commands


def name_of(row):
    """A line's label: its provider, with what is not the usual about it."""
    label = row["provider"]
    if row["provider"].startswith("tpx") and row["topology"] != "auto":
        label += f" {row['topology']}"
    if row["mode"] == "eager":
        label += ", eager"
    if row["offset"] != "0":
        label += f", {row['offset']} elements off"
    return label


def short(command):
    """The command without the folders of the program and of the files it writes."""
    words = []
    skip = False
    for word in command.split():
        if skip or word in ("--csv", "--json"):
            skip = not skip
            continue
        words.append(os.path.basename(word) if not words else word)
    return " ".join(words)


def readable(size, _=None):
    for unit, name in ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")):
        if size >= unit:
            return f"{size / unit:g} {name}"
    return f"{size:g} B"


def draw(picture, lines, commands, path):
    import matplotlib
    import matplotlib.ticker
    matplotlib.use("Agg")
    from matplotlib import pyplot

    collective, transport, dtype, ranks = picture
    figure, panels = pyplot.subplots(1, 2, figsize=(11, 4.6))
    order = sorted(lines, key=lambda name: (not name.startswith("tpx"), name))
    for name in order:
        sizes = sorted(lines[name])
        style = {"marker": "o", "markersize": 3, "label": name,
                 "linewidth": 2.2 if name.startswith("tpx") else 1.2}
        panels[0].plot(sizes, [float(lines[name][s]["us_median"]) for s in sizes], **style)
        panels[1].plot(sizes, [float(lines[name][s]["busbw"]) for s in sizes], **style)
    panels[0].set(ylabel="time of a call, us (median)", yscale="log")
    panels[0].yaxis.set_major_formatter("{x:g}")
    panels[1].set(ylabel="bus bandwidth, GB/s", ylim=(0, None))
    for panel in panels:
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(readable))
        panel.tick_params(axis="x", labelrotation=45)
        panel.set(xlabel="message")
        panel.grid(True, which="major", alpha=0.3)
    panels[0].legend(fontsize=8)
    gpu = next(iter(lines[order[0]].values()))["gpu"]
    between = {"peer": "GPU to GPU", "host": "through pinned host memory"}[transport]
    figure.suptitle(f"{collective}, {ranks} x {gpu}, {dtype}, {between}")
    figure.tight_layout(rect=(0, 0.035 * len(commands) + 0.01, 1, 1))
    figure.text(0.01, 0.01, "\n".join(commands), fontsize=7, family="monospace", va="bottom")
    figure.savefig(path, dpi=120, metadata={"Date": None} if path.endswith("svg") else None)
    pyplot.close(figure)


def main():
    options = arguments()
    lines, commands = read(options.csv)
    lines = {picture: found for picture, found in lines.items() if picture[0] != "barrier"}
    if not lines:
        sys.exit("no rows in " + " ".join(options.csv))
    os.makedirs(options.out, exist_ok=True)
    for picture, found in sorted(lines.items()):
        path = os.path.join(options.out, "_".join(picture) + "." + options.format)
        draw(picture, found, list(commands[picture]), path)
        print(path)


if __name__ == "__main__":
    main()
