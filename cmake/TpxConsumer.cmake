# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# cmake -Dsource=<folder> -Dbinary=<folder> [-Dinstall=<build folder of tpx>] -Doptions=<-D...;...>
#       -P TpxConsumer.cmake
#
# Configures, builds and runs a project that uses tpx, from nothing and without a network. With
# `install`, tpx is installed first and found there.
function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "${command}\n${output}")
  endif()
endfunction()

file(REMOVE_RECURSE "${binary}")
if(install)
  run("${CMAKE_COMMAND}" --install "${install}" --prefix "${binary}/prefix")
  list(APPEND options "-DCMAKE_PREFIX_PATH=${binary}/prefix")
endif()
run("${CMAKE_COMMAND}" -S "${source}" -B "${binary}/build" -DFETCHCONTENT_FULLY_DISCONNECTED=ON ${options})
run("${CMAKE_COMMAND}" --build "${binary}/build")
run("${binary}/build/consumer")
