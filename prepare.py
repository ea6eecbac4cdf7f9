"""Turn a folder of videos into latents to train on.

    python -m aqueduct.prepare CONFIG.toml                       # goes on where it was stopped
    python -m aqueduct.prepare CONFIG.toml --set size.width=512

`configs/prepare` holds examples. For a pack in a folder of another name: `python scripts/prepare.py CONFIG.toml`.
"""

import argparse
import sys
import time


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="TOML file that says what to prepare")
    parser.add_argument(
        "--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="change the file's values"
    )
    asked = parser.parse_args(arguments)

    try:
        from .core.data.clips import find
        from .core.data.config import read
        from .core.data.prepare import prepare
    except ImportError as error:
        print(f"error: {error}: take ComfyUI's Python, or one that has what this prepares with", file=sys.stderr)
        return 2
    try:
        config = read(asked.config, asked.set)
        sources = find(config.source, runs=max(config.clips.lengths) > 1)
        with config.runner() as runner:
            index = prepare(sources, config.settings, config.encoder, config.output, runner, _reporter())
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"\n{len(index.clips)} clips of {len(sources)} sources in {config.output}")
    for one in index.skipped:
        print(f"skipped {one.path}: {one.why}")
    return 0 if index.clips else 1


def _reporter():
    """Prints how far it is and how long it will take, on one line."""
    started, before = time.monotonic(), None

    def report(done: int, total: int) -> None:
        nonlocal before
        before = done if before is None else before
        spent = time.monotonic() - started
        left = f", {spent / (done - before) * (total - done):.0f} s left" if done > before else ""
        print(f"\r{done} of {total} clips{left}        ", end="", flush=True)

    return report


if __name__ == "__main__":
    sys.exit(main())
