"""CloudWatch's alarms, as far as template.yaml uses them: M of N periods, which slide by the minute, and composite alarms.

From the CloudWatch User Guide, "Evaluating an alarm": an alarm looks at the N most recent periods, and is on if M of them
breach its threshold. The periods of five minutes and more end at whichever minute it is evaluated. Of a period without
data nothing breaches (TreatMissingData notBreaching).
"""

import itertools
import re


def states(template, metrics, minutes):
    """For each alarm on a metric of the log whether it is on, minute by minute. `metrics` has, for each name and minute,
    a sum and a count."""
    found = {}
    for name, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        if resource["Type"] != "AWS::CloudWatch::Alarm" or "Fn::Sub" not in properties.get("Namespace", ()):
            continue
        by_minute = metrics.get(properties["MetricName"], {})
        sums, counts = (list(itertools.accumulate((by_minute.get(minute, (0, 0))[which] for minute in range(minutes)),
                                                  initial=0)) for which in (0, 1))
        length, of = properties["Period"] // 60, properties["EvaluationPeriods"]
        needed = properties.get("DatapointsToAlarm", of)

        def breaches(end):
            begin = max(0, end - length)
            if not (count := counts[end] - counts[begin]):
                return False
            value = sums[end] - sums[begin]
            return (value / count if properties["Statistic"] == "Average" else value) >= properties["Threshold"]

        breaching = [breaches(end) for end in range(minutes + 1)]
        found[name] = [sum(breaching[end] for end in range(minute + 1, 0, -length)[:of]) >= needed for minute in range(minutes)]
    return found


def composite(template, name, on):
    """Whether a composite alarm is on while these are."""
    rule = template["Resources"][name]["Properties"]["AlarmRule"]["Fn::Sub"]
    text = rule if isinstance(rule, str) else rule[0]
    text = re.sub(r"\$\{(\w+)\}$", "", text)  # an alarm that not every partition has
    text = re.sub(r'ALARM\("\$\{(\w+)\}"\)', lambda alarm: str(alarm[1] in on), " ".join(text.split()))
    words = {"AND": "and", "OR": "or", "NOT": "not"}
    text = re.sub(r"[A-Z]{2,}", lambda word: words[word[0]], text)
    return eval(text, {"__builtins__": {}})
