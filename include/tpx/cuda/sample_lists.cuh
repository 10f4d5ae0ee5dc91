// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/sample_memory.cuh>
#include <tpx/cuda/sample_row.cuh>

#include <algorithm>
#include <concepts>
#include <type_traits>
#include <vector>

namespace tpx::detail {

template <class S>
concept gpu_stage = requires {
  requires S::on_any_space;
};
/// Whether a stage looks at the history.
template <class S>
concept looking_stage = requires {
  requires S::looks_at_history;
};
/// No lambda: where one stands in a concept, nvcc's code for a GPU takes that as not met.
struct passed_over {
  void operator()(auto const&) const {}
};
/// Whether a stage is given a list by its user.
template <class S>
concept listing_stage = requires(S stage) {
  stage.spans(passed_over{});
};

/// Whether a stage looks at logits as they were before it.
template <class S>
concept looking_back = requires {
  requires S::looks_back;
};

/// Each row has lists of tokens and what they come to: one for each stage that looks at the
/// history, which is made before each sample, then one for each that is given one by `set`.
template <class... Stages>
struct list_layout {
  static constexpr unsigned looking = (unsigned{looking_stage<Stages>} + ... + 0);
  static constexpr unsigned listing = (unsigned{listing_stage<Stages>} + ... + 0);
  static constexpr unsigned count = looking + listing;

  template <class S>
  static constexpr unsigned seen = [] {
    unsigned n = 0;
    bool here = true;
    ((here = here && !std::is_same_v<S, Stages>, n += here && looking_stage<Stages> ? 1 : 0), ...);
    return n;
  }();
  template <class S>
  static constexpr unsigned given = [] {
    unsigned n = looking;
    bool here = true;
    ((here = here && !std::is_same_v<S, Stages>, n += here && listing_stage<Stages> ? 1 : 0), ...);
    return n;
  }();
};

/// A list of a row.
struct token_list {
  seen_token const* tokens = nullptr;
  std::uint32_t const* count = nullptr;
  std::uint32_t room = 0;

  /// Whether `token` is in a list in ascending order.
  [[nodiscard]] __device__ bool holds(token_id token) const {
    std::uint32_t low = 0;
    std::uint32_t high = *count;
    while (low < high) {
      std::uint32_t const middle = (low + high) / 2;
      token_id const there = tokens[middle].token;
      if (there == token) { return true; }
      (there < token ? low : high) = there < token ? middle + 1 : middle;
    }
    return false;
  }
};

/// All of them: (rows, count, room).
struct token_lists {
  seen_token* tokens;
  std::uint32_t* counts;
  std::uint32_t room;

  [[nodiscard]] TPX_HD std::size_t at(std::size_t list) const { return list * room; }
  [[nodiscard]] __device__ token_list list(std::size_t i) const {
    return {tokens + at(i), counts + i, room};
  }
};

struct list_piece {
  seen_token tokens[256];
};

/// Part of a list: arguments of a launch are copied at once.
template <class Piece>
__global__ void __launch_bounds__(256) put_list(seen_token* to, Piece const piece, std::uint32_t n,
                                                std::uint32_t* count, std::uint32_t total) {
  if (threadIdx.x < n) { to[threadIdx.x] = piece.tokens[threadIdx.x]; }
  if (threadIdx.x == 0) { *count = total; }
}

inline void put_list_of(token_lists const& lists, std::size_t i, std::span<seen_token const> from,
                        cudaStream_t stream) {
  auto const total = static_cast<std::uint32_t>(from.size());
  expects(
    total <= lists.room,
    [&] {
      return "cuda_sampler: a list of " + std::to_string(total) + " tokens, at most " +
             std::to_string(lists.room);
    },
    "raise max_history");
  auto* to = lists.tokens + lists.at(i);
  do {
    list_piece piece{};
    auto const n = std::min(from.size(), std::size(piece.tokens));
    std::copy_n(from.begin(), n, piece.tokens);
    put_list<<<1, 256, 0, stream>>>(to, piece, static_cast<std::uint32_t>(n), lists.counts + i,
                                    total);
    cuda_check(cudaGetLastError(), "setting a list of a sampler");
    to += n;
    from = from.subspan(n);
  } while (!from.empty());
}

/// What a stage is given, in ascending order of tokens.
template <listing_stage S>
[[nodiscard]] std::vector<seen_token> given_to(S stage) {
  std::vector<seen_token> list;
  stage.spans([&]<class Given = S>(auto const& span) {  // nvcc looks S::counts up for all
    for (auto const& entry : span) {
      if constexpr (std::is_same_v<decltype(entry), token_id const&>) {
        list.push_back({entry, 0, 0});
      } else if (Given::counts(entry)) {
        list.push_back({entry.token, entry.bias, 0});
      }
    }
  });
  std::ranges::sort(list, {}, &seen_token::token);
  expects(std::ranges::adjacent_find(list, {}, &seen_token::token) == list.end(),
          [] { return "cuda_sampler: a list of " + std::string{S::name} + " has a token twice"; });
  return list;
}

}  // namespace tpx::detail
