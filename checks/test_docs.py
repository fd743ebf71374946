"""The documentation, word for word: both languages show the same, its commands and its Node.js code run, what it names
is there.

A block of commands is run here, against the deployed stack on MiniStack (`<!-- run by checks -->` before it); or it is a
step of .ci/run; or it says why nothing runs it (`<!-- not run: reason -->`).
"""

import io
import json
import os
import re
import shlex
import shutil
import sys
import zipfile

import pytest

import expand
from conftest import account
from tools import ACCOUNT, ARCHITECTURE, CARGO, CHECKS, ROOT, event, order, run, tool, until

ENGLISH = {page.name: page for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
CHINESE = {name: page.with_name("README.zh-CN.md") if name == "README.md" else page.parent / "zh-CN" / name
           for name, page in ENGLISH.items()}
PAGES = [*ENGLISH.values(), *CHINESE.values()]
OTHERS = [ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "SECURITY.zh-CN.md")]
TRY_IT = "cargo run -p sandbox -- invoke events/close-order.json"
BLOCK = re.compile(r"(?:^<!-- ([^\n]*?) -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name_of(page):
    return str(page.relative_to(ROOT))


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


def blocks(page, *languages):
    """The fenced blocks in these languages, each with the comment on the line before it ("" for none)."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [(comment, block) for comment, language, block in found if language in languages]


# ----------------------------------------------------------------------------------------------------- both languages


@pytest.mark.parametrize("name", ENGLISH)
def test_docs_both_languages_show_the_same(name):
    english, chinese = (pages[name].read_text(encoding="utf-8") for pages in (ENGLISH, CHINESE))
    for language in ("sh", "json"):
        assert [block for _, block in blocks(ENGLISH[name], language)] == [block for _, block in blocks(CHINESE[name], language)]

    def code(page):
        """Node.js without comments and messages, which are in the page's own language."""
        return [re.sub(r"//.*|console\.\w+\('[^']*'|\s+", "", block) for _, block in blocks(page, "js")]

    assert code(ENGLISH[name]) == code(CHINESE[name])

    def headings(text):
        return [len(level) for level in re.findall(r"^(#+) ", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL),
                                                   re.MULTILINE)]

    assert headings(english) == headings(chinese)

    def figures(text):
        """The cells of tables that are a figure."""
        cells = [cell.strip() for line in text.replace("、", ", ").splitlines() if line.startswith("|") for cell in line.split("|")]
        return [cell for cell in cells if re.fullmatch(r"[≤≥<>~]?\s*[\d.,]+\s*[\w%×/]*", cell, re.ASCII)]

    assert figures(english) == figures(chinese)


# -------------------------------------------------------------------------------------------------- what pages refer to


@pytest.mark.parametrize("page", [page for page in [*PAGES, *OTHERS, *sorted((ROOT / "relay").glob("*.md"))] if page.exists()],
                         ids=name_of)
def test_docs_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")

    def anchors(target):
        """Of each heading, as GitHub makes them."""
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)).lower().replace(" ", "-")
                for heading in headings}

    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:|\.\./\.\./", link):
            continue  # another site; GitHub's own pages of the repository
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{link} is not there"
        assert not anchor or anchor in anchors(target), f"{link}: there is no such heading"
    for path in re.findall(r"`((?:checks|tests|events|src|examples|release|docs|sandbox|relay|fuzz|benches)/[\w./-]*)`", text):
        assert (ROOT / path).exists(), f"{path} is not there"


@pytest.mark.parametrize("language", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_docs_name_what_an_operator_meets(language):
    """What the stack and the function have, the pages explain, each in its own place."""
    expanded = expand.expanded()
    alarms = [name for name, made in expanded["Resources"].items() if made["Type"] == "AWS::CloudWatch::Alarm"]
    metrics = {made["Properties"]["MetricTransformations"][0]["MetricName"]
               for made in expanded["Resources"].values() if made["Type"] == "AWS::Logs::MetricFilter"}
    variables = re.findall(r'"((?:WECHAT|SECRET_CACHE|OUTCOME|SSL|AWS_LAMBDA_LOG|AWS_ENDPOINT_URL)\w*)"', read("src/config.rs"))
    for page, names in {
        "operate.md": [*alarms, *metrics], "deploy.md": expanded["Parameters"], "configuration.md": variables,
    }.items():
        text = language[page].read_text(encoding="utf-8")
        assert names
        assert [name for name in names if name not in text] == [], f"{name_of(language[page])} does not name them"
    for page in language.values():
        for output in re.findall(r"\$\(output (\w+)\)|output `(\w+)`", page.read_text(encoding="utf-8")):
            assert "".join(output) in expanded["Outputs"], f"{name_of(page)}: the stack has no output {output}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_docs_quote_files_as_they_are(page):
    for _, block in blocks(page, "json"):
        for line in [block] if block.startswith("{\n") else block.splitlines():
            json.loads(line)
    quoted = [json.loads(block) for _, block in blocks(page, "json") if block.startswith("{\n")]
    for file in sorted((ROOT / "examples").glob("*.json")) + [ROOT / "events/close-order.json"]:
        shown = json.loads(file.read_text(encoding="utf-8"))
        for one in quoted:
            assert one.keys() != shown.keys() or one == shown, f"{name_of(file)} is shown otherwise than it is"


def test_docs_costs_are_those_of_the_prices():
    run(sys.executable, "docs/cost.py", "--check")


# --------------------------------------------------------------------------------------------------- commands and code


@pytest.mark.parametrize("page", [*PAGES, OTHERS[0]], ids=name_of)
def test_docs_every_command_is_run_or_says_why_not(page):
    steps = read(".ci/run").splitlines()
    for comment, block in blocks(page, "sh"):
        if comment == "run by checks" or re.fullmatch("not run: .+", comment):
            continue
        assert not comment, f"a block is marked {comment!r}"
        for command in block.splitlines():
            assert command == TRY_IT or command in steps, f"nothing runs {command!r}"


def test_docs_readme_shows_what_the_first_command_prints(sandbox_binary):
    printed = run(*shlex.split(TRY_IT), env=CARGO)
    said = "".join(re.findall(r"^ *(?:outcome|to do|sent|came back)  .*\n", printed, re.MULTILINE))
    for pages in (ENGLISH, CHINESE):
        (shown,) = [block for _, block in blocks(pages["README.md"], "text")]
        assert shown == said


class Session:
    """A shop's developer in an empty folder, with the stack deployed from README.md's commands or beforehand."""

    def __init__(self, folder, ministack, sandbox, function):
        self.folder, self.ministack, self.sandbox, self.function = folder, ministack, sandbox, function
        self.told = folder / "told"
        for shared in ("events", "examples"):
            (folder / shared).symlink_to(ROOT / shared)
        programs = folder / "bin"
        programs.mkdir()
        # PyPI has version 1 of the AWS CLI only, which asks AWS's own SQS whatever AWS_ENDPOINT_URL says, and which does not
        # export credentials.
        self.program("aws", f"""
            if [[ $1 == configure ]]; then env | sed -n 's/^AWS_[A-Z]*_*ACCESS_KEY/export &/p'; exit; fi
            exec {tool("awscli", "aws")} --endpoint-url {ministack.endpoint} "$@" """)
        # MiniStack serves an API under another name, without TLS.
        self.program("curl", f"""
            for part; do
              [[ $part =~ ^https://([a-z0-9]+\\.execute-api)[^/]*(.*) ]] && part=http://${{BASH_REMATCH[1]}}.127.0.0.1${{BASH_REMATCH[2]}}
              parts+=("$part")
            done
            exec {shutil.which("curl")} --silent --connect-to ::{ministack.endpoint.removeprefix("http://")} "${{parts[@]}}" """)
        # Version 2 does not fetch a parameter that is a URL.
        (folder / ".aws").mkdir()
        (folder / ".aws/config").write_text("[default]\ncli_follow_urlparam = false\n")
        self.environment = ACCOUNT | {
            "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(folder), "AWS_ENDPOINT_URL": ministack.endpoint,
            "NODE_PATH": str(CHECKS / "node_modules")}

    def program(self, name, text):
        file = self.folder / "bin" / name
        file.write_text(f"#!/usr/bin/env bash\n{text}\n")
        file.chmod(0o755)

    def bash(self, *scripts, typed=""):
        """Runs blocks one after the other in one shell, and types this where they ask."""
        keys = self.folder / "typed"
        keys.write_text(typed)
        with keys.open() as stdin:
            return run("bash", "-euo", "pipefail", "-c", "".join(scripts), cwd=self.folder, env=self.environment, stdin=stdin)

    def deploy(self):
        secrets = self.ministack.secretsmanager
        if not secrets.list_secrets()["SecretList"]:
            secrets.create_secret(Name=self.sandbox.secret_id, SecretString=self.sandbox.secret)
        (secret,) = secrets.list_secrets()["SecretList"]
        outputs = self.ministack.deploy(
            self.function, SecretArn=secret["ARN"], WechatPayEndpoints=self.sandbox.gateway, Architecture=ARCHITECTURE,
            QueueDelaySeconds=0)
        # MiniStack does not import the API's routes; this is the template's.
        api = outputs["ApiInvokeArn"].split(":")[5].split("/")[0]
        integration = self.ministack.apigatewayv2.create_integration(
            ApiId=api, IntegrationType="AWS_PROXY", IntegrationUri=outputs["FunctionArn"], PayloadFormatVersion="2.0")
        self.ministack.apigatewayv2.create_route(
            ApiId=api, RouteKey="POST /close-order", Target=f"integrations/{integration['IntegrationId']}")
        return outputs

    def shop(self, handler):
        """Deploys the shop's own function, whose handler is told by events; what it does is a line in a file."""
        does = "\n".join(
            f"const {name} = async (...given) => {{ require('fs').appendFileSync({json.dumps(str(self.told))}, "
            f"JSON.stringify(['{name}', ...given]) + '\\n'); return {{ rowCount: 1 }} }}"
            for name in ("releaseStock", "bookPayment", "query"))
        self.ministack.lambda_.create_function(
            FunctionName="my-shop", Runtime="nodejs22.x", Handler="index.handler", Role="arn:aws:iam::000000000000:role/shop",
            Code={"ZipFile": zipped("index.js", f"{does}\nconst db = {{ query }}\n{handler}")})

    def node(self, code, call, **variables):
        """Calls what a block of Node.js exports; no 15 minutes or hours pass here."""
        script = (f"const now = Date.now; Date.now = () => now() - 115 * 60000 + 1000\n{code.replace('DelaySeconds: 900', 'DelaySeconds: 0')}\n"
                  f"{call}.then(answer => console.log(JSON.stringify(answer ?? null)))")
        return json.loads(run("node", "-e", script, cwd=self.folder, env=self.environment | variables).splitlines()[-1])

    def was_told(self, number):
        """Waits until the shop's function was told about an order."""
        return until(lambda: self.told.exists() and number in self.told.read_text(), f"the shop is told about {number}", 60)


def zipped(name, text):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr(name, text)
    return packed.getvalue()


@pytest.fixture
def session(sandbox, function, tmp_path):
    with account("ministack-for-docs") as ministack:
        yield Session(tmp_path, ministack, sandbox, function)


def exported(page, name):
    """The block of Node.js that exports a name."""
    (block,) = [block for _, block in blocks(ENGLISH[page], "js") if f"exports.{name} =" in block]
    return block


def to_run(page):
    """The commands before the stack is deployed, which create its secret, and those after."""
    commands = [block for comment, block in blocks(ENGLISH[page], "sh") if comment == "run by checks"]
    created = [at for at, block in enumerate(commands, 1) if "create-secret" in block]
    return commands[:max(created, default=0)], commands[max(created, default=0):]


def answers(printed):
    """The function's answers among what commands printed."""
    return [json.loads(answer) for answer in re.findall(r'\{"[^\n]*?"outcome":[^\n]*?\}', printed)]


@pytest.mark.parametrize("page", ["README.md", "deploy.md"])
def test_docs_deploy_and_first_call(page, session):
    key, new_key = json.loads(session.sandbox.secret)["api_key"], "5e884898da28047151d0e56f8dc62927"
    before, after = to_run(page)
    session.bash(*before, typed=f"{key}\n")
    session.deploy()
    printed = session.bash(*after, typed=f"{new_key}\n")
    assert [answer["outcome"] for answer in answers(printed)] == ["not_found"]
    if "put-secret-value" in "".join(after):
        secret = session.ministack.secretsmanager.get_secret_value(SecretId=session.sandbox.secret_id)
        assert json.loads(secret["SecretString"])["api_key"] == new_key


def test_docs_call(session, node_packages):
    number = event("close-order")["out_trade_no"]
    outputs = session.deploy()
    session.shop(exported("call.md", "handler"))
    _, commands = to_run("call.md")
    printed = session.bash(*commands)
    assert [answer["outcome"] for answer in answers(printed)] == ["closed"] * 2, f"directly and over HTTP: {printed}"
    # Once more, since the queue has no delay here and the rule was made later.
    output, send, *_ = commands
    session.bash(output, send)
    session.was_told(number)
    schedule = session.ministack.scheduler.get_schedule(
        GroupName=outputs["ScheduleGroup"], Name=f"1900000109-{number}")
    assert schedule["Target"]["Arn"] == outputs["QueueArn"]
    assert json.loads(schedule["Target"]["Input"])["out_trade_no"] == number
    (machine,) = session.ministack.stepfunctions.list_state_machines()["stateMachines"]
    until(lambda: session.ministack.stepfunctions.list_executions(
        stateMachineArn=machine["stateMachineArn"])["executions"][0]["status"] == "SUCCEEDED", "the state machine ends")
    (target,) = session.ministack.events.list_targets_by_rule(
        Rule="close-order-outcomes-http", EventBusName=outputs["OutcomeEventBus"])["Targets"]
    assert (target["InputPath"], ":api-destination/" in target["Arn"]) == ("$.detail", True)

    variables = {
        "ORDERS_QUEUE_URL": outputs["QueueUrl"], "ORDERS_QUEUE_ARN": outputs["QueueArn"],
        "SCHEDULE_GROUP": outputs["ScheduleGroup"], "SCHEDULER_ROLE_ARN": outputs["SchedulerRoleArn"],
        "SCHEDULES_DEAD_LETTER_QUEUE_ARN": outputs["SchedulesDeadLetterQueueArn"],
        "CLOSE_ORDER_FUNCTION": outputs["FunctionName"]}

    def call(page, name):
        new = order()
        code = exported(page, name)
        assert set(re.findall(r"process\.env\.(\w+)", code)) <= variables.keys()
        argument = json.dumps({"subMchId": new["sub_mch_id"], "outTradeNo": new["out_trade_no"]})
        return new["out_trade_no"], session.node(code, f"exports.{name}({argument})", **variables)

    for page, name in (("README.md", "closeLater"), ("call.md", "closeLater"), ("call.md", "closeMuchLater")):
        new, _ = call(page, name)
        session.was_told(new)
    assert call("call.md", "closeNow")[1] == "closed"


def test_docs_readme_the_shop_is_told_what_became_of_each_order(session, node_packages):
    outputs = session.deploy()
    session.shop(exported("README.md", "handler"))
    _, (output, *commands) = to_run("call.md")
    session.bash(output, *(block for block in commands if "add-permission" in block))
    closed, paid = order(), order("ORDERPAID")
    for sent in (closed, paid):
        session.ministack.sqs.send_message(QueueUrl=outputs["QueueUrl"], MessageBody=json.dumps(sent))
        session.was_told(sent["out_trade_no"])
    told = [json.loads(line) for line in session.told.read_text().splitlines()]
    assert ["releaseStock", closed["out_trade_no"]] in told
    (booked,) = [call for call in told if call[0] == "bookPayment"]
    assert booked[1] == paid["out_trade_no"] and all(booked[2:])


def test_docs_operate(session):
    outputs = session.deploy()
    ministack = session.ministack
    ministack.lambda_.invoke(FunctionName=outputs["FunctionName"], Payload=json.dumps(event("close-order")))
    given_up = order()
    ministack.sqs.send_message(QueueUrl=outputs["DeadLetterQueueUrl"], MessageBody=json.dumps(given_up))
    _, commands = to_run("operate.md")
    printed = session.bash(*commands)
    # MiniStack takes every line for one that the patterns match.
    line, *_ = [json.loads(line) for line in re.split(r"[\t\n]", printed) if '"message":"order"' in line]
    (shown,) = [json.loads(block) for _, block in blocks(ENGLISH["operate.md"], "json") if '"message":"order"' in block]
    # The order may have been closed here before, which is its reason.
    assert [field for field in line if field != "reason"] == list(shown)
    until(lambda: given_up["out_trade_no"] in session.sandbox.process.log(), "the order is redriven")
    assert not ministack.waiting(outputs["DeadLetterQueueUrl"])
