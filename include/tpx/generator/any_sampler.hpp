// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/sampler.hpp>

#include <optional>
#include <variant>

namespace tpx {
namespace detail {

/// The stages of both lists, each once.
template <class... Have, class... More>
constexpr auto operator+(stage_list<Have...> have, stage_list<More...>) {
  if constexpr (sizeof...(More) == 0) {
    return have;
  } else {
    return []<class S, class... Rest>(stage_list<S, Rest...>) {
      if constexpr (times_in<S, Have...> == 0) {
        return stage_list<Have..., S>{} + stage_list<Rest...>{};
      } else {
        return stage_list<Have...>{} + stage_list<Rest...>{};
      }
    }(stage_list<More...>{});
  }
}

template <class... Stages>
sample_parameters<Stages...> parameters_of(stage_list<Stages...>);
template <class... Stages>
sample_state<Stages...> state_of(stage_list<Stages...>);
template <class... Stages>
std::string names_of(stage_list<Stages...>) {
  std::string names;
  ((names += (names.empty() ? "" : " ") + std::string{Stages::name}), ...);
  return names;
}

}  // namespace detail

/// A sampler whose chain is chosen at run time among those that were compiled in:
///
///     using any = tpx::any_sampler<tpx::sampler<TopK, Gumbel>, tpx::sampler<MinP, Gumbel>>;
///     any sampler{{"MinP", "Gumbel"}, {.columns = n}};
///
/// Parameters and state hold the stages of all chains, and fit whichever is chosen.
template <class... Chains>
class any_sampler {
  using all_stages = decltype((detail::stage_list<>{} + ... + typename Chains::stages{}));

 public:
  using parameters = decltype(detail::parameters_of(all_stages{}));
  using state = decltype(detail::state_of(all_stages{}));

  /// `stages` are names in the order of the chain; throws unsupported, naming the chains there are.
  any_sampler(std::span<std::string_view const> stages, sampler_options const& options) {
    std::string wanted;
    for (auto const name : stages) { wanted += (wanted.empty() ? "" : " ") + std::string{name}; }
    (try_chain<Chains>(wanted, options), ...);
    if (!chain_) {
      std::string there;
      ((there += "; " + detail::names_of(typename Chains::stages{})), ...);
      throw error{errc::unsupported,
                  "any_sampler: no chain " + wanted,
                  {.remedy = "there are: " + there.substr(2)}};
    }
  }
  any_sampler(std::initializer_list<std::string_view> stages, sampler_options const& options)
      : any_sampler{std::span{stages.begin(), stages.size()}, options} {}

  /// As sampler::sample. Stages that the chain does not have are passed over: `check` finds them.
  template <vocabulary_reduction R = whole_vocabulary>
  [[nodiscard]] sampled sample(sample_request const& request, parameters const& chosen,
                               state& memory, R const& reduction = {}) {
    return std::visit([&](auto& chain) { return chain.sample(request, chosen, memory, reduction); },
                      *chain_);
  }

  /// Throws invalid_argument if a stage that would change something is not in the chain.
  void check(parameters const& chosen) const {
    std::visit([&]<class... S>(sampler<S...> const&) { check_all<S...>(chosen, all_stages{}); },
               *chain_);
  }

 private:
  template <class Chain>
  void try_chain(std::string const& wanted, sampler_options const& options) {
    if (!chain_ && detail::names_of(typename Chain::stages{}) == wanted) {
      chain_.emplace(std::in_place_type<Chain>, options);
    }
  }

  template <class... InChain, class... All>
  static void check_all(parameters const& chosen, detail::stage_list<All...>) {
    (check_one<All, InChain...>(chosen), ...);
  }
  template <class S, class... InChain>
  static void check_one(parameters const& chosen) {
    if constexpr (detail::times_in<S, InChain...> == 0 && !picking_stage<S>) {
      expects(chosen.template get<S>().neutral(), [] {
        return "any_sampler: " + std::string{S::name} + " is set, but the chain is " +
               detail::names_of(detail::stage_list<InChain...>{});
      });
    }
  }

  std::optional<std::variant<Chains...>> chain_;
};

}  // namespace tpx
