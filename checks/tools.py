"""What the checks share: tools of others, processes in the background, HTTP calls.

Everything is installed or written below `checks/` in Cargo's target directory.
"""

import contextlib
import itertools
import json
import os
import pathlib
import platform
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

CHECKS = pathlib.Path(__file__).resolve().parent
ROOT = CHECKS.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()
HOME = TARGET / "checks"
SUITE = pathlib.Path(sys.executable).parent

# Lambda's name for this machine's processor.
ARCHITECTURE = {"x86_64": "x86_64", "aarch64": "arm64"}[platform.machine()]

# No account is asked anything, neither the caller's own nor the machine's.
REGION = "us-east-1"
ACCOUNT = {
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_PAGER": "",
}

# What Cargo needs of the caller's environment. Nothing else of it gets into a check: no proxy, no account.
CARGO = {
    name: os.environ[name]
    for name in ("PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN")
    if name in os.environ
} | {"CARGO_TARGET_DIR": str(TARGET)}


def tool(name, program=None):
    """The path of a program from PyPI that has a virtual environment of its own, made of requirements-NAME.txt."""
    requirements = CHECKS / f"requirements-{name}.txt"
    at = HOME / name
    installed = at / requirements.name
    if not installed.exists() or installed.read_text() != requirements.read_text():
        shutil.rmtree(at, ignore_errors=True)
        run(sys.executable, "-m", "venv", at)
        no_deps = ["--no-deps"] if name == "cargo-lambda" else []
        # With the caller's environment, where a mirror or a proxy may be named.
        run(at / "bin/pip", "install", "--quiet", "--disable-pip-version-check", *no_deps, "-r", requirements,
            env=os.environ)
        shutil.copy(requirements, installed)
    return at / "bin" / (program or name)


def run(*command, env=None, within=900, **more):
    """Runs a command in the repository's root and returns what it printed, standard error included; fails as it does."""
    done = subprocess.run(
        [str(part) for part in command],
        **{"cwd": ROOT, "env": env or CARGO, "timeout": within, "stdin": subprocess.DEVNULL} | more,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace",
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-6000:]}"
    return done.stdout


def until(condition, what, within=30):
    """What a condition comes to, as soon as it is true."""
    end = time.monotonic() + within
    while not (result := condition()):
        assert time.monotonic() < end, f"not within {within} s: {what}"
        time.sleep(0.1)
    return result


# They lie below those that the system gives to outgoing connections, so that none is taken before it is used.
PORTS = iter(random.sample(range(25000, 26000, 2), 500))


def free_port():
    """A port that nobody uses, nor the next one (the gateway's second endpoint); each time another."""

    def free(port):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("0.0.0.0", port))
            return True

    return next(port for port in PORTS if free(port) and free(port + 1))


class Process:
    """A process in the background."""

    def __init__(self, log, popen):
        self.log_file, self.popen = log, popen

    def log(self):
        """What it has printed so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def lines(self, **fields):
        """The JSON lines among what it has printed that have these fields."""
        for line in self.log().splitlines():
            with contextlib.suppress(ValueError):
                line = json.loads(line[line.index("{"):])
                if isinstance(line, dict) and fields.items() <= line.items():
                    yield line


def listening(host, port):
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True


@contextlib.contextmanager
def running(name, *command, port=None, host="127.0.0.1", env=ACCOUNT, within=60):
    """A command in the background, from when it listens on the port until the block is left."""
    logs = HOME / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{name}.log"
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [str(part) for part in command], env={"PATH": os.defpath} | env, cwd=ROOT, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )
    process = Process(log, popen)

    def ready():
        assert popen.poll() is None, f"{name} ended with {popen.returncode}:\n{process.log()[-4000:]}"
        return port is None or listening(host, port)

    try:
        until(ready, f"{name} listens on port {port}; it printed:\n{process.log()[-4000:]}", within)
        yield process
    finally:
        # The whole process group, so that what it started itself ends with it.
        for how, wait in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(popen.pid, how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                popen.wait(wait)


def post(url, body, within=60, **headers):
    """The JSON that a POST is answered with, whatever its status."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"} | headers)
    try:
        answer = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=within)
    except urllib.error.HTTPError as error:
        answer = error
    text = answer.read().decode()
    try:
        return json.loads(text)
    except ValueError:
        raise AssertionError(f"POST {url}: {answer.status} and no JSON: {text}") from None


def event(name):
    """The file of that name in events/."""
    return json.loads((ROOT / f"events/{name}.json").read_text(encoding="utf-8"))


numbers = itertools.count(time.time_ns() // 1_000_000)


def order(scenario="CHECKS", **fields):
    """An order with a number of its own, which the sandbox's gateway treats as its first word says."""
    return {"sub_mch_id": "1900000109", "out_trade_no": f"{scenario}-{next(numbers)}"} | fields
