"""Drawn chest radiographs: a synthetic data set that needs no download."""

from cxr.phantom.long_tail import LONG_TAIL, draw_long_tail
from cxr.phantom.population import Visit, draw_population
from cxr.phantom.radiograph import render
from cxr.phantom.write import write_phantoms

__all__ = ["LONG_TAIL", "Visit", "draw_long_tail", "draw_population", "render", "write_phantoms"]
