#!/usr/bin/env bash
# Runs the load program against Isocenter and Orthanc in turn, each on a new folder, and prints medians, ranges and ratios.
#
#   benches/compare.sh [--runs N] [--only isocenter|orthanc] [--keep DIR] [--lax] [-- OPTIONS OF THE LOAD PROGRAM]
#
# Both: index in SQLite, objects in a folder, loopback, no authentication, the same files, requests, order and connections, and
# every commit synced; with --lax Orthanc syncs commits as it comes, at checkpoints only.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

runs=5
servers=(isocenter orthanc)
results=
lax=no
profile=${ISOCENTER_BENCH_PROFILE:-release}
while [[ $# -gt 0 ]]; do
  case $1 in
    --runs) runs=$2; shift 2 ;;
    --lax) lax=yes; shift ;;
    --only) servers=("$2"); shift 2 ;;
    --keep) results=$2; shift 2 ;;
    --) shift; break ;;
    *) sed -n '2,/^set /s/^# \{0,1\}//p' "$0" | grep -v '^set '; exit 2 ;;
  esac
done
options=("$@")

work=$(mktemp -d "${TMPDIR:-/tmp}/isocenter-bench.XXXXXX")
results=${results:-$work/results}
mkdir -p "$results"
server=
stop() {
  [[ -n $server ]] || return 0
  kill "$server" 2>/dev/null || true
  wait "$server" 2>/dev/null || true
  server=
}
trap 'stop; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

wait_for() {
  local url=$1 try
  for try in $(seq 300); do
    if python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=2)' "$url" 2>/dev/null; then return; fi
    kill -0 "$server" 2>/dev/null || { tail -5 "$work/server.log" >&2; return 1; }
    sleep 0.1
  done
  echo "no answer from $url" >&2
  return 1
}

start_isocenter() {
  local folder=$1 port=$2
  "$target/$out/isocenter" serve --listen "127.0.0.1:$port" --data-dir "$folder" >"$work/server.log" 2>&1 &
  server=$!
  wait_for "http://127.0.0.1:$port/health/ready"
  url=http://127.0.0.1:$port/dicom-web
}

# SQLite in WAL mode with synchronous=NORMAL is compiled in; SyncStorageArea (the default) syncs every stored file.
start_orthanc() {
  local folder=$1 port=$2 plugin
  plugin=/usr/share/orthanc/plugins/libOrthancDicomWeb.so
  [[ -e $plugin ]] || { echo "$plugin is missing: install Debian's orthanc-dicomweb" >&2; return 1; }
  cat >"$work/orthanc.json" <<JSON
{
  "Name": "Orthanc",
  "StorageDirectory": "$folder",
  "IndexDirectory": "$folder",
  "StorageCompression": false,
  "SyncStorageArea": true,
  "HttpServerEnabled": true,
  "HttpPort": $port,
  "RemoteAccessAllowed": false,
  "AuthenticationEnabled": false,
  "KeepAlive": true,
  "TcpNoDelay": true,
  "DicomServerEnabled": false,
  "Plugins": ["$plugin"],
  "DicomWeb": { "Enable": true, "Root": "/dicom-web/", "EnableWado": false, "Ssl": false }
}
JSON
  local preload=
  if [[ $lax == no ]]; then
    preload=$work/sqlite_full.so
    [[ -e $preload ]] || "${CC:-cc}" -O2 -shared -fPIC -o "$preload" benches/sqlite_full.c -ldl
  fi
  LD_PRELOAD=$preload Orthanc "$work/orthanc.json" >"$work/server.log" 2>&1 &
  server=$!
  wait_for "http://127.0.0.1:$port/system"
  [[ $lax == yes ]] || grep -q '^sqlite_full: commits are synced' "$work/server.log" ||
    { echo "Orthanc did not ask SQLite for what benches/sqlite_full.c replaces" >&2; return 1; }
  url=http://127.0.0.1:$port/dicom-web
}

target=${CARGO_TARGET_DIR:-target}
out=$profile
[[ $profile != dev ]] || out=debug
if [[ " ${servers[*]} " == *" orthanc "* ]] && ! command -v Orthanc >/dev/null; then
  as_root=()
  [[ $EUID -eq 0 ]] || as_root=(sudo)
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq orthanc orthanc-dicomweb >/dev/null
fi
[[ " ${servers[*]} " != *" isocenter "* ]] || cargo build --profile "$profile" --bin isocenter
load=$(cargo build --profile "$profile" --bench load --message-format json | python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] == "load":
        print(message["executable"])')

for run in $(seq "$runs"); do
  for name in "${servers[@]}"; do
    # All folders stay to the end: a file system that has just freed many inodes makes new ones slowly for a while.
    folder=$work/data-$run-$name
    mkdir "$folder"
    "start_$name" "$folder" "$(free_port)"
    echo "run $run, $name"
    "$load" --url "$url" --label "$name" --server-pid "$server" --seed "$run" --json "$results/$name-$run.json" "${options[@]}"
    stop
  done
  # who goes first changes from run to run
  reversed=()
  for name in "${servers[@]}"; do reversed=("$name" "${reversed[@]}"); done
  servers=("${reversed[@]}")
done
python3 benches/summary.py "$results"/*.json
