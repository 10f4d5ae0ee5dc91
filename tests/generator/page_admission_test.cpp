// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a page table says of sequences that could be opened, against what happens when they are.
#include "world.hpp"

#include <tpx/generator/page_table.hpp>

#include <catch2/catch_test_macros.hpp>

#include <optional>
#include <random>
#include <vector>

namespace {

using table_t = tpx::page_table<4>;
using tokens = std::vector<tpx::token_id>;

struct open_one {
  table_t::sequence_id id;
  tokens text;
};

/// Sequences that often begin alike, in a cache that is often too small.
class walk {
 public:
  explicit walk(unsigned seed) : random_{seed}, table_{{.pages = 24, .max_sequences = 6}} {}

  std::size_t below(std::size_t n) { return random_() % n; }

  tokens some_text() {
    auto text = below(3) == 0 || known_.empty() ? tokens{} : known_[below(known_.size())];
    text.resize(below(text.size() + 1));
    for (auto n = 1 + below(20); n > 0; --n) { text.push_back(static_cast<int>(below(2))); }
    text.resize(std::min<std::size_t>(text.size(), 60));
    known_.push_back(text);
    return text;
  }

  std::optional<table_t::opened> open(tpx::page_wish const& w) {
    auto const opened = table_.open(w.tokens, w.room, w.salt);
    if (opened) {
      sequences_.push_back({opened->sequence, {w.tokens.begin(), w.tokens.end()}});
      sequences_.back().text.resize(opened->cached);
    }
    return opened;
  }

  void close(std::size_t i) {
    table_.close(sequences_[i].id);
    sequences_.erase(sequences_.begin() + static_cast<std::ptrdiff_t>(i));
  }

  /// Something that other sequences do.
  void live() {
    if (sequences_.empty()) { return; }
    auto const i = below(sequences_.size());
    auto const id = sequences_[i].id;
    auto const length = table_.length(id);
    switch (below(4)) {
      case 0:
        close(i);
        break;
      case 1:
        if (table_.grow(id, 8)) { write(id, 1 + below(8)); }
        break;
      case 2:
        if (length > 0 && !table_.rewind(id, below(length))) { close(i); }
        break;
      default:
        if (auto const room = table_.pages(id).size() * 4 - length; room > 0 && length % 4 == 0) {
          write(id, 1 + below(room));
        }
    }
    table_.validate();
  }

  /// Is what the table foretells of closing some and opening another one.
  void foretell() {
    auto const text = some_text();
    tpx::page_wish const wish{text, below(20)};
    std::vector<table_t::sequence_id> closing;
    auto const count = below(sequences_.size() + 1);
    for (std::size_t i = sequences_.size() - count; i < sequences_.size(); ++i) {
      closing.push_back(sequences_[i].id);
    }
    bool const fits = table_.fit_without({&wish, 1}, closing);
    table_.validate();
    for (std::size_t n = 0; n < count; ++n) { close(sequences_.size() - 1); }
    REQUIRE(open(wish).has_value() == fits);
    ++(fits ? fitted : refused);
  }

  /// Whoever is refused tries again when the table says so.
  void wait() {
    auto const text = some_text();
    tpx::page_wish const wish{text, 8 + below(20)};
    if (open(wish)) { return; }
    auto const shortage = table_.shortage();
    REQUIRE(!table_.eased(shortage));
    for (int i = 0; i < 10 && !table_.eased(shortage); ++i) {
      ++waited;
      late += table_.fit_without({&wish, 1}, {}) ? 1 : 0;
      live();
    }
  }

  std::size_t fitted = 0;
  std::size_t refused = 0;
  std::size_t waited = 0;
  std::size_t late = 0;  // it would have fitted sooner

 private:
  void write(table_t::sequence_id id, std::size_t n) {
    n = std::min(n, table_.pages(id).size() * 4 - table_.length(id));
    tokens more(n);
    for (auto& t : more) { t = static_cast<int>(below(2)); }
    table_.prepare(id, n);
    table_.append(id, more);
  }

  std::mt19937 random_;
  table_t table_;
  std::vector<open_one> sequences_;
  std::vector<tokens> known_;
};

TEST_CASE("a page table foretells what can be opened when others are closed", "[pages]") {
  std::size_t fitted = 0;
  std::size_t refused = 0;
  for (unsigned seed = 0; seed < (fake::sanitized ? 10 : 40); ++seed) {
    walk w{seed};
    for (int i = 0; i < 300; ++i) {
      w.live();
      w.foretell();
    }
    fitted += w.fitted;
    refused += w.refused;
  }
  REQUIRE(fitted > 50);
  REQUIRE(refused > 50);
}

TEST_CASE("a page table tells whoever was refused when to try again", "[pages]") {
  std::size_t waited = 0;
  std::size_t late = 0;
  for (unsigned seed = 0; seed < (fake::sanitized ? 10 : 40); ++seed) {
    walk w{seed};
    for (int i = 0; i < 300; ++i) {
      w.live();
      w.wait();
    }
    waited += w.waited;
    late += w.late;
  }
  REQUIRE(waited > 300);
  REQUIRE(late * 1000 < waited);  // a page that was reserved may have become used
}

}  // namespace
