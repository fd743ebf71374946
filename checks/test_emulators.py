"""The function among parts that are not ours: AWS's Runtime Interface Emulator hands events to the release binary, and
cargo-lambda to the one that it builds for debugging. WeChat Pay and Secrets Manager are the sandbox's (test_stack.py has
MiniStack's).

What they lack: the Runtime Interface Emulator takes one invocation at a time and has no memory limit; cargo-lambda's
deadline is a constant, and its HTTP side sends payload 2.0 only.
"""

import concurrent.futures
import json
import os
import time

from conftest import IMAGE, Invoke
from tools import CARGO, event, free_port, order, post, run, running, tool, until


def no_key_in(log, *secrets):
    for secret in secrets:
        assert json.loads(secret)["api_key"] not in log


def test_rie_every_trigger_gets_the_answer_that_it_can_read(rie, sandbox):
    with rie(sandbox.environment()) as invoke:
        answer = invoke(order())
        assert answer | {
            "outcome": "closed", "returnCode": "SUCCESS", "resultCode": "SUCCESS", "result_code": "SUCCESS",
            "errCode": 0, "errMsg": "cloudPay.closeOrder:ok",
        } == answer
        for http in ("api-gateway-rest", "api-gateway-http", "function-url", "alb"):
            answer = invoke(event(http))
            assert (answer["statusCode"], answer["isBase64Encoded"]) == (200, False), http
            assert json.loads(answer["body"])["outcome"] in ("closed", "paid"), http
        assert invoke(event("sqs")) == {"batchItemFailures": []}
        mixed = event("sqs-mixed")
        failed = {item["itemIdentifier"] for item in invoke(mixed)["batchItemFailures"]}
        assert set() < failed < {record["messageId"] for record in mixed["Records"]}
        no_key_in(invoke.process.log(), sandbox.secret)


def test_rie_the_answer_comes_before_lambda_ends_the_invocation(rie, sandbox):
    with rie(sandbox.environment(WECHAT_PAY_TIMEOUT_MS="5000"), timeout=3) as invoke:
        began = time.monotonic()
        fault = invoke(order("HANG"))
        assert fault["errorType"] in ("GatewayUnreachable", "DeadlineExceeded"), fault
        assert time.monotonic() - began < 3
        # Of a batch, the order that hangs comes back; the other is done.
        batch = event("sqs")
        hangs, closes = batch["Records"]
        hangs["body"], closes["body"] = json.dumps(order("HANG")), json.dumps(order())
        assert invoke(batch) == {"batchItemFailures": [{"itemIdentifier": hangs["messageId"]}]}
        assert invoke(order())["outcome"] == "closed"


def test_rie_as_a_managed_instance_serves_four_orders_at_once_docker(docker, rie_binary, function, sandbox):
    """In a container, since the emulator then wants the function at /var/task/bootstrap."""
    port, runtime = free_port(), free_port()
    environment = sandbox.environment(
        AWS_LAMBDA_MAX_CONCURRENCY="4", AWS_LAMBDA_FUNCTION_NAME="close-order", AWS_LAMBDA_FUNCTION_TIMEOUT="28",
        AWS_LAMBDA_FUNCTION_MEMORY_SIZE="256")
    variables = [part for name, value in environment.items() for part in ("--env", f"{name}={value}")]
    with docker.cleaned(), running(
        "managed-instance", "docker", "run", "--network", "host", *variables,
        "--volume", f"{function}:/var/task/bootstrap:ro", "--volume", f"{rie_binary}:/rie:ro",
        "--entrypoint", "/rie", IMAGE,
        "--runtime-interface-emulator-address", f"127.0.0.1:{port}", "--runtime-api-address", f"127.0.0.1:{runtime}",
        "--log-level", "error", "/var/task/bootstrap", "bootstrap", port=port, env={"PATH": os.environ["PATH"]},
    ) as process:
        invoke = Invoke(process, f"http://127.0.0.1:{port}/2015-03-31/functions/function/invocations")
        assert invoke(order())["outcome"] == "closed"
        # Closed twice, with a pause of about a second in between.
        slow = [order("NOTSTICKING", confirm=True) for _ in range(4)]
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(invoke, slow))
        took = time.monotonic() - began
        for sent, answer in zip(slow, answers, strict=True):
            assert (answer["outcome"], answer["out_trade_no"]) == ("closed", sent["out_trade_no"])
        numbers = {sent["out_trade_no"] for sent in slow}

        def logged():
            lines = [line for line in process.lines(message="order") if line["out_trade_no"] in numbers]
            return len(lines) == 4 and lines

        lines = until(logged, "each order has its log line")
        assert {line["out_trade_no"] for line in lines} == numbers
        assert len({line["requestId"] for line in lines}) == 4
        assert took < sum(line["duration_ms"] for line in lines) / 1000 / 2, "they waited for each other"


def test_cargo_lambda_direct_and_over_http(cargo_lambda, sandbox):
    with cargo_lambda(sandbox.environment()) as invoke:
        address, port = invoke.url.removeprefix("http://").split(":")
        path = {"PATH": f"{tool('cargo-lambda').parent}:{CARGO['PATH']}"}
        answer = run(
            "cargo", "lambda", "invoke", "close-order", "--invoke-address", address, "--invoke-port", port,
            "--data-file", "events/close-order.json", env=CARGO | path)
        assert json.loads(answer)["outcome"] == "closed"
        assert post(f"{invoke.url}/lambda-url/close-order/", order())["outcome"] == "closed"
        no_key_in(invoke.process.log(), sandbox.secret)
