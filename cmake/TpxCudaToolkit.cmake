# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# Finds the CUDA toolkit. For a project that asks for CMake 3.25 or newer, FindCUDAToolkit of 3.25
# fails on toolkit 13, which has no nvToolsExt any more; for one that asks for 3.24 it does not.
set(tpx_minimum_cmake "${CMAKE_MINIMUM_REQUIRED_VERSION}")
set(CMAKE_MINIMUM_REQUIRED_VERSION 3.24)
find_package(CUDAToolkit 12.4 REQUIRED)
set(CMAKE_MINIMUM_REQUIRED_VERSION "${tpx_minimum_cmake}")
unset(tpx_minimum_cmake)
