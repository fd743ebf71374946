#!/usr/bin/env python3
"""What the stack costs, by the prices in docs/prices.json and the resources in template.yaml.

docs/cost.py            prints the tables, in English
docs/cost.py --write    puts them into docs/cost.md and docs/zh-CN/cost.md
docs/cost.py --check    fails unless both pages have them
"""

import json
import math
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
        "composite_alarm_month": "the two alarms that notify",
        "metric_month": "metrics made of the log, if all of them occur",
        "dashboard_month": "the dashboard",
        "sum": "together",
        "free": "less each account's free tier ({metric_month} metrics, {alarm_month} alarms, {dashboard_month} dashboards, "
        "{sqs_request:,} SQS requests)",
        "kms_key_month": "on top: a customer managed KMS key for the secret",
        "million": "| USD for a million orders | queue, one by one | queue, batches of 10 | HTTP, no query |",
        "sqs": "SQS: send, receive, put back to wait, receive, delete",
        "lambda_request": "Lambda: requests",
        "lambda_time": "Lambda: {seconds_an_invocation} s with {memory_gb} GB, arm64",
        "eventbridge_event": "EventBridge: the outcome event",
        "http_api_request": "API Gateway",
        "log_gb": "log",
        "xray_trace": "on top: X-Ray (`Tracing`), each second's first call and {traced_share:.0%} of the others, less {xray_trace:,} "
        "free traces",
        "api_destination": "on top: an API destination for each event",
        "merchants": "| {merchants} merchants, each month | USD |",
        "secrets": "their secrets",
        "reads": "reading them, with `SecretCacheTtlSeconds` {ttl_seconds}, if all are busy all month",
        "fewer_reads": "the same with {ttl_seconds_of_many_merchants}",
        "prices": "| price | USD | per | AWS's page | as of |",
    },
    "zh": {
        "fixed": "| 每月固定费用 | 数量 | 单价（USD） | USD |",
        "secret_month": "Secret",
        "secret_read": "读取 Secret：按 {environments_busy_all_month} 个执行环境全月运行计",
        "sqs_request": "Lambda 轮询空队列",
        "alarm_month": "告警所监视的指标",
        "composite_alarm_month": "两个发通知的复合告警",
        "metric_month": "由日志生成的指标（全部出现时）",
        "dashboard_month": "控制面板",
        "sum": "合计",
        "free": "减去每个账户的免费额度（{metric_month} 个指标、{alarm_month} 个告警、{dashboard_month} 个控制面板、"
        "{sqs_request:,} 次 SQS 请求）",
        "kms_key_month": "另加：Secret 用的客户托管的 KMS 密钥",
        "million": "| 每 1,000,000 笔订单（USD） | 队列，逐笔 | 队列，每批 10 笔 | HTTP，不查单 |",
        "sqs": "SQS：发送、接收、放回等待、再接收、删除",
        "lambda_request": "Lambda：请求次数",
        "lambda_time": "Lambda：{seconds_an_invocation} 秒、{memory_gb} GB，arm64",
        "eventbridge_event": "EventBridge：结果事件",
        "http_api_request": "API Gateway",
        "log_gb": "日志",
        "xray_trace": "另加：X-Ray（`Tracing`），每秒的第一次调用和其余的 {traced_share:.0%}，减去 {xray_trace:,} 条免费跟踪",
        "api_destination": "另加：每个事件调用一次 API 目标",
        "merchants": "| {merchants} 个商户，每月 | USD |",
        "secrets": "它们的 Secret",
        "reads": "读取它们：`SecretCacheTtlSeconds` 为 {ttl_seconds}，全部整月繁忙",
        "fewer_reads": "同上，{ttl_seconds_of_many_merchants} 秒",
        "prices": "| 价格项 | USD | 每 | AWS 页面 | 日期 |",
    },
}


def resources(template, values):
    """How many metrics the template's alarms watch, how many composite alarms there are, and how many metrics its filters
    make of the log, if a dimension has that many values."""
    blocks = re.split(r"^  (?=\w+:$)", template, flags=re.MULTILINE)
    alarms = [block for block in blocks if "Type: AWS::CloudWatch::Alarm\n" in block]
    # Several filters can make one metric.
    metrics = {
        name: values if "Dimensions:" in block else 1
        for block in blocks if "Type: AWS::Logs::MetricFilter\n" in block
        for name in re.findall(r"MetricName: (\w+)", block)
    }
    composites = [block for block in blocks if "Type: AWS::CloudWatch::CompositeAlarm\n" in block]
    assert alarms and composites and metrics, "template.yaml has no alarm or no metric filter"
    return sum(max(1, block.count("MetricStat:")) for block in alarms), len(composites), sum(metrics.values())


def tables(language):
    data = json.loads((DOCS / "prices.json").read_text(encoding="utf-8"))
    assume, free = data["assumptions"], data["free_each_month"]
    text = {name: label.format(**assume, **free) for name, label in TEXT[language].items()}
    usd = {name: price["usd"] / price["per"] for name, price in data["prices"].items()}
    alarms, composites, metrics = resources((DOCS.parent / "template.yaml").read_text(encoding="utf-8"), assume["values_of_a_dimension"])

    hours = assume["hours_a_month"]
    fixed = {
        "secret_month": 1,
        "secret_read": hours * 3600 // assume["ttl_seconds"] * assume["environments_busy_all_month"],
        "sqs_request": hours * assume["polls_an_hour_of_each"] * assume["queue_pollers"],
        "alarm_month": alarms,
        "composite_alarm_month": composites,
        "metric_month": metrics,
        "dashboard_month": 1,
    }
    lines = [text["fixed"], "| --- | ---: | ---: | ---: |"]
    for name, count in fixed.items():
        price = data["prices"][name]
        each = f"{price['usd']:.2f}" + (f" / {price['per']:,}" if price["per"] > 1 else "")
        lines.append(f"| {text[name]} | {count:,} | {each} | {count * usd[name]:.2f} |")
    together = sum(count * usd[name] for name, count in fixed.items())
    gratis = sum(min(fixed[name], count) * usd[name] for name, count in free.items() if name in fixed)
    lines.append(f"| **{text['sum']}** | | | **{together:.2f}** |")
    lines.append(f"| {text['free']} | | | **{together - gratis:.2f}** |")
    lines.append(f"| {text['kms_key_month']} | 1 | {usd['kms_key_month']:.2f} | {usd['kms_key_month']:.2f} |")

    def column(trigger, batch):
        """An order of the queue is received twice: it waits for its close_at in between."""
        closes = MILLION / batch
        queued = trigger == "queue"
        waits = closes * assume["waits_an_order"] if queued else 0
        seconds = closes * assume["seconds_an_invocation"] + waits * assume["seconds_a_wait"]
        logged = MILLION * assume["log_bytes_an_order"] + (closes + waits) * assume["log_bytes_an_invocation"]
        logged += MILLION * assume["waits_an_order"] * assume["log_bytes_a_wait"] if queued else 0
        return {
            "sqs": (MILLION + 2 * closes + 2 * waits) * usd["sqs_request"] if queued else 0,
            "lambda_request": (closes + waits) * usd["lambda_request"],
            "lambda_time": seconds * assume["memory_gb"] * usd["lambda_gb_second_arm64"],
            "eventbridge_event": MILLION * usd["eventbridge_event"] if queued else 0,
            "http_api_request": 0 if queued else MILLION * usd["http_api_request"],
            "log_gb": logged / 1e9 * usd["log_gb"],
        }

    def traces(batch):
        """Of calls that come at random, spread over the month: each second's first one, and a share of the others."""
        calls, all_seconds = MILLION / batch, hours * 3600
        first = all_seconds * (1 - math.exp(-calls / all_seconds))
        return max(0, first + (calls - first) * assume["traced_share"] - free["xray_trace"])

    columns = [column("queue", 1), column("queue", 10), column("http", 1)]
    lines += ["", text["million"], "| --- | ---: | ---: | ---: |"]
    for name in columns[0]:
        lines.append(f"| {text[name]} | " + " | ".join(f"{one[name]:.2f}" if one[name] else "–" for one in columns) + " |")
    lines.append(f"| **{text['sum']}** | " + " | ".join(f"**{sum(one.values()):.2f}**" for one in columns) + " |")
    traced = " | ".join(f"{traces(batch) * usd['xray_trace']:.2f}" for batch in (1, 10, 1))
    lines.append(f"| {text['xray_trace']} | {traced} |")
    told = f"{MILLION * usd['api_destination']:.2f}"
    lines.append(f"| {text['api_destination']} | {told} | {told} | – |")

    many = assume["merchants"]
    busy = many * hours * 3600 * assume["environments_busy_all_month"] * usd["secret_read"]
    lines += ["", text["merchants"], "| --- | ---: |", f"| {text['secrets']} | {many * usd['secret_month']:.2f} |"]
    for name, ttl in (("reads", "ttl_seconds"), ("fewer_reads", "ttl_seconds_of_many_merchants")):
        lines.append(f"| {text[name]} | {busy / assume[ttl]:.2f} |")

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
