// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/matcher.hpp>
#include <tpx/generator/text_event.hpp>
#include <tpx/generator/text_pattern.hpp>
#include <tpx/generator/token.hpp>
#include <tpx/generator/utf8.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tpx {

/// What ends, bans and divides the texts of a job, or of many.
struct text_rules {
  matcher patterns = {};
  std::vector<token_id> stop_tokens = {};
  std::vector<scope_token> scope_tokens = {};
  std::size_t patience = 16;  // see text_stream
};

/// Makes the text of one sequence from its tokens, and holds back what may yet be part of a stop
/// string or of a banned string, no longer and no more. What it sends ends at a token's border, so
/// that text and tokens stay in step, and where a character ends. Bytes that cannot become UTF-8
/// are passed on as they are, so that the text is that of its tokens; see append_valid_utf8.
///
/// When a banned string is found, the tokens from the one in which it began are to be taken back:
/// the caller drops them everywhere and calls rewind(); forbidden() then names what must not come
/// next. As a rewind may let a stop string go on that seemed to have ended, text is sent only up to
/// a token at which none is under way as long as a banned string is.
///
/// Tokens that no pattern holds back and that wait only for such a border or for the end of a
/// character are sent when there are more than `patience`: then the text may lag up to 3 bytes
/// behind its tokens, and after a rewind the beginning of a stop string may have been sent. Held
/// are thus at most the longest pattern, the piece it began in and `patience` tokens.
///
/// A token costs its bytes and nothing for the number of patterns, and allocates nothing unless
/// more is held than ever before.
class text_stream {
 public:
  explicit text_stream(std::shared_ptr<text_rules const> rules) : rules_{std::move(rules)} {
    expects(rules_ != nullptr, "a text stream without rules", "make_shared<text_rules const>()");
    for (auto const& t : rules_->scope_tokens) {
      expects(t.scope < rules_->patterns.scopes(), [&] {
        return "token " + std::to_string(t.token) + " enters scope " + std::to_string(t.scope) +
               " of " + std::to_string(rules_->patterns.scopes());
      });
    }
    text_.reserve(1024);
    tokens_.reserve(128);
    forbidden_.reserve(64);
    forbidden_at_.reserve(64);
    tokens_.push_back({0, rules_->patterns.start(), 0});
  }

  /// The next token and its bytes.
  text_event push(token_id token, std::string_view piece) {
    expects(end_ == text_end::none, "a token after the end of the text");
    expects(due_ == 0, "a token while a banned string is in the text", "call rewind()");
    forget_sent();
    auto const& stops = rules_->stop_tokens;
    if (auto const stop = std::find(stops.begin(), stops.end(), token); stop != stops.end()) {
      tokens_.push_back({end(), tokens_.back().state, token});
      return close(text_end::stop_token, end(), 1, piece.size(),
                   static_cast<std::size_t>(stop - stops.begin()));
    }
    auto state = tokens_.back().state;
    auto const matched_at = end() + rules_->patterns.run(state, piece);
    text_ += piece;
    tokens_.push_back({end(), state, token});
    if (matcher::matched(state)) { return found(matcher::pattern(state), matched_at); }
    for (auto const& t : rules_->scope_tokens) {
      if (t.token == token) { tokens_.back().state = rules_->patterns.start(t.scope); }
    }
    return release();
  }

  /// No token follows: all that is held is sent, but for a banned string that was not taken back.
  text_event finish() {
    expects(end_ == text_end::none, "the text has ended already");
    if (due_ > 0) { rewind(due_); }
    forget_sent();
    return close(text_end::finished, end(), 0, 0, 0);
  }

  /// Takes back the last `count` tokens, none of which was sent. After a banned string, at least
  /// as many as the event said. What was forbidden is so still, unless tokens before it have gone.
  void rewind(std::size_t count) {
    expects(end_ == text_end::none, "a rewind after the end of the text");
    expects(count <= held() && count >= due_, [&] {
      return "a rewind by " + std::to_string(count) + " tokens, where " + std::to_string(due_) +
             " to " + std::to_string(held()) + " are possible";
    });
    tokens_.resize(tokens_.size() - count);
    text_.resize(tokens_.back().end - base_);
    ready_ = sent_;
    due_ = 0;
    allow_after(size());
  }

  /// Tokens that must not come next: with them a banned string came. Holds for this position until
  /// it has been sent.
  [[nodiscard]] std::span<token_id const> forbidden() const {
    auto const here = std::lower_bound(forbidden_at_.begin(), forbidden_at_.end(), size());
    return std::span{forbidden_}.subspan(static_cast<std::size_t>(here - forbidden_at_.begin()));
  }

  [[nodiscard]] std::size_t size() const { return gone_ + tokens_.size() - 1; }  // tokens, all
  [[nodiscard]] std::size_t held() const { return tokens_.size() - 1 - sent_; }
  [[nodiscard]] text_end ended() const { return end_; }

 private:
  struct entry {
    std::size_t end;  // bytes of the text up to and with this token
    matcher::state state;
    token_id token;
  };

  [[nodiscard]] std::size_t end() const { return base_ + text_.size(); }
  [[nodiscard]] std::string_view view(std::size_t from, std::size_t to) const {
    return std::string_view{text_}.substr(from - base_, to - from);
  }

  /// Moves what is held to the front, now and then: the text of the last event is void now.
  void forget_sent() {
    if (sent_ < 32 || sent_ < held()) { return; }
    tokens_.erase(tokens_.begin(), tokens_.begin() + static_cast<std::ptrdiff_t>(sent_));
    text_.erase(0, sent_bytes_ - base_);
    base_ = sent_bytes_;
    gone_ += sent_;
    ready_ -= sent_;
    sent_ = 0;
  }

  void allow_after(std::size_t position) {
    while (!forbidden_at_.empty() && forbidden_at_.back() > position) {
      forbidden_at_.pop_back();
      forbidden_.pop_back();
    }
  }

  void allow_before(std::size_t position) {
    auto const passed = std::lower_bound(forbidden_at_.begin(), forbidden_at_.end(), position) -
                        forbidden_at_.begin();
    forbidden_.erase(forbidden_.begin(), forbidden_.begin() + passed);
    forbidden_at_.erase(forbidden_at_.begin(), forbidden_at_.begin() + passed);
  }

  text_event found(std::size_t pattern, std::size_t matched_at) {
    auto const begin = std::max(matched_at - rules_->patterns.length(pattern), sent_bytes_);
    auto const first = std::find_if(tokens_.begin() + static_cast<std::ptrdiff_t>(sent_) + 1,
                                    tokens_.end(), [&](entry const& t) { return t.end > begin; });
    auto const count = static_cast<std::size_t>(tokens_.end() - first);
    if (rules_->patterns.action(pattern) == text_action::Stop) {
      return close(text_end::stop_string, begin, count, end() - begin, pattern);
    }
    due_ = count;
    allow_after(size() - count);
    forbidden_.push_back(first->token);
    forbidden_at_.push_back(size() - count);
    return {.held = held(), .rewind = count, .which = pattern};
  }

  /// Sends what no match to come can reach.
  text_event release() {
    auto const& patterns = rules_->patterns;
    auto const now = tokens_.back();
    auto const limit = now.end - patterns.depth(now.state);
    bool const ban_under_way = patterns.ban_depth(now.state) > 0;
    while (ready_ + 1 < tokens_.size() && tokens_[ready_ + 1].end <= limit) { ++ready_; }
    auto last = ready_;
    auto const unfinished = [&] { return incomplete_utf8(view(sent_bytes_, tokens_[last].end)); };
    while (last > sent_ &&
           ((ban_under_way && patterns.stop_depth(tokens_[last].state) > 0) || unfinished() > 0)) {
      --last;
    }
    if (ready_ - last > rules_->patience) { last = ready_; }
    return send(last, tokens_[last].end - unfinished());
  }

  text_event send(std::size_t last, std::size_t to) {
    text_event const event{
      .text = view(sent_bytes_, to), .tokens = last - sent_, .held = tokens_.size() - 1 - last};
    sent_ = last;
    sent_bytes_ = to;
    if (!forbidden_.empty()) { allow_before(gone_ + sent_); }
    return event;
  }

  text_event close(text_end why, std::size_t to, std::size_t cut_tokens, std::size_t cut_bytes,
                   std::size_t which) {
    auto event = send(tokens_.size() - 1, to);
    event.cut_tokens = cut_tokens;
    event.cut_bytes = cut_bytes;
    event.which = which;
    event.end = end_ = why;
    return event;
  }

  std::shared_ptr<text_rules const> rules_;
  std::string text_;           // from byte base_ of the text on
  std::vector<entry> tokens_;  // from token gone_ - 1 on, the first of which was sent before
  std::size_t base_ = 0;
  std::size_t gone_ = 0;
  std::size_t sent_ = 0;        // the last token that was sent, in tokens_
  std::size_t ready_ = 0;       // the last that no pattern holds back
  std::size_t sent_bytes_ = 0;  // of the text
  std::size_t due_ = 0;         // tokens that must be taken back
  text_end end_ = text_end::none;
  std::vector<token_id> forbidden_;
  std::vector<std::size_t> forbidden_at_;  // at which position each; ascending
};

}  // namespace tpx
