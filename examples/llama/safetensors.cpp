// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "safetensors.hpp"

#include "strict_json.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

namespace llama {
namespace {

using json = nlohmann::json;
using tensor_map = std::map<std::string, tensor_view, std::less<>>;

constexpr std::size_t length_bytes = 8;  // of the header, little endian, at the file's start
constexpr std::size_t longest_header = 100'000'000;
constexpr std::size_t most_values = 8'000'000;
constexpr std::size_t most_dimensions = 8;
constexpr std::string_view index_file = "model.safetensors.index.json";

struct dtype_facts {
  dtype type;
  std::string_view word;
  std::size_t bytes;
};

constexpr dtype_facts dtypes[]{
  {dtype::Bool, "BOOL", 1},       {dtype::U8, "U8", 1},           {dtype::I8, "I8", 1},
  {dtype::F8_E5M2, "F8_E5M2", 1}, {dtype::F8_E4M3, "F8_E4M3", 1}, {dtype::F8_E8M0, "F8_E8M0", 1},
  {dtype::I16, "I16", 2},         {dtype::U16, "U16", 2},         {dtype::F16, "F16", 2},
  {dtype::BF16, "BF16", 2},       {dtype::I32, "I32", 4},         {dtype::U32, "U32", 4},
  {dtype::F32, "F32", 4},         {dtype::I64, "I64", 8},         {dtype::U64, "U64", 8},
  {dtype::F64, "F64", 8},         {dtype::C64, "C64", 8},
};

/// Throws for one tensor of one file.
[[noreturn]] void refuse(file_fault fault, std::string const& file, std::string_view tensor,
                         std::string const& message, std::string_view remedy = "") {
  throw file_error{fault, file, "tensor " + in_quotes(tensor) + ' ' + message, remedy};
}

template <class Sizes>
std::string shape_text(Sizes const& shape) {
  std::string text = "(";
  for (auto const size : shape) {
    if (text.size() > 1) { text += ", "; }
    text += std::to_string(size);
  }
  return text + ')';
}

/// Reads what one entry of the header says of its tensor. `data` is null until the range is known.
struct entry {
  std::string name;
  tensor_view view;
  std::uint64_t begin, end;  // bytes, from the end of the header
};

dtype read_dtype(json_object const& facts, std::string_view tensor) {
  facts.require("dtype");
  auto const word = *facts.string("dtype");
  for (auto const& known : dtypes) {
    if (known.word == word) { return known.type; }
  }
  refuse(file_fault::unknown_dtype, facts.file(), tensor, "has dtype " + in_quotes(word));
}

std::vector<std::size_t> read_shape(json_object const& facts, std::string_view tensor) {
  auto const& list = facts.at("shape");
  if (!list.is_array()) {
    throw file_error{file_fault::wrong_type, facts.file(),
                     facts.path("shape") + " is a JSON " + list.type_name() + ", not an array"};
  }
  if (list.size() > most_dimensions) {
    refuse(file_fault::bad_rank, facts.file(), tensor,
           "has " + std::to_string(list.size()) + " dimensions; at most " +
             std::to_string(most_dimensions) + " are read");
  }
  std::vector<std::size_t> shape;
  for (auto const& size : list) {
    if (!size.is_number_unsigned() || size.get<std::uint64_t>() > INT64_MAX) {
      refuse(file_fault::bad_dimension, facts.file(), tensor,
             "has a dimension that is not a whole number from 0 to 2^63 - 1");
    }
    shape.push_back(size.get<std::size_t>());
  }
  return shape;
}

std::pair<std::uint64_t, std::uint64_t> read_range(json_object const& facts,
                                                   std::string_view tensor) {
  auto const& pair = facts.at("data_offsets");
  if (!pair.is_array() || pair.size() != 2 || !pair[0].is_number_unsigned() ||
      !pair[1].is_number_unsigned()) {
    refuse(file_fault::bad_range, facts.file(), tensor,
           "has data_offsets that are not two whole numbers");
  }
  auto const begin = pair[0].get<std::uint64_t>();
  auto const end = pair[1].get<std::uint64_t>();
  if (begin > end) {
    refuse(file_fault::reversed_range, facts.file(), tensor,
           "begins at " + std::to_string(begin) + " and ends at " + std::to_string(end));
  }
  return {begin, end};
}

entry read_entry(std::string const& name, json const& value, std::string const& file) {
  json_object const facts{value, file, "tensor " + in_quotes(name)};
  auto const type = read_dtype(facts, name);
  auto shape = read_shape(facts, name);
  auto const [begin, end] = read_range(facts, name);
  std::uint64_t bytes = bytes_of(type);
  bool fits = true;
  // A zero anywhere makes the product zero, whatever overflowed before it.
  if (std::find(shape.begin(), shape.end(), 0U) != shape.end()) { bytes = 0; }
  for (auto const size : shape) { fits = fits && !__builtin_mul_overflow(bytes, size, &bytes); }
  if (!fits) {
    refuse(file_fault::size_overflow, file, name,
           "of shape " + shape_text(shape) + " has more than 2^64 bytes");
  }
  if (bytes != end - begin) {
    refuse(file_fault::size_mismatch, file, name,
           "of shape " + shape_text(shape) + " and dtype " + std::string{llama::name(type)} +
             " needs " + std::to_string(bytes) + " bytes; its range has " +
             std::to_string(end - begin));
  }
  return {name, {{}, type, std::move(shape), nullptr, bytes, {}}, begin, end};
}

/// The ranges must follow each other from 0 to `size`, the bytes after the header.
void check_layout(std::vector<entry>& entries, std::uint64_t size, std::string const& file) {
  std::sort(entries.begin(), entries.end(), [](entry const& a, entry const& b) {
    return std::pair{a.begin, a.end} < std::pair{b.begin, b.end};
  });
  std::uint64_t covered = 0;
  entry const* broken = nullptr;  // the first that does not begin where the last one ended
  entry const* before = nullptr;
  entry const* beyond = nullptr;
  for (auto const& e : entries) {
    if (beyond == nullptr && e.end > size) { beyond = &e; }
    if (broken != nullptr) { continue; }
    if (e.begin != covered) {
      broken = &e;
      continue;
    }
    covered = e.end;
    before = &e;
  }
  if (beyond != nullptr && broken == nullptr) {
    throw file_error{file_fault::truncated, file,
                     "the header promises " + std::to_string(covered) + " bytes of tensors, " +
                       std::to_string(size) + " are there; the first cut is " +
                       in_quotes(beyond->name),
                     "copy or download it again"};
  }
  if (beyond != nullptr) {
    refuse(file_fault::range_past_end, file, beyond->name,
           "ends at " + std::to_string(beyond->end) + " of " + std::to_string(size) + " bytes");
  }
  if (broken != nullptr && broken->begin < covered) {
    refuse(file_fault::overlap, file, broken->name,
           "begins at " + std::to_string(broken->begin) + ", inside " + in_quotes(before->name) +
             " which ends at " + std::to_string(covered));
  }
  if (broken != nullptr) {
    refuse(file_fault::hole, file, broken->name,
           "begins at " + std::to_string(broken->begin) + "; bytes from " +
             std::to_string(covered) + " on belong to no tensor");
  }
  if (covered != size) {
    throw file_error{file_fault::uncovered_bytes, file,
                     "the last " + std::to_string(size - covered) + " bytes belong to no tensor"};
  }
}

std::uint64_t header_length(std::span<std::byte const> bytes, std::string const& file) {
  if (bytes.size() < length_bytes) {
    throw file_error{file_fault::truncated, file,
                     std::to_string(bytes.size()) + " bytes, not even the 8 of a header's length"};
  }
  std::uint64_t length = 0;
  for (std::size_t i = length_bytes; i-- > 0;) {
    length = length << 8 | std::to_integer<std::uint64_t>(bytes[i]);
  }
  if (length > longest_header) {
    throw file_error{file_fault::header_too_large, file,
                     "a header of " + std::to_string(length) + " bytes; at most " +
                       std::to_string(longest_header) + " are read",
                     "is this a safetensors file?"};
  }
  if (length > bytes.size() - length_bytes) {
    throw file_error{file_fault::header_past_end, file,
                     "a header of " + std::to_string(length) + " bytes in a file of " +
                       std::to_string(bytes.size())};
  }
  return length;
}

void check_metadata(json const& value, std::string const& file) {
  json_object const metadata{value, file, "__metadata__"};
  for (auto const& [key, text] : value.items()) { static_cast<void>(metadata.string(key)); }
}

/// All tensors of one file; `file` must outlive them.
tensor_map read_tensors(std::span<std::byte const> bytes, std::string const& file) {
  auto const length = header_length(bytes, file);
  auto const header = bytes.subspan(length_bytes, length);
  auto const data = bytes.subspan(length_bytes + length);
  auto const tree = parse_json({reinterpret_cast<char const*>(header.data()), header.size()}, file,
                               {.bytes = longest_header, .values = most_values, .depth = 4});
  std::vector<entry> entries;
  for (auto const& [name, value] : tree.items()) {
    if (name == "__metadata__") {
      check_metadata(value, file);
    } else {
      entries.push_back(read_entry(name, value, file));
    }
  }
  check_layout(entries, data.size(), file);
  tensor_map tensors;
  for (auto& e : entries) {
    auto const slot = tensors.emplace(std::move(e.name), std::move(e.view)).first;
    slot->second.name = slot->first;
    slot->second.data = data.data() + e.begin;
    slot->second.file = file;
  }
  return tensors;
}

bool plain_file_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view{"/\\\0", 3}) == name.npos;
}

std::string types_text(std::initializer_list<dtype> types) {
  std::string text;
  for (auto const type : types) {
    if (!text.empty()) { text += " or "; }
    text += name(type);
  }
  return text;
}

}  // namespace

std::string_view name(dtype type) noexcept {
  return dtypes[static_cast<std::size_t>(type)].word;
}

std::size_t bytes_of(dtype type) noexcept {
  return dtypes[static_cast<std::size_t>(type)].bytes;
}

void tensor_view::check_element(std::size_t size, std::size_t alignment) const {
  if (size != bytes_of(type)) {
    refuse(
      file_fault::wrong_dtype, std::string{file}, name,
      "has elements of " + std::to_string(bytes_of(type)) + " bytes, not " + std::to_string(size));
  }
  if (std::bit_cast<std::uintptr_t>(data) % alignment != 0) {
    refuse(file_fault::misaligned, std::string{file}, name,
           "does not lie at a multiple of " + std::to_string(alignment) + " bytes",
           "save the file again with safetensors 0.3 or newer");
  }
}

std::map<std::string, std::string, std::less<>> parse_safetensors_index(std::string_view text,
                                                                        std::string const& file) {
  auto const tree = parse_json(text, file, {.bytes = 64 << 20, .values = 1'000'000, .depth = 8});
  json_object const index{tree, file};
  auto const& list = index.at("weight_map");
  json_object const map{list, file, "weight_map"};
  std::map<std::string, std::string, std::less<>> shards;
  for (auto const& [tensor, value] : list.items()) {
    auto const shard = map.string(tensor);
    if (!shard) {
      throw file_error{file_fault::wrong_type, file, map.path(tensor) + " is null, not a string"};
    }
    if (!plain_file_name(*shard)) {
      refuse(
        file_fault::path_in_index, file, tensor,
        "lies in " + in_quotes(*shard) + ", which is not the name of a file in the same folder");
    }
    shards.emplace(tensor, *shard);
  }
  return shards;
}

safetensors safetensors::from_bytes(std::span<std::byte const> file, std::string label) {
  safetensors made;
  made.label_ = std::move(label);
  made.tensors_ = read_tensors(file, *made.file_names_.insert(made.label_).first);
  return made;
}

safetensors safetensors::open(std::string const& folder) {
  safetensors made;
  made.label_ = folder;
  auto const add = [&](std::string const& path) {
    auto const& file = made.files_.emplace_back(path);
    return read_tensors(file.bytes(), *made.file_names_.insert(path).first);
  };
  auto const open_index = [&]() -> std::optional<mapped_file> {
    try {
      return mapped_file{folder + '/' + std::string{index_file}};
    } catch (file_error const& e) {
      if (e.fault() != file_fault::missing_file) { throw; }
      return std::nullopt;
    }
  };
  try {
    made.tensors_ = add(folder + "/model.safetensors");
    return made;
  } catch (file_error const& e) {
    if (e.fault() != file_fault::missing_file) { throw; }
  }
  auto const index = open_index();
  if (!index) {
    throw file_error{file_fault::missing_file, folder,
                     "neither model.safetensors nor " + std::string{index_file},
                     "give a folder as Hugging Face's save_pretrained writes it"};
  }
  std::map<std::string, tensor_map, std::less<>> shards;
  for (auto const& [tensor, shard] : parse_safetensors_index(index->text(), index->path())) {
    auto found = shards.find(shard);
    if (found == shards.end()) {
      try {
        found = shards.emplace(shard, add(folder + '/' + shard)).first;
      } catch (file_error const& e) {
        if (e.fault() != file_fault::missing_file) { throw; }
        throw file_error{file_fault::missing_shard, index->path(),
                         "tensor " + in_quotes(tensor) + " lies in " + in_quotes(shard) +
                           ", and there is no such file beside the index",
                         "download that file too"};
      }
    }
    auto node = found->second.extract(tensor);  // a node keeps the address of the name
    if (node.empty()) {
      refuse(file_fault::tensor_not_in_shard, index->path(), tensor,
             "is not in " + in_quotes(shard) + ", where the index says it is");
    }
    made.tensors_.insert(std::move(node));
  }
  return made;
}

std::size_t safetensors::total_bytes() const noexcept {
  std::size_t sum = 0;
  for (auto const& [name, tensor] : tensors_) { sum += tensor.bytes; }
  return sum;
}

tensor_view const* safetensors::find(std::string_view name) const {
  auto const found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

tensor_view const& safetensors::get(std::string_view name, std::initializer_list<dtype> types,
                                    std::initializer_list<std::size_t> shape) const {
  auto const* const tensor = find(name);
  if (tensor == nullptr) {
    refuse(file_fault::missing_tensor, label_, name,
           "is not among the " + std::to_string(tensors_.size()) + " that are there");
  }
  std::string const file{tensor->file};
  if (std::find(types.begin(), types.end(), tensor->type) == types.end()) {
    refuse(file_fault::wrong_dtype, file, name,
           "is " + std::string{llama::name(tensor->type)} + ", not " + types_text(types));
  }
  if (!std::equal(shape.begin(), shape.end(), tensor->shape.begin(), tensor->shape.end())) {
    refuse(file_fault::wrong_shape, file, name,
           "has shape " + shape_text(tensor->shape) + ", not " + shape_text(shape));
  }
  return *tensor;
}

}  // namespace llama
