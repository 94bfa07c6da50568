"""`python -m upload_adapters.cli`: the command line of this very interpreter."""

import sys

from upload_adapters.cli import main

if __name__ == "__main__":
    sys.exit(main())
