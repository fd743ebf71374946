"""What a release has: the same files for the same program, a template that the AWS CLI alone deploys, a valid SBOM."""

import base64
import hashlib
import json
import os
import pathlib
import shutil
import sys
import zipfile

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

import expand
from conftest import account
from pages import ENGLISH, blocks
from tools import ACCOUNT, ARCHITECTURE, CARGO, ROOT, event, run, tool

VERSION = "v1.2.3"


@pytest.fixture(scope="session")
def sbom(tmp_path_factory):
    path = tmp_path_factory.mktemp("sbom") / "sbom.json"
    run(ROOT / "release/sbom", path)
    return path


def package(program, sbom, to, architecture=ARCHITECTURE, **how):
    """Makes a release's files, and returns them by their endings."""
    run(
        sys.executable, ROOT / "release/package.py", "--version", VERSION, "--architecture", architecture,
        "--program", program, "--sbom", sbom, "--to", to, **how,
    )
    files = {path.name.removeprefix(f"close-order-{VERSION}-{architecture}."): path for path in to.iterdir()}
    assert files.keys() == {"zip", "yaml", "cdx.json"}
    return files


def test_the_same_program_gives_the_same_files(function, sbom, tmp_path):
    first = package(function, sbom, tmp_path / "first")

    copy = tmp_path / "copy"
    shutil.copyfile(function, copy)
    copy.chmod(0o600)
    os.utime(copy, (0, 1_000_000_000))
    elsewhere = CARGO | {"TZ": "Asia/Shanghai", "HOME": str(tmp_path)}
    second = package(copy, sbom, tmp_path / "second", env=elsewhere, cwd=tmp_path, umask=0o077)

    for ending, path in first.items():
        assert path.read_bytes() == second[ending].read_bytes(), ending


def test_the_zip_is_what_lambda_runs(function, sbom, tmp_path):
    with zipfile.ZipFile(package(function, sbom, tmp_path)["zip"]) as archive:
        assert archive.namelist() == sorted(archive.namelist()) == ["LICENSE-APACHE", "LICENSE-MIT", "bootstrap"]
        assert archive.read("bootstrap") == function.read_bytes()
        assert {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()} == {
            "LICENSE-APACHE": 0o100644, "LICENSE-MIT": 0o100644, "bootstrap": 0o100755,
        }


def test_release_build_makes_them_without_a_trace_of_this_machine(released):
    program, files = released
    assert files.keys() == {"zip", "yaml", "cdx.json"}
    with zipfile.ZipFile(files["zip"]) as archive:
        assert archive.read("bootstrap") == program.read_bytes()
    here = [ROOT, pathlib.Path(os.environ.get("CARGO_HOME") or pathlib.Path.home() / ".cargo")]
    for content in (program, *files.values()):
        assert not [path for path in here if bytes(path) in content.read_bytes()], content
    # What `cargo audit bin` reads.
    assert ".dep-v0" in run("objdump", "--section-headers", program)


@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_the_template_differs_in_program_and_architecture_alone(function, sbom, tmp_path, architecture):
    expected = expand.template()
    properties = expected["Resources"]["CloseOrderFunction"]["Properties"]
    properties["CodeUri"] = f"close-order-{VERSION}-{architecture}.zip"
    properties["Architectures"] = [architecture]
    del expected["Parameters"]["Architecture"]
    interface = expected["Metadata"]["AWS::CloudFormation::Interface"]
    for group in interface["ParameterGroups"]:
        group["Parameters"] = [name for name in group["Parameters"] if name != "Architecture"]

    files = package(function, sbom, tmp_path, architecture)
    assert expand.template(files["yaml"]) == expected


def test_the_placeholder_of_an_account_stands_where_it_is_explained():
    listed = run("git", "grep", "--name-only", "--word-regexp", "OWNER", "--", ".", ":!checks").split()
    assert listed == ["docs/deploy.md", "docs/zh-CN/deploy.md"]


def deploying():
    """docs/deploy.md's commands that install a release, from packaging on; those before need GitHub."""
    (block,) = [block for block in blocks(ENGLISH["deploy.md"], "sh") if "aws cloudformation package" in block]
    return block[block.index("aws cloudformation package"):]


@pytest.fixture
def ministack():
    """An account without test_stack.py's stack, which has the same name."""
    with account("ministack-for-release") as ministack:
        yield ministack


def test_the_aws_cli_alone_deploys_it(function, sbom, tmp_path, ministack):
    files = package(function, sbom, tmp_path)
    ministack.s3.create_bucket(Bucket="releases")
    run("bash", "-euo", "pipefail", "-c", deploying(), cwd=tmp_path, env=ACCOUNT | {
        "PATH": f"{tool('awscli', 'aws').parent}:{os.defpath}", "HOME": str(tmp_path),
        "AWS_ENDPOINT_URL": ministack.endpoint, "VERSION": VERSION, "ARCH": ARCHITECTURE, "BUCKET": "releases"})

    (deployed,) = ministack.cloudformation.describe_stacks(StackName="close-order")["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in deployed["Outputs"]}
    functions = ministack.lambda_
    settings = functions.get_function_configuration(FunctionName=outputs["FunctionName"])
    assert settings["Architectures"] == [ARCHITECTURE]
    assert base64.b64decode(settings["CodeSha256"]) == hashlib.sha256(files["zip"].read_bytes()).digest()
    answer = functions.invoke(FunctionName=outputs["FunctionName"], Payload=json.dumps(event("bad-input")))
    assert json.load(answer["Payload"])["outcome"] == "not_sent"


def test_the_sbom_is_valid_and_names_every_crate_of_the_program(sbom):
    text = sbom.read_text(encoding="utf-8")
    assert not JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
    assert str(ROOT) not in text

    described = json.loads(text)
    assert described["metadata"]["component"]["name"] == "close-order"
    named = {(component["name"], component["version"]) for component in described["components"]}
    tree = run("cargo", "tree", "--locked", "--package", "close-order", "--edges", "normal,build", "--prefix", "none")
    linked = {(name, version.removeprefix("v")) for name, version, *_ in map(str.split, tree.splitlines()[1:])}
    assert linked <= named and len(linked) > 50
