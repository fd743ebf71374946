"""Linters on what no compiler reads: the template and what SAM makes of it, scripts, workflows, the state machine."""

import json
import os
import re
import subprocess

import pytest

import expand
from tools import ACCOUNT, CARGO, HOME, ROOT, SUITE, run, tool


def test_lint_the_template_and_what_sam_makes_of_it():
    run(tool("sam"), "validate", "--lint", "--template", "template.yaml", env=CARGO | ACCOUNT | {"SAM_CLI_TELEMETRY": "0"})
    file = HOME / "template.json"
    file.write_text(json.dumps(expand.expanded()))
    run(SUITE / "cfn-lint", "--regions", "us-east-1", "cn-north-1", "--", file)
    # checkov takes the file's path for a value of the template, and 40 characters of a path for a secret key: so a short
    # path, wherever the repository is.
    options = ["--framework", "cloudformation", "--compact", "--quiet", "--skip-download"]
    run(tool("checkov"), *options, "--file", os.path.relpath(file, ROOT))


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("step-functions*.json")), ids=lambda file: file.stem)
def test_lint_a_state_machine(example):
    """cfn-lint knows state machines as a part of a template only."""
    text = example.read_text(encoding="utf-8")
    arn = "arn:aws:lambda:us-east-1:123456789012:function:close-order"
    machine = {"Type": "AWS::StepFunctions::StateMachine", "Properties": {
        "RoleArn": "arn:aws:iam::123456789012:role/none",
        "Definition": json.loads(text),
        "DefinitionSubstitutions": dict.fromkeys(re.findall(r"\$\{(\w+)}", text), arn)}}
    file = HOME / "machine.json"
    file.write_text(json.dumps({"Resources": {"Machine": machine}}))
    run(SUITE / "cfn-lint", file)


def tracked():
    """The repository's files, new ones included."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return [file for file in map(ROOT.joinpath, files) if file.is_file()]


def test_lint_shell_scripts():
    scripts = [file for file in tracked() if file.open("rb").read(32).startswith((b"#!/usr/bin/env bash", b"#!/bin/sh"))]
    assert ROOT / ".ci/run" in scripts and ROOT / "checks/run" in scripts
    run(SUITE / "shellcheck", *scripts)


@pytest.mark.parametrize("workflow", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=lambda file: file.name)
def test_lint_workflows(workflow):
    run(SUITE / "zizmor", "--offline", "--no-progress", workflow)
