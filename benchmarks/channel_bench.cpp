// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// What the channels between ranks cost on this machine, with threads as ranks.
#include <tpx/run_ranks.hpp>
#include <tpx/tensor_channel.hpp>

#include <algorithm>
#include <cstdio>
#include <deque>
#include <sys/resource.h>
#include <vector>

namespace {

using clock_type = std::chrono::steady_clock;

double seconds_since(clock_type::time_point t) {
  return std::chrono::duration<double>(clock_type::now() - t).count();
}

struct command {
  std::uint64_t number;
  std::uint64_t arguments[5];
};

template <class F>
void on_ranks(int size, F body) {
  tpx::detail::run_threads(size, body, {});
}

/// Rank 0 sends a command to all, each answers on a channel of its own; half of that is a hop.
void hop(int size) {
  constexpr int rounds = 20'000;
  std::vector<double> micros;
  on_ranks(size, [&](tpx::group& g) {
    tpx::command_channel<command> orders{g};
    std::deque<tpx::command_channel<command>> answers;
    for (int r = 1; r < size; ++r) { answers.emplace_back(g, r, "answers"); }
    for (std::uint64_t n = 0; n < rounds; ++n) {
      if (g.rank() == 0) {
        auto const begun = clock_type::now();
        orders.send({n, {}});
        for (auto& a : answers) { static_cast<void>(a.receive()); }
        micros.push_back(seconds_since(begun) * 1e6 / 2);
      } else {
        answers[static_cast<std::size_t>(g.rank()) - 1].send(orders.receive());
        for (int r = 1; r < size; ++r) {  // every rank reads every channel
          if (r != g.rank()) {
            static_cast<void>(answers[static_cast<std::size_t>(r) - 1].receive());
          }
        }
      }
    }
  });
  std::sort(micros.begin(), micros.end());
  std::printf("hop, %2d ranks            median %8.2f us   p90 %8.2f us   p99 %8.2f us\n", size,
              micros[rounds / 2], micros[rounds * 9 / 10], micros[rounds * 99 / 100]);
}

void stream(int size) {
  constexpr std::uint64_t messages = 500'000;
  double seconds = 0;
  on_ranks(size, [&](tpx::group& g) {
    tpx::command_channel<command> orders{g};
    g.exchange(0);
    auto const begun = clock_type::now();
    for (std::uint64_t n = 0; n < messages; ++n) {
      if (g.rank() == 0) {
        orders.send({n, {}});
      } else {
        static_cast<void>(orders.receive());
      }
    }
    g.exchange(0);
    if (g.rank() == 0) { seconds = seconds_since(begun); }
  });
  std::printf("stream, %2d ranks         %.2f M commands/s\n", size,
              static_cast<double>(messages) / seconds / 1e6);
}

void tensors(int size, std::size_t bytes) {
  auto const count = std::clamp<std::size_t>((std::size_t{1} << 30) / bytes, 20, 50'000);
  double seconds = 0;
  on_ranks(size, [&](tpx::group& g) {
    tpx::tensor_channel channel{g};
    std::vector<std::uint8_t> const data(bytes, 1);
    g.exchange(0);
    auto const begun = clock_type::now();
    for (std::size_t n = 0; n < count; ++n) {
      if (g.rank() == 0) {
        channel.send({data.data(), {bytes}});
      } else {
        auto const t = channel.receive();
      }
    }
    g.exchange(0);
    if (g.rank() == 0) { seconds = seconds_since(begun); }
  });
  auto const each = seconds / static_cast<double>(count);
  std::printf("tensor, %2d ranks, %9zu bytes   %10.2f us each   %6.2f GB/s\n", size, bytes,
              each * 1e6, static_cast<double>(bytes) / each / 1e9);
}

void idle(int size) {
  std::vector<double> share(static_cast<std::size_t>(size));
  std::vector<double> wake(static_cast<std::size_t>(size));
  clock_type::time_point sent;
  on_ranks(size, [&](tpx::group& g) {
    tpx::command_channel<command> orders{g};
    auto const me = static_cast<std::size_t>(g.rank());
    if (g.rank() == 0) {
      std::this_thread::sleep_for(std::chrono::seconds{1});
      sent = clock_type::now();
      orders.send({});
      return;
    }
    auto const cpu = [] {
      rusage u{};
      ::getrusage(RUSAGE_THREAD, &u);
      return static_cast<double>(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
             static_cast<double>(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
    };
    auto const before = cpu();
    static_cast<void>(orders.receive(tpx::idle_forever));
    wake[me] = seconds_since(sent) * 1e6;
    share[me] = cpu() - before;
  });
  std::printf(
    "parked 1 s, %2d ranks     %.2f %% of a core a reader at most, woken in %.0f us at most\n",
    size, *std::max_element(share.begin(), share.end()) * 100,
    *std::max_element(wake.begin(), wake.end()));
}

}  // namespace

int main() {
  std::printf("%u cores\n", std::thread::hardware_concurrency());
  for (int const size : {2, 4}) { hop(size); }
  for (int const size : {2, 4}) { stream(size); }
  for (std::size_t const bytes : {4096u, 1u << 20, 64u << 20, 65u << 20}) { tensors(2, bytes); }
  for (int const size : {2, 4}) { idle(size); }
}
