"""The pages of the documentation, and what is in them."""

import re

from tools import ROOT

ENGLISH = {page.name: page for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
CHINESE = {name: page.with_name("README.zh-CN.md") if name == "README.md" else page.parent / "zh-CN" / name
           for name, page in ENGLISH.items()}
BLOCK = re.compile(r"(?:^<!-- ([^\n]*?) -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name_of(page):
    return str(page.relative_to(ROOT))


def read(page):
    return page.read_text(encoding="utf-8")


def commented(page, language):
    """The fenced blocks in a language, each with the comment on the line before it ("" for none)."""
    return [(comment, block) for comment, tag, block in BLOCK.findall(read(page)) if tag == language]


def blocks(page, language):
    """The fenced blocks in a language."""
    return [block for _, block in commented(page, language)]
