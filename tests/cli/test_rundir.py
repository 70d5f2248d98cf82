from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from irdet.cli.rundir import claimed, named_after, new_run, run_folder
from irdet.core.errors import IrdetError, UsageError


def test_runs_are_numbered(tmp_path: Path) -> None:
    folders = [new_run("train", "night", root=tmp_path) for _ in range(3)]
    assert folders == [tmp_path / "train" / name for name in ("night", "night-2", "night-3")]
    assert all(folder.is_dir() for folder in folders)


def test_without_a_name(tmp_path: Path) -> None:
    assert new_run("eval", root=tmp_path) == tmp_path / "eval" / "run"
    assert new_run("eval", root=tmp_path) == tmp_path / "eval" / "run-2"


@pytest.mark.skipif(sys.platform == "win32", reason="folders are locked where POSIX is")
def test_a_folder_is_one_runs_at_a_time(tmp_path: Path) -> None:
    with claimed(tmp_path), pytest.raises(UsageError, match="another run of irdet is writing there"):
        claimed(tmp_path).__enter__()
    with claimed(tmp_path) as folder:
        assert folder == tmp_path
        assert list(tmp_path.iterdir()) == [], "it leaves nothing"


def test_exist_ok_takes_the_very_folder(tmp_path: Path) -> None:
    first = new_run("train", "night", root=tmp_path)
    (first / "best.pt").touch()
    assert new_run("train", "night", exist_ok=True, root=tmp_path) == first
    assert (first / "best.pt").exists()
    assert new_run("train", "new", exist_ok=True, root=tmp_path).is_dir()


def test_runs_that_start_together_get_one_folder_each(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: new_run("train", root=tmp_path), range(32)))
    assert len(set(folders)) == 32


@pytest.mark.parametrize("name", ["a/b", "..", ".", "/tmp", "a\\b", "a\0b"])
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="--name"):
        new_run("train", name, root=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("source", ["sirst/test", "night\\1", "a\0b"])
def test_a_run_is_named_after_what_is_no_name(tmp_path: Path, source: str) -> None:
    assert new_run("eval", named_after(source), root=tmp_path).parent == tmp_path / "eval"


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "night").touch()
    assert new_run("train", "night", root=tmp_path).name == "night-2"
    with pytest.raises(IrdetError, match="night"):
        new_run("train", "night", exist_ok=True, root=tmp_path)
    with pytest.raises(IrdetError, match="cannot make the run folder") as caught:
        new_run("x", root=tmp_path / "train" / "night")
    assert "\n" not in str(caught.value)


def test_a_run_that_fails_takes_an_empty_folder_away(tmp_path: Path) -> None:
    mine, new, begun = (tmp_path / name for name in ("mine", "new", "begun"))
    mine.mkdir()
    for folder in (mine, new, begun):
        with pytest.raises(KeyboardInterrupt), run_folder(folder, "eval", "night", False):
            if folder is begun:
                (folder / "targets.csv").touch()
            raise KeyboardInterrupt
    assert mine.is_dir(), "it was there before"
    assert not new.exists()
    assert (begun / "targets.csv").exists()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder here that not even root may write to")
def test_unwritable() -> None:
    with pytest.raises(IrdetError, match=r"cannot make the run folder /proc/train/run: \w"):
        new_run("train", root=Path("/proc"))
