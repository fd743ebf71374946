"""The fixtures `template` and `expanded`, and how to find resources in what they give."""

import expand
import pytest


@pytest.fixture(scope="session")
def template():
    """template.yaml as it stands, its intrinsic functions in their long form."""
    return expand.template()


@pytest.fixture(scope="session")
def expanded():
    """The CloudFormation template that SAM makes of it. It is the same in every partition."""
    return expand.expanded()


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
