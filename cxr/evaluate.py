"""`python -m cxr.evaluate run=...`: what the predictions of a run are worth, see `cxr.evaluation.run`."""

from cxr.cli import evaluate

if __name__ == "__main__":
    evaluate()
