#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# Sets up what is missing, builds the examples for this machine and runs llama with the arguments
# given: scripts/demo.sh --help says which there are. Without any, serve_batch comes first.
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
if [ $# -eq 0 ]; then "$root/build/demo/bin/serve_batch" --tokens 32; fi
exec "$root/build/demo/bin/llama" "$@"
