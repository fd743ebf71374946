"""The documentation's commands and its Node.js code, run word for word, page by page, each in an account of its own on
MiniStack. The commands of both languages are the same, which test_docs.py holds; those of the English pages are run.
"""

import json
import os
import re
import shutil

import pytest

from conftest import account
from pages import ENGLISH, blocks, commented
from tools import ACCOUNT, ARCHITECTURE, CHECKS, ROOT, event, order, run, tool, until


class Session:
    """A shop's developer in an empty folder, with the stack deployed from README.md's commands or beforehand."""

    def __init__(self, folder, ministack, sandbox, function):
        self.folder, self.ministack, self.sandbox, self.function = folder, ministack, sandbox, function
        self.told = folder / "told"
        for shared in ("events", "examples"):
            (folder / shared).symlink_to(ROOT / shared)
        programs = folder / "bin"
        programs.mkdir()
        # PyPI has version 1 of the AWS CLI only, which asks AWS's own SQS whatever AWS_ENDPOINT_URL says, and does not
        # export credentials.
        self.program("aws", f"""
            if [[ $1 == configure ]]; then env | sed -n 's/^AWS_[A-Z]*_*ACCESS_KEY/export &/p'; exit; fi
            exec {tool("awscli", "aws")} --endpoint-url {ministack.endpoint} "$@" """)
        # MiniStack serves an API under another name, without TLS.
        self.program("curl", f"""
            arguments=("$@")
            for i in "${{!arguments[@]}}"; do
              if [[ ${{arguments[i]}} =~ ^https://([a-z0-9]+\\.execute-api)[^/]*(.*) ]]; then
                arguments[i]=http://${{BASH_REMATCH[1]}}.127.0.0.1${{BASH_REMATCH[2]}}
              fi
            done
            to={ministack.endpoint.removeprefix("http://")}
            exec {shutil.which("curl")} --silent --connect-to "::$to" "${{arguments[@]}}" """)
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
        strict = ("bash", "-euo", "pipefail", "-c", "".join(scripts))
        with keys.open() as stdin:
            return run(*strict, cwd=self.folder, env=self.environment, stdin=stdin)

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
        self.ministack.shop("my-shop", f"{does}\nconst db = {{ query, transaction: work => work(db) }}\n{handler}")

    def node(self, code, call, **variables):
        """Calls what a block of Node.js exports. Its 15 minutes are none here, and its half hour is over."""
        script = f"""
            const now = Date.now
            Date.now = () => now() - 30 * 60000
            {code.replace("DelaySeconds: 900", "DelaySeconds: 0")}
            {call}.then(answer => console.log(JSON.stringify(answer ?? null)))"""
        return json.loads(run("node", "-e", script, cwd=self.folder, env=self.environment | variables))

    def was_told(self, number):
        """Waits until the shop's function was told about an order."""
        until(lambda: self.told.exists() and number in self.told.read_text(), f"the shop is told about {number}", 60)


@pytest.fixture
def session(sandbox, function, tmp_path):
    with account("ministack-for-docs") as ministack:
        yield Session(tmp_path, ministack, sandbox, function)


def exported(page, name):
    """The block of Node.js that exports a name."""
    (block,) = [block for block in blocks(ENGLISH[page], "js") if f"exports.{name} =" in block]
    return block


def to_run(page):
    """The commands before the stack is deployed, which create its secret, and those after."""
    commands = [block for comment, block in commented(ENGLISH[page], "sh") if comment == "run by checks"]
    created = [at for at, block in enumerate(commands, 1) if "create-secret" in block]
    return commands[:max(created, default=0)], commands[max(created, default=0):]


def answers(printed):
    """The function's answers among what commands printed."""
    return [json.loads(answer) for answer in re.findall(r'\{[^{\n]*"outcome":[^\n]*?\}', printed)]


def test_docs_deploy_and_first_call(session):
    key, new_key = json.loads(session.sandbox.secret)["api_key"], "5e884898da28047151d0e56f8dc62927"
    before, after = to_run("deploy.md")
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
    (machine,) = session.ministack.stepfunctions.list_state_machines()["stateMachines"]
    until(lambda: session.ministack.stepfunctions.list_executions(
        stateMachineArn=machine["stateMachineArn"])["executions"][0]["status"] == "SUCCEEDED", "the state machine ends")
    (target,) = session.ministack.events.list_targets_by_rule(
        Rule="close-order-outcomes-http", EventBusName=outputs["OutcomeEventBus"])["Targets"]
    assert (target["InputPath"], ":api-destination/" in target["Arn"]) == ("$.detail", True)

    variables = {"ORDERS_QUEUE_URL": outputs["QueueUrl"], "CLOSE_ORDER_FUNCTION": outputs["FunctionName"]}

    def call(page, name):
        new = order()
        code = exported(page, name)
        assert set(re.findall(r"process\.env\.(\w+)", code)) <= variables.keys()
        argument = json.dumps({"subMchId": new["sub_mch_id"], "outTradeNo": new["out_trade_no"]})
        return new["out_trade_no"], session.node(code, f"exports.{name}({argument})", **variables)

    for page in ("README.md", "call.md"):
        new, _ = call(page, "closeLater")
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
    booked, *_ = [call for call in told if call[0] == "bookPayment"]
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
    (shown,) = [json.loads(block) for block in blocks(ENGLISH["operate.md"], "json") if '"message":"order"' in block]
    # The order may have been closed here before, which is its reason.
    assert [field for field in line if field != "reason"] == list(shown)
    until(lambda: given_up["out_trade_no"] in session.sandbox.process.log(), "the order is redriven")
    assert not ministack.waiting(outputs["DeadLetterQueueUrl"])
