"""``python -m seawall_testing.conformance``."""

import sys

from seawall_testing.conformance import main

sys.exit(main())
