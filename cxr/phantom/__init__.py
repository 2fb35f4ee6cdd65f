"""Digital chest radiographs that the project draws itself: a data set for those who have none."""

from cxr.phantom.population import Visit, draw_population
from cxr.phantom.radiograph import render
from cxr.phantom.write import write_phantoms

__all__ = ["Visit", "draw_population", "render", "write_phantoms"]
