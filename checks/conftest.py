"""Fixtures: the function and the sandbox, and around them the emulators of others."""

import contextlib
import filecmp
import io
import ipaddress
import json
import os
import pathlib
import re
import shutil
import subprocess
import tomllib
import zipfile

import boto3
import botocore.config
import pytest

import expand
import tools
from tools import ACCOUNT, ARCHITECTURE, CARGO, HOME, ROOT, SUITE, TARGET, free_port, post, run, running, tool, until


def pytest_addoption(parser):
    parser.addoption("--function", help="a release build of the function, instead of one made here")
    parser.addoption("--fuzz-seconds", default=20, type=int, help="how long each fuzz target runs")


def aws(service, endpoint):
    """A client of AWS's own SDK for an emulator."""
    return boto3.client(
        service, endpoint_url=endpoint, region_name=tools.REGION,
        aws_access_key_id="none", aws_secret_access_key="none", config=botocore.config.Config(proxies={}),
    )


@pytest.fixture(scope="session")
def template():
    return expand.template()


@pytest.fixture(scope="session")
def expanded():
    """What SAM makes of the template. It is the same in every partition."""
    return expand.expanded()


@pytest.fixture(scope="session")
def released():
    """What release/build makes, for the version that Cargo.toml has: the program, and the release's files by endings."""
    version = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))["workspace"]["package"]["version"]
    made = ROOT / "target/dist"
    shutil.rmtree(made, ignore_errors=True)
    run(ROOT / "release/build", f"v{version}", within=1800)
    files = {path.name.removeprefix(f"close-order-v{version}-{ARCHITECTURE}."): path for path in made.iterdir()}
    return ROOT / "target/release-build/release/close-order", files


@pytest.fixture(scope="session")
def function(request):
    """The function's release binary: a release's own."""
    if given := request.config.getoption("--function"):
        return pathlib.Path(given).resolve()
    return request.getfixturevalue("released")[0]


class Sandbox:
    """The sandbox's mocks: the addresses of WeChat Pay, Secrets Manager and Lambda's APIs."""

    def __init__(self, process, host, gateway, secrets, runtime):
        self.process = process
        self.gateway, self.secrets = f"http://{host}:{gateway}", f"http://{host}:{secrets}"
        self.runtime = f"{host}:{runtime}"
        # What the sandbox itself says, for a function beside it.
        exported = (line.removeprefix("export ").split("=", 1) for line in self.process.log().splitlines()
                    if line.startswith("export "))
        said = {name: value.strip("'") for name, value in exported}
        self.secret_id = said["WECHAT_PAY_SECRET_ID"]
        self.secret = aws("secretsmanager", self.secrets).get_secret_value(SecretId=self.secret_id)["SecretString"]

    def environment(self, **more):
        """The environment of a function that has the sandbox around it."""
        return ACCOUNT | {
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": self.secrets,
            "WECHAT_PAY_SECRET_ID": self.secret_id,
            "WECHAT_PAY_ENDPOINTS": self.gateway,
            "AWS_LAMBDA_LOG_FORMAT": "JSON",
            "AWS_LAMBDA_LOG_LEVEL": "TRACE",
        } | more


@contextlib.contextmanager
def serving(name, host, *options):
    gateway, secrets, runtime, events = (free_port() for _ in range(4))
    with running(
        name, TARGET / "debug/sandbox", "serve", "--host", host, "--gateway-port", gateway, "--secrets-port", secrets,
        "--runtime-port", runtime, "--events-port", events, *options, port=runtime, host=host,
    ) as process:
        until(lambda: "AWS_SECRET_ACCESS_KEY" in process.log(), "the sandbox says how to reach it")
        yield Sandbox(process, host, gateway, secrets, runtime)


@pytest.fixture(scope="session")
def sandbox_binary():
    run("cargo", "build", "--locked", "--package", "sandbox")


@pytest.fixture(scope="session")
def sandbox(sandbox_binary):
    """WeChat Pay, Secrets Manager and Lambda's APIs, for functions on this machine."""
    with serving("sandbox", "127.0.0.1") as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def rie_binary():
    """AWS's Runtime Interface Emulator, which lies in SAM CLI's package."""
    (folder,) = (tool("sam").parent.parent / "lib").glob("python*/site-packages/samcli/local/rapid")
    found = folder / f"aws-lambda-rie-{ARCHITECTURE}"
    found.chmod(0o755)
    return found


class Invoke:
    """A function that an emulator runs: called, it gives the answer to an event."""

    def __init__(self, process, url):
        self.process, self.url = process, url

    def __call__(self, event, **options):
        return post(self.url, event, **options)


@pytest.fixture
def rie(rie_binary, function):
    """Runs the function under the Runtime Interface Emulator: `with rie(environment, timeout=28) as invoke`."""

    @contextlib.contextmanager
    def emulated(env, timeout=28):
        port, runtime = free_port(), free_port()
        lambdas = {
            "AWS_LAMBDA_FUNCTION_NAME": "close-order",
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout),
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        }
        with running(
            "rie", rie_binary, "--runtime-interface-emulator-address", f"127.0.0.1:{port}",
            "--runtime-api-address", f"127.0.0.1:{runtime}", "--log-level", "error", function, "bootstrap",
            port=port, env=env | lambdas,
        ) as process:
            yield Invoke(process, f"http://127.0.0.1:{port}/2015-03-31/functions/function/invocations")

    return emulated


@pytest.fixture
def cargo_lambda():
    """Runs the function under cargo-lambda, which builds it: `with cargo_lambda(environment) as invoke`."""

    @contextlib.contextmanager
    def emulated(env):
        port = free_port()
        path = {"PATH": f"{tool('cargo-lambda').parent}:{CARGO['PATH']}"}
        building = {"CARGO_LAMBDA_COMPILER": "cargo", "CARGO_NET_OFFLINE": "true"}
        with running(
            "cargo-lambda", "cargo", "lambda", "watch", "--invoke-address", "127.0.0.1", "--invoke-port", port,
            "--ignore-changes", "--bin", "close-order", port=port, env=CARGO | path | building | env,
        ) as process:
            yield Invoke(process, f"http://127.0.0.1:{port}")

    return emulated


def zipped(name, content):
    """A zip file with one program in it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        program = zipfile.ZipInfo(name)
        program.external_attr = 0o755 << 16
        file.writestr(program, content)
    return packed.getvalue()


class MiniStack:
    """An AWS account on this machine."""

    def __init__(self, process, endpoint):
        self.process, self.endpoint = process, endpoint

    def __getattr__(self, service):
        """A client of a service, such as `ministack.sqs`."""
        return aws({"lambda_": "lambda"}.get(service, service), self.endpoint)

    def deploy(self, function, **parameters):
        """The outputs of template.yaml's stack with this binary of the function."""
        name = "close-order"
        template = (ROOT / "template.yaml").read_text(encoding="utf-8")
        # As `sam package` does.
        template = template.replace("CodeUri: .\n", "CodeUri: s3://uploaded/close-order.zip\n")
        self.s3.create_bucket(Bucket="uploaded")
        self.s3.put_object(Bucket="uploaded", Key="close-order.zip", Body=zipped("bootstrap", function.read_bytes()))
        # CreateStack itself takes 51,200 bytes only.
        self.s3.put_object(Bucket="uploaded", Key="template.yaml", Body=template.encode())
        self.cloudformation.create_stack(
            StackName=name, TemplateURL=f"{self.endpoint}/uploaded/template.yaml", Capabilities=["CAPABILITY_IAM"],
            Parameters=[{"ParameterKey": key, "ParameterValue": str(value)} for key, value in parameters.items()])

        def created():
            (stack,) = self.cloudformation.describe_stacks(StackName=name)["Stacks"]
            return not stack["StackStatus"].endswith("IN_PROGRESS") and stack

        stack = until(created, "the stack is created", 120)
        if stack["StackStatus"] != "CREATE_COMPLETE":
            events = self.cloudformation.describe_stack_events(StackName=name)["StackEvents"]
            raise AssertionError([event for event in events if "FAILED" in event["ResourceStatus"]])
        # A number that comes from a parameter arrives as a string, and MiniStack's poller stops at it.
        for source in self.lambda_.list_event_source_mappings()["EventSourceMappings"]:
            self.lambda_.update_event_source_mapping(UUID=source["UUID"], ScalingConfig={"MaximumConcurrency": 5})
        return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    def shop(self, name, code):
        """The ARN of a function of a shop's own, in Node.js."""
        return self.lambda_.create_function(
            FunctionName=name, Runtime="nodejs22.x", Handler="index.handler", Code={"ZipFile": zipped("index.js", code)},
            Role="arn:aws:iam::000000000000:role/shop")["FunctionArn"]

    def messages(self, queue, count, within=60):
        """That many messages' bodies, taken out of a queue."""
        bodies = []

        def received():
            answer = self.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
            for message in answer.get("Messages", []):
                bodies.append(json.loads(message["Body"]))
                self.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            return len(bodies) >= count

        until(received, f"{count} messages in {queue}; there are {bodies}", within)
        return bodies

    def waiting(self, queue):
        """How many messages a queue has: due, delayed and being worked on."""
        names = ["", "Delayed", "NotVisible"]
        attributes = self.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
        return sum(int(attributes[f"ApproximateNumberOfMessages{name}"]) for name in names)


@contextlib.contextmanager
def account(name):
    """A new account on MiniStack."""
    port, files = free_port(), HOME / name
    shutil.rmtree(files, ignore_errors=True)
    files.mkdir(parents=True)
    environment = {
        "BIND_HOST": "127.0.0.1", "MINISTACK_HOST": "127.0.0.1", "GATEWAY_PORT": str(port),
        # The functions that it runs inherit this; Lambda makes the format of the template's LoggingConfig.
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_LAMBDA_LOG_FORMAT": "JSON", "PATH": os.environ["PATH"],
        # Faster than AWS, so that a check need not wait for minutes.
        "LAMBDA_ASYNC_RETRY_BASE_SECONDS": "0.2", "SFN_WAIT_SCALE": "0.01",
        # Otherwise it looks for Docker to run functions in.
        "LAMBDA_EXECUTOR": "local", "TMPDIR": str(files),
        # Ports of no use here.
        "SFTP_ENABLED": "0", "IOT_MTLS_ENABLED": "0",
    }
    with running(name, SUITE / "python", "-m", "ministack", port=port, env=ACCOUNT | environment) as process:
        yield MiniStack(process, f"http://127.0.0.1:{port}")


@pytest.fixture(scope="session")
def ministack():
    with account("ministack") as ministack:
        yield ministack


IMAGE = f"public.ecr.aws/lambda/provided:al2023-{ARCHITECTURE}"


class Docker:
    """A Docker engine that has Lambda's base image."""

    @staticmethod
    def runs():
        return shutil.which("docker") and subprocess.run(["docker", "info"], capture_output=True).returncode == 0

    def __init__(self):
        # This machine's address for the containers: the first of their network.
        subnet = self("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Subnet}}").strip()
        self.bridge = str(ipaddress.ip_network(subnet)[1])

    def __call__(self, *arguments, **options):
        return run("docker", *arguments, **options)

    def get(self, image):
        """Pulls the image; where no registry can be reached, makes it. `skip_pull` is what SAM CLI has to be told then."""

        def succeeds(*arguments):
            return subprocess.run(["docker", *arguments, image], capture_output=True).returncode == 0

        self.skip_pull = [] if succeeds("pull", "--quiet") else ["--skip-pull-image"]
        if not succeeds("image", "inspect"):
            release = dict(re.findall(r"^(\w+)=(.*)$", pathlib.Path("/etc/os-release").read_text(), re.MULTILINE))
            files = HOME / "debian.tar"
            run("mmdebstrap", "--variant=minbase", "--include=ca-certificates", release["VERSION_CODENAME"], files,
                env=os.environ)
            self("import", files, image)
            files.unlink()

    @contextlib.contextmanager
    def cleaned(self):
        """Removes the containers that the block leaves."""
        before = self("ps", "--all", "--quiet").split()
        try:
            yield
        finally:
            if left := set(self("ps", "--all", "--quiet").split()) - set(before):
                self("rm", "--force", *left)


@pytest.fixture(scope="session")
def docker():
    """Docker, started here if none runs. Without one these checks fail; `-k "not docker"` leaves them out."""
    with contextlib.ExitStack() as started:
        if not Docker.runs():
            dockerd = shutil.which("dockerd", path=f"{os.environ['PATH']}:/usr/sbin")
            assert dockerd, "no Docker engine (on Debian: apt-get install docker.io iptables mmdebstrap)"
            started.enter_context(running("dockerd", dockerd, env={"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}))
            until(Docker.runs, "dockerd answers")
        engine = Docker()
        engine.get(IMAGE)
        yield engine


def npm_ci(folder):
    """What the folder's package-lock.json names, installed."""
    lock, installed = folder / "package-lock.json", folder / "node_modules/.of-package-lock.json"
    if not installed.exists() or not filecmp.cmp(lock, installed, shallow=False):
        # With the caller's environment, where a mirror or a proxy may be named.
        run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder, env=os.environ)
        shutil.copy(lock, installed)


@pytest.fixture(scope="session")
def relay_packages():
    npm_ci(ROOT / "relay")


@pytest.fixture(scope="session")
def node_packages():
    """The AWS SDK, which the documentation's Node.js code uses."""
    npm_ci(tools.CHECKS)
