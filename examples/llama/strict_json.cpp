// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "strict_json.hpp"

#include "file_error.hpp"
#include "utf8.hpp"

#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>
#include <vector>

namespace llama {
namespace {

using json = nlohmann::json;

/// Builds the tree, and refuses what nlohmann's own builder lets pass: depth, size, and keys given
/// twice. nlohmann's parser keeps its stack on the heap, so depth is bounded for our readers' sake.
class tree_builder {
 public:
  using number_integer_t = json::number_integer_t;
  using number_unsigned_t = json::number_unsigned_t;
  using number_float_t = json::number_float_t;
  using string_t = json::string_t;
  using binary_t = json::binary_t;

  tree_builder(std::string const& file, json_limits limits) : file_{file}, limits_{limits} {}

  bool null() { return put(nullptr); }
  bool boolean(bool value) { return put(value); }
  bool number_integer(number_integer_t value) { return put(value); }
  bool number_unsigned(number_unsigned_t value) { return put(value); }
  bool number_float(number_float_t value, string_t const&) { return put(value); }
  bool string(string_t& value) { return put(std::move(value)); }
  bool binary(binary_t&) { return false; }
  bool start_object(std::size_t) { return open(json::object()); }
  bool start_array(std::size_t) { return open(json::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }

  bool key(string_t& value) {
    auto const [where, fresh] =
      open_.back()->get_ref<json::object_t&>().emplace(std::move(value), nullptr);
    if (!fresh) {
      throw file_error{file_fault::duplicate_key, file_,
                       in_quotes(where->first) + " is there twice"};
    }
    next_ = &where->second;
    return true;
  }

  template <class Error>
  bool parse_error(std::size_t byte, std::string const&, Error const&) {
    throw file_error{file_fault::not_json, file_,
                     "the JSON text is wrong at byte " + std::to_string(byte)};
  }

  [[nodiscard]] json take() { return std::move(root_); }

 private:
  template <class Value>
  json* place(Value&& value) {
    if (++values_ > limits_.values) {
      throw file_error{file_fault::too_large, file_,
                       "more than " + std::to_string(limits_.values) + " JSON values"};
    }
    if (open_.empty()) {
      root_ = std::forward<Value>(value);
      return &root_;
    }
    if (open_.back()->is_array()) {
      auto& array = open_.back()->get_ref<json::array_t&>();
      return &array.emplace_back(std::forward<Value>(value));
    }
    *next_ = std::forward<Value>(value);
    return next_;
  }

  template <class Value>
  bool put(Value&& value) {
    place(std::forward<Value>(value));
    return true;
  }

  bool open(json empty) {
    if (open_.size() == limits_.depth) {
      throw file_error{file_fault::too_deep, file_,
                       "nested deeper than " + std::to_string(limits_.depth) + " levels"};
    }
    open_.push_back(place(std::move(empty)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  std::string const& file_;
  json_limits limits_;
  std::size_t values_ = 0;
  json root_;
  std::vector<json*> open_;  // from the root down to the innermost
  json* next_ = nullptr;     // where the last key's value goes
};

}  // namespace

json parse_json(std::string_view text, std::string const& file, json_limits limits) {
  if (text.size() > limits.bytes) {
    throw file_error{file_fault::too_large, file,
                     std::to_string(text.size()) + " bytes of JSON; at most " +
                       std::to_string(limits.bytes) + " are read"};
  }
  if (auto const good = valid_prefix(text); good != text.size()) {
    throw file_error{file_fault::not_utf8, file, "byte " + std::to_string(good) + " is not UTF-8"};
  }
  // nlohmann takes a zero byte for the end of the text, and would not see what follows it.
  if (auto const zero = text.find('\0'); zero != text.npos) {
    throw file_error{file_fault::not_json, file, "byte " + std::to_string(zero) + " is zero"};
  }
  tree_builder builder{file, limits};
  if (!json::sax_parse(text, &builder)) {
    throw file_error{file_fault::not_json, file, "the JSON text is wrong"};
  }
  auto tree = builder.take();
  if (!tree.is_object()) {
    throw file_error{file_fault::not_an_object, file,
                     std::string{"the whole is a JSON "} + tree.type_name() + ", not an object"};
  }
  return tree;
}

json_object::json_object(json const& value, std::string const& file, std::string at)
    : value_{&value}, file_{&file}, at_{std::move(at)} {
  if (!value.is_object()) {
    throw file_error{
      file_fault::wrong_type, file,
      (at_.empty() ? "the whole" : at_) + " is a JSON " + value.type_name() + ", not an object"};
  }
}

json const* json_object::find(std::string_view key) const {
  auto const& object = value_->get_ref<json::object_t const&>();
  auto const found = object.find(key);
  return found == object.end() || found->second.is_null() ? nullptr : &found->second;
}

void json_object::require(std::string_view key) const {
  if (find(key) == nullptr) {
    throw file_error{file_fault::missing_key, *file_, path(key) + " is not there"};
  }
}

json const& json_object::at(std::string_view key) const {
  require(key);
  return *find(key);
}

std::string json_object::path(std::string_view key) const {
  return at_.empty() ? std::string{key} : at_ + '.' + std::string{key};
}

namespace {

[[noreturn]] void wrong_type(json_object const& object, std::string_view key, json const& value,
                             std::string const& wanted) {
  throw file_error{file_fault::wrong_type, object.file(),
                   object.path(key) + " is a JSON " + value.type_name() + ", not " + wanted};
}

template <class T>
[[noreturn]] void out_of_range(json_object const& object, std::string_view key, json const& value,
                               T least, T most) {
  std::ostringstream text;
  text << object.path(key) << " is " << value.dump() << ", not from " << least << " to " << most;
  throw file_error{file_fault::out_of_range, object.file(), text.str()};
}

}  // namespace

std::optional<std::int64_t> json_object::integer(std::string_view key, std::int64_t least,
                                                 std::int64_t most) const {
  auto const* const value = find(key);
  if (value == nullptr) { return {}; }
  if (!value->is_number_integer()) { wrong_type(*this, key, *value, "a whole number"); }
  bool const huge = value->is_number_unsigned() && value->get<std::uint64_t>() > INT64_MAX;
  if (huge || value->get<std::int64_t>() < least || value->get<std::int64_t>() > most) {
    out_of_range(*this, key, *value, least, most);
  }
  return value->get<std::int64_t>();
}

std::optional<double> json_object::number(std::string_view key, double least, double most) const {
  auto const* const value = find(key);
  if (value == nullptr) { return {}; }
  if (!value->is_number()) { wrong_type(*this, key, *value, "a number"); }
  auto const number = value->get<double>();
  if (!(number >= least && number <= most)) { out_of_range(*this, key, *value, least, most); }
  return number;
}

std::optional<bool> json_object::boolean(std::string_view key) const {
  auto const* const value = find(key);
  if (value == nullptr) { return {}; }
  if (!value->is_boolean()) { wrong_type(*this, key, *value, "true or false"); }
  return value->get<bool>();
}

std::optional<std::string_view> json_object::string(std::string_view key) const {
  auto const* const value = find(key);
  if (value == nullptr) { return {}; }
  if (!value->is_string()) { wrong_type(*this, key, *value, "a string"); }
  return value->get_ref<std::string const&>();
}

}  // namespace llama
