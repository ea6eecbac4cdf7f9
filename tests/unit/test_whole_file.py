"""A file that is replaced is the new one, or as it was."""

import pytest

from aqueduct.core.whole_file import replaced


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "run.1.safetensors"
    path.write_text("old")
    return path


@pytest.mark.parametrize("shared", [False, True])
def test_takes_its_place_at_the_end(path, shared):
    with replaced(path, shared=shared) as beside:
        beside.write_text("new")
        assert beside.parent == path.parent and path.read_text() == "old"
    assert path.read_text() == "new" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_what_was_there_survives(path, error):
    with pytest.raises(type(error)), replaced(path) as beside:
        beside.write_text("half")
        raise error
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_a_file_left_by_a_kill_is_written_over(path):
    path.with_name(f"{path.name}.part").write_text("left, and longer than what comes")
    with replaced(path) as beside:
        beside.write_text("new")
    assert path.read_text() == "new" and list(path.parent.iterdir()) == [path]


def test_two_files_of_one_stem_do_not_meet(tmp_path):
    with replaced(tmp_path / "run.pt") as one, replaced(tmp_path / "run.safetensors") as other:
        one.write_text("a")
        other.write_text("b")
    assert [(tmp_path / name).read_text() for name in ("run.pt", "run.safetensors")] == ["a", "b"]
