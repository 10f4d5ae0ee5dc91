# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Every fuzz/*_fuzz.cpp is fuzzed for 8 s, what reads anybody's text for 60: by libFuzzer with ASan
# and UBSan where there is clang, otherwise by fuzz/driver.cpp. The llama example's files are built
# into each.
file(GLOB fuzzers CONFIGURE_DEPENDS fuzz/*_fuzz.cpp)
if(NOT fuzzers OR NOT "checks" IN_LIST TPX_TEST_PARTS OR NOT TARGET llama_parts)
  return()
endif()
set(fuzzed_long matcher_fuzz regex_fuzz json_schema_fuzz tokenizer_fuzz)
find_program(TPX_CLANG NAMES clang++-14 clang++)

set(includes "$<TARGET_PROPERTY:llama_parts,INCLUDE_DIRECTORIES>")
set(compile "${TPX_CLANG}" -std=c++20 -O1 -g -fsanitize=fuzzer-no-link,address,undefined
  -fno-sanitize-recover=all "-I$<JOIN:${includes},$<SEMICOLON>-I>" -pthread)
function(tpx_fuzz_object source)
  cmake_path(GET source STEM name)
  set(object "${CMAKE_CURRENT_BINARY_DIR}/fuzz/${name}.o")
  add_custom_command(OUTPUT "${object}" DEPENDS "${source}" DEPFILE "${object}.d" VERBATIM COMMAND_EXPAND_LISTS
    COMMENT "Building fuzz object ${name}.o"
    COMMAND ${compile} -MD -MF "${object}.d" -c "${source}" -o "${object}")
  set(object "${object}" PARENT_SCOPE)
endfunction()

if(TPX_CLANG)
  file(MAKE_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}/fuzz")
  get_target_property(sources llama_parts SOURCES)
  list(FILTER sources EXCLUDE REGEX "/(checkpoint|child|engine|generate|model|opened|rank_weights|serving)\\.cpp$") # no parsers
  set(objects)
  foreach(source IN LISTS sources ITEMS "${CMAKE_CURRENT_SOURCE_DIR}/fuzz/libfuzzer_seeds.cpp")
    tpx_fuzz_object("${source}")
    list(APPEND objects "${object}")
  endforeach()
endif()
foreach(source IN LISTS fuzzers)
  cmake_path(GET source STEM name)
  set(seconds 8)
  if(name IN_LIST fuzzed_long)
    set(seconds 60)
  endif()
  if(TPX_CLANG)
    tpx_fuzz_object("${source}")
    set(program "${CMAKE_CURRENT_BINARY_DIR}/fuzz/${name}")
    add_custom_command(OUTPUT "${program}" DEPENDS "${object}" ${objects} VERBATIM COMMENT "Linking fuzz/${name}"
      COMMAND "${TPX_CLANG}" -fsanitize=fuzzer,address,undefined "${object}" ${objects} "${PCRE2_LIBRARY}"
              -pthread -o "${program}")
    add_custom_target(${name} ALL DEPENDS "${program}")
    file(MAKE_DIRECTORY "${program}.corpus")
    set(command "${program}" -max_total_time=${seconds} -timeout=10 -rss_limit_mb=2048 -verbosity=0
      -print_final_stats=1 "-artifact_prefix=${program}." "${program}.corpus")
  else()
    add_executable(${name} "${source}" fuzz/driver.cpp)
    target_link_libraries(${name} PRIVATE llama_parts)
    set(command ${name} ${seconds})
  endif()
  add_test(NAME "fuzz: ${name} for ${seconds} s" COMMAND ${command})
  set_tests_properties("fuzz: ${name} for ${seconds} s" PROPERTIES LABELS fuzz TIMEOUT 180)
endforeach()
