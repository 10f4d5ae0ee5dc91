# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# cmake -Dbinary=<folder> -P structure_test.cmake
#
# Shows that each check of structure.cmake fails on a library that breaks its rule, and passes on one
# that does not.
cmake_minimum_required(VERSION 3.25)

function(expect what check wanted)
  execute_process(COMMAND "${CMAKE_COMMAND}" -Dcheck=${check} "-Droot=${binary}"
      -P "${CMAKE_CURRENT_LIST_DIR}/structure.cmake"
    RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(wanted STREQUAL "success")
    if(NOT status EQUAL 0)
      message(FATAL_ERROR "${what}: ${check} must pass:\n${output}")
    endif()
  elseif(status EQUAL 0 OR NOT output MATCHES "${wanted}")
    message(FATAL_ERROR "${what}: ${check} must fail with '${wanted}':\n${output}")
  endif()
endfunction()

function(library)
  file(REMOVE_RECURSE "${binary}")
  file(WRITE "${binary}/include/tpx/error.hpp" "// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception\n")
  file(WRITE "${binary}/include/tpx/tpx.hpp"
    "// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception\n#include <tpx/error.hpp>\n")
endfunction()

library()
foreach(check IN ITEMS floors sizes macros umbrella licenses)
  expect("a good library" ${check} success)
endforeach()

file(APPEND "${binary}/include/tpx/error.hpp" "#include <tpx/layer/mlp.hpp>\n")
file(WRITE "${binary}/include/tpx/layer/mlp.hpp" "#include <tpx/error.hpp>\n")
expect("an include that goes up" floors "floor 0 includes <tpx/layer/mlp.hpp> of floor 4")
expect("a file without a license" licenses "mlp.hpp: no SPDX line")

library()
file(WRITE "${binary}/include/tpx/strange.hpp" "#include <iostream>\n")
expect("a header of no floor" floors "strange.hpp: no floor")
expect("a header that the umbrella lacks" umbrella "does not include <tpx/strange.hpp>")

library()
file(APPEND "${binary}/include/tpx/error.hpp" "#include <iostream>\n#include \"op.hpp\"\n#include <tpx/op.hpp>\n")
expect("a costly include" floors "includes <iostream>")
expect("an include in quotes" floors "write <tpx/")
expect("an include of nothing" floors "which does not exist")

library()
string(REPEAT "int x\\;\n" 300 long)
file(APPEND "${binary}/include/tpx/error.hpp" "${long}")
expect("a header of 301 lines" sizes "301 lines")
string(REPEAT "int x\\;\n" 101 long)
file(WRITE "${binary}/include/tpx/error.hpp" "${long}")
file(WRITE "${binary}/include/tpx/op.hpp" "${long}")
expect("a median of 101 lines" sizes "median header has 101 lines")

library()
file(APPEND "${binary}/include/tpx/error.hpp" "#define OTHER\n")
expect("a macro of another name" macros "defines OTHER")
foreach(i RANGE 1 7)
  file(APPEND "${binary}/include/tpx/error.hpp" "#  define TPX_${i} 1\n")
endforeach()
expect("a seventh macro" macros "macros, at most six")
