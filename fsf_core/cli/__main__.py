"""`python -m fsf_core.cli` is `fsf`."""

import sys

from fsf_core.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
