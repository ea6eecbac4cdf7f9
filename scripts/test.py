#!/usr/bin/env python3
"""Lint and test the pack on a real ComfyUI, setting up whatever is missing. Needs nothing but Python 3.10 or newer.

Arguments it does not know go to pytest: `scripts/test.py -k bridge -x`, `scripts/test.py tests/unit/test_house.py`.
"""

import argparse
import os
import signal
import subprocess
import sys

from _pack import ROOT, load_pack

load_pack()

from aqueduct.scripts._console import readable_errors, say
from aqueduct.scripts._environment import Environment, prepare

# `python -m pytest` would put the checkout on sys.path, where its nodes/ shadows ComfyUI's nodes.py. And pytest knows
# Ctrl-C but not `kill`, which would leave its server running.
PYTEST = """
import signal, sys
sys.path.remove("")
signal.signal(signal.SIGTERM, signal.default_int_handler)
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


def main() -> int:
    options, pytest_arguments = parse_arguments()
    environment = prepare()
    if options.python or options.comfyui:
        print(environment.python if options.python else environment.comfyui)
        return 0
    lint = run(environment, "-m", "ruff", "check", ".")
    tests = run(environment, "-c", PYTEST, *(pytest_arguments + default_targets(options.fast, pytest_arguments)))
    if lint:
        say("error: ruff found problems (see above the tests)")
    return tests or lint


def parse_arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="the unit tests only: no server, no browser")
    parser.add_argument("--python", action="store_true", help="print the interpreter of the environment, test nothing")
    parser.add_argument("--comfyui", action="store_true", help="print the ComfyUI folder in use, test nothing")
    return parser.parse_known_args()


def default_targets(fast: bool, arguments: list[str]) -> list[str]:
    """The folder to test, unless the arguments name files or folders themselves."""
    if any((ROOT / argument.split("::")[0]).exists() for argument in arguments if not argument.startswith("-")):
        return []
    return ["tests/unit" if fast else "tests"]


def run(environment: Environment, *arguments: str) -> int:
    """Run the environment's Python in the checkout to its end, also when stopped: the tests must stop their server."""
    # One thread: the tensors are small, and threads that wait for each other cost ten times as much on a busy machine.
    variables = {"OMP_NUM_THREADS": "1", **os.environ, "COMFYUI_PATH": str(environment.comfyui)}
    process = subprocess.Popen([environment.python, *arguments], cwd=ROOT, env=variables)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # the terminal interrupts the tests as well


if __name__ == "__main__":
    with readable_errors():
        sys.exit(main())
