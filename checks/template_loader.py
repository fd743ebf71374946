"""The fixtures `template` and `expanded`."""

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
