#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# scripts/format.sh [--check] [clang-format]
#
# Formats every C++ and CUDA file of the project; with --check only says what it would change, and
# fails if that is anything.
set -eu
cd "$(dirname "$0")/.."
mode=-i
if [ "${1:-}" = --check ]; then
  mode='--dry-run -Werror'
  shift
fi
tool=${1:-$(command -v clang-format-14 || command -v clang-format)}
find include tests examples benchmarks tools -type f \
  \( -name '*.hpp' -o -name '*.cuh' -o -name '*.cpp' -o -name '*.cu' \) -print0 |
  xargs -0 "$tool" $mode
