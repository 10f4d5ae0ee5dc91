// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "llama/config.hpp"
#include "llama/mapped_file.hpp"
#include "llama/safetensors.hpp"
#include "llama/strict_json.hpp"
#include "llama/tokenizer.hpp"
#include "llama/utf8.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace {

using llama::dtype;
using llama::file_fault;
using json = nlohmann::json;

struct outcome {
  std::optional<file_fault> fault;  // empty: nothing was thrown
  std::string said;
};

/// What `f` throws. Another exception than file_error leaves, and fails the test.
template <class F>
outcome refusal(F&& f) {
  try {
    f();
  } catch (llama::file_error const& e) {
    REQUIRE(e.code() == tpx::errc::bad_file);
    return {e.fault(), e.what()};
  }
  return {};
}

bool says(outcome const& o, std::string_view words) {
  return o.said.find(words) != std::string::npos;
}

/// A folder that goes away with its files.
class temporary_folder {
 public:
  temporary_folder() {
    path_ = "/tmp/tpx-files-" + std::string(6, 'X');  // which mkdtemp() replaces
    REQUIRE(::mkdtemp(path_.data()) != nullptr);
  }
  temporary_folder(temporary_folder const&) = delete;
  temporary_folder& operator=(temporary_folder const&) = delete;
  ~temporary_folder() {
    for (auto const& name : names_) { std::remove((path_ + '/' + name).c_str()); }
    ::rmdir(path_.c_str());
  }
  void write(std::string const& name, std::string_view bytes) {
    std::ofstream file{path_ + '/' + name, std::ios::binary};
    file << bytes;
    REQUIRE(file.flush().good());
    names_.insert(name);
  }
  [[nodiscard]] std::string const& path() const { return path_; }

 private:
  std::string path_;
  std::set<std::string> names_;
};

// ---------------------------------------------------------------------------------------------
// Files and JSON

TEST_CASE("a mapped file shows the bytes of the file") {
  temporary_folder folder;
  folder.write("a", std::string_view{"x\0y", 3});
  folder.write("empty", "");
  llama::mapped_file file{folder.path() + "/a"};
  CHECK(file.text() == std::string_view{"x\0y", 3});
  file.will_need(file.bytes());
  auto moved = std::move(file);
  CHECK(moved.text() == std::string_view{"x\0y", 3});
  CHECK(file.bytes().empty());  // NOLINT(bugprone-use-after-move)
  moved = llama::mapped_file{folder.path() + "/empty"};
  CHECK(moved.bytes().empty());
  CHECK(moved.path() == folder.path() + "/empty");
}

TEST_CASE("a file that cannot be mapped is named in the error") {
  temporary_folder folder;
  auto const path = folder.path() + "/none";
  auto const missing = refusal([&] { llama::mapped_file{path}; });
  CHECK(missing.fault == file_fault::missing_file);
  CHECK(says(missing, path));
  auto const directory = refusal([&] { llama::mapped_file{folder.path()}; });
  CHECK(directory.fault == file_fault::unreadable);
  CHECK(says(directory, folder.path()));
}

TEST_CASE("opening a named pipe fails at once and does not wait for a writer") {
  temporary_folder folder;
  folder.write("pipe", "");
  auto const path = folder.path() + "/pipe";
  REQUIRE(::unlink(path.c_str()) == 0);
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  CHECK(refusal([&] { llama::mapped_file{path}; }).fault == file_fault::unreadable);
}

TEST_CASE("each fault has a word of its own") {
  std::set<std::string_view> words;
  auto const last = static_cast<int>(file_fault::bad_pattern);
  for (int i = 0; i <= last; ++i) { words.insert(name(static_cast<file_fault>(i))); }
  CHECK(words.size() == static_cast<std::size_t>(last) + 1);
  CHECK_FALSE(words.contains("?"));
}

TEST_CASE("messages show hostile names without their control characters") {
  CHECK(llama::in_quotes("a\nb\x1b[2J\x7f") == R"('a\x0ab\x1b[2J\x7f')");
  CHECK(llama::in_quotes(std::string(200, 'x')) == "'" + std::string(80, 'x') + "...'");
}

outcome json_refusal(std::string_view text) {
  return refusal([&] {
    static_cast<void>(llama::parse_json(text, "f.json", {.bytes = 200, .values = 8, .depth = 4}));
  });
}

TEST_CASE("JSON that is not plain UTF-8 JSON is refused, each kind with its own fault") {
  CHECK(json_refusal(R"({"a":[1,{"b":[]}]})").fault == std::nullopt);
  CHECK(json_refusal("").fault == file_fault::not_json);
  CHECK(json_refusal("{").fault == file_fault::not_json);
  CHECK(json_refusal(R"({"a":01})").fault == file_fault::not_json);
  CHECK(json_refusal(R"({"a":1e999})").fault == file_fault::not_json);
  CHECK(json_refusal(R"({"a":"\ud800"})").fault == file_fault::not_json);
  CHECK(json_refusal("{} x").fault == file_fault::not_json);
  CHECK(json_refusal(std::string_view{"{}\0hidden", 9}).fault == file_fault::not_json);
  CHECK(json_refusal("{\"\xff\":1}").fault == file_fault::not_utf8);
  CHECK(json_refusal("[]").fault == file_fault::not_an_object);
  CHECK(json_refusal("1").fault == file_fault::not_an_object);
  CHECK(json_refusal(R"({"a":1,"b":2,"a":3})").fault == file_fault::duplicate_key);
  CHECK(json_refusal(R"({"x":{"a":1,"\u0061":3}})").fault == file_fault::duplicate_key);
  CHECK(json_refusal(R"({"a":[[[[]]]]})").fault == file_fault::too_deep);
  CHECK(json_refusal(R"({"a":[1,2,3,4,5,6,7]})").fault == file_fault::too_large);
  CHECK(json_refusal("{}" + std::string(200, ' ')).fault == file_fault::too_large);
}

TEST_CASE("JSON nested a million deep is refused without using the stack") {
  std::string const text(1'000'000, '[');
  auto const limits = llama::json_limits{.bytes = 2'000'000, .values = 2'000'000};
  auto const o = refusal([&] { static_cast<void>(llama::parse_json(text, "f", limits)); });
  CHECK(o.fault == file_fault::too_deep);
}

TEST_CASE("UTF-8 is what Unicode's table of well-formed byte sequences says") {
  auto const valid = [](std::string_view s) { return llama::valid_prefix(s) == s.size(); };
  for (auto const* const good :
       {"", "a", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80",
        "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"}) {
    CHECK(valid(good));
  }
  for (auto const* const bad :
       {"\x80", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2 ", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xef\xbf",
        "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff"}) {
    CHECK_FALSE(valid(bad));
  }
  CHECK(llama::first_character("\xf0\x9f\x98\x80").code == 0x1f600);
}

TEST_CASE("a character is only called cut when more bytes can complete it") {
  for (auto const* const s : {"\xc3", "\xe2\x82", "\xf0", "\xf0\x9f\x98"}) {
    CHECK(llama::first_character(s).cut);
  }
  for (auto const* const s : {"\x80", "\xe0\x80", "\xf4\x90", "\xff", "\xc3(", "a"}) {
    CHECK_FALSE(llama::first_character(s).cut);
  }
}

TEST_CASE("the quick check for NFC lets composed text pass and no other") {
  for (auto const* const composed : {"plain", "naïve Łódź", "В начале", "起初，神", "태초에",
                                     "\u0915\u094d", "\u05d1\u05b0", "\xff\xfe", "q\u0316\u030d"}) {
    CHECK(llama::surely_nfc(composed));
  }
  for (auto const* const other :
       {"e\u0301", "\u212b", "\u1100\u1161", "\u0344", "q\u030d\u0316", "\uf900"}) {
    CHECK_FALSE(llama::surely_nfc(other));
  }
}

// ---------------------------------------------------------------------------------------------
// safetensors

std::string with_length(std::uint64_t length, std::string_view rest) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) { bytes += static_cast<char>(length >> (8 * i)); }
  return bytes.append(rest);
}

std::string file_of(std::string_view header, std::size_t data_bytes) {
  std::string data(data_bytes, '\0');
  std::iota(data.begin(), data.end(), '\0');
  return with_length(header.size(), std::string{header} + data);
}

llama::safetensors load(std::string const& bytes) {
  return llama::safetensors::from_bytes(std::as_bytes(std::span{bytes}), "f.safetensors");
}

outcome load_refusal(std::string const& bytes) {
  auto o = refusal([&] { static_cast<void>(load(bytes)); });
  if (o.fault) { CHECK(says(o, "f.safetensors")); }
  return o;
}

/// The refusal of a file whose one tensor "t.w" has these facts, with `data_bytes` bytes of data.
outcome tensor_refusal(std::string const& facts, std::size_t data_bytes) {
  auto o = load_refusal(file_of(R"({"t.w":{)" + facts + "}}", data_bytes));
  if (o.fault && o.fault != file_fault::uncovered_bytes) { CHECK(says(o, "t.w")); }
  return o;
}

TEST_CASE("a safetensors file shows its tensors where they lie") {
  auto const bytes = file_of(R"({"__metadata__":{"format":"pt"},)"
                             R"("b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},)"
                             R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
                             R"("none":{"dtype":"I64","shape":[7,0],"data_offsets":[16,16]}}    )",
                             16);
  auto const file = load(bytes);
  REQUIRE(file.tensors().size() == 3);
  CHECK(file.total_bytes() == 16);
  auto const& b = file.get("b", {dtype::F16, dtype::BF16}, {2, 3});
  CHECK(b.name == "b");
  CHECK(b.type == dtype::BF16);
  CHECK(b.shape == std::vector<std::size_t>{2, 3});
  CHECK(b.bytes == 12);
  CHECK(b.data == std::as_bytes(std::span{bytes}).data() + bytes.size() - 12);
  CHECK(std::to_integer<int>(b.data[0]) == 4);
  CHECK(file.get("a", {dtype::F32}, {}).bytes == 4);
  CHECK(file.get("none", {dtype::I64}, {7, 0}).bytes == 0);
  CHECK(file.find("c") == nullptr);
}

TEST_CASE("views stay valid when the safetensors object is moved") {
  auto const bytes = file_of(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})", 3);
  auto first = load(bytes);
  auto const* const view = first.find("a");
  auto const second = std::move(first);
  CHECK(second.find("a") == view);
  CHECK(view->name == "a");
  CHECK(view->file == "f.safetensors");
}

TEST_CASE("every dtype of whole bytes is read at its size") {
  std::map<std::string, std::size_t> const sizes{
    {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"F8_E8M0", 1},
    {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},     {"U32", 4},
    {"F32", 4},  {"I64", 8}, {"U64", 8}, {"F64", 8},     {"C64", 8}};
  for (auto const& [word, size] : sizes) {
    auto const end = std::to_string(3 * size);
    auto const bytes = file_of(
      R"({"t":{"dtype":")" + word + R"(","shape":[3],"data_offsets":[0,)" + end + "]}}", 3 * size);
    auto const file = load(bytes);
    CHECK(name(file.find("t")->type) == word);
    CHECK(bytes_of(file.find("t")->type) == size);
  }
}

TEST_CASE("a safetensors file with a wrong header length is refused") {
  CHECK(load_refusal("").fault == file_fault::truncated);
  CHECK(load_refusal("1234567").fault == file_fault::truncated);
  CHECK(load_refusal(with_length(3, "{}")).fault == file_fault::header_past_end);
  CHECK(load_refusal(with_length(100'000'000, "{}")).fault == file_fault::header_past_end);
  CHECK(load_refusal(with_length(100'000'001, "{}")).fault == file_fault::header_too_large);
  CHECK(load_refusal(with_length(~std::uint64_t{0}, "{}")).fault == file_fault::header_too_large);
  CHECK(load_refusal(with_length(~std::uint64_t{0} - 7, "{}")).fault ==
        file_fault::header_too_large);
}

TEST_CASE("a safetensors header that is not a JSON object of tensors is refused") {
  CHECK(load_refusal(file_of("{}", 0)).fault == std::nullopt);
  CHECK(load_refusal(file_of("", 0)).fault == file_fault::not_json);
  CHECK(load_refusal(file_of("{\"\xc3\":{}}", 0)).fault == file_fault::not_utf8);
  CHECK(load_refusal(file_of("[]", 0)).fault == file_fault::not_an_object);
  CHECK(load_refusal(file_of(std::string_view{"{}\0{}", 5}, 0)).fault == file_fault::not_json);
  CHECK(load_refusal(file_of(R"({"a":{"dtype":[[[1]]]}})", 0)).fault == file_fault::too_deep);
  CHECK(load_refusal(file_of(R"({"a":1})", 0)).fault == file_fault::wrong_type);
  CHECK(load_refusal(file_of(R"({"__metadata__":{"a":1}})", 0)).fault == file_fault::wrong_type);
  auto const twice = std::string{R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]})"};
  CHECK(load_refusal(file_of("{" + twice + "," + twice + "}", 1)).fault ==
        file_fault::duplicate_key);
}

TEST_CASE("a tensor's facts are checked one by one") {
  CHECK(tensor_refusal(R"("dtype":"U8","shape":[4],"data_offsets":[0,4])", 4).fault ==
        std::nullopt);
  CHECK(tensor_refusal(R"("shape":[4],"data_offsets":[0,4])", 4).fault == file_fault::missing_key);
  CHECK(tensor_refusal(R"("dtype":"U8","data_offsets":[0,4])", 4).fault == file_fault::missing_key);
  CHECK(tensor_refusal(R"("dtype":"U8","shape":[4])", 4).fault == file_fault::missing_key);
  CHECK(tensor_refusal(R"("dtype":8,"shape":[4],"data_offsets":[0,4])", 4).fault ==
        file_fault::wrong_type);
  CHECK(tensor_refusal(R"("dtype":"U8","shape":4,"data_offsets":[0,4])", 4).fault ==
        file_fault::wrong_type);
  CHECK(tensor_refusal(R"("dtype":"F4","shape":[4],"data_offsets":[0,4])", 4).fault ==
        file_fault::unknown_dtype);
  CHECK(tensor_refusal(R"("dtype":"u8","shape":[4],"data_offsets":[0,4])", 4).fault ==
        file_fault::unknown_dtype);
  CHECK(
    tensor_refusal(R"("dtype":"U8","shape":[1,1,1,1,1,1,1,1,4],"data_offsets":[0,4])", 4).fault ==
    file_fault::bad_rank);
  for (auto const* const size : {"-4", "4.0", "\"4\"", "null", "9223372036854775808", "1e3"}) {
    CHECK(tensor_refusal(
            R"("dtype":"U8","shape":[)" + std::string{size} + R"(],"data_offsets":[0,4])", 4)
            .fault == file_fault::bad_dimension);
  }
}

TEST_CASE("a shape whose product wraps around is refused and never read as small") {
  // 2^32 * 2^32 = 2^64, and 2^62 * 4 + ... : both wrap to small numbers.
  CHECK(tensor_refusal(R"("dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0])", 0)
          .fault == file_fault::size_overflow);
  CHECK(tensor_refusal(R"("dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4])", 4)
          .fault == file_fault::size_overflow);
  CHECK(tensor_refusal(R"("dtype":"U8","shape":[4294967296,4294967296,0],"data_offsets":[0,0])", 0)
          .fault == std::nullopt);
}

TEST_CASE("a tensor's byte range is checked") {
  for (auto const* const range : {"[0]", "[0,4,4]", "4", "[-1,3]", "[0,4.0]", "[\"0\",4]", "{}"}) {
    CHECK(
      tensor_refusal(R"("dtype":"U8","shape":[4],"data_offsets":)" + std::string{range}, 4).fault ==
      file_fault::bad_range);
  }
  CHECK(tensor_refusal(R"("dtype":"U8","shape":[4],"data_offsets":[4,0])", 4).fault ==
        file_fault::reversed_range);
  CHECK(tensor_refusal(R"("dtype":"U8","shape":[4],"data_offsets":[0,3])", 3).fault ==
        file_fault::size_mismatch);
  CHECK(tensor_refusal(R"("dtype":"F16","shape":[4],"data_offsets":[0,4])", 4).fault ==
        file_fault::size_mismatch);
  CHECK(tensor_refusal(R"("dtype":"U8","shape":[0],"data_offsets":[0,4])", 4).fault ==
        file_fault::size_mismatch);
  CHECK(tensor_refusal(R"("dtype":"U8","shape":[4],"data_offsets":[4,8])", 4).fault ==
        file_fault::range_past_end);
  CHECK(
    tensor_refusal(
      R"("dtype":"U8","shape":[1],"data_offsets":[18446744073709551614,18446744073709551615])", 4)
      .fault == file_fault::range_past_end);
}

std::string three(std::string const& a, std::string const& b, std::string const& c) {
  auto const entry = [](char name, std::string const& range) {
    auto const comma = range.find(',');
    auto const size = std::stoi(range.substr(comma + 1)) - std::stoi(range.substr(0, comma));
    return '"' + std::string{name} + R"(":{"dtype":"U8","shape":[)" + std::to_string(size) +
           R"(],"data_offsets":[)" + range + "]}";
  };
  return '{' + entry('a', a) + ',' + entry('b', b) + ',' + entry('c', c) + '}';
}

TEST_CASE("the tensors of a file must cover its bytes once") {
  CHECK(load_refusal(file_of(three("0,4", "4,6", "6,8"), 8)).fault == std::nullopt);
  CHECK(load_refusal(file_of(three("6,8", "4,6", "0,4"), 8)).fault == std::nullopt);

  auto const overlap = load_refusal(file_of(three("0,4", "3,6", "6,8"), 8));
  CHECK(overlap.fault == file_fault::overlap);
  CHECK(says(overlap, "'b'"));
  CHECK(says(overlap, "'a'"));
  CHECK(load_refusal(file_of(three("0,4", "0,4", "4,8"), 8)).fault == file_fault::overlap);

  auto const hole = load_refusal(file_of(three("0,4", "5,6", "6,8"), 8));
  CHECK(hole.fault == file_fault::hole);
  CHECK(says(hole, "'b'"));
  CHECK(load_refusal(file_of(three("1,4", "4,6", "6,8"), 8)).fault == file_fault::hole);

  auto const uncovered = load_refusal(file_of(three("0,4", "4,6", "6,8"), 9));
  CHECK(uncovered.fault == file_fault::uncovered_bytes);
  CHECK(says(uncovered, "last 1 bytes"));
  CHECK(load_refusal(file_of("{}", 1)).fault == file_fault::uncovered_bytes);

  auto const cut = load_refusal(file_of(three("0,4", "4,6", "6,8"), 5));
  CHECK(cut.fault == file_fault::truncated);
  CHECK(says(cut, "'b'"));

  auto const past = load_refusal(file_of(three("0,4", "4,6", "7,9"), 8));
  CHECK(past.fault == file_fault::range_past_end);
  CHECK(says(past, "'c'"));
}

TEST_CASE("a good file cut short anywhere is refused") {
  auto const whole = file_of(three("0,4", "4,6", "6,8"), 8);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    auto const fault = load_refusal(whole.substr(0, size)).fault;
    INFO("cut to " << size);
    bool const right = size < 8                  ? fault == file_fault::truncated
                       : size < whole.size() - 8 ? fault == file_fault::header_past_end
                                                 : fault == file_fault::truncated;
    CHECK(right);
  }
}

TEST_CASE("asking for a tensor that is not as expected says what it is") {
  auto const bytes = file_of(R"({"w":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]}})", 12);
  auto const file = load(bytes);
  auto const missing = refusal([&] { static_cast<void>(file.get("v", {dtype::F16}, {2, 3})); });
  CHECK(missing.fault == file_fault::missing_tensor);
  CHECK(says(missing, "'v'"));
  auto const type = refusal([&] {
    static_cast<void>(file.get("w", {dtype::F32, dtype::BF16}, {2, 3}));
  });
  CHECK(type.fault == file_fault::wrong_dtype);
  CHECK(says(type, "'w' is F16, not F32 or BF16"));
  for (auto const& shape : {std::initializer_list<std::size_t>{3, 2}, {6}, {2, 3, 1}, {}}) {
    auto const o = refusal([&] { static_cast<void>(file.get("w", {dtype::F16}, shape)); });
    CHECK(o.fault == file_fault::wrong_shape);
    CHECK(says(o, "has shape (2, 3), not ("));
  }
}

TEST_CASE("elements are only seen at their size and alignment") {
  std::string const header = R"({"w":{"dtype":"U16","shape":[2],"data_offsets":[0,4]}})";
  std::vector<std::uint64_t> room(32);  // so that the address is known to be even
  for (std::size_t const pad : {0U, 1U}) {
    auto const bytes = file_of(header + std::string(8 - header.size() % 8 + pad, ' '), 4);
    std::memcpy(room.data(), bytes.data(), bytes.size());
    auto const file =
      llama::safetensors::from_bytes(std::as_bytes(std::span{room}).first(bytes.size()));
    auto const& w = *file.find("w");
    if (pad == 0) {
      CHECK(w.as<std::uint16_t>()[1] == 0x0302);
    } else {
      auto const o = refusal([&] { static_cast<void>(w.as<std::uint16_t>()); });
      CHECK(o.fault == file_fault::misaligned);
    }
    auto const o = refusal([&] { static_cast<void>(w.as<float>()); });
    CHECK(o.fault == file_fault::wrong_dtype);
  }
}

constexpr auto shard_1 = "model-00001-of-00002.safetensors";
constexpr auto shard_2 = "model-00002-of-00002.safetensors";

std::string index_of(std::vector<std::pair<std::string, std::string>> const& map) {
  json index{{"metadata", {{"total_size", 6}}}, {"weight_map", json::object()}};
  for (auto const& [tensor, file] : map) { index["weight_map"][tensor] = file; }
  return index.dump();
}

TEST_CASE("a checkpoint in several files is read as one") {
  temporary_folder folder;
  folder.write(shard_1, file_of(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 2));
  folder.write(shard_2, file_of(R"({"b":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
                                R"("c":{"dtype":"U8","shape":[1],"data_offsets":[3,4]}})",
                                4));
  folder.write("model.safetensors.index.json",
               index_of({{"a", shard_1}, {"b", shard_2}, {"c", shard_2}}));
  auto moved_from = llama::safetensors::open(folder.path());
  auto const file = std::move(moved_from);
  CHECK(file.files().size() == 2);
  CHECK(file.total_bytes() == 6);
  auto const& c = file.get("c", {dtype::U8}, {1});
  CHECK(std::to_integer<int>(c.data[0]) == 3);
  CHECK(c.name == "c");
  CHECK(c.file == folder.path() + '/' + shard_2);
  CHECK(file.get("a", {dtype::U8}, {2}).file == folder.path() + '/' + shard_1);
}

TEST_CASE("one model.safetensors is read without an index, and before one") {
  temporary_folder folder;
  folder.write("model.safetensors",
               file_of(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 2));
  CHECK(llama::safetensors::open(folder.path()).tensors().size() == 1);
  folder.write("model.safetensors.index.json", "not even JSON");
  CHECK(llama::safetensors::open(folder.path()).tensors().size() == 1);
}

TEST_CASE("a bad shard is named in the error") {
  temporary_folder folder;
  folder.write(shard_1, file_of(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 1));
  folder.write("model.safetensors.index.json", index_of({{"a", shard_1}}));
  auto const o = refusal([&] { static_cast<void>(llama::safetensors::open(folder.path())); });
  CHECK(o.fault == file_fault::truncated);
  CHECK(says(o, shard_1));
}

TEST_CASE("an index that promises what is not there is refused") {
  temporary_folder folder;
  auto const opened = [&] {
    return refusal([&] { static_cast<void>(llama::safetensors::open(folder.path())); });
  };
  auto const none = opened();
  CHECK(none.fault == file_fault::missing_file);
  CHECK(says(none, folder.path()));

  folder.write("model.safetensors.index.json", index_of({{"a", shard_1}, {"b", shard_2}}));
  folder.write(shard_1, file_of(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 2));
  auto const shard = opened();
  CHECK(shard.fault == file_fault::missing_shard);
  CHECK(says(shard, "'b'"));
  CHECK(says(shard, shard_2));

  folder.write("model.safetensors.index.json", index_of({{"a", shard_1}, {"b", shard_1}}));
  auto const tensor = opened();
  CHECK(tensor.fault == file_fault::tensor_not_in_shard);
  CHECK(says(tensor, "'b'"));
}

TEST_CASE("an index cannot name a file of another folder") {
  auto const fault = [](std::string const& text) {
    return refusal([&] { static_cast<void>(llama::parse_safetensors_index(text, "index")); }).fault;
  };
  CHECK(fault(index_of({{"a", "x.safetensors"}})) == std::nullopt);
  for (auto const* const path :
       {"../x.safetensors", "/etc/passwd", "d/x.safetensors", "..", ".", "", "d\\x.safetensors"}) {
    CHECK(fault(index_of({{"a", path}})) == file_fault::path_in_index);
  }
  CHECK(fault(R"({"weight_map":{"a":"x\u0000y"}})") == file_fault::path_in_index);
  CHECK(fault(R"({"weight_map":{"a":null}})") == file_fault::wrong_type);
  CHECK(fault(R"({"weight_map":{"a":1}})") == file_fault::wrong_type);
  CHECK(fault(R"({"weight_map":[]})") == file_fault::wrong_type);
  CHECK(fault(R"({})") == file_fault::missing_key);
  CHECK(fault(R"({"weight_map":{"a":"x","a":"y"}})") == file_fault::duplicate_key);
}

// ---------------------------------------------------------------------------------------------
// config.json

json small_config() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"hidden_size", 64},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"intermediate_size", 96},
          {"vocab_size", 100},
          {"max_position_embeddings", 512}};
}

llama::model_config config_with(json const& changes) {
  auto keys = small_config();
  keys.update(changes);
  return llama::parse_config(keys.dump(), "config.json");
}

outcome config_refusal(json const& changes) {
  auto o = refusal([&] { static_cast<void>(config_with(changes)); });
  if (o.fault) { CHECK(says(o, "config.json")); }
  return o;
}

TEST_CASE("a config with nothing but sizes has Hugging Face's defaults") {
  auto const c = config_with(json::object());
  CHECK(c.architecture == llama::architecture::Llama);
  CHECK(c.hidden_size == 64);
  CHECK(c.num_hidden_layers == 2);
  CHECK(c.num_attention_heads == 4);
  CHECK(c.num_key_value_heads == 4);
  CHECK(c.head_dim == 16);
  CHECK(c.intermediate_size == 96);
  CHECK(c.vocab_size == 100);
  CHECK(c.max_position_embeddings == 512);
  CHECK(c.rms_norm_eps == 1e-6);
  CHECK(c.rope.theta == 10000);
  CHECK_FALSE(c.rope.scaling);
  CHECK_FALSE(c.qkv_bias);
  CHECK_FALSE(c.o_bias);
  CHECK_FALSE(c.tie_word_embeddings);
  CHECK_FALSE(c.bos_token_id);
  CHECK(c.eos_token_ids.empty());
}

TEST_CASE("a config's own values are taken") {
  auto const c = config_with({{"num_key_value_heads", 2},
                              {"head_dim", 32},
                              {"rms_norm_eps", 1e-5},
                              {"rope_theta", 500000},
                              {"rope_scaling", nullptr},
                              {"tie_word_embeddings", true},
                              {"attention_bias", true},
                              {"bos_token_id", 1},
                              {"eos_token_id", {2, 99}},
                              {"hidden_act", "silu"},
                              {"some_future_key", {{"x", 1}}}});
  CHECK(c.num_key_value_heads == 2);
  CHECK(c.head_dim == 32);
  CHECK(c.rms_norm_eps == 1e-5);
  CHECK(c.rope.theta == 500000);
  CHECK(c.tie_word_embeddings);
  CHECK(c.qkv_bias);
  CHECK(c.o_bias);
  CHECK(c.bos_token_id == 1);
  CHECK(c.eos_token_ids == std::vector<std::int32_t>{2, 99});
  CHECK(config_with({{"eos_token_id", 7}}).eos_token_ids == std::vector<std::int32_t>{7});
}

TEST_CASE("Qwen2 has biases on q, k and v and none on o") {
  for (bool const key : {false, true}) {
    auto const c = config_with({{"architectures", {"Qwen2ForCausalLM"}}, {"attention_bias", key}});
    CHECK(c.architecture == llama::architecture::Qwen2);
    CHECK(c.qkv_bias);
    CHECK_FALSE(c.o_bias);
  }
}

TEST_CASE("a config without architectures is known by its model_type") {
  auto keys = small_config();
  keys.erase("architectures");
  CHECK(refusal([&] { static_cast<void>(llama::parse_config(keys.dump(), "f")); }).fault ==
        file_fault::missing_key);
  keys["model_type"] = "qwen2";
  CHECK(llama::parse_config(keys.dump(), "f").architecture == llama::architecture::Qwen2);
}

TEST_CASE("a config that lacks a size, or has one that cannot be, is refused by key") {
  for (auto const* const key : {"hidden_size", "num_hidden_layers", "num_attention_heads",
                                "intermediate_size", "vocab_size", "max_position_embeddings"}) {
    for (auto const& [value, fault] : std::vector<std::pair<json, file_fault>>{
           {nullptr, file_fault::missing_key},
           {0, file_fault::out_of_range},
           {-1, file_fault::out_of_range},
           {std::uint64_t{1} << 63, file_fault::out_of_range},
           {std::int64_t{1} << 31, file_fault::out_of_range},
           {64.0, file_fault::wrong_type},
           {"64", file_fault::wrong_type}}) {
      auto const o = config_refusal({{key, value}});
      INFO(key << " = " << value.dump());
      CHECK(o.fault == fault);
      CHECK(says(o, key));
    }
  }
}

TEST_CASE("a config whose numbers contradict each other is refused") {
  for (auto const& changes :
       {json{{"num_key_value_heads", 3}}, json{{"num_key_value_heads", 8}},
        json{{"num_attention_heads", 5}}, json{{"head_dim", 15}}, json{{"bos_token_id", {0, 1}}}}) {
    INFO(changes.dump());
    CHECK(config_refusal(changes).fault == file_fault::inconsistent);
  }
  CHECK(config_with({{"num_attention_heads", 5}, {"head_dim", 16}}).head_dim == 16);
}

TEST_CASE("config values outside their range are refused") {
  for (auto const& changes :
       {json{{"rms_norm_eps", -1e-5}}, json{{"rms_norm_eps", 2}}, json{{"rope_theta", 0}},
        json{{"rope_theta", -10000}}, json{{"head_dim", 0}}, json{{"num_key_value_heads", 0}},
        json{{"eos_token_id", 100}}, json{{"eos_token_id", -1}}, json{{"bos_token_id", 100}},
        json{{"eos_token_id", {1, 100}}}}) {
    INFO(changes.dump());
    CHECK(config_refusal(changes).fault == file_fault::out_of_range);
  }
  for (auto const& changes :
       {json{{"rope_theta", "10000"}}, json{{"tie_word_embeddings", 1}},
        json{{"eos_token_id", "x"}}, json{{"eos_token_id", {1.5}}}, json{{"hidden_act", 3}},
        json{{"rope_scaling", "llama3"}}, json{{"architectures", "LlamaForCausalLM"}},
        json{{"architectures", json::array()}}}) {
    INFO(changes.dump());
    CHECK(config_refusal(changes).fault == file_fault::wrong_type);
  }
}

TEST_CASE("a config that asks for other maths is refused, and says what is read") {
  for (auto const& changes :
       {json{{"architectures", {"MistralForCausalLM"}}}, json{{"hidden_act", "gelu"}},
        json{{"mlp_bias", true}}, json{{"use_sliding_window", true}},
        json{{"layer_types", {"full_attention", "sliding_attention"}}},
        json{{"quantization_config", {{"bits", 4}}}}, json{{"partial_rotary_factor", 0.5}},
        json{{"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}}},
        json{{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}}}}}) {
    INFO(changes.dump());
    auto const o = config_refusal(changes);
    CHECK(o.fault == file_fault::not_supported);
    CHECK(says(o, changes.begin().key()));
    CHECK(says(o, "only"));
  }
}

json llama3_rope() {
  return {{"rope_type", "llama3"},
          {"factor", 8.0},
          {"low_freq_factor", 1.0},
          {"high_freq_factor", 4.0},
          {"original_max_position_embeddings", 8192}};
}

TEST_CASE("RoPE frequencies fall geometrically from 1") {
  auto const f = config_with({{"rope_theta", 10000}}).rope.inverse_frequencies(64);
  REQUIRE(f.size() == 32);
  CHECK(f[0] == 1);
  for (std::size_t i = 1; i < f.size(); ++i) {
    CHECK(std::abs(f[i] / f[i - 1] - std::exp(-std::log(10000.0) / 32)) < 1e-12);
  }
}

TEST_CASE("Llama 3.1 stretches long wavelengths by its factor and leaves short ones") {
  auto const c = config_with({{"rope_theta", 500000}, {"rope_scaling", llama3_rope()}});
  auto const plain = llama::rope_config{.theta = 500000}.inverse_frequencies(128);
  auto const scaled = c.rope.inverse_frequencies(128);
  REQUIRE(scaled.size() == 64);
  int between = 0;
  for (std::size_t i = 0; i < 64; ++i) {
    // By wavelength, as the model's own code says it.
    double const wavelength = 2 * std::acos(-1.0) / plain[i];
    double expected = plain[i];
    if (wavelength > 8192 / 1.0) {
      expected = plain[i] / 8;
    } else if (wavelength >= 8192 / 4.0) {
      double const smooth = (8192 / wavelength - 1.0) / (4.0 - 1.0);
      expected = (1 - smooth) * plain[i] / 8 + smooth * plain[i];
      ++between;
    }
    CHECK(std::abs(scaled[i] / expected - 1) < 1e-12);
  }
  CHECK(between > 0);
  CHECK(scaled[0] == plain[0]);
  CHECK(std::abs(scaled[63] * 8 / plain[63] - 1) < 1e-12);
}

TEST_CASE("RoPE parameters are read from the old keys and from rope_parameters") {
  auto parameters = llama3_rope();
  parameters["rope_theta"] = 500000;
  auto const c = config_with({{"rope_parameters", parameters}});
  CHECK(c.rope.theta == 500000);
  REQUIRE(c.rope.scaling);
  CHECK(c.rope.scaling->factor == 8);
  auto const plain =
    config_with({{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 1e6}}}});
  CHECK(plain.rope.theta == 1e6);
  CHECK_FALSE(plain.rope.scaling);
}

TEST_CASE("a Llama 3.1 scaling that is incomplete or turned around is refused") {
  for (auto const* const key :
       {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) {
    auto rope = llama3_rope();
    rope.erase(key);
    auto const o = config_refusal({{"rope_scaling", rope}});
    CHECK(o.fault == file_fault::missing_key);
    CHECK(says(o, std::string{"rope_scaling."} + key));
  }
  auto rope = llama3_rope();
  rope["low_freq_factor"] = 4.0;
  CHECK(config_refusal({{"rope_scaling", rope}}).fault == file_fault::inconsistent);
  rope["low_freq_factor"] = 0.0;
  CHECK(config_refusal({{"rope_scaling", rope}}).fault == file_fault::out_of_range);
}

// ---------------------------------------------------------------------------------------------
// tokenizer.json

std::string utf8(unsigned code) {
  if (code < 0x80) { return {static_cast<char>(code)}; }
  return {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 0x3f))};
}

/// How a byte is written in a vocabulary: GPT-2's bytes_to_unicode, line by line.
std::string spelled(std::string_view bytes) {
  static auto const table = [] {
    std::array<std::string, 256> t;
    unsigned extra = 0;
    for (unsigned b = 0; b < 256; ++b) {
      bool const shown = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
      t[b] = utf8(shown ? b : 256 + extra++);
    }
    return t;
  }();
  std::string out;
  for (char const c : bytes) { out += table[static_cast<unsigned char>(c)]; }
  return out;
}

constexpr auto cl100k =
  R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// A tokenizer whose byte b has id b, and whose merges have the ids from 256 on in their order.
json small_tokenizer(std::vector<std::pair<std::string, std::string>> const& merges = {}) {
  json vocab = json::object();
  for (int b = 0; b < 256; ++b) { vocab[spelled(std::string(1, static_cast<char>(b)))] = b; }
  json list = json::array();
  for (auto const& [a, b] : merges) {
    auto const joined = spelled(a) + spelled(b);
    if (!vocab.contains(joined)) { vocab[joined] = vocab.size(); }
    list.push_back({spelled(a), spelled(b)});
  }
  return {
    {"added_tokens", json::array()},
    {"normalizer", nullptr},
    {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
    {"post_processor", nullptr},
    {"decoder", {{"type", "ByteLevel"}}},
    {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", list}}}};
}

json added(int id, std::string const& content, bool special = false, bool normalized = false) {
  return {{"id", id},        {"content", content},   {"special", special},      {"lstrip", false},
          {"rstrip", false}, {"single_word", false}, {"normalized", normalized}};
}

json split_by(std::string const& pattern, std::string const& behavior = "Isolated") {
  return {{"type", "Sequence"},
          {"pretokenizers",
           {{{"type", "Split"},
             {"pattern", {{"Regex", pattern}}},
             {"behavior", behavior},
             {"invert", false}},
            {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
}

llama::tokenizer made(json const& file) {
  return llama::tokenizer::from_json(file.dump(), "tokenizer.json");
}

outcome tokenizer_refusal(json const& file) {
  auto o = refusal([&] { static_cast<void>(made(file)); });
  if (o.fault) { CHECK(says(o, "tokenizer.json")); }
  return o;
}

using ids_t = std::vector<std::int32_t>;

/// BPE as its paper says it: again and again, join the neighbours whose merge comes first.
ids_t plain_bpe(std::string_view word,
                std::vector<std::pair<std::string, std::string>> const& merges) {
  std::vector<std::string> parts;
  for (char const c : word) { parts.emplace_back(1, c); }
  while (true) {
    std::size_t best = merges.size();
    std::size_t at = 0;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      auto const rank = static_cast<std::size_t>(
        std::find(merges.begin(), merges.end(), std::pair{parts[i], parts[i + 1]}) -
        merges.begin());
      if (rank < best) {
        best = rank;
        at = i;
      }
    }
    if (best == merges.size()) { break; }
    parts[at] += parts[at + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
  ids_t ids;
  for (auto const& part : parts) {
    auto const made_by = std::find_if(merges.begin(), merges.end(),
                                      [&](auto const& m) { return m.first + m.second == part; });
    ids.push_back(part.size() == 1 ? static_cast<unsigned char>(part[0])
                                   : 256 + static_cast<std::int32_t>(made_by - merges.begin()));
  }
  return ids;
}

TEST_CASE("BPE joins what the plain algorithm joins") {
  std::vector<std::pair<std::string, std::string>> const merges{
    {"a", "b"},   {"b", "a"},  {"a", "a"},    {"ab", "ab"}, {"aa", "b"},   {"c", "ab"},
    {"aa", "aa"}, {"b", "c"},  {"abab", "c"}, {"ba", "ba"}, {"cab", "ab"}, {"bc", "bc"},
    {"c", "c"},   {"cc", "c"}, {"aab", "a"},  {"ccc", "aa"}};
  auto const tokenizer = made(small_tokenizer(merges));
  std::mt19937 random{7};
  for (int i = 0; i < 2000; ++i) {
    std::string word;
    for (auto n = random() % 30; n > 0; --n) { word += "abc"[random() % 3]; }
    INFO(word);
    REQUIRE(tokenizer.encode(word) == plain_bpe(word, merges));
  }
}

TEST_CASE("a word of a megabyte is encoded in seconds, not hours", "[serial]") {
  auto const tokenizer = made(small_tokenizer({{"a", "a"}, {"aa", "aa"}, {"aaaa", "aaaa"}}));
  auto const ids = tokenizer.encode(std::string(1 << 20, 'a'));
  CHECK(ids == ids_t((1 << 20) / 8, 258));
}

TEST_CASE("merges are read as pairs and as strings") {
  auto file = small_tokenizer({{"t", "h"}, {"th", "e"}, {" ", "the"}});
  auto const pairs = made(file).encode("the the");
  CHECK(pairs == ids_t{257, 258});
  file["model"]["merges"] = {"t h", "th e", spelled(" ") + " the"};
  CHECK(made(file).encode("the the") == pairs);
}

TEST_CASE("ignore_merges takes a word that is a token whole") {
  auto file = small_tokenizer({{"a", "b"}});
  file["model"]["vocab"]["abc"] = 257;
  CHECK(made(file).encode("abc abc") == ids_t{256, 'c', ' ', 256, 'c'});
  file["model"]["ignore_merges"] = true;
  CHECK(made(file).encode("abc abc") == ids_t{257, ' ', 256, 'c'});
}

/// Where words end: in a tokenizer that has any two neighbours of the text as a token, a join shows
/// that both were in one word.
std::vector<std::string> words_of(json const& pre_tokenizer, std::string const& text) {
  json file = small_tokenizer();
  file["pre_tokenizer"] = pre_tokenizer;
  file["model"]["ignore_merges"] = true;
  auto& vocab = file["model"]["vocab"];
  for (std::size_t i = 0; i < text.size(); ++i) {
    for (std::size_t n = 2; i + n <= text.size(); ++n) {
      auto const token = spelled(std::string_view{text}.substr(i, n));
      if (!vocab.contains(token)) { vocab[token] = vocab.size(); }
    }
  }
  auto const tokenizer = made(file);
  std::vector<std::string> words;
  for (auto const id : tokenizer.encode(text)) { words.emplace_back(tokenizer.bytes(id)); }
  return words;
}

TEST_CASE("the patterns of GPT-2, Llama 3 and Qwen2 cut text as their authors' examples show") {
  using list = std::vector<std::string>;
  auto const gpt2 = small_tokenizer()["pre_tokenizer"];
  CHECK(words_of(gpt2, "I'll say: don't  go\n\n 1234") ==
        list{"I", "'ll", " say", ":", " don", "'t", " ", " go", "\n\n", " 1234"});
  CHECK(words_of(gpt2, "a\n b  ") == list{"a", "\n", " b", "  "});
  CHECK(words_of(split_by(cl100k), "I'LL pay $12345.\r\n\n  OK") ==
        list{"I", "'LL", " pay", " $", "123", "45", ".\r\n\n", " ", " OK"});
  std::string qwen2 = cl100k;
  qwen2.replace(qwen2.find("{1,3}"), 5, "");
  CHECK(words_of(split_by(qwen2), "x=123") == list{"x", "=", "1", "2", "3"});
  CHECK(words_of(split_by(cl100k), "naïve 日本語") == list{"naïve", " 日本語"});
}

TEST_CASE("\\s is Unicode's White_Space, to the character") {
  using list = std::vector<std::string>;
  for (auto const* const space : {"\u0085", "\u00a0", "\u2028", "\u3000", "\x0b"}) {
    CHECK(words_of(split_by(R"(\s)"), "a" + std::string{space} + "b") == list{"a", space, "b"});
  }
  for (auto const* const other : {"\u180e", "\u200b", "\ufeff"}) {
    auto const text = "a" + std::string{other} + "b";
    CHECK(words_of(split_by(R"(\s)"), text) == list{text});
    CHECK(words_of(split_by(R"([^\S]|\\s)"), text) == list{text});
  }
}

TEST_CASE("several patterns cut one after the other") {
  auto pre = split_by("b");
  auto second = split_by("[0-9]+")["pretokenizers"][0];
  pre["pretokenizers"].insert(pre["pretokenizers"].begin() + 1, second);
  CHECK(words_of(pre, "ab12bc") == std::vector<std::string>{"a", "b", "12", "b", "c"});
}

TEST_CASE("empty matches part words and end") {
  CHECK(words_of(split_by("x*"), "axxb") == std::vector<std::string>{"a", "xx", "b"});
}

TEST_CASE("added tokens are found before words, at each place the longest") {
  auto file = small_tokenizer({{"a", "b"}});
  file["added_tokens"] = {added(257, "<|a|>", true), added(258, "<|a|>>"), added(259, "ab+")};
  auto const t = made(file);
  CHECK(t.encode("<|a|>>x<|a|>ab+ab") == ids_t{258, 'x', 257, 259, 256});
  CHECK(t.encode("<|a<|a|>") == ids_t{'<', '|', 'a', 257});
  CHECK(t.find("<|a|>") == 257);
  CHECK(t.find("ab") == 256);
  CHECK_FALSE(t.find("abc"));
  CHECK(t.size() == 260);
  CHECK(t.is_special(257));
  CHECK_FALSE(t.is_special(258));
  CHECK(t.piece(257) == "");
  CHECK(t.piece(258) == t.bytes(258));
  CHECK(t.decode(ids_t{257, 'x', 258}) == "<|a|>x<|a|>>");
  CHECK(t.decode(ids_t{257, 'x', 258}, llama::special::Skip) == "x<|a|>>");
}

TEST_CASE("tokens matched before normalizing go before those matched after it") {
  auto file = small_tokenizer();
  file["added_tokens"] = {added(256, "abc", false, true), added(257, "bc", false, false)};
  CHECK(made(file).encode("abc") == ids_t{'a', 257});
}

TEST_CASE("an added token that the vocabulary has too keeps its id") {
  auto file = small_tokenizer();
  file["model"]["vocab"]["<end>"] = 256;
  file["added_tokens"] = {added(256, "<end>", true)};
  CHECK(made(file).encode("a<end>") == ids_t{'a', 256});
  file["added_tokens"][0]["id"] = 257;
  CHECK(tokenizer_refusal(file).fault == file_fault::inconsistent);
}

TEST_CASE("added tokens that would not come back as they went in are refused") {
  auto file = small_tokenizer();
  file["added_tokens"] = {added(0xe9, "é")};  // in the vocabulary é stands for byte 0xe9
  CHECK(tokenizer_refusal(file).fault == file_fault::inconsistent);
  for (auto const* const key : {"lstrip", "rstrip", "single_word"}) {
    file["added_tokens"] = {added(256, "<x>")};
    file["added_tokens"][0][key] = true;
    CHECK(tokenizer_refusal(file).fault == file_fault::not_supported);
  }
  file["added_tokens"] = {added(256, "")};
  CHECK(tokenizer_refusal(file).fault == file_fault::inconsistent);
  file["added_tokens"] = {added(256, "<x>"), added(257, "<x>")};
  CHECK(tokenizer_refusal(file).fault == file_fault::inconsistent);
}

TEST_CASE("the ids that a template puts before a text are known") {
  auto file = small_tokenizer();
  file["added_tokens"] = {added(256, "<bos>", true)};
  json const bos{{"SpecialToken", {{"id", "<bos>"}, {"type_id", 0}}}};
  json const text{{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  file["post_processor"] = {
    {"type", "Sequence"},
    {"processors",
     {{{"type", "ByteLevel"}}, {{"type", "TemplateProcessing"}, {"single", {bos, text, bos}}}}}};
  auto const t = made(file);
  CHECK(ids_t(t.prefix().begin(), t.prefix().end()) == ids_t{256});
  CHECK(t.encode("a") == ids_t{'a'});
  CHECK(made(small_tokenizer()).prefix().empty());
  file["added_tokens"][0]["content"] = "<other>";
  CHECK(tokenizer_refusal(file).fault == file_fault::inconsistent);
}

std::string random_bytes(std::mt19937& random) {
  constexpr std::array<std::string_view, 12> pieces{
    " the", "a", "  ", "\r\n", "12345", "é", "日本", "😀", "'ll", "<|a|>", "\xf0\x9f", "\xc3"};
  std::string text;
  for (auto n = random() % 12; n > 0; --n) {
    if (random() % 4 == 0) {
      text += static_cast<char>(random());
    } else {
      text += pieces[random() % pieces.size()];
    }
  }
  return text;
}

TEST_CASE(
  "decoding what was encoded gives the same bytes, UTF-8 or not, in one piece or streamed") {
  auto file = small_tokenizer({{"t", "h"}, {"th", "e"}, {"\xc3", "\xa9"}, {"\x9f", "\x98"}});
  file["added_tokens"] = {added(static_cast<int>(file["model"]["vocab"].size()), "<|a|>", true)};
  for (auto const& pre : {small_tokenizer()["pre_tokenizer"], split_by(cl100k)}) {
    file["pre_tokenizer"] = pre;
    auto const t = made(file);
    std::mt19937 random{11};
    for (int i = 0; i < 3000; ++i) {
      auto const text = random_bytes(random);
      auto const ids = t.encode(text);
      REQUIRE(t.decode(ids) == text);
      std::string streamed;
      llama::stream_decoder stream{t, llama::special::Show};
      for (auto const id : ids) { streamed += stream.push(id); }
      REQUIRE(streamed + stream.finish() == text);
    }
  }
}

TEST_CASE("a stream holds back a character until it is whole") {
  llama::stream_decoder stream{made(small_tokenizer())};
  CHECK(stream.push('a') == "a");
  CHECK(stream.push(0xf0).empty());
  CHECK(stream.push(0x9f).empty());
  CHECK(stream.push(0x98).empty());
  CHECK(stream.push(0x80) == "😀");
  CHECK(stream.push(0xe2).empty());
  CHECK(stream.push('b') ==
        "\xe2"
        "b");  // no byte can make it whole any more
  CHECK(stream.push(0xff) == "\xff");
  CHECK(stream.push(0xc3).empty());
  CHECK(stream.finish() == "\xc3");
  CHECK(stream.finish().empty());
}

TEST_CASE("a stream leaves special tokens out unless asked") {
  auto file = small_tokenizer();
  file["added_tokens"] = {added(256, "<end>", true)};
  llama::stream_decoder skip{made(file)};
  llama::stream_decoder show{made(file), llama::special::Show};
  CHECK(skip.push(256).empty());
  CHECK(show.push(256) == "<end>");
}

TEST_CASE("a tokenizer that asks for NFC takes text in NFC and refuses other text") {
  auto file = small_tokenizer();
  file["normalizer"] = {{"type", "NFC"}};
  auto const t = made(file);
  CHECK(t.decode(t.encode("naïve 日本 \xff")) == "naïve 日本 \xff");
  try {
    static_cast<void>(t.encode("e\u0301"));
    FAIL("text with a loose accent was encoded");
  } catch (tpx::error const& e) { CHECK(e.code() == tpx::errc::invalid_argument); }
  CHECK_NOTHROW(made(small_tokenizer()).encode("e\u0301"));
}

TEST_CASE("ids that the tokenizer does not have are refused") {
  auto const t = made(small_tokenizer());
  for (std::int32_t const id : {-1, 256, INT32_MAX, INT32_MIN}) {
    CHECK_THROWS_AS(t.decode(ids_t{id}), tpx::error);
    CHECK_THROWS_AS(t.bytes(id), tpx::error);
    CHECK_THROWS_AS(t.is_special(id), tpx::error);
  }
}

TEST_CASE("wrong ids in a vocabulary are refused, each with its own fault") {
  auto const with_id = [](json const& id) {
    auto file = small_tokenizer();
    file["model"]["vocab"]["abc"] = id;
    return tokenizer_refusal(file).fault;
  };
  CHECK(with_id(256) == std::nullopt);
  CHECK(with_id(-1) == file_fault::bad_id);
  CHECK(with_id((1 << 24) + 1) == file_fault::bad_id);
  CHECK(with_id(~std::uint64_t{0}) == file_fault::bad_id);
  CHECK(with_id(1 << 24) == file_fault::id_hole);
  CHECK(with_id(257) == file_fault::id_hole);
  CHECK(with_id(7) == file_fault::duplicate_id);
  CHECK(with_id("256") == file_fault::wrong_type);
  CHECK(with_id(256.0) == file_fault::wrong_type);
  auto file = small_tokenizer();
  file["added_tokens"] = {added(7, "<x>")};
  CHECK(tokenizer_refusal(file).fault == file_fault::duplicate_id);
  file["added_tokens"] = {added(300, "<x>")};
  CHECK(tokenizer_refusal(file).fault == file_fault::id_hole);
  file["added_tokens"] = {added(-1, "<x>")};
  CHECK(tokenizer_refusal(file).fault == file_fault::bad_id);
}

TEST_CASE("a vocabulary without one of the 256 bytes is refused") {
  auto file = small_tokenizer();
  auto& vocab = file["model"]["vocab"];
  vocab.erase(spelled("\xff"));
  vocab["abc"] = 255;
  auto const o = tokenizer_refusal(file);
  CHECK(o.fault == file_fault::missing_byte);
  CHECK(says(o, "byte 255"));
}

TEST_CASE("a merge that is not two tokens and their join is refused") {
  auto const with_merge = [](json const& merge) {
    auto file = small_tokenizer({{"a", "b"}});
    file["model"]["merges"].push_back(merge);
    auto const o = tokenizer_refusal(file);
    if (o.fault) { CHECK(says(o, "merge 1:")); }
    return o.fault;
  };
  for (auto const& merge :
       {json{"a b"}, json{"a", "b", "c"}, json{"a", 1}, json(1), json("ab"), json("a  b"),
        json("a b c"), json(" ab"), json{"", "ab"}, json{"a", "c"}, json{"abc", "a"},
        json{"a", "xyz"}, json{"a", "b"}, json("a b")}) {
    INFO(merge.dump());
    CHECK(with_merge(merge) == file_fault::bad_merge);
  }
}

TEST_CASE("a pattern that does not compile, or cannot be finished, is refused") {
  for (auto const& pattern : {std::string{"("}, std::string{"[a"}, std::string{R"(\C)"},
                              std::string(20'000, 'a'), std::string(1000, '(')}) {
    auto file = small_tokenizer();
    file["pre_tokenizer"] = split_by(pattern);
    CHECK(tokenizer_refusal(file).fault == file_fault::bad_pattern);
  }
  auto file = small_tokenizer();
  file["pre_tokenizer"] = split_by("(a|a)+$");
  auto const t = made(file);
  auto const o = refusal([&] { static_cast<void>(t.encode(std::string(40, 'a') + "!")); });
  CHECK(o.fault == file_fault::bad_pattern);
}

TEST_CASE("a tokenizer of another kind is refused, and says what is read") {
  auto const changed = [](std::string const& pointer, json const& value) {
    auto file = small_tokenizer();
    file[json::json_pointer{pointer}] = value;
    return tokenizer_refusal(file).fault;
  };
  for (auto const& [pointer, value] : std::vector<std::pair<std::string, json>>{
         {"/model/type", "Unigram"},
         {"/model/dropout", 0.1},
         {"/model/byte_fallback", true},
         {"/model/end_of_word_suffix", "</w>"},
         {"/model/continuing_subword_prefix", "##"},
         {"/decoder/type", "Metaspace"},
         {"/normalizer", {{"type", "Lowercase"}}},
         {"/pre_tokenizer/type", "Whitespace"},
         {"/pre_tokenizer/add_prefix_space", true},
         {"/pre_tokenizer", {{"type", "ByteLevel"}}},
         {"/pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", json::array()}}},
         {"/pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {{{"type", "Digits"}}}}}},
         {"/pre_tokenizer", split_by("a", "MergedWithNext")},
         {"/post_processor", {{"type", "BertProcessing"}}}}) {
    INFO(pointer << " = " << value.dump());
    CHECK(changed(pointer, value) == file_fault::not_supported);
  }
  for (auto const* const pointer :
       {"/model", "/model/vocab", "/model/merges", "/pre_tokenizer", "/decoder"}) {
    CHECK(changed(pointer, nullptr) == file_fault::missing_key);
    CHECK(changed(pointer, 1) == file_fault::wrong_type);
  }
  CHECK(changed("/added_tokens", 1) == file_fault::wrong_type);
  for (auto const& good :
       std::vector<std::pair<std::string, json>>{{"/model/end_of_word_suffix", ""},
                                                 {"/model/unk_token", "x"},
                                                 {"/added_tokens", nullptr},
                                                 {"/truncation", {{"max_length", 1}}}}) {
    CHECK(changed(good.first, good.second) == std::nullopt);
  }
}

TEST_CASE("one tokenizer serves several threads") {
  auto const t = made(small_tokenizer({{"t", "h"}, {"th", "e"}}));
  std::array<bool, 4> same{};
  {
    std::vector<std::jthread> threads;
    for (auto& ok : same) {
      threads.emplace_back([&] {
        std::mt19937 random{5};
        ok = true;
        for (int i = 0; i < 300; ++i) {
          auto const text = random_bytes(random);
          ok = ok && t.decode(t.encode(text)) == text;
        }
      });
    }
  }
  for (bool const ok : same) { CHECK(ok); }
}

// ---------------------------------------------------------------------------------------------
// The model of this project

std::string const model_dir = TPX_TEST_EXAMPLES "/llama/model";

json goldens() {
  std::ifstream file{model_dir + "/golden.json"};
  REQUIRE(file.good());
  return json::parse(file);
}

TEST_CASE("the model's tokenizer gives the ids that Hugging Face's gives", "[golden]") {
  auto const golden = goldens();
  auto const t = llama::tokenizer::open(model_dir);
  std::size_t compared = 0;
  for (auto const* const key : {"tokenizer", "tokenizer_special"}) {
    for (auto const& example : golden.at(key)) {
      auto const text = example.at("text").get<std::string>();
      INFO(text);
      CHECK(t.encode(text) == example.at("ids").get<ids_t>());
      CHECK(t.decode(example.at("ids").get<ids_t>()) == text);
      ++compared;
    }
  }
  CHECK(compared > 20);
  llama::mapped_file const heldout{model_dir + "/heldout.txt"};
  auto const ids = t.encode(heldout.text());
  CHECK(ids.size() == golden.at("loss").at("heldout_tokens").get<std::size_t>());
  CHECK(t.decode(ids) == heldout.text());
}

TEST_CASE("the model's folder has the weights that its config asks for", "[golden]") {
  auto const c = llama::read_config(model_dir);
  auto const t = llama::tokenizer::open(model_dir);
  auto const weights = llama::safetensors::open(model_dir);
  CHECK(t.size() <= c.vocab_size);
  CHECK_NOTHROW(
    weights.get("model.embed_tokens.weight", {dtype::BF16}, {c.vocab_size, c.hidden_size}));
  CHECK_NOTHROW(weights.get("model.layers.0.self_attn.k_proj.weight", {dtype::BF16},
                            {c.num_key_value_heads * c.head_dim, c.hidden_size}));
  CHECK(weights.find("model.embed_tokens.weight")->as<std::uint16_t>().size() ==
        c.vocab_size * c.hidden_size);
}

TEST_CASE("the Qwen2 folder of two files is read", "[golden]") {
  std::string const folder = TPX_TEST_EXAMPLES "/llama/testdata/qwen2-tiny";
  auto const c = llama::read_config(folder);
  CHECK(c.architecture == llama::architecture::Qwen2);
  CHECK(c.qkv_bias);
  CHECK_FALSE(c.o_bias);
  auto const weights = llama::safetensors::open(folder);
  CHECK(weights.files().size() == 2);
  for (std::size_t i = 0; i < c.num_hidden_layers; ++i) {
    auto const layer = "model.layers." + std::to_string(i) + ".";
    CHECK_NOTHROW(weights.get(layer + "self_attn.q_proj.bias", {dtype::BF16},
                              {c.num_attention_heads * c.head_dim}));
    CHECK_NOTHROW(weights.get(layer + "mlp.down_proj.weight", {dtype::BF16},
                              {c.hidden_size, c.intermediate_size}));
  }
  std::size_t bytes = 0;  // by the index's own count
  std::ifstream index{folder + "/model.safetensors.index.json"};
  json::parse(index).at("metadata").at("total_size").get_to(bytes);
  CHECK(weights.total_bytes() == bytes);
}

}  // namespace
