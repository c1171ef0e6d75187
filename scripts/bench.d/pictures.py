"""The pictures, as SVG: ratios with their floors and goals, and costs against a size."""

import collections

import rows
from console import NotMeasured

COLOURS = {rows.GOAL: "#1a7f37", rows.FLOOR: "#2f6fb0", rows.BELOW: "#c0392b", rows.MEASURED: "#6b6b6b"}


def plotting():
    """matplotlib, drawing the same file from the same figures each time."""
    try:
        import matplotlib
    except ImportError:
        raise NotMeasured("there is no matplotlib in this Python; without --no-install, scripts/bench installs it") from None
    matplotlib.use("svg")
    matplotlib.rcParams.update({
        "svg.hashsalt": "envol", "svg.fonttype": "none", "font.family": ["DejaVu Sans", "sans-serif"], "font.size": 9,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e4e4e4", "axes.axisbelow": True,
        "figure.facecolor": "white",
    })
    import matplotlib.pyplot

    return matplotlib.pyplot


def save(figure, plot, path):
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    plot.close(figure)


def origin(machine):
    processor = machine["processor"]
    return f"{machine['date'][:10]}, {processor['cpus']} cpus of {processor['model']}, Linux {machine['kernel']}, commit {machine['versions']['envol_commit']}"


def ratios(directory, drawn, machine):
    """`ratios-PLACE.svg`: each ratio of the table as a dot with the span of its rounds; floor and goal as marks."""
    plot = plotting()
    for place, lines in drawn.items():
        panels = collections.defaultdict(list)
        for title, against, outcome in lines:
            if outcome.value is not None and outcome.unit in ("x", "x the time"):
                kind = against.partition(", p")[0].rpartition(" / ")[2] if "1/" not in against else against
                times = outcome.unit == "x the time"
                panels[f"time, against {kind} (less is better)" if times else f"rate, against {kind}"].append((label(title, against), outcome))
        if not panels:
            continue
        heights = [len(entries) + 1.2 for entries in panels.values()]
        inches = 0.3 * sum(heights) + 1.1
        figure, axes = plot.subplots(len(panels), 1, figsize=(8.5, inches), height_ratios=heights, squeeze=False)
        for axis, (name, entries) in zip(axes[:, 0], panels.items()):
            panel(axis, name, entries)
        figure.text(0.02, 1 - 0.1 / inches, f"envol, encrypted, against its peers, on {place}", ha="left", va="top", fontsize=12, fontweight="bold")
        figure.text(0.02, 0.05 / inches, f"{origin(machine)}. A bar spans the rounds.", ha="left", color="#6b6b6b", fontsize=8)
        legend(figure, 1 - 0.35 / inches)
        figure.tight_layout(rect=(0, 0.25 / inches, 1, 1 - 0.65 / inches))
        save(figure, plot, directory / f"ratios-{place}.svg")


def label(title, against):
    percentile = against.rpartition(", ")[2] if against.endswith(("p50", "p99")) else ""
    way = against.rpartition(" / ")[0] if "1/" not in against else ""
    return ", ".join(word for word in (title, percentile, way) if word)


def panel(axis, name, entries):
    for line, (title, outcome) in enumerate(entries):
        colour = COLOURS.get(outcome.verdict, "#6b6b6b")
        axis.plot([outcome.low, outcome.high], [line, line], color=colour, alpha=0.35, linewidth=5, solid_capstyle="round")
        axis.plot(outcome.value, line, "o", color=colour, markersize=6)
        if outcome.floor_value is not None:
            axis.plot(outcome.floor_value, line, "|", color="#111111", markersize=13, markeredgewidth=1.6)
        if outcome.goal_value is not None:
            axis.plot(outcome.goal_value, line, "D", color="#111111", markersize=4, fillstyle="none")
        axis.annotate(f"{outcome.value:.2f}", (1.01, line), xycoords=("axes fraction", "data"), va="center", color=colour)
    axis.set_yticks(range(len(entries)), [title for title, _ in entries])
    axis.set_ylim(len(entries) - 0.5, -0.5)
    marks = [mark for _, outcome in entries for mark in (outcome.high, outcome.floor_value, outcome.goal_value) if mark is not None]
    axis.set_xlim(0, max(marks) * 1.05)
    axis.set_title(name, loc="left", fontsize=10)


def legend(figure, top):
    from matplotlib.lines import Line2D

    marks = [Line2D([], [], color=colour, marker="o", linestyle="", label=name.lower()) for name, colour in COLOURS.items() if name != rows.MEASURED]
    marks.append(Line2D([], [], color="#111111", marker="|", markersize=11, linestyle="", label="floor"))
    marks.append(Line2D([], [], color="#111111", marker="D", fillstyle="none", markersize=4, linestyle="", label="goal"))
    figure.legend(handles=marks, loc="upper left", ncols=5, frameon=False, fontsize=8, bbox_to_anchor=(0.01, top))


def costs(path, across, series, machine):
    """One picture of a scale: for each `(name, points, peer's points, exponent)` cost against size, both logarithmic."""
    plot = plotting()
    columns = min(3, len(series))
    lines = -(-len(series) // columns)
    inches = 2.9 * lines + 0.9
    figure, axes = plot.subplots(lines, columns, figsize=(3.9 * columns, inches), squeeze=False)
    for axis in axes.flat[len(series):]:
        axis.remove()
    for axis, (name, points, peer, fit) in zip(axes.flat, series):
        sizes, values = zip(*points)
        axis.loglog(sizes, [values[0] * size / sizes[0] for size in sizes], "--", color="#aaaaaa", linewidth=1)
        if peer:
            axis.loglog(*zip(*peer), "s-", color="#b08a2f", markersize=3, linewidth=1, label="nbdkit file")
        axis.loglog(sizes, values, "o-", color="#2f6fb0", markersize=4, linewidth=1.4, label="envol")
        if peer:
            axis.legend(frameon=False, fontsize=8)
        shown = [*values, *(cost for _, cost in peer or [])]
        axis.set_ylim(min(shown) / 2, max(max(shown) * 2, min(shown) * 20))
        axis.set_title(f"{name}\nexponent {fit:+.2f}", loc="left", fontsize=9)
        axis.set_xlabel(across)
    figure.text(0.02, 1 - 0.1 / inches, f"Cost against {across}", ha="left", va="top", fontsize=12, fontweight="bold")
    figure.text(0.02, 0.05 / inches, f"Dashed: linear. {origin(machine)}", ha="left", color="#6b6b6b", fontsize=8)
    figure.tight_layout(rect=(0, 0.25 / inches, 1, 1 - 0.35 / inches))
    save(figure, plot, path)
