"""Figures of a study: the values of its trials in order, and the importance of its options."""

from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cxr.errors import counted
from cxr.figures.canvas import COLOURS, blank, heading, plain, rows_figure


def trial_history(values: Mapping[int, float], metric: str, mode: str) -> Figure:
    """The value of each completed trial, and the best so far.

    Args:
        values: number of the trial to its value.
        mode: `max` or `min`, whichever is better.
    """
    figure = blank(7, 3.6)
    axes = plain(figure.subplots())
    numbers, better = sorted(values), max if mode == "max" else min
    axes.plot(numbers, [values[number] for number in numbers], "o", color=COLOURS[0], label="trial")
    best = [better(values[n] for n in numbers[: k + 1]) for k in range(len(numbers))]
    axes.step(numbers, best, where="post", color=COLOURS[1], label="best so far")
    axes.set(xlabel="trial", ylabel=metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    heading(figure, counted(len(numbers), "completed trial"))
    return figure


def importance(shares: Mapping[str, float], metric: str) -> Figure:
    """The share of each option in the differences between trials, the largest at the top."""
    names = sorted(shares, key=lambda name: shares[name])
    figure, ticks = rows_figure(names, 7, 1.4)
    axes = plain(figure.subplots())
    axes.barh(range(len(names)), [shares[name] for name in names], color=COLOURS[0])
    axes.set_yticks(range(len(names)), ticks)
    axes.set_xlabel(f"importance for {metric}")
    return figure
