"""`python -m cxr`, the same as the console script `cxr`."""

from cxr.cli.entry import main

if __name__ == "__main__":
    main()
