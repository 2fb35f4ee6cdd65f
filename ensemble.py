"""Combines finished runs into one classifier: `python ensemble.py --help`."""

from cxr.cli.entry import start

if __name__ == "__main__":
    start("ensemble")
