#!/usr/bin/env bash
# The release binary among parts that are not ours: AWS's own Runtime Interface Emulator hands it events, moto's
# Secrets Manager keeps its key, and then cargo-lambda's emulator does the same. The gateway is the sandbox's.
# Needs Rust and Python 3 with venv; the rest comes from PyPI.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"

# The service provider whom the sandbox's gateway knows.
readonly API_KEY=192006250b4c09247ec02edce69f6a2d
readonly ANOTHER_KEY=00000000000000000000000000000000
readonly SECRET_ID=close-order/merchant
readonly TTL_SECONDS=1

heading "Tools"
installed moto "$MOTO"
installed cargo-lambda --no-deps "$CARGO_LAMBDA"
get_rie
shown "$AWS_SAM_CLI (the Runtime Interface Emulator), $MOTO, $CARGO_LAMBDA"

heading "The release binary"
passes "cargo build --release" cargo build --locked --release --package close-order
passes "cargo build --package sandbox" cargo build --locked --package sandbox
read -r gateway secrets runtime moto rie_port rie_runtime lambda <<<"$(free_ports 7)"

# ------------------------------------------------------------------------------------------------ what is around it

# A gateway that has not seen any order yet.
start_gateway() {
  start gateway "$CARGO_TARGET_DIR/debug/sandbox" serve \
    --gateway-port "$gateway" --secrets-port "$secrets" --runtime-port "$runtime"
  listening gateway "$gateway" 20
}

# secret VERB KEY: creates the secret with this key, or puts it into the secret that is there.
secret() {
  env -u HTTP_PROXY -u http_proxy -u ALL_PROXY -u all_proxy "$tools/moto/bin/python" -c '
import json, sys
import boto3
verb, port, name, api_key = sys.argv[1:]
client = boto3.client("secretsmanager", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
                      aws_access_key_id="none", aws_secret_access_key="none")
value = json.dumps({"appid": "wxd678efh567hg6787", "mch_id": "1230000109", "api_key": api_key})
if verb == "create":
    client.create_secret(Name=name, SecretString=value)
else:
    client.put_secret_value(SecretId=name, SecretString=value)
' "$1" "$moto" "$SECRET_ID" "$2" || failed "the secret in moto: $1"
}

# order N TO: events/close-order.json with another out_trade_no, for an order that is not closed yet.
order() {
  python3 -c '
import json, pathlib, sys
number, to = sys.argv[1:]
order = json.loads(pathlib.Path("events/close-order.json").read_text(encoding="utf-8"))
order["out_trade_no"] = f"emulators-{number}"
pathlib.Path(to).write_text(json.dumps(order), encoding="utf-8")
' "$@"
}

# The function's whole environment: nothing of this shell's (a proxy, a certificate file, AWS's own) gets in.
function=(
  AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none
  "AWS_ENDPOINT_URL_SECRETS_MANAGER=http://127.0.0.1:$moto"
  "WECHAT_PAY_SECRET_ID=$SECRET_ID" "WECHAT_PAY_ENDPOINTS=http://127.0.0.1:$gateway"
  "SECRET_CACHE_TTL_SECONDS=$TTL_SECONDS" AWS_LAMBDA_LOG_LEVEL=TRACE AWS_LAMBDA_LOG_FORMAT=JSON
)

# keeps_secrets LOG: at the loudest level, neither key is in what the function logged.
keeps_secrets() {
  if grep -qE "$API_KEY|$ANOTHER_KEY" "$work/$1.log"; then failed "$1: the key is in the log"; fi
  shown "the key is not in the log, at TRACE"
}

# ------------------------------------------------------------------------------------------------ RIE and moto

heading "Under AWS's Runtime Interface Emulator, with its secret in moto"
start moto "$tools/moto/bin/moto_server" -H 127.0.0.1 -p "$moto"
listening moto "$moto" 30
secret create "$API_KEY"
start_gateway
start rie env -i PATH=/usr/bin:/bin "${function[@]}" \
  AWS_LAMBDA_FUNCTION_NAME=close-order AWS_LAMBDA_FUNCTION_TIMEOUT=28 AWS_LAMBDA_FUNCTION_MEMORY_SIZE=256 \
  "$rie" --runtime-interface-emulator-address "127.0.0.1:$rie_port" --runtime-api-address "127.0.0.1:$rie_runtime" \
  --log-level error "$CARGO_TARGET_DIR/release/close-order" bootstrap
listening rie "$rie_port" 10
call=http://127.0.0.1:$rie_port/2015-03-31/functions/function/invocations

post "$call" events/close-order.json "$work/answer.json"
answers "closes events/close-order.json" "$work/answer.json" \
  returnCode=SUCCESS resultCode=SUCCESS result_code=SUCCESS errCode=0 errMsg=cloudPay.closeOrder:ok

secret put "$ANOTHER_KEY"
sleep $((TTL_SECONDS + 1))
order 1 "$work/order.json"
post "$call" "$work/order.json" "$work/answer.json"
answers "the secret rotated to a wrong key: the gateway refuses the sign" "$work/answer.json" \
  returnCode=FAIL returnMsg~签名错误 errCode=0

secret put "$API_KEY"
sleep $((TTL_SECONDS + 1))
post "$call" "$work/order.json" "$work/answer.json"
answers "the secret rotated back: the order is closed" "$work/answer.json" returnCode=SUCCESS resultCode=SUCCESS

# What each event of the other triggers is answered with, whatever its order is worth in the sandbox.
for event in api-gateway-rest api-gateway-http function-url alb; do
  [[ -f events/$event.json ]] || continue
  post "$call" "events/$event.json" "$work/answer.json"
  answers "answers events/$event.json as its caller wants it" "$work/answer.json" \
    statusCode=200 isBase64Encoded=false 'body~"returnCode":"SUCCESS"'
done
if [[ -f events/sqs.json ]]; then
  post "$call" events/sqs.json "$work/answer.json"
  answers "answers events/sqs.json with the list of failures" "$work/answer.json" 'batchItemFailures~['
fi

keeps_secrets rie
"$tools/moto/bin/python" checks/metric_filter.py "$work/rie.log" >"$work/metrics" || failed "reading the function's log"
for made in 'closed OrderDuration OrdersClosed' 'sign_refused OrderDuration SignRefused'; do
  grep -qxF "$made" "$work/metrics" || {
    cat "$work/metrics" "$work/rie.log" >&2
    failed "template.yaml's metrics of the function's own log: no '$made'"
  }
done
shown "the function's own log lines count for template.yaml's metrics"
stop rie

# ------------------------------------------------------------------------------------------------ cargo-lambda

heading "Under cargo-lambda"
stop gateway # which remembers what it closed; the same order is to be closed once more
start_gateway

# It builds and starts the function by itself, so it needs what cargo needs; the rest stays outside here too.
cargo=(HOME="$HOME" PATH="$tools/cargo-lambda/bin:$PATH" CARGO_TARGET_DIR="$CARGO_TARGET_DIR" CARGO_NET_OFFLINE=true)
for name in CARGO_HOME RUSTUP_HOME RUSTUP_TOOLCHAIN; do
  if [[ -n ${!name:-} ]]; then cargo+=("$name=${!name}"); fi
done
start watch env -i "${cargo[@]}" "${function[@]}" CARGO_LAMBDA_COMPILER=cargo \
  cargo lambda watch --invoke-address 127.0.0.1 --invoke-port "$lambda" --ignore-changes --release --bin close-order
listening watch "$lambda" 30

env -i "${cargo[@]}" timeout 300 cargo lambda invoke close-order \
  --invoke-address 127.0.0.1 --invoke-port "$lambda" --data-file events/close-order.json >"$work/answer.json" || {
  tail -n 40 "$work/watch.log" >&2
  failed "cargo lambda invoke close-order --data-file events/close-order.json"
}
answers "cargo lambda invoke --data-file events/close-order.json closes it" "$work/answer.json" \
  returnCode=SUCCESS resultCode=SUCCESS errCode=0 errMsg=cloudPay.closeOrder:ok

order 2 "$work/order.json"
post "http://127.0.0.1:$lambda/lambda-url/close-order/" "$work/order.json" "$work/answer.json"
answers "POST /lambda-url/close-order/ closes another over HTTP" "$work/answer.json" \
  returnCode=SUCCESS resultCode=SUCCESS errCode=0
keeps_secrets watch

heading "All of it passed."
