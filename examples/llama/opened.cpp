// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "opened.hpp"

#include <tpx/communicator.hpp>
#include <tpx/split_report.hpp>

#include <cstdio>
#include <fstream>

namespace llama {
namespace {

/// Bytes that the machine has to spare; "unlimited" where it does not say.
std::size_t spare_memory() {
  std::ifstream info{"/proc/meminfo"};
  for (std::string line; std::getline(info, line);) {
    std::size_t kib = 0;
    if (std::sscanf(line.c_str(), "MemAvailable: %zu", &kib) == 1) { return kib * 1024; }
  }
  return tpx::device_budget::unlimited;
}

// All of them need as much memory.
using any_communicator = tpx::communicator<tpx::HostPinned, tpx::Auto, tpx::Cpu>;

}  // namespace

opened opened::open(std::string const& folder) {
  auto files = checkpoint::open(folder);
  auto words = tokenizer::open(folder);
  auto const logits = files.config.vocab_size;
  tpx::expects(words.size() <= logits,
               folder + ": the tokenizer has " + std::to_string(words.size()) +
                 " tokens, the model only " + std::to_string(logits),
               "take tokenizer.json and config.json of the same model");
  return {std::move(files), {std::move(words), logits}};
}

std::vector<std::int32_t> opened::prompt(std::string_view text, std::size_t new_tokens) const {
  auto const& config = files.config;
  auto const prefix = words.words.prefix();
  std::vector<std::int32_t> tokens{prefix.begin(), prefix.end()};
  auto const encoded = words.words.encode(text);
  tokens.insert(tokens.end(), encoded.begin(), encoded.end());
  if (tokens.empty() && config.bos_token_id) { tokens.push_back(*config.bos_token_id); }
  tpx::expects(!tokens.empty(), "the prompt is empty", "give it some text to continue");
  auto const room = config.max_position_embeddings;
  auto const number = [](std::size_t n) { return std::to_string(n); };
  tpx::expects(tokens.size() < room,
               "the prompt has " + number(tokens.size()) +
                 " tokens, and this model reads at most " + number(room),
               "shorten the prompt");
  tpx::expects(tokens.size() + new_tokens <= room,
               "a prompt of " + number(tokens.size()) + " tokens and " + number(new_tokens) +
                 " more are over this model's " + number(room),
               "ask for at most --tokens " + number(room - tokens.size()));
  return tokens;
}

tpx::split_plan opened::plan(tpx::group& g, std::size_t tokens, bool print) const {
  auto const spare = g.decide(spare_memory());
  auto const ranks = static_cast<std::size_t>(g.size());
  std::vector<tpx::device_budget> const budgets(
    ranks, {.memory = spare == tpx::device_budget::unlimited ? spare : spare / ranks});
  auto options = plan_options(tokens);
  options.communicator_bytes = any_communicator::bytes_needed(g.size());
  auto const plan = tpx::split_plan::fit(shape_of(files.config), budgets, options);
  tpx::split_report const report{plan, budgets};
  if (print && g.rank() == 0) { show(report.text() + '\n'); }
  report.require();
  return plan;
}

void show(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

}  // namespace llama
