"""The documentation, read: both languages show the same, and what it names and quotes is there.

A block of commands is run by test_docs_commands.py (`<!-- run by checks -->` before it) or test_sam.py
(`<!-- run by checks: sam -->`); or it is a step of .ci/run; or it says why nothing runs it (`<!-- not run: reason -->`).
"""

import json
import re
import shlex
import sys
from collections import Counter

import pytest

import expand
from pages import BLOCK, CHINESE, ENGLISH, blocks, commented, name_of, read
from tools import CARGO, ROOT, run

PAGES = [*ENGLISH.values(), *CHINESE.values()]
OTHERS = [ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "SECURITY.zh-CN.md")]
RELAY = sorted((ROOT / "relay").glob("*.md"))
FOLDERS = "checks|tests|events|src|examples|release|docs|sandbox|relay|fuzz|benches"
# The pages whose blocks are run, by the comment before the block.
RUN = {
    "run by checks": {"deploy.md", "call.md", "operate.md"},
    "run by checks: sam": {"configuration.md"},
}
# Words that pages don't use any more, since a reader stumbled over them.
GONE = {
    "en": ("This page answers", "stand-in", "believed", "turned calls away"),
    "zh": ("证实", "用一个词", "盖住", "转交", "离开队列", "再来", "手里什么也没有", "最有分量", "终端节点", "热调用", "敞开", "没完没了",
           "硬撑", "偷到", "入账", "留给部署者", "本页回答"),
}
TRY_IT = "cargo run -p sandbox -- invoke events/close-order.json"


def headings(page):
    """The level and the text of each heading."""
    return re.findall(r"^(#+) (.*)$", BLOCK.sub("", read(page)), re.MULTILINE)


def commands(page):
    """Without comments, which are in the page's own language."""
    return [re.sub(r" +# .*", "", block) for block in blocks(page, "sh")]


def code(page):
    """Node.js without comments and messages, which are in the page's own language."""
    return [re.sub(r"//.*|console\.\w+\('[^']*'|\s+", "", block) for block in blocks(page, "js")]


def figures(page):
    """The cells of tables that are a figure."""
    rows = [line for line in read(page).replace("、", ", ").splitlines() if line.startswith("|")]
    cells = [cell.strip() for row in rows for cell in row.split("|")]
    return [cell for cell in cells if re.fullmatch(r"[≤≥<>~]?\s*[\d., ]+\s*[\w%×/]*", cell, re.ASCII)]


def diagrams(page):
    """What is connected with what, without the words."""
    return [re.sub(r'"[^"]*"|: .*', "", block) for block in blocks(page, "mermaid")]


def prose(page):
    return re.sub(r"^ *```.*?^ *```$", "", read(page), flags=re.MULTILINE | re.DOTALL)


def numbers(page):
    """Of two digits or more: smaller ones are words in one language and digits in the other, and so are 10,000s."""
    text = re.sub(r"\]\([^)\s]+\)|<!--.*?-->|`[^`]*`|\d+ 万", " ", prose(page))
    found = (number.strip(",.").replace(",", "") for number in re.findall(r"\d[\d,.]+", text))
    return {number for number in found if len(number) > 1}


def links(page):
    """How often each page is linked to, whatever its language: another page here, or another site."""
    found = Counter()
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if link.startswith("https://img.shields.io/"):
            continue
        if re.match(r"\w+:", link):
            # WeChat Pay documents the same thing on several pages, of which one reads better in each language.
            link = re.sub(r"^(https://pay\.weixin\.qq\.com)/.*|/(?:zh_cn|en_us|cn|zh-Hans)(?=/)", r"\1", link)
        else:
            target = (page.parent / link.partition("#")[0] if not link.startswith("#") else page).resolve()
            link = re.sub(r"\.zh-CN|zh-CN/", "", str(target))
        found[link] += 1
    return found


@pytest.mark.parametrize(
    ("english", "chinese"), [*((ENGLISH[name], CHINESE[name]) for name in ENGLISH), RELAY, OTHERS[1:]], ids=name_of)
def test_docs_both_languages_show_the_same(english, chinese):
    assert commands(english) == commands(chinese)
    assert blocks(english, "json") == blocks(chinese, "json")
    assert code(english) == code(chinese)
    assert [level for level, _ in headings(english)] == [level for level, _ in headings(chinese)]
    assert figures(english) == figures(chinese)
    assert [tag for _, tag, _ in BLOCK.findall(read(english))] == [tag for _, tag, _ in BLOCK.findall(read(chinese))]
    assert diagrams(english) == diagrams(chinese)
    assert numbers(english) == numbers(chinese)
    assert links(english) == links(chinese)


@pytest.mark.parametrize("page", [*PAGES, *OTHERS[1:], *RELAY], ids=name_of)
def test_docs_use_the_words_of_the_field(page):
    words = GONE["zh" if "zh-CN" in name_of(page) else "en"]
    assert [word for word in words if word in read(page)] == []


@pytest.mark.parametrize("language", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_docs_readme_is_short_and_has_both_commands(language):
    """Trying it is a block; how the tests run stands beside it, and .ci/run does the same."""
    text, tests = read(language["README.md"]), "cargo test --workspace"
    assert len(text.splitlines()) <= 150
    assert TRY_IT in text and f"`{tests}`" in text and tests in read(ROOT / ".ci/run").splitlines()


@pytest.mark.parametrize("page", [*PAGES, *OTHERS, *RELAY], ids=name_of)
def test_docs_links_lead_somewhere(page):

    def anchor(heading):
        """As GitHub makes it."""
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        return re.sub(r"[^\w\- ]", "", text).lower().replace(" ", "-")

    for link in re.findall(r"\]\(([^)\s]+)\)", read(page)):
        # Other sites, and GitHub's own pages of the repository.
        if re.match(r"\w+:|\.\./\.\./", link):
            continue
        path, _, wanted = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{link} is not there"
        assert not wanted or wanted in [anchor(text) for _, text in headings(target)], f"{link}: no such heading"
    for path in re.findall(rf"`((?:{FOLDERS})/[\w./-]*)`", read(page)):
        assert (ROOT / path).exists(), f"{path} is not there"


@pytest.mark.parametrize("language", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_docs_name_what_an_operator_meets(language):
    """What the stack and the function have, the pages explain, each in its own place."""
    stack = expand.expanded()
    made = stack["Resources"].items()
    alarms = [name for name, resource in made if resource["Type"] == "AWS::CloudWatch::Alarm"]
    metrics = [resource["Properties"]["MetricTransformations"][0]["MetricName"]
               for _, resource in made if resource["Type"] == "AWS::Logs::MetricFilter"]
    variables = re.findall(
        r'"((?:WECHAT|SECRET_CACHE|OUTCOME|SSL|AWS_LAMBDA_LOG|AWS_ENDPOINT_URL)\w*)"', read(ROOT / "src/config.rs"))
    for name, words in [
        ("operate.md", alarms), ("operate.md", metrics), ("deploy.md", stack["Parameters"]),
        ("configuration.md", variables),
    ]:
        page = read(language[name])
        assert words
        assert [word for word in words if word not in page] == [], f"{name_of(language[name])} does not name them"
    for page in language.values():
        for output in re.findall(r"\$\(output (\w+)\)", read(page)):
            assert output in stack["Outputs"], f"{name_of(page)}: the stack has no output {output}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_docs_quote_files_as_they_are(page):
    quoted = [json.loads(block) for block in blocks(page, "json")]
    for file in [*(ROOT / "examples").glob("*.json"), ROOT / "events/close-order.json"]:
        shown = json.loads(read(file))
        for one in quoted:
            assert one.keys() != shown.keys() or one == shown, f"{name_of(file)} is shown otherwise than it is"


def test_docs_costs_are_those_of_the_prices():
    run(sys.executable, "docs/cost.py", "--check")


@pytest.mark.parametrize("page", [*PAGES, OTHERS[0]], ids=name_of)
def test_docs_every_command_is_run_or_says_why_not(page):
    steps = read(ROOT / ".ci/run").splitlines()
    for comment, block in commented(page, "sh"):
        if page.name in RUN.get(comment, ()) or re.fullmatch("not run: .+", comment):
            continue
        assert not comment, f"a block is marked {comment!r}"
        for command in block.splitlines():
            assert command == TRY_IT or command in steps, f"nothing runs {command!r}"


def test_docs_readme_shows_what_the_first_command_prints(sandbox_binary):
    printed = run(*shlex.split(TRY_IT), env=CARGO)
    said = "".join(re.findall(r"^ *(?:outcome|to do|sent|came back)  .*\n", printed, re.MULTILINE))
    for language in (ENGLISH, CHINESE):
        assert blocks(language["README.md"], "text") == [said]
