"""Combines finished runs into one classifier: `python ensemble.py --help`."""

from cxr.cli import ensemble

if __name__ == "__main__":
    ensemble()
