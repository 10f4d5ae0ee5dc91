#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# scripts/fault_table.sh [RANKS]: what the other ranks notice when rank 1 fails, with tpx and with
# NCCL, as a Markdown table. Needs a GPU a rank (2). It installs nothing.
#
# Programs come from BIN (build/gpu_bench/bin, as scripts/gpu_bench.sh builds them); the ranks' lines
# go to OUT (build/bench). DEADLINE: tpx's, in ms (2000). LIMIT: seconds for each program (60).
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${BIN:-build/gpu_bench/bin}
out=${OUT:-build/bench}
ranks=${1:-2}
limit=${LIMIT:-60}
mkdir -p "$out"
export NCCL_NVLS_ENABLE=0

whose=(tpx)
if ldd "$bin/fault_bench" | grep -q libnccl; then whose+=(nccl); fi
echo "| fault | library | noticed by the survivors | after at most | their contexts | 1,000 calls of a new communicator |"
echo "| --- | --- | --- | --- | --- | --- |"
for fault in kill absent late size; do
  for who in "${whose[@]}"; do
    lines=$out/fault_${fault}_$who.csv
    timeout --kill-after 5 "$limit" "$bin/tpx-run" --keep-going -n "$ranks" "$bin/fault_bench" "$who" "$fault" "${DEADLINE:-2000}" \
      >"$lines" 2>"${lines%.csv}.log" || true
    awk -F, -v fault="$fault" -v who="$who" -v limit="$limit" '
      function add(list, word) { return index(", " list ",", ", " word ",") ? list : list (list == "" ? "" : ", ") word }
      $1 == "survivor" && $2 != "itself" {
        noticed = add(noticed, $2); context = add(context, $4); again = add(again, $5)
        if ($3 > most) most = $3
        ++n
      }
      END { printf "| %s | %s | %s | %s | %s | %s |\n", fault, who, n ? noticed : "no rank came to an end in " limit " s", n ? most " ms" : "", context, again }
    ' "$lines"
  done
done
