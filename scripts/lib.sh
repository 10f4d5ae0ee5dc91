# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# Shared by the scripts beside it, which source it: finds the CUDA toolkit, brings the packages that
# are missing, and runs a stage with its output in a log.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
jobs=$(nproc)

say() { printf '%s\n' "$*" >&2; }
fail() { say "$(basename "$0"): $*"; exit 1; }

# stage <what> <log> <command>...: one line on the terminal with the seconds, all else in the log;
# on failure, the end of the log.
stage() {
  local what=$1 log=$2 start=$SECONDS
  shift 2
  mkdir -p "$(dirname "$log")"
  printf '%s ... ' "$what" >&2
  if "$@" >"$log" 2>&1 </dev/null; then
    say "$((SECONDS - start)) s"
  else
    say "failed after $((SECONDS - start)) s"
    tail -n 60 "$log" >&2
    fail "$what failed; all of its output is in $log"
  fi
}

# find_cuda: puts nvcc on PATH, where CMake looks for the toolkit.
find_cuda() {
  local folder
  for folder in "${CUDA_HOME:-}" "${CUDA_PATH:-}" /usr/local/cuda /usr/local/cuda-[0-9]* /opt/cuda; do
    if command -v nvcc >/dev/null; then return; fi
    if [ -n "$folder" ] && [ -x "$folder/bin/nvcc" ]; then PATH=$folder/bin:$PATH; fi
  done
  command -v nvcc >/dev/null ||
    fail "no CUDA toolkit: install CUDA Toolkit 13 or set CUDA_HOME to where it is (no GPU is needed)"
}

# has_nccl: ON where nvcc's toolkit or the system has NCCL, header and library; else OFF.
has_nccl() {
  local toolkit
  toolkit=$(dirname "$(dirname "$(readlink -f "$(command -v nvcc)")")")
  if [ -n "$(compgen -G "$toolkit/include/nccl.h")$(compgen -G /usr/include/nccl.h)" ] &&
    [ -n "$(compgen -G "$toolkit/lib64/libnccl.so")$(compgen -G '/usr/lib/*/libnccl.so')" ]; then
    echo ON
  else
    echo OFF
  fi
}

# need <package> <probe>: notes the package as missing unless the probe is a program or, as an
# absolute path, a file.
missing=()
need() {
  case $2 in
    /*) if [ -e "$2" ]; then return; fi ;;
    ?*) if command -v "$2" >/dev/null; then return; fi ;;
  esac
  missing+=("$1")
}

need_to_build() {
  need g++ g++
  need cmake cmake
  need ninja-build ninja
  if ! command -v apt-get >/dev/null; then return; fi # elsewhere CMake says which library it lacks
  need nlohmann-json3-dev /usr/include/nlohmann/json.hpp
  need libcli11-dev /usr/include/CLI/CLI.hpp
  need libpcre2-dev /usr/include/pcre2.h
}

need_to_test() {
  if ! command -v apt-get >/dev/null; then return; fi
  need clang-format-14 clang-format-14
  need clang-14 clang++-14
  need libclang-rt-14-dev "$(compgen -G '/usr/lib/llvm-14/lib/clang/*/lib/linux/libclang_rt.fuzzer-*.a' | head -n 1)"
  need openmpi-bin mpirun
  need catch2 /usr/include/catch2/catch_test_macros.hpp # a header of version 3 that 2 lacks
}

# install_missing: with apt when root, otherwise one line that says what to do.
install_missing() {
  if [ ${#missing[@]} = 0 ]; then return; fi
  if ! command -v apt-get >/dev/null; then fail "missing: ${missing[*]}; install them and run this again"; fi
  if [ "$(id -u)" != 0 ]; then
    local command="apt-get install --no-install-recommends ${missing[*]}"
    if [[ " ${missing[*]} " = *" catch2 "* ]]; then command="$root/scripts/test.sh --setup"; fi
    fail "missing packages: ${missing[*]}; run once as root: $command"
  fi
  stage "installing ${missing[*]}" "$root/build/setup.log" apt_install "${missing[@]}"
}

apt_install() {
  export DEBIAN_FRONTEND=noninteractive
  local package packages=() wants_catch2=
  for package; do
    if [ "$package" = catch2 ]; then wants_catch2=1; else packages+=("$package"); fi
  done
  apt-get update
  if [ ${#packages[@]} != 0 ]; then apt-get install -y --no-install-recommends "${packages[@]}"; fi
  if [ -n "$wants_catch2" ]; then install_catch2; fi
}

# install_catch2: Catch2 3 from the release itself where it has it, otherwise from its backports
# suite, reached through the machine's own sources. Sources and lists for that are temporary: apt's
# own set-up stays as it was.
install_catch2() {
  local name
  for name in libcatch2-dev catch2; do
    if apt-cache policy "$name" | grep -q 'Candidate: 3'; then
      apt-get install -y --no-install-recommends "$name"
      return
    fi
  done
  local release folder
  release=$(. /etc/os-release && echo "$VERSION_CODENAME")
  folder=$(mktemp -d)
  chmod 755 "$folder"
  mkdir -p "$folder/sources" "$folder/lists/partial" "$folder/cache"
  backports_sources "$release" "$folder/sources"
  local options=(-o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$folder/sources"
    -o "Dir::State::lists=$folder/lists" -o "Dir::Cache::pkgcache=" -o "Dir::Cache::srcpkgcache=")
  apt-get "${options[@]}" update
  (cd "$folder/cache" && chmod 777 . && apt-get "${options[@]}" download libcatch2-dev)
  apt-get install -y --no-install-recommends "$folder"/cache/libcatch2-dev_*.deb
  rm -rf "$folder"
}

# backports_sources <release> <folder>: writes there the machine's entries for <release>, of both of
# apt's formats, with the suite <release>-backports in its place.
backports_sources() {
  local release=$1 folder=$2 file
  for file in /etc/apt/sources.list.d/*.sources; do
    if [ ! -e "$file" ]; then continue; fi
    # Paragraphs of "Field: value"; comment lines belong to none.
    sed '/^#/d' "$file" | awk -v release="$release" '
      BEGIN { RS = ""; FS = "\n" }
      {
        text = ""; ours = 0; binary = 0; enabled = 1
        for (i = 1; i <= NF; ++i) {
          line = $i
          field = tolower(line); sub(/:.*/, "", field)
          value = line; sub(/^[^:]*:[ \t]*/, "", value)
          if (line !~ /^[ \t]/ && field == "suites") {
            n = split(value, suite, /[ \t]+/)
            for (j = 1; j <= n; ++j) if (suite[j] == release) ours = 1
            line = "Suites: " release "-backports"
          }
          if (line !~ /^[ \t]/ && field == "types" && value ~ /(^|[ \t])deb([ \t]|$)/) { binary = 1; line = "Types: deb" }
          if (line !~ /^[ \t]/ && field == "components") line = "Components: main"
          if (line !~ /^[ \t]/ && field == "enabled" && value ~ /^(no|false|0)/) enabled = 0
          text = text line "\n"
        }
        if (ours && binary && enabled) printf "%s\n", text
      }' > "$folder/$(basename "$file")"
  done
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    if [ ! -e "$file" ]; then continue; fi
    # deb [options] URI suite component...
    sed -nE "s/^[[:space:]]*(deb[[:space:]]+(\[[^]]*\][[:space:]]+)?[^[:space:]]+[[:space:]]+)$release[[:space:]]+.*/\1$release-backports main/p" \
      "$file" > "$folder/$(basename "$file" .list).list"
  done
  find "$folder" -size 0 -delete
  if [ -z "$(ls -A "$folder")" ]; then
    echo "no entry for $release in apt's sources, so its backports cannot be reached for Catch2 3"
    return 1
  fi
}
