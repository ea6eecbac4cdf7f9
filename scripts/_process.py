"""Run the slow, chatty programs of the set-up: their output goes to a log, which is shown only when they fail."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from ._console import HouseError, Step

LOG_TAIL_LINES = 15
OFFLINE_SIGNS = (
    "NewConnectionError",
    "NameResolutionError",
    "Temporary failure in name resolution",
    "ConnectTimeoutError",
    "Network is unreachable",
    "ProxyError",
)


def run_logged(command: Sequence[str | Path], log: Path, step: Step) -> None:
    """Run `command` to its end with its output in `log`; raise a HouseError that explains a failure."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            close_fds=False,  # it keeps the lock of `_lock.exclusive` if this process is killed
        )
        try:
            while process.poll() is None:
                step.tick()
                try:
                    process.wait(timeout=1)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode:
        raise HouseError(explain_failure(command, process.returncode, log.read_text(errors="replace"), log))


def explain_failure(command: Sequence[str | Path], status: int, output: str, log: Path) -> str:
    """Name the likely cause first: most failed set-ups are a missing network or a full disk."""
    tail = "\n".join(f"  | {line}" for line in output.splitlines()[-LOG_TAIL_LINES:])
    if any(sign in output for sign in OFFLINE_SIGNS):
        cause = "The package index cannot be reached. Check the network (or PIP_INDEX_URL and proxies), then run again."
    elif "No space left on device" in output:
        cause = "The disk is full. Free some space, or set AQUEDUCT_CACHE to a folder on a larger disk."
    elif "ensurepip is not available" in output:
        cause = "This Python cannot make environments. On Debian and Ubuntu: apt-get install python3-venv."
    else:
        cause = f"{Path(command[0]).name} ended with status {status}."
    return f"{cause}\n{tail}\n  full log: {log}\n  command: {' '.join(map(str, command))}"
