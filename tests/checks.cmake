# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Tests of what is not a function: each header alone, code that must not compile, the rules of
# layout, the format, and projects that use tpx.
include(TpxHeaderTests)

# tpx_script_test(<name> <label> <script> <argument>...): runs a CMake script.
function(tpx_script_test name label script)
  add_test(NAME "${name}" COMMAND "${CMAKE_COMMAND}" ${ARGN} -P "${script}")
  set_tests_properties("${name}" PROPERTIES LABELS ${label} TIMEOUT 300)
endfunction()

# tpx_consumer(<folder of tests/package> [-Dinstall=<build folder of tpx>])
set(consumer_options "-DTPX_SOURCE=${PROJECT_SOURCE_DIR}" "-DCCCL_DIR=${CCCL_DIR}"
  "-DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER}" "-G${CMAKE_GENERATOR}")
function(tpx_consumer name)
  string(REPLACE ";" "\;" options "${consumer_options}")
  tpx_script_test("package: ${name}" package "${PROJECT_SOURCE_DIR}/cmake/TpxConsumer.cmake"
    "-Dsource=${CMAKE_CURRENT_SOURCE_DIR}/package/${name}"
    "-Dbinary=${CMAKE_CURRENT_BINARY_DIR}/package/${name}" "-Doptions=${options}" ${ARGN})
endfunction()

if("checks" IN_LIST TPX_TEST_PARTS)
  # The generator's umbrella is the sum of what it includes, and has no bound of its own. All
  # headers in one source too: two things of one name are seen there alone.
  set(umbrella ${headers})
  list(FILTER umbrella INCLUDE REGEX "/tpx/generator\\.hpp$")
  set(alone ${headers})
  list(REMOVE_ITEM alone ${umbrella})
  tpx_add_header_tests(header_tests CXX 300 ${alone} TOGETHER ${headers})

  # The include folders are those of a target that links tpx::tpx, CCCL's with them.
  add_library(tpx_probe OBJECT EXCLUDE_FROM_ALL compile_fail/control.cpp)
  target_link_libraries(tpx_probe PRIVATE tpx::tpx)
  file(GLOB cases RELATIVE "${CMAKE_CURRENT_SOURCE_DIR}/compile_fail" CONFIGURE_DEPENDS compile_fail/*.cpp)
  foreach(case IN LISTS cases)
    cmake_path(GET case STEM name)
    tpx_script_test("build failure: ${name}" build_failure "${PROJECT_SOURCE_DIR}/cmake/TpxExpectError.cmake"
      "-Dcompiler=${CMAKE_CXX_COMPILER}" "-Dsource=${CMAKE_CURRENT_SOURCE_DIR}/compile_fail/${case}"
      "-Dincludes=$<TARGET_PROPERTY:tpx_probe,INCLUDE_DIRECTORIES>")
  endforeach()

  foreach(check IN ITEMS floors sizes macros umbrella licenses)
    tpx_script_test("structure: ${check}" structure "${CMAKE_CURRENT_SOURCE_DIR}/structure/structure.cmake"
      -Dcheck=${check} "-Droot=${PROJECT_SOURCE_DIR}")
  endforeach()
  tpx_script_test("structure: each check fails on a library that breaks its rule" structure
    "${CMAKE_CURRENT_SOURCE_DIR}/structure/structure_test.cmake"
    "-Dbinary=${CMAKE_CURRENT_BINARY_DIR}/structure")

  # Other releases of clang-format lay some lines out differently, so only 14 is asked.
  find_program(TPX_CLANG_FORMAT NAMES clang-format-14 clang-format)
  if(TPX_CLANG_FORMAT)
    execute_process(COMMAND "${TPX_CLANG_FORMAT}" --version OUTPUT_VARIABLE clang_format_version)
  endif()
  if(clang_format_version MATCHES " 14\\.")
    add_test(NAME "format: clang-format 14 changes nothing" COMMAND sh
      "${PROJECT_SOURCE_DIR}/scripts/format.sh" --check "${TPX_CLANG_FORMAT}")
    set_tests_properties("format: clang-format 14 changes nothing" PROPERTIES LABELS format)
  else()
    message(STATUS "no clang-format 14: the format is not checked")
  endif()

  tpx_consumer(find_package "-Dinstall=${PROJECT_BINARY_DIR}")
  tpx_consumer(fetch_content)
  tpx_consumer(add_subdirectory)
  string(REPLACE ";" "\;" options "${consumer_options}")
  tpx_script_test("package: a subproject configures in under 1 s" package
    "${CMAKE_CURRENT_SOURCE_DIR}/package/configure_time.cmake" "-Dtpx=${PROJECT_SOURCE_DIR}"
    "-Dbinary=${CMAKE_CURRENT_BINARY_DIR}/package/time" "-Doptions=${options}")
endif()

if(TPX_CUDA AND "cuda" IN_LIST TPX_TEST_PARTS)
  if(NOT TPX_NCCL_HEADER)
    list(FILTER headers EXCLUDE REGEX "nccl.*\\.cuh$")
  endif()
  set(alone ${headers})
  list(FILTER alone EXCLUDE REGEX "/tpx/generator[/.]")
  # nvcc takes 7 s a header, and the generator has a hundred that g++ compiles alone.
  tpx_add_header_tests(cuda_header_tests CUDA 220 ${alone} TOGETHER ${headers})
  list(APPEND consumer_options "-DCMAKE_CUDA_COMPILER=${CMAKE_CUDA_COMPILER}"
    "-DCMAKE_CUDA_ARCHITECTURES=${CMAKE_CUDA_ARCHITECTURES}")
  tpx_consumer(cuda "-Dinstall=${PROJECT_BINARY_DIR}")
  if(TPX_NCCL)
    tpx_consumer(nccl "-Dinstall=${PROJECT_BINARY_DIR}")
  endif()
endif()
