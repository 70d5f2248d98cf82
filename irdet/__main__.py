"""`python -m irdet` is the command line."""

import sys

from irdet.cli import main

sys.exit(main())
