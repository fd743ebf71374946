"""What a Python developer would write: wechatpy closes the order, boto3 reads the secret once per process. The loop at
the end is the least that a runtime does, less than Lambda's own."""

import http.client
import json
import os

import boto3
from wechatpy.pay import WeChatPay

secrets = boto3.client("secretsmanager")
endpoint = os.environ["WECHAT_PAY_ENDPOINTS"].split(",")[0]
pay = None


def connect():
    secret = secrets.get_secret_value(SecretId=os.environ["WECHAT_PAY_SECRET_ID"])
    merchant = json.loads(secret["SecretString"])
    connected = WeChatPay(merchant["appid"], merchant["api_key"], merchant["mch_id"])
    connected.API_BASE_URL = endpoint + "/"
    return connected


def handle(event):
    """wechatpy raises for every `result_code` but SUCCESS, and leaves it to the caller to verify the signature."""
    global pay
    pay = pay or connect()
    pay.sub_mch_id = event["sub_mch_id"]
    reply = pay.order.close(event["out_trade_no"])
    if not pay.check_signature(reply):
        raise ValueError("the reply's signature does not match")
    return {"returnCode": reply["return_code"], "resultCode": reply["result_code"]}


runtime = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])


def call(method, path, body=None):
    runtime.request(method, "/2018-06-01/runtime/invocation/" + path, body)
    response = runtime.getresponse()
    return response.headers, response.read()


while True:
    headers, body = call("GET", "next")
    request_id = headers["lambda-runtime-aws-request-id"]
    try:
        call("POST", request_id + "/response", json.dumps(handle(json.loads(body))))
    except Exception as error:  # a runtime reports whatever its handler raises
        report = {"errorType": type(error).__name__, "errorMessage": str(error)}
        call("POST", request_id + "/error", json.dumps(report))
