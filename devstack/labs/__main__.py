"""`python -m devstack.labs`: the lab's command."""

import sys

from devstack.labs.cli import main

sys.exit(main())
