"""Train the small models that ship under `models/`, and the baselines they are compared with: runs of `configs/small`.

    python3 scripts/train_small.py framebridge_digits           # one run, resumed if it was interrupted
    python3 scripts/train_small.py --list

`scripts/train.py` into `runs/` of the checkout, on one CPU thread, since two such runs share two cores well; its
options are the same.
"""

import sys

from _pack import ROOT, load_pack

load_pack()

from aqueduct.train import main

if __name__ == "__main__":
    sys.exit(main(["--output", str(ROOT / "runs"), "--threads", "1", *sys.argv[1:]]))
