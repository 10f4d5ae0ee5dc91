# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# cmake -Dmutant=<file> -Dbinary=<folder> -Dcompiler=<g++> -Dincludes=<folder;...> -Dprobe=<probe.cpp>
#       -Dexplorer=<explorer.o> [-Dlauncher=<command;...>] -P mutant.cmake
#
# Builds the probe against tpx with one line changed, and passes if it fails as the mutant expects.
# The mutant `control:<checker>:<header>` is no change at all, and its probe must pass.
#
# A mutant's file: `file:` the header under the first of the folders, which decides whether
# protocols over flags or over cells are explored; `checker:` explorer or tsan;
# `expect:` a regular expression for what the probe prints; then the lines between `search:` and
# `replacement:`, which the header must hold exactly once, and what replaces them, up to `end`.
cmake_minimum_required(VERSION 3.25)
file(REMOVE_RECURSE "${binary}")
file(MAKE_DIRECTORY "${binary}")

set(folders)
if(mutant MATCHES "^control:(.*):(.*)$")
  set(checker ${CMAKE_MATCH_1})
  set(header ${CMAKE_MATCH_2})
  set(expect "^good\n$")
else()
  file(READ "${mutant}" text)
  if(NOT text MATCHES "\nfile: ([^\n]+)\nchecker: (explorer|tsan)\nexpect: ([^\n]+)\nsearch:\n(.+)\nreplacement:\n(.*)\nend\n$")
    message(FATAL_ERROR "${mutant}: not in the form that mutant.cmake describes")
  endif()
  set(header "${CMAKE_MATCH_1}")
  set(checker ${CMAKE_MATCH_2})
  set(expect "${CMAKE_MATCH_3}")
  set(search "${CMAKE_MATCH_4}")
  set(replacement "${CMAKE_MATCH_5}")

  list(GET includes 0 tpx)
  file(READ "${tpx}/${header}" source)
  string(FIND "${source}" "${search}" first)
  string(FIND "${source}" "${search}" last REVERSE)
  if(first EQUAL -1 OR NOT first EQUAL last)
    message(FATAL_ERROR "${mutant}: ${header} must hold this exactly once:\n${search}")
  endif()
  string(REPLACE "${search}" "${replacement}" source "${source}")
  file(WRITE "${binary}/include/${header}" "${source}")
  list(APPEND folders "-I${binary}/include") # found before the one that it was copied from
endif()

list(REMOVE_DUPLICATES includes)
list(TRANSFORM includes PREPEND "-isystem")
list(POP_FRONT includes own)
string(REPLACE "-isystem" "-I" own "${own}")
set(flags -std=c++20 -O1)
if(header MATCHES "/(cell|turn|push|shots|rolling|streamed|progress|packing|reducing|pushed_[a-z]+)\\.hpp$")
  list(APPEND flags -DTPX_PROBE_TURNS)
endif()
if(checker STREQUAL "tsan")
  list(APPEND flags -g1 -fsanitize=thread)
  list(APPEND run ${launcher})
endif()
execute_process(COMMAND "${compiler}" ${flags} ${folders} "${own}" ${includes} "${probe}" "${explorer}" -o "${binary}/probe"
  RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${mutant}: does not compile:\n${output}")
endif()
set(ENV{TSAN_OPTIONS} "halt_on_error=1 exitcode=1 atexit_sleep_ms=0")
execute_process(COMMAND ${run} "${binary}/probe"
  RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(mutant MATCHES "^control:")
  set(wanted 0)
else()
  set(wanted 1)
endif()
if(NOT status STREQUAL wanted OR NOT output MATCHES "${expect}")
  message(FATAL_ERROR "${mutant}: must end with ${wanted} and '${expect}', ended with ${status}:\n${output}")
endif()
message(STATUS "${output}")
