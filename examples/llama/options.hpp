// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "serving.hpp"

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <string>
#include <vector>

namespace llama {

/// What the programs on this model let their users choose.
struct settings {
  std::string model = LLAMA_MODEL;
  int ranks = 2;
  std::size_t tokens = 128;
  double temperature = 0;
  int top_k = 0;
  double top_p = 1;
  double min_p = 0;
  std::uint64_t seed = 0;
  std::string transport = "HostPinned";
  std::string topology = "Auto";

  [[nodiscard]] chain::parameters sampling() const {
    return {tpx::sample::TopK{top_k}, tpx::sample::TopP{static_cast<float>(top_p)},
            tpx::sample::MinP{static_cast<float>(min_p)},
            tpx::sample::Temperature{static_cast<float>(temperature)}};
  }
};

template <class T>
CLI::Option* add_option(CLI::App& app, char const* name, T& value, char const* type,
                        char const* what) {
  return app.add_option(name, value, what)->type_name(type);
}

/// CLI::Range lets NaN through.
inline auto number_between(double low, double high) {
  return [=](std::string const& text) {
    double const value = std::strtod(text.c_str(), nullptr);
    return value >= low && value <= high
             ? std::string{}
             : text + " is not a number from " + CLI::detail::to_string(low) + " to " +
                 CLI::detail::to_string(high);
  };
}

template <std::size_t N>
CLI::Validator one_of(std::string_view const (&names)[N]) {
  return CLI::Validator{CLI::IsMember(std::vector<std::string>(std::begin(names), std::end(names)))}
    .description("");
}

/// Adds the options of `s` to a program's.
inline void add_options(CLI::App& app, settings& s) {
  add_option(app, "--model", s.model, "DIR",
             "a folder with config.json, model.safetensors and tokenizer.json\n"
             "(default: the model that has read the King James Bible)");
  add_option(app, "--ranks", s.ranks, "N", "split the model over N ranks, 1 to 16 (default: 2)")
    ->check(CLI::Range(1, tpx::max_ranks).description(""));
  add_option(app, "--tokens", s.tokens, "N",
             "generate N tokens, or fewer if the text ends (default: 128)")
    ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 20).description(""));
  add_option(app, "--temperature", s.temperature, "T",
             "0: the likeliest token each time; 1: drawn as the model says (default: 0)")
    ->check(number_between(0, 100));
  add_option(app, "--top-k", s.top_k, "K", "draw from the K likeliest tokens (default: all)")
    ->check(CLI::Range(0, 1 << 30).description(""));
  add_option(app, "--top-p", s.top_p, "P",
             "draw from the likeliest that have a share of P together (default: 1)")
    ->check(number_between(0, 1));
  add_option(app, "--min-p", s.min_p, "P",
             "draw from those at least P times as likely as the likeliest (default: 0)")
    ->check(number_between(0, 1));
  add_option(app, "--seed", s.seed, "N",
             "which draws; the same seed gives the same text (default: 0)");
  add_option(app, "--transport", s.transport, "NAME",
             "HostPinned or PeerDirect (default: HostPinned)")
    ->check(one_of(transports));
  add_option(app, "--topology", s.topology, "NAME", "Auto, AllPairs, Ring or Tree (default: Auto)")
    ->check(one_of(topologies));
}

}  // namespace llama
