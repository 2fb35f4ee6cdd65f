"""`python -m cxr.evaluate`, the former spelling of `python -m cxr evaluate`; it will be removed in the next version."""

from cxr.cli.entry import renamed

if __name__ == "__main__":
    renamed("evaluate", "python -m cxr.evaluate")
