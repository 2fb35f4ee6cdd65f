"""cxr: train, ensemble and judge multi-finding chest radiograph classifiers."""

__version__ = "0.1.0"
