#!/usr/bin/env bash
# Runs each fuzz target for SECONDS, one after another, and prints how many inputs it has tried.
#
#   fuzz/run-all.sh 600 [TARGET…]
#
# Needs cargo-fuzz (cargo install --locked cargo-fuzz). A finding ends the run; its input is in fuzz/artifacts/.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:?how many seconds for each target?}
shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(handshake box_stream rpc_packets message_json addresses ebt_notes blob_notes rtc_addresses rtc_signals hub_messages)

# libFuzzer's instrumentation is not in stable Rust yet: this lets the stable compiler use it.
export RUSTC_BOOTSTRAP=1
for target in "${targets[@]}"; do
  cargo fuzz build "$target"
done
for target in "${targets[@]}"; do
  mkdir -p "corpus/$target"
  log=$(mktemp)
  if ! nice -n 19 cargo fuzz run "$target" "corpus/$target" "seeds/$target" -- \
    -max_total_time="$seconds" -max_len=8192 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 >"$log" 2>&1; then
    tail -n 60 "$log"
    echo "$target: a finding, see above"
    exit 1
  fi
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  echo "$target: $runs inputs in $seconds s, no finding"
  rm -f "$log"
done
