"""Using a trained system without PyTorch: load a bundle, score arrays, files and folders.

from cxr.use import load_bundle

model = load_bundle("runs/a/bundle")
print(model.score_file("film.png"))
"""

from cxr.use.bundle import load_bundle
from cxr.use.scoring import Model, Scores

__all__ = ["Model", "Scores", "load_bundle"]
