// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

namespace tpx::detail {

inline constexpr std::size_t lane_count = 16;

/// Of the processor that is compiled for.
#if defined(__AVX512F__)
inline constexpr std::size_t register_bytes = 64;
#elif defined(__AVX__)
inline constexpr std::size_t register_bytes = 32;
#else
inline constexpr std::size_t register_bytes = 16;
#endif

/// Sixteen numbers of 32 bits side by side: one register of AVX-512, two of AVX, four of SSE2 or
/// NEON, with the operators of one number. True is -1, false 0. A vector of 64 bytes would do the
/// same, but where registers are shorter g++ compares and converts it number by number. Passed by
/// reference: by value, the ABI depends on compiler flags.
template <class T>
class sixteen {
 public:
  typedef T part __attribute__((vector_size(register_bytes)));  // g++ ignores it after using
  using truths = sixteen<std::int32_t>;
  static constexpr std::size_t parts = lane_count * sizeof(T) / register_bytes;

  sixteen() = default;
  sixteen(T every) {
    each_part([&](std::size_t i) __attribute__((always_inline)) {
      p[i] = every - part{};
    });  // not +, which makes +0 of -0
  }
  template <class... Us>
  requires(sizeof...(Us) == lane_count) sixteen(Us... each) {
    T const values[]{static_cast<T>(each)...};
    load(values);
  }

  /// From and to memory of any alignment, a register at a time: an object that is copied whole g++
  /// keeps in memory.
  void load(void const* from) {
    each_part([&](std::size_t i) __attribute__((always_inline)) {
      std::memcpy(&p[i], static_cast<char const*>(from) + i * register_bytes, register_bytes);
    });
  }
  void store(void* to) const {
    each_part([&](std::size_t i) __attribute__((always_inline)) {
      std::memcpy(static_cast<char*>(to) + i * register_bytes, &p[i], register_bytes);
    });
  }

  T operator[](std::size_t i) const {
    if constexpr (parts == 1) { return p[0][i]; }
    T each[lane_count];
    store(each);
    return each[i];
  }

  friend sixteen operator-(sixteen const& a) {
    return join<T>(a, a, [](auto const& x, auto const&) { return -x; });
  }
  friend sixteen operator+(sixteen const& a, sixteen const& b) {
    return join<T>(a, b, [](auto const& x, auto const& y) { return x + y; });
  }
  friend sixteen operator-(sixteen const& a, sixteen const& b) {
    return join<T>(a, b, [](auto const& x, auto const& y) { return x - y; });
  }
  friend sixteen operator*(sixteen const& a, sixteen const& b) {
    return join<T>(a, b, [](auto const& x, auto const& y) { return x * y; });
  }
  friend sixteen operator/(sixteen const& a, sixteen const& b) {
    return join<T>(a, b, [](auto const& x, auto const& y) { return x / y; });
  }
  friend sixteen operator&(sixteen const& a, sixteen const& b) {
    return join<T>(a, b, [](auto const& x, auto const& y) { return x & y; });
  }
  friend sixteen operator|(sixteen const& a, sixteen const& b) {
    return join<T>(a, b, [](auto const& x, auto const& y) { return x | y; });
  }
  friend sixteen operator^(sixteen const& a, sixteen const& b) {
    return join<T>(a, b, [](auto const& x, auto const& y) { return x ^ y; });
  }
  friend sixteen operator<<(sixteen const& a, sixteen const& b) {
    return join<T>(a, b, [](auto const& x, auto const& y) { return x << y; });
  }
  friend sixteen operator>>(sixteen const& a, sixteen const& b) {
    return join<T>(a, b, [](auto const& x, auto const& y) { return x >> y; });
  }
  sixteen& operator+=(sixteen const& b) { return *this = *this + b; }
  sixteen& operator-=(sixteen const& b) { return *this = *this - b; }
  sixteen& operator*=(sixteen const& b) { return *this = *this * b; }
  sixteen& operator&=(sixteen const& b) { return *this = *this & b; }
  sixteen& operator|=(sixteen const& b) { return *this = *this | b; }
  sixteen& operator^=(sixteen const& b) { return *this = *this ^ b; }
  friend truths operator<(sixteen const& a, sixteen const& b) {
    return join<std::int32_t>(a, b, [](auto const& x, auto const& y) { return x < y; });
  }
  friend truths operator<=(sixteen const& a, sixteen const& b) {
    return join<std::int32_t>(a, b, [](auto const& x, auto const& y) { return x <= y; });
  }
  friend truths operator>(sixteen const& a, sixteen const& b) {
    return join<std::int32_t>(a, b, [](auto const& x, auto const& y) { return x > y; });
  }
  friend truths operator>=(sixteen const& a, sixteen const& b) {
    return join<std::int32_t>(a, b, [](auto const& x, auto const& y) { return x >= y; });
  }
  friend truths operator==(sixteen const& a, sixteen const& b) {
    return join<std::int32_t>(a, b, [](auto const& x, auto const& y) { return x == y; });
  }
  friend truths operator!=(sixteen const& a, sixteen const& b) {
    return join<std::int32_t>(a, b, [](auto const& x, auto const& y) { return x != y; });
  }

  /// a where it is true, else b.
  friend sixteen select(truths const& which, sixteen const& a, sixteen const& b) {
    // nvcc's front end fails where only some of the three depend on T.
    auto const pick =
      [](auto const& truth, auto const& x, auto const& y) __attribute__((always_inline)) {
      return truth != 0 ? x : y;
    };
    sixteen made;
    each_part([&](std::size_t i)
                __attribute__((always_inline)) { made.p[i] = pick(which.p[i], a.p[i], b.p[i]); });
    return made;
  }

  /// f(0), f(1), ... for each register: no loop, which g++ would keep in memory.
  template <class F>
  [[gnu::always_inline]] static void each_part(F f) {
    [&]<std::size_t... I>(std::index_sequence<I...>) __attribute__((always_inline)) {
      (f(I), ...);
    }
    (std::make_index_sequence<parts>{});
  }

  part p[parts];

 private:
  template <class To, class F>
  [[gnu::always_inline]] static sixteen<To> join(sixteen const& a, sixteen const& b, F f) {
    sixteen<To> made;
    each_part([&](std::size_t i) __attribute__((always_inline)) { made.p[i] = f(a.p[i], b.p[i]); });
    return made;
  }
};

/// As static_cast of each.
template <class To, class From>
[[nodiscard, gnu::always_inline]] inline sixteen<To> convert(sixteen<From> const& from) {
  sixteen<To> made;
  sixteen<To>::each_part([&](std::size_t i) __attribute__((always_inline)) {
    made.p[i] = __builtin_convertvector(from.p[i], typename sixteen<To>::part);
  });
  return made;
}

/// The same bits.
template <class To, class From>
[[nodiscard, gnu::always_inline]] inline sixteen<To> bits_as(sixteen<From> const& from) {
  sixteen<To> made;
  sixteen<To>::each_part([&](std::size_t i) __attribute__((always_inline)) {
    made.p[i] = (typename sixteen<To>::part)from.p[i];
  });
  return made;
}

/// One number of a register of Bytes bytes.
template <class T, std::size_t Bytes, class Part, class F>
[[nodiscard]] T fold_part(Part const& of, F f) {
  if constexpr (Bytes == 16) {
    return f(f(of[0], of[2]), f(of[1], of[3]));
  } else {
    typedef T half __attribute__((vector_size(Bytes / 2)));
    half h[2];
    std::memcpy(h, &of, sizeof(h));
    return fold_part<T, Bytes / 2>(f(h[0], h[1]), f);
  }
}

/// One number of all sixteen by f, which takes two registers or numbers: first those 8 apart, then
/// 4, 2 and 1.
template <class T, class F>
[[nodiscard]] T fold(sixteen<T> const& of, F f) {
  if constexpr (sixteen<T>::parts == 4) {
    return fold_part<T, 16>(f(f(of.p[0], of.p[2]), f(of.p[1], of.p[3])), f);
  } else if constexpr (sixteen<T>::parts == 2) {
    return fold_part<T, 32>(f(of.p[0], of.p[1]), f);
  } else {
    return fold_part<T, 64>(of.p[0], f);
  }
}

}  // namespace tpx::detail
