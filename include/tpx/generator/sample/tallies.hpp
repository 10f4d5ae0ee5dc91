// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sample/memory.hpp>

#include <utility>

namespace tpx::detail {

/// What tokens add up to, for those of this rank; other tokens are passed over. Cost: by tokens
/// added, not by the vocabulary.
class token_tallies {
 public:
  explicit token_tallies(sampler_memory& memory) : m_{memory} {}

  /// `amount` > 0.
  void add(token_id token, float amount) {
    auto const column = static_cast<std::size_t>(token) - m_.options().first;
    if (token < 0 || column >= m_.options().columns) { return; }
    auto& [most, sum] = m_.occurred[column];
    if (sum == 0) { m_.touched[size_++] = static_cast<std::uint32_t>(column); }
    most = std::max(most, amount);
    sum += amount;
  }

  /// Calls f(token, largest amount, sum) for each token, and forgets it.
  template <class F>
  void drain(F f) {
    for (auto const column : std::span{m_.touched.data(), size_}) {
      auto const [most, sum] = std::exchange(m_.occurred[column], {});
      f(static_cast<token_id>(m_.options().first + column), most, static_cast<float>(sum));
    }
    size_ = 0;
  }

 private:
  sampler_memory& m_;
  std::size_t size_ = 0;
};

}  // namespace tpx::detail
