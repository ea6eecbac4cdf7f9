"""`python -m aqueduct.train`, for a pack in a folder of any name: python3 scripts/train.py CONFIG.toml"""

import sys

from _pack import load_pack

load_pack()

from aqueduct.train import main

if __name__ == "__main__":
    sys.exit(main())
