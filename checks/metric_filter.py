"""CloudWatch Logs' filter patterns for JSON lines, as far as template.yaml uses them.

Run with files of log lines, it says which metrics template.yaml makes of each order in them.
"""

import json
import pathlib
import re
import sys

COMPARISON = re.compile(r'\$\.(?P<field>\w+)\s*(?P<how>=|>)\s*(?P<value>"[^"]*"|\*|[0-9]+)')


def matches(pattern, line):
    """Whether a line (a JSON object) matches a pattern such as `{ ($.a = "b") && ($.n > 0) }`."""

    def compared(comparison):
        there = line.get(comparison["field"])
        value = comparison["value"]
        if there is None:
            return "False"
        if value == "*":
            return "True"
        if comparison["how"] == ">":
            return str(there > int(value))
        return str(there == json.loads(value))

    inner = re.fullmatch(r"\s*\{(.*)\}\s*", pattern, re.DOTALL)
    if not inner:
        raise ValueError(f"no JSON pattern: {pattern}")
    formula = COMPARISON.sub(compared, inner[1]).replace("&&", " and ").replace("||", " or ")
    if not re.fullmatch(r"(True|False|and|or|[()\s])+", formula):
        raise ValueError(f"more than this reads: {formula}")
    return eval(formula.strip(), {"__builtins__": {}})  # words and brackets only, as just checked


def filters(template):
    """The name of each metric of a template, with its pattern and the fields it takes from the line."""
    found = {}
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Logs::MetricFilter":
            properties = resource["Properties"]
            (made,) = properties["MetricTransformations"]
            values = [made["MetricValue"]] + [one["Value"] for one in made.get("Dimensions", [])]
            fields = [value.removeprefix("$.") for value in values if value.startswith("$.")]
            found[made["MetricName"]] = (properties["FilterPattern"], fields)
    return found


def metrics(template, line):
    """The names of the metrics that a template makes of a line."""
    return {
        name
        for name, (pattern, fields) in filters(template).items()
        if matches(pattern, line) and all(line.get(field) not in (None, "") for field in fields)
    }


if __name__ == "__main__":
    import yaml

    class Cloudformation(yaml.SafeLoader):
        """Reads CloudFormation's short forms (`!Ref x`) as if they were not there: no filter pattern has one."""

    Cloudformation.add_multi_constructor("!", lambda loader, suffix, node: None)
    at = pathlib.Path(__file__).resolve().parent.parent / "template.yaml"
    of = yaml.load(at.read_text(encoding="utf-8"), Cloudformation)
    for file in sys.argv[1:]:
        for text in pathlib.Path(file).read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                order = json.loads(text)
            except ValueError:
                continue
            if isinstance(order, dict) and order.get("message") == "order":
                print(order.get("outcome"), *sorted(metrics(of, order)))
