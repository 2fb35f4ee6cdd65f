"""`python -m cxr.compare runs=...`: runs ranked on the same images, see `cxr.evaluation.compare`."""

from cxr.cli import compare

if __name__ == "__main__":
    compare()
