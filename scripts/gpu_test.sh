#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# scripts/gpu_test.sh [--sanitize]: builds and runs the tests that need a GPU, on a machine that has
# one and may have no network: it installs nothing. Catch2 3 is looked for on CMAKE_PREFIX_PATH too.
# --sanitize runs them under compute-sanitizer's memcheck and racecheck as well.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-build/logs}
mkdir -p "$out"
cmake --preset cuda >"$out/gpu.configure.log" 2>&1 || { tail -n 40 "$out/gpu.configure.log"; exit 1; }
cmake --build --preset cuda --target gpu_tests --parallel "$(nproc)" >"$out/gpu.build.log" 2>&1 || { tail -n 60 "$out/gpu.build.log"; exit 1; }
if [ "${1:-}" = --sanitize ]; then
  for program in build/cuda/tests/cuda_*; do
    if [ ! -x "$program" ] || [ -d "$program" ]; then continue; fi
    for tool in memcheck racecheck; do
      timeout 300 compute-sanitizer --error-exitcode 1 --tool "$tool" "$program" >"$out/$(basename "$program").$tool.log" 2>&1 &&
        result=clean || { result=FAILED; failed=1; }
      printf '%-30s %-10s %s\n' "$(basename "$program")" "$tool" "$result"
    done
  done
fi
timeout 600 ctest --test-dir build/cuda --label-regex '^cuda$' --output-on-failure --no-tests=error
exit "${failed:-0}"
