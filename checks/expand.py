"""The CloudFormation template that AWS will make of template.yaml, as JSON on standard output.

SAM writes part of the stack itself (the API's stage, the function's code), so the linters and the tests look at what
comes out, not only at what went in.
"""

import json
import os
import pathlib
import sys
import unittest.mock

TEMPLATE = pathlib.Path(__file__).resolve().parent.parent / "template.yaml"


class NoManagedPolicies:
    """The template names no managed policy, so there is no list of them to look up."""

    @staticmethod
    def load():
        return {}


def template(file=TEMPLATE):
    """A template as it stands, its intrinsic functions in their long form."""
    from samtranslator.yaml_helper import yaml_parse

    return yaml_parse(file.read_text(encoding="utf-8"))


def expanded(region="us-east-1"):
    """What SAM makes of template.yaml in a region."""
    from samtranslator.translator.transform import transform

    source = template()
    # `sam deploy` puts the uploaded zip here.
    source["Resources"]["CloseOrderFunction"]["Properties"]["CodeUri"] = "s3://uploaded/close-order.zip"
    # SAM takes the region, and the partition with it, from here.
    with unittest.mock.patch.dict(os.environ, AWS_DEFAULT_REGION=region, AWS_REGION=region):
        return transform(source, {}, NoManagedPolicies(), passthrough_metadata=True)


def every(stack, *types):
    """The properties of the resources of these types, by name."""
    return {
        name: resource.get("Properties", {})
        for name, resource in stack["Resources"].items() if resource["Type"] in types
    }


def one(stack, kind):
    """The properties of the one resource of this type."""
    (properties,) = every(stack, kind).values()
    return properties


if __name__ == "__main__":
    json.dump(expanded(*sys.argv[1:]), sys.stdout, indent=2)
