"""The learning curves of a run: loss, AUROC, accuracy and learning rate against the epoch."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from cxr.errors import CxrError
from cxr.figures.canvas import COLOURS, blank, heading, plain

_LABELS = {
    "loss": "loss", "macro_auroc": "macro AUROC", "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy",
    "top1_accuracy": "top-1 accuracy", "lr": "learning rate",
}  # fmt: skip
_PARTS = {"train": ("training", COLOURS[0], "-"), "val": ("validation", COLOURS[1], "--")}


def learning_curves(log: pd.DataFrame, name: str, selected: int, monitor: str = "val/macro_auroc") -> Figure:
    """Training and validation values against the epoch, the gap between them shaded, the best epoch marked.

    Epochs are counted from 1, as in the terminal.

    Args:
        log: one row per epoch: `epoch`, from 0, `lr`, and any of `train/` and `val/` `loss`, `macro_auroc`, `accuracy`,
            and other metrics; NaN where a value was not computed or is undefined.
        selected: the best epoch, from 0.
        monitor: the column that selected it.

    Raises:
        CxrError: `log` has no value in any of these columns.
    """
    log = log.assign(epoch=log["epoch"] + 1).sort_values("epoch").set_index("epoch")
    series = {str(column): log[column].dropna() for column in log if log[column].notna().any()}
    logged = [column.partition("/")[2] for column in series if column.startswith(("train/", "val/"))]
    metrics = [key for key in dict.fromkeys([*_LABELS, *logged]) if key in logged]
    metrics += ["lr"] if "lr" in series else []
    if not metrics:
        raise CxrError(f"the log has no value to draw; its columns are {', '.join(map(str, log.columns)) or 'none'}")
    figure = blank(8.5, 1.4 + 2.4 * len(metrics))
    columns = figure.subplots(len(metrics), 1, sharex=True, squeeze=False)[:, 0]
    mark = "o" if len(log) <= 40 else ""
    for key, axes in zip(metrics, columns, strict=True):
        plain(axes).grid(color="0.9", linewidth=0.6)
        axes.set_ylabel(_label(key))
        if key == "lr":
            axes.plot(series["lr"], color="black", marker=mark, markersize=3)
            if 0 < 10 * series["lr"].min() < series["lr"].max():
                axes.set_yscale("log")
                axes.yaxis.set_major_formatter(lambda rate, _: f"{rate:g}")
                axes.yaxis.set_minor_formatter(NullFormatter())
            continue
        for part, (label, colour, dash) in _PARTS.items():
            if f"{part}/{key}" in series:
                line = series[f"{part}/{key}"]
                axes.plot(line, color=colour, linestyle=dash, marker=mark, markersize=4, label=label)
        if f"train/{key}" in series and f"val/{key}" in series:
            _gap(axes, series[f"train/{key}"], series[f"val/{key}"])
    if monitor in series and selected + 1 in series[monitor]:
        value = series[monitor][selected + 1]
        label = f"best epoch {selected + 1} (validation {_label(monitor.partition('/')[2])} {value:.4f})"
        for axes in columns:
            axes.axvline(selected + 1, color=COLOURS[2], linestyle=":", linewidth=1.8, label=label)
    columns[-1].set_xlabel("epoch")
    columns[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(log) == 1:
        columns[-1].set_xticks(log.index)
    named = {label: handle for axes in columns for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=2, frameon=False)
    heading(figure, f"Learning curves: {name}")
    return figure


def _label(metric: str) -> str:
    return _LABELS.get(metric, metric.replace("_", " "))


def _gap(axes: Axes, train: pd.Series, val: pd.Series) -> None:
    """Shades the area between two curves where both have values, and writes the last difference above the axes."""
    both = train.index.intersection(val.index)
    if not len(both):
        return
    axes.fill_between(both, train[both], val[both], color="0.5", alpha=0.25, linewidth=0, label="gap")
    gap = train[both[-1]] - val[both[-1]]
    stated = f"{gap:+.4f}".replace("-", "−")
    axes.set_title(f"training − validation at epoch {both[-1]:g}: {stated}", loc="right", fontsize=9)
