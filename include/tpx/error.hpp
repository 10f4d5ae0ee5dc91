// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cuda/std/source_location>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace tpx {

/// What kind of thing went wrong. `name(errc)` gives its word.
enum class errc : std::uint32_t {
  ok,                ///< nothing
  invalid_argument,  ///< the caller's fault, found before anything was changed
  mismatch,          ///< a rank called with another operation, size or type than the others
  timeout,           ///< a rank did not arrive within the deadline
  left,              ///< a rank returned while others still waited for it
  peer_died,         ///< a rank's process ended without leaving the group
  rank_failed,       ///< a rank threw
  stale,             ///< made before the group's last reset()
  out_of_memory,     ///< memory, shared memory or descriptors ran out
  io,                ///< the operating system refused a call
  bad_file,          ///< a file breaks its format
  unsupported,       ///< not to be had in this build or on this machine
  cuda,              ///< the CUDA runtime reported an error
  nccl,              ///< NCCL reported an error
};

[[nodiscard]] constexpr std::string_view name(errc code) noexcept {
  constexpr std::string_view names[]{
    "ok",    "invalid_argument", "mismatch", "timeout",  "left",        "peer_died", "rank_failed",
    "stale", "out_of_memory",    "io",       "bad_file", "unsupported", "cuda",      "nccl"};
  return names[static_cast<std::uint32_t>(code)];
}

/// What is known besides the message; -1, 0 and "" mean unknown or not meant.
struct error_facts {
  int rank = -1;               // who reports
  int peer = -1;               // whose fault it is
  std::string operation = {};  // "allreduce(1000 x float32, sum)"
  std::uint64_t epoch = 0;     // the operation's number on its communicator, from 1
  std::string remedy = {};     // what the caller can do
};

/// The one exception that tpx throws.
///
/// `what()` is one line for people: where it was found, which rank met it in which operation, what
/// happened, and how to mend it. The members say the same to a program.
class error : public std::runtime_error {
 public:
  error(errc code, std::string_view message, error_facts known = {},
        cuda::std::source_location where = cuda::std::source_location::current())
      : std::runtime_error{compose(code, message, known, where)},
        code_{code},
        message_{message},
        known_{std::move(known)},
        where_{where} {}

  error(errc code, std::string_view message, cuda::std::source_location where)
      : error{code, message, error_facts{}, where} {}

  /// The same error, as met by rank `rank`, whose fault it is unless it says whose.
  [[nodiscard]] error on_rank(int rank) const {
    error_facts facts = known_;
    facts.rank = rank;
    if (facts.peer < 0) { facts.peer = rank; }
    return error{code_, message_, std::move(facts), where_};
  }

  [[nodiscard]] errc code() const noexcept { return code_; }
  [[nodiscard]] int rank() const noexcept { return known_.rank; }
  [[nodiscard]] int peer() const noexcept { return known_.peer; }
  [[nodiscard]] std::string const& operation() const noexcept { return known_.operation; }
  [[nodiscard]] std::uint64_t epoch() const noexcept { return known_.epoch; }
  [[nodiscard]] std::string const& remedy() const noexcept { return known_.remedy; }
  [[nodiscard]] cuda::std::source_location where() const noexcept { return where_; }

 private:
  static std::string compose(errc code, std::string_view message, error_facts const& known,
                             cuda::std::source_location where) {
    std::string_view file = where.file_name();
    file.remove_prefix(file.rfind('/') + 1);
    std::string text{file};
    text += ':' + std::to_string(where.line()) + ": ";
    text += name(code);
    text += ": ";
    if (known.rank >= 0) { text += "rank " + std::to_string(known.rank) + ": "; }
    if (!known.operation.empty()) {
      text += known.operation;
      if (known.epoch != 0) { text += " #" + std::to_string(known.epoch); }
      text += ": ";
    }
    text += message;
    if (!known.remedy.empty()) { text += " (" + known.remedy + ')'; }
    return text;
  }

  errc code_;
  std::string message_;
  error_facts known_;
  cuda::std::source_location where_;
};

/// Throws `invalid_argument` with what `message()` returns unless `condition` holds; costs a branch
/// if it does.
template <class Message>
requires std::is_invocable_r_v<std::string, Message&>
void expects(bool condition, Message&& message, std::string_view remedy = "",
             cuda::std::source_location where = cuda::std::source_location::current()) {
  if (!condition) {
    throw error{errc::invalid_argument, message(), {.remedy = std::string{remedy}}, where};
  }
}

/// The same with a message that is there already.
inline void expects(bool condition, std::string_view message, std::string_view remedy = "",
                    cuda::std::source_location where = cuda::std::source_location::current()) {
  if (!condition) {
    throw error{errc::invalid_argument, message, {.remedy = std::string{remedy}}, where};
  }
}

}  // namespace tpx
