// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/model.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// Models that are quick to compute and that notice what a generator does wrong.
namespace fake {

using tpx::page_copy;
using tpx::page_id;
using tpx::step_part;
using tpx::token_id;

constexpr std::uint64_t mix(std::uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

constexpr std::uint64_t add(std::uint64_t hash, token_id token) {
  return mix(hash ^ mix(static_cast<std::uint64_t>(token)));
}

/// The hash of tokens, each after all before it.
inline std::uint64_t hash_of(std::span<token_id const> tokens) {
  std::uint64_t hash = 1;
  for (token_id const t : tokens) { hash = add(hash, t); }
  return hash;
}

/// Logits from 0 to 4, a function of `hash` alone.
inline void write_logits(std::span<float> row, std::uint64_t hash) {
  for (std::size_t t = 0; t < row.size(); ++t) {
    row[t] = static_cast<float>(mix(hash + t) >> 40) * 0x1p-22f;
  }
}

/// Token t is read as one letter, from 26 on as two, and so on: "a" ... "z", "ba", "bb", ...
class letters {
 public:
  explicit letters(std::size_t size) {
    for (std::size_t t = 0; t < size; ++t) {
      std::string piece;
      for (std::size_t left = t; piece.empty() || left != 0; left /= 26) {
        piece.insert(piece.begin(), static_cast<char>('a' + left % 26));
      }
      pieces_.push_back(piece);
    }
  }
  [[nodiscard]] std::size_t size() const { return pieces_.size(); }
  [[nodiscard]] std::string_view piece(token_id t) const {
    return pieces_[static_cast<std::size_t>(t)];
  }

 private:
  std::vector<std::string> pieces_;
};

/// What fake models keep at a position: the token, and what the keys and values of a real model
/// depend on too, all tokens before it.
struct cell {
  token_id token = -1;
  std::uint64_t past = 0;
};

/// A paged cache of cells. Counts what it is asked to do.
template <std::size_t PageSize>
class paged {
 public:
  static constexpr std::size_t page_size = PageSize;

  paged(std::size_t pages, std::size_t vocab) : vocab_{vocab}, cells_(pages * PageSize) {}

  [[nodiscard]] std::size_t vocab_size() const { return vocab_; }
  [[nodiscard]] std::size_t pages() const { return cells_.size() / PageSize; }

  void copy(std::span<page_copy const> copies) {
    for (auto const& c : copies) {
      tpx::expects(c.from < pages() && c.to < pages() && c.tokens <= PageSize, "no such page");
      std::copy_n(cells_.begin() + static_cast<std::ptrdiff_t>(c.from * PageSize), c.tokens,
                  cells_.begin() + static_cast<std::ptrdiff_t>(c.to * PageSize));
      ++copied;
    }
  }

  std::size_t steps = 0;       // forwards
  std::size_t computed = 0;    // tokens in all forwards
  std::size_t copied = 0;      // pages, or parts of one
  std::size_t largest = 0;     // tokens in one forward
  std::size_t most_parts = 0;  // sequences in one forward

 protected:
  cell& at(step_part const& part, std::size_t position) {
    page_id const page = part.pages[position / PageSize];
    tpx::expects(page < pages(), "no such page");
    return cells_[page * PageSize + position % PageSize];
  }

  /// Checks and counts the parts, and makes room for their logits.
  std::span<float> begin(std::span<step_part const> parts) {
    ++steps;
    std::size_t rows = 0;
    std::size_t tokens = 0;
    for (auto const& part : parts) {
      tpx::expects(!part.tokens.empty() && part.rows <= part.tokens.size(), "a part is malformed");
      tpx::expects(part.pages.size() * PageSize >= part.start + part.tokens.size(),
                   "a block table is too short");
      for (token_id const t : part.tokens) {
        tpx::expects(t >= 0 && static_cast<std::size_t>(t) < vocab_, "no such token");
      }
      rows += part.rows;
      tokens += part.tokens.size();
    }
    computed += tokens;
    largest = std::max(largest, tokens);
    most_parts = std::max(most_parts, parts.size());
    if (logits_.size() < rows * vocab_) { logits_.resize(rows * vocab_); }
    return std::span{logits_}.first(rows * vocab_);
  }

  std::size_t vocab_;
  std::vector<cell> cells_;
  std::vector<float> logits_;
};

/// Logits are a function of all tokens of the sequence, as they are read back from the cache's
/// pages: a wrong page, a copy that was left out or came late, or a stale position gives others.
template <std::size_t PageSize = 16>
class hash_model : public paged<PageSize> {
 public:
  hash_model(std::size_t pages, std::size_t vocab) : paged<PageSize>{pages, vocab} {}

  std::span<float> forward(std::span<step_part const> parts) {
    auto const logits = this->begin(parts);
    auto row = logits;
    for (auto const& part : parts) {
      std::uint64_t hash = 1;
      for (std::size_t p = 0; p < part.start; ++p) { hash = read(part, p, hash); }
      for (std::size_t i = 0; i < part.tokens.size(); ++i) {
        auto& here = this->at(part, part.start + i);
        here = {part.tokens[i], hash};
        hash = read(part, part.start + i, hash);
        if (i + part.rows >= part.tokens.size()) {
          write(row.first(this->vocab_), hash, part.tokens[i]);
          row = row.subspan(this->vocab_);
        }
      }
    }
    return logits;
  }

  void write(std::span<float> row, std::uint64_t hash, token_id last) const {
    write_logits(row, hash);
    if (last == nan_after) { row[0] = std::numeric_limits<float>::quiet_NaN(); }
  }

  token_id nan_after = -1;  // logits after this token are NaN

 private:
  std::uint64_t read(step_part const& part, std::size_t position, std::uint64_t hash) {
    auto const& c = this->at(part, position);
    return add(hash, c.token) + (c.past == hash ? 0 : 1);
  }
};

/// After n comes n + 1, and after the last token the first; but only where the whole sequence, as
/// read from the cache, has been counted so. Else it says 0 as long as it is asked.
template <std::size_t PageSize = 16>
class counting_model : public paged<PageSize> {
 public:
  counting_model(std::size_t pages, std::size_t vocab) : paged<PageSize>{pages, vocab} {}

  std::span<float> forward(std::span<step_part const> parts) {
    auto const logits = this->begin(parts);
    std::fill(logits.begin(), logits.end(), 0.0f);
    auto row = logits;
    auto const next = [&](token_id t) {
      return static_cast<token_id>((static_cast<std::size_t>(t) + 1) % this->vocab_);
    };
    for (auto const& part : parts) {
      for (std::size_t i = 0; i < part.tokens.size(); ++i) {
        this->at(part, part.start + i).token = part.tokens[i];
      }
      bool counted = true;
      token_id last = this->at(part, 0).token;
      for (std::size_t p = 1; p < part.start + part.tokens.size(); ++p) {
        if (p - 1 + part.rows >= part.start + part.tokens.size()) { say(row, counted, next(last)); }
        token_id const here = this->at(part, p).token;
        counted = counted && here == next(last);
        last = here;
      }
      if (part.rows > 0) { say(row, counted, next(last)); }
    }
    return logits;
  }

 private:
  void say(std::span<float>& row, bool counted, token_id token) {
    row[counted ? static_cast<std::size_t>(token) : 0] = 8;
    row = row.subspan(this->vocab_);
  }
};

/// A hash model that is recurrent: the hash is its state, and there are no cells to go back to.
template <std::size_t PageSize = 16>
class recurrent_model : public hash_model<PageSize> {
 public:
  recurrent_model(std::size_t pages, std::size_t vocab, std::size_t slots)
      : hash_model<PageSize>{pages, vocab}, states_(slots) {}

  std::span<float> forward(std::span<step_part const> parts) {
    auto const logits = this->begin(parts);
    auto row = logits;
    for (auto const& part : parts) {
      auto& s = states_.at(part.slot);
      if (s.tokens != part.start) { s.hash = 0; }  // nonsense from here on
      for (std::size_t i = 0; i < part.tokens.size(); ++i) {
        s.hash = add(s.hash, part.tokens[i]);
        if (i + part.rows >= part.tokens.size()) {
          this->write(row.first(this->vocab_), s.hash, part.tokens[i]);
          row = row.subspan(this->vocab_);
        }
      }
      s.tokens = part.start + part.tokens.size();
    }
    return logits;
  }

  [[nodiscard]] std::size_t state_bytes() const { return sizeof(state); }
  void save_state(std::uint32_t slot, std::span<std::byte> to) {
    std::memcpy(to.data(), &states_.at(slot), sizeof(state));
    ++saved;
  }
  void load_state(std::uint32_t slot, std::span<std::byte const> from) {
    states_.at(slot) = {};
    if (!from.empty()) { std::memcpy(&states_.at(slot), from.data(), sizeof(state)); }
    ++loaded;
  }

  std::size_t saved = 0;
  std::size_t loaded = 0;

 private:
  struct state {
    std::uint64_t hash = 1;
    std::size_t tokens = 0;
  };
  std::vector<state> states_;
};

/// Throws in forward number `fails_at` (from 0), and in copies while `copies_fail`.
template <class Model>
class throwing : public Model {
 public:
  using Model::Model;

  std::span<float> forward(std::span<step_part const> parts) {
    if (calls++ == fails_at) { throw tpx::error{tpx::errc::cuda, "the device fell over"}; }
    return Model::forward(parts);
  }
  void copy(std::span<page_copy const> copies) {
    if (copies_fail) { throw tpx::error{tpx::errc::cuda, "the copy engine fell over"}; }
    Model::copy(copies);
  }

  std::size_t calls = 0;
  std::size_t fails_at = static_cast<std::size_t>(-1);
  bool copies_fail = false;
};

/// Does nothing, at once: what is left is the generator's own time. All logits are 0 but token 1's.
class null_model {
 public:
  static constexpr std::size_t page_size = 256;

  null_model(std::size_t pages, std::size_t vocab, std::size_t rows)
      : pages_{pages}, vocab_{vocab}, logits_(rows * vocab) {
    for (std::size_t r = 0; r < rows; ++r) { logits_[r * vocab + 1] = 1; }
  }
  [[nodiscard]] std::size_t vocab_size() const { return vocab_; }
  [[nodiscard]] std::size_t pages() const { return pages_; }
  std::span<float> forward(std::span<step_part const>) { return logits_; }
  void copy(std::span<page_copy const>) {}

 private:
  std::size_t pages_;
  std::size_t vocab_;
  std::vector<float> logits_;
};

}  // namespace fake
