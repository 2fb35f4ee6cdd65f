"""cxr: train, ensemble and evaluate multi-finding chest radiograph classifiers."""

__version__ = "0.1.0"
