"""CloudWatch Logs' filter patterns for JSON lines, as far as template.yaml uses them.

No emulator evaluates metric filters, so the checks do it here. From the CloudWatch Logs User Guide, "Filter pattern
syntax for metric filters": comparisons of `$.field` with a string, which may have a `*` at either end, with a number or
with `*` alone, which any value matches; `IS TRUE`, `NOT EXISTS`; `&&` binds more strongly than `||`. A field that the
line lacks matches nothing but `NOT EXISTS`; no pattern of the template relies on that.
"""

import re

TOKEN = re.compile(
    r'\s*(?:(?P<symbol>\|\||&&|[(){}])'
    r'|\$\.(?P<field>\w+)\s*(?:(?P<state>IS TRUE|NOT EXISTS)'
    r'|(?P<operator>!=|>=|<=|=|>|<)\s*(?:"(?P<text>[^"]*)"|(?P<number>-?\d+(?:\.\d+)?)|(?P<any>\*))))'
)


def matches(pattern, line):
    """Whether a line (a JSON object) matches a pattern such as `{ ($.a = "b*") && ($.n > 0) }`."""
    tokens = _tokens(pattern)
    if tokens[0] != "{" or tokens[-1] != "}":
        raise ValueError(f"not a JSON pattern: {pattern}")
    rest = tokens[1:-1]
    matched = _any(rest, line)
    if rest:
        raise ValueError(f"unexpected {rest[0]!r} in {pattern}")
    return matched


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


def _tokens(pattern):
    tokens, at = [], 0
    while at < len(pattern.rstrip()):
        token = TOKEN.match(pattern, at)
        if not token:
            raise ValueError(f"cannot read {pattern[at:]!r} in {pattern}")
        tokens.append(token["symbol"] or token)
        at = token.end()
    return tokens


def _any(tokens, line):
    matched = _all(tokens, line)
    while tokens and tokens[0] == "||":
        tokens.pop(0)
        matched = _all(tokens, line) or matched
    return matched


def _all(tokens, line):
    matched = _one(tokens, line)
    while tokens and tokens[0] == "&&":
        tokens.pop(0)
        matched = _one(tokens, line) and matched
    return matched


def _one(tokens, line):
    token = tokens.pop(0) if tokens else None
    if token == "(":
        matched = _any(tokens, line)
        if not tokens or tokens.pop(0) != ")":
            raise ValueError("a bracket is not closed")
        return matched
    if not isinstance(token, re.Match):
        raise ValueError(f"a comparison is missing before {token!r}")
    return _compare(token, line.get(token["field"]))


def _compare(comparison, there):
    operator = comparison["operator"]
    if comparison["state"]:
        return there is None if comparison["state"] == "NOT EXISTS" else there is True
    if there is None:
        return False
    if comparison["any"]:
        equal = True
    elif comparison["number"]:
        if isinstance(there, bool) or not isinstance(there, (int, float)):
            return False
        number = float(comparison["number"])
        if operator in (">", ">=", "<", "<="):
            return {">": there > number, ">=": there >= number, "<": there < number, "<=": there <= number}[operator]
        equal = there == number
    else:
        wanted = ".*".join(map(re.escape, comparison["text"].split("*")))
        equal = isinstance(there, str) and re.fullmatch(wanted, there, re.DOTALL) is not None
    if operator not in ("=", "!="):
        raise ValueError(f"{operator} is for numbers")
    return equal == (operator == "=")
