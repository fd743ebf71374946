"""What template.yaml promises, held against what SAM makes of it.

Run by template.sh, in SAM CLI's own Python environment.
"""

import json
import pathlib
import re
import unittest

import expand
import metric_filter

ROOT = pathlib.Path(__file__).resolve().parent.parent

# The one line an order: its fields, and every outcome there is with the metrics it counts for.
ORDER = {
    "message": "order",
    "level": "INFO",
    "timestamp": "2026-01-01T00:00:00.000000Z",
    "outcome": "closed",
    "err_code": "",
    "sub_mch_id": "1900000109",
    "out_trade_no": "1217752501201407033233368018",
    "endpoint": "https://api.mch.weixin.qq.com",
    "tries": 1,
    "duration_ms": 131,
    "wechat_pay_request_id": "08F78BB5AF0610D302",
    "aws_request_id": "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
}
METRICS = {
    "closed": {"OrdersClosed"},
    "already_closed": {"OrdersClosed"},
    "paid": {"OrdersPaid"},
    "not_found": {"OrdersRefused", "OrdersRefusedByReason"},
    "refused": {"OrdersRefused", "OrdersRefusedByReason"},
    "sign_refused": {"SignRefused"},
    "bad_input": {"OrdersNotSent"},
    "too_young": {"OrdersNotSent"},
    "CredentialsUnavailable": {"Faults"},
    "GatewayUnreachable": {"Faults"},
    "ReplyInvalid": {"Faults"},
    "DeadlineExceeded": {"Faults"},
}
NOT_SENT = {"bad_input", "too_young", "CredentialsUnavailable"}

# The events that the function's tests have for each kind of event source.
EVENTS = {
    "Api": "events/api-gateway-rest.json",
    "HttpApi": "events/api-gateway-http.json",
    "SQS": "events/sqs.json",
    "ScheduleV2": "events/scheduler.json",
}

TRIES = 3
PAUSE_SECONDS = 0.5
SECRET_SECONDS = 4


def listed(one_or_more):
    return one_or_more if isinstance(one_or_more, list) else [one_or_more]


def chosen(value, conditions):
    """A value with each Fn::If decided; AWS::NoValue disappears."""
    nothing = {"Ref": "AWS::NoValue"}
    if isinstance(value, dict) and list(value) == ["Fn::If"]:
        condition, then, otherwise = value["Fn::If"]
        return chosen(then if condition in conditions else otherwise, conditions)
    if isinstance(value, dict):
        decided = {key: chosen(one, conditions) for key, one in value.items()}
        return {key: one for key, one in decided.items() if one != nothing}
    if isinstance(value, list):
        return [one for one in (chosen(one, conditions) for one in value) if one != nothing]
    return value


class Template(unittest.TestCase):
    region = "us-east-1"

    @classmethod
    def setUpClass(cls):
        cls.source = expand.template()
        cls.stack = expand.expanded(cls.region)
        cls.parameters = cls.stack["Parameters"]

    def all(self, *types, conditions=()):
        return {
            name: chosen(resource.get("Properties", {}), conditions)
            for name, resource in self.stack["Resources"].items()
            if resource["Type"] in types
        }

    def one(self, kind, conditions=()):
        (properties,) = self.all(kind, conditions=conditions).values()
        return properties

    def function(self, conditions=()):
        return self.one("AWS::Lambda::Function", conditions)

    def queue(self, name):
        return self.all("AWS::SQS::Queue")[name]

    # ---------------------------------------------------------------------------------------- least privilege

    def statements(self, *conditions):
        role = self.one("AWS::IAM::Role", conditions)
        self.assertNotIn("ManagedPolicyArns", role)
        self.assertEqual(self.function()["Role"], {"Fn::GetAtt": ["FunctionRole", "Arn"]})
        self.assertFalse(
            [name for name, one in self.stack["Resources"].items()
             if one["Type"].startswith("AWS::IAM::") and name != "FunctionRole"],
            "permissions beside the role",
        )
        return {policy["PolicyName"]: policy["PolicyDocument"]["Statement"] for policy in role["Policies"]}

    def test_the_code_may_read_the_one_secret_and_nothing_else(self):
        self.assertEqual(
            self.statements()["read-the-secret"],
            [{
                "Sid": "ReadTheSecret",
                "Effect": "Allow",
                "Action": "secretsmanager:GetSecretValue",
                "Resource": {"Ref": "SecretArn"},
            }],
        )

    def test_a_kms_key_may_only_be_used_by_secrets_manager_and_for_the_one_secret(self):
        _, decrypt = self.statements("HasSecretKmsKey")["read-the-secret"]
        self.assertEqual(decrypt["Action"], "kms:Decrypt")
        self.assertEqual(decrypt["Resource"], {"Ref": "SecretKmsKeyArn"})
        self.assertEqual(
            decrypt["Condition"],
            {"StringEquals": {
                "kms:ViaService": [
                    {"Fn::Sub": "secretsmanager.${AWS::Region}.amazonaws.com"},
                    {"Fn::Sub": "secretsmanager.${AWS::Region}.${AWS::URLSuffix}"},
                ],
                "kms:EncryptionContext:SecretARN": {"Ref": "SecretArn"},
            }},
        )

    def test_every_permission_of_the_role_is_known_and_bound_to_the_stacks_own_parts(self):
        allowed = {}
        for statements in self.statements().values():
            for statement in statements:
                self.assertEqual(statement["Effect"], "Allow")
                for action in listed(statement["Action"]):
                    allowed[action] = statement["Resource"]
        self.assertEqual(
            allowed,
            {
                "secretsmanager:GetSecretValue": {"Ref": "SecretArn"},
                "logs:CreateLogStream": {"Fn::GetAtt": ["FunctionLogGroup", "Arn"]},
                "logs:PutLogEvents": {"Fn::GetAtt": ["FunctionLogGroup", "Arn"]},
                "sqs:ReceiveMessage": {"Fn::GetAtt": ["OrdersQueue", "Arn"]},
                "sqs:DeleteMessage": {"Fn::GetAtt": ["OrdersQueue", "Arn"]},
                "sqs:GetQueueAttributes": {"Fn::GetAtt": ["OrdersQueue", "Arn"]},
                "sqs:SendMessage": {"Fn::GetAtt": ["OrdersDeadLetterQueue", "Arn"]},
                # These two know no resources.
                "xray:PutTraceSegments": "*",
                "xray:PutTelemetryRecords": "*",
            },
        )

    def test_only_lambda_may_take_the_role(self):
        (statement,) = self.one("AWS::IAM::Role")["AssumeRolePolicyDocument"]["Statement"]
        self.assertEqual(statement["Principal"], {"Service": "lambda.amazonaws.com"})

    def test_the_key_does_not_pass_through_the_template(self):
        self.assertEqual(
            self.function()["Environment"]["Variables"],
            {
                "WECHAT_PAY_SECRET_ID": {"Ref": "SecretArn"},
                "WECHAT_PAY_ENDPOINTS": {"Ref": "WechatPayEndpoints"},
                "WECHAT_PAY_TIMEOUT_MS": {"Ref": "WechatPayTimeoutMs"},
                "SECRET_CACHE_TTL_SECONDS": {"Ref": "SecretCacheTtlSeconds"},
            },
        )
        self.assertNotIn("Default", self.parameters["SecretArn"])
        self.assertFalse(self.all("AWS::SecretsManager::Secret"))

    # ---------------------------------------------------------------------------------------- time

    def test_the_timeout_covers_the_tries_whatever_the_parameter_allows(self):
        timeout = self.parameters["WechatPayTimeoutMs"]
        self.assertLessEqual(timeout["Default"], timeout["MaxValue"])
        needed = TRIES * timeout["MaxValue"] / 1000 + (TRIES - 1) * PAUSE_SECONDS + SECRET_SECONDS
        self.assertGreaterEqual(self.function()["Timeout"], needed)

    def test_the_api_waits_longer_than_the_function_runs(self):
        for route in self.routes().values():
            wait = route["x-amazon-apigateway-integration"]["timeoutInMillis"]
            self.assertGreater(wait, self.function()["Timeout"] * 1000)
            self.assertLessEqual(wait, 30000)

    def test_the_visibility_timeout_is_six_times_the_functions_timeout_at_least(self):
        self.assertGreaterEqual(self.queue("OrdersQueue")["VisibilityTimeout"], 6 * self.function()["Timeout"])

    # ---------------------------------------------------------------------------------------- who may call

    def routes(self):
        body = self.one("AWS::ApiGatewayV2::Api")["Body"]
        self.assertFalse(self.all("AWS::ApiGatewayV2::Route", "AWS::ApiGateway::RestApi", "AWS::ApiGateway::Method"),
                         "routes beside the API's own")
        return {
            f"{method} {path}": route
            for path, methods in body["paths"].items()
            for method, route in methods.items()
        }

    def test_no_route_of_the_api_is_open(self):
        schemes = self.one("AWS::ApiGatewayV2::Api")["Body"]["components"]["securitySchemes"]
        self.assertEqual(list(self.routes()), ["post /close-order"])
        for name, route in self.routes().items():
            (wanted,) = route.get("security") or self.fail(f"{name} is open")
            (scheme,) = wanted
            self.assertEqual(schemes[scheme]["x-amazon-apigateway-authtype"], "awsSigv4", name)

    def test_there_is_no_open_function_url(self):
        for name, url in self.all("AWS::Lambda::Url").items():
            self.assertEqual(url["AuthType"], "AWS_IAM", name)

    def test_nobody_but_the_stacks_own_api_may_call_the_function(self):
        permissions = self.all("AWS::Lambda::Permission")
        self.assertTrue(permissions)
        for name, permission in permissions.items():
            self.assertEqual(permission["Principal"], "apigateway.amazonaws.com", name)
            self.assertIn("POST/close-order", json.dumps(permission["SourceArn"]), name)
            self.assertNotIn("FunctionUrlAuthType", permission, name)

    def test_the_api_is_throttled_and_its_calls_are_logged(self):
        stage = self.one("AWS::ApiGatewayV2::Stage")
        self.assertEqual(stage["AccessLogSettings"]["DestinationArn"], {"Fn::GetAtt": ["HttpApiLogGroup", "Arn"]})
        json.loads(stage["AccessLogSettings"]["Format"])
        self.assertEqual(stage["DefaultRouteSettings"]["ThrottlingRateLimit"], {"Ref": "ApiRateLimit"})
        self.assertEqual(stage["DefaultRouteSettings"]["ThrottlingBurstLimit"], {"Ref": "ApiBurstLimit"})

    def test_every_event_source_is_a_trigger_that_the_tests_cover(self):
        sources = self.source["Resources"]["CloseOrderFunction"]["Properties"]["Events"].values()
        self.assertEqual({source["Type"] for source in sources}, {"HttpApi", "SQS"})
        for source in sources:
            self.assertIn(source["Type"], EVENTS)
            file = ROOT / EVENTS[source["Type"]]
            self.assertTrue(file.is_file(), f"{file} is missing")
            json.loads(file.read_text(encoding="utf-8"))

    # ---------------------------------------------------------------------------------------- the queue

    def test_the_queue_holds_orders_back_for_five_minutes(self):
        self.assertEqual(self.queue("OrdersQueue")["DelaySeconds"], {"Ref": "QueueDelaySeconds"})
        self.assertEqual(self.parameters["QueueDelaySeconds"]["Default"], 300)

    def test_a_batch_reports_its_failures_one_by_one_and_runs_under_a_cap(self):
        mapping = self.one("AWS::Lambda::EventSourceMapping")
        self.assertEqual(mapping["EventSourceArn"], {"Fn::GetAtt": ["OrdersQueue", "Arn"]})
        self.assertEqual(mapping["FunctionResponseTypes"], ["ReportBatchItemFailures"])
        self.assertEqual(mapping["BatchSize"], 10)
        self.assertEqual(mapping["ScalingConfig"], {"MaximumConcurrency": {"Ref": "QueueConcurrency"}})

    def test_what_fails_is_kept_for_two_weeks(self):
        queue, dead = self.queue("OrdersQueue"), self.queue("OrdersDeadLetterQueue")
        arn = {"Fn::GetAtt": ["OrdersDeadLetterQueue", "Arn"]}
        self.assertEqual(queue["RedrivePolicy"]["deadLetterTargetArn"], arn)
        self.assertEqual(queue["RedrivePolicy"]["maxReceiveCount"], {"Ref": "QueueMaxReceiveCount"})
        self.assertGreaterEqual(self.parameters["QueueMaxReceiveCount"]["Default"], 3)
        self.assertEqual(dead["MessageRetentionPeriod"], 14 * 24 * 3600)
        self.assertLess(queue["MessageRetentionPeriod"], dead["MessageRetentionPeriod"])
        self.assertEqual(self.function()["DeadLetterConfig"], {"TargetArn": arn})

    def test_the_queues_are_encrypted_at_rest_and_on_the_way(self):
        queues = self.all("AWS::SQS::Queue")
        for name, queue in queues.items():
            self.assertIs(queue["SqsManagedSseEnabled"], True, name)
        policy = self.one("AWS::SQS::QueuePolicy")
        self.assertCountEqual(policy["Queues"], [{"Ref": name} for name in queues])
        (statement,) = policy["PolicyDocument"]["Statement"]
        self.assertEqual(
            (statement["Effect"], statement["Principal"], statement["Action"], statement["Condition"]),
            ("Deny", "*", "sqs:*", {"Bool": {"aws:SecureTransport": False}}),
        )
        self.assertCountEqual(statement["Resource"], [{"Fn::GetAtt": [name, "Arn"]} for name in queues])

    # ---------------------------------------------------------------------------------------- operations

    def test_each_outcome_of_an_order_counts_for_its_metrics(self):
        for outcome, names in METRICS.items():
            with self.subTest(outcome):
                line = ORDER | {"outcome": outcome, "tries": 0 if outcome in NOT_SENT else 1}
                if outcome in ("refused", "not_found"):
                    line["err_code"] = "ORDERNOTEXIST"
                duration = set() if outcome in NOT_SENT else {"OrderDuration"}
                self.assertEqual(metric_filter.metrics(self.stack, line), names | duration)

    def test_the_outcomes_are_those_that_the_function_logs(self):
        code = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "src").rglob("*.rs"))
        for outcome in METRICS:
            self.assertIn(f'"{outcome}"', code)

    def test_a_refusal_without_a_reason_is_counted_all_the_same(self):
        for line in (ORDER | {"outcome": "refused"}, {**ORDER, "outcome": "refused", "err_code": None}):
            self.assertIn("OrdersRefused", metric_filter.metrics(self.stack, line))

    def test_other_lines_of_the_log_count_for_nothing(self):
        others = [ORDER | {"message": "reply", "outcome": outcome, "err_code": "ORDERPAID"} for outcome in METRICS]
        for line in [*others, {"type": "platform.start"}, {"outcome": "closed"}]:
            self.assertEqual(metric_filter.metrics(self.stack, line), set())

    def test_metrics_are_made_of_fields_that_the_line_has(self):
        found = metric_filter.filters(self.stack)
        self.assertEqual(set(found), set().union(*METRICS.values(), {"OrderDuration"}))
        for name, (pattern, fields) in found.items():
            for field in fields + re.findall(r"\$\.(\w+)", pattern):
                self.assertIn(field, ORDER, name)
        for made in self.all("AWS::Logs::MetricFilter").values():
            self.assertEqual(made["LogGroupName"], {"Ref": "FunctionLogGroup"})

    def test_the_line_an_order_is_never_filtered_away(self):
        logging = self.function()["LoggingConfig"]
        self.assertEqual(logging["LogFormat"], "JSON")
        self.assertEqual(logging["LogGroup"], {"Ref": "FunctionLogGroup"})
        self.assertEqual(logging["ApplicationLogLevel"], {"Ref": "LogLevel"})
        self.assertLessEqual(set(self.parameters["LogLevel"]["AllowedValues"]), {"TRACE", "DEBUG", "INFO"})

    def test_logs_are_not_kept_for_ever(self):
        groups = self.all("AWS::Logs::LogGroup")
        self.assertEqual(set(groups), {"FunctionLogGroup", "HttpApiLogGroup"})
        for name, group in groups.items():
            self.assertEqual(group["RetentionInDays"], {"Ref": "LogRetentionDays"}, name)

    def test_there_is_an_alarm_for_all_that_needs_a_person(self):
        own = {"Fn::Sub": "CloseOrder/${AWS::StackName}"}
        function = {"FunctionName": {"Ref": "CloseOrderFunction"}}
        dead = {"QueueName": {"Fn::GetAtt": ["OrdersDeadLetterQueue", "QueueName"]}}
        wanted = [
            ("AWS/SQS", "ApproximateNumberOfMessagesVisible", dead, "Maximum"),
            (own, "SignRefused", {}, "Sum"),
            (own, "Faults", {"Kind": "CredentialsUnavailable"}, "Sum"),
            ("AWS/Lambda", "Errors", function, "Sum"),
            ("AWS/Lambda", "Throttles", function, "Sum"),
        ]
        alarms = self.all("AWS::CloudWatch::Alarm")
        there = [
            (
                alarm["Namespace"],
                alarm["MetricName"],
                {one["Name"]: one["Value"] for one in alarm.get("Dimensions", [])},
                alarm["Statistic"],
            )
            for alarm in alarms.values()
        ]
        self.assertCountEqual(there, wanted)
        for name, alarm in alarms.items():
            self.assertEqual(alarm["Threshold"], 1, name)
            self.assertEqual(alarm["ComparisonOperator"], "GreaterThanOrEqualToThreshold", name)
            self.assertEqual(alarm["TreatMissingData"], "notBreaching", name)
            self.assertGreater(len(alarm["AlarmDescription"]), 100, f"{name} does not say what to do")
            self.assertLessEqual(len(alarm["AlarmDescription"]), 1024, name)
            self.assertNotIn("AlarmActions", alarm, name)

    def test_alarms_tell_the_topic_if_there_is_one(self):
        for name, alarm in self.all("AWS::CloudWatch::Alarm", conditions=["HasAlarmTopic"]).items():
            self.assertEqual(alarm["AlarmActions"], [{"Ref": "AlarmTopicArn"}], name)

    def test_alarms_look_at_metrics_as_they_are_published(self):
        """A metric with dimensions and an alarm without them, or the other way round, never meet."""
        made = {}
        for properties in self.all("AWS::Logs::MetricFilter").values():
            (one,) = properties["MetricTransformations"]
            made[one["MetricName"]] = {dimension["Key"] for dimension in one.get("Dimensions", [])}
        for name, alarm in self.all("AWS::CloudWatch::Alarm").items():
            if isinstance(alarm["Namespace"], dict):
                keys = {one["Name"] for one in alarm.get("Dimensions", [])}
                self.assertEqual(keys, made[alarm["MetricName"]], name)

    def test_the_dashboard_is_json(self):
        body = self.one("AWS::CloudWatch::Dashboard")["DashboardBody"]["Fn::Sub"]
        widgets = json.loads(re.sub(r"\$\{[\w:.]+\}", "x", body))["widgets"]
        self.assertEqual({widget["type"] for widget in widgets}, {"metric", "alarm"})

    # ---------------------------------------------------------------------------------------- deployed as it stands

    def test_every_parameter_is_described_grouped_and_used(self):
        everything = json.dumps([self.stack["Resources"], self.stack["Conditions"]])
        interface = self.source["Metadata"]["AWS::CloudFormation::Interface"]
        grouped = [name for group in interface["ParameterGroups"] for name in group["Parameters"]]
        self.assertCountEqual(grouped, self.parameters)
        self.assertCountEqual(interface["ParameterLabels"], self.parameters)
        for name, parameter in self.parameters.items():
            self.assertGreater(len(parameter.get("Description", "")), 20, f"{name} has no description")
            self.assertIn(f'{{"Ref": "{name}"}}', everything, f"{name} is not used")

    def test_only_the_secret_has_to_be_given(self):
        asked = [name for name, parameter in self.parameters.items() if "Default" not in parameter]
        self.assertEqual(asked, ["SecretArn"])

    def test_defaults_are_the_functions_own(self):
        defaults = {name: self.parameters[name]["Default"] for name in
                    ("WechatPayEndpoints", "WechatPayTimeoutMs", "SecretCacheTtlSeconds", "Architecture")}
        self.assertEqual(defaults, {
            "WechatPayEndpoints": "https://api.mch.weixin.qq.com,https://api2.mch.weixin.qq.com",
            "WechatPayTimeoutMs": 5000,
            "SecretCacheTtlSeconds": 300,
            "Architecture": "arm64",
        })
        self.assertNotIn("ReservedConcurrentExecutions", self.function())
        self.assertEqual(self.function()["Runtime"], "provided.al2023")

    def test_every_default_is_a_value_that_its_own_rule_allows(self):
        for name, parameter in self.parameters.items():
            default = parameter.get("Default")
            if default is None:
                continue
            if "AllowedPattern" in parameter:
                self.assertRegex(default, f"^(?:{parameter['AllowedPattern']})$", name)
            if "AllowedValues" in parameter:
                self.assertIn(default, parameter["AllowedValues"], name)
            if "MinValue" in parameter:
                self.assertTrue(parameter["MinValue"] <= default <= parameter["MaxValue"], name)

    def test_the_secrets_arn_is_taken_whole_in_every_partition(self):
        rule = self.parameters["SecretArn"]["AllowedPattern"]
        for whole in (
            "arn:aws:secretsmanager:ap-east-1:123456789012:secret:wechat-pay/merchant-a1B2c3",
            "arn:aws-cn:secretsmanager:cn-north-1:123456789012:secret:merchant-a1B2c3",
        ):
            self.assertRegex(whole, rule)
        for other in (
            "wechat-pay/merchant",
            "arn:aws:secretsmanager:ap-east-1:123456789012:secret:merchant",
            "arn:aws:secretsmanager:ap-east-1:123456789012:secret:*",
        ):
            self.assertNotRegex(other, rule)

    def test_a_gateway_is_called_over_https_or_on_this_machine(self):
        rule = self.parameters["WechatPayEndpoints"]["AllowedPattern"]
        for right in ("https://api.mch.weixin.qq.com", "http://127.0.0.1:8080", "http://host.docker.internal:8080"):
            self.assertRegex(right, rule)
            self.assertRegex(f"{right},{right}", rule)
        for wrong in ("", "api.mch.weixin.qq.com", "http://api.mch.weixin.qq.com", "https://a,", "https://a, https://b"):
            self.assertNotRegex(wrong, rule)

    def test_no_address_or_arn_is_bound_to_one_partition(self):
        text = json.dumps([self.stack["Resources"], self.stack["Outputs"]])
        self.assertNotIn("arn:aws:", text)
        for host in re.findall(r"[\w.${}:-]+\.amazonaws\.com(?!\w)", text):
            self.assertIn(host, {
                "lambda.amazonaws.com", "apigateway.amazonaws.com",  # service principals, the same everywhere
                "secretsmanager.${AWS::Region}.amazonaws.com",  # beside the partition's own spelling
            } | ({"console.aws.amazon.com"}))

    def test_the_outputs_are_what_a_caller_needs(self):
        outputs = self.stack["Outputs"]
        self.assertLessEqual(
            {"FunctionName", "FunctionArn", "ApiUrl", "QueueUrl", "QueueArn", "DeadLetterQueueUrl", "LogGroup",
             "DashboardUrl"},
            set(outputs),
        )
        for name, output in outputs.items():
            self.assertTrue(output.get("Description"), name)


class TemplateInChina(Template):
    """The same promises where the partition is another."""

    region = "cn-north-1"


if __name__ == "__main__":
    unittest.main()
