// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/number.hpp>
#include <tpx/op.hpp>

#include <nccl.h>

#include <string>
#include <string_view>
#include <type_traits>

static_assert(NCCL_VERSION_CODE >= NCCL_VERSION(2, 19, 0), "tpx needs NCCL 2.19 or newer");

namespace tpx::detail {

/// NCCL's name for an element type, or -1 where NCCL cannot add values of it.
template <class T>
inline constexpr int nccl_type = [] {
  if constexpr (std::is_same_v<T, float>) {
    return int{ncclFloat32};
  } else if constexpr (std::is_same_v<T, double>) {
    return int{ncclFloat64};
  } else if constexpr (std::is_same_v<T, float16> || std::is_same_v<T, __half>) {
    return int{ncclFloat16};
  } else if constexpr (std::is_same_v<T, bfloat16> || std::is_same_v<T, __nv_bfloat16>) {
    return int{ncclBfloat16};
  } else if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
    constexpr bool negative = std::is_signed_v<T>;
    return sizeof(T) == 1   ? int{negative ? ncclInt8 : ncclUint8}
           : sizeof(T) == 4 ? int{negative ? ncclInt32 : ncclUint32}
           : sizeof(T) == 8 ? int{negative ? ncclInt64 : ncclUint64}
                            : -1;
  } else {
    return -1;
  }
}();

/// NCCL's name for an operation on values of A, or -1 where it has none with the same results: its
/// minimum and maximum of floating-point values drop a NaN that tpx's keep.
template <class Op, class A>
inline constexpr int nccl_op = [] {
  if constexpr (nccl_type<A> < 0) {
    return -1;
  } else if constexpr (std::is_same_v<Op, Sum>) {
    return int{ncclSum};
  } else if constexpr (std::is_same_v<Op, Prod>) {
    return int{ncclProd};
  } else if constexpr (std::is_same_v<Op, Max> && std::is_integral_v<A>) {
    return int{ncclMax};
  } else if constexpr (std::is_same_v<Op, Min> && std::is_integral_v<A>) {
    return int{ncclMin};
  } else {
    return -1;
  }
}();

template <class T>
inline constexpr auto nccl_type_v = static_cast<ncclDataType_t>(nccl_type<T>);
template <class Op, class A>
inline constexpr auto nccl_op_v = static_cast<ncclRedOp_t>(nccl_op<Op, A>);

/// "NCCL could not create a communicator: unhandled system error ...: <NCCL's last message>".
[[nodiscard]] inline std::string nccl_story(ncclResult_t result, std::string_view attempted) {
  std::string text = "NCCL could not " + std::string{attempted} + ": " + ncclGetErrorString(result);
  char const* const last = ncclGetLastError(nullptr);
  if (last != nullptr && *last != 0) { text += std::string{": "} + last; }
  while (text.back() == '\n') { text.pop_back(); }
  return text;
}

}  // namespace tpx::detail
