"""CloudWatch Logs' filter patterns for JSON lines, as far as template.yaml uses them.

No emulator evaluates metric filters, so the checks do it here. From the CloudWatch Logs User Guide, "Filter pattern
syntax for metric filters": comparisons of `$.field` with a string, which may have a `*` at either end, with a number or
with `*` alone, which any value matches; `IS TRUE`, `NOT EXISTS`; `&&` binds more strongly than `||`. A field that the
line lacks matches nothing but `NOT EXISTS`; no pattern of the template relies on that.
"""

import operator
import re

COMPARISON = re.compile(
    r'\$\.(\w+)\s*(?:(IS TRUE|NOT EXISTS)|(!=|>=|<=|=|>|<)\s*(?:"([^"]*)"|(-?\d+(?:\.\d+)?)|(\*)))'
)
OPERATORS = {"=": operator.eq, "!=": operator.ne, ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}


def matches(pattern, line):
    """Whether a line (a JSON object) matches a pattern such as `{ ($.a = "b*") && ($.n > 0) }`."""
    within = re.fullmatch(r"\{(.+)\}", pattern.strip())
    # Each comparison becomes what it comes to, and what is between them Python's words.
    expression = within and COMPARISON.sub(lambda found: str(_compare(line, *found.groups())), within[1])
    if not within or re.sub(r"True|False|&&|\|\||[()\s]", "", expression):
        raise ValueError(f"not a JSON pattern: {pattern}")
    try:
        return eval(expression.replace("&&", " and ").replace("||", " or ").strip(), {"__builtins__": {}})
    except (SyntaxError, TypeError) as error:
        raise ValueError(f"not a JSON pattern: {pattern}") from error


def _compare(line, field, state, compared_by, text, number, anything):
    there = line.get(field)
    if state:
        return there is None if state == "NOT EXISTS" else there is True
    if there is None:
        return False
    if number:
        return not isinstance(there, (bool, str)) and OPERATORS[compared_by](there, float(number))
    if compared_by not in ("=", "!="):
        raise ValueError(f"{compared_by} is for numbers")
    wanted = "" if anything else ".*".join(map(re.escape, text.split("*")))
    equal = anything or isinstance(there, str) and re.fullmatch(wanted, there, re.DOTALL)
    return OPERATORS[compared_by](bool(equal), True)


def metrics(template, line):
    """The metrics that a template makes of a line: their names, each with what it counts, that is the values of its
    dimensions and its own value."""
    found = {}
    for resource in template["Resources"].values():
        if resource["Type"] != "AWS::Logs::MetricFilter" or not matches(resource["Properties"]["FilterPattern"], line):
            continue
        (made,) = resource["Properties"]["MetricTransformations"]
        dimensions = [_value(one["Value"], line) for one in made.get("Dimensions", [])]
        value = _value(made["MetricValue"], line)
        # CloudWatch publishes nothing for a line that lacks the value or a dimension.
        if None in (value, *dimensions):
            continue
        found.setdefault(made["MetricName"], []).append((*dimensions, float(value)))
    return found


def fields(template):
    """The fields of the log that a template's metrics are made of."""
    used = set()
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Logs::MetricFilter":
            used.update(re.findall(r"\$\.(\w+)", str(resource["Properties"])))
    return used


def _value(given, line):
    return line.get(given.removeprefix("$.")) if given.startswith("$.") else given
