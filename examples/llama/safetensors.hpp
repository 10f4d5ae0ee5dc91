// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "file_error.hpp"
#include "mapped_file.hpp"

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace llama {

/// The element types of safetensors whose elements are whole bytes.
enum class dtype : std::uint8_t {
  Bool,
  U8,
  I8,
  F8_E5M2,
  F8_E4M3,
  F8_E8M0,
  I16,
  U16,
  F16,
  BF16,
  I32,
  U32,
  F32,
  I64,
  U64,
  F64,
  C64
};

/// The word that safetensors uses.
[[nodiscard]] std::string_view name(dtype type) noexcept;
[[nodiscard]] std::size_t bytes_of(dtype type) noexcept;

/// One tensor, where it lies in its file.
struct tensor_view {
  std::string_view name;
  dtype type;
  std::vector<std::size_t> shape;  // row-major; empty for a scalar
  std::byte const* data;
  std::size_t bytes;  // the product of shape, times bytes_of(type)
  std::string_view file;

  /// The elements as `T`. Errors: wrong_dtype unless `T` has the element's size; misaligned where
  /// the file puts them at an odd place (writers before safetensors 0.3 did).
  template <class T>
  [[nodiscard]] std::span<T const> as() const {
    check_element(sizeof(T), alignof(T));
    return {reinterpret_cast<T const*>(data), bytes / sizeof(T)};
  }

 private:
  void check_element(std::size_t size, std::size_t alignment) const;
};

/// The tensors of a checkpoint in safetensors format; views stay valid as long as this lives, and
/// when it is moved.
///
/// Every byte of a file is accounted for: the ranges of its tensors follow each other from 0 to its
/// end, and each is as long as its shape and type say. Format: safetensors' README; its rules are
/// checked here again, one fault each, because a checkpoint may come from anywhere.
class safetensors {
 public:
  /// Maps `folder`/model.safetensors, or the files that `folder`/model.safetensors.index.json
  /// names. Of several files, only what the index lists is visible.
  [[nodiscard]] static safetensors open(std::string const& folder);

  /// Reads `file`, whose bytes stay the caller's and must outlive this; `label` names it in errors.
  [[nodiscard]] static safetensors from_bytes(std::span<std::byte const> file,
                                              std::string label = "<memory>");

  [[nodiscard]] std::map<std::string, tensor_view, std::less<>> const& tensors() const noexcept {
    return tensors_;
  }
  [[nodiscard]] std::size_t total_bytes() const noexcept;

  /// Null where there is no such tensor.
  [[nodiscard]] tensor_view const* find(std::string_view name) const;

  /// The tensor `name`, of one of `types` and of `shape`.
  /// Errors  missing_tensor, wrong_dtype, wrong_shape; each names the tensor and what it is.
  [[nodiscard]] tensor_view const& get(std::string_view name, std::initializer_list<dtype> types,
                                       std::initializer_list<std::size_t> shape) const;

  /// The mapped files; empty after from_bytes().
  [[nodiscard]] std::span<mapped_file const> files() const noexcept { return files_; }

 private:
  safetensors() = default;

  std::string label_;                 // the folder or file, for errors
  std::set<std::string> file_names_;  // that views refer to
  std::vector<mapped_file> files_;
  std::map<std::string, tensor_view, std::less<>> tensors_;
};

/// The index of a checkpoint in several files: tensor name to file name.
/// Errors  those of JSON; missing_key; wrong_type; path_in_index for a name with a folder in it.
[[nodiscard]] std::map<std::string, std::string, std::less<>> parse_safetensors_index(
  std::string_view text, std::string const& file);

}  // namespace llama
