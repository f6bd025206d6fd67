"""The README and the pages of docs, in parts."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(PROJECT)): path.read_text("utf-8")
    for path in (PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").rglob("*.md")))
}
"""Each page by its path."""

WRITTEN = {path: text for path, text in PAGES.items() if not path.startswith("docs/reference/")}
"""Those that people have written."""

TEXT = "\n".join(WRITTEN.values())


def blocks(language: str, page: str | None = None) -> list[str]:
    """Return the code blocks in a language, of one page or of all."""
    text = TEXT if page is None else PAGES[page]
    return re.findall(rf"^```{language}(?: [^\n]*)?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def section(heading: str) -> str:
    """Return what stands under a heading, up to the next of its kind."""
    found = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^\1 |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[2]


def table(heading: str) -> list[list[str]]:
    """Return the rows of the table under a heading, a list of cells each."""
    rows = [line for line in section(heading).splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip("|"))] for row in rows]


def in_code(text: str) -> list[str]:
    """Return what stands between backticks."""
    return re.findall(r"`([^`]+)`", text)
