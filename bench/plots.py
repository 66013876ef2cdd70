"""Pictures of recorded results, where matplotlib is installed (the extra `bench`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.comparison import estimate
from bench.results import RESULTS, Row, load, names, of
from bench.scenarios import growth, memory

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS, OTHERS, FLOOR = "#0b6e4f", "#9aa5b1", "#c9ced6"

LINES = {"tidegate": OURS, "floor": "#8a929c", "uws": "#c2571a"}


def draw_all() -> list[Path]:
    """Draw what is recorded; the files that were written, none of them without matplotlib."""
    try:
        import matplotlib as mpl
    except ImportError:
        return []
    mpl.use("Agg")
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 110})
    return [path for path in (_draw_fanout(), _draw_growth(), _draw_herd()) if path]


def _draw_fanout() -> Path | None:
    from matplotlib import pyplot as plt

    single, bursts, connections = load("cpu"), load("burst"), load("memory")
    if single is None or bursts is None or connections is None:
        return None
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.6), layout="constrained")
    _bars_with_intervals(axes[0], single.rows, "cpu_us", 1.0, "µs CPU per delivery, single events")
    _bars_with_intervals(axes[1], bursts.rows, "cpu_us", 1.0, "µs CPU per delivery, bursts of 5")
    _bars_with_intervals(axes[2], single.rows, "p99_us", 1000.0, "p99 ms, publish to receive, single events")
    servers = list(dict.fromkeys(row["server"] for row in connections.rows))
    values = [memory.per_connection(connections.rows, server, "after bursts") / 1000 for server in servers]
    _bars(axes[3], servers, values, "KB per connection")
    path = RESULTS / "fanout.png"
    figure.savefig(path)
    plt.close(figure)
    return path


def _draw_growth() -> Path | None:
    from matplotlib import pyplot as plt

    found = load("growth")
    if found is None:
        return None
    figure, axes = plt.subplots(2, 4, figsize=(14, 6), layout="constrained")
    for column, axis in enumerate(growth.AXES):
        for row, (field, unit, label) in enumerate(
            [("cpu_us", 1.0, "µs CPU per delivery"), ("private_bytes", 1e6, "MB of the server")]
        ):
            _curves(axes[row][column], found.rows, axis, field, unit)
            axes[row][column].set_ylabel(label)
    axes[0][0].legend(frameon=False)
    path = RESULTS / "growth.png"
    figure.savefig(path)
    plt.close(figure)
    return path


def _draw_herd() -> Path | None:
    from matplotlib import pyplot as plt

    found = load("herd")
    if found is None:
        return None
    figure, axes = plt.subplots(1, len(found.rows), figsize=(14, 3), layout="constrained", squeeze=False)
    for axis, row in zip(axes[0], found.rows, strict=True):
        axis.bar(range(len(row["per_second"])), row["per_second"], width=1.0, align="edge", color=OURS)
        axis.axhline(row["cap_per_s"], color="#c2571a", label=f"cap, {row['cap_per_s']:.0f} per s")
        axis.axhline(row["normal_per_s"], color="#8a929c", label=f"normal rate, {row['normal_per_s']:.0f} per s")
        axis.axvline(row["last_s"] or 0.0, color="#333", linestyle=":", label="all are fresh")
        axis.set_title(f"{row['outage']} for {row['outage_s']:g} s: calls in each second after", fontsize=9, loc="left")
        axis.set_xlabel("seconds since the backend is back")
    axes[0][0].legend(frameon=False)
    path = RESULTS / "herd.png"
    figure.savefig(path)
    plt.close(figure)
    return path


def _curves(axes: "Axes", rows: Sequence[Row], axis: str, field: str, unit: float) -> None:
    for server in growth.servers_of(rows, axis):
        points = growth.curve(rows, axis, server, field)
        axes.plot(
            [x for x, _ in points],
            [value / unit for _, value in points],
            marker="o",
            markersize=3,
            color=LINES.get(server, OTHERS),
            label=server,
        )
    axes.set_xscale("log")
    axes.set_ylim(0, 1.1 * axes.dataLim.y1)
    axes.set_xlabel(axis)


def _bars_with_intervals(axes: "Axes", rows: Sequence[Row], field: str, unit: float, title: str) -> None:
    servers = names(rows)
    found = [estimate(of(rows, server, field)) for server in servers]
    below = [(one.value - one.low) / unit for one in found]
    above = [(one.high - one.value) / unit for one in found]
    _bars(axes, servers, [one.value / unit for one in found], title)
    axes.errorbar(
        [one.value / unit for one in found], range(len(found)), xerr=[below, above], fmt="none", ecolor="#333"
    )


def _bars(axes: "Axes", servers: Sequence[str], values: Sequence[float], title: str) -> None:
    axes.barh(range(len(servers)), values, color=[_colour(server) for server in servers])
    axes.set_yticks(range(len(servers)), servers)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=9, loc="left")


def _colour(server: str) -> str:
    if server.startswith("tidegate"):
        return OURS
    return FLOOR if server.startswith("floor") else OTHERS
