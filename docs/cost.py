#!/usr/bin/env python3
"""What the stack costs, by the prices in docs/prices.json and the resources in template.yaml.

docs/cost.py            prints the tables, in English
docs/cost.py --write    puts them into docs/cost.md and docs/zh-CN/cost.md
docs/cost.py --check    fails unless both pages have them
"""

import json
import pathlib
import re
import sys

DOCS = pathlib.Path(__file__).resolve().parent
MARKS = ("<!-- printed by docs/cost.py -->\n", "<!-- end -->\n")
PAGES = {"en": DOCS / "cost.md", "zh": DOCS / "zh-CN" / "cost.md"}
MILLION = 1_000_000

TEXT = {
    "en": {
        "fixed": "| each month, whatever it does | how many | USD each | USD |",
        "secret_month": "the secret",
        "secret_read": "reading the secret: {environments_busy_all_month} environments that are busy all month",
        "sqs_request": "Lambda looking into an empty queue",
        "alarm_month": "metrics that alarms watch",
        "metric_month": "metrics made of the log, if all of them occur",
        "dashboard_month": "the dashboard",
        "sum": "together",
        "free": "less each account's free tier ({metric_month} metrics, {alarm_month} alarms, {dashboard_month} dashboards, "
        "{sqs_request:,} SQS requests)",
        "kms_key_month": "on top: a KMS key of your own for the secret",
        "million": "| USD for a million orders | queue, one by one | queue, batches of 10 | HTTP, no query |",
        "sqs": "SQS: send, receive, delete",
        "lambda_request": "Lambda: requests",
        "lambda_time": "Lambda: {seconds_an_invocation} s with {memory_gb} GB, arm64",
        "eventbridge_event": "EventBridge: the outcome event",
        "http_api_request": "API Gateway",
        "log_gb": "log",
        "xray_trace": "X-Ray: {traced_share:.0%} of the invocations",
        "schedule": "on top: a schedule for each order",
        "api_destination": "on top: an API destination for each event",
        "prices": "| price | USD | per | AWS's page | as of |",
    },
    "zh": {
        "fixed": "| 每月固定费用 | 数量 | 单价（USD） | USD |",
        "secret_month": "密钥（Secret）",
        "secret_read": "读取密钥：{environments_busy_all_month} 个整月繁忙的运行环境",
        "sqs_request": "Lambda 轮询空队列",
        "alarm_month": "告警所监视的指标",
        "metric_month": "由日志生成的指标（全部出现时）",
        "dashboard_month": "控制面板",
        "sum": "合计",
        "free": "减去每个账户的免费额度（{metric_month} 个指标、{alarm_month} 个告警、{dashboard_month} 个控制面板、"
        "{sqs_request:,} 次 SQS 请求）",
        "kms_key_month": "另加：给密钥用的自建 KMS 密钥",
        "million": "| 每 100 万笔订单（USD） | 队列，逐笔 | 队列，每批 10 笔 | HTTP，不查单 |",
        "sqs": "SQS：发送、接收、删除",
        "lambda_request": "Lambda：请求次数",
        "lambda_time": "Lambda：{seconds_an_invocation} 秒、{memory_gb} GB，arm64",
        "eventbridge_event": "EventBridge：结果事件",
        "http_api_request": "API Gateway",
        "log_gb": "日志",
        "xray_trace": "X-Ray：{traced_share:.0%} 的调用",
        "schedule": "另加：每笔订单一个计划",
        "api_destination": "另加：每个事件调用一次 API 目标",
        "prices": "| 价格项 | USD | 每 | AWS 页面 | 日期 |",
    },
}


def resources(template, values):
    """How many metrics the template's alarms watch, and how many its filters make of the log, if a dimension has that many
    values."""
    blocks = re.split(r"^  (?=\w+:$)", template, flags=re.MULTILINE)
    alarms = [block for block in blocks if "Type: AWS::CloudWatch::Alarm\n" in block]
    # Several filters can make one metric.
    metrics = {
        name: values if "Dimensions:" in block else 1
        for block in blocks if "Type: AWS::Logs::MetricFilter\n" in block
        for name in re.findall(r"MetricName: (\w+)", block)
    }
    assert alarms and metrics, "template.yaml has no alarm or no metric filter"
    return sum(max(1, block.count("MetricStat:")) for block in alarms), sum(metrics.values())


def tables(language):
    data = json.loads((DOCS / "prices.json").read_text(encoding="utf-8"))
    assume, free = data["assumptions"], data["free_each_month"]
    text = {name: label.format(**assume, **free) for name, label in TEXT[language].items()}
    usd = {name: price["usd"] / price["per"] for name, price in data["prices"].items()}
    alarms, metrics = resources((DOCS.parent / "template.yaml").read_text(encoding="utf-8"), assume["values_of_a_dimension"])

    hours = assume["hours_a_month"]
    fixed = {
        "secret_month": 1,
        "secret_read": hours * assume["secret_reads_an_hour"] * assume["environments_busy_all_month"],
        "sqs_request": hours * assume["polls_an_hour_of_each"] * assume["queue_pollers"],
        "alarm_month": alarms,
        "metric_month": metrics,
        "dashboard_month": 1,
    }
    lines = [text["fixed"], "| --- | ---: | ---: | ---: |"]
    for name, count in fixed.items():
        price = data["prices"][name]
        each = f"{price['usd']:.2f}" + (f" / {price['per']:,}" if price["per"] > 1 else "")
        lines.append(f"| {text[name]} | {count:,} | {each} | {count * usd[name]:.2f} |")
    together = sum(count * usd[name] for name, count in fixed.items())
    gratis = sum(min(fixed[name], count) * usd[name] for name, count in free.items())
    lines.append(f"| **{text['sum']}** | | | **{together:.2f}** |")
    lines.append(f"| {text['free']} | | | **{together - gratis:.2f}** |")
    lines.append(f"| {text['kms_key_month']} | 1 | {usd['kms_key_month']:.2f} | {usd['kms_key_month']:.2f} |")

    def column(trigger, batch):
        invocations = MILLION / batch
        queued = trigger == "queue"
        logged = MILLION * assume["log_bytes_an_order"] + invocations * assume["log_bytes_an_invocation"]
        return {
            "sqs": (MILLION + 2 * invocations) * usd["sqs_request"] if queued else 0,
            "lambda_request": invocations * usd["lambda_request"],
            "lambda_time": invocations * assume["memory_gb"] * assume["seconds_an_invocation"] * usd["lambda_gb_second_arm64"],
            "eventbridge_event": MILLION * usd["eventbridge_event"] if queued else 0,
            "http_api_request": 0 if queued else MILLION * usd["http_api_request"],
            "log_gb": logged / 1e9 * usd["log_gb"],
            "xray_trace": invocations * assume["traced_share"] * usd["xray_trace"],
        }

    columns = [column("queue", 1), column("queue", 10), column("http", 1)]
    lines += ["", text["million"], "| --- | ---: | ---: | ---: |"]
    for name in columns[0]:
        lines.append(f"| {text[name]} | " + " | ".join(f"{one[name]:.2f}" if one[name] else "–" for one in columns) + " |")
    lines.append(f"| **{text['sum']}** | " + " | ".join(f"**{sum(one.values()):.2f}**" for one in columns) + " |")
    for name in ("schedule", "api_destination"):
        extra = f"{MILLION * usd[name]:.2f}"
        lines.append(f"| {text[name]} | {extra} | {extra} | – |")

    lines += ["", text["prices"], "| --- | ---: | ---: | --- | --- |"]
    for name, price in data["prices"].items():
        amount = f"{price['usd']:.10f}".rstrip("0") if price["usd"] < 0.01 else f"{price['usd']:.2f}"
        lines.append(f"| `{name}` | {amount} | {price['per']:,} | <{price['source']}> | {price['seen']} |")
    return "\n".join(lines) + "\n"


def split(page):
    before, rest = page.read_text(encoding="utf-8").split(MARKS[0])
    between, after = rest.split(MARKS[1])
    return before, between.strip("\n") + "\n", after


def main():
    match sys.argv[1:]:
        case []:
            print(tables("en"), end="")
        case ["--write"]:
            for language, page in PAGES.items():
                if page.exists():
                    before, _, after = split(page)
                    text = before + MARKS[0] + "\n" + tables(language) + "\n" + MARKS[1] + after
                    page.write_text(text, encoding="utf-8")
        case ["--check"]:
            for language, page in PAGES.items():
                if split(page)[1] != tables(language):
                    sys.exit(f"{page.relative_to(DOCS.parent)} is not what docs/cost.py prints: run docs/cost.py --write")
        case _:
            sys.exit(__doc__)


main()
