"""The documentation's commands and its Node.js code, run word for word, page by page, each in an account of its own on
MiniStack. The commands of both languages are the same, which test_docs.py holds; those of the English pages are run.
"""

import json
import os
import re
import secrets
import shutil

import pytest

from conftest import account
from pages import ENGLISH, blocks, commented
from tools import ACCOUNT, ARCHITECTURE, CHECKS, ROOT, event, order, run, tool, until


# The function that all pages use; it stands once.
(OUTPUT,) = [block for page in ENGLISH.values() for block in blocks(page, "sh") if block.startswith("output()")]


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
        """Runs blocks one after the other in one shell, which knows the function `output`, and types this where they ask."""
        keys = self.folder / "typed"
        keys.write_text(typed)
        strict = ("bash", "-euo", "pipefail", "-c", "".join([OUTPUT, *scripts]))
        with keys.open() as stdin:
            return run(*strict, cwd=self.folder, env=self.environment, stdin=stdin)

    def deploy(self):
        secrets_manager = self.ministack.secretsmanager
        names = [secret["Name"] for secret in secrets_manager.list_secrets()["SecretList"]]
        if self.sandbox.secret_id not in names:
            secrets_manager.create_secret(Name=self.sandbox.secret_id, SecretString=self.sandbox.secret)
        secret = secrets_manager.describe_secret(SecretId=self.sandbox.secret_id)
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
    """A page's commands, but for the function `output`."""
    commands = [block for comment, block in commented(ENGLISH[page], "sh") if comment == "run by checks"]
    return [block for block in commands if block != OUTPUT]


def answers(printed):
    """The function's answers among what commands printed."""
    return [json.loads(answer) for answer in re.findall(r'\{[^{\n]*"outcome":[^\n]*?\}', printed)]


def pem_files(folder):
    """The files that the merchant platform has for API v3, with keys made on the spot; returns the certificate's serial."""
    serial = secrets.token_hex(20).upper()
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=1230000109"]
    run(*make, "-set_serial", f"0x4{serial[1:]}", "-keyout", "apiclient_key.pem", "-out", "apiclient_cert.pem", cwd=folder)
    run("openssl", "genpkey", "-algorithm", "RSA", "-out", "wechat_pay_key.pem", cwd=folder)
    run("openssl", "pkey", "-pubout", "-in", "wechat_pay_key.pem", "-out", "pub_key.pem", cwd=folder)
    return f"4{serial[1:]}"


def test_docs_deploy_and_first_call(session):
    key, new_key, another_key = json.loads(session.sandbox.secret)["api_key"], secrets.token_hex(16), secrets.token_hex(16)
    serial = pem_files(session.folder)
    blocks_of_the_page = to_run("deploy.md")
    first = next(at for at, block in enumerate(blocks_of_the_page) if "$(output" in block)
    session.bash(*blocks_of_the_page[:first], typed=f"{key}\n")

    def secret(name):
        return json.loads(session.ministack.secretsmanager.get_secret_value(SecretId=name)["SecretString"])

    v3 = secret("wechat-pay/close-order-v3")
    assert (v3["mch_type"], v3["mch_id"], v3["serial_no"]) == ("partner", "1230000109", serial)
    for field, file in (("private_key", "apiclient_key.pem"), ("public_key", "pub_key.pem")):
        assert v3[field].split() == (session.folder / file).read_text().split()

    outputs = session.deploy()
    # Its 20 minutes are 20 seconds here.
    rest = "".join(blocks_of_the_page[first:]).replace("'20 minutes'", "'20 seconds'")
    printed = session.bash(rest, typed=f"{new_key}\n{another_key}\n{key}\n")
    assert [answer["outcome"] for answer in answers(printed) if "returnMsg" in answer] == ["not_found"]
    assert secret(session.sandbox.secret_id)["api_key"] == new_key
    assert secret("wechat-pay/1900000109")["api_key"] == key
    alarms = session.ministack.cloudwatch.describe_alarms(AlarmNames=[outputs["DeadLetterAlarm"]])["MetricAlarms"]
    assert [alarm["StateReason"] for alarm in alarms] == ["who is told?"]
    queue = session.ministack.sqs.get_queue_attributes(QueueUrl=outputs["DeadLetterQueueUrl"], AttributeNames=["All"])
    assert outputs["QueueArn"] in queue["Attributes"]["RedriveAllowPolicy"]


def test_docs_call(session, node_packages):
    number = event("close-order")["out_trade_no"]
    outputs = session.deploy()
    session.shop(exported("call.md", "handler"))
    commands = to_run("call.md")
    printed = session.bash(*commands)
    assert [answer["outcome"] for answer in answers(printed)] == ["closed"] * 2, f"directly and over HTTP: {printed}"
    # Once more, since the queue has no delay here and the rule was made later.
    send, *_ = commands
    session.bash(send)
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
    session.bash(*(block for block in to_run("call.md") if "add-permission" in block))
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
    given_up = [order() for _ in range(12)]
    for one in given_up:
        ministack.sqs.send_message(QueueUrl=outputs["DeadLetterQueueUrl"], MessageBody=json.dumps(one))
    ministack.sqs.send_message(
        QueueUrl=outputs["InvalidOrdersQueueUrl"], MessageBody="{}",
        MessageAttributes={"reason": {"DataType": "String", "StringValue": "out_trade_no is required"}})
    gone = order("ORDERNOTEXIST")
    ministack.sqs.send_message(QueueUrl=outputs["QueueUrl"], MessageBody=json.dumps(gone))
    until(lambda: gone["out_trade_no"] in session.sandbox.process.log(), "an order is not found")
    printed = session.bash(*to_run("operate.md"))
    assert "out_trade_no is required" in printed and not ministack.waiting(outputs["InvalidOrdersQueueUrl"])
    # MiniStack takes every line for one that the patterns match.
    line, *_ = [json.loads(line) for line in re.split(r"[\t\n]", printed) if '"message":"order"' in line]
    (shown,) = [json.loads(block) for block in blocks(ENGLISH["operate.md"], "json") if '"message":"order"' in block]
    # The order may have been closed here before, which is its reason; MiniStack gives no trace to a function that has none.
    sometimes = ("reason", "version", "xray_trace_id")
    assert [field for field in line if field not in sometimes] == [field for field in shown if field not in sometimes]
    for one in given_up:
        until(lambda one=one: one["out_trade_no"] in session.sandbox.process.log(), "the order is redriven")
    assert not ministack.waiting(outputs["DeadLetterQueueUrl"])
