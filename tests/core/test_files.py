from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from irdet.core.errors import IrdetError
from irdet.core.files import cache_folder, replacing, sha256, write_text


def test_a_file_is_written_whole_into_a_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    write_text(path, "Grüße\n")
    assert path.read_text(encoding="utf-8") == "Grüße\n"
    assert list(path.parent.iterdir()) == [path]


def test_the_temporary_name_is_beside_the_file_and_keeps_its_suffix(tmp_path: Path) -> None:
    with replacing(tmp_path / "model.onnx") as temporary:
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".onnx")
        temporary.write_bytes(b"new")


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="half way"), replacing(path) as temporary:
        temporary.write_text("ne")
        assert path.read_text() == "old"
        raise RuntimeError("half way")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_threads_leave_the_umask_alone(tmp_path: Path) -> None:
    """It belongs to the process, and reading it is setting it."""
    before = os.umask(0o027)
    try:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda number: write_text(tmp_path / f"{number}.txt", ""), range(400)))
    finally:
        after = os.umask(before)
    assert after == 0o027


def test_a_name_as_long_as_file_systems_allow(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".txt")
    write_text(path, "1")
    assert path.read_text() == "1" and len(list(tmp_path.iterdir())) == 1


def test_others_may_read_it_as_the_umask_says(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_text(tmp_path / "ours", "")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "ours")}
    assert len(modes) == 1


def test_a_file_in_the_way_of_the_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(IrdetError, match=r"cannot write .*file/a\.txt") as caught:
        write_text(tmp_path / "file" / "a.txt", "")
    assert "\n" not in str(caught.value)


def test_a_folder_in_the_way_of_the_file_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(IrdetError, match=r"cannot write .*a\.txt"):
        write_text(tmp_path / "a.txt", "")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder here that not even root may write to")
def test_an_unwritable_folder_is_one_line() -> None:
    with pytest.raises(IrdetError, match=r"cannot write /proc/a\.txt: \w"):
        write_text("/proc/a.txt", "")


def test_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(IrdetError, match=r"cannot write .*a\.bin: No space left"), replacing(tmp_path / "a.bin"):
        raise OSError(28, "No space left on device")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows a home for everybody")
def test_a_user_without_a_home_has_a_cache_of_his_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    first = cache_folder("speed")
    assert first.is_relative_to(tmp_path) and cache_folder("speed") == first
    own = first.parents[1]
    assert own.stat().st_mode & 0o777 == 0o700
    own.rmdir()
    own.symlink_to(tmp_path)  # laid there by somebody else
    assert not cache_folder("speed").is_relative_to(own)


def test_an_error_about_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"other\.txt"), replacing(tmp_path / "a.txt"):
        (tmp_path / "other.txt").read_text()


@pytest.mark.parametrize("size", [0, 1, (1 << 20) + 1])
def test_sha256(tmp_path: Path, size: int) -> None:
    data = bytes(index % 251 for index in range(size))
    (tmp_path / "a").write_bytes(data)
    assert sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()
