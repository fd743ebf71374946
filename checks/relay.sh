#!/usr/bin/env bash
# The way over from CloudPay: the relay's real Lambda client in front of the real function, which cargo-lambda's
# emulator runs and the sandbox surrounds, and beside it the real wx-server-sdk, whose results it has to match.
# Needs Rust, Python 3 with venv, and Node.js with npm; the rest comes from PyPI and npm.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"

readonly SECRET_ID=wechat-pay/close-order # the sandbox's

heading "Tools"
for tool in node npm; do
  command -v "$tool" >/dev/null || failed "$tool is missing: Node.js 18.19 or newer is needed, with npm (https://nodejs.org)"
done
node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 18 || (a == 18 && b >= 19) ? 0 : 1)' ||
  failed "Node.js $(node --version) is too old: 18.19 or newer is needed"
installed cargo-lambda --no-deps "$CARGO_LAMBDA"
if ! cmp -s relay/package-lock.json relay/node_modules/.of-package-lock.json; then
  printf '  ...   npm ci\n'
  passes "npm ci in relay/" timeout 300 npm ci --prefix relay --ignore-scripts --no-audit --no-fund --loglevel=error
  cp relay/package-lock.json relay/node_modules/.of-package-lock.json
fi
shown "Node.js $(node --version), $CARGO_LAMBDA"

heading "The function, in emulators"
passes "cargo build --package close-order" cargo build --locked --package close-order
passes "cargo build --package sandbox" cargo build --locked --package sandbox
read -r sandbox secrets runtime lambda gateway <<<"$(free_ports 5)"

start sandbox "$CARGO_TARGET_DIR/debug/sandbox" serve \
  --gateway-port "$sandbox" --secrets-port "$secrets" --runtime-port "$runtime"
listening sandbox "$runtime" 20

# The function's whole environment. Its WeChat Pay is the tests', who write down what they pass on to the sandbox.
function=(
  AWS_REGION=eu-central-1 AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none
  "AWS_ENDPOINT_URL_SECRETS_MANAGER=http://127.0.0.1:$secrets"
  "WECHAT_PAY_ENDPOINTS=http://127.0.0.1:$gateway" WECHAT_PAY_TIMEOUT_MS=2000
)

# cargo-lambda builds and starts the function by itself, so it needs what cargo needs.
cargo=(HOME="$HOME" PATH="$tools/cargo-lambda/bin:$PATH" CARGO_TARGET_DIR="$CARGO_TARGET_DIR" CARGO_NET_OFFLINE=true)
for name in CARGO_HOME RUSTUP_HOME RUSTUP_TOOLCHAIN; do
  if [[ -n ${!name:-} ]]; then cargo+=("$name=${!name}"); fi
done
start watch env -i "${cargo[@]}" "${function[@]}" "WECHAT_PAY_SECRET_ID=$SECRET_ID" CARGO_LAMBDA_COMPILER=cargo \
  cargo lambda watch --invoke-address 127.0.0.1 --invoke-port "$lambda" --ignore-changes --bin close-order
listening watch "$lambda" 30
post "http://127.0.0.1:$lambda/2015-03-31/functions/close-order/invocations" events/bad-input.json "$work/answer.json"
answers "cargo-lambda runs it" "$work/answer.json" returnCode=FAIL errCode=-501007

# Another one without a secret, behind the sandbox's Invoke API, which has Lambda's own form of a function error.
start function env -i "${function[@]}" WECHAT_PAY_SECRET_ID=close-order/none \
  "AWS_LAMBDA_RUNTIME_API=127.0.0.1:$runtime" AWS_LAMBDA_FUNCTION_NAME=close-order \
  "AWS_LAMBDA_FUNCTION_VERSION=\$LATEST" AWS_LAMBDA_FUNCTION_MEMORY_SIZE=128 "$CARGO_TARGET_DIR/debug/close-order"
post "http://127.0.0.1:$runtime/2015-03-31/functions/close-order/invocations" events/bad-input.json "$work/answer.json"
answers "the sandbox runs it" "$work/answer.json" returnCode=FAIL errCode=-501007

heading "The relay, and wx-server-sdk"
cd relay
# Nothing of this shell's gets in: no account, no proxy, no settings of the AWS SDK.
if ! env -i PATH="$PATH" HOME="$work" \
  "RELAY_TEST_LAMBDA=http://127.0.0.1:$lambda" "RELAY_TEST_LAMBDA_WITHOUT_SECRET=http://127.0.0.1:$runtime" \
  "RELAY_TEST_SANDBOX=http://127.0.0.1:$sandbox" "RELAY_TEST_GATEWAY_PORT=$gateway" \
  timeout 300 node --test --test-concurrency=1 --test-reporter=spec test/*.test.js >"$work/tests" 2>&1; then
  cat "$work/tests" >&2
  tail -n 20 "$work/watch.log" >&2
  failed "node --test test/*.test.js"
fi
shown "$(awk '$2 == "pass" { print $3 }' "$work/tests") tests"

heading "All of it passed."
