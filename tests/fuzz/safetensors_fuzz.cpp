// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The first byte chooses: a whole file; a header and, after a zero byte, its data; an index.
#include "fuzz.hpp"
#include "llama/safetensors.hpp"

#include <algorithm>
#include <span>

namespace {

using fuzz::must;

std::string length_of(std::size_t header) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) { bytes += static_cast<char>(header >> (8 * i)); }
  return bytes;
}

std::string file_of(std::string const& header, std::string const& data) {
  return length_of(header.size()) + header + data;
}

void check_index(std::string_view text) {
  for (auto const& [tensor, file] : llama::parse_safetensors_index(text, "index")) {
    must(!file.empty() && file.find('/') == file.npos && file != "..",
         "an index names files of its own folder");
  }
}

void check_tensor(llama::safetensors const& file, std::string_view name,
                  llama::tensor_view const& tensor) {
  must(name == tensor.name && file.find(name) == &tensor, "a tensor is found by its name");
  std::size_t bytes = llama::bytes_of(tensor.type);
  for (auto const size : tensor.shape) { bytes *= size; }
  must(bytes == tensor.bytes, "a tensor is as long as its shape and type say");
  unsigned sum = 0;
  for (auto const byte : std::span{tensor.data, tensor.bytes}) {
    sum += std::to_integer<unsigned>(byte);
  }
  static_cast<void>(*const_cast<unsigned volatile*>(&sum));  // the reads must happen
  try {
    static_cast<void>(tensor.as<std::uint16_t>());
    must(llama::bytes_of(tensor.type) == 2, "elements are seen at their size only");
  } catch (tpx::error const&) {}
}

void check_file(std::string const& bytes) {
  auto const file = llama::safetensors::from_bytes(std::as_bytes(std::span{bytes}));
  std::vector<std::span<std::byte const>> ranges;
  for (auto const& [name, tensor] : file.tensors()) {
    check_tensor(file, name, tensor);
    ranges.emplace_back(tensor.data, tensor.bytes);
  }
  std::sort(ranges.begin(), ranges.end(), [](auto const& a, auto const& b) {
    return a.data() < b.data() || (a.data() == b.data() && a.size() < b.size());
  });
  auto const* end = ranges.empty() ? nullptr : ranges.front().data();
  for (auto const& range : ranges) {
    must(range.data() == end, "tensors lie one after the other");
    end = range.data() + range.size();
  }
  must(ranges.empty() || end == std::as_bytes(std::span{bytes}).data() + bytes.size(),
       "tensors reach to the end of the file");
}

}  // namespace

std::vector<std::string> fuzz::seeds() {
  std::string const pair =
    R"({"__metadata__":{"format":"pt"},"a.weight":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},)"
    R"("b":{"dtype":"F32","shape":[],"data_offsets":[12,16]},)"
    R"("c":{"dtype":"U8","shape":[0],"data_offsets":[16,16]}})";
  std::string const data(16, 'x');
  return {
    "0" + file_of(pair, data),
    "0" + file_of("{}", ""),
    "0" + length_of(~std::size_t{0}) + pair,
    "1" + pair + '\0' + data,
    "1" + pair + '\0',
    R"(2{"metadata":{"total_size":16},"weight_map":{"a":"model-1.safetensors","b":"../b"}})",
  };
}

std::vector<std::string> fuzz::words() {
  return {"\"dtype\":",
          "\"shape\":",
          "\"data_offsets\":",
          "[0,12]",
          "[12,16]",
          "\"BF16\"",
          "\"F64\"",
          "\"BOOL\"",
          "\"F4\"",
          "\"__metadata__\":{}",
          "\"a\":",
          "{}",
          "[]",
          "[[[[[[",
          "{\"a\":{\"a\":",
          "null",
          "true",
          "\\u0000",
          "\\ud800",
          "\xff",
          "\xef\xbb\xbf",
          ",",
          ":",
          "\"weight_map\":"};
}

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  if (size == 0) { return 0; }
  std::string_view const input{reinterpret_cast<char const*>(data) + 1, size - 1};
  try {
    if (data[0] % 3 == '0' % 3) {
      check_file(std::string{input});
    } else if (data[0] % 3 == '1' % 3) {
      auto const zero = std::min(input.find('\0'), input.size());
      check_file(file_of(std::string{input.substr(0, zero)},
                         std::string{input.substr(std::min(zero + 1, input.size()))}));
    } else {
      check_index(input);
    }
  } catch (tpx::error const&) {}
  return 0;
}
