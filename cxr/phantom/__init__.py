"""Drawn chest radiographs: a synthetic data set that needs no download."""

from cxr.phantom.population import Visit, draw_population
from cxr.phantom.radiograph import render
from cxr.phantom.write import write_phantoms

__all__ = ["Visit", "draw_population", "render", "write_phantoms"]
