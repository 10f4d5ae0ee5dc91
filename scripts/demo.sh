#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# Sets up what is missing, builds the llama example for this machine and runs it with the arguments
# given: scripts/demo.sh --help says which there are.
source "$(dirname "$0")/lib.sh"

find_cuda
need_to_build
install_missing
cd_back=$PWD
cd "$root"
if [ ! -e build/demo/build.ninja ]; then
  stage "configuring" build/logs/demo.configure.log cmake --preset demo
fi
stage "building" build/logs/demo.build.log cmake --build --preset demo --parallel "$jobs"
cd "$cd_back"
exec "$root/build/demo/bin/llama" "$@"
