"""`python -m cxr.data.cache`, thin as `train.py` is: the program is in `cxr.cli`."""

from cxr.cli import cache

if __name__ == "__main__":
    cache()
