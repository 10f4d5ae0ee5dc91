// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/config.hpp>
#include <tpx/error.hpp>

#include <atomic>
#include <cstdint>
#include <type_traits>

namespace tpx {

/// Where a rank is in its life. Each rank writes its own, and only upwards within a generation.
enum class rank_state : std::uint32_t { absent, live, left };

/// What one rank found wrong, as plain bytes that outlive it.
struct failure {
  errc code = errc::ok;
  std::int32_t reporter = -1;
  std::int32_t peer = -1;  // the culprit, -1 unknown
  std::uint64_t epoch = 0;
  char operation[88] = {};  // zero-terminated
  char message[296] = {};   // zero-terminated
};

/// What each rank last called on one communicator, and whom it waits for. One writer an entry.
struct ledger {
  static constexpr int depth = 4;
  struct alignas(cache_line) entry {
    std::uint64_t epoch[depth];      // call number whose signature stands in the same place
    std::uint64_t signature[depth];  // call_signature::pack()
    std::uint64_t latest;            // newest call number, stored last
    std::uint64_t waiting_on;        // rank + 1 once it has slept for one, 0 otherwise
  };
  entry rank[max_ranks];
};

/// The shared state of a group: plain data, one writer a word, in memory all its ranks map.
///
/// Zero bytes are a valid start. The words that a CPU alone reads and writes (bells, dead, claim)
/// are the exceptions to one writer a word; their comments say why that is safe.
struct control_block {
  static constexpr std::uint64_t magic_value = 0x31306b6c62787074;  // "tpxblk01"

  std::uint64_t magic;
  std::int32_t world;  // ranks at start; never changes

  struct alignas(cache_line) rank_block {
    std::uint32_t state;          // rank_state
    std::int32_t pid;             // of the process that runs it
    std::uint64_t claimed;        // generation; threads of one rank race for it by compare-exchange
    std::uint64_t aborted;        // generation that this rank ended; stored after `what`
    std::uint64_t came_to_reset;  // generation that this rank asks to begin
    failure what;
  };
  rank_block rank[max_ranks];

  /// A sleeping rank's futex. One thread of a rank sleeps at a time; a second one may oversleep by
  /// a nap, 32 ms at most. The sleeper stores 1; whoever wakes it stores 0: both may, since a
  /// wake-up too many only makes it look again.
  struct alignas(cache_line) bell {
    std::uint32_t asleep;
  };
  bell bells[max_ranks];

  /// 1 once any monitor saw the rank's process end. Idempotent, so any rank may store it.
  struct alignas(cache_line) death {
    std::uint32_t seen;
  };
  death dead[max_ranks];

  /// Whose report ended the newest generation that ended: the first to publish one, by
  /// compare-exchange, so that all ranks tell of the same.
  struct alignas(cache_line) {
    std::uint64_t report;  // generation << 8 | starting rank
  } first;

  /// The newest generation and who is in it: whichever rank decides a reset first writes both as
  /// one word, by compare-exchange, so that a rank that dies or stops meanwhile leaves no half.
  struct alignas(cache_line) {
    std::uint64_t decided;  // generation << max_ranks | bit r: starting rank r is in
  } verdict;

  /// A word that each rank shows all others in operations on the group itself, by call parity.
  struct alignas(cache_line) post {
    std::uint64_t posted;  // call number, stored last
    std::uint64_t signature[2];
    std::uint64_t value[2];
  };
  post posts[max_ranks];
  ledger calls;  // of those operations
};
static_assert(std::is_trivially_copyable_v<control_block>);

/// std::atomic_ref of any word of the above.
template <class T>
[[nodiscard]] std::atomic_ref<T> word(T& w) noexcept {
  return std::atomic_ref<T>{w};
}

}  // namespace tpx
