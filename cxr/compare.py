"""`python -m cxr.compare`, the former spelling of `python -m cxr compare`; it will be removed in the next version."""

from cxr.cli.entry import renamed

if __name__ == "__main__":
    renamed("compare", "python -m cxr.compare")
