"""Trains one network, or with -m a sweep of them: `python train.py --help`."""

from cxr.cli import train

if __name__ == "__main__":
    train()
