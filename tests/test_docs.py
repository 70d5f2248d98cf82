"""What the documents tell people to type exists: commands, options, and the files that are linked."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from irdet.cli import build_app

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "irdet/weights").glob("*.md"))]

#: What may stand before `irdet` in a line of a shell: the beginning, an environment variable, sudo.
_COMMAND = re.compile(r"(?:^|[;&|]\s*)(?:sudo\s+)?(?:\w+=\S*\s+)*irdet\s+(.+)$")


def prose(text: str) -> str:
    """What a document says outside of its fenced blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def commands(text: str) -> Iterator[list[str]]:
    """Yields what follows `irdet` in code blocks (fenced as shell, or indented) and in inline code."""
    language, fenced = "", False
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if fence := re.match(r"\s*```(\w*)", line):
            fenced, language = not fenced, fence[1]
        elif fenced and language in ("", "bash", "sh", "shell", "console"):
            yield from _words(line.strip().removeprefix("$ "))
        elif not fenced and line.startswith("    "):
            yield from _words(line.strip())
    for code in re.findall(r"`([^`]+)`", prose(text)):
        yield from _words(" ".join(code.split()))


def _words(line: str) -> Iterator[list[str]]:
    found = _COMMAND.search(line)
    if found:
        lexer = shlex.shlex(found[1], posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
        ends = [index for index, word in enumerate(words) if word in ("|", "||", "&", "&&", ";", ">", ">>", "2>")]
        yield words[: min(ends, default=len(words))]


@functools.cache
def _app() -> Any:
    return typer.main.get_command(build_app())


def faults(words: list[str]) -> Iterator[str]:
    """Yields what a command line has that the app has not. Words that stand for any command or option are let pass."""
    command = _app()
    told = f"irdet {' '.join(words)}"
    left = list(words)
    while left and hasattr(command, "commands") and not left[0].startswith("-"):
        name = left.pop(0)
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            return  # "irdet COMMAND", "irdet ..."
        if name not in command.commands:
            yield f"{told}: there is no command {name}"
            return
        command = command.commands[name]
    known: dict[str, Any] = {name: one for one in command.params for name in (*one.opts, *one.secondary_opts)}
    known |= dict.fromkeys(("--help", "-h", "--debug"))
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    positional = 0
    while left:
        word = left.pop(0)
        if re.fullmatch(r"-[a-zA-Z]|--[a-z].*", word):
            name, equals, _ = word.partition("=")
            if name not in known:
                yield f"{told}: there is no option {name}"
                return
            option = known[name]
            if option is not None and not option.is_flag and not equals:
                if not left:
                    yield f"{told}: {name} lacks its value"
                    return
                left.pop(0)
        else:
            positional += 1
    if arguments and all(one.nargs == 1 for one in arguments) and positional > len(arguments):
        yield f"{told}: too many arguments"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_exists_with_its_options(path: Path) -> None:
    found = list(commands(path.read_text(encoding="utf-8")))
    assert [fault for words in found for fault in faults(words)] == []


def test_the_guide_goes_all_the_way() -> None:
    """From an environment to PASS and the figures, for each kind of device."""
    text = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
    assert "Not yet run on a device" in text
    for section in re.split(r"^## (?=\d)", text, flags=re.M)[2:]:
        lines = [words for words in commands(section) if words]
        names = [words[0] for words in lines]
        assert {"doctor", "verify", "bench"} <= set(names), section.splitlines()[0]
        assert "python3 -m venv" in section and "pip install" in section


def anchors(text: str) -> list[str]:
    """What a link can name of a document: its headings, as GitHub writes them."""
    titles = re.findall(r"^#+ (.+)", prose(text), flags=re.M)
    return [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(path: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)", prose(path.read_text(encoding="utf-8")))
    local = [target.partition("#") for target in targets if "://" not in target and not target.startswith("mailto:")]
    assert [file for file, _, _ in local if not (path.parent / file).exists()] == []
    pages = [(path.parent / file if file else path, anchor) for file, _, anchor in local if anchor]
    assert [f"{page}#{anchor}" for page, anchor in pages if anchor not in anchors(page.read_text("utf-8"))] == []


def test_the_rule_sees_what_is_wrong() -> None:
    text = (
        "    irdet infre a.mkv        # comment\n    irdet infer a.mkv --modle x\n    irdet info a b c\n"
        "```bash\nA=1 irdet synth clup x | tee y\n```\n`irdet bench --engines x` `irdet --vresion`\n"
        "`irdet verify best.trt` `irdet eval --data`\n"
    )
    found = [list(faults(words)) for words in commands(text)]
    told = [one[0].rpartition(": ")[2] if one else "" for one in found]
    assert told == [
        "there is no command infre",
        "there is no option --modle",
        "too many arguments",
        "there is no command clup",
        "there is no option --engines",
        "there is no option --vresion",
        "",
        "--data lacks its value",
    ]


def test_anchors_are_those_of_headings() -> None:
    text = "# The runs of `mlcl-edge`\n\n## Two goes\n\nno # heading\n\n## Is it worth it, then?\n"
    assert anchors(text) == ["the-runs-of-mlcl-edge", "two-goes", "is-it-worth-it-then"]
