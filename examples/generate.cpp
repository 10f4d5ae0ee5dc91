// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Many jobs at once on a toy model: each token's logits are largest for the letter after the one
// that came a step before, so that "ab" goes on with "cdef...". A real model answers to the same
// four members, whatever it runs on.
#include <tpx/generator/generator.hpp>
#include <tpx/generator/metrics_text.hpp>
#include <tpx/generator/sampler.hpp>

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

struct alphabet {  // a tokenizer's vocabulary: one token a letter, and the last token ends a text
  static constexpr std::string_view letters = "abcdefghijklmnopqrstuvwxyz";
  static constexpr tpx::token_id end = 26;

  [[nodiscard]] std::size_t size() const { return letters.size() + 1; }
  [[nodiscard]] std::string_view piece(tpx::token_id t) const {
    return t == end ? std::string_view{} : letters.substr(static_cast<std::size_t>(t), 1);
  }
};

class next_letter {  // a model
 public:
  static constexpr std::size_t page_size = 16;

  [[nodiscard]] std::size_t vocab_size() const { return alphabet{}.size(); }
  [[nodiscard]] std::size_t pages() const { return 64; }

  std::span<float> forward(std::span<tpx::step_part const> parts) {
    logits_.clear();
    for (auto const& part : parts) {  // a real model would write part.tokens to part.pages, too
      for (auto const token : part.tokens.last(part.rows)) {
        auto const row = logits_.size();
        logits_.resize(row + vocab_size());
        logits_[row + static_cast<std::size_t>(token) + 1] = 10;
      }
    }
    return logits_;
  }
  void copy(std::span<tpx::page_copy const>) {}

 private:
  std::vector<float> logits_;
};

using chain = tpx::sampler<tpx::sample::Temperature, tpx::sample::Gumbel>;

std::vector<tpx::token_id> encode(std::string_view text) {
  std::vector<tpx::token_id> tokens;
  for (char const c : text) { tokens.push_back(c - 'a'); }
  return tokens;
}

int main() {
  next_letter model;
  alphabet vocabulary;
  chain sampler{{.columns = model.vocab_size()}};
  tpx::generator<next_letter, chain, alphabet> gen{model, sampler, vocabulary};

  std::vector<std::string> const prompts{"a", "xy", "lm"};
  std::vector<tpx::job> jobs;
  for (auto const& prompt : prompts) {
    jobs.push_back(gen.enqueue({.prompt = encode(prompt),
                                .max_new_tokens = 12,
                                .sampling = chain::parameters{tpx::sample::Temperature{0.1f}},
                                .stop_tokens = {alphabet::end},
                                .stop_strings = {"pq"}}));
  }
  gen.drain();  // or gen.serve(stop) in a thread of its own, and job.next() here

  for (std::size_t i = 0; i < jobs.size(); ++i) {
    auto const result = jobs[i].wait(std::chrono::seconds{1}).front();
    std::printf("%s -> %s (%s)\n", prompts[i].c_str(), result.text.c_str(),
                std::string{name(result.reason)}.c_str());
  }
  std::fprintf(stderr, "%s\n", metrics_line(gen.metrics()).c_str());
}
