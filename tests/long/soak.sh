#!/usr/bin/env bash
# Soaks of the release build, with faults and without; figures by `soak.py`. `tests/run --long` runs each once; all of them
# as often as a release needs, alone:
#
#   tests/long/soak.sh [RUNS]       RUNS soaks of ten minutes with faults on both stacks in turn (10), then half an hour without faults on each

soak() {
  cargo build --locked --quiet --release --bin isocenter
  cargo build --locked --quiet --example s3_server
  ISOCENTER_TEST_BINARY="$target/release/isocenter" "${python:-python3}" tests/long/soak.py "$@"
}

long_ten_minutes_of_kills_lose_nothing_in_sqlite_and_a_folder() { soak --stack sqlite-folder --minutes 10; }
long_ten_minutes_of_kills_and_faults_lose_nothing_in_postgresql_and_s3() { soak --stack postgres-s3 --minutes 10; }
long_half_an_hour_on_sqlite_and_a_folder_takes_no_more_memory() { soak --stack sqlite-folder --steady 30; }
long_half_an_hour_on_postgresql_and_s3_takes_no_more_memory() { soak --stack postgres-s3 --steady 30; }

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  set -euo pipefail
  cd "$(dirname "$0")/../.."
  target=${CARGO_TARGET_DIR:-$PWD/target}
  good=0 runs=${1:-10}
  for ((run = 1; run <= runs; run++)); do
    stack=$([[ $((run % 2)) -eq 1 ]] && echo sqlite-folder || echo postgres-s3)
    if soak --stack "$stack" --minutes 10 --seed "$run"; then good=$((good + 1)); fi
  done
  echo "$good of $runs soaks lost nothing"
  long_half_an_hour_on_sqlite_and_a_folder_takes_no_more_memory
  long_half_an_hour_on_postgresql_and_s3_takes_no_more_memory
  [[ $good -eq $runs ]]
fi
