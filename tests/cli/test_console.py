from __future__ import annotations

import pytest

from irdet.cli.console import print_line, print_table


def test_a_title_is_one_line_however_narrow_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    title = "End to end, frame of 640x512 px, looked at in 2 ways round, ms " + "and more " * 20
    print_table(title, [("tophat", 1.5)], ("model", "p50"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == title
    assert [line.split() for line in lines[1:4:2]] == [["model", "p50"], ["tophat", "1.5"]]


@pytest.mark.parametrize("width", [40, 80])
def test_no_number_is_broken_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setattr("irdet.cli.console.PLAIN_WIDTH", width)
    figures = [f"{1234.5678 * index:.3f}" for index in range(1, 12)]
    print_table("Figures", [("a name of several words", *figures)], ("name", *(f"p{index}" for index in range(11))))
    said = capsys.readouterr().out.split()
    assert [figure for figure in figures if figure not in said] == []


def test_a_line_is_printed_whole_and_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_line("[bold]a/b\x1b[2J " + "word " * 60)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("[bold]a/b\ufffd[2J word") and line.count("word") == 60
