"""What the READMEs say, held against the repository.

readme.py check           both languages show the same commands, and every one of them is run by somebody or says why not;
                          what they quote of files, source and stack is there
readme.py session         the commands that checks/readme.sh runs, as one script
readme.py output          what the first command prints, as the README has it
readme.py log             the log line of the README
"""

import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
READMES = ("README.md", "README.zh-CN.md")
TRY_IT = "cargo run -p sandbox -- invoke events/close-order.json"
RUN = "run by checks/readme.sh"
NOT_RUN = "not run: "


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


def blocks(readme, language):
    """The fenced blocks of a language, each with the comment on the line before it, if there is one."""
    found = re.findall(rf"(?:^<!-- (.*?) -->\n)?^```{language}\n(.*?)^```$", read(readme), re.MULTILINE | re.DOTALL)
    assert found, f"{readme} has no {language}"
    return found


def check_commands(readme):
    gate = read(".ci/run").splitlines()
    for comment, block in blocks(readme, "sh"):
        if comment == RUN or (comment.startswith(NOT_RUN) and comment != NOT_RUN):
            continue
        assert not comment, f"{readme}: a block is marked {comment!r}"
        for command in block.splitlines():
            assert command == TRY_IT or command in gate, f"{readme}: nothing runs {command!r}"


def check_quotes(readme):
    text = read(readme)
    quoted = [json.loads(block) for _, block in blocks(readme, "json")]
    for file in ("events/close-order.json", "examples/step-functions.json"):
        assert json.loads(read(file)) in quoted, f"{readme} does not show {file} as it is"

    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / link).exists(), f"{readme}: {link} is not there"
    for script in re.findall(r"`((?:checks|tests|events|src|examples)/[^`]+)`", text):
        assert (ROOT / script).exists(), f"{readme}: {script} is not there"

    template = read("template.yaml")
    outputs = set(re.findall(r"^  (\w+):", template.split("\nOutputs:\n")[1], re.MULTILINE))
    for output in re.findall(r"\$\(output (\w+)\)", text):
        assert output in outputs, f"{readme}: the stack has no output {output}"
    named = {
        "alarm": re.findall(r"^  (\w+Alarm):$", template, re.MULTILINE),
        "metric": re.findall(r"MetricName: (Orders?\w+|SignRefused|Faults)$", template, re.MULTILINE),
        "fault": re.findall(r'=> "([A-Z]\w+)"', read("src/fault.rs")),
        "refusal's outcome": re.findall(r'=> "([a-z_]+)"', read("src/fault.rs")),
        "outcome": re.findall(r'=> "([a-z_]+)"', read("src/wechat_pay/reply.rs")),
        "err_code": re.findall(r'Some\("([A-Z]+)"\) => Verdict', read("src/wechat_pay/reply.rs")),
        "errCode": [code.replace("_", "") for code in re.findall(r"i32 = (-[\d_]+);", read("src/fault.rs"))],
        "variable": re.findall(r'"((?:WECHAT|SECRET|SSL|AWS_LAMBDA_LOG)_\w+)"', read("src/config.rs")),
    }
    for what, names in named.items():
        assert names, f"no {what} was found where they are looked for"
        for name in names:
            assert name in text, f"{readme}: the {what} {name} is missing"


def main():
    match sys.argv[1:]:
        case ["check"]:
            commands = [[block for _, block in blocks(readme, "sh")] for readme in READMES]
            for one, other in zip(*commands, strict=True):
                assert one == other, f"the languages differ:\n{one}\n{other}"
            tables = [[line for line in read(readme).splitlines() if re.match(r"\| (cold|warm|RSS|SQS|zip)", line)] for readme in READMES]
            assert tables[0] and tables[0] == tables[1], "the figures of the languages differ"
            for readme in READMES:
                check_commands(readme)
                check_quotes(readme)
        case ["session"]:
            print("set -euo pipefail", *(block for comment, block in blocks(READMES[0], "sh") if comment == RUN), sep="\n")
        case ["output"]:
            outputs = {block for readme in READMES for _, block in blocks(readme, "text")}
            assert len(outputs) == 1, "the languages show another output"
            print(outputs.pop(), end="")
        case ["log"]:
            lines = {block for readme in READMES for _, block in blocks(readme, "json") if '"outcome"' in block}
            assert len(lines) == 1, "the languages show another log line"
            print(lines.pop(), end="")
        case _:
            sys.exit(__doc__)


try:
    main()
except AssertionError as wrong:
    sys.exit(f"readme.py: {wrong}")
