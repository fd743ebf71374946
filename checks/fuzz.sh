#!/usr/bin/env bash
# Lets libFuzzer look for input that breaks a promise: in WeChat Pay's replies, in events through every trigger, and in
# the secret. Each target runs for as many seconds as the first argument says, 60 without one.
#
# It runs on the stable toolchain: RUSTC_BOOTSTRAP lets it take the flags that cargo-fuzz needs.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}

# cargo-fuzz would bring a lock file up to date that nobody committed.
cargo tree --locked --manifest-path fuzz/Cargo.toml >/dev/null
command -v cargo-fuzz >/dev/null || cargo install --locked --version 0.13.2 cargo-fuzz

declare -A seeds=([reply]=fuzz/seeds/reply [event]=events [secret]=fuzz/seeds/secret)
for target in reply event secret; do
  mkdir -p "fuzz/corpus/$target"
  RUSTC_BOOTSTRAP=1 cargo fuzz run "$target" "fuzz/corpus/$target" "${seeds[$target]}" -- \
    -max_total_time="$seconds" -max_len=8192 -print_final_stats=0 -verbosity=0
  printf '  ok    %s: nothing found in %s s\n' "$target" "$seconds"
done
