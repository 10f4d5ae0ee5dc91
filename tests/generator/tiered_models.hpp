// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "fake_models.hpp"

#include <tpx/error.hpp>
#include <tpx/generator/model.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace fake {

/// A fake model that keeps pages on the host too. Counts what it is asked to do.
template <class Model>
class tiered : public Model {
 public:
  static constexpr std::size_t page_size = Model::page_size;

  tiered(std::size_t pages, std::size_t host_pages, std::size_t vocab)
      : Model{pages, vocab}, host_(host_pages * page_size) {}

  [[nodiscard]] std::size_t host_pages() const { return host_.size() / page_size; }
  void store(page_id page, std::uint32_t host, std::size_t tokens) {
    move(this->cells_, page, host_, host, tokens);
    ++stored;
  }
  void fetch(std::uint32_t host, page_id page, std::size_t tokens) {
    move(host_, host, this->cells_, page, tokens);
    ++fetched;
  }

  std::size_t stored = 0;
  std::size_t fetched = 0;

 private:
  static void move(std::vector<cell> const& from, std::size_t source, std::vector<cell>& to,
                   std::size_t target, std::size_t tokens) {
    tpx::expects((source + 1) * page_size <= from.size() && (target + 1) * page_size <= to.size() &&
                   tokens <= page_size,
                 "no such page");
    std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(source * page_size), tokens,
                to.begin() + static_cast<std::ptrdiff_t>(target * page_size));
  }

  std::vector<cell> host_;
};

}  // namespace fake
