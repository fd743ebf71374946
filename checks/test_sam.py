"""What `sam build` builds, in containers as SAM CLI runs them (AWS's Runtime Interface Emulator), with a Docker engine.

The image is AWS's own where it can be pulled; else Debian's userland stands in for Amazon Linux, with a newer glibc,
which is why the binary's need of one is checked by itself. IAM is not emulated: the HTTP API is open here.
"""

import json
import re

import pytest

from conftest import serving
from pages import ENGLISH, commented
from tools import ACCOUNT, ARCHITECTURE, CARGO, HOME, REGION, ROOT, free_port, order, post, run, running, tool

# Amazon Linux 2023, which provided.al2023 is, has this one.
GLIBC = (2, 34)


def sam(*arguments):
    path = f"{tool('sam').parent}:{tool('cargo-lambda').parent}:{CARGO['PATH']}"
    settings = {"PATH": path, "CARGO_LAMBDA_COMPILER": "cargo", "SAM_CLI_TELEMETRY": "0"}
    return [tool("sam", "sam"), *arguments], CARGO | ACCOUNT | settings


@pytest.fixture(scope="session")
def built():
    """The bootstrap of `sam build`, in the folder where it is by default."""
    command, env = sam("build", "--parameter-overrides", f"Architecture={ARCHITECTURE}")
    run(*command, env=env)
    return ROOT / ".aws-sam/build/CloseOrderFunction/bootstrap"


@pytest.fixture(scope="session")
def bridged(docker, sandbox_binary):
    """The sandbox, where containers reach it."""
    with serving("sandbox-for-docker", docker.bridge) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def containers(docker, built, bridged):
    """Starts SAM CLI's emulators: `containers("start-api", …)` is a command and its environment."""
    variables = HOME / "env.json"
    variables.write_text(json.dumps({"CloseOrderFunction": {
        "WECHAT_PAY_SECRET_ID": bridged.secret_id,
        "WECHAT_PAY_ENDPOINTS": bridged.gateway.replace(docker.bridge, "host.docker.internal"),
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": bridged.secrets.replace(docker.bridge, "host.docker.internal"),
        "OUTCOME_EVENT_BUS": "", "ORDERS_QUEUE_URL": "", "INVALID_ORDERS_QUEUE_URL": "",
    }}))
    overrides = f"Architecture={ARCHITECTURE} SecretsManagerEndpoint=http://host.docker.internal"

    def command(verb, *arguments):
        return sam("local", verb, *arguments, "--env-vars", variables, "--parameter-overrides", overrides,
                   "--add-host", f"host.docker.internal:{docker.bridge}", *docker.skip_pull)

    with docker.cleaned():
        yield command


def test_sam_build_makes_a_binary_that_amazon_linux_2023_runs(built):
    needed = re.findall(r"GLIBC_([\d.]+)", run("objdump", "-T", built))
    assert max(tuple(map(int, version.split("."))) for version in needed) <= GLIBC


def test_sam_local_invoke_as_the_page_has_it_docker(docker, built, bridged):
    (script,) = [block for comment, block in commented(ENGLISH["configuration.md"], "sh")
                 if comment == "run by checks: sam"]
    # The sandbox listens on other ports here.
    for port, url in (("9701", bridged.gateway), ("9711", bridged.secrets)):
        assert script.count(f":{port}") == 1
        script = script.replace(f":{port}", f":{url.rpartition(':')[2]}")
    _, env = sam()
    pull = {"SAM_SKIP_PULL_IMAGE": "1"} if docker.skip_pull else {}
    with docker.cleaned():
        printed = run("bash", "-euo", "pipefail", "-c", script, env=env | pull)
    answers = [json.loads(line) for line in printed.splitlines() if line.startswith('{"') and "errMsg" in line]
    assert [answer["outcome"] for answer in answers] == ["closed"], printed


def test_sam_local_start_api_docker(containers):
    port = free_port()
    command, env = containers("start-api", "--warm-containers", "LAZY", "--port", port)
    with running("sam-start-api", *command, port=port, env=env, within=120):
        url = f"http://127.0.0.1:{port}/close-order"
        assert post(url, order(), within=120)["outcome"] == "closed"
        assert post(url, order("ORDERPAID"), within=120)["outcome"] == "paid"


def test_sam_local_start_lambda_serves_the_relays_aws_sdk_docker(containers, relay_packages):
    port = free_port()
    command, env = containers("start-lambda", "--warm-containers", "LAZY", "--port", port)
    call = f"require('./relay/close-order').cloudPay.closeOrder({json.dumps(order('ORDERPAID'))})"
    with running("sam-start-lambda", *command, port=port, env=env, within=120):
        answer = run("node", "-e", f"{call}.then(JSON.stringify).then(console.log)", env=ACCOUNT | {
            "PATH": CARGO["PATH"], "AWS_ENDPOINT_URL_LAMBDA": f"http://127.0.0.1:{port}",
            "CLOSE_ORDER_FUNCTION": "CloseOrderFunction", "CLOSE_ORDER_REGION": REGION})
        assert json.loads(answer)["outcome"] == "paid"
