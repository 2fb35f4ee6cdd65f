"""`python -m cxr.data.cache`, the former name of `python -m cxr cache`; it will be removed in the next version."""

from cxr.cli.entry import renamed

if __name__ == "__main__":
    renamed("cache", "python -m cxr.data.cache")
