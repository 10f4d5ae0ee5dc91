// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/log.hpp>
#include <tpx/runtime/control_block.hpp>
#include <tpx/runtime/launch_environment.hpp>
#include <tpx/runtime/unix_socket.hpp>

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace tpx::detail {

/// What the ranks of a job say to rank 0, and rank 0 to them, until all share one control block.
///
///   rank r                         rank 0
///   hello      ->                              its rank, the size it was started with, the job
///              <-   accepted                   from here on silence means trouble
///              <-   welcome + descriptors      once all came: control block, sockets, pidfds
///   ready      ->                              all is mapped; or `refused`, with the reason
///              <-   go                         once all are ready
/// At any time `refused` with a reason ends the start-up, and rank 0 hands it on to all.
enum class rendezvous_step : std::uint32_t { hello = 1, accepted, welcome, ready, go, refused };

struct rendezvous_message {
  static constexpr std::uint64_t magic_value = 0x31306d6a6c787074;  // "tpxljm01"
  static constexpr std::uint32_t layout_version = 1;

  std::uint64_t magic = magic_value;
  std::uint32_t version = layout_version;
  std::uint32_t bytes = sizeof(control_block);  // of what will be mapped: builds must agree
  rendezvous_step step{};
  std::int32_t rank = -1;
  std::int32_t size = 0;
  std::int32_t peer = -1;  // refused: whose fault
  errc code = errc::ok;    // refused: why
  std::uint32_t reserved = 0;
  std::uint64_t job[2] = {};
  std::int32_t pids[max_ranks] = {};  // welcome: of all ranks
  char text[288] = {};                // refused: why, zero-terminated

  [[nodiscard]] static rendezvous_message refusal(error const& e) {
    rendezvous_message no;
    no.step = rendezvous_step::refused;
    no.peer = e.peer();
    no.code = e.code();
    // Where it was found and by whom is told again by the error made of this.
    std::string_view why = e.what();
    for (auto const& told : {std::string{name(e.code())}, "rank " + std::to_string(e.rank())}) {
      auto const at = why.find(told + ": ");
      if (at != why.npos) { why.remove_prefix(at + told.size() + 2); }
    }
    std::memcpy(no.text, why.data(), std::min(why.size(), sizeof(no.text) - 1));
    return no;
  }
  [[nodiscard]] std::string explanation() const {
    return std::string{text, ::strnlen(text, sizeof(text))};
  }
};
static_assert(std::is_trivially_copyable_v<rendezvous_message>);

/// Where the ranks of a job meet for the `attempt`-th time, and the word by which they know it.
///
/// The socket's name is public, so it is a digest of the job's key and not the key; 64-bit FNV-1a,
/// with another start for each use.
struct rendezvous_point {
  std::uint64_t job[2];
  std::string name;

  explicit rendezvous_point(std::string_view key, unsigned attempt)
      : job{digest(key, attempt, 1), digest(key, attempt, 2)} {
    name = "tpx-" + std::to_string(::geteuid()) + '-' + std::to_string(digest(key, attempt, 3));
  }

 private:
  static std::uint64_t digest(std::string_view key, unsigned attempt, std::uint64_t use) {
    std::uint64_t hash = 0xcbf29ce484222325u + use * 0x9e3779b97f4a7c15u;
    auto const mix = [&](unsigned char c) { hash = (hash ^ c) * 0x100000001b3u; };
    for (char c : key) { mix(static_cast<unsigned char>(c)); }
    for (; attempt != 0; attempt >>= 8) { mix(static_cast<unsigned char>(attempt)); }
    return hash ^ hash >> 32;
  }
};

/// What a rank holds once all have met.
struct rendezvous_result {
  std::optional<shared_memory> control;
  std::array<unique_fd, max_ranks> sockets;  // to each other rank
  std::array<unique_fd, max_ranks> pidfds;   // of each other rank
  std::array<int, max_ranks> pids{};
};

/// A connected pair of sockets for each two ranks: [r][q] is what r talks to q by.
[[nodiscard]] inline std::vector<std::array<unique_fd, max_ranks>> make_mesh(int size) {
  auto const ranks = static_cast<std::size_t>(size);
  std::vector<std::array<unique_fd, max_ranks>> mesh(ranks);
  for (std::size_t r = 0; r < ranks; ++r) {
    for (std::size_t q = r + 1; q < ranks; ++q) {
      int pair[2];
      if (::socketpair(AF_UNIX, SOCK_SEQPACKET | socket_flags, 0, pair) != 0) {
        throw system_error("socketpair", "raise the limit on open files");
      }
      mesh[r][q] = unique_fd{pair[0]};
      mesh[q][r] = unique_fd{pair[1]};
    }
  }
  return mesh;
}

inline int send_message(unique_fd const& to, rendezvous_message const& m,
                        std::span<int const> fds = {}) {
  return send_message(to, std::as_bytes(std::span{&m, 1}), fds);
}

/// Whether `got` is a whole message of ours, of whatever version.
[[nodiscard]] inline bool well_formed(received const& got, rendezvous_message const& m) {
  bool const other_version = got.bytes >= 16 && m.version != rendezvous_message::layout_version;
  bool const whole = got.bytes == static_cast<long>(sizeof(m)) && got.complete;
  return (whole || other_version) && m.magic == rendezvous_message::magic_value;
}

[[nodiscard]] inline std::string process_word(int pid) {
  return "pid " + std::to_string(pid);
}

[[nodiscard]] inline std::string milliseconds(std::uint64_t ns) {
  return std::to_string(ns / 1'000'000) + " ms";
}

}  // namespace tpx::detail
