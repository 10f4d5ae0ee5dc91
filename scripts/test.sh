#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
source "$(dirname "$0")/lib.sh"

usage() {
  cat <<'TEXT'
usage: scripts/test.sh [--quick] [--long] [--setup]

Sets up what is missing, builds and runs all the tests, and ends with ctest's summary:
host tests, plain and under ASan+UBSan and ThreadSanitizer; headers alone with g++ and nvcc; code
that must not compile; projects that use tpx; all CUDA code for sm_90 (run only where a GPU is);
clang-format.

  --quick  the host build only: no sanitizers, no CUDA
  --long   also the tests that take minutes each
  --setup  install what is missing, then stop
  --help   this text
TEXT
}

presets=(host host-asan host-tsan cuda)
excluded=(long cuda)
setup_only=
for argument; do
  case $argument in
    --quick) presets=(host) ;;
    --long) excluded=("${excluded[@]/long/}") ;;
    --setup) setup_only=1 ;;
    --help | -h) usage; exit ;;
    *) usage >&2; exit 2 ;;
  esac
done
if [ -e /dev/nvidia0 ]; then excluded=("${excluded[@]/cuda/}"); fi

find_cuda
need_to_build
need_to_test
install_missing
if [ -n "$setup_only" ]; then exit; fi

cd "$root"
folders=()
for preset in "${presets[@]}"; do
  options=()
  if [ "$preset" = cuda ]; then options=("-DTPX_NCCL=$(has_nccl)"); fi
  stage "configuring $preset" "build/logs/$preset.configure.log" cmake --preset "$preset" ${options[@]+"${options[@]}"}
  stage "building $preset" "build/logs/$preset.build.log" cmake --build --preset "$preset" --parallel "$jobs"
  folders+=("$root/build/$preset")
done

# One run of ctest over all the build folders, so that one summary counts every test.
mkdir -p build/all
printf 'subdirs("%s")\n' "${folders[@]}" > build/all/CTestTestfile.cmake
labels=$(printf '%s\n' "${excluded[@]}" | sed '/^$/d' | paste -sd '|')
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
say "running the tests of: ${presets[*]}${labels:+ (not those labelled ${labels//|/, })}"
exec ctest --test-dir build/all --parallel "$jobs" --output-on-failure --no-tests=error \
  ${labels:+--label-exclude "^($labels)\$"}
