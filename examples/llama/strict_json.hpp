// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace llama {

/// How much JSON a file of one kind may hold.
struct json_limits {
  std::size_t bytes;
  std::size_t values;  // with every element of every array and object
  std::size_t depth = 16;
};

/// Parses `text`, the contents of `file`, into an object.
///
/// Errors  too_large, not_utf8, not_json (also bytes after the end), too_deep, duplicate_key,
///         not_an_object.
[[nodiscard]] nlohmann::json parse_json(std::string_view text, std::string const& file,
                                        json_limits limits);

/// Reads the keys of one JSON object, and says which key of which file is wrong. `at` names the
/// object in messages: "" or "rope_scaling". Refers to all three.
class json_object {
 public:
  /// Errors  wrong_type unless `value` is an object.
  json_object(nlohmann::json const& value, std::string const& file, std::string at = "");

  /// The value at `key`; null where it is absent or null.
  [[nodiscard]] nlohmann::json const* find(std::string_view key) const;
  /// Errors  missing_key.
  void require(std::string_view key) const;
  [[nodiscard]] nlohmann::json const& at(std::string_view key) const;

  // Each of these: nothing where the key is absent or null; wrong_type for another type;
  // out_of_range outside [least, most].
  [[nodiscard]] std::optional<std::int64_t> integer(std::string_view key, std::int64_t least,
                                                    std::int64_t most) const;
  [[nodiscard]] std::optional<double> number(std::string_view key, double least, double most) const;
  [[nodiscard]] std::optional<bool> boolean(std::string_view key) const;
  [[nodiscard]] std::optional<std::string_view> string(std::string_view key) const;

  /// "config.json's key" for messages: the key with the object it is in.
  [[nodiscard]] std::string path(std::string_view key) const;
  [[nodiscard]] std::string const& file() const { return *file_; }

 private:
  nlohmann::json const* value_;
  std::string const* file_;
  std::string at_;
};

}  // namespace llama
