"""Trains one network, or with -m a sweep of them: `python train.py --help`."""

from cxr.cli.entry import start

if __name__ == "__main__":
    start("train")
