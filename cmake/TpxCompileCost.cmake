# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# cmake -Dobjects=<object;...> -Dlimit=<milliseconds> -P TpxCompileCost.cmake
#
# Reads what cpu_time.sh wrote beside each object; fails if one is over the limit.
foreach(object IN LISTS objects)
  if(NOT EXISTS "${object}.cpu")
    message(FATAL_ERROR "${object} is not built")
  endif()
  file(STRINGS "${object}.cpu" spent)
  string(REGEX REPLACE "^.*\\.src/(.*)\\.o$" "\\1" header "${object}")
  list(APPEND costs "${spent} ms  ${header}")
  if(spent GREATER limit)
    list(APPEND slow "${spent} ms  ${header}")
  endif()
endforeach()
list(SORT costs COMPARE NATURAL ORDER DESCENDING)
list(JOIN costs "\n  " text)
message(STATUS "processor time, limit ${limit} ms:\n  ${text}")
if(slow)
  list(JOIN slow "\n  " slow)
  message(FATAL_ERROR "over ${limit} ms of processor time; include less:\n  ${slow}")
endif()
