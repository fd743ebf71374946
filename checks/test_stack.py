"""template.yaml as it is, deployed on MiniStack, an emulator of AWS: the real function behind the real event sources.

What MiniStack 1.5.33 lacks, and what is done about it, is said where it matters. It evaluates neither permissions nor
alarms nor metric filters (test_template.py and test_drill.py do that), and imports no routes of an HTTP API (test_sam.py
calls it over HTTP). The template's condition OnAws leaves out here what it cannot make: QueueStalledAlarm, which watches
an expression, the composite alarms, the saved queries and the event bus's policy; cfn-lint and test_template.py alone
look at those.
"""

import datetime
import json
import time

import pytest

from conftest import account
from tools import ARCHITECTURE, ROOT, event, order, until


@pytest.fixture(scope="session")
def stack(ministack, sandbox, function):
    """The outputs of the deployed stack. Its secret has the sandbox's merchant."""
    secret = ministack.secretsmanager.create_secret(Name=sandbox.secret_id, SecretString=sandbox.secret)["ARN"]
    outputs = ministack.deploy(
        function, SecretArn=secret, WechatPayEndpoints=sandbox.gateway, WechatPayTimeoutMs=2000,
        Architecture=ARCHITECTURE, QueueDelaySeconds=0, QueueAttempts=4)
    # An order that failed is redelivered after three minutes. Here it is less, but longer than a batch takes: a message
    # that is received twice is published twice.
    ministack.sqs.set_queue_attributes(QueueUrl=outputs["QueueUrl"], Attributes={"VisibilityTimeout": "8"})
    return outputs


@pytest.fixture
def outcomes(ministack, stack):
    """A queue that is the target of a rule on the stack's event bus: what a back end is told."""
    queue = ministack.sqs.create_queue(QueueName="outcomes")["QueueUrl"]
    arn = ministack.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    rule = {"Name": "outcomes", "EventBusName": stack["OutcomeEventBus"]}
    pattern = json.dumps({"source": ["close-order"], "detail-type": ["Order Outcome"]})
    ministack.events.put_rule(**rule, EventPattern=pattern)
    ministack.events.put_targets(Rule="outcomes", EventBusName=rule["EventBusName"], Targets=[{"Id": "1", "Arn": arn}])
    yield queue
    ministack.events.remove_targets(Rule="outcomes", EventBusName=rule["EventBusName"], Ids=["1"])
    ministack.events.delete_rule(**rule)
    ministack.sqs.delete_queue(QueueUrl=queue)


def invoke(ministack, stack, event, **options):
    answer = ministack.lambda_.invoke(FunctionName=stack["FunctionName"], Payload=json.dumps(event), **options)
    return answer.get("FunctionError"), json.loads(answer["Payload"].read() or "null")


def send(ministack, stack, *bodies):
    for body in bodies:
        ministack.sqs.send_message(
            QueueUrl=stack["QueueUrl"], MessageBody=body if isinstance(body, str) else json.dumps(body))


def test_stack_the_function_is_called_directly(ministack, stack):
    error, answer = invoke(ministack, stack, event("close-order"))
    assert (error, answer["outcome"]) == (None, "closed")
    error, answer = invoke(ministack, stack, order("RESET"))
    assert (error, answer["errorType"]) == ("Unhandled", "GatewayUnreachable")


def attributes_of(ministack, queue, count):
    """That many messages' bodies with their attribute `reason`, which stay in the queue."""
    found = {}

    def received():
        for message in ministack.sqs.receive_message(
                QueueUrl=queue, MaxNumberOfMessages=10, MessageAttributeNames=["All"]).get("Messages", []):
            reason = message.get("MessageAttributes", {}).get("reason", {}).get("StringValue")
            found[message["MessageId"]] = (message["Body"], reason)
        return len(found) >= count

    until(received, f"{count} messages in {queue}; there are {found}", 60)
    return sorted(found.values(), key=str)


def test_stack_what_is_done_is_published_and_the_rest_is_in_the_other_queues(ministack, stack, outcomes):
    done = {number["out_trade_no"]: outcome for number, outcome in [
        *((order(), "closed") for _ in range(12)),
        (order("ORDERCLOSED"), "closed"),
        (order("ORDERPAID"), "paid"),
        (order("ORDERNOTEXIST"), "not_found"),
        (order("LIMITEDPAID"), "paid"),
        (order("NOTSTICKING"), "closed"),
    ]}
    # What contradicts the secret comes back: a wrong secret must not empty the queue.
    given_up = [order("SYSTEMERROR"), order("NEVERSTICKING"), order("FORGED"), order("QUERYDOWN"), order(mch_id="42")]
    invalid = [{"message_id": "1", "outcome": "closed", **order()}, {"out_trade_no": 4200}]
    send(ministack, stack, *({"sub_mch_id": "1900000109", "out_trade_no": number} for number in done))
    send(ministack, stack, *given_up, *invalid, "not JSON")

    events = ministack.messages(outcomes, len(done))
    details = {told["detail"]["out_trade_no"]: told["detail"]["outcome"] for told in events}
    assert details == done
    for told in events:
        assert (told["source"], told["detail-type"]) == ("close-order", "Order Outcome")
        assert told["detail"]["message_id"] and told["detail"]["confirmed"] is True

    aside = attributes_of(ministack, stack["InvalidOrdersQueueUrl"], len(invalid) + 1)
    assert [body for body, _ in aside] == sorted(["not JSON", *map(json.dumps, invalid)])
    assert all(reason for _, reason in aside)
    ministack.sqs.purge_queue(QueueUrl=stack["InvalidOrdersQueueUrl"])

    # A message that was received four times goes there at the next poll.
    def dead():
        return ministack.waiting(stack["DeadLetterQueueUrl"]) == len(given_up)

    until(dead, "those that can't be closed are in the dead-letter queue", 90)
    assert ministack.waiting(stack["QueueUrl"]) == 0
    dead = attributes_of(ministack, stack["DeadLetterQueueUrl"], len(given_up))
    ministack.sqs.purge_queue(QueueUrl=stack["DeadLetterQueueUrl"])
    assert [body for body, _ in dead] == sorted(map(json.dumps, given_up))
    assert not ministack.waiting(outcomes), f"published without leaving the queue: {ministack.messages(outcomes, 1)}"


def example(file, **values):
    """A file of examples/, with the stack's outputs and what else it leaves open."""
    text = (ROOT / "examples" / file).read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"${{{name}}}", value)
    assert "${" not in text
    return text


def test_stack_an_order_waits_in_the_queue_until_its_time(ministack, stack, sandbox, outcomes):
    close_at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=15)
    waits = order(close_at=close_at.isoformat())
    send(ministack, stack, waits)
    time.sleep(5)
    assert ministack.waiting(stack["QueueUrl"]) == 1 and not ministack.waiting(outcomes)
    (told,) = ministack.messages(outcomes, 1)
    # Clocks may differ by five seconds.
    assert datetime.datetime.now(datetime.UTC) > close_at - datetime.timedelta(seconds=5)
    assert (told["detail"]["out_trade_no"], told["detail"]["outcome"]) == (waits["out_trade_no"], "closed")


@pytest.fixture(scope="session")
def shop(ministack):
    """What a state machine goes on to."""
    code = "exports.handler = async () => ({{ shop: '{}' }})"
    return {f"{name}Arn": ministack.shop(name, code.format(name)) for name in ("ReleaseStock", "BookPayment")}


@pytest.mark.parametrize(("file", "scenario", "output", "error"), [
    ("step-functions.json", "CHECKS", "closed", None),
    ("step-functions.json", "ORDERPAID", "paid", None),
    ("step-functions.json", "ORDERNOTEXIST", None, "OrderNotFound"),
    ("step-functions.json", "NEVERSTICKING", None, "OrderOpenOrUnknown"),
    ("step-functions.json", "SYSTEMERROR", None, "OrderOpenOrUnknown"),
    ("step-functions.json", "SIGNERROR", None, "OrderRejected"),
    ("step-functions.json", "FORGED", None, "ReplyInvalid"),
    ("step-functions-wait.json", "CHECKS", "ReleaseStock", None),
    ("step-functions-wait.json", "ORDERPAID", "BookPayment", None),
    ("step-functions-wait.json", "NEVERSTICKING", None, "OrderNotClosed"),
    ("step-functions-wait.json", "FORGED", None, "ReplyInvalid"),
])
def test_stack_a_state_machine_ends_by_the_outcome(ministack, stack, shop, file, scenario, output, error):
    """MiniStack shortens waits, and pauses between attempts, to a hundredth."""
    functions = ministack.stepfunctions
    # Made again with the same definition, it is the same.
    machine = functions.create_state_machine(
        name=file.removesuffix(".json"), roleArn=stack["StateMachineRoleArn"],
        definition=example(file, **stack, **shop))["stateMachineArn"]
    given = order(scenario, confirm=True, close_at=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}")
    execution = functions.start_execution(stateMachineArn=machine, input=json.dumps(given))["executionArn"]

    def ended():
        described = functions.describe_execution(executionArn=execution)
        return described["status"] != "RUNNING" and described

    end = until(ended, "the execution ends", 120)
    assert (end["status"], end.get("error")) == ("FAILED" if error else "SUCCEEDED", error), end
    assert error or output in end["output"]


def test_stack_a_wrong_key_is_used_from_when_it_is_current_and_put_right_closes_without_hands(
        ministack, stack, sandbox, outcomes):
    secrets, sent = ministack.secretsmanager, order()
    wrong = json.dumps(json.loads(sandbox.secret) | {"api_key": "0" * 32})
    (right,) = secrets.describe_secret(SecretId=sandbox.secret_id)["VersionIdsToStages"]
    pending = secrets.put_secret_value(
        SecretId=sandbox.secret_id, SecretString=wrong, VersionStages=["AWSPENDING"])["VersionId"]
    configuration = ministack.lambda_.get_function(FunctionName=stack["FunctionName"])["Configuration"]
    ministack.lambda_.update_function_configuration(
        FunctionName=stack["FunctionName"],
        Environment={"Variables": configuration["Environment"]["Variables"] | {"SECRET_CACHE_TTL_SECONDS": "1"}})
    assert invoke(ministack, stack, order())[1]["outcome"] == "closed"
    secrets.update_secret_version_stage(
        SecretId=sandbox.secret_id, VersionStage="AWSCURRENT", MoveToVersionId=pending, RemoveFromVersionId=right)
    until(lambda: invoke(ministack, stack, order())[1]["outcome"] == "rejected", "the new key is used", 60)
    send(ministack, stack, sent)

    def failed_twice():
        attributes = ministack.sqs.get_queue_attributes(QueueUrl=stack["QueueUrl"], AttributeNames=["All"])["Attributes"]
        return sandbox.process.log().count(sent["out_trade_no"]) >= 2 and attributes["ApproximateNumberOfMessagesNotVisible"]

    until(failed_twice, "it was rejected twice", 60)
    secrets.put_secret_value(SecretId=sandbox.secret_id, SecretString=sandbox.secret)
    (told,) = ministack.messages(outcomes, 1)
    assert (told["detail"]["out_trade_no"], told["detail"]["outcome"]) == (sent["out_trade_no"], "closed")
    assert not ministack.waiting(stack["DeadLetterQueueUrl"])


def test_stack_of_several_merchants_reads_their_secrets_and_no_others(sandbox, function):
    with account("ministack-for-merchants") as ministack:
        secrets = ministack.secretsmanager
        number = json.loads(sandbox.secret)["mch_id"]
        arn = secrets.create_secret(Name=f"wechat-pay/{number}", SecretString=sandbox.secret)["ARN"]
        prefix = arn[:arn.index(number)]
        stack = ministack.deploy(
            function, SecretArn=f"{prefix}{{mch_id}}", SecretKmsKeyArn="arn:aws:kms:us-east-1:000000000000:key/1",
            WechatPayEndpoints=sandbox.gateway, Architecture=ARCHITECTURE, OutcomeEventBus="none")
        settings = ministack.lambda_.get_function(FunctionName=stack["FunctionName"])["Configuration"]
        assert settings["Environment"]["Variables"]["WECHAT_PAY_SECRET_ID"] == "wechat-pay/{mch_id}"
        assert "OUTCOME_EVENT_BUS" not in settings["Environment"]["Variables"] and "OutcomeEventBus" not in stack
        role = settings["Role"].rpartition("/")[2]
        statements = ministack.iam.get_role_policy(RoleName=role, PolicyName="close-orders")["PolicyDocument"]["Statement"]
        allowed = {statement["Sid"]: statement for statement in statements}
        assert allowed["ReadTheSecret"]["Resource"] == f"{prefix}*"
        assert allowed["DecryptTheSecret"]["Condition"]["StringLike"] == {"kms:EncryptionContext:SecretARN": f"{prefix}*"}
        assert set(allowed) == {"ReadTheSecret", "DecryptTheSecret", "LetOrdersWait", "SetInvalidOrdersAside"}

        error, answer = invoke(ministack, stack, order(mch_id=number))
        assert (error, answer["outcome"]) == (None, "closed")
        error, answer = invoke(ministack, stack, order(mch_id="42"))
        assert (error, answer["errorType"]) == ("Unhandled", "CredentialsUnavailable")
        error, answer = invoke(ministack, stack, order())
        assert (error, answer["outcome"]) == (None, "not_sent")
