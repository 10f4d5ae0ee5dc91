// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "world.hpp"

#include <set>
#include <string>

namespace fake {

/// What a job should give.
struct outcome {
  std::vector<token_id> tokens;
  std::string text;
  finish_reason reason = finish_reason::none;
  std::size_t went_back = 0;  // times, for a banned string
};

/// What a job gives on a counting model with the greedy sampler, a token after the other: found by
/// going through the whole sequence for each, and by searching the text's end for each byte.
class plain_job {
 public:
  /// `allowed` is what its filter allows; empty: everything.
  plain_job(options const& job, std::size_t vocab, letters const& names,
            std::vector<bool> const& allowed)
      : job_{job}, vocab_{vocab}, names_{names}, allowed_{allowed} {}

  [[nodiscard]] outcome run() {
    auto const most = static_cast<std::size_t>(job_.max_new_tokens);
    forbidden_.resize(most + 1);
    while (now_.reason == finish_reason::none) {
      token_id const token = choose();
      if (is_stop(token)) {
        now_.tokens.push_back(token);
        now_.reason = finish_reason::stop_token;
      } else if (add(token) && now_.tokens.size() == most) {
        now_.reason = finish_reason::max_new_tokens;
      }
    }
    return now_;
  }

 private:
  [[nodiscard]] bool is_stop(token_id t) const {
    return std::find(job_.stop_tokens.begin(), job_.stop_tokens.end(), t) != job_.stop_tokens.end();
  }

  /// What the model says, or if that may not come the first that may.
  [[nodiscard]] token_id choose() const {
    auto const after = [&](token_id t) {
      return static_cast<token_id>((static_cast<std::size_t>(t) + 1) % vocab_);
    };
    token_id last = job_.prompt.back();
    bool counted = true;
    for (token_id const t : now_.tokens) {
      counted = counted && t == after(last);
      last = t;
    }
    auto const may = [&](token_id t) {
      bool const early = now_.tokens.size() < static_cast<std::size_t>(job_.min_new_tokens);
      return (allowed_.empty() || allowed_[static_cast<std::size_t>(t)]) &&
             !forbidden_[now_.tokens.size()].contains(t) && !(early && is_stop(t));
    };
    token_id const said = counted ? after(last) : 0;
    if (may(said)) { return said; }
    for (token_id t = 0;; ++t) {
      if (may(t)) { return t; }
    }
  }

  /// Whether the text went on.
  bool add(token_id token) {
    now_.tokens.push_back(token);
    for (char const byte : names_.piece(token)) {
      now_.text += byte;
      token_of_.push_back(now_.tokens.size() - 1);
      std::size_t longest = 0;
      bool stops = false;
      auto const look = [&](auto const& patterns, bool stop) {
        for (auto const& p : patterns) {
          if (p.size() > longest && now_.text.ends_with(p)) {
            longest = p.size();
            stops = stop;
          }
        }
      };
      look(job_.stop_strings, true);
      look(job_.banned_strings, false);
      if (longest == 0) { continue; }
      if (stops) {
        now_.text.resize(now_.text.size() - longest);
        now_.reason = finish_reason::stop_string;
      } else {
        go_back(std::max(sent_, token_of_[now_.text.size() - longest]));
      }
      return false;
    }
    std::size_t held = 0;
    for (auto const* patterns : {&job_.stop_strings, &job_.banned_strings}) {
      for (auto const& p : *patterns) {
        for (std::size_t n = 1; n < p.size(); ++n) {
          if (now_.text.ends_with(p.substr(0, n))) { held = std::max(held, n); }
        }
      }
    }
    sent_ = std::max(sent_, held == 0 ? now_.tokens.size() : token_of_[now_.text.size() - held]);
    return true;
  }

  /// The token at `first` is not to be chosen there.
  void go_back(std::size_t first) {
    ++now_.went_back;
    forbidden_[first].insert(now_.tokens[first]);
    for (auto later = first + 1; later < forbidden_.size(); ++later) { forbidden_[later].clear(); }
    now_.tokens.resize(first);
    while (!token_of_.empty() && token_of_.back() >= first) { token_of_.pop_back(); }
    now_.text.resize(token_of_.size());
  }

  outcome now_;
  options const& job_;
  std::size_t vocab_;
  letters const& names_;
  std::vector<bool> const& allowed_;
  std::vector<std::set<token_id>> forbidden_;  // by position
  std::vector<std::size_t> token_of_;          // by byte of the text
  std::size_t sent_ = 0;                       // tokens that no ban can take back
};

}  // namespace fake
