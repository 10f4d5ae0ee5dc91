# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# cmake -Dprogram=<test_explore> -P replay.cmake
#
# Passes if a planted fault is found, and the command that is printed with it finds it again.
execute_process(COMMAND "${program}" "[planted]" RESULT_VARIABLE status OUTPUT_QUIET ERROR_VARIABLE first)
if(status EQUAL 0)
  message(FATAL_ERROR "the planted fault was not found")
endif()
if(NOT first MATCHES "again: ([^\n]*)")
  message(FATAL_ERROR "no command to run the fault again in:\n${first}")
endif()
execute_process(COMMAND sh -c "${CMAKE_MATCH_1}" RESULT_VARIABLE status OUTPUT_QUIET ERROR_VARIABLE second)
if(status EQUAL 0 OR NOT second STREQUAL first)
  message(FATAL_ERROR "'${CMAKE_MATCH_1}' gave\n${second}\nand not\n${first}")
endif()
