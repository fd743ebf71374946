#!/usr/bin/env bash
# The READMEs, word for word: every command of theirs is run here or by .ci/run, or says why not, and what they quote is
# so. AWS's own command line runs theirs, against moto; the function, in the sandbox, reads the secret that they make.
# Needs Rust, curl and Python 3 with venv; the rest comes from PyPI.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"

readonly API_KEY=192006250b4c09247ec02edce69f6a2d # the sandbox's
readonly NEW_KEY=5e884898da28047151d0e56f8dc62927 # that it is changed to
readonly FUNCTION_ARN=arn:aws:lambda:eu-central-1:123456789012:function:close-order

heading "Tools"
installed moto "$MOTO"
installed awscli "$AWS_CLI"
installed cfn-lint "$CFN_LINT"
shown "$MOTO, $AWS_CLI, $CFN_LINT"

heading "What the READMEs say"
passes "commands, links, quotes, names" python3 checks/readme.py check
python3 -c '
import json, sys
definition = json.load(open("examples/step-functions.json", encoding="utf-8"))
machine = {"Type": "AWS::StepFunctions::StateMachine",
           "Properties": {"RoleArn": "arn:aws:iam::123456789012:role/none", "Definition": definition,
                          "DefinitionSubstitutions": {"FunctionArn": sys.argv[2]}}}
json.dump({"Resources": {"Machine": machine}}, open(sys.argv[1], "w", encoding="utf-8"))
' "$work/machine.json" "$FUNCTION_ARN"
passes "examples/step-functions.json is a state machine" "$tools/cfn-lint/bin/cfn-lint" "$work/machine.json"

heading "The first command"
cargo run --locked -p sandbox -- invoke events/close-order.json >"$work/out" 2>"$work/err" </dev/null ||
  failed "cargo run -p sandbox -- invoke events/close-order.json"
{ grep -E '^ +(sent|came back|means|to do)  ' "$work/err" && cat "$work/out"; } >"$work/printed"
python3 checks/readme.py output | diff -u - "$work/printed" >&2 || failed "it prints something else than the READMEs have"
shown "it prints what the READMEs have"

heading "The commands for AWS"
passes "cargo build --package close-order" cargo build --locked --package close-order
read -r moto gateway secrets runtime <<<"$(free_ports 4)"
start moto "$tools/moto/bin/moto_server" -H 127.0.0.1 -p "$moto"
start sandbox "$CARGO_TARGET_DIR/debug/sandbox" serve \
  --gateway-port "$gateway" --secrets-port "$secrets" --runtime-port "$runtime"
listening moto "$moto" 30
listening sandbox "$runtime" 20

# All of AWS is moto, but for Lambda, which is the sandbox's Invoke API; it also stands where the HTTP API would. They
# are named by --endpoint-url, since version 1 of the command line (PyPI has no other) asks AWS's own SQS whatever
# AWS_ENDPOINT_URL says; and what it does not have of version 2 is done for it.
invoke=http://127.0.0.1:$runtime/2015-03-31/functions/close-order/invocations
mkdir "$work/bin"
cat >"$work/bin/aws" <<SHIM
#!/usr/bin/env bash
case \$1 in
  configure) [[ \$2 == export-credentials ]] && env | sed -n 's/^AWS_[A-Z]*_*ACCESS_KEY/export &/p' ;;
  lambda) exec "$tools/awscli/bin/aws" --endpoint-url "http://127.0.0.1:$runtime" "\$@" ;;
  *) exec "$tools/awscli/bin/aws" --endpoint-url "http://127.0.0.1:$moto" "\$@" ;;
esac
SHIM
chmod +x "$work/bin/aws"
aws=(
  "PATH=$work/bin:$PATH" "HOME=$work" AWS_REGION=eu-central-1 AWS_DEFAULT_REGION=eu-central-1
  AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_EC2_METADATA_DISABLED=true AWS_PAGER=
)
aws() { env -i "${aws[@]}" aws "$@"; }

# What is there once the stack is deployed, as far as the commands touch it.
queue_url=$(aws sqs create-queue --queue-name orders --query QueueUrl --output text)
queue_arn=$(aws sqs get-queue-attributes --queue-url "$queue_url" --attribute-names QueueArn --query Attributes.QueueArn --output text)
python3 -c '
import json, sys
values = dict(pair.split("=", 1) for pair in sys.argv[2:])
stack = {"Resources": {"Nothing": {"Type": "AWS::CloudFormation::WaitConditionHandle"}},
         "Outputs": {name: {"Value": value} for name, value in values.items()}}
json.dump(stack, open(sys.argv[1], "w", encoding="utf-8"))
' "$work/stack.json" FunctionName=close-order "FunctionArn=$FUNCTION_ARN" "ApiUrl=$invoke" \
  "QueueUrl=$queue_url" "QueueArn=$queue_arn" LogGroup=/aws/lambda/close-order
aws cloudformation create-stack --stack-name close-order --template-body "file://$work/stack.json" >/dev/null
aws logs create-log-group --log-group-name /aws/lambda/close-order

# The function starts before there is a secret; the first call reads it.
start function env -i "${aws[@]}" WECHAT_PAY_SECRET_ID=wechat-pay/close-order \
  "AWS_ENDPOINT_URL_SECRETS_MANAGER=http://127.0.0.1:$moto" \
  "WECHAT_PAY_ENDPOINTS=http://127.0.0.1:$gateway" AWS_LAMBDA_LOG_FORMAT=JSON \
  "AWS_LAMBDA_RUNTIME_API=127.0.0.1:$runtime" AWS_LAMBDA_FUNCTION_NAME=close-order \
  "AWS_LAMBDA_FUNCTION_VERSION=\$LATEST" AWS_LAMBDA_FUNCTION_MEMORY_SIZE=256 "$CARGO_TARGET_DIR/debug/close-order"

python3 checks/readme.py session >"$work/session"
ln -s "$root/events" "$root/examples" "$work"
if ! (cd "$work" && env -i "${aws[@]}" timeout 300 bash session <<<"$API_KEY"$'\n'"$NEW_KEY") >"$work/said" 2>&1; then
  cat "$work/said" >&2
  failed "one of the commands"
fi
shown "all of them run"
answers "the first call closes the order" "$work/reply.json" returnCode=SUCCESS resultCode=SUCCESS
grep -q '"err_code":"ORDERCLOSED"' "$work/said" || failed "over HTTP, the order was not there again"
shown "over HTTP, it was closed before"

# same FILE FILE: the same JSON.
same() { python3 -c 'import json, sys; a, b = (json.load(open(f, encoding="utf-8")) for f in sys.argv[1:]); sys.exit(a != b)' "$@"; }
aws sqs receive-message --queue-url "$queue_url" --query 'Messages[0].Body' --output text >"$work/message.json"
same "$work/message.json" events/close-order.json || failed "the message in the queue is not the order"
shown "the queue has the order"
aws scheduler get-schedule --name 1900000109-1217752501201407033233368018 --query Target >"$work/target.json"
answers "the schedule goes to the queue" "$work/target.json" "Arn=\"$queue_arn\""
python3 -c 'import json, sys; print(json.load(sys.stdin)["Input"])' <"$work/target.json" >"$work/input.json"
answers "the schedule has the order" "$work/input.json" sub_mch_id='"1900000109"' out_trade_no='"1217752501201407033233368018"'
aws stepfunctions list-state-machines --query 'stateMachines[0].stateMachineArn' --output text >"$work/machine"
aws stepfunctions describe-state-machine --state-machine-arn "$(<"$work/machine")" --query definition --output text |
  grep -qF "\"Resource\": \"$FUNCTION_ARN\"" || failed "the state machine calls something else"
shown "the state machine calls the function"
aws secretsmanager get-secret-value --secret-id wechat-pay/close-order --query SecretString --output text >"$work/secret.json"
answers "the secret is the new one" "$work/secret.json" "api_key=$NEW_KEY"

grep -m 1 '"out_trade_no"' "$work/function.log" >"$work/line.json"
python3 checks/readme.py log >"$work/shown.json"
python3 -c '
import json, sys
line, shown = (json.load(open(file, encoding="utf-8")) for file in sys.argv[1:])
sys.exit(list(line) != list(shown) and f"a log line has {list(line)}")
' "$work/line.json" "$work/shown.json" || failed "the log line of the READMEs is another"
shown "the log line has the fields that the READMEs show"

heading "All of it passed."
