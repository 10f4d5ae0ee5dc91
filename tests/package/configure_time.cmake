# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# cmake -Dtpx=<folder> -Dbinary=<folder> -Doptions=<-D...;...> -P configure_time.cmake
#
# Fails if add_subdirectory(tpx) adds a second or more to a project's first configure: the median of
# three, in processor time, because a busy machine stretches every other clock.
file(WRITE "${binary}/empty/CMakeLists.txt"
  "cmake_minimum_required(VERSION 3.25)\nproject(empty LANGUAGES CXX)\n")
file(WRITE "${binary}/user/CMakeLists.txt"
  "cmake_minimum_required(VERSION 3.25)\nproject(user LANGUAGES CXX)\nadd_subdirectory([[${tpx}]] tpx)\n")
function(configure project variable)
  execute_process(COMMAND sh -c [["$@" >/dev/null && times]] configure
      "${CMAKE_COMMAND}" --fresh -S "${binary}/${project}" -B "${binary}/${project}/build" ${options}
    OUTPUT_VARIABLE output COMMAND_ERROR_IS_FATAL ANY)
  # Two lines of user and system time; the second is that of the commands: 0m1.234000s 0m0.056000s.
  if(NOT output MATCHES "\n([0-9]+)m([0-9]+)\\.([0-9][0-9]).*s ([0-9]+)m([0-9]+)\\.([0-9][0-9])")
    message(FATAL_ERROR "sh's times printed: ${output}")
  endif()
  math(EXPR spent "(${CMAKE_MATCH_1} + ${CMAKE_MATCH_4}) * 60000
    + (${CMAKE_MATCH_2} + ${CMAKE_MATCH_5}) * 1000 + (1${CMAKE_MATCH_3} + 1${CMAKE_MATCH_6} - 200) * 10")
  set(${variable} ${spent} PARENT_SCOPE)
endfunction()

foreach(try IN ITEMS 1 2 3)
  configure(empty without)
  configure(user with)
  math(EXPR extra "${with} - ${without}")
  list(APPEND extras ${extra})
endforeach()
list(SORT extras COMPARE NATURAL)
list(GET extras 1 median)
message(STATUS "add_subdirectory(tpx) adds ${median} ms to a configure")
if(median GREATER_EQUAL 1000)
  message(FATAL_ERROR "add_subdirectory(tpx) adds ${median} ms to a configure; the limit is 1000 ms")
endif()
