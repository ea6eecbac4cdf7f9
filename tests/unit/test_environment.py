"""The set-up of demo.py and test.py: where things lie on each platform, and what happens when something goes wrong."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aqueduct.scripts import _comfyui, _environment, _host, _places, _process, _server, _venv
from aqueduct.scripts._console import HouseError
from aqueduct.scripts._lock import exclusive

ROOT = Path(__file__).resolve().parents[2]

# --- places -----------------------------------------------------------------------------------------------------------

HOME = Path("home")


@pytest.mark.parametrize(
    ("platform", "environ", "expected"),
    [
        ("linux", {}, HOME / ".cache" / "aqueduct"),
        ("linux", {"XDG_CACHE_HOME": "xdg"}, Path("xdg") / "aqueduct"),
        ("darwin", {"XDG_CACHE_HOME": "xdg"}, HOME / "Library" / "Caches" / "aqueduct"),
        ("win32", {"LOCALAPPDATA": "local"}, Path("local") / "aqueduct"),
        ("win32", {}, HOME / "AppData" / "Local" / "aqueduct"),
        ("win32", {"LOCALAPPDATA": "local", "AQUEDUCT_CACHE": "mine"}, Path("mine")),
        ("linux", {"AQUEDUCT_CACHE": "mine"}, Path("mine")),
    ],
)
def test_cache_root(platform, environ, expected):
    assert _places.cache_root(platform, environ, HOME) == expected


def test_interpreter_of_an_environment():
    assert _places.venv_python(Path("env"), "win32") == Path("env", "Scripts", "python.exe")
    assert _places.venv_python(Path("env"), "darwin") == Path("env", "bin", "python")


def test_host_interpreters_include_the_windows_portable_build():
    comfyui = Path("portable", "ComfyUI")
    assert Path("portable", "python_embeded", "python.exe") in _places.host_pythons(comfyui, "win32")
    assert _places.host_pythons(comfyui, "linux")[0] == comfyui / "venv" / "bin" / "python"


def test_environment_key_follows_everything_that_is_installed():
    key = _environment.environment_key("torch\n", "linux-x86_64", (3, 11))
    assert key == _environment.environment_key("torch\n", "linux-x86_64", (3, 11))
    others = [("torch\nav\n", "linux-x86_64", (3, 11)), ("torch\n", "win32-AMD64", (3, 11))]
    others.append(("torch\n", "linux-x86_64", (3, 12)))
    assert len({key, *(_environment.environment_key(*other) for other in others)}) == 4
    assert _places.content_key("ab", "c") != _places.content_key("a", "bc")


# --- finding ComfyUI --------------------------------------------------------------------------------------------------


def make_comfyui(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "main.py").touch()
    return folder


def test_comfyui_path_wins_over_the_folder_around(tmp_path):
    around, named = make_comfyui(tmp_path / "around"), make_comfyui(tmp_path / "named")
    checkout = around / "custom_nodes" / "ComfyUI-Aqueduct"
    assert _comfyui.find_comfyui({}, checkout) == around
    assert _comfyui.find_comfyui({"COMFYUI_PATH": str(named)}, checkout) == named
    assert _comfyui.find_comfyui({}, tmp_path / "elsewhere" / "aqueduct") is None


def test_comfyui_path_without_main(tmp_path):
    with pytest.raises(HouseError, match="has no main.py"):
        _comfyui.find_comfyui({"COMFYUI_PATH": str(tmp_path)})


def test_comfyui_python_must_run_comfyui(tmp_path, monkeypatch):
    with pytest.raises(HouseError, match="does not exist"):
        _host.find_host(tmp_path, {"COMFYUI_PYTHON": str(tmp_path / "python")})
    monkeypatch.setattr(_host, "HOST_MODULES", ("no_such_module",))
    with pytest.raises(HouseError, match="lacks no_such_module"):
        _host.find_host(tmp_path, {"COMFYUI_PYTHON": sys.executable})
    assert _host.find_host(tmp_path, {}) is None


# --- clear errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [(3, 9), (3, 15), (2, 7)])
def test_unsupported_python(version):
    with pytest.raises(HouseError, match=r"needs 3\.10 to 3\.14"):
        _environment.check_python(version)


def test_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 3e9))
    with pytest.raises(HouseError, match="needs 12 GB .* 3.0 GB are free.*AQUEDUCT_CACHE"):
        _environment.check_space(tmp_path / "not" / "yet" / "there")


@pytest.mark.parametrize(
    ("output", "cause"),
    [
        ("WARNING: NewConnectionError('...: [Errno 101] Network is unreachable')", "package index cannot be reached"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("ensurepip is not available", "apt-get install python3-venv"),
        ("boom", "pip ended with status 3"),
    ],
)
def test_failed_commands_are_explained(output, cause):
    message = _process.explain_failure(["/usr/bin/pip", "install"], 3, output, Path("pip.log"))
    assert cause in message and output in message and "pip.log" in message


def test_taken_port():
    port = _server.claim_port(None)
    with socket.socket() as other:
        other.bind((_server.LOOPBACK, port))
        other.listen()
        with pytest.raises(HouseError, match=f"port {port} is taken"):
            _server.claim_port(port)


def test_server_that_dies_shows_its_last_words(tmp_path):
    comfyui = make_comfyui(tmp_path / "comfyui")
    (comfyui / "main.py").write_text("raise SystemExit('cannot start today')")
    with pytest.raises(HouseError, match="(?s)ended with status 1.*cannot start today"):
        with _server.ComfyServer(sys.executable, comfyui):
            pass


# --- builds and links -------------------------------------------------------------------------------------------------


def test_unlinking_spares_the_checkout(tmp_path):
    pack = tmp_path / "pack"
    pack.mkdir()
    (pack / "precious.py").touch()
    link = tmp_path / "custom_nodes" / "link"
    _server.link_pack(link, pack)
    assert (link / "precious.py").exists()
    _server.unlink_pack(link)
    assert not link.exists() and (pack / "precious.py").exists()


HOLDER = """
import subprocess, sys, time
from pathlib import Path
scripts, lock, ready, start_pip = sys.argv[1:]
sys.path.append(scripts)
from _pack import load_pack
load_pack()
from aqueduct.scripts._lock import exclusive
with exclusive(Path(lock)):
    pip = [sys.executable, "-c", "import time; time.sleep(60)"]
    started = subprocess.Popen(pip, close_fds=False).pid if int(start_pip) else 0
    Path(ready + ".tmp").write_text(str(started))
    Path(ready + ".tmp").rename(ready)
    time.sleep(60)
"""


def hold(lock: Path, start_pip: bool) -> tuple[subprocess.Popen, int]:
    """A process that holds `lock`, and the id of the program it started meanwhile."""
    ready = lock.with_suffix(".ready")
    arguments = [ROOT / "scripts", lock, ready, str(int(start_pip))]
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, *arguments])
    while not ready.exists():
        assert holder.poll() is None
        time.sleep(0.02)
    return holder, int(ready.read_text())


def test_lock_waits_for_its_holder_and_dies_with_it(tmp_path):
    holder, _ = hold(tmp_path / "lock", start_pip=False)
    waited = []
    with exclusive(tmp_path / "lock", lambda: (waited.append(True), holder.kill())):
        assert waited == [True]
    holder.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="there, a lock belongs to one process")
def test_lock_outlives_a_killed_holder_whose_pip_goes_on(tmp_path):
    holder, pip = hold(tmp_path / "lock", start_pip=True)
    holder.kill()
    holder.wait()
    waited = []
    with exclusive(tmp_path / "lock", lambda: (waited.append(True), os.kill(pip, signal.SIGKILL))):
        assert waited == [True]


def test_killed_build_is_resumed_and_a_damaged_one_rebuilt(tmp_path):
    folder = tmp_path / "env"
    runs = []

    def stage(python: Path) -> None:
        runs.append(python)
        if len(runs) == 1:
            raise KeyboardInterrupt
        if len(runs) == 3:  # only the rebuilt environment is sound
            code = "import sysconfig; print(sysconfig.get_path('purelib'))"
            site = subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.strip()
            Path(site, "sound_module.py").touch()

    stages = [_venv.Stage("Doing", action=stage)]
    with pytest.raises(KeyboardInterrupt):
        _venv.build(folder, stages, ["sound_module"])
    assert not _venv.is_complete(folder)
    _venv.build(folder, stages, ["sound_module"])
    assert _venv.is_complete(folder) and len(runs) == 3
    _venv.build(folder, stages, ["sound_module"])
    assert len(runs) == 3
