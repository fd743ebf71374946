"""What has to agree between template.yaml, SAM's expansion of it, the function and the examples.

No emulator evaluates metric filters or alarms, so the filters are checked here, with metric_filter.py, and the alarms in
test_drill.py.
"""

import datetime
import json
import re

import expand
import metric_filter
import pytest
from expand import every, one
from pages import CHINESE, ENGLISH, name_of, read
from tools import ROOT, event, free_port, order

# The line of an order, with every field it may have.
ORDER = {
    "timestamp": "2026-01-01T00:00:00.000000Z",
    "level": "INFO",
    "message": "order",
    "outcome": "closed",
    "confirmed": True,
    "mch_id": "1900000109",
    "sub_mch_id": "1900000109",
    "out_trade_no": "1217752501201407033233368018",
    "message_id": "059f36b4-87a3-44ab-83d2-661975830a7d",
    "receives": 1,
    "overdue_s": 2,
    "endpoint": "https://api.mch.weixin.qq.com",
    "attempts": 1,
    "queries": 1,
    "duration_ms": 131,
    "wechat_pay_request_id": "08F78BB5AF0610D302",
    "requestId": "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
    "xray_trace_id": "1-5759e988-bd862e3fe1be46a994272793",
    "cold_start": True,
    "version": "0.3.0",
    "target": "close_order::close_order::order_log",
}
SOMETIMES = {
    "reason", "cause", "query_cause", "return_msg", "err_code_des", "trade_state", "transaction_id", "stuck", "until",
    "variable",
}
# What a direct call's line does not have.
DIRECT = dict.fromkeys(("message_id", "receives", "overdue_s"))
NOTHING_SENT = {"attempts": 0, "queries": 0}

SENT = {"OrderDuration": [(131.0,)], "Requests": [(1.0,), (1.0,)]}
SHARES = {"OrdersFailed": [(0.0,)], "OrdersNotFound": [(0.0,)], "OrdersNotConfirmed": [(0.0,)]}
ONE = [(1.0,)]
FAILED = SHARES | {"OrdersFailed": ONE}
END = {"OrderOverdue": [(2.0,)]}


def reason(name):
    return {"OrdersByReason": [(name, 1.0)]}


LINES = [
    ({}, SHARES | SENT | END),
    (DIRECT, SHARES | SENT),
    ({"reason": "ORDERCLOSED"}, SHARES | SENT | END),
    ({"outcome": "paid", "reason": "ORDERPAID"}, SHARES | SENT | END),
    # An order with a close_at makes its first attempt at its second receive or later.
    ({"receives": 3, "overdue_s": 179}, SHARES | SENT | {"OrderOverdue": [(179.0,)]}),
    ({"outcome": "not_found", "level": "WARN", "reason": "ORDERNOTEXIST"},
     SHARES | SENT | END | {"OrdersNotFound": ONE} | reason("ORDERNOTEXIST")),
    ({"outcome": "open", "level": "WARN", "reason": "ORDERNOTCLOSED"}, SHARES | SENT | reason("ORDERNOTCLOSED")),
    ({"outcome": "unknown", "level": "ERROR", "reason": "SYSTEMERROR"}, FAILED | SENT | reason("SYSTEMERROR")),
    ({"outcome": "unknown", "level": "ERROR"}, FAILED | SENT),
    ({"outcome": "unknown", "level": "ERROR", "reason": "NOTCONFIRMED", "confirmed": False},
     FAILED | SENT | {"OrdersNotConfirmed": ONE} | reason("NOTCONFIRMED")),
    # A later attempt is no other order.
    ({"outcome": "unknown", "level": "ERROR", "reason": "SYSTEMERROR", "receives": 2, "overdue_s": 180},
     SENT | reason("SYSTEMERROR")),
    ({"outcome": "unknown", "level": "ERROR", "reason": "SYSTEMERROR", "receives": 10, "overdue_s": 1620, "stuck": True},
     SENT | reason("SYSTEMERROR") | {"OrdersStuck": ONE}),
    ({"outcome": "rejected", "level": "WARN", "reason": "signature"},
     SHARES | SENT | {"OrdersRejected": ONE} | reason("signature")),
    ({"outcome": "rejected", "level": "WARN", "reason": "unsigned_fail", "receives": 9, "overdue_s": 1440},
     SENT | {"OrdersRejected": ONE} | reason("unsigned_fail")),
    # The rate limit is nobody's fault, nor is a call that came too early.
    ({"outcome": "unknown", "level": "WARN", "reason": "rate_limited"}, SENT | reason("rate_limited")),
    ({"outcome": "not_sent", "level": "WARN", "reason": "rate_limited"} | NOTHING_SENT, reason("rate_limited")),
    ({"outcome": "not_sent", "level": "WARN", "reason": "too_young"} | DIRECT | NOTHING_SENT,
     {"OrdersTooYoung": ONE} | reason("too_young")),
    ({"outcome": "not_sent", "level": "WARN", "reason": "not_due"} | DIRECT | NOTHING_SENT, reason("not_due")),
    ({"outcome": "not_sent", "level": "WARN", "reason": "invalid_input"} | NOTHING_SENT,
     SHARES | {"EventsNotUnderstood": ONE} | reason("invalid_input")),
    ({"outcome": "not_sent", "level": "WARN", "reason": "invalid_input", "receives": 2} | NOTHING_SENT,
     SHARES | reason("invalid_input")),
    ({"outcome": "not_sent", "level": "ERROR", "reason": "CredentialsUnavailable"} | NOTHING_SENT,
     FAILED | {"CredentialsUnavailable": ONE} | reason("CredentialsUnavailable")),
    # One mistyped number must not ring for all.
    ({"outcome": "not_sent", "level": "WARN", "reason": "no_such_merchant"} | NOTHING_SENT,
     SHARES | reason("no_such_merchant")),
    ({"outcome": "not_sent", "level": "ERROR", "reason": "other_queue"} | NOTHING_SENT, FAILED | reason("other_queue")),
    ({"outcome": "not_sent", "level": "ERROR", "reason": "GatewayUnreachable"}, FAILED | SENT | reason("GatewayUnreachable")),
    # A fault stays a fault where a query has shown the order open.
    ({"outcome": "open", "level": "ERROR", "reason": "GatewayUnreachable"}, FAILED | SENT | reason("GatewayUnreachable")),
    ({"outcome": "unknown", "level": "ERROR", "reason": "ReplyInvalid", "cause": "its signature does not match"},
     FAILED | SENT | {"RepliesNotVerified": ONE} | reason("ReplyInvalid")),
    ({"outcome": "unknown", "level": "ERROR", "reason": "ReplyInvalid", "cause": "HTTP status 403, its root is not <xml>"},
     FAILED | SENT | reason("ReplyInvalid")),
    ({"outcome": "unknown", "level": "ERROR", "reason": "ReplyInvalid", "cause": "the answer is not HTTP"},
     FAILED | SENT | reason("ReplyInvalid")),
]
OTHER_LINES = [
    ({"message": "start", "level": "INFO", "secret_read": True, "duration_ms": 3}, {}),
    ({"type": "platform.start"}, {}),
    ({"message": "waiting", "level": "INFO", "out_trade_no": "1", "until": "2026-11-28T04:30:00Z"}, {"OrdersWaiting": ONE}),
    ({"message": "no order", "level": "ERROR", "reason": "UnsupportedEvent", "outcome": "not_sent"},
     {"EventsNotUnderstood": ONE}),
    ({"message": "no order", "level": "WARN", "reason": "invalid_input", "outcome": "not_sent", "receives": 2}, {}),
    ({"message": "the secret could not be read", "level": "WARN", "cause": "ThrottlingException", "cached": True},
     {"SecretNotRead": ONE}),
    ({"message": "the secret is malformed", "level": "WARN", "cause": "api_key"}, {"SecretNotRead": ONE}),
    ({"message": "outcome event not published", "level": "ERROR", "out_trade_no": "1", "cause": "ThrottlingException"},
     {"EventsNotPublished": ONE}),
    ({"message": "invalid batch", "level": "ERROR", "reason": "InvalidBatch"}, {"EventsNotUnderstood": ONE}),
]


def line_of(fields):
    return {name: value for name, value in (ORDER | fields).items() if value is not None}


def sources():
    return "".join(file.read_text(encoding="utf-8") for file in sorted((ROOT / "src").rglob("*.rs")))


# -------------------------------------------------------------------------------------------------- metrics and alarms


@pytest.mark.parametrize(("line", "metrics"), LINES)
def test_the_line_of_an_order_counts_for_its_metrics(expanded, line, metrics):
    line = line_of(line)
    assert metric_filter.metrics(expanded, line) == metrics | {"OrdersByOutcome": [(line["outcome"], 1.0)]}


@pytest.mark.parametrize(("line", "metrics"), OTHER_LINES)
def test_another_line_counts_for_nothing_else(expanded, line, metrics):
    assert metric_filter.metrics(expanded, line) == metrics


def test_real_lines_count_for_their_metrics(expanded, rie, sandbox):
    scenarios = (
        "CHECKS", "ORDERPAID", "ORDERNOTEXIST", "NEVERSTICKING", "USERPAYING", "SYSTEMERROR", "SIGNERROR", "FORGED",
        "RESET", "APPIDMISMATCH", "RATELIMIT", "QUERYDOWN")
    sns = {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": json.dumps(order())}}]}
    no_id = {"Records": [{"eventSource": "aws:sqs", "body": json.dumps(order())}]}
    nobody = f"http://127.0.0.1:{free_port()}"
    batch = event("sqs")
    queue = batch["Records"][0]["eventSourceARN"].split(":")
    settings = {
        "OUTCOME_EVENT_BUS": "orders", "AWS_ENDPOINT_URL_EVENTBRIDGE": nobody, "AWS_ENDPOINT_URL_SQS": nobody,
        "ORDERS_QUEUE_URL": f"{nobody}/{queue[4]}/{queue[5]}"}
    late = json.loads(json.dumps(batch["Records"][0]))
    late["messageId"], late["body"] = "late", json.dumps(order("SYSTEMERROR"))
    late["attributes"] |= {"ApproximateReceiveCount": "10", "ApproximateFirstReceiveTimestamp": "1700000000000"}
    waits = json.loads(json.dumps(batch["Records"][0]))
    waits["messageId"], waits["body"] = "waits", json.dumps(order(close_at=in_an_hour()))
    batch["Records"] += [late, waits]
    lines = []
    with rie(sandbox.environment(**settings)) as invoke:
        orders = [order(scenario, confirm=True) for scenario in scenarios]
        young = order(time_start=f"{beijing():%Y%m%d%H%M%S}")
        for what in (*orders, young, event("bad-input"), batch, sns, no_id):
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
        counts = line.get("overdue_s", 0) < 180 and why not in ("rate_limited", "too_young", "not_due")
        failed = outcome == "unknown" or line["level"] == "ERROR"
        assert made.get("OrdersFailed") == ([(float(failed),)] if counts else None), line
        assert made.get("OrdersNotFound") == ([(float(outcome == "not_found"),)] if counts else None), line
        assert made.get("OrdersNotConfirmed") == ([(float(why == "NOTCONFIRMED"),)] if counts else None), line
        assert ("OrdersRejected" in made) == (outcome == "rejected"), line
    assert {line["outcome"] for line, _ in orders} == {
        "closed", "paid", "not_found", "open", "unknown", "rejected", "not_sent"}
    # None of the metrics waits for a line that is never written.
    filters = every(expanded, "AWS::Logs::MetricFilter").values()
    assert {name for _, made in metrics for name in made} == {
        properties["MetricTransformations"][0]["MetricName"] for properties in filters}


def beijing():
    return datetime.datetime.now(datetime.timezone(datetime.timedelta(hours=8)))


def in_an_hour():
    return (beijing() + datetime.timedelta(hours=1)).isoformat(timespec="seconds")


def test_filters_and_saved_queries_use_fields_that_the_log_has(expanded):
    known = {*ORDER, *SOMETIMES}
    assert metric_filter.fields(expanded) <= known
    queries = every(expanded, "AWS::Logs::QueryDefinition")
    assert queries
    for name, query in queries.items():
        text = re.sub(r'"[^"]*"', "", query["QueryString"])
        made = {*re.findall(r" as (\w+)", text), "timestamp"}
        words = {*re.findall(r"[a-zA-Z]\w*", text)} - {
            "fields", "filter", "stats", "sort", "limit", "by", "as", "asc", "desc", "and", "not", "in", "count", "min",
            "max", "sum", "strcontains", "ispresent"}
        assert words - made <= known, name


def test_filters_look_for_words_that_the_function_writes(expanded):
    written = sources()
    for name, made in every(expanded, "AWS::Logs::MetricFilter").items():
        for word in re.findall(r'"([^"]+)"', made["FilterPattern"]):
            assert f'"{word}"' in written or ("*" in word and word.strip("*") in written), f"{name}: {word}"


def test_alarms_watch_metrics_as_they_are_published(expanded):
    """A metric with dimensions and an alarm without them, or the other way round, never meet."""
    published = {}
    for properties in every(expanded, "AWS::Logs::MetricFilter").values():
        assert properties["LogGroupName"] == {"Ref": "FunctionLogGroup"}
        (made,) = properties["MetricTransformations"]
        assert made["MetricNamespace"] == {"Fn::Sub": "CloseOrder/${AWS::StackName}"}
        published[made["MetricName"]] = [dimension["Key"] for dimension in made.get("Dimensions", [])]
    own = {"Fn::Sub": "CloseOrder/${AWS::StackName}"}
    watched = {}
    for alarm in every(expanded, "AWS::CloudWatch::Alarm").values():
        for metric in [alarm, *(part["MetricStat"]["Metric"] for part in alarm.get("Metrics", []) if "MetricStat" in part)]:
            if metric.get("Namespace") == own:
                watched[metric["MetricName"]] = [dimension["Name"] for dimension in metric.get("Dimensions", [])]
    assert watched == {name: keys for name, keys in published.items() if name in watched}
    # The others are the dashboard's.
    (body, _) = one(expanded, "AWS::CloudWatch::Dashboard")["DashboardBody"]["Fn::Sub"]
    for name in set(published) - set(watched):
        assert name in body, name


def test_two_alarms_notify_and_every_other_belongs_to_one_of_them(expanded):
    alarms, groups = every(expanded, "AWS::CloudWatch::Alarm"), every(expanded, "AWS::CloudWatch::CompositeAlarm")
    assert not [name for name, alarm in alarms.items() if "AlarmActions" in alarm or "OKActions" in alarm]
    first, second = groups.values()
    assert first["AlarmActions"] == first["OKActions"] == second["AlarmActions"] == second["OKActions"]
    # OrdersFailed holds QueueStalled back in the other group.
    children = [child for group in groups.values() for child in re.findall(r"(NOT )?ALARM\(\W+(\w+)", json.dumps(group["AlarmRule"]))]
    assert sorted(child for held_back, child in children if not held_back) == sorted(alarms)
    for name, alarm in (alarms | groups).items():
        assert 60 < len(alarm["AlarmDescription"]) <= 1024, name
        assert re.search("[\u4e00-\u9fff]{2}", alarm["AlarmDescription"]), f"{name} says nothing in Chinese"
    for named in re.findall(r'saved query "([^"]+)"', json.dumps(alarms).replace('\\"', '"')):
        assert any(query["Name"]["Fn::Sub"].endswith(f"/{named}")
                   for query in every(expanded, "AWS::Logs::QueryDefinition").values())


@pytest.mark.parametrize(("due", "done", "waiting", "stalled"), [
    (5, 0, 0, 1), (5, 3, 0, 0), (0, 0, 0, 0), (5, 0, 2, 0), (0, 0, 7, 0)])
def test_a_queue_whose_orders_wait_is_not_stalled(expanded, due, done, waiting, stalled):
    expression, *inputs = every(expanded, "AWS::CloudWatch::Alarm")["QueueStalledAlarm"]["Metrics"]
    assert [metric["Id"] for metric in inputs] == ["due", "done", "waiting"]
    text = re.sub(r"FILL\((\w+), 0\)", r"\1", expression["Expression"])
    condition, then, otherwise = re.fullmatch(r"IF\((.*), (\d), (\d)\)", text).groups()
    is_so = eval(condition.replace(" AND ", " and "), {"due": due, "done": done, "waiting": waiting})
    assert int(then if is_so else otherwise) == stalled


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
        if resource["Type"] in ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
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
        ('{ $.a NOT EXISTS }', {"b": 0}, True),
        ('{ $.a NOT EXISTS }', {"a": 0}, False),
        ('{ $.a IS TRUE }', {"a": True}, True),
        ('{ $.a IS TRUE }', {"a": "true"}, False),
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


@pytest.mark.parametrize("page", [ENGLISH["operate.md"], CHINESE["operate.md"]], ids=name_of)
def test_the_patterns_that_pages_show_find_the_lines_that_they_are_for(page):
    """One order's lines by its number; orders that left as not found; else all that somebody has to look at."""
    patterns = re.findall(r"--filter-pattern '([^']*)'", read(page))
    assert len(patterns) == read(page).count("filter-pattern") == 3
    lines = [line_of({"out_trade_no": "2"} | line) for line, _ in LINES] + [line for line, _ in OTHER_LINES]
    for pattern in patterns:
        if wanted := re.findall(r'\$\.out_trade_no = "(\w+)"', pattern):
            assert not any(metric_filter.matches(pattern, line) for line in lines)
            assert all(metric_filter.matches(pattern, line | {"out_trade_no": wanted[0]}) for line in lines)
            continue
        for line in lines:
            of_the_queue = line.get("outcome") == "not_found" and "message_id" in line
            done = line.get("outcome") in ("closed", "paid") or line.get("message") not in ("order", "no order")
            look = of_the_queue if "not_found" in pattern else line.get("level") == "ERROR" or not done
            assert metric_filter.matches(pattern, line) == look, (pattern, line)


# -------------------------------------------------------------------------------------------------- times


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


def test_every_attempt_fits_into_the_time_that_a_message_is_kept(expanded):
    """24 hours until close_at, and the most attempts; then 14 days, counted from when it was sent, to look at it."""
    queues, parameters = every(expanded, "AWS::SQS::Queue"), expanded["Parameters"]
    orders, dead = queues["OrdersQueue"], queues["OrdersDeadLetterQueue"]
    attempts = parameters["QueueAttempts"]["MaxValue"] * orders["VisibilityTimeout"]
    ahead = 24 * 3600 + 300 + parameters["QueueDelaySeconds"]["MaxValue"]
    assert ahead + attempts < orders["MessageRetentionPeriod"] < dead["MessageRetentionPeriod"]


def test_a_day_of_attempts_and_what_is_stuck_are_the_functions_and_the_pages(expanded):
    visibility = every(expanded, "AWS::SQS::Queue")["OrdersQueue"]["VisibilityTimeout"]
    attempts = expanded["Parameters"]["QueueAttempts"]["Default"]
    assert attempts * visibility == 24 * 3600
    # The tenth attempt.
    assert re.search(rf"\b(1_620|{9 * visibility})\b", sources()), "when an order is stuck"
    # A share counts an order's first attempt alone.
    patterns = [made["FilterPattern"] for made in every(expanded, "AWS::Logs::MetricFilter").values()]
    assert {*re.findall(r"overdue_s < (\d+)", " ".join(patterns))} == {str(visibility)}
    five_times = re.compile(r"five times|五次|QueueMaxReceiveCount")
    for page in (*ENGLISH.values(), *CHINESE.values()):
        assert not five_times.search(read(page)), f"{name_of(page)} counts attempts as they were before"
        if page.name == "deploy.md":
            assert str(attempts) in read(page)


# ----------------------------------------------------------------------------------------------- who may do what


def test_only_what_has_no_name_is_allowed_on_everything(expanded):
    nameless = {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}
    for name, role in every(expanded, "AWS::IAM::Role").items():
        assert "ManagedPolicyArns" not in role, name
        for policy in role["Policies"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                (_, statement, _) = statement.get("Fn::If", [None, statement, None])
                actions = {statement["Action"]} if isinstance(statement["Action"], str) else {*statement["Action"]}
                assert not [action for action in actions if "*" in action] or statement["Effect"] == "Deny", name
                if statement["Resource"] == "*" and statement["Effect"] == "Allow":
                    assert actions <= nameless or all(action.startswith("ec2:") for action in actions), actions


def test_the_function_may_publish_to_its_bus_alone_however_that_is_named(expanded):
    (statement,) = [
        statement["Fn::If"][1] for policy in expanded["Resources"]["FunctionRole"]["Properties"]["Policies"]
        for statement in policy["PolicyDocument"]["Statement"] if "events:PutEvents" in json.dumps(statement)]
    arn, variables = statement["Resource"]["Fn::Sub"]
    assert arn.endswith(":event-bus/${Bus}")
    condition, own, other = variables["Bus"]["Fn::If"]
    assert (condition, own) == ("HasOwnBus", one(expanded, "AWS::Events::EventBus")["Name"])
    index, split = other["Fn::Select"]
    separator, text = split["Fn::Split"]
    for given in ("orders", "arn:aws-cn:events:cn-north-1:123456789012:event-bus/orders"):
        assert text["Fn::Sub"].replace("${OutcomeEventBus}", given).split(separator)[int(index)] == "orders"


def test_nobody_else_puts_events_on_the_stacks_bus(expanded):
    statement = one(expanded, "AWS::Events::EventBusPolicy")["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "events:PutEvents")
    assert statement["Condition"] == {"ArnNotEquals": {"aws:PrincipalArn": {"Fn::GetAtt": ["FunctionRole", "Arn"]}}}
    assert one(expanded, "AWS::Lambda::Function")["Role"] == {"Fn::GetAtt": ["FunctionRole", "Arn"]}


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


def test_outcome_events_reach_no_target_and_a_state_machine_no_other_account(expanded):
    rule = one(expanded, "AWS::Events::Rule")
    assert rule["State"] == "DISABLED" and "Targets" not in rule
    (trust,) = expanded["Resources"]["StateMachineRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    conditions = {key: value for test in trust["Condition"].values() for key, value in test.items()}
    assert conditions["aws:SourceAccount"] == {"Ref": "AWS::AccountId"} and conditions["aws:SourceArn"]


def test_the_dead_letter_queue_has_one_source(expanded):
    """`start-message-move-task` moves only what came from a queue."""
    arn = {"Fn::GetAtt": ["OrdersDeadLetterQueue", "Arn"]}
    assert every(expanded, "AWS::SQS::Queue")["OrdersQueue"]["RedrivePolicy"]["deadLetterTargetArn"] == arn
    assert one(expanded, "AWS::Lambda::Function")["DeadLetterConfig"] == {"TargetArn": {"Fn::GetAtt": ["OrdersQueue", "Arn"]}}
    for name, role in every(expanded, "AWS::IAM::Role").items():
        assert "OrdersDeadLetterQueue" not in json.dumps(role), name


# -------------------------------------------------------------------------------------------------- parameters


def test_every_parameter_is_described_and_grouped(expanded, template):
    parameters = expanded["Parameters"]
    assert all(parameter["Description"] for parameter in parameters.values())
    groups = template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert sorted(name for group in groups for name in group["Parameters"]) == sorted(parameters)


def test_only_the_secret_has_to_be_given(expanded):
    parameters = expanded["Parameters"].items()
    assert [name for name, parameter in parameters if "Default" not in parameter] == ["SecretArn"]


def test_defaults_are_the_functions_own(expanded):
    written = sources()
    assert f'"{expanded["Parameters"]["WechatPayEndpoints"]["Default"]}"' in written
    for parameter, constant in (("WechatPayTimeoutMs", "DEFAULT_TIMEOUT_MS"), ("SecretCacheTtlSeconds", "DEFAULT_TTL_SECONDS")):
        (value,) = re.findall(rf"const {constant}: u64 = ([0-9_]+);", written)
        assert expanded["Parameters"][parameter]["Default"] == int(value)


PREFIX = "arn:aws:secretsmanager:ap-east-1:123456789012:secret:"


@pytest.mark.parametrize(
    ("parameter", "value", "allowed"),
    [
        ("SecretArn", f"{PREFIX}wechat-pay/merchant-a1B2c3", True),
        ("SecretArn", "arn:aws-cn:secretsmanager:cn-north-1:123456789012:secret:merchant-a1B2c3", True),
        ("SecretArn", "wechat-pay/merchant", False),
        ("SecretArn", f"{PREFIX}merchant", False),
        ("SecretArn", f"{PREFIX}*", False),
        ("SecretArn", f"{PREFIX}wechat-pay/{{mch_id}}", True),
        ("SecretArn", f"{PREFIX}w-{{mch_id}}", True),
        ("SecretArn", f"{PREFIX}/prod/wechat/{{mch_id}}", True),
        # The permission would be for every secret, or for more than the name says.
        ("SecretArn", f"{PREFIX}{{mch_id}}", False),
        ("SecretArn", f"{PREFIX}/{{mch_id}}", False),
        ("SecretArn", f"{PREFIX}-{{mch_id}}", False),
        ("SecretArn", f"{PREFIX}wechat-pay{{mch_id}}", False),
        ("SecretArn", f"{PREFIX}wechat-pay/{{mch_id}}-a1B2c3", False),
        ("SecretArn", f"{PREFIX}{{mch_id}}/{{mch_id}}", False),
        ("SecretArn", f"{PREFIX}wechat-pay/*/{{mch_id}}", False),
        ("WechatPayEndpoints", "https://pay.example.com:8443/wechat,https://[fd00::7]/", True),
        ("WechatPayEndpoints", "http://127.0.0.1:8080,http://host.docker.internal:8080", True),
        ("WechatPayEndpoints", "", False),
        ("WechatPayEndpoints", "api.mch.weixin.qq.com", False),
        ("WechatPayEndpoints", "http://api.mch.weixin.qq.com", False),
        ("WechatPayEndpoints", "https://a.example.com, https://b.example.com", False),
        ("SqsEndpoint", "https://vpce-1-a.sqs.cn-north-1.vpce.amazonaws.com.cn", True),
        ("SqsEndpoint", "http://host.docker.internal:9711", True),
        ("SqsEndpoint", "http://sqs.example.com", False),
        ("OutcomeEventBus", "none", True),
        ("OutcomeEventBus", "arn:aws-cn:events:cn-north-1:123456789012:event-bus/orders", True),
        ("OutcomeEventBus", "arn:aws:sqs:us-east-1:123456789012:orders", False),
        ("AlarmEmail", "ops@example.com,dev@example.com", False),
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
        "lambda.amazonaws.com", "apigateway.amazonaws.com", "states.amazonaws.com",
        # Beside the partition's own spelling.
        "secretsmanager.${AWS::Region}.amazonaws.com",
    }


def test_what_china_lacks_is_left_out_there(expanded):
    """https://docs.amazonaws.cn/en_us/aws/latest/userguide/lambda.html: no X-Ray, no AsyncEventsDropped, no function URLs."""
    assert expanded["Parameters"]["Tracing"]["Default"] == "PassThrough"
    for name, alarm in every(expanded, "AWS::CloudWatch::Alarm").items():
        if alarm.get("MetricName", "").startswith("AsyncEvent"):
            assert expanded["Resources"][name]["Condition"] == "OutsideChina", name


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
