"""template.yaml as it is, deployed on MiniStack, an emulator of AWS: the real function behind the real event sources.

What MiniStack 1.5.33 lacks, and what is done about it, is said where it matters. It evaluates neither permissions nor
alarms nor metric filters (test_template.py does that with lines of the binary), and imports no routes of an HTTP API
(test_sam.py calls it over HTTP). The template's condition OnAws leaves out here what it cannot make: QueueStalledAlarm,
which watches an expression, and the saved queries; cfn-lint and test_template.py alone look at those.
"""

import datetime
import json

import pytest

from tools import ARCHITECTURE, ROOT, event, order, until


@pytest.fixture(scope="session")
def stack(ministack, sandbox, function):
    """The outputs of the deployed stack. Its secret has the sandbox's merchant."""
    secret = ministack.secretsmanager.create_secret(Name=sandbox.secret_id, SecretString=sandbox.secret)["ARN"]
    outputs = ministack.deploy(
        function, SecretArn=secret, WechatPayEndpoints=sandbox.gateway, WechatPayTimeoutMs=2000,
        Architecture=ARCHITECTURE, QueueDelaySeconds=0, QueueMaxReceiveCount=2)
    # An order that failed comes back after three minutes. Here it is less, but longer than a batch takes: a message
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


def test_stack_what_leaves_the_queue_is_published_and_the_rest_is_in_the_dead_letter_queue(ministack, stack, outcomes):
    done = {number["out_trade_no"]: outcome for number, outcome in [
        *((order(), "closed") for _ in range(12)),
        (order("ORDERCLOSED"), "closed"),
        (order("ORDERPAID"), "paid"),
        (order("ORDERNOTEXIST"), "not_found"),
        (order("LIMITEDPAID"), "paid"),
        (order("NOTSTICKING"), "closed"),
    ]}
    given_up = [order("SYSTEMERROR"), order("NEVERSTICKING"), order("FORGED"), {"out_trade_no": "no merchant"}]
    routed_back = {"message_id": "1", "outcome": "closed", **order()}
    send(ministack, stack, *({"sub_mch_id": "1900000109", "out_trade_no": number} for number in done))
    send(ministack, stack, *given_up, routed_back, "not JSON")

    events = ministack.messages(outcomes, len(done))
    details = {told["detail"]["out_trade_no"]: told["detail"]["outcome"] for told in events}
    assert details == done
    for told in events:
        assert (told["source"], told["detail-type"]) == ("close-order", "Order Outcome")
        assert told["detail"]["message_id"]

    # A message that was received twice goes there at the next poll.
    def dead():
        return ministack.waiting(stack["DeadLetterQueueUrl"]) == len(given_up) + 2

    until(dead, "those that can't be closed are in the dead-letter queue", 90)
    assert ministack.waiting(stack["QueueUrl"]) == 0
    bodies = {}
    for _ in range(2):
        for message in ministack.sqs.receive_message(
                QueueUrl=stack["DeadLetterQueueUrl"], MaxNumberOfMessages=10).get("Messages", []):
            bodies[message["MessageId"]] = message["Body"]
    ministack.sqs.purge_queue(QueueUrl=stack["DeadLetterQueueUrl"])
    assert sorted(bodies.values()) == sorted(["not JSON", *map(json.dumps, [*given_up, routed_back])])
    assert not ministack.waiting(outcomes), f"published without leaving the queue: {ministack.messages(outcomes, 1)}"


def test_stack_an_asynchronous_order_that_failed_is_tried_again_from_the_queue(ministack, stack, outcomes):
    """MiniStack has no asynchronous dead-letter queue, so the event is put into the orders queue as Lambda puts it.
    AWS itself did not run this here."""
    lost = order("ORDERPAID")
    ministack.sqs.send_message(
        QueueUrl=stack["QueueUrl"], MessageBody=json.dumps(lost),
        MessageAttributes={
            "RequestID": {"DataType": "String", "StringValue": "6bc28136-4365-4b21-a0e6-0ce6b2e64ab0"},
            "ErrorCode": {"DataType": "Number", "StringValue": "200"},
            "ErrorMessage": {"DataType": "String", "StringValue": "no endpoint answered"},
        })
    (told,) = ministack.messages(outcomes, 1)
    assert (told["detail"]["out_trade_no"], told["detail"]["outcome"]) == (lost["out_trade_no"], "paid")


def example(file, **values):
    """A file of examples/, with the stack's outputs and what else it leaves open."""
    text = (ROOT / "examples" / file).read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"${{{name}}}", value)
    assert "${" not in text
    return text


def test_stack_a_schedule_puts_its_order_into_the_queue_and_deletes_itself(ministack, stack, outcomes):
    schedule, scheduled = json.loads(example("schedule.json", **stack)), order()
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=2)
    schedule |= {"Name": scheduled["out_trade_no"], "ScheduleExpression": f"at({soon:%Y-%m-%dT%H:%M:%S})"}
    schedule["Target"]["Input"] = json.dumps(scheduled)
    ministack.scheduler.create_schedule(**schedule)
    (told,) = ministack.messages(outcomes, 1)
    assert told["detail"]["out_trade_no"] == scheduled["out_trade_no"]
    until(lambda: not ministack.scheduler.list_schedules(GroupName=stack["ScheduleGroup"])["Schedules"],
          "the schedule is gone")


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


def test_stack_a_rotated_secret_is_used_from_when_it_is_current(ministack, stack, sandbox):
    secrets = ministack.secretsmanager
    wrong = json.dumps(json.loads(sandbox.secret) | {"api_key": "0" * 32})
    (right,) = secrets.describe_secret(SecretId=sandbox.secret_id)["VersionIdsToStages"]
    pending = secrets.put_secret_value(
        SecretId=sandbox.secret_id, SecretString=wrong, VersionStages=["AWSPENDING"])["VersionId"]
    configuration = ministack.lambda_.get_function(FunctionName=stack["FunctionName"])["Configuration"]

    def promote(version, instead_of):
        secrets.update_secret_version_stage(
            SecretId=sandbox.secret_id, VersionStage="AWSCURRENT", MoveToVersionId=version, RemoveFromVersionId=instead_of)
        # A new environment, whose cache is empty; test_emulators.py has the cache.
        variables = configuration["Environment"]["Variables"] | {"NEW_ENVIRONMENT_FOR": version}
        ministack.lambda_.update_function_configuration(
            FunctionName=stack["FunctionName"], Environment={"Variables": variables})

    assert invoke(ministack, stack, order())[1]["outcome"] == "closed"
    promote(pending, right)
    assert invoke(ministack, stack, order())[1]["outcome"] == "rejected"
    promote(right, pending)
    assert invoke(ministack, stack, order())[1]["outcome"] == "closed"
