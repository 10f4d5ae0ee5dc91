// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/op.hpp>
#include <tpx/runtime/cell.hpp>

#include <cstddef>
#include <cstdint>

namespace tpx {

/// Elements of T in a packet.
template <element T>
inline constexpr unsigned per_packet = 16 / sizeof(T);

/// Packets for n elements of T.
template <element T>
[[nodiscard]] TPX_HD constexpr std::size_t packets_of(std::size_t n) {
  return (n + per_packet<T> - 1) / per_packet<T>;
}

/// What is made of a packet's elements: more or fewer bytes than it has.
template <unsigned Bytes>
struct [[gnu::may_alias]] alignas(Bytes % 16 == 0  ? 16
                                  : Bytes % 8 == 0 ? 8
                                                   : 4) words {
  std::uint32_t word[(Bytes + 3) / 4];
};

namespace detail {

/// Element `j` of a packet or words, by shifts where its size is a word's or less, so that it stays
/// in registers.
template <class T, class Words>
[[nodiscard]] TPX_HD inline T get(Words const& p, unsigned j) {
  if constexpr (sizeof(T) == 1) {
    return __builtin_bit_cast(T, static_cast<std::uint8_t>(p.word[j / 4] >> 8 * (j % 4)));
  } else if constexpr (sizeof(T) == 2) {
    return __builtin_bit_cast(T, static_cast<std::uint16_t>(p.word[j / 2] >> 16 * (j % 2)));
  } else if constexpr (sizeof(T) == 4) {
    return __builtin_bit_cast(T, p.word[j]);
  } else {
    struct raw {
      char bytes[sizeof(T)];
    } r;
    __builtin_memcpy(&r, reinterpret_cast<char const*>(&p) + j * sizeof(T), sizeof(T));
    return __builtin_bit_cast(T, r);
  }
}

/// Sets element `j` of a packet or words that are zero there.
template <class T, class Words>
TPX_HD inline void put(Words& p, unsigned j, T v) {
  if constexpr (sizeof(T) == 1 || sizeof(T) == 2) {
    std::conditional_t<sizeof(T) == 1, std::uint8_t, std::uint16_t> bits;
    __builtin_memcpy(&bits, &v, sizeof(T));
    constexpr unsigned many = 4 / sizeof(T);
    p.word[j / many] |= std::uint32_t{bits} << 8 * sizeof(T) * (j % many);
  } else {
    __builtin_memcpy(reinterpret_cast<char*>(&p) + j * sizeof(T), &v, sizeof(T));
  }
}

template <class Words = packet>
[[nodiscard]] TPX_HD inline bool aligned(void const* p) {
  return reinterpret_cast<std::uintptr_t>(p) % alignof(Words) == 0;
}

/// Element by element. Out of line, as is all that is rare: a kernel begins with its code uncached.
template <unsigned Many, class Words, element T>
[[nodiscard, gnu::noinline]] TPX_HD Words read_elements(T const* from, std::size_t count) {
  Words p{};
  TPX_UNROLL
  for (unsigned j = 0; j < Many; ++j) {
    if (j < count) { put(p, j, from[j]); }
  }
  return p;
}
template <unsigned Many, element T, class Words>
[[gnu::noinline]] TPX_HD void write_elements(T* to, std::size_t count, Words p) {
  TPX_UNROLL
  for (unsigned j = 0; j < Many; ++j) {
    if (j < count) { to[j] = get<T>(p, j); }
  }
}

}  // namespace detail

/// The k-th words, of `Many` elements each, of the n elements at `from`, which may lie at any
/// address; bytes past the end are 0. Accesses of up to 16 bytes where the address allows it, else
/// one an element.
template <unsigned Many, class Words, element T>
[[nodiscard]] TPX_HD inline Words read_words(T const* from, std::size_t n, std::size_t k) {
  std::size_t const at = k * Many;
  if (sizeof(T) * Many == sizeof(Words) && at + Many <= n && detail::aligned<Words>(from)) {
    return *reinterpret_cast<Words const*>(from + at);
  }
  return detail::read_elements<Many, Words>(from + at, at < n ? n - at : 0);
}

/// Packet `k`.
template <element T>
[[nodiscard]] TPX_HD inline packet read_packet(T const* from, std::size_t n, std::size_t k) {
  return read_words<per_packet<T>, packet>(from, n, k);
}

/// The reverse.
template <unsigned Many, element T, class Words>
TPX_HD inline void write_words(T* to, std::size_t n, std::size_t k, Words const& p) {
  std::size_t const at = k * Many;
  if (sizeof(T) * Many == sizeof(Words) && at + Many <= n && detail::aligned<Words>(to)) {
    *reinterpret_cast<Words*>(to + at) = p;
    return;
  }
  detail::write_elements<Many>(to + at, at < n ? n - at : 0, p);
}

template <element T>
TPX_HD inline void write_packet(T* to, std::size_t n, std::size_t k, packet const& p) {
  write_words<per_packet<T>>(to, n, k, p);
}

/// By value, so that both stay in registers.
[[nodiscard]] TPX_HD inline packet choose(bool first, packet a, packet b) {
  return {{first ? a.word[0] : b.word[0], first ? a.word[1] : b.word[1],
           first ? a.word[2] : b.word[2], first ? a.word[3] : b.word[3]}};
}

/// Words of what an epilogue is given beside each element of a packet of T.
template <element T, element Operand>
using beside = words<per_packet<T> * sizeof(Operand)>;

/// What an epilogue reads for a packet of T: of its operand, if it has one.
template <element T, class Epilogue>
struct fetched {
  [[nodiscard]] static TPX_HD fetched of(Epilogue const&, std::size_t, std::size_t, std::size_t) {
    return {};
  }
  template <class A>
  [[nodiscard]] TPX_HD A apply(Epilogue const& e, A value, std::size_t index, unsigned) const {
    return e(value, index);
  }
};
template <element T, class Epilogue>
requires operand_epilogue<Epilogue>
struct fetched<T, Epilogue> {
  using operand = operand_of<Epilogue>;
  beside<T, operand> values;

  /// For packet `k` of the n elements from `first` on.
  [[nodiscard]] static TPX_HD fetched of(Epilogue const& e, std::size_t first, std::size_t n,
                                         std::size_t k) {
    constexpr unsigned many = per_packet<T>;
    return {read_words<many, beside<T, operand>>(e.operand() + first, n, k)};
  }
  template <class A>
  [[nodiscard]] TPX_HD A apply(Epilogue const& e, A value, std::size_t index, unsigned j) const {
    return e(value, index, detail::get<operand>(values, j));
  }
};

/// A packet's elements in the type that they are added in.
template <element T>
struct widened {
  accumulate_t<T> value[per_packet<T>];

  TPX_HD explicit widened(packet const& p) {
    TPX_UNROLL
    for (unsigned j = 0; j < per_packet<T>; ++j) { value[j] = element_of(p, j); }
  }

  template <class Op>
  TPX_HD void fold(packet const& p, Op const& op) {
    TPX_UNROLL
    for (unsigned j = 0; j < per_packet<T>; ++j) { value[j] = op(value[j], element_of(p, j)); }
  }

  /// The epilogue of the elements from index `first` on, of which those below `end` count, rounded
  /// to T.
  template <class Epilogue>
  [[nodiscard]] TPX_HD packet finished(Epilogue const& epilogue, fetched<T, Epilogue> const& beside,
                                       std::size_t first, std::size_t end) const {
    // One that reads by index must not be shown an index past the end.
    constexpr bool reads = !operand_epilogue<Epilogue> && !std::is_same_v<Epilogue, no_epilogue>;
    if (reads && end < first + per_packet<T>) { return in_part(*this, epilogue, first, end); }
    packet p{};
    TPX_UNROLL
    for (unsigned j = 0; j < per_packet<T>; ++j) {
      detail::put(p, j, static_cast<T>(beside.apply(epilogue, value[j], first + j, j)));
    }
    return p;
  }

 private:
  template <class Epilogue>
  [[nodiscard, gnu::noinline]] static TPX_HD packet in_part(widened sums, Epilogue epilogue,
                                                            std::size_t first, std::size_t end) {
    packet p{};
    TPX_UNROLL
    for (unsigned j = 0; j < per_packet<T>; ++j) {
      if (first + j < end) {
        detail::put(p, j, static_cast<T>(epilogue(sums.value[j], first + j)));
      }
    }
    return p;
  }
  [[nodiscard]] static TPX_HD accumulate_t<T> element_of(packet const& p, unsigned j) {
    return static_cast<accumulate_t<T>>(detail::get<T>(p, j));
  }
};

}  // namespace tpx
