"""Start a real ComfyUI with this pack in it, on folders of its own, and stop it again.

Nothing is written into the ComfyUI it runs: inputs, outputs, settings and the database lie in a temporary folder.
The pack gets in through a link in that folder, under a name of its own, and is the only custom pack that is loaded;
so a copy of the pack that is already installed in this ComfyUI, and any other pack, stay out of the way.
"""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
from collections.abc import Sequence
from pathlib import Path

from ._client import ComfyClient
from ._console import HouseError
from ._pack import ROOT

START_SECONDS = 300
STOP_SECONDS = 15
LOG_TAIL_LINES = 30
# Unlike the name of any installed copy; with a dash, as most packs have and as some code forgets.
DEFAULT_PACK_NAME = "aqueduct-checkout"
LOOPBACK = "127.0.0.1"


class ComfyServer(ComfyClient):
    """A ComfyUI process, as a context manager.

    `python` and `comfyui` come from `_environment.prepare()`. `pack` is loaded under the folder name `pack_name`.
    `port=None` takes a free one. `arguments` are further flags for main.py.
    """

    def __init__(
        self,
        python: Path | str,
        comfyui: Path | str,
        *,
        port: int | None = None,
        cpu: bool = True,
        pack: Path = ROOT,
        pack_name: str = DEFAULT_PACK_NAME,
        arguments: Sequence[str] = (),
    ):
        self.port = claim_port(port)
        super().__init__(f"http://{LOOPBACK}:{self.port}")
        self._python, self._comfyui = Path(python), Path(comfyui)
        self._pack, self.pack_name = Path(pack), pack_name
        self._arguments = [*(["--cpu"] if cpu else []), *arguments]
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> "ComfyServer":
        self._folder = tempfile.TemporaryDirectory(prefix="comfyui-", ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        try:
            self._start()
            self._await_answer()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception) -> None:
        if self._process:
            _stop(self._process)
        unlink_pack(self.folder / "custom_nodes" / self.pack_name)
        self._folder.cleanup()

    def log(self) -> str:
        """Everything the server has printed so far."""
        return (self.folder / "server.log").read_text(encoding="utf-8", errors="replace")

    def check_alive(self) -> None:
        if self._process is None or self._process.poll() is not None:
            status = self._process.returncode if self._process else "none"
            tail = "\n".join(f"  | {line}" for line in self.log().splitlines()[-LOG_TAIL_LINES:])
            raise HouseError(f"ComfyUI ended with status {status}:\n{tail}")

    def _start(self) -> None:
        link_pack(self.folder / "custom_nodes" / self.pack_name, self._pack)
        with open(self.folder / "server.log", "wb") as log:
            self._process = subprocess.Popen(
                self._command(), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def _command(self) -> list[str]:
        paths = self.folder / "paths.yaml"
        # JSON is YAML, and quotes any path correctly.
        listed = {"custom_nodes": str(self.folder / "custom_nodes")}
        # Where saved datasets lie: older versions look there by themselves, newer ones in the ComfyUI they run from.
        listed["datasets"] = str(self.folder / "output")
        paths.write_text(json.dumps({"aqueduct": listed}))
        folders = []
        for kind in ("input", "output", "user"):
            (self.folder / kind).mkdir()
            folders += [f"--{kind}-directory", str(self.folder / kind)]
        example = self._comfyui / "input" / "example.png"  # what a fresh ComfyUI's LoadImage shows
        if example.is_file():
            shutil.copy(example, self.folder / "input")
        return [
            *(str(self._python), str(self._comfyui / "main.py"), "--listen", LOOPBACK, "--port", str(self.port)),
            *(*folders, "--temp-directory", str(self.folder), "--database-url", "sqlite:///:memory:"),
            *("--extra-model-paths-config", str(paths), "--disable-all-custom-nodes"),
            *("--whitelist-custom-nodes", self.pack_name, "--disable-api-nodes", "--disable-auto-launch"),
            *("--use-pytorch-cross-attention", "--preview-method", "auto", *self._arguments),
        ]

    def _await_answer(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self.check_alive()
            try:
                self.object_info()
                return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.2)
        raise HouseError(f"ComfyUI did not answer within {START_SECONDS} s:\n{self.log()[-3000:]}")


def claim_port(port: int | None) -> int:
    """The port asked for, or a free one. Asked-for ports are checked: ComfyUI would load for a minute, then fail."""
    with socket.socket() as probe:
        if port is not None and sys.platform != "win32":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port or 0))
        except OSError as error:
            raise HouseError(f"port {port} is taken by another program: {error}. Choose another, or none.") from None
        return probe.getsockname()[1]


def link_pack(link: Path, pack: Path) -> None:
    """Make `link` show the folder `pack`. On Windows not everyone may make symlinks; junctions, everyone."""
    link.parent.mkdir(parents=True, exist_ok=True)
    try:
        link.symlink_to(pack, target_is_directory=True)
    except OSError:
        if sys.platform != "win32":
            raise
        subprocess.run(["cmd", "/c", "mklink", "/J", str(link), str(pack)], check=True, capture_output=True)


def unlink_pack(link: Path) -> None:
    """Remove the link first and by itself, so that no clean-up of the folder around it can reach the checkout."""
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        link.rmdir()  # a junction: this removes the junction alone


def _stop(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
