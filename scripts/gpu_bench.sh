#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# scripts/gpu_bench.sh [GPUS]: times the collectives on 2, 4 and 8 GPUs, as many of them as there
# are, beside NCCL, torch and exllamav2's chain, in under 4 minutes once built. It installs nothing.
#
# CSV files and logs go to OUT (build/bench); programs come from BIN (build/gpu_bench/bin) and are
# built if they are not there, with NCCL where it is found. BUDGET: seconds for all runs.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-build/bench}
bin=${BIN:-build/gpu_bench/bin}
gpus=${1:-$(nvidia-smi --list-gpus | wc -l)}
mkdir -p "$out"

configure() {
  cmake -S . -B build/gpu_bench -DCMAKE_BUILD_TYPE=Release -DTPX_CUDA=ON -DTPX_NCCL="$1" \
    -DTPX_BUILD_BENCHMARKS=ON -DTPX_BUILD_TESTS=OFF -DTPX_BUILD_EXAMPLES=OFF
}
if [ ! -x "$bin/allreduce_bench" ]; then
  echo "building"
  PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin
  {
    configure ON || configure OFF
    cmake --build build/gpu_bench --target gpu_benchmarks tpx-run --parallel "$(nproc)"
  } >"$out/build.log" 2>&1 || { tail -n 40 "$out/build.log"; exit 1; }
fi

peers=--peers
if ! ldd "$bin/allreduce_bench" | grep -q libnccl; then
  echo "built without NCCL: no rows of it"
  peers=
fi
budget=${BUDGET:-230}
SECONDS=0
failed=0
rm -f "$out"/*.csv

# run <name> <seconds> <command>...: its table in <name>.csv, its output in <name>.log.
run() {
  local name=$1 limit=$2 start=$SECONDS status=0
  shift 2
  local left=$((budget - SECONDS))
  if [ "$left" -lt 8 ]; then
    echo "$name: left out, the time is over"
    failed=1
    return
  fi
  timeout --kill-after 5 "$((limit < left ? limit : left))" "$@" --csv "$out/$name.csv" >"$out/$name.log" 2>&1 || status=$?
  if [ "$status" = 0 ]; then
    echo "$name: $((SECONDS - start)) s"
  else
    failed=1
    echo "$name: FAILED with $status after $((SECONDS - start)) s: $(tail -n 1 "$out/$name.log")"
  fi
}

sizes=()
for n in 2 4 8; do
  if [ "$n" -le "$gpus" ]; then sizes+=("$n"); fi
done
for n in "${sizes[@]}"; do
  run "allreduce_peer_$n" 40 "$bin/allreduce_bench" -g "$n" $peers
done
for n in "${sizes[@]}"; do
  run "allreduce_host_$n" 45 "$bin/allreduce_bench" -g "$n" -e 64M -n 50 --transport host $peers --baseline exllamav2
done
run "barrier_$gpus" 20 "$bin/barrier_bench" -g "$gpus" $peers
for collective in broadcast gather allgather reduce_scatter; do
  run "${collective}_$gpus" 25 "$bin/${collective}_bench" -g "$gpus" -f 4 -e 128M $peers
done
run "allreduce_odd_$gpus" 15 "$bin/allreduce_bench" -g "$gpus" -b 8194 -e 64M -f 8 --offset 1
for epilogue in add rmsnorm rmsnorm-fp8; do
  run "allreduce_epilogue_${epilogue}_$gpus" 15 "$bin/allreduce_bench" -g "$gpus" -b 16K -e 1M --epilogue "$epilogue"
done
if python3 -c 'import torch.distributed._symmetric_memory' 2>/dev/null; then
  run "torch_$gpus" 45 python3 benchmarks/peers/torch_symm.py -g "$gpus"
fi
for ((n = 3; n < gpus; ++n)); do
  if [[ " ${sizes[*]} " != *" $n "* ]]; then
    run "allreduce_peer_$n" 12 "$bin/allreduce_bench" -g "$n" -f 8 -e 64M
  fi
done

# What docs/performance.md promises: microseconds on H200s, and the time over the best peer's.
echo
printf '%-15s %-8s %2s %10s %10s %8s  %-20s %6s %6s  %s\n' collective by n bytes us bar "best peer" ratio limit exllamav2
awk -F, '
  BEGIN {
    split("8192 65536 262144 1048576 4194304 16777216 67108864 268435456", sizes, " ")
    split("2.5 2.8 3.4 5.6 14.5 51 190 745", two, " ")
    split("2.9 3.4 5.0 9.0 23 78 288 1120", four, " ")
    split("4.0 5.5 8.0 11.5 26 88 330 1300", eight, " ")
    for (i in sizes) { shown[sizes[i]]; bar[2, sizes[i]] = two[i]; bar[4, sizes[i]] = four[i]; bar[8, sizes[i]] = eight[i] }
    shown[0]
  }
  /^#/ || $1 == "collective" || $6 != "graph" { next }
  {
    what = $1 ($8 == 0 ? "" : "+" $8)
    key = what "," $2 "," $5 "," $10
    if ($11 ~ /^tpx \+ /) { key = $1 "," substr($11, 7) "," $5 "," $10; plain[key] = before; $11 = "tpx" }
    else if (FILENAME ~ /epilogue/) { before = $12; next }
    if ($17 == "NO") wrong[key] = wrong[key] " " $11
    if ($11 == "tpx") { tpx[key] = $12; keys[key] }
    else if ($11 == "exllamav2") old[key] = $12
    else if ($11 !~ /^tpx/ && (!(key in best) || $12 < best[key])) { best[key] = $12; who[key] = $11 }
  }
  END {
    for (key in keys) {
      split(key, k, ",")
      if (k[1] == "allreduce" && !(key in plain) && !(k[4] in shown)) continue
      promised = k[1] == "allreduce" && k[2] == "peer" ? bar[k[3], k[4]] : k[1] == "barrier" && k[3] == 8 ? 2.3 : ""
      ratio = key in best ? tpx[key] / best[key] : key in plain ? tpx[key] / plain[key] : ""
      if (key in plain) limit = 1.15
      else if (k[1] == "allreduce") limit = k[2] == "peer" ? 0.9 : k[4] <= 1048576 ? 0.5 : 0.75
      else limit = k[4] <= 262144 ? 0.67 : 1
      late = (promised != "" && tpx[key] > promised) || (ratio != "" && ratio > limit)
      printf "%-15s %-8s %2d %10d %10.2f %8s  %-20s %6s %6s  %s%s%s\n", k[1], k[2], k[3], k[4], tpx[key], promised,
        key in best ? sprintf("%.2f %s", best[key], who[key]) : key in plain ? sprintf("%.2f without", plain[key]) : "", ratio == "" ? "" : sprintf("%.2f", ratio),
        ratio == "" ? "" : limit, key in old ? sprintf("x%.1f", old[key] / tpx[key]) : "",
        late ? " missed" : "", key in wrong ? " WRONG:" wrong[key] : ""
    }
  }' "$out"/*.csv | sort -k1,1 -k2,2r -k3,3n -k4,4n
echo "$SECONDS s; tables in $out"
exit "$failed"
