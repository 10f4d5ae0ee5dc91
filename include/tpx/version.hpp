// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

/// Version of tpx, the one place it is written: CMakeLists.txt reads these lines.
#define TPX_VERSION_MAJOR 0
#define TPX_VERSION_MINOR 1
#define TPX_VERSION_PATCH 0
