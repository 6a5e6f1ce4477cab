"""``python -m lossbackend``: the command line."""

import sys

from lossbackend.cli import main

if __name__ == "__main__":
    sys.exit(main())
