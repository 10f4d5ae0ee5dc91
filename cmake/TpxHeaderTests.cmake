# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# tpx_add_header_tests(<target> <CXX|CUDA> <percent> <header>... [TOGETHER <header>...])
#
# Compiles every header alone in one language (C++: .hpp; CUDA: .hpp and .cuh), those after TOGETHER
# all in one source, and links the objects into one program, which fails on a function that is not
# inline. The compiler runs through
# cpu_time.sh, and the test "headers: ... compiles in ..." fails on a header that took more than
# <percent> of the processor time of a yardstick: what tpx stands on, the standard library's
# containers, threads and functions and <cuda/atomic>, without a line of tpx. A ratio, because
# machines differ.
function(tpx_add_header_tests target language percent)
  cmake_parse_arguments(PARSE_ARGV 3 arg "" "" "TOGETHER")
  set(suffix_CXX cpp)
  set(suffix_CUDA cu)
  set(folder "${CMAKE_CURRENT_BINARY_DIR}/${target}.src")
  set(yardstick "${folder}/yardstick.ms")
  add_executable(${target})
  target_link_libraries(${target} PRIVATE tpx::tpx tpx_warnings $<TARGET_NAME_IF_EXISTS:tpx::cuda>
    $<TARGET_NAME_IF_EXISTS:tpx::nccl>)
  set_target_properties(${target} PROPERTIES ${language}_COMPILER_LAUNCHER
    "sh;${PROJECT_SOURCE_DIR}/cmake/cpu_time.sh;${percent};${yardstick}")
  # The yardstick comes first: the others' tries are measured by it.
  set(source "${folder}/yardstick.${suffix_${language}}")
  set(includes algorithm atomic chrono functional map string thread vector cuda/atomic)
  list(TRANSFORM includes REPLACE "(.+)" "#include <\\1>\n" OUTPUT_VARIABLE includes)
  string(JOIN "" includes ${includes})
  file(CONFIGURE OUTPUT "${source}" CONTENT "${includes}int main() {}\n")
  target_sources(${target} PRIVATE "${source}")
  if(language STREQUAL "CXX")
    list(FILTER arg_TOGETHER INCLUDE REGEX "hpp$")
    list(FILTER arg_UNPARSED_ARGUMENTS INCLUDE REGEX "hpp$")
  endif()
  if(arg_TOGETHER)
    set(source "${folder}/together.${suffix_${language}}")
    set(includes)
    foreach(header IN LISTS arg_TOGETHER)
      cmake_path(RELATIVE_PATH header BASE_DIRECTORY "${PROJECT_SOURCE_DIR}/include")
      string(APPEND includes "#include <${header}>\n")
    endforeach()
    file(CONFIGURE OUTPUT "${source}" CONTENT "${includes}")
    target_sources(${target} PRIVATE "${source}")
  endif()
  foreach(header IN LISTS arg_UNPARSED_ARGUMENTS)
    cmake_path(RELATIVE_PATH header BASE_DIRECTORY "${PROJECT_SOURCE_DIR}/include")
    set(source "${folder}/${header}.${suffix_${language}}")
    file(CONFIGURE OUTPUT "${source}" CONTENT "#include <${header}>\n")
    target_sources(${target} PRIVATE "${source}")
  endforeach()
  set(name "headers: each ${language} header compiles in ${percent} % of the yardstick's time")
  add_test(NAME "${name}" COMMAND "${CMAKE_COMMAND}" "-Dobjects=$<TARGET_OBJECTS:${target}>"
    "-Dyardstick=${yardstick}" -Dpercent=${percent} -P "${PROJECT_SOURCE_DIR}/cmake/TpxCompileCost.cmake")
  set_tests_properties("${name}" PROPERTIES LABELS cost)
endfunction()
