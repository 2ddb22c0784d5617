"""``python -m guerdon``."""

import sys

from guerdon.cli import main

if __name__ == "__main__":
    sys.exit(main())
