"""Draws the plots in docs/PERFORMANCE.md from the benchmarks' results."""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
# Makes the output reproducible: no random ids, no date.
matplotlib.rcParams["svg.hashsalt"] = "belfry"
matplotlib.rcParams["svg.fonttype"] = "none"

import matplotlib.pyplot as plt  # noqa: E402


def axes(title):
    figure, plot = plt.subplots(figsize=(7.2, 4.2))
    plot.set(title=title, xlabel="connections", ylabel="seconds to the last frame", xscale="log", yscale="log")
    plot.xaxis.set_major_formatter("{x:,g}")
    plot.yaxis.set_major_formatter("{x:,g}")
    plot.grid(which="major", color="#dddddd")
    plot.spines[["top", "right"]].set_visible(False)
    return figure, plot


def save(figure, plot, file):
    plot.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None, "Creator": None})
    print(f"wrote {file}")


def sockets(measured, file):
    figure, plot = axes("One machine, two cores: real sockets")
    for (name, points), marker in zip(measured.items(), "os^"):
        plot.plot(*zip(*points), marker=marker, label=name)
    save(figure, plot, file)


def growth(measured, file):
    figure, plot = axes("2,500 posts a second on AWS: simulated, with the real core")
    connections, limit, took = zip(*measured)
    plot.plot(connections, limit, color="#999999", linestyle="--", label="limit: connections / rate of the workers at work")
    plot.plot(connections, took, marker="o", label="Belfry, 1% gone and 1% throttled")
    save(figure, plot, file)


def main():
    measured, docs = Path(sys.argv[1]), Path(sys.argv[2])
    docs.mkdir(parents=True, exist_ok=True)
    for draw in (sockets, growth):
        file = measured / f"{draw.__name__}.json"
        if file.exists():
            draw(json.loads(file.read_text()), docs / f"{draw.__name__}.svg")


if __name__ == "__main__":
    main()
