# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# cmake -Dcompiler=<c++> -Dsource=<file> -Dincludes=<folder;...> -P TpxExpectError.cmake
#
# Passes if <file> does not compile and the compiler's message matches the regular expression of the
# file's line `// expect: <regex>`, or if it compiles and that line is `// expect: success`.
file(STRINGS "${source}" expected REGEX "^// expect: " LIMIT_COUNT 1)
string(REGEX REPLACE "^// expect: +" "" expected "${expected}")
if(expected STREQUAL "")
  message(FATAL_ERROR "${source} has no line '// expect: <regex of the message>'")
endif()
list(REMOVE_DUPLICATES includes)
list(TRANSFORM includes PREPEND "-isystem")
execute_process(
  COMMAND "${compiler}" -std=c++20 -fsyntax-only -fdiagnostics-color=never ${includes} "${source}"
  RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(expected STREQUAL "success")
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "must compile, but did not:\n${output}")
  endif()
elseif(status EQUAL 0)
  message(FATAL_ERROR "must not compile, but did; expected an error with: ${expected}")
elseif(NOT output MATCHES "${expected}")
  message(FATAL_ERROR "does not compile, but not for the reason expected: ${expected}\n${output}")
endif()
