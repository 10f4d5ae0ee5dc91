// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "tokenizer.hpp"

#include "mapped_file.hpp"
#include "pre_tokenizer.hpp"
#include "strict_json.hpp"
#include "utf8.hpp"

#include <algorithm>
#include <array>
#include <mutex>
#include <nlohmann/json.hpp>
#include <queue>
#include <tuple>
#include <unordered_map>
#include <utility>

namespace llama {
namespace {

using json = nlohmann::json;

constexpr std::int64_t largest_id = 1 << 24;
constexpr std::size_t longest_text = std::size_t{1} << 31;
constexpr std::size_t most_cached_words = 1 << 16;
constexpr std::size_t longest_cached_word = 128;  // bytes

struct string_hash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const noexcept {
    return std::hash<std::string_view>{}(text);
  }
};

template <class Value>
using string_map = std::unordered_map<std::string, Value, string_hash, std::equal_to<>>;

/// GPT-2's alphabet: the character that stands for each byte in a vocabulary. Printable bytes stand
/// for themselves, the others for U+0100, U+0101, ... Source: encoder.py, bytes_to_unicode.
struct alphabet {
  std::array<std::int16_t, 0x144> byte_of;  // by code point; -1: stands for no byte

  constexpr alphabet() : byte_of{} {
    byte_of.fill(-1);
    std::size_t next = 0x100;
    for (std::int16_t byte = 0; byte < 256; ++byte) {
      bool const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
      byte_of[printable ? static_cast<std::size_t>(byte) : next++] = byte;
    }
  }

  /// The bytes that `token` stands for; nothing where it has other characters.
  [[nodiscard]] std::optional<std::string> bytes(std::string_view token) const {
    std::string out;
    while (!token.empty()) {
      auto const step = first_character(token);
      if (!step.valid || step.code >= byte_of.size() || byte_of[step.code] < 0) { return {}; }
      out += static_cast<char>(byte_of[step.code]);
      token.remove_prefix(step.bytes);
    }
    return out;
  }
};

constexpr alphabet gpt2_alphabet;

/// Finds the first of several literal strings in a text, and of those that begin there the longest.
class literal_set {
 public:
  struct hit {
    std::size_t begin, bytes;
    std::int32_t id;
  };

  void add(std::string text, std::int32_t id) {
    auto& peers = by_first_[static_cast<unsigned char>(text.front())];
    auto const shorter = std::find_if(peers.begin(), peers.end(), [&](auto const& peer) {
      return peer.first.size() < text.size();
    });
    peers.emplace(shorter, std::move(text), id);
    empty_ = false;
  }

  [[nodiscard]] std::optional<hit> find(std::string_view text) const {
    if (empty_) { return {}; }
    for (std::size_t i = 0; i < text.size(); ++i) {
      for (auto const& [literal, id] : by_first_[static_cast<unsigned char>(text[i])]) {
        if (text.substr(i).starts_with(literal)) { return hit{i, literal.size(), id}; }
      }
    }
    return {};
  }

 private:
  std::array<std::vector<std::pair<std::string, std::int32_t>>, 256> by_first_;
  bool empty_ = true;
};

struct merge {
  std::int32_t rank;
  std::int32_t joined;
};

struct merge_table {
  std::unordered_map<std::uint64_t, merge> pairs;

  static std::uint64_t key(std::int32_t left, std::int32_t right) {
    return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint32_t>(right);
  }
  [[nodiscard]] merge const* find(std::int32_t left, std::int32_t right) const {
    auto const found = pairs.find(key(left, right));
    return found == pairs.end() ? nullptr : &found->second;
  }
};

/// Joins neighbours in `ids`, the pair of lowest rank first, of equals the leftmost.
void apply_merges(std::vector<std::int32_t>& ids, merge_table const& merges) {
  constexpr std::uint32_t none = UINT32_MAX;
  struct symbol {
    std::int32_t id;  // -1: joined to the one before
    std::uint32_t before, after;
  };
  struct candidate {
    std::int32_t rank;
    std::uint32_t at;
    std::int32_t left, right, joined;
    bool operator<(candidate const& other) const {  // priority_queue gives the largest first
      return std::tie(other.rank, other.at) < std::tie(rank, at);
    }
  };
  auto const count = static_cast<std::uint32_t>(ids.size());
  std::vector<symbol> symbols(count);
  std::priority_queue<candidate> queue;
  auto const consider = [&](std::uint32_t at) {
    auto const next = symbols[at].after;
    if (next == none) { return; }
    auto const left = symbols[at].id;
    auto const right = symbols[next].id;
    if (auto const* const found = merges.find(left, right)) {
      queue.push({found->rank, at, left, right, found->joined});
    }
  };
  for (std::uint32_t i = 0; i < count; ++i) {
    symbols[i] = {ids[i], i == 0 ? none : i - 1, i + 1 == count ? none : i + 1};
  }
  for (std::uint32_t i = 0; i < count; ++i) { consider(i); }
  while (!queue.empty()) {
    auto const best = queue.top();
    queue.pop();
    auto& left = symbols[best.at];
    if (left.id != best.left || left.after == none || symbols[left.after].id != best.right) {
      continue;  // one of the two was joined to another since
    }
    auto& right = symbols[left.after];
    left.id = best.joined;
    left.after = right.after;
    right.id = -1;
    if (left.after != none) { symbols[left.after].before = best.at; }
    if (left.before != none) { consider(left.before); }
    consider(best.at);
  }
  ids.clear();
  for (auto const& s : symbols) {
    if (s.id >= 0) { ids.push_back(s.id); }
  }
}

struct word_cache {
  std::mutex mutex;
  string_map<std::vector<std::int32_t>> words;
};

[[noreturn]] void not_supported(std::string const& file, std::string const& message) {
  throw file_error{file_fault::not_supported, file, message};
}

}  // namespace

struct tokenizer::tables {
  std::vector<std::string> bytes_by_id;
  std::vector<bool> special_by_id;
  string_map<std::int32_t> id_by_bytes;    // what BPE can give
  string_map<std::int32_t> id_by_content;  // added tokens
  std::array<std::int32_t, 256> byte_ids{};
  merge_table merges;
  std::vector<word_pattern> patterns;  // each cuts the words of the one before
  literal_set raw_added, normalized_added;
  std::vector<std::int32_t> prefix;
  bool nfc = false;
  bool ignore_merges = false;
  mutable word_cache cache;

  void encode_word(std::string_view word, std::vector<std::int32_t>& out) const;
  void encode_plain(std::string_view text, std::vector<std::int32_t>& out) const;
  [[nodiscard]] std::size_t checked(std::int32_t id) const;

 private:
  [[nodiscard]] std::vector<std::int32_t> merged(std::string_view word) const;
};

std::vector<std::int32_t> tokenizer::tables::merged(std::string_view word) const {
  if (ignore_merges) {
    if (auto const whole = id_by_bytes.find(word); whole != id_by_bytes.end()) {
      return {whole->second};
    }
  }
  std::vector<std::int32_t> ids;
  ids.reserve(word.size());
  for (char const c : word) { ids.push_back(byte_ids[static_cast<unsigned char>(c)]); }
  apply_merges(ids, merges);
  return ids;
}

void tokenizer::tables::encode_word(std::string_view word, std::vector<std::int32_t>& out) const {
  bool const cached = word.size() <= longest_cached_word;
  if (cached) {
    std::lock_guard const lock{cache.mutex};
    if (auto const known = cache.words.find(word); known != cache.words.end()) {
      out.insert(out.end(), known->second.begin(), known->second.end());
      return;
    }
  }
  auto ids = merged(word);
  out.insert(out.end(), ids.begin(), ids.end());
  if (cached) {
    std::lock_guard const lock{cache.mutex};
    if (cache.words.size() < most_cached_words) { cache.words.emplace(word, std::move(ids)); }
  }
}

void tokenizer::tables::encode_plain(std::string_view text, std::vector<std::int32_t>& out) const {
  std::vector<std::string_view> words{text};
  std::vector<std::string_view> cut;
  for (auto const& pattern : patterns) {
    cut.clear();
    for (auto const word : words) { pattern.split(word, cut); }
    words.swap(cut);
  }
  for (auto const word : words) { encode_word(word, out); }
}

std::size_t tokenizer::tables::checked(std::int32_t id) const {
  auto const index = static_cast<std::size_t>(id);
  if (id < 0 || index >= bytes_by_id.size()) {
    throw tpx::error{tpx::errc::invalid_argument, "token " + std::to_string(id) +
                                                    " of a tokenizer of " +
                                                    std::to_string(bytes_by_id.size()) + " tokens"};
  }
  return index;
}

namespace {

/// The parts of a tokenizer.json in the order in which they depend on each other.
class reader {
 public:
  reader(json const& tree, std::string const& file) : file_{file}, keys_{tree, file} {}

  struct token {
    std::int64_t id;
    std::string_view text;
    bool added;
    bool special;
    bool normalized;
  };

  /// All tokens in the order of their ids, which are 0, 1, 2, ... Their texts lie in the tree.
  [[nodiscard]] std::vector<token> tokens() {
    std::vector<token> all;
    auto const& vocab = model_keys().at("vocab");
    static_cast<void>(json_object{vocab, file_, "model.vocab"});  // throws unless an object
    for (auto const& [text, id] : vocab.get_ref<json::object_t const&>()) {
      all.push_back({checked_id(id, text), text, false, false, false});
    }
    add_added(vocab, all);
    std::sort(all.begin(), all.end(), [](token const& a, token const& b) { return a.id < b.id; });
    for (std::size_t i = 0; i < all.size(); ++i) {
      auto const expected = static_cast<std::int64_t>(i);
      if (all[i].id < expected) {
        throw file_error{file_fault::duplicate_id, file_,
                         "tokens " + in_quotes(all[i - 1].text) + " and " + in_quotes(all[i].text) +
                           " both have id " + std::to_string(all[i].id)};
      }
      if (all[i].id > expected) {
        throw file_error{file_fault::id_hole, file_,
                         "no token has id " + std::to_string(expected) + "; the next is " +
                           in_quotes(all[i].text) + " with " + std::to_string(all[i].id)};
      }
    }
    return all;
  }

  [[nodiscard]] merge_table merges() const {
    auto const model = model_keys();
    std::unordered_map<std::string_view, std::int32_t> ids;
    for (auto const& [text, id] : model.at("vocab").get_ref<json::object_t const&>()) {
      ids.emplace(text, id.get<std::int32_t>());
    }
    auto const& list = array(model, "merges");
    merge_table table;
    table.pairs.reserve(list.size());
    std::string joined;
    for (std::size_t rank = 0; rank < list.size(); ++rank) {
      auto const [left, right] = merge_parts(list[rank], rank);
      joined.assign(left).append(right);
      auto const a = ids.find(left);
      auto const b = ids.find(right);
      auto const ab = ids.find(joined);
      if (a == ids.end() || b == ids.end() || ab == ids.end()) {
        bad_merge(rank, in_quotes(a == ids.end()   ? left
                                  : b == ids.end() ? right
                                                   : std::string_view{joined}) +
                          " is not in the vocabulary");
      }
      auto const fresh = table.pairs.emplace(merge_table::key(a->second, b->second),
                                             merge{static_cast<std::int32_t>(rank), ab->second});
      if (!fresh.second) {
        bad_merge(rank, "the same pair as merge " + std::to_string(fresh.first->second.rank));
      }
    }
    return table;
  }

  [[nodiscard]] bool ignore_merges() const {
    return model_keys().boolean("ignore_merges").value_or(false);
  }

  /// Refuses models that this is not the code for.
  void check_model() const {
    auto const model = model_keys();
    if (auto const type = model.string("type").value_or("BPE"); type != "BPE") {
      not_supported(file_, "model.type is " + in_quotes(type) + "; only 'BPE' is read");
    }
    if (model.number("dropout", 0, 1).value_or(0) != 0) {
      not_supported(file_, "model.dropout makes encoding random");
    }
    if (model.boolean("byte_fallback").value_or(false)) {
      not_supported(file_, "model.byte_fallback is SentencePiece's; only byte-level BPE is read");
    }
    for (auto const* const key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (!model.string(key).value_or("").empty()) {
        not_supported(file_, model.path(key) + " is not empty");
      }
    }
    auto const decoder = object(keys_, "decoder");
    if (auto const type = type_of(decoder); type != "ByteLevel") {
      not_supported(file_, "decoder.type is " + in_quotes(type) + "; only 'ByteLevel' is read");
    }
  }

  [[nodiscard]] bool nfc() const {
    if (keys_.find("normalizer") == nullptr) { return false; }
    auto const type = type_of(object(keys_, "normalizer"));
    if (type != "NFC") {
      not_supported(file_,
                    "normalizer.type is " + in_quotes(type) + "; only null and 'NFC' are read");
    }
    return true;
  }

  [[nodiscard]] std::vector<word_pattern> patterns() const {
    std::vector<word_pattern> read;
    auto const pre = object(keys_, "pre_tokenizer");
    if (type_of(pre) == "ByteLevel") {
      add_byte_level(pre, read);
      return read;
    }
    if (auto const type = type_of(pre); type != "Sequence") {
      not_supported(file_, "pre_tokenizer.type is " + in_quotes(type) +
                             "; only 'ByteLevel' and 'Sequence' are read");
    }
    auto const& list = array(pre, "pretokenizers");
    for (std::size_t i = 0; i < list.size(); ++i) {
      json_object const step{list[i], file_, "pretokenizers[" + std::to_string(i) + ']'};
      bool const last = i + 1 == list.size();
      if (auto const type = type_of(step); type != (last ? "ByteLevel" : "Split")) {
        not_supported(file_, step.path("type") + " is " + in_quotes(type) +
                               "; only 'Split' and after it one 'ByteLevel' are read");
      }
      if (last) {
        add_byte_level(step, read);
      } else {
        add_split(step, read);
      }
    }
    if (list.empty()) { not_supported(file_, "pretokenizers is empty; 'ByteLevel' is needed"); }
    return read;
  }

  /// The contents of the special tokens that the post-processor puts before a text.
  [[nodiscard]] std::vector<std::string> prefix() const {
    std::vector<std::string> read;
    if (keys_.find("post_processor") == nullptr) { return read; }
    auto const processor = object(keys_, "post_processor");
    if (type_of(processor) == "Sequence") {
      auto const& list = array(processor, "processors");
      for (std::size_t i = 0; i < list.size(); ++i) {
        add_prefix({list[i], file_, "processors[" + std::to_string(i) + ']'}, read);
      }
    } else {
      add_prefix(processor, read);
    }
    return read;
  }

 private:
  [[nodiscard]] json_object object(json_object const& in, std::string_view key) const {
    return {in.at(key), file_, in.path(key)};
  }

  [[nodiscard]] json_object model_keys() const { return object(keys_, "model"); }

  [[nodiscard]] json const& array(json_object const& in, std::string_view key) const {
    auto const& list = in.at(key);
    if (!list.is_array()) {
      throw file_error{file_fault::wrong_type, file_,
                       in.path(key) + " is a JSON " + list.type_name() + ", not an array"};
    }
    return list;
  }

  [[nodiscard]] static std::string_view required_string(json_object const& in,
                                                        std::string_view key) {
    in.require(key);
    return *in.string(key);
  }

  [[nodiscard]] static std::string_view type_of(json_object const& in) {
    return required_string(in, "type");
  }

  [[nodiscard]] std::int64_t checked_id(json const& id, std::string_view text) const {
    if (!id.is_number_integer()) {
      throw file_error{file_fault::wrong_type, file_,
                       "the id of token " + in_quotes(text) + " is not a whole number"};
    }
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() > largest_id) {
      throw file_error{file_fault::bad_id, file_,
                       "token " + in_quotes(text) + " has id " + id.dump() + ", not from 0 to " +
                         std::to_string(largest_id)};
    }
    return id.get<std::int64_t>();
  }

  void add_added(json const& vocab, std::vector<token>& all) const {
    if (keys_.find("added_tokens") == nullptr) { return; }
    auto const& list = array(keys_, "added_tokens");
    auto const& words = vocab.get_ref<json::object_t const&>();
    std::unordered_map<std::int64_t, std::size_t> place;  // in `all`, by id
    for (std::size_t i = 0; i < all.size(); ++i) { place.emplace(all[i].id, i); }
    string_map<bool> seen;
    for (std::size_t i = 0; i < list.size(); ++i) {
      json_object const facts{list[i], file_, "added_tokens[" + std::to_string(i) + ']'};
      auto const content = required_string(facts, "content");
      auto const id = checked_id(facts.at("id"), content);
      auto const inconsistent = [&](std::string const& message) {
        throw file_error{file_fault::inconsistent, file_,
                         facts.path("content") + ' ' + in_quotes(content) + ' ' + message};
      };
      if (content.empty()) { inconsistent("is empty"); }
      if (!seen.emplace(content, true).second) { inconsistent("is there twice"); }
      for (auto const* const key : {"lstrip", "rstrip", "single_word"}) {
        if (facts.boolean(key).value_or(false)) {
          not_supported(file_, facts.path(key) + " of " + in_quotes(content) + " is true");
        }
      }
      token const made{id, content, true, facts.boolean("special").value_or(false),
                       facts.boolean("normalized").value_or(false)};
      auto const word = words.find(content);
      if (word == words.end()) {
        all.push_back(made);
        continue;
      }
      if (word->second.get<std::int64_t>() != id) {
        inconsistent("has id " + std::to_string(id) + ", and " + word->second.dump() +
                     " in the vocabulary");
      }
      if (gpt2_alphabet.bytes(content).value_or(std::string{content}) != content) {
        inconsistent("is also how the vocabulary writes other bytes");
      }
      auto const known = place.find(id);
      all[known->second] = made;
    }
  }

  [[noreturn]] void bad_merge(std::size_t rank, std::string const& message) const {
    throw file_error{file_fault::bad_merge, file_,
                     "merge " + std::to_string(rank) + ": " + message};
  }

  [[nodiscard]] std::pair<std::string_view, std::string_view> merge_parts(json const& value,
                                                                          std::size_t rank) const {
    std::string_view left;
    std::string_view right;
    if (value.is_string()) {
      std::string_view const both = value.get_ref<std::string const&>();
      auto const space = both.find(' ');
      if (space == both.npos || both.find(' ', space + 1) != both.npos) {
        bad_merge(rank, in_quotes(both) + " is not two tokens with one space between");
      }
      left = both.substr(0, space);
      right = both.substr(space + 1);
    } else if (value.is_array() && value.size() == 2 && value[0].is_string() &&
               value[1].is_string()) {
      left = value[0].get_ref<std::string const&>();
      right = value[1].get_ref<std::string const&>();
    } else {
      bad_merge(rank, "is neither a string nor an array of two");
    }
    if (left.empty() || right.empty()) { bad_merge(rank, "joins an empty token"); }
    return {left, right};
  }

  void add_byte_level(json_object const& step, std::vector<word_pattern>& read) const {
    if (step.boolean("add_prefix_space").value_or(true)) {  // Hugging Face's default
      not_supported(file_,
                    step.path("add_prefix_space") + " is true: encoding would change the text");
    }
    if (step.boolean("use_regex").value_or(true)) { read.emplace_back(word_pattern::gpt2, file_); }
  }

  void add_split(json_object const& step, std::vector<word_pattern>& read) const {
    auto const behavior = required_string(step, "behavior");
    bool const inverted = step.boolean("invert").value_or(false);
    // Some converters write that what the pattern does not match is removed; their patterns match
    // everything, so nothing is.
    if (behavior != "Isolated" && !(behavior == "Removed" && inverted)) {
      not_supported(
        file_, step.path("behavior") + " is " + in_quotes(behavior) + "; only 'Isolated' is read");
    }
    auto const pattern = object(step, "pattern");
    if (pattern.find("Regex") == nullptr) {
      not_supported(file_, pattern.path("Regex") + " is not there; no other patterns are read");
    }
    read.emplace_back(*pattern.string("Regex"), file_);
  }

  void add_prefix(json_object const& processor, std::vector<std::string>& read) const {
    auto const type = type_of(processor);
    if (type == "ByteLevel") { return; }  // concerns offsets alone
    if (type != "TemplateProcessing") {
      not_supported(file_, processor.path("type") + " is " + in_quotes(type) +
                             "; only 'ByteLevel' and 'TemplateProcessing' are read");
    }
    auto const& list = array(processor, "single");
    for (std::size_t i = 0; i < list.size(); ++i) {
      json_object const piece{list[i], file_, "single[" + std::to_string(i) + ']'};
      if (piece.find("SpecialToken") == nullptr) { break; }
      read.emplace_back(required_string(object(piece, "SpecialToken"), "id"));
    }
  }

  std::string const& file_;
  json_object keys_;
};

}  // namespace

tokenizer tokenizer::from_json(std::string_view text, std::string const& file) {
  auto const tree = parse_json(text, file, {.bytes = 256 << 20, .values = 16'000'000});
  reader source{tree, file};
  source.check_model();
  auto made = std::make_shared<tables>();
  made->nfc = source.nfc();
  made->ignore_merges = source.ignore_merges();
  made->patterns = source.patterns();
  made->byte_ids.fill(-1);
  for (auto const& token : source.tokens()) {
    auto const id = static_cast<std::int32_t>(token.id);
    std::string bytes{token.text};
    if (token.added) {
      made->id_by_content.emplace(bytes, id);
      (token.normalized ? made->normalized_added : made->raw_added).add(bytes, id);
      if (token.normalized && made->nfc && !surely_nfc(bytes)) {
        not_supported(file, "added token " + in_quotes(bytes) + " may not be in NFC");
      }
    } else if (auto const meant = gpt2_alphabet.bytes(bytes)) {
      bytes = *meant;
      made->id_by_bytes.emplace(bytes, id);
      if (bytes.size() == 1) { made->byte_ids[static_cast<unsigned char>(bytes[0])] = id; }
    }
    made->bytes_by_id.push_back(std::move(bytes));
    made->special_by_id.push_back(token.special);
  }
  for (std::size_t byte = 0; byte < 256; ++byte) {
    if (made->byte_ids[byte] < 0) {
      throw file_error{file_fault::missing_byte, file,
                       "no token stands for byte " + std::to_string(byte),
                       "train with the whole byte-level alphabet (initial_alphabet)"};
    }
  }
  made->merges = source.merges();
  for (auto const& content : source.prefix()) {
    auto const known = made->id_by_content.find(content);
    if (known == made->id_by_content.end()) {
      throw file_error{file_fault::inconsistent, file,
                       "the post-processor puts " + in_quotes(content) +
                         " before a text, and no added token is so called"};
    }
    made->prefix.push_back(known->second);
  }
  return tokenizer{std::move(made)};
}

tokenizer tokenizer::open(std::string const& folder) {
  mapped_file const file{folder + "/tokenizer.json"};
  return from_json(file.text(), file.path());
}

std::vector<std::int32_t> tokenizer::encode(std::string_view text) const {
  tpx::expects(text.size() < longest_text, "a text of 2 GiB or more");
  tpx::expects(!tables_->nfc || surely_nfc(text),
               "the tokenizer asks for NFC, and the text may not be in it",
               "put the text into Unicode's normal form C before encoding it");
  std::vector<std::int32_t> ids;
  auto const with_literals = [&ids](std::string_view rest, literal_set const& literals,
                                    auto const& between) {
    while (auto const hit = literals.find(rest)) {
      between(rest.substr(0, hit->begin));
      ids.push_back(hit->id);
      rest.remove_prefix(hit->begin + hit->bytes);
    }
    between(rest);
  };
  // Hugging Face looks for all tokens that are matched before normalizing, then for the others.
  with_literals(text, tables_->raw_added, [&](std::string_view outer) {
    with_literals(outer, tables_->normalized_added, [&](std::string_view plain) {
      if (!plain.empty()) { tables_->encode_plain(plain, ids); }
    });
  });
  return ids;
}

std::string tokenizer::decode(std::span<std::int32_t const> ids, special shown) const {
  std::string text;
  for (auto const id : ids) {
    auto const index = tables_->checked(id);
    if (shown == special::Skip && tables_->special_by_id[index]) { continue; }
    text += tables_->bytes_by_id[index];
  }
  return text;
}

std::string_view tokenizer::bytes(std::int32_t id) const {
  return tables_->bytes_by_id[tables_->checked(id)];
}

bool tokenizer::is_special(std::int32_t id) const {
  return tables_->special_by_id[tables_->checked(id)];
}

std::string_view tokenizer::piece(std::int32_t id) const {
  return is_special(id) ? std::string_view{} : bytes(id);
}

std::optional<std::int32_t> tokenizer::find(std::string_view bytes) const {
  for (auto const* const map : {&tables_->id_by_content, &tables_->id_by_bytes}) {
    if (auto const found = map->find(bytes); found != map->end()) { return found->second; }
  }
  return {};
}

std::span<std::int32_t const> tokenizer::prefix() const noexcept {
  return tables_->prefix;
}

std::size_t tokenizer::size() const noexcept {
  return tables_->bytes_by_id.size();
}

std::string stream_decoder::push(std::int32_t id) {
  held_ += shown_ == special::Skip ? source_.piece(id) : source_.bytes(id);
  // A character that is still cut can only begin in the last 3 bytes.
  std::size_t ready = held_.size();
  for (std::size_t back = 1; back <= std::min<std::size_t>(3, held_.size()); ++back) {
    auto const begin = held_.size() - back;
    if (first_character(std::string_view{held_}.substr(begin)).cut) { ready = begin; }
  }
  std::string out = held_.substr(0, ready);
  held_.erase(0, ready);
  return out;
}

std::string stream_decoder::finish() {
  return std::exchange(held_, {});
}

}  // namespace llama
