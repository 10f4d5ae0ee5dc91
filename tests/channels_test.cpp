// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include <tpx/run_ranks.hpp>
#include <tpx/tensor_channel.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <deque>
#include <dirent.h>
#include <fstream>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;
using options = tpx::group_options;

/// Runs body(group) on each rank and gives back the error that each rank met, if any.
template <class F>
std::vector<std::optional<tpx::error>> errors_of(int size, options const& o, F body) {
  std::vector<std::optional<tpx::error>> met(static_cast<std::size_t>(size));
  auto guarded = [&](tpx::group& g) {
    auto const seat = static_cast<std::size_t>(g.rank());
    try {
      body(g);
    } catch (tpx::error const& e) { met[seat] = e; }
  };
  tpx::detail::run_threads(size, guarded, o);
  return met;
}

/// errors_of() for bodies that must not fail; the first error's text, or "".
template <class F>
std::string run(int size, F body, options const& o = {}) {
  try {
    tpx::detail::run_threads(size, body, o);
  } catch (tpx::error const& e) { return e.what(); }
  return "";
}

std::uint64_t mix(std::uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

struct command {
  std::uint64_t number;
  std::uint64_t content[4];
  friend bool operator==(command const&, command const&) = default;
};

command made(std::uint64_t n) {
  return {n, {mix(n), mix(n + 1), mix(n + 2), mix(n + 3)}};
}

void maybe_dawdle(std::mt19937& random) {
  auto const draw = random() % 4096;
  if (draw < 4) {
    std::this_thread::sleep_for(std::chrono::microseconds{draw * 100});
  } else if (draw < 40) {
    std::this_thread::yield();
  }
}

template <unsigned Slots>
int lost_messages(int size, std::uint64_t messages, int writer) {
  std::atomic<int> wrong = 0;
  auto const failed = run(size, [&](tpx::group& g) {
    tpx::command_channel<command, Slots> channel{g, writer};
    std::mt19937 random{static_cast<unsigned>(g.rank())};
    for (std::uint64_t n = 1; n <= messages; ++n) {
      maybe_dawdle(random);
      if (g.rank() == writer) {
        channel.send(made(n));
      } else if (channel.receive() != made(n)) {
        ++wrong;
      }
    }
    if (channel.count() != messages) { ++wrong; }
    g.exchange(0);
  });
  INFO(failed);
  REQUIRE(failed.empty());
  return wrong;
}

std::size_t entries(char const* folder) {
  std::size_t n = 0;
  auto* const d = ::opendir(folder);
  while (::readdir(d) != nullptr) { ++n; }
  ::closedir(d);
  return n;
}

std::size_t mappings() {
  std::ifstream maps{"/proc/self/maps"};
  std::size_t n = 0;
  for (std::string line; std::getline(maps, line);) {
    n += static_cast<std::size_t>(line.find("memfd:tpx") != std::string::npos);
  }
  return n;
}

double thread_cpu_seconds() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

}  // namespace

TEST_CASE("every reader gets every command, whole and in order", "[command]") {
  auto const size = GENERATE(1, 2, 4, 8);
  CHECK(lost_messages<1024>(size, 100'000, 0) == 0);
}

TEST_CASE("a ring of few slots loses nothing, whoever writes", "[command]") {
  auto const writer = GENERATE(0, 2);
  CHECK(lost_messages<1>(3, 500, writer) == 0);
  CHECK(lost_messages<2>(3, 1'000, writer) == 0);
  CHECK(lost_messages<8>(3, 5'000, writer) == 0);
}

TEST_CASE("channels of several writers do not mix", "[command]") {
  std::atomic<int> wrong = 0;
  auto const failed = run(4, [&](tpx::group& g) {
    std::deque<tpx::command_channel<command, 4>> from;
    for (int r = 0; r < g.size(); ++r) { from.emplace_back(g, r, "votes"); }
    auto const mine = static_cast<std::size_t>(g.rank());
    for (std::uint64_t n = 0; n < 500; ++n) {
      from[mine].send(made(n * 4 + mine));
      for (std::size_t r = 0; r < from.size(); ++r) {
        if (r != mine && from[r].receive() != made(n * 4 + r)) { ++wrong; }
      }
    }
  });
  CHECK(failed == "");
  CHECK(wrong == 0);
}

TEST_CASE("try_receive takes what is there and does not wait", "[command]") {
  std::atomic<int> wrong = 0;
  auto const failed = run(2, [&](tpx::group& g) {
    tpx::command_channel<int, 4> channel{g};
    if (g.rank() == 1 && channel.try_receive()) { ++wrong; }
    g.exchange(0);
    if (g.rank() == 0) {
      channel.send(7);
      channel.send(8);
    }
    g.exchange(0);
    if (g.rank() == 1) {
      if (channel.try_receive() != 7 || channel.receive() != 8) { ++wrong; }
      if (channel.try_receive()) { ++wrong; }
    }
  });
  CHECK(failed == "");
  CHECK(wrong == 0);
}

TEST_CASE("misuse of a channel is refused and changes nothing", "[command][tensor]") {
  std::atomic<int> refused = 0;
  std::atomic<int> wrong = 0;
  auto const failed = run(2, [&](tpx::group& g) {
    auto const refuses = [&](auto&& f) {
      try {
        f();
      } catch (tpx::error const& e) { refused += e.code() == tpx::errc::invalid_argument; }
    };
    refuses([&] { tpx::command_channel<int> c(g, 2); });
    refuses([&] { tpx::tensor_channel t(g, 0, 0); });
    tpx::command_channel<int> channel{g, 1};
    tpx::tensor_channel tensors{g, 1, 4096};
    float const x[1]{1.0f};
    if (g.rank() == 0) {
      refuses([&] { channel.send(1); });
      refuses([&] { tensors.send({x, {1}}); });
    } else {
      refuses([&] { static_cast<void>(channel.receive()); });
      refuses([&] { static_cast<void>(channel.try_receive()); });
      refuses([&] { static_cast<void>(tensors.receive()); });
      refuses([&] { tensors.send({x, {std::size_t{1} << 32, std::size_t{1} << 32}}); });
      refuses([&] { tensors.send({x, {std::size_t{1} << 40}}); });
      refuses([&] { tensors.send({static_cast<float const*>(nullptr), {1}}); });
      refuses([&] { tensors.send({x, {1, 1, 1, 1, 1, 1, 1, 1, 1}}); });
      struct two {
        float a, b;
      } const odd{};
      refuses([&] { tensors.send({&odd, {1}}); });
      tpx::tensor_view nine{x, {1}};
      nine.dims = 9;
      refuses([&] { tensors.send(nine); });
      channel.send(5);
      tensors.send({x, {1}});
    }
    if (g.rank() == 0) {
      wrong += channel.receive() != 5;
      auto const t = tensors.receive();
      wrong += t.as<float>()[0] != 1.0f;
      refuses([&] { static_cast<void>(t.as<std::int32_t>()); });
    }
  });
  CHECK(failed == "");
  CHECK(refused == 4 + 2 + 9 + 1);
  CHECK(wrong == 0);
}

TEST_CASE("a slow reader is named by every rank within the deadline", "[command]") {
  auto const begun = clock_type::now();
  auto const met = errors_of(3, {.deadline = 400ms}, [](tpx::group& g) {
    tpx::command_channel<int, 4> channel{g};
    if (g.rank() == 0) {
      for (int i = 0; i < 4; ++i) { channel.send(i); }
      std::this_thread::sleep_for(30ms);  // so that rank 1 is the first to run out of patience
      channel.send(4);
    }
    while (g.rank() == 1) { static_cast<void>(channel.receive()); }
    while (g.rank() == 2) {
      std::this_thread::sleep_for(10ms);
      g.check();
    }
  });
  CHECK(clock_type::now() - begun < 1400ms);
  for (auto const& e : met) {
    REQUIRE(e);
    INFO(e->what());
    CHECK(e->code() == tpx::errc::timeout);
    CHECK(e->peer() == 2);
    CHECK(e->operation() == "command_channel");
    CHECK(e->epoch() > 0);
  }
}

TEST_CASE("receive has the group's deadline, and receive(idle_forever) has none", "[command]") {
  std::atomic<int> got = 0;
  double cpu = 0;
  auto const met = errors_of(2, {.deadline = 60ms}, [&](tpx::group& g) {
    tpx::command_channel<int> channel{g, 0, "orders"};
    if (g.rank() == 0) {
      std::this_thread::sleep_for(500ms);
      channel.send(11);
      std::this_thread::sleep_for(1s);
      g.check();
    } else {
      auto const before = thread_cpu_seconds();
      got = channel.receive(tpx::idle_forever);
      cpu = thread_cpu_seconds() - before;
      static_cast<void>(channel.receive());
    }
  });
  CHECK(got == 11);
  CHECK(cpu < 0.05);
  REQUIRE(met[1]);
  CHECK(met[1]->code() == tpx::errc::timeout);
  CHECK(met[1]->peer() == 0);
  CHECK(met[1]->operation() == "orders");
  CHECK(std::string{met[1]->what()}.find("rank 0 has not sent message #2") != std::string::npos);
}

TEST_CASE("readers that wait for a writer that left are told so", "[command]") {
  clock_type::time_point left;
  std::atomic<bool> all_read = true;
  auto const met = errors_of(4, {}, [&](tpx::group& g) {
    tpx::command_channel<int> channel{g, 3};
    if (g.rank() == 3) {
      channel.send(1);
      channel.send(2);
      std::this_thread::sleep_for(100ms);
      left = clock_type::now();
      return;
    }
    if (channel.receive() != 1) { all_read = false; }
    if (channel.receive() != 2) { all_read = false; }
    static_cast<void>(channel.receive(tpx::idle_forever));
  });
  CHECK(clock_type::now() - left < 1s);
  CHECK(!met[3]);
  for (std::size_t r : {0u, 1u, 2u}) {
    REQUIRE(met[r]);
    INFO(met[r]->what());
    CHECK(met[r]->code() == tpx::errc::left);
    CHECK(met[r]->peer() == 3);
  }
  CHECK(all_read);
}

TEST_CASE("an abort wakes parked readers and stays until reset", "[command][tensor]") {
  clock_type::time_point aborted;
  std::atomic<int> prompt = 0, sticky = 0, stale = 0, fresh = 0;
  auto const failed = run(4, [&](tpx::group& g) {
    tpx::command_channel<int> channel{g};
    tpx::tensor_channel tensors{g, 0, 4096};
    std::uint8_t const byte[1]{9};
    auto const code_of = [](auto&& f) {
      try {
        f();
      } catch (tpx::error const& e) { return e.code(); }
      return tpx::errc::ok;
    };
    auto const use = [&](auto&& count, tpx::errc expected) {
      if (g.rank() == 0) {
        count += code_of([&] { channel.send(1); }) == expected;
        count += code_of([&] { tensors.send({byte, {1}}); }) == expected;
      } else {
        count +=
          code_of([&] { static_cast<void>(channel.receive(tpx::idle_forever)); }) == expected;
        count += code_of([&] { static_cast<void>(channel.try_receive()); }) == expected;
        count += code_of([&] { static_cast<void>(tensors.receive()); }) == expected;
      }
    };
    if (g.rank() == 3) {
      std::this_thread::sleep_for(100ms);
      aborted = clock_type::now();
      g.abort(tpx::errc::cuda, "the GPU fell off the bus");
    } else if (g.rank() != 0) {
      auto const code = code_of([&] { static_cast<void>(channel.receive(tpx::idle_forever)); });
      prompt += code == tpx::errc::cuda && clock_type::now() - aborted < 1s;
    } else {
      while (!g.me().aborted()) { std::this_thread::sleep_for(1ms); }
    }
    use(sticky, tpx::errc::cuda);
    g.reset();
    use(stale, tpx::errc::stale);
    tpx::command_channel<int> again{g};
    if (g.rank() == 0) {
      again.send(3);
    } else {
      fresh += again.receive() == 3;
    }
    g.exchange(0);
  });
  CHECK(failed == "");
  CHECK(prompt == 2);
  CHECK(sticky == 2 + 3 * 3);
  CHECK(stale == 2 + 3 * 3);
  CHECK(fresh == 3);
}

TEST_CASE("a reader that sleeps through a reset finds its channel stale", "[command]") {
  std::atomic<bool> woken = false, in_time = false;
  auto const met = errors_of(3, {.deadline = 400ms}, [&](tpx::group& g) {
    tpx::command_channel<int> channel{g};
    if (g.rank() == 2) {
      try {
        static_cast<void>(channel.receive(tpx::idle_forever));
      } catch (tpx::error const&) {
        woken = true;
        throw;
      }
      return;
    }
    std::this_thread::sleep_for(50ms);
    g.reset();
    for (int i = 0; i < 2000 && !woken; ++i) { std::this_thread::sleep_for(1ms); }
    if (woken) { in_time = true; }  // and not for the others' leaving
  });
  CHECK(!met[0]);
  CHECK(!met[1]);
  REQUIRE(met[2]);
  CHECK(met[2]->code() == tpx::errc::stale);
  CHECK(in_time);
}

namespace {

/// A tensor whose every byte follows from its number.
struct sample {
  std::vector<std::uint64_t> storage;
  tpx::tensor_view view;
};

std::vector<std::size_t> shape_for(std::uint64_t n, std::size_t elements) {
  std::vector<std::size_t> shape(mix(n) % 9, 1);
  if (shape.empty() && elements != 1) { shape.push_back(1); }
  for (std::size_t i = 0; i < shape.size() && elements != 0; ++i) {
    auto const factor = i + 1 == shape.size() ? elements
                        : elements % 2 == 0   ? std::size_t{2}
                                              : std::size_t{1};
    shape[i] = factor;
    elements /= factor;
  }
  if (elements == 0) { shape.back() = 0; }
  return shape;
}

sample make_sample(std::uint64_t n, std::size_t elements) {
  sample s;
  if (n % 29 == 7) { return s; }
  auto const type = static_cast<tpx::dtype>(mix(n * 3) % 12);
  s.storage.resize((elements * tpx::size_of(type) + 7) / 8);
  for (std::size_t i = 0; i < s.storage.size(); ++i) { s.storage[i] = mix(n + i * 977); }
  s.view = {reinterpret_cast<std::uint8_t const*>(s.storage.data()), shape_for(n, elements)};
  s.view.type = type;
  return s;
}

bool same(tpx::tensor_view const& got, tpx::tensor_view const& sent) {
  if (got.dims != sent.dims || got.type != sent.type || got.shape != sent.shape) { return false; }
  auto const bytes = sent.bytes();
  return got.bytes() == bytes && (bytes == 0 || std::memcmp(got.data, sent.data, bytes) == 0);
}

}  // namespace

TEST_CASE("tensors of all types and sizes arrive as they were sent", "[tensor]") {
  auto const size = GENERATE(1, 2, 4, 8);
  constexpr std::size_t sizes[]{0, 1, 2, 7, 8, 127, 128, 1000, 4096, 65'537};
  std::atomic<int> wrong = 0;
  auto const failed = run(size, [&](tpx::group& g) {
    tpx::tensor_channel channel{g, 0, 64 << 10};  // 65,537 elements do not fit, and many others
    for (std::uint64_t n = 0; n < 240; ++n) {
      auto const s = make_sample(n, sizes[mix(n * 7) % std::size(sizes)]);
      if (g.rank() == 0) {
        channel.send(s.view);
        continue;
      }
      auto const t = channel.receive();
      wrong += !same(t, s.view);
      wrong += static_cast<bool>(t) != static_cast<bool>(s.view);
      wrong += reinterpret_cast<std::uintptr_t>(t.data) % tpx::tensor_channel::alignment != 0;
    }
  });
  CHECK(failed == "");
  CHECK(wrong == 0);
}

TEST_CASE("a held tensor keeps its bytes while 10,000 others pass", "[tensor]") {
  auto const size = GENERATE(2, 4);
  std::atomic<int> wrong = 0;
  auto const failed = run(size, [&](tpx::group& g) {
    tpx::tensor_channel channel{g, size - 1, 64 << 10};
    std::mt19937 random{static_cast<unsigned>(g.rank()) + 1};
    struct kept {
      std::uint64_t number;
      tpx::shared_tensor tensor;
    };
    std::vector<kept> held;
    auto const elements = [](std::uint64_t n) { return mix(n * 13) % 400; };
    auto const drop = [&](std::size_t i) {
      wrong += !same(held[i].tensor, make_sample(held[i].number, elements(held[i].number)).view);
      std::swap(held[i], held.back());
      held.pop_back();
    };
    for (std::uint64_t n = 0; n < 10'000; ++n) {
      if (g.rank() == size - 1) {
        channel.send(make_sample(n, elements(n)).view);
        continue;
      }
      held.push_back({n, channel.receive()});
      maybe_dawdle(random);
      // The first stays until the end: what comes after goes around it.
      while (held.size() > 1 && (held.size() > 8 || random() % 2 == 0)) {
        drop(1 + random() % (held.size() - 1));
      }
    }
    while (!held.empty()) { drop(0); }
  });
  CHECK(failed == "");
  CHECK(wrong == 0);
}

TEST_CASE("a reader that holds too much is named", "[tensor]") {
  bool const many = GENERATE(true, false);
  auto const met = errors_of(3, {.deadline = 150ms}, [&](tpx::group& g) {
    tpx::tensor_channel channel{g, 0, 64 << 10};
    std::vector<std::uint8_t> const bytes(many ? 1 : 20'000, 5);
    std::vector<tpx::shared_tensor> held;
    for (;;) {
      if (g.rank() == 0) {
        channel.send({bytes.data(), {bytes.size()}});
        continue;
      }
      auto t = channel.receive(tpx::idle_forever);
      if (g.rank() == 2) { held.push_back(std::move(t)); }
    }
  });
  for (auto const& e : met) {
    REQUIRE(e);
    INFO(e->what());
    CHECK(e->code() == tpx::errc::timeout);
    CHECK(e->peer() == 2);
    CHECK(e->operation() == "tensor_channel");
    CHECK(std::string{e->what()}.find("rank 2 has not released tensor #1 after") !=
          std::string::npos);
  }
}

TEST_CASE("a received tensor outlives its channel and moves", "[tensor]") {
  std::atomic<int> wrong = 0;
  auto const failed = run(2, [&](tpx::group& g) {
    tpx::shared_tensor kept;
    double const values[2][3]{{1, 2, 3}, {4, 5, 6}};
    {
      tpx::tensor_channel channel{g, 1, 4096};
      if (g.rank() == 1) {
        channel.send({&values[0][0], {2, 3}});
      } else {
        auto t = channel.receive();
        kept = std::move(t);
        wrong += static_cast<bool>(t);  // NOLINT(bugprone-use-after-move): it says what is left
      }
      g.exchange(0);
    }
    g.exchange(0);
    if (g.rank() == 0) {
      auto const v = kept.as<double>();
      wrong += v.size() != 6 || v[5] != 6 || kept.dims != 2 || kept.shape[1] != 3;
      kept.release();
      kept.release();
      wrong += static_cast<bool>(kept) || kept.data != nullptr;
    }
  });
  CHECK(failed == "");
  CHECK(wrong == 0);
}

TEST_CASE("channels leave no descriptor and no mapping", "[command][tensor]") {
  auto const once = [](bool break_it) {
    return errors_of(3, {}, [&](tpx::group& g) {
      for (int i = 0; i < 10; ++i) {
        tpx::command_channel<command> commands{g};
        tpx::tensor_channel tensors{g, i % 3, 4096};
        std::vector<std::uint8_t> const large(10'000, 1);
        if (g.rank() == i % 3) {
          tensors.send({large.data(), {large.size()}});
          tensors.send({large.data(), {100}});
        } else {
          auto const a = tensors.receive();
          auto const b = tensors.receive();
        }
        if (break_it && i == 5) { g.abort(tpx::errc::io, "broken"); }
      }
    });
  };
  static_cast<void>(once(false));
  auto const files = entries("/proc/self/fd");
  auto const maps = mappings();
  for (int i = 0; i < 5; ++i) {
    auto const met = once(i % 2 == 1);
    CHECK(met[0].has_value() == (i % 2 == 1));
  }
  CHECK(entries("/proc/self/fd") == files);
  CHECK(mappings() == maps);
}

namespace {

/// Ranks as threads whose shared memory a test can reach, as a broken peer would.
class open_world final : public tpx::world {
 public:
  explicit open_world(int size) : inner_{size} {}
  tpx::control_block& control() override { return inner_.control(); }
  bool processes() const override { return false; }
  void offer(tpx::member const& me, std::shared_ptr<void> const& memory, int fd) override {
    {
      std::lock_guard const lock{mutex_};
      offered_.push_back(std::static_pointer_cast<tpx::shared_memory>(memory));
    }
    inner_.offer(me, memory, fd);
  }
  tpx::handed take(tpx::member const& me, int from) override { return inner_.take(me, from); }
  /// The memory that was shared i-th.
  std::span<std::uint64_t> memory(std::size_t i) {
    std::lock_guard const lock{mutex_};
    auto const m = offered_.at(i).lock();
    return {reinterpret_cast<std::uint64_t*>(m->data()), m->bytes() / 8};
  }

 private:
  tpx::thread_world inner_;
  std::mutex mutex_;
  std::vector<std::weak_ptr<tpx::shared_memory>> offered_;
};

template <class F>
void run_open(int size, std::chrono::milliseconds deadline, F body) {
  auto const w = std::make_shared<open_world>(size);
  std::vector<std::jthread> threads;
  for (int r = 0; r < size; ++r) {
    threads.emplace_back([&, r] {
      tpx::group g{w, r, size, {.deadline = deadline}};
      auto guarded = [&](tpx::group& group) { body(group, *w); };
      tpx::detail::run_rank(g, guarded, [](auto&&) {});
    });
  }
}

/// What tensor_channel puts into its ring; the layout is its own affair and is repeated here.
struct wire_tensor {
  std::uint64_t number, offset, bytes, shape[8];
  std::uint32_t type;
  std::int32_t dims;
  std::uint32_t slot, where;
};
constexpr std::size_t ring_begins = 16 * 64 / 8;  // words: a line for each of 16 ranks comes first
constexpr std::size_t tensor_stride = 128 / 8;

}  // namespace

TEST_CASE("garbage in a command ring gives an error or the commands that were sent", "[hostile]") {
  std::atomic<int> forged = 0, failed = 0, bad_code = 0, fine = 0;
  for (unsigned seed = 0; seed < 1'000; ++seed) {
    run_open(3, 30ms, [&](tpx::group& g, open_world& w) {
      std::mt19937_64 random{seed};  // the same draws on each rank
      tpx::command_channel<command, 4> channel{g};
      auto const sent = random() % 5;
      auto const read = sent == 0 ? 0 : random() % (sent + 1);
      std::uint64_t n = 1;
      for (; n <= sent && g.rank() == 0; ++n) { channel.send(made(n)); }
      g.exchange(0);
      for (; n <= read && g.rank() != 0; ++n) { static_cast<void>(channel.receive()); }
      g.exchange(0);
      bool const counters_only = seed % 2 == 0;
      auto const memory = w.memory(0);
      for (auto words = 1 + random() % 6; words > 0; --words) {
        auto const line = random() % (memory.size() / 8);
        auto const at = line * 8 + (counters_only ? 0 : random() % 8);
        auto const draw = random();
        auto const value = counters_only       ? (draw % 4 == 0 ? 0 : draw | 1u << 20)
                           : random() % 2 == 0 ? draw
                                               : draw % 10;
        if (g.rank() == 2) { memory[at] = value; }
      }
      g.exchange(0);
      try {
        for (; n <= sent + 10; ++n) {
          if (g.rank() == 0) {
            channel.send(made(n));
          } else if (channel.receive() != made(n) && counters_only) {
            ++forged;
          }
        }
        ++fine;
      } catch (tpx::error const& e) {
        ++failed;
        bad_code += e.code() != tpx::errc::mismatch && e.code() != tpx::errc::timeout &&
                    e.code() != tpx::errc::left;
      }
    });
  }
  CHECK(forged == 0);
  CHECK(bad_code == 0);
  CHECK(failed > 100);
  CHECK(fine > 100);
}

TEST_CASE("garbage in a tensor channel never leads outside its arena", "[hostile]") {
  constexpr std::size_t arena = 8 << 10;
  std::atomic<int> outside = 0, refused = 0, accepted = 0, bad_code = 0;
  std::atomic<std::uint64_t> sum = 0;
  for (unsigned seed = 0; seed < 1'000; ++seed) {
    run_open(3, 30ms, [&](tpx::group& g, open_world& w) {
      std::mt19937_64 random{seed};
      tpx::tensor_channel channel{g, 0, arena};
      std::vector<tpx::shared_tensor> held;
      auto const shared = w.memory(1);
      auto const* const first = reinterpret_cast<std::byte const*>(shared.data());
      auto const* const last = first + shared.size_bytes();
      auto const check = [&](tpx::shared_tensor t) {
        if (!t) { return; }
        outside += t.dims > 8 || tpx::size_of(t.type) == 0 || t.data < first || t.data > last ||
                   t.bytes() > static_cast<std::size_t>(last - t.data);
        for (std::size_t i = 0; i < t.bytes(); ++i) { sum += static_cast<unsigned>(t.data[i]); }
        ++accepted;
        held.push_back(std::move(t));
        if (held.size() > 3) { held.erase(held.begin()); }
      };
      std::uint64_t n = 0;
      if (g.rank() == 0) {
        for (; n < 3; ++n) { channel.send(make_sample(n, 64).view); }
      }
      g.exchange(0);
      auto const commands = w.memory(0);
      for (auto words = 1 + random() % 3; words > 0; --words) {
        bool const released = random() % 4 == 0;
        auto const field = random() % tensor_stride;
        auto const at = released ? random() % (16 * 128)
                                 : ring_begins + (1 + random() % 4) * tensor_stride + field;
        constexpr std::uint64_t sly[]{0,
                                      1,
                                      2,
                                      8,
                                      128,
                                      8064,
                                      8192,
                                      1u << 31,
                                      std::uint64_t{1} << 32,
                                      ~std::uint64_t{0},
                                      arena - 1,
                                      ~std::uint64_t{127}};
        auto const value = random() % 4 == 0 ? random() : sly[random() % std::size(sly)];
        if (g.rank() == 1) { (released ? shared : commands)[at] = value; }
      }
      g.exchange(0);
      try {
        for (int i = 0; i < 20; ++i) {
          if (g.rank() != 0) {
            check(channel.receive());
          } else if (i >= 3) {
            channel.send(make_sample(n++, 64).view);
          }
        }
      } catch (tpx::error const& e) {
        ++refused;
        bad_code += e.code() != tpx::errc::mismatch && e.code() != tpx::errc::timeout &&
                    e.code() != tpx::errc::left;
      }
    });
  }
  CHECK(outside == 0);
  CHECK(bad_code == 0);
  CHECK(refused > 100);
  CHECK(accepted > 100);
}

TEST_CASE("each lie of a tensor descriptor is named", "[hostile]") {
  struct lie {
    char const* says;
    void (*tell)(wire_tensor&);
    tpx::errc code = tpx::errc::mismatch;
  };
  auto const l = GENERATE(
    lie{"number 2", [](wire_tensor& d) { d.number = 2; }},
    lie{"9 dimensions", [](wire_tensor& d) { d.dims = 9; }},
    lie{"-2 dimensions", [](wire_tensor& d) { d.dims = -2; }},
    lie{"element type 13", [](wire_tensor& d) { d.type = 13; }},
    lie{"element type 4294967295", [](wire_tensor& d) { d.type = ~0u; }},
    lie{"1001 bytes", [](wire_tensor& d) { d.bytes = 1001; }},
    lie{"which its shape has not",
        [](wire_tensor& d) { d.shape[0] = d.shape[1] = std::uint64_t{1} << 32; }},
    lie{"which its shape has not",
        [](wire_tensor& d) {
          d.shape[0] = d.shape[1] = std::uint64_t{1} << 32;
          d.bytes = 0;
        }},
    lie{"offset 8000000000 + 1000", [](wire_tensor& d) { d.offset = 8'000'000'000; }},
    lie{"offset 3200 + 1000", [](wire_tensor& d) { d.offset = 3200; }},
    lie{"offset 64 + 1000", [](wire_tensor& d) { d.offset = 64; }},
    lie{"offset 18446744073709551488", [](wire_tensor& d) { d.offset = ~std::uint64_t{127}; }},
    lie{"slot 128", [](wire_tensor& d) { d.slot = 128; }},
    lie{"place 3", [](wire_tensor& d) { d.where = 3; }},
    lie{"place 4", [](wire_tensor& d) { d.where = 4; }},
    lie{"place 77", [](wire_tensor& d) { d.where = 77; }},
    lie{"share(4100 x uint8)",
        [](wire_tensor& d) {  // consistent, but the producer does not come to share it
          d.shape[0] = 41;
          d.bytes = 4100;
          d.where = 3;
        },
        tpx::errc::timeout});
  std::string told;
  auto code = tpx::errc::ok;
  run_open(2, 50ms, [&](tpx::group& g, open_world& w) {
    tpx::tensor_channel channel{g, 0, 4096};
    std::vector<std::uint8_t> const data(1000, 3);
    if (g.rank() == 0) {
      channel.send({data.data(), {10, 100}});
      auto const at = w.memory(0).subspan(ring_begins + tensor_stride + 1);
      wire_tensor d;
      std::memcpy(&d, at.data(), sizeof d);
      l.tell(d);
      std::memcpy(at.data(), &d, sizeof d);
    }
    g.exchange(0);
    if (g.rank() == 0) {
      while (!g.me().aborted()) { std::this_thread::sleep_for(1ms); }
      return;
    }
    try {
      static_cast<void>(channel.receive());
    } catch (tpx::error const& e) {
      told = e.what();
      code = e.code();
    }
    if (!g.me().aborted()) { g.abort(tpx::errc::io, "no lie was found"); }
  });
  INFO(told);
  CHECK(code == l.code);
  CHECK(told.find(l.says) != std::string::npos);
}

namespace {

/// Exit codes of a process a rank: what body(group) returns, 100 + the code of its error, or 200 +
/// the signal that killed it.
template <class F>
std::vector<int> run_processes(int size, F body) {
  static int jobs = 0;
  auto const job = "channels_test " + std::to_string(::getpid()) + ' ' + std::to_string(++jobs);
  std::vector<pid_t> pids;
  for (int r = 0; r < size; ++r) {
    auto const pid = ::fork();
    if (pid != 0) {
      pids.push_back(pid);
      continue;
    }
    ::setenv("TPX_RANK", std::to_string(r).c_str(), 1);
    ::setenv("TPX_WORLD_SIZE", std::to_string(size).c_str(), 1);
    ::setenv("TPX_JOB", job.c_str(), 1);
    int code = 0;
    try {
      tpx::run_ranks(size, [&](tpx::group& g) { code = body(g); });
    } catch (tpx::error const& e) { code = 100 + static_cast<int>(e.code()); }
    ::_exit(code);
  }
  std::vector<int> codes;
  for (auto const pid : pids) {
    int status = 0;
    ::waitpid(pid, &status, 0);
    codes.push_back(WIFEXITED(status) ? WEXITSTATUS(status) : 200 + WTERMSIG(status));
  }
  return codes;
}

}  // namespace

TEST_CASE("channels work between processes", "[process]") {
  auto const codes = run_processes(3, [](tpx::group& g) {
    tpx::command_channel<command, 16> commands{g, 1};
    tpx::tensor_channel tensors{g, 2, 16 << 10};
    int wrong = 0;
    for (std::uint64_t n = 1; n <= 20'000; ++n) {
      if (g.rank() == 1) {
        commands.send(made(n));
      } else {
        wrong += commands.receive() != made(n);
      }
    }
    std::deque<std::pair<std::uint64_t, tpx::shared_tensor>> held;
    for (std::uint64_t n = 0; n < 500; ++n) {
      auto const s = make_sample(n, n % 50 == 3 ? 20'000 : mix(n) % 300);
      if (g.rank() == 2) {
        tensors.send(s.view);
      } else {
        held.emplace_back(n, tensors.receive());
        if (held.size() > 5) {
          auto const m = held.front().first;
          auto const expected = make_sample(m, m % 50 == 3 ? 20'000 : mix(m) % 300);
          wrong += !same(held.front().second, expected.view);
          held.pop_front();
        }
      }
    }
    return std::min(wrong, 99);
  });
  CHECK(codes == std::vector<int>{0, 0, 0});
}

TEST_CASE("a process that waits for a writer that left is told so", "[process]") {
  auto const codes = run_processes(3, [](tpx::group& g) {
    tpx::command_channel<int> channel{g};
    if (g.rank() != 0) { return channel.receive(tpx::idle_forever); }
    std::this_thread::sleep_for(50ms);
    return 0;
  });
  CHECK(codes == std::vector<int>{0, 100 + static_cast<int>(tpx::errc::left),
                                  100 + static_cast<int>(tpx::errc::left)});
}

TEST_CASE("a process that waits for a writer that was killed is told so", "[process]") {
  auto const begun = clock_type::now();
  auto const codes = run_processes(3, [](tpx::group& g) {
    tpx::command_channel<int> channel{g};
    if (g.rank() != 0) { return channel.receive(tpx::idle_forever); }
    std::this_thread::sleep_for(100ms);
    ::raise(SIGKILL);
    return 0;
  });
  CHECK(codes == std::vector<int>{200 + SIGKILL, 100 + static_cast<int>(tpx::errc::peer_died),
                                  100 + static_cast<int>(tpx::errc::peer_died)});
  CHECK(clock_type::now() - begun < 5s);
}
