"""The learning curves of a run: loss, AUROC, accuracy and learning rate against the epoch."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from cxr.errors import CxrError
from cxr.figures.canvas import COLOURS, blank, heading, picture, plain, save

_PANELS = {
    "loss": "loss", "macro_auroc": "macro AUROC", "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy",
    "top1_accuracy": "top-1 accuracy",
}  # fmt: skip
_PARTS = {"train": ("training", COLOURS[0], "-"), "val": ("validation", COLOURS[1], "--")}


@picture
def learning_curves(
    log: pd.DataFrame,
    path: Path,
    title: str = "",
    monitor: str = "val/macro_auroc",
    mode: str = "max",
    best: int | None = None,
) -> None:
    """Draws training and validation against the epoch, the gap between them shaded, and the best epoch marked.

    Epochs are drawn and named from 1, as the terminal counts them.

    Args:
        log: one row an epoch: `epoch`, from 0, `lr`, and any of `train/` and `val/` `loss`, `macro_auroc`, `accuracy`,
            and other metrics; NaN where a value was not taken or is undefined.
        path: the PNG to write.
        title: replaces the default heading.
        monitor: the column that says which epoch is the best.
        mode: `max` or `min`, whichever of its values is better.
        best: the best epoch, from 0, where it is not simply that of the best value.

    Raises:
        CxrError: `log` has no value in any of these columns.
    """
    save(_learning_curves_figure(log, title, monitor, mode, best), path)


def _learning_curves_figure(
    log: pd.DataFrame, title: str, monitor: str = "val/macro_auroc", mode: str = "max", best: int | None = None
) -> Figure:
    log = log.assign(epoch=log["epoch"] + 1).sort_values("epoch").set_index("epoch")
    series = {str(name): log[name].dropna() for name in log if log[name].notna().any()}
    logged = [name.partition("/")[2] for name in series if name.startswith(("train/", "val/"))]
    panels = [key for key in dict.fromkeys([*_PANELS, *logged]) if key in logged]
    panels += ["lr"] if "lr" in series else []
    if not panels:
        raise CxrError(f"the log has no value to draw; its columns are {', '.join(map(str, log.columns)) or 'none'}")
    figure = blank(8.5, 1.4 + 2.4 * len(panels))
    columns = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    mark = "o" if len(log) <= 40 else ""
    for key, axes in zip(panels, columns, strict=True):
        plain(axes).grid(color="0.9", linewidth=0.6)
        if key == "lr":
            axes.plot(series["lr"], color="black", marker=mark, markersize=3)
            axes.set_ylabel("learning rate")
            if 0 < 10 * series["lr"].min() < series["lr"].max():
                axes.set_yscale("log")
                axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
                axes.yaxis.set_minor_formatter(NullFormatter())
            continue
        axes.set_ylabel(_label(key))
        for part, (name, colour, dash) in _PARTS.items():
            if f"{part}/{key}" in series:
                line = series[f"{part}/{key}"]
                axes.plot(line, color=colour, linestyle=dash, marker=mark, markersize=4, label=name)
        if f"train/{key}" in series and f"val/{key}" in series:
            _gap(axes, series[f"train/{key}"], series[f"val/{key}"])
    if monitor in series:
        reached = series[monitor]
        chosen = reached[reached.index == best + 1] if best is not None else reached[:0]
        chosen = chosen if len(chosen) else reached
        marked, value = (chosen.idxmin(), chosen.min()) if mode == "min" else (chosen.idxmax(), chosen.max())
        label = f"best epoch {marked:g} (validation {_label(monitor.partition('/')[2])} {value:.4f})"
        for axes in columns:
            axes.axvline(marked, color=COLOURS[2], linestyle=":", linewidth=1.8, label=label)
    columns[-1].set_xlabel("epoch")
    columns[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    if log.index.min() == log.index.max():
        columns[-1].set_xticks([log.index.min()])
    named = {label: handle for axes in columns for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=2, frameon=False)
    heading(figure, title or "Learning curves")
    return figure


def _label(metric: str) -> str:
    return _PANELS.get(metric, metric.replace("_", " "))


def _gap(axes: Axes, train: pd.Series, val: pd.Series) -> None:
    """Shades between two curves over the epochs that have both, and states the last difference above the axes."""
    both = train.index.intersection(val.index)
    if not len(both):
        return
    axes.fill_between(both, train[both], val[both], color="0.5", alpha=0.25, linewidth=0, label="gap")
    gap = train[both[-1]] - val[both[-1]]
    stated = f"{gap:+.4f}".replace("-", "−")
    axes.set_title(f"training − validation at epoch {both[-1]:g}: {stated}", loc="right", fontsize=9)
