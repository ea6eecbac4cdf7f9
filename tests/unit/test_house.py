"""The house rules: what may import what, and how little an import of the pack costs."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOST_PACKAGES = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "nodes", "server"}


def python_files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def imports(path: Path) -> list[tuple[int, str]]:
    """(relative level, module) of every import statement, also those inside functions."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or ""))
    return found


# --- layers -----------------------------------------------------------------------------------------------------------


def test_core_never_imports_comfyui():
    guilty = [
        f"{path.relative_to(ROOT)}: {module}"
        for path in python_files("core")
        for level, module in imports(path)
        if level == 0 and module.split(".")[0] in HOST_PACKAGES
    ]
    assert guilty == []


def test_core_stays_inside_core():
    """A relative import that climbs above core/ would tie it to the rest of the pack."""
    for path in python_files("core"):
        depth = len(path.relative_to(ROOT).parent.parts)
        assert all(level <= depth for level, _ in imports(path)), path


def test_pack_imports_itself_relatively():
    """The alias `aqueduct` exists in tests and scripts only; in ComfyUI it does not."""
    for path in [ROOT / "__init__.py", *python_files("core", "nodes")]:
        assert all(level or module.split(".")[0] != "aqueduct" for level, module in imports(path)), path


def test_lint_catches_comfyui_in_core_alone():
    """The boundary is enforced where people see it, in the editor, not only here."""
    for file, flagged in (("core/example.py", True), ("nodes/example.py", False)):
        command = [sys.executable, "-m", "ruff", "check", "--select", "TID251", "--stdin-filename", file, "-"]
        lint = subprocess.run(command, cwd=ROOT, input="import comfy.utils\n", capture_output=True, text=True)
        assert ("TID251" in lint.stdout) == flagged, lint.stdout + lint.stderr


def test_sources_are_ascii_and_leave_sys_path_alone():
    for path in [ROOT / "__init__.py", *python_files("core", "nodes")]:
        text = path.read_text(encoding="utf-8")
        assert text.isascii() and "sys.path" not in text, path


# --- import -----------------------------------------------------------------------------------------------------------


PRELUDE = f"import sys; sys.path.append({str(ROOT / 'scripts')!r})\nfrom _pack import load_pack\n"


def in_fresh_python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", PRELUDE + code], capture_output=True, text=True, cwd=ROOT.parent)
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def test_import_is_light():
    out = in_fresh_python(
        "pack = load_pack(); import aqueduct.nodes\n"
        "print(pack.WEB_DIRECTORY, [name for name in ('torch', 'numpy', 'comfy', 'PIL') if name in sys.modules])"
    )
    assert out.strip() == "./web []"


def test_entry_point_logs_why_it_failed():
    """Outside ComfyUI there is no comfy_api: ComfyUI would swallow that traceback, so the pack logs it itself."""
    out = in_fresh_python(
        "import asyncio\n"
        "try: asyncio.run(load_pack().comfy_entrypoint())\n"
        "except ModuleNotFoundError as error: print('raised', error.name, 'torch' in sys.modules)"
    )
    assert "raised comfy_api False" in out
    assert "Aqueduct could not load its nodes\nTraceback" in out


def test_pack_is_loaded_once():
    assert in_fresh_python("print(load_pack() is load_pack())").strip() == "True"
