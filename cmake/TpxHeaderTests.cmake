# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# tpx_add_header_tests(<target> <CXX|CUDA> <limit> <header>...)
#
# Compiles every header alone in one language (C++: .hpp; CUDA: .hpp and .cuh) and links the objects
# into one program, which fails on a function that is not inline. The compiler runs through
# cpu_time.sh, and the test "headers: ... compile quickly" fails on a header that took more than
# <limit> milliseconds of processor time.
function(tpx_add_header_tests target language limit)
  set(suffix_CXX cpp)
  set(suffix_CUDA cu)
  add_executable(${target})
  target_link_libraries(${target} PRIVATE tpx::tpx tpx_warnings $<TARGET_NAME_IF_EXISTS:tpx::cuda>
    $<TARGET_NAME_IF_EXISTS:tpx::nccl>)
  set_target_properties(${target} PROPERTIES ${language}_COMPILER_LAUNCHER
    "sh;${PROJECT_SOURCE_DIR}/cmake/cpu_time.sh;${limit}")
  foreach(header IN LISTS ARGN)
    cmake_path(RELATIVE_PATH header BASE_DIRECTORY "${PROJECT_SOURCE_DIR}/include")
    if(language STREQUAL "CXX" AND NOT header MATCHES "hpp$")
      continue()
    endif()
    set(source "${CMAKE_CURRENT_BINARY_DIR}/${target}.src/${header}.${suffix_${language}}")
    file(CONFIGURE OUTPUT "${source}" CONTENT "#include <${header}>\n")
    target_sources(${target} PRIVATE "${source}")
  endforeach()
  set(main "${CMAKE_CURRENT_BINARY_DIR}/${target}.src/main.${suffix_${language}}")
  file(CONFIGURE OUTPUT "${main}" CONTENT "int main() {}\n")
  target_sources(${target} PRIVATE "${main}")
  add_test(NAME "headers: each ${language} header compiles in ${limit} ms of processor time"
    COMMAND "${CMAKE_COMMAND}" "-Dobjects=$<TARGET_OBJECTS:${target}>" -Dlimit=${limit}
            -P "${PROJECT_SOURCE_DIR}/cmake/TpxCompileCost.cmake")
  set_tests_properties("headers: each ${language} header compiles in ${limit} ms of processor time"
    PROPERTIES LABELS cost)
endfunction()
