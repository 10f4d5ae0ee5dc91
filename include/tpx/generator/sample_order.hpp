// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/guidance.hpp>
#include <tpx/generator/sample/parameters.hpp>
#include <tpx/generator/sample/reduction.hpp>
#include <tpx/generator/sample/request.hpp>
#include <tpx/generator/token.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace tpx {

/// Which row of a step's logits a token is drawn from, and which guides it.
struct guided_row {
  static constexpr std::uint64_t none = ~std::uint64_t{0};
  std::uint64_t row = 0;
  std::uint64_t negative = none;
  float strength = 0;
};

/// All that a sampler is asked for one token but the logits, as words that one rank sends to the
/// others, so that all draw from a row of which each has its part; see sampler. `Chain`: a sampler
/// or an any_sampler.
///
/// The history goes along where a stage says S::looks_at_history, and what a stage shows of its
/// user's memory where S::spans(f) calls f with each such span.
template <class Chain>
class sample_order {
 public:
  using parameters = typename Chain::parameters;
  using state = typename Chain::state;

  /// Good until the next call.
  [[nodiscard]] std::span<std::uint32_t const> write(guided_row const& from,
                                                     sample_request const& request,
                                                     parameters const& chosen,
                                                     state const& memory) {
    words_.clear();
    auto const history = looks_at_history(chosen) ? request.history : std::span<token_id const>{};
    put(head{from, request.seed, request.step, request.id, request.logprobs ? 1u : 0u,
             static_cast<std::uint32_t>(request.top.size()),
             static_cast<std::uint32_t>(request.raw_top.size()), request.drafted});
    put(memory);
    each_stage(chosen, [&]<class S>(S stage) {
      put(stage);
      if constexpr (shows<S>) {
        stage.spans([&](auto const& span) { put_all(span); });
      }
    });
    put_all(history);
    put_all(request.mask);
    put_all(request.drawn_from);
    return words_;
  }

  /// On another rank: draws the same token as the writer, from this rank's part of the step's
  /// logits: (rows, columns). An error of the row is the writer's to tell, and passed over.
  template <vocabulary_reduction R>
  void carry_out(std::span<std::uint32_t const> words, Chain& chain, std::span<float> logits,
                 std::size_t columns, R const& reduction) {
    auto const h = take<head>(words);
    auto memory = take<state>(words);
    parameters chosen;
    each_stage(chosen, [&]<class S>(S const&) {
      S stage = take<S>(words);
      if constexpr (shows<S>) {
        stage.spans([&]<class T>(std::span<T const>& span) { span = take_all<T>(words); });
      }
      chosen.set(stage);
    });
    top_.resize(h.tops);
    raw_top_.resize(h.raw_tops);
    auto const at = [&](std::uint64_t row) { return logits.subspan(row * columns, columns); };
    auto const row = at(h.from.row);
    if (h.from.negative != guided_row::none) { guide(row, at(h.from.negative), h.from.strength); }
    auto const history = take_all<token_id>(words);
    auto const mask = take_all<std::uint32_t>(words);
    try {
      static_cast<void>(
        chain.sample({.logits = row,
                      .history = history,
                      .mask = mask,
                      .seed = h.seed,
                      .step = h.step,
                      .id = h.id,
                      .logprobs = h.logprobs != 0,
                      .top = top_,
                      .raw_top = raw_top_,
                      .drafted = h.drafted,
                      .drawn_from = take_all<token_distribution::value_type>(words)},
                     chosen, memory, reduction));
    } catch (error const& e) {
      if (e.code() != errc::invalid_argument) { throw; }
    }
  }

 private:
  struct head {
    guided_row from;
    std::uint64_t seed;
    std::uint64_t step;
    std::uint64_t id;
    std::uint32_t logprobs;
    std::uint32_t tops;
    std::uint32_t raw_tops;
    token_id drafted;
  };

  template <class S>
  static constexpr bool shows = requires(S stage) {
    stage.spans([](auto&) {});
  };

  template <class... Stages>
  static constexpr bool looks_at_history(sample_parameters<Stages...> const&) {
    return (requires { Stages::looks_at_history; } || ...);
  }
  template <class... Stages, class F>
  static void each_stage(sample_parameters<Stages...> const& chosen, F f) {
    (f(chosen.template get<Stages>()), ...);
  }

  static constexpr std::size_t words_for(std::size_t bytes) { return (bytes + 3) / 4; }

  template <class T>
  void put(T const& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    auto const at = words_.size();
    words_.resize(at + words_for(sizeof(T)));
    std::memcpy(words_.data() + at, &value, sizeof(T));
  }
  template <class T>
  void put_all(std::span<T const> values) {
    static_assert(sizeof(T) % 4 == 0 && alignof(T) <= 4);
    put(static_cast<std::uint32_t>(values.size()));
    auto const at = words_.size();
    words_.resize(at + words_for(values.size_bytes()));
    if (!values.empty()) { std::memcpy(words_.data() + at, values.data(), values.size_bytes()); }
  }

  static std::span<std::uint32_t const> front(std::span<std::uint32_t const>& words,
                                              std::size_t bytes) {
    auto const taken = words.first(words_for(bytes));
    words = words.subspan(taken.size());
    return taken;
  }
  template <class T>
  [[nodiscard]] static T take(std::span<std::uint32_t const>& words) {
    T value{};
    std::memcpy(static_cast<void*>(&value), front(words, sizeof(T)).data(), sizeof(T));
    return value;
  }
  template <class T>
  [[nodiscard]] static std::span<T const> take_all(std::span<std::uint32_t const>& words) {
    auto const count = take<std::uint32_t>(words);
    return {reinterpret_cast<T const*>(front(words, count * sizeof(T)).data()), count};
  }

  std::vector<std::uint32_t> words_;
  std::vector<token_logprob> top_;
  std::vector<token_logprob> raw_top_;
};

}  // namespace tpx
