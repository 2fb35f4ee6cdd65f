"""Digital chest radiographs that the project draws itself: a data set for those who have none."""

from cxr.data.phantom.population import Visit, draw_population
from cxr.data.phantom.radiograph import render
from cxr.data.phantom.write import write_phantoms

__all__ = ["Visit", "draw_population", "render", "write_phantoms"]
