// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "leader.hpp"

#include <tpx/generator/sample_order.hpp>

#include <cstdint>
#include <span>
#include <utility>

namespace llama {

/// Joins the ranks' parts of a row of logits: a tpx::vocabulary_reduction.
template <class Model>
struct over_ranks {
  Model& own;
  void max(std::span<std::uint64_t> values) const { own.max(values); }
  void sum(std::span<std::uint64_t> values) const { own.sum(values); }
};

/// A sampler for this rank's part of the vocabulary.
template <class Chain, class Model>
[[nodiscard]] Chain part_sampler(Model const& own) {
  return Chain{{.columns = own.own().size(), .first = own.own().begin}};
}

/// A part_leader's sampler, which has the others, who are in follow(), draw the same token. No
/// logits are sent: see tpx::sampler for what is.
template <class Model, class Chain>
class leading_sampler {
 public:
  using parameters = typename Chain::parameters;
  using state = typename Chain::state;

  /// All of them must outlive it. `chain`: of rank 0's part, which is not empty.
  leading_sampler(Model& own, Chain& chain, orders& to) : own_{own}, chain_{chain}, orders_{to} {}

  [[nodiscard]] tpx::sampled sample(tpx::sample_request const& request, parameters const& chosen,
                                    state& memory) {
    from_.row = row_of(request.logits);
    orders_.begin(orders::sample);
    orders_.add(order_.write(std::exchange(from_, {}), request, chosen, memory));
    orders_.send();
    return chain_.sample(request, chosen, memory, over_ranks<Model>{own_});
  }

  void check(parameters const& chosen) const requires requires(Chain& c) { c.check(chosen); }
  { chain_.check(chosen); }

  /// Of the row that is sampled next.
  void guide(std::span<float> row, std::span<float const> negative, float strength) {
    from_ = {.negative = row_of(negative), .strength = strength};
    tpx::guide(row, negative, strength);
  }

 private:
  [[nodiscard]] std::size_t row_of(std::span<float const> row) const {
    return static_cast<std::size_t>(row.data() - own_.own_logits().data()) / row.size();
  }

  Model& own_;
  Chain& chain_;
  orders& orders_;
  tpx::sample_order<Chain> order_;
  tpx::guided_row from_;
};

/// follow() for a leader with a leading_sampler; `chain`: of this rank's part.
template <class Model, class Chain>
void follow_sampling(Model& own, orders& from, Chain& chain) {
  tpx::sample_order<Chain> order;
  follow(own, from, [&](std::span<std::uint32_t const> words) {
    order.carry_out(words, chain, own.own_logits(), own.own().size(), over_ranks<Model>{own});
  });
}

}  // namespace llama
