"""What has to agree between template.yaml, SAM's expansion of it, the function and the examples.

No emulator evaluates metric filters or alarms, so the filters are checked here, with metric_filter.py.
"""

import json
import pathlib
import re

import expand
import metric_filter
import pytest
from pages import CHINESE, ENGLISH, name_of, read
from template_loader import expanded, template  # noqa: F401
from tools import event, free_port, order

ROOT = pathlib.Path(__file__).resolve().parent.parent

# The line of an order, with every field it may have.
ORDER = {
    "timestamp": "2026-01-01T00:00:00.000000Z",
    "level": "INFO",
    "message": "order",
    "outcome": "closed",
    "mch_id": "1900000109",
    "sub_mch_id": "1900000109",
    "out_trade_no": "1217752501201407033233368018",
    "message_id": "059f36b4-87a3-44ab-83d2-661975830a7d",
    "endpoint": "https://api.mch.weixin.qq.com",
    "attempts": 1,
    "queries": 0,
    "duration_ms": 131,
    "wechat_pay_request_id": "08F78BB5AF0610D302",
    "requestId": "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
    "xray_trace_id": "1-5759e988-bd862e3fe1be46a994272793",
    "cold_start": True,
    "target": "close_order::close_order::order_log",
}
SOMETIMES = {"reason", "cause", "return_msg", "err_code_des", "trade_state", "transaction_id"}

SENT = {"OrderDuration": (131.0,)}
FINE = {"OrdersFailed": (0.0,), "OrdersNotFound": (0.0,)}
FAILED = FINE | {"OrdersFailed": (1.0,)}
ONE = (1.0,)


def reason(name):
    return {"OrdersByReason": (name, 1.0)}


LINES = [
    ({}, FINE | SENT),
    ({"reason": "ORDERCLOSED"}, FINE | SENT),
    ({"outcome": "paid", "reason": "ORDERPAID"}, FINE | SENT),
    ({"outcome": "not_found", "level": "WARN", "reason": "ORDERNOTEXIST"},
     FINE | SENT | {"OrdersNotFound": ONE} | reason("ORDERNOTEXIST")),
    ({"outcome": "open", "level": "WARN", "reason": "ORDERNOTCLOSED"}, FINE | SENT | reason("ORDERNOTCLOSED")),
    ({"outcome": "unknown", "level": "ERROR", "reason": "SYSTEMERROR"}, FAILED | SENT | reason("SYSTEMERROR")),
    ({"outcome": "unknown", "level": "ERROR"}, FAILED | SENT),
    ({"outcome": "rejected", "level": "WARN", "reason": "signature"},
     FINE | SENT | {"OrdersRejected": ONE} | reason("signature")),
    ({"outcome": "rejected", "level": "WARN", "reason": "unsigned_fail", "return_msg": "商户号mch_id与appid不匹配"},
     FINE | SENT | {"OrdersRejected": ONE} | reason("unsigned_fail")),
    ({"outcome": "not_sent", "level": "WARN", "reason": "too_young", "attempts": 0}, FINE | reason("too_young")),
    ({"outcome": "not_sent", "level": "WARN", "reason": "invalid_input", "attempts": 0},
     FINE | {"EventsNotUnderstood": ONE} | reason("invalid_input")),
    ({"outcome": "not_sent", "level": "ERROR", "reason": "CredentialsUnavailable", "attempts": 0},
     FAILED | {"CredentialsUnavailable": ONE} | reason("CredentialsUnavailable")),
    ({"outcome": "not_sent", "level": "ERROR", "reason": "UnsupportedEvent", "attempts": 0},
     FAILED | {"EventsNotUnderstood": ONE} | reason("UnsupportedEvent")),
    ({"outcome": "not_sent", "level": "ERROR", "reason": "GatewayUnreachable"},
     FAILED | SENT | reason("GatewayUnreachable")),
    # A fault stays a fault where a query has shown the order open.
    ({"outcome": "open", "level": "ERROR", "reason": "GatewayUnreachable"},
     FAILED | SENT | reason("GatewayUnreachable")),
    ({"outcome": "unknown", "level": "ERROR", "reason": "DeadlineExceeded"},
     FAILED | SENT | reason("DeadlineExceeded")),
    ({"outcome": "unknown", "level": "ERROR", "reason": "InternalError"}, FAILED | SENT | reason("InternalError")),
    ({"outcome": "unknown", "level": "ERROR", "reason": "ReplyInvalid", "cause": "its signature does not match"},
     FAILED | SENT | {"RepliesNotVerified": ONE} | reason("ReplyInvalid")),
    ({"outcome": "unknown", "level": "ERROR", "reason": "ReplyInvalid", "cause": "HTTP status 403, its root is not <xml>"},
     FAILED | SENT | reason("ReplyInvalid")),
]
OTHER_LINES = [
    ({"message": "start", "level": "INFO", "secret_read": True, "duration_ms": 3}, {}),
    ({"type": "platform.start"}, {}),
    ({"message": "the secret could not be read", "level": "WARN", "cause": "ThrottlingException", "cached": True},
     {"SecretNotRead": ONE}),
    ({"message": "the secret is malformed", "level": "WARN", "cause": "api_key"}, {"SecretNotRead": ONE}),
    ({"message": "outcome event not published", "level": "ERROR", "out_trade_no": "1", "cause": "ThrottlingException"},
     {"EventsNotPublished": ONE}),
    ({"message": "invalid batch", "level": "ERROR", "reason": "InvalidBatch"}, {"EventsNotUnderstood": ONE}),
]


def every(stack, *types):
    return {
        name: resource.get("Properties", {})
        for name, resource in stack["Resources"].items() if resource["Type"] in types
    }


def one(stack, kind):
    (properties,) = every(stack, kind).values()
    return properties


def sources():
    return "".join(file.read_text(encoding="utf-8") for file in sorted((ROOT / "src").rglob("*.rs")))


# -------------------------------------------------------------------------------------------------- metrics and alarms


@pytest.mark.parametrize(("line", "metrics"), LINES)
def test_the_line_of_an_order_counts_for_its_metrics(expanded, line, metrics):
    line = ORDER | line
    assert metric_filter.metrics(expanded, line) == metrics | {"OrdersByOutcome": (line["outcome"], 1.0)}


@pytest.mark.parametrize(("line", "metrics"), OTHER_LINES)
def test_another_line_counts_for_nothing_else(expanded, line, metrics):
    assert metric_filter.metrics(expanded, line) == metrics


FAULTS = {
    "CredentialsUnavailable", "GatewayUnreachable", "ReplyInvalid", "DeadlineExceeded", "InternalError",
    "UnsupportedEvent",
}


def test_real_lines_count_for_their_metrics(expanded, rie, sandbox):
    scenarios = (
        "CHECKS", "ORDERPAID", "ORDERNOTEXIST", "NEVERSTICKING", "USERPAYING", "SYSTEMERROR", "SIGNERROR", "FORGED",
        "RESET", "APPIDMISMATCH", "RATELIMIT")
    sns = {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": json.dumps(order())}}]}
    no_id = {"Records": [{"eventSource": "aws:sqs", "body": json.dumps(order())}]}
    nobody = f"http://127.0.0.1:{free_port()}"
    lines = []
    with rie(sandbox.environment(OUTCOME_EVENT_BUS="orders", AWS_ENDPOINT_URL_EVENTBRIDGE=nobody)) as invoke:
        orders = [order(scenario, confirm=True) for scenario in scenarios]
        for what in (*orders, event("bad-input"), event("sqs"), sns, no_id):
            invoke(what)
        lines += invoke.process.lines()
    with rie(sandbox.environment(AWS_ENDPOINT_URL_SECRETS_MANAGER=nobody)) as invoke:
        invoke(order())
        lines += invoke.process.lines()
    metrics = [(line, metric_filter.metrics(expanded, line)) for line in lines]
    orders = [(line, made) for line, made in metrics if line.get("message") == "order"]
    for line, made in orders:
        outcome, why = line["outcome"], line.get("reason")
        assert set(line) <= {*ORDER, *SOMETIMES}, line
        assert made["OrdersFailed"] == (float(outcome == "unknown" or why in FAULTS),), line
        assert made["OrdersNotFound"] == (float(outcome == "not_found"),), line
        assert ("OrdersRejected" in made) == (outcome == "rejected"), line
        unverified = why == "ReplyInvalid" and not line["cause"].startswith("HTTP status")
        assert ("RepliesNotVerified" in made) == unverified, line
    assert {line["outcome"] for line, _ in orders} == {
        "closed", "paid", "not_found", "open", "unknown", "rejected", "not_sent"}
    # None of the metrics waits for a line that is never written.
    filters = every(expanded, "AWS::Logs::MetricFilter").values()
    assert {name for _, made in metrics for name in made} == {
        properties["MetricTransformations"][0]["MetricName"] for properties in filters}


def test_filters_and_saved_queries_use_fields_that_the_log_has(expanded):
    known = {*ORDER, *SOMETIMES}
    assert metric_filter.fields(expanded) <= known
    queries = every(expanded, "AWS::Logs::QueryDefinition")
    assert len(queries) == 4
    for name, query in queries.items():
        text = re.sub(r'"[^"]*"', "", query["QueryString"])
        made = {*re.findall(r" as (\w+)", text), "timestamp"}
        words = {*re.findall(r"[a-zA-Z]\w*", text)} - {
            "fields", "filter", "stats", "sort", "limit", "by", "as", "asc", "desc", "and", "not", "in", "count", "min",
            "max", "sum", "strcontains"}
        assert words - made <= known, name


def test_filters_look_for_words_that_the_function_writes(expanded):
    written = sources()
    for name, made in every(expanded, "AWS::Logs::MetricFilter").items():
        for word in re.findall(r'"([^"]+)"', made["FilterPattern"]):
            assert f'"{word}"' in written or (word.endswith("*") and f'{word[:-1]} ' in written), f"{name}: {word}"


def test_alarms_watch_metrics_as_they_are_published(expanded):
    """A metric with dimensions and an alarm without them, or the other way round, never meet."""
    published = {}
    for properties in every(expanded, "AWS::Logs::MetricFilter").values():
        assert properties["LogGroupName"] == {"Ref": "FunctionLogGroup"}
        (made,) = properties["MetricTransformations"]
        assert made["MetricNamespace"] == {"Fn::Sub": "CloseOrder/${AWS::StackName}"}
        published[made["MetricName"]] = [dimension["Key"] for dimension in made.get("Dimensions", [])]
    own = {"Fn::Sub": "CloseOrder/${AWS::StackName}"}
    watched = {
        alarm["MetricName"]: [dimension["Name"] for dimension in alarm.get("Dimensions", [])]
        for alarm in every(expanded, "AWS::CloudWatch::Alarm").values() if alarm.get("Namespace") == own
    }
    assert watched == {name: keys for name, keys in published.items() if name in watched}
    # The others are the dashboard's.
    assert set(published) - set(watched) == {"OrdersByOutcome", "OrdersByReason", "OrderDuration"}
    (body, _) = one(expanded, "AWS::CloudWatch::Dashboard")["DashboardBody"]["Fn::Sub"]
    for name in set(published) - set(watched):
        assert name in body


def test_every_alarm_tells_the_same_people_and_says_what_to_do(expanded):
    alarms = every(expanded, "AWS::CloudWatch::Alarm")
    actions = [alarm[kind] for alarm in alarms.values() for kind in ("AlarmActions", "OKActions")]
    assert all(action == actions[0] for action in actions)
    for name, alarm in alarms.items():
        assert 100 < len(alarm["AlarmDescription"]) <= 1024, name
        assert alarm["TreatMissingData"] == "notBreaching", name


def test_alarms_of_single_orders_wait_for_more_than_one_period(expanded):
    """A change of the key heals itself within minutes, and a single batch's share says little."""
    alarms = every(expanded, "AWS::CloudWatch::Alarm")
    shape = ("Statistic", "Threshold", "Period", "DatapointsToAlarm", "EvaluationPeriods")
    assert [alarms["OrdersNotFoundAlarm"][key] for key in shape] == ["Average", 0.05, 3600, 2, 6]
    assert [alarms["OrdersRejectedAlarm"][key] for key in shape] == ["Sum", 1, 300, 2, 12]
    assert [alarms["OrdersFailedAlarm"][key] for key in shape] == ["Average", 0.05, 300, 2, 12]
    (named,) = re.findall(r'saved query "([^"]+)"', alarms["OrdersNotFoundAlarm"]["AlarmDescription"])
    assert any(query["Name"]["Fn::Sub"].endswith(f"/{named}")
               for query in every(expanded, "AWS::Logs::QueryDefinition").values())


def test_the_dashboard_is_json_and_shows_every_alarm_that_there_is(expanded):
    body, variables = one(expanded, "AWS::CloudWatch::Dashboard")["DashboardBody"]["Fn::Sub"]
    shown = dict.fromkeys(re.findall(r"\$\{(\w+Alarm)\.Arn\}", body))
    without = with_them = body
    for name, value in variables.items():
        condition, there, absent = value["Fn::If"]
        shown |= dict.fromkeys(re.findall(r"\$\{(\w+Alarm)\.Arn\}", there["Fn::Sub"]), condition)
        with_them = with_them.replace(f"${{{name}}}", there["Fn::Sub"])
        without = without.replace(f"${{{name}}}", absent)
    for text in (with_them, without):
        json.loads(re.sub(r"\$\{[\w:.]+\}", "x", text))
    assert shown == {
        name: resource.get("Condition") for name, resource in expanded["Resources"].items()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    }


def test_the_line_of_an_order_is_never_filtered_away(expanded):
    logging = one(expanded, "AWS::Lambda::Function")["LoggingConfig"]
    assert logging["LogFormat"] == "JSON"
    assert logging["ApplicationLogLevel"] == {"Ref": "LogLevel"}
    assert set(expanded["Parameters"]["LogLevel"]["AllowedValues"]) <= {"TRACE", "DEBUG", "INFO"}


@pytest.mark.parametrize(
    ("pattern", "line", "expected"),
    [
        ('{ $.a = "b" }', {"a": "b"}, True),
        ('{ $.a = "b" }', {"a": "bc"}, False),
        ('{ $.a = "b*" }', {"a": "bc"}, True),
        ('{ $.a != "b*" }', {"a": "bc"}, False),
        ('{ $.a != "b*" }', {"a": "c"}, True),
        ('{ $.a != "b*" }', {}, False),
        ('{ $.a = "(b)" }', {"a": "b"}, False),
        ('{ $.a = * }', {"a": 0}, True),
        ('{ $.a = * }', {"b": 0}, False),
        ('{ $.a > 0 }', {"a": 1}, True),
        ('{ $.a > 0 }', {"a": 0}, False),
        ('{ $.a > 0 }', {"a": "1"}, False),
        ('{ ($.a = "x") || ($.a = "y") && ($.b = "z") }', {"a": "x"}, True),
        ('{ (($.a = "x") || ($.a = "y")) && ($.b = "z") }', {"a": "x"}, False),
        ('{ (($.a = "x") || ($.a = "y")) && ($.b = "z") }', {"a": "y", "b": "z"}, True),
    ],
)
def test_a_filter_pattern_is_evaluated_as_documented(pattern, line, expected):
    assert metric_filter.matches(pattern, line) is expected


@pytest.mark.parametrize("pattern", ['$.a = "b"', '{ $.a = b }', '{ ($.a = "b" }', '{ $.a = "b" && }', '{ $.a > "b" }', "{ }"])
def test_a_filter_pattern_that_cannot_be_evaluated_is_an_error(pattern):
    with pytest.raises(ValueError):
        metric_filter.matches(pattern, {"a": "b"})


@pytest.mark.parametrize("page", [*ENGLISH.values(), *CHINESE.values()], ids=name_of)
def test_the_patterns_that_pages_show_find_the_lines_that_they_are_for(page):
    """One order's lines by its number; else all that somebody has to look at."""
    patterns = re.findall(r"--filter-pattern '([^']*)'", read(page))
    assert len(patterns) == read(page).count("filter-pattern") == (2 if page.name == "operate.md" else 0)
    lines = [ORDER | {"out_trade_no": "2"} | line for line, _ in LINES] + [line for line, _ in OTHER_LINES]
    for pattern in patterns:
        if wanted := re.findall(r'\$\.out_trade_no = "(\w+)"', pattern):
            assert not any(metric_filter.matches(pattern, line) for line in lines)
            assert all(metric_filter.matches(pattern, line | {"out_trade_no": wanted[0]}) for line in lines)
            continue
        for line in lines:
            done = line.get("outcome") in ("closed", "paid") or line.get("message") != "order"
            look = line.get("level") == "ERROR" or not done
            assert metric_filter.matches(pattern, line) == look, (pattern, line)


# ------------------------------------------------------------------------------------------------------------- time


def test_the_timeout_covers_what_the_function_does_at_most(expanded):
    timeout = expanded["Parameters"]["WechatPayTimeoutMs"]["MaxValue"] / 1000
    attempts, pause, secret, publishing, answering = 3, 0.5, 4, 3, 0.25
    needed = attempts * timeout + (attempts - 1) * pause + secret + publishing + answering
    assert one(expanded, "AWS::Lambda::Function")["Timeout"] >= needed


def test_the_api_waits_longer_than_the_function_runs(expanded):
    (route,) = one(expanded, "AWS::ApiGatewayV2::Api")["Body"]["paths"]["/close-order"].values()
    wait = route["x-amazon-apigateway-integration"]["timeoutInMillis"]
    assert one(expanded, "AWS::Lambda::Function")["Timeout"] * 1000 < wait <= 30000


def test_a_batch_comes_back_only_when_lambda_is_done_with_it(expanded):
    queue = every(expanded, "AWS::SQS::Queue")["OrdersQueue"]
    mapping = one(expanded, "AWS::Lambda::EventSourceMapping")
    function = one(expanded, "AWS::Lambda::Function")
    # AWS advises six times the function's timeout, and the batch window on top.
    assert queue["VisibilityTimeout"] >= 6 * function["Timeout"] + mapping.get("MaximumBatchingWindowInSeconds", 0)
    # The function closes ten orders at once.
    assert mapping["BatchSize"] == 10
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_what_is_given_up_is_kept_longer_than_what_waits(expanded):
    queues = every(expanded, "AWS::SQS::Queue")
    assert queues["OrdersQueue"]["MessageRetentionPeriod"] < queues["OrdersDeadLetterQueue"]["MessageRetentionPeriod"]


# ----------------------------------------------------------------------------------------------- who may do what


def test_the_function_may_do_only_this(expanded):
    role = expanded["Resources"]["FunctionRole"]["Properties"]
    assert "ManagedPolicyArns" not in role
    allowed = {}
    for policy in role["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            (condition, then, otherwise) = statement.get("Fn::If", [None, statement, None])
            statement = otherwise if then == {"Ref": "AWS::NoValue"} else then
            if statement["Effect"] == "Allow":
                for action in [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]:
                    allowed[action] = statement["Resource"]
    bus = allowed.pop("events:PutEvents")
    queue = {"Fn::GetAtt": ["OrdersQueue", "Arn"]}
    assert allowed == {
        "secretsmanager:GetSecretValue": {"Ref": "SecretArn"},
        "kms:Decrypt": {"Ref": "SecretKmsKeyArn"},
        "logs:CreateLogStream": {"Fn::GetAtt": ["FunctionLogGroup", "Arn"]},
        "logs:PutLogEvents": {"Fn::GetAtt": ["FunctionLogGroup", "Arn"]},
        "sqs:ReceiveMessage": queue,
        "sqs:DeleteMessage": queue,
        "sqs:GetQueueAttributes": queue,
        "sqs:SendMessage": queue,
        # These know no resources.
        "xray:PutTraceSegments": "*",
        "xray:PutTelemetryRecords": "*",
        "ec2:CreateNetworkInterface": "*",
        "ec2:DeleteNetworkInterface": "*",
        "ec2:DescribeNetworkInterfaces": "*",
        "ec2:DescribeSubnets": "*",
        "ec2:AssignPrivateIpAddresses": "*",
        "ec2:UnassignPrivateIpAddresses": "*",
    }
    # The bus alone, whether it is given by its name or by its ARN.
    arn, variables = bus["Fn::Sub"]
    index, split = variables["Bus"]["Fn::Select"]
    separator, text = split["Fn::Split"]
    for given in ("orders", "arn:aws-cn:events:cn-north-1:123456789012:event-bus/orders"):
        assert text["Fn::Sub"].replace("${OutcomeEventBus}", given).split(separator)[int(index)] == "orders"
    assert arn.endswith(":event-bus/${Bus}")


def test_nobody_calls_without_permission(expanded):
    body = one(expanded, "AWS::ApiGatewayV2::Api")["Body"]
    assert [*body["paths"]] == ["/close-order"]
    ((method, route),) = body["paths"]["/close-order"].items()
    assert method == "post"
    (wanted,) = route["security"]
    (scheme,) = wanted
    assert body["components"]["securitySchemes"][scheme]["x-amazon-apigateway-authtype"] == "awsSigv4"
    permission = one(expanded, "AWS::Lambda::Permission")
    assert permission["Principal"] == "apigateway.amazonaws.com"
    assert "${HttpApi}/*/POST/close-order" in permission["SourceArn"]["Fn::Sub"]
    assert not every(expanded, "AWS::Lambda::Url")


def test_the_roles_for_callers_serve_this_account_alone(expanded):
    for name in ("SchedulerRole", "StateMachineRole"):
        (trust,) = expanded["Resources"][name]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        conditions = {key: value for test in trust["Condition"].values() for key, value in test.items()}
        assert conditions["aws:SourceAccount"] == {"Ref": "AWS::AccountId"}, name
        assert conditions["aws:SourceArn"], name


def test_nothing_sends_outcome_events_to_the_orders_queue(expanded):
    rule = one(expanded, "AWS::Events::Rule")
    assert rule["State"] == "DISABLED"
    assert "Targets" not in rule


def test_the_dead_letter_queue_has_one_source(expanded):
    """`start-message-move-task` moves only what came from a queue."""
    arn = {"Fn::GetAtt": ["OrdersDeadLetterQueue", "Arn"]}
    assert every(expanded, "AWS::SQS::Queue")["OrdersQueue"]["RedrivePolicy"]["deadLetterTargetArn"] == arn
    assert one(expanded, "AWS::Lambda::Function")["DeadLetterConfig"] == {"TargetArn": {"Fn::GetAtt": ["OrdersQueue", "Arn"]}}
    for name, role in every(expanded, "AWS::IAM::Role").items():
        assert "OrdersDeadLetterQueue" not in json.dumps(role), name


# -------------------------------------------------------------------------------------------------- releases


def test_with_a_release_every_trigger_and_output_uses_the_alias(expanded):
    function, alias = {"Ref": "CloseOrderFunction"}, {"Ref": "LiveAlias"}
    arn = {"Fn::GetAtt": ["CloseOrderFunction", "Arn"]}
    assert one(expanded, "AWS::Lambda::EventSourceMapping")["FunctionName"] == {"Fn::If": ["HasRelease", alias, function]}
    assert one(expanded, "AWS::Lambda::Permission")["FunctionName"] == {"Fn::If": ["HasRelease", alias, function]}
    assert expanded["Outputs"]["FunctionArn"]["Value"] == {"Fn::If": ["HasRelease", alias, arn]}
    route = one(expanded, "AWS::ApiGatewayV2::Api")["Body"]["paths"]["/close-order"]["post"]
    condition, released, plain = route["x-amazon-apigateway-integration"]["uri"]["Fn::If"]
    assert condition == "HasRelease"
    assert "/${LiveAlias}/" in released["Fn::Sub"]
    assert plain["Fn::Sub"] == released["Fn::Sub"].replace("${LiveAlias}", "${CloseOrderFunction.Arn}")


def test_a_release_is_rolled_back_on_alarms_that_there_always_are(expanded):
    alarms = [alarm["Name"]["Ref"] for alarm in one(expanded, "AWS::CodeDeploy::DeploymentGroup")["AlarmConfiguration"]["Alarms"]]
    assert alarms
    for alarm in alarms:
        assert "Condition" not in expanded["Resources"][alarm]


# -------------------------------------------------------------------------------------------------- parameters


def test_every_parameter_is_described_grouped_and_used(expanded, template):
    parameters = expanded["Parameters"]
    everything = json.dumps([expanded["Resources"], expanded["Conditions"]])
    interface = template["Metadata"]["AWS::CloudFormation::Interface"]
    assert sorted(name for group in interface["ParameterGroups"] for name in group["Parameters"]) == sorted(parameters)
    assert sorted(interface["ParameterLabels"]) == sorted(parameters)
    for name, parameter in parameters.items():
        assert parameter["Description"], name
        assert f'{{"Ref": "{name}"}}' in everything or f"${{{name}}}" in everything, f"{name} is not used"


def test_only_the_secret_has_to_be_given_and_every_default_is_allowed(expanded):
    parameters = expanded["Parameters"]
    assert [name for name, parameter in parameters.items() if "Default" not in parameter] == ["SecretArn"]
    for name, parameter in parameters.items():
        default = parameter.get("Default")
        if "AllowedPattern" in parameter and default is not None:
            assert re.fullmatch(parameter["AllowedPattern"], default), name
        if "AllowedValues" in parameter:
            assert default in parameter["AllowedValues"], name
        if "MinValue" in parameter:
            assert parameter["MinValue"] <= default <= parameter["MaxValue"], name


def test_defaults_are_the_functions_own(expanded):
    written = sources()
    assert f'"{expanded["Parameters"]["WechatPayEndpoints"]["Default"]}"' in written
    for parameter, constant in (("WechatPayTimeoutMs", "DEFAULT_TIMEOUT_MS"), ("SecretCacheTtlSeconds", "DEFAULT_TTL_SECONDS")):
        (value,) = re.findall(rf"const {constant}: u64 = ([0-9_]+);", written)
        assert expanded["Parameters"][parameter]["Default"] == int(value)


@pytest.mark.parametrize(
    ("parameter", "value", "allowed"),
    [
        ("SecretArn", "arn:aws:secretsmanager:ap-east-1:123456789012:secret:wechat-pay/merchant-a1B2c3", True),
        ("SecretArn", "arn:aws-cn:secretsmanager:cn-north-1:123456789012:secret:merchant-a1B2c3", True),
        ("SecretArn", "wechat-pay/merchant", False),
        ("SecretArn", "arn:aws:secretsmanager:ap-east-1:123456789012:secret:merchant", False),
        ("SecretArn", "arn:aws:secretsmanager:ap-east-1:123456789012:secret:*", False),
        ("WechatPayEndpoints", "https://api.mch.weixin.qq.com", True),
        ("WechatPayEndpoints", "https://pay.example.com:8443/wechat", True),
        ("WechatPayEndpoints", "https://pay.example.com/pay", True),
        ("WechatPayEndpoints", "https://10.0.0.7,https://[fd00::7]:8443/", True),
        ("WechatPayEndpoints", "http://127.0.0.1:8080,http://host.docker.internal:8080,http://[::1]:8080", True),
        ("WechatPayEndpoints", "", False),
        ("WechatPayEndpoints", "api.mch.weixin.qq.com", False),
        ("WechatPayEndpoints", "httpx://api.mch.weixin.qq.com", False),
        ("WechatPayEndpoints", "http://api.mch.weixin.qq.com", False),
        ("WechatPayEndpoints", "http://127.0.0.1.example.com", False),
        ("WechatPayEndpoints", "https://api.mch.weixin.qq.com;https://api2.mch.weixin.qq.com", False),
        ("WechatPayEndpoints", "https://api.mch.weixin.qq.com\nhttps://api2.mch.weixin.qq.com", False),
        ("WechatPayEndpoints", "https://api.mch.weixin.qq.com\n", False),
        ("WechatPayEndpoints", "https://a.example.com, https://b.example.com", False),
        ("WechatPayEndpoints", "https://a.example.com,", False),
        ("WechatPayEndpoints", "https://user@a.example.com", False),
        ("WechatPayEndpoints", "https://a.example.com?x=1", False),
        ("WechatPayEndpoints", "https://a..example.com", False),
        ("WechatPayEndpoints", "https://a.example.com/pay/closeorder", False),
        ("WechatPayEndpoints", "https://a.example.com/pay/orderquery/", False),
        ("WechatPayEndpoints", "https://a.example.com/pay/closeorder,https://b.example.com", False),
        ("SecretsManagerEndpoint", "https://vpce-1-a.secretsmanager.cn-north-1.vpce.amazonaws.com.cn", True),
        ("SecretsManagerEndpoint", "http://host.docker.internal:9711", True),
        ("SecretsManagerEndpoint", "http://secrets.example.com", False),
        ("SecretsManagerEndpoint", "https://a.example.com;https://b.example.com", False),
        ("EventBridgeEndpoint", "https://vpce-1-a.events.cn-north-1.vpce.amazonaws.com.cn", True),
        ("EventBridgeEndpoint", "http://events.example.com", False),
        ("OutcomeEventBus", "", True),
        ("OutcomeEventBus", "orders", True),
        ("OutcomeEventBus", "arn:aws-cn:events:cn-north-1:123456789012:event-bus/orders", True),
        ("OutcomeEventBus", "arn:aws:sqs:us-east-1:123456789012:orders", False),
        ("OutcomeEventBus", "two buses", False),
        ("AlarmEmail", "ops@example.com", True),
        ("AlarmEmail", "ops@example.com,dev@example.com", False),
        ("Release", "2026-12-01.2", True),
        ("Release", "two words", False),
    ],
)
def test_a_parameter_takes_what_it_means(expanded, parameter, value, allowed):
    assert bool(re.fullmatch(expanded["Parameters"][parameter]["AllowedPattern"], value)) is allowed


# -------------------------------------------------------------------------------------------------- partitions


def test_the_expansion_is_the_same_in_every_partition(expanded):
    assert expand.expanded("cn-north-1") == expanded


def test_no_address_or_arn_is_bound_to_one_partition(expanded):
    text = json.dumps([expanded["Resources"], expanded["Outputs"]])
    assert "arn:aws:" not in text
    assert set(re.findall(r"[\w.${}:-]+\.amazonaws\.com(?![\w.])", text)) == {
        # Service principals, the same everywhere.
        "lambda.amazonaws.com", "apigateway.amazonaws.com", "scheduler.amazonaws.com", "states.amazonaws.com",
        "codedeploy.amazonaws.com",
        # Beside the partition's own spelling.
        "secretsmanager.${AWS::Region}.amazonaws.com",
    }


def test_what_china_lacks_is_left_out_there(expanded):
    """https://docs.amazonaws.cn/en_us/aws/latest/userguide/lambda.html: no X-Ray, no AsyncEventsDropped, no function URLs."""
    assert one(expanded, "AWS::Lambda::Function")["TracingConfig"] == {"Mode": {"Fn::If": ["IsChina", "PassThrough", "Active"]}}
    for name, alarm in every(expanded, "AWS::CloudWatch::Alarm").items():
        if alarm.get("MetricName", "").startswith("AsyncEvent"):
            assert expanded["Resources"][name]["Condition"] == "OutsideChina", name
    for policy in expanded["Resources"]["FunctionRole"]["Properties"]["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            assert "xray:" not in str(statement) or statement["Fn::If"][:2] == ["IsChina", {"Ref": "AWS::NoValue"}]


# -------------------------------------------------------------------------------------------------- examples


def test_the_examples_fit_the_stacks_outputs(expanded):
    shops = {"ReleaseStockArn", "BookPaymentArn"}
    for file in sorted((ROOT / "examples").glob("*.json")):
        text = file.read_text(encoding="utf-8")
        json.loads(text)
        assert set(re.findall(r"\$\{(\w+)\}", text)) - shops <= set(expanded["Outputs"]), file.name


@pytest.mark.parametrize("file", ["step-functions.json", "step-functions-wait.json"])
def test_a_state_machine_retries_every_passing_failure(file):
    machine = json.loads((ROOT / "examples" / file).read_text(encoding="utf-8"))
    (retry,) = machine["States"]["CloseOrder"]["Retry"]
    lambdas = {
        "Lambda.ServiceException", "Lambda.AWSLambdaException", "Lambda.SdkClientException", "Lambda.TooManyRequestsException",
        "Lambda.ClientExecutionTimeoutException", "Lambda.Unknown", "Sandbox.Timedout", "Runtime.ExitError",
    }
    own = set(retry["ErrorEquals"]) - lambdas
    assert lambdas < set(retry["ErrorEquals"])
    written = sources()
    assert own == {"CredentialsUnavailable", "GatewayUnreachable", "ReplyInvalid", "DeadlineExceeded", "InternalError"}
    for name in own:
        assert f'"{name}"' in written
