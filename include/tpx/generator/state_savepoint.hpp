// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/model.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tpx {

/// The recurrent state of one sequence as it was before a draft, or before a text that may yet be
/// banned: what the model cannot take back token by token.
template <recurrent_model Model>
class state_savepoint {
 public:
  explicit state_savepoint(Model& model) : model_{model} {}

  /// Keeps the state of `slot`, which has seen `length` tokens. The first time allocates.
  void save(std::uint32_t slot, std::size_t length) {
    bytes_.resize(model_.state_bytes());
    model_.save_state(slot, bytes_);
    length_ = length;
  }

  /// The sequence has now `length` tokens, the last of which is yet to be seen, and its state has
  /// seen `seen`. Returns how many the state has seen then: if it was too many, those of the saved
  /// state, or 0 where that one has seen too many as well. The next forward begins there.
  [[nodiscard]] std::size_t cut(std::uint32_t slot, std::size_t length, std::size_t seen) {
    if (length_ >= length) { length_ = 0; }  // it has seen what may now become other tokens
    if (seen < length) { return seen; }
    std::span<std::byte const> const saved{bytes_};
    model_.load_state(slot, length_ > 0 ? saved : saved.first(0));
    return length_;
  }

 private:
  Model& model_;
  std::vector<std::byte> bytes_;
  std::size_t length_ = 0;  // tokens that the saved state has seen; 0: there is none
};

}  // namespace tpx
