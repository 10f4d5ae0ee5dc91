#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# cpu_time.sh <percent> <yardstick> <compiler> <argument>...
#
# Compiles, and writes to <object>.cpu how many milliseconds of processor time that took: the least
# of at most three tries, so that a busy machine does not fail a test. One try does where it stays
# within <percent> of the milliseconds in the file <yardstick>, which the compilation of a source
# named yardstick writes; and of a source named together.
percent=$1
yardstick=$2
shift 2
object=
previous=
for argument; do
  if [ "$previous" = -o ]; then object=$argument; fi
  previous=$argument
done
least=
for try in 1 2 3; do
  # `times` prints this shell's own times and then its children's: 0m1.234000s 0m0.056000s.
  spent=$(sh -c '"$@" >&2 && times' compile "$@") || exit 1
  spent=$(printf '%s\n' "$spent" | awk 'NR == 2 {
    for (i = 1; i <= 2; ++i) { split($i, part, /[ms]/); sum += part[1] * 60 + part[2] }
    printf "%d", sum * 1000 }')
  if [ -z "$least" ] || [ "$spent" -lt "$least" ]; then least=$spent; fi
  case $object in
  *yardstick*) ;;
  */together.*) break ;;
  *) if [ -e "$yardstick" ] && [ "$least" -le $(($(cat "$yardstick") * percent / 100)) ]; then break; fi ;;
  esac
done
case $object in
*yardstick*) echo "$least" > "$yardstick" ;;
*) echo "$least" > "$object.cpu" ;;
esac
