#!/usr/bin/env bash
# Is template.yaml fit to be deployed? Linters on it and on what SAM makes of it, the tests of what it promises, and
# the function built as `sam deploy` would send it, answering an event under AWS's Runtime Interface Emulator.
# Needs Rust and Python 3 with venv; the rest comes from PyPI.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"

export SAM_CLI_TELEMETRY=0

heading "Tools"
installed sam "$AWS_SAM_CLI" "$CFN_LINT"
installed checkov "$CHECKOV"
installed cargo-lambda --no-deps "$CARGO_LAMBDA"
installed shellcheck "$SHELLCHECK"
get_rie
sam=$tools/sam/bin
shown "$AWS_SAM_CLI, $CFN_LINT, $CHECKOV, $CARGO_LAMBDA, $SHELLCHECK"

heading "Linters"
passes "shellcheck on the scripts here" "$tools/shellcheck/bin/shellcheck" -x checks/*.sh
passes "cfn-lint on template.yaml" "$sam/cfn-lint" template.yaml
for region in us-east-1 cn-north-1; do
  passes "sam validate --lint, $region" "$sam/sam" validate --lint --template template.yaml --region "$region"
  "$sam/python" checks/expand.py "$region" >"$work/$region.json" || failed "expanding template.yaml for $region"
  passes "cfn-lint on its expansion, $region" "$sam/cfn-lint" --regions "$region" -- "$work/$region.json"
done
checkov=("$tools/checkov/bin/checkov" --framework cloudformation --compact --quiet --skip-download)
passes "checkov on template.yaml" "${checkov[@]}" --file template.yaml
passes "checkov on its expansion" "${checkov[@]}" --file "$work/us-east-1.json"

heading "What the template promises"
passes "checks/template_test.py" "$sam/python" checks/template_test.py

heading "The function as it will be deployed"
passes "sam build, $(architecture)" env PATH="$tools/cargo-lambda/bin:$PATH" CARGO_LAMBDA_COMPILER=cargo \
  "$sam/sam" build --template template.yaml --build-dir "$tools/sam-build" \
  --parameter-overrides "Architecture=$(architecture)"
bootstrap=$tools/sam-build/CloseOrderFunction/bootstrap

# Amazon Linux 2023, which provided.al2023 is, has glibc 2.34.
python3 - "$bootstrap" <<'EOP' || failed "the built bootstrap does not run on Amazon Linux 2023"
import pathlib, re, sys
binary = pathlib.Path(sys.argv[1]).read_bytes()
if binary[:4] != b"\x7fELF":
    sys.exit("it is no program for Linux")
needed = {tuple(map(int, found.split(b"."))) for found in re.findall(rb"\0GLIBC_(\d+(?:\.\d+)+)(?=\0)", binary)}
newest = max(needed, default=(0,))
shown = ".".join(map(str, newest))
if newest > (2, 34):
    sys.exit(f"it needs GLIBC_{shown}, and there is 2.34")
print(f"  ok    the built bootstrap needs glibc {shown}, and there is 2.34")
EOP

read -r port runtime nothing <<<"$(free_ports 3)"
start rie env -i PATH=/usr/bin:/bin \
  AWS_LAMBDA_FUNCTION_NAME=close-order AWS_LAMBDA_FUNCTION_TIMEOUT=28 AWS_LAMBDA_FUNCTION_MEMORY_SIZE=256 \
  AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none \
  AWS_ENDPOINT_URL_SECRETS_MANAGER="http://127.0.0.1:$nothing" WECHAT_PAY_SECRET_ID=close-order \
  "$rie" --runtime-interface-emulator-address "127.0.0.1:$port" --runtime-api-address "127.0.0.1:$runtime" \
  --log-level error "$bootstrap" bootstrap
listening rie "$port" 10
call=http://127.0.0.1:$port/2015-03-31/functions/function/invocations

# Without a secret there are two things it can still say.
echo '{}' >"$work/no-order.json"
post "$call" "$work/no-order.json" "$work/answer.json"
answers "it answers an event without an order" "$work/answer.json" returnCode=FAIL errCode=-501007
post "$call" events/close-order.json "$work/answer.json"
answers "it answers events/close-order.json with the fault that there is no secret" "$work/answer.json" \
  errorType=CredentialsUnavailable

heading "All of it passed."
