"""``python -m guerdon.cli``."""

import sys

from guerdon.cli import main

if __name__ == "__main__":
    sys.exit(main())
