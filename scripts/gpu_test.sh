#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# scripts/gpu_test.sh [--sanitize | --soak MINUTES | --long]: builds and runs what needs a GPU, on a
# machine that has one and may have no network: it installs nothing, and needs nvcc, g++ and Catch2 3
# alone. Without an option every test, with ranks that are threads and that are processes, in under 8
# minutes; --sanitize: reduced ones under compute-sanitizer instead; --soak: mixed collectives for so
# long; --long: the tests that take minutes each.
#
# Catch2 is looked for in CATCH2, in the folders of CMAKE_PREFIX_PATH, in .catch2 and in /usr: each
# may be a prefix or a folder that holds usr/. OUT (build/logs): where output goes. BIN
# (build/gpu_test): where programs go; REUSE=1 builds those alone that are not there.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
out=${OUT:-build/logs}
bin=${BIN:-build/gpu_test}
mkdir -p "$out" "$bin"
mode=${1:-}
SECONDS=0

for folder in "${CUDA_HOME:-}" /usr/local/cuda /usr/local/cuda-[0-9]*; do
  if ! command -v nvcc >/dev/null && [ -x "$folder/bin/nvcc" ]; then PATH=$folder/bin:$PATH; fi
done
command -v nvcc >/dev/null || { echo "gpu_test.sh: no nvcc; set CUDA_HOME"; exit 1; }
gpus=$(nvidia-smi --list-gpus 2>/dev/null | grep -c '^GPU')
arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d '. ')
if [ "$gpus" = 0 ]; then echo "gpu_test.sh: no GPU here: programs are built, not run"; fi

catch=
IFS=':;' read -ra prefixes <<<"${CATCH2:-}:${CMAKE_PREFIX_PATH:-}:.catch2:../.catch2:/usr:/usr/local"
for prefix in "${prefixes[@]}"; do
  for root in "$prefix" "$prefix/usr"; do
    if [ -n "$prefix" ] && [ -z "$catch" ] && [ -e "$root/include/catch2/catch_test_macros.hpp" ]; then catch=$root; fi
  done
done
if [ -z "$catch" ]; then echo "gpu_test.sh: no Catch2 3; set CATCH2 to its folder"; exit 1; fi
library=$(find "$catch/lib" "$catch/lib64" -name libCatch2Main.a 2>/dev/null | head -n 1)

# build <program> <source>: one nvcc line; its time or its errors in <program>.build.log.
build() {
  local program=$1 source=$2 extra=()
  if [ -n "${REUSE:-}" ] && [ -x "$bin/$program" ]; then return; fi
  case $source in
    *nccl_test.cu) extra=(-lnccl) ;;
  esac
  case $source in
    *_test.cu) extra+=("-I$catch/include" "-L$(dirname "$library")" -lCatch2Main -lCatch2) ;;
  esac
  rm -f "$bin/$program"
  nvcc -std=c++20 -O2 -DNDEBUG "-arch=sm_${arch:-90}" -Iinclude -Itests "$source" -o "$bin/$program" "${extra[@]}" \
    >"$out/$program.build.log" 2>&1 || echo "$program" >>"$out/build.failed"
}

programs=()
rm -f "$out/build.failed"
for source in tests/cuda/*_test.cu tests/cuda/fault_program.cu tests/cuda/soak.cu; do
  program=$(basename "$source" .cu)
  if [ "$program" = nccl_test ] && ! printf '#include <nccl.h>\n' | nvcc -E -x cu - >/dev/null 2>&1; then
    echo "nccl_test: left out, there is no nccl.h"
    continue
  fi
  programs+=("$program")
  build "$program" "$source" &
  while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n; done
done
wait
echo "built ${#programs[@]} programs for sm_${arch:-90} in $SECONDS s"
failed=0
if [ -e "$out/build.failed" ]; then
  failed=1
  while read -r program; do
    echo "$program: does not build"
    grep -E 'error|undefined' "$out/$program.build.log" | head -n 5
  done <"$out/build.failed"
fi
if [ "$gpus" = 0 ]; then exit "$failed"; fi

# as_ranks <n> <command>...: so many processes of one group. Its status is the worst of theirs.
as_ranks() {
  local n=$1 rank pid pids=() status=0 one
  shift
  job="gpu_test $$ $RANDOM$RANDOM"
  for ((rank = 0; rank < n; ++rank)); do
    TPX_RANK=$rank TPX_WORLD_SIZE=$n TPX_JOB=$job "$@" >"$log.rank$rank" 2>&1 &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do
    wait "$pid"
    one=$?
    if [ "$one" -gt "$status" ]; then status=$one; fi
  done
  cat "$log".rank* && rm -f "$log".rank*
  return "$status"
}

# run <row> <seconds> <ranks or -> <command>...: one row of the table, its output in <row>.log.
rows=$out/gpu_test.rows
: >"$rows"
run() {
  local row=$1 limit=$2 ranks=$3 start=$SECONDS status=0 result log=$out/$1.log
  shift 3
  if [ ! -x "$bin/${row%%.*}" ]; then return; fi
  if [ "$ranks" = - ]; then
    timeout --kill-after 5 "$limit" "$@" >"$log" 2>&1 || status=$?
  else
    as_ranks "$ranks" timeout --kill-after 5 "$limit" "$@" >"$log" 2>&1 || status=$?
  fi
  case $status in
    0) result=ok ;;
    4) result=skipped && if [ "$row" != nccl_test ]; then result="FAILED: skipped"; fi ;;
    124 | 137) result="TIMED OUT" ;;
    *) result="FAILED ($status)" ;;
  esac
  printf '%-34s %-14s %4d s  %s\n' "$row" "$result" $((SECONDS - start)) \
    "$(grep -E '^(All tests passed|test cases:|soak:)|ERROR SUMMARY' "$log" | sort -u | tail -n 1)" | tee -a "$rows"
}

# sanitize <lane>: its share of the tools, on its GPUs.
tools=(memcheck racecheck initcheck synccheck)
sanitize() {
  local lane=$1 i tool options job_number=0 program
  if [ "$gpus" -ge 2 ]; then export CUDA_VISIBLE_DEVICES=$((2 * lane)),$((2 * lane + 1)); fi
  export TPX_TEST_REDUCED=1
  for program in soak allreduce_test movement_test; do
    for i in "${!tools[@]}"; do
      tool=${tools[$i]}
      if [ $((job_number++ % lanes)) != "$lane" ]; then continue; fi
      options=(--error-exitcode 9 --print-limit 20)
      if [ "$tool" = memcheck ]; then options+=(--report-api-errors no); fi
      local left=$((budget - SECONDS))
      if [ "$left" -lt 15 ]; then
        printf '%-34s left out, the time is over\n' "$program.$tool" | tee -a "$rows"
        continue
      fi
      case $program in
        soak)
          run "soak.$tool.1" "$((left < 60 ? left : 60))" 1 compute-sanitizer "${options[@]}" --tool "$tool" "$bin/soak" --millions 0.0001
          run "soak.$tool.2" "$((left < 90 ? left : 90))" 2 compute-sanitizer "${options[@]}" --tool "$tool" "$bin/soak" --millions 0.0001
          ;;
        *) run "$program.$tool.2" "$((left < 120 ? left : 120))" 2 compute-sanitizer "${options[@]}" --tool "$tool" "$bin/$program" ;;
      esac
    done
  done
}

some=$((gpus < 2 ? 2 : gpus > 4 ? 4 : gpus))
case $mode in
  --sanitize)
    command -v compute-sanitizer >/dev/null || { echo "gpu_test.sh: no compute-sanitizer"; exit 1; }
    budget=${BUDGET:-460}
    lanes=$((gpus < 4 ? 1 : gpus / 2))
    for ((lane = 0; lane < lanes; ++lane)); do sanitize "$lane" & done
    wait
    ;;
  --soak)
    minutes=${2:-5} # a whole number
    run soak.threads "$((minutes * 60 + 120))" - "$bin/soak" --minutes "$minutes"
    cat "$out/soak.threads.log"
    ;;
  --long)
    for program in "${programs[@]}"; do
      case $program in *_test) run "$program.long" 3000 - "$bin/$program" '[long]' ;; esac
    done
    ;;
  "")
    for program in "${programs[@]}"; do
      case $program in *_test) run "$program" 150 - "$bin/$program" ;; esac
    done
    for program in allreduce_test movement_test; do
      run "$program.processes.$some" 90 "$some" "$bin/$program"
    done
    run soak.threads 60 - "$bin/soak" --minutes 0.3
    run soak.processes.2 60 2 "$bin/soak" --minutes 0.2
    ;;
  *)
    sed -n '3,12p' "$0"
    exit 2
    ;;
esac

echo
sort "$rows"
echo "$gpus GPUs, $SECONDS s; output in $out"
if grep -qE 'FAILED|TIMED OUT|left out' "$rows"; then failed=1; fi
exit "$failed"
