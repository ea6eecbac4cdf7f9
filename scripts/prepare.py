"""`python -m aqueduct.prepare`, for a pack in a folder of any name: python3 scripts/prepare.py CONFIG.toml"""

import sys

from _pack import load_pack

load_pack()

from aqueduct.prepare import main

if __name__ == "__main__":
    sys.exit(main())
