"""The relay: its real Lambda client in front of the real function, and beside it the real wx-server-sdk, whose results it
has to match. The tests themselves are relay/test/*.test.js."""

import contextlib
import json
import os
import re

from conftest import serving
from tools import ACCOUNT, ROOT, free_port, run, running, tool

RELAY = ROOT / "relay"


def test_the_relay_does_as_wx_server_sdk(function, sandbox_binary, relay_packages, tmp_path):
    # The functions' WeChat Pay is the tests' own proxy, which records what it passes on to the sandboxes.
    proxy = free_port()
    with contextlib.ExitStack() as stack:

        def invoke_api(name, *options, **more):
            """A sandbox, and a function that takes its invocations: the addresses of its Invoke API and its gateway."""
            sandbox = stack.enter_context(serving(name, "127.0.0.1", *options))
            environment = sandbox.environment(WECHAT_PAY_ENDPOINTS=f"http://127.0.0.1:{proxy}", **more) | {
                "WECHAT_PAY_TIMEOUT_MS": "2000",
                "AWS_LAMBDA_RUNTIME_API": sandbox.runtime,
                "AWS_LAMBDA_FUNCTION_NAME": "close-order",
                "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            }
            stack.enter_context(running(f"{name}-function", function, env=environment))
            return f"http://{sandbox.runtime}", sandbox.gateway

        partner, partner_gateway = invoke_api("relay-partner")
        merchant, merchant_gateway = invoke_api("relay-merchant", "--mch-type", "merchant")
        without_secret, _ = invoke_api("relay-without-secret", WECHAT_PAY_SECRET_ID="close-order/none")

        # Nothing of the caller's gets in: no account, no proxy, no settings of the AWS SDK.
        run("npm", "test", cwd=RELAY, within=300, env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "RELAY_TEST_LAMBDA": partner,
            "RELAY_TEST_LAMBDA_MERCHANT": merchant,
            "RELAY_TEST_LAMBDA_WITHOUT_SECRET": without_secret,
            "RELAY_TEST_SANDBOX": partner_gateway,
            "RELAY_TEST_SANDBOX_MERCHANT": merchant_gateway,
            "RELAY_TEST_GATEWAY_PORT": str(proxy),
        })


def test_the_commands_of_the_access_key_run(ministack, tmp_path):
    readme = (RELAY / "README.md").read_text(encoding="utf-8")
    (policy,) = re.findall(r"^```json\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    (tmp_path / "policy.json").write_text(policy, encoding="utf-8")
    create, rotate = re.findall(r"^```sh\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    iam = ministack.iam
    account = ACCOUNT | {"AWS_ENDPOINT_URL": ministack.endpoint, "PATH": f"{tool('awscli').parent}:{os.defpath}", "HOME": str(tmp_path)}

    def keys():
        return [key["AccessKeyId"] for key in iam.list_access_keys(UserName="close-order-relay")["AccessKeyMetadata"]]

    run("bash", "-euc", create, cwd=tmp_path, env=account)
    (old,) = keys()
    assert iam.get_user_policy(UserName="close-order-relay", PolicyName="invoke")["PolicyDocument"] == json.loads(policy)
    run("bash", "-euc", rotate.replace("AKIAOLDEXAMPLE", old), cwd=tmp_path, env=account)
    (new,) = keys()
    assert new != old
