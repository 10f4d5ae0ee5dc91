// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Mixed collectives without end, each with new data that one kernel makes and another one checks on
// the GPU: every collective, transport and topology, random sizes, eager calls and replayed graphs,
// and ranks whose hosts stumble at random.
//
//   soak [--ranks N] [--minutes M] [--millions C] [--seed S]
//
// Ends after M minutes or C million collectives (default: 1 minute), with 0 if all were right.
// Under tpx-run each process is a rank.
#include "gpus.cuh"

#include <cstdio>
#include <memory>
#include <random>
#include <string_view>
#include <thread>

namespace {

using namespace gpus;
using clock = std::chrono::steady_clock;

struct soak_options {
  int ranks = 0;
  double minutes = 0;
  double millions = 0;
  unsigned seed = 1;
};

/// What all ranks draw alike.
class dice {
 public:
  explicit dice(unsigned seed) : engine_{seed} {}
  std::size_t below(std::size_t n) { return static_cast<std::size_t>(engine_() % n); }
  /// Most of them small, some large.
  std::size_t size(std::size_t most) {
    auto const limit = std::size_t{1} << (below(4) == 0 ? 4 + below(17) : 4 + below(9));
    return std::min(1 + below(limit), most);
  }

 private:
  std::mt19937_64 engine_;
};

/// One rank's communicators, arrays and calls.
class rank_of_soak {
 public:
  static constexpr std::size_t most = std::size_t{1} << 20;  // elements of an array

  static std::size_t longest() { return reduced() ? 60'000 : most; }

  rank_of_soak(group& g, cudaStream_t stream)
      : g_{g},
        stream_{stream},
        memory_{std::size_t{10} << 20},
        count_{memory_, stream},
        peer_{g, fitting(g.size())},
        streamed_{
          g, fitting(g.size(),
                     {.max_bytes = 4096,
                      .tune = {.one_shot_bytes = 4096, .most_blocks = 5, .stream_blocks = 5}})},
        ring_{g, fitting(g.size())},
        tree_{g, fitting(g.size(), {.max_bytes = 65536})},
        host_{g, fitting(g.size())},
        host_ring_{g, fitting(g.size(), {.max_bytes = 65536})},
        in_{memory_.take(most * sizeof(float))},
        out_{memory_.take(most * sizeof(float))} {
    // Everything once, so that no kernel is loaded while another waits.
    std::uint64_t salt = std::uint64_t{1} << 50;
    for (std::size_t const n : {std::size_t{1}, std::size_t{1000}, std::size_t{20000}, longest()}) {
      for (int kind = 0; kind < 80; ++kind) { call({.k = salt++}, kind, n); }
      settle(peer_, stream_);
    }
  }

  /// A collective with its data and its check. `kind`: any number.
  void call(salted salt, int kind, std::size_t n) {
    switch (kind % 20) {
      case 0:
      case 1:
      case 2:
        return reduce<bfloat16>(peer_, salt, n);
      case 3:
      case 4:
        return reduce<float>(peer_, salt, n);
      case 5:
        return reduce<bfloat16>(streamed_, salt, n);
      case 6:
        return reduce<float>(streamed_, salt, n);
      case 7:
        return reduce<bfloat16>(ring_, salt, n);
      case 8:
        return reduce<bfloat16>(tree_, salt, n);
      case 9:
      case 10:
        return reduce<bfloat16>(host_, salt, n);
      case 11:
        return reduce<bfloat16>(host_ring_, salt, n);
      case 12:
        return move(peer_, 0, salt, n);
      case 13:
        return move(peer_, 1, salt, n);
      case 14:
        return move(peer_, 2, salt, n);
      case 15:
        return move(peer_, 3, salt, n);
      case 16:
        return move(ring_, kind / 20, salt, n);
      case 17:
        return move(host_, kind / 20, salt, n);
      case 18:
        return barrier(streamed_, stream_);
      default:
        return barrier(kind / 20 % 2 == 0 ? peer_ : streamed_, stream_);
    }
  }

  void check_all() {
    sync(stream_);
    peer_.check();
  }
  [[nodiscard]] unsigned long long wrong() const { return count_.read(stream_); }
  [[nodiscard]] std::uint64_t* base() const { return count_.base(); }

 private:
  template <class T>
  [[nodiscard]] std::span<T> in(std::size_t n) const {
    return {reinterpret_cast<T*>(in_), n};
  }
  template <class T>
  [[nodiscard]] std::span<T> out(std::size_t n) const {
    return {reinterpret_cast<T*>(out_), n};
  }

  template <class T, class Comm>
  void reduce(Comm& comm, salted salt, std::size_t n) {
    fill(in<T>(n), g_.rank(), salt, stream_);
    auto const result = n % 2 == 0 ? in<T>(n) : out<T>(n);
    allreduce(comm, in<T>(n), result, Sum{}, stream_);
    check(result, 0, g_.size(), salt, count_.wrong(), stream_);
  }

  /// broadcast, allgather, gather or reduce_scatter of up to n elements in all.
  template <class Comm>
  void move(Comm& comm, int kind, salted salt, std::size_t n) {
    using T = float;
    auto const ranks = static_cast<std::size_t>(g_.size());
    auto const me = static_cast<std::size_t>(g_.rank());
    auto const each = n / ranks + 1;
    int const root = static_cast<int>(n % ranks);
    if (each * ranks > most) { return; }
    switch (kind % 4) {
      case 0:
        fill(in<T>(n), g_.rank(), salt, stream_);
        broadcast(comm, in<T>(n), root, stream_);
        return check(in<T>(n), root, root + 1, salt, count_.wrong(), stream_);
      case 1:
        fill(in<T>(each), g_.rank(), salt, stream_);
        allgather(comm, in<T>(each), out<T>(each * ranks), stream_);
        break;
      case 2:
        fill(in<T>(each), g_.rank(), salt, stream_);
        gather(comm, in<T>(each), out<T>(each * ranks), root, stream_);
        if (g_.rank() != root) { return; }
        break;
      default:
        fill(in<T>(each * ranks), g_.rank(), salt, stream_);
        reduce_scatter(comm, in<T>(each * ranks), out<T>(each), Sum{}, no_epilogue{}, stream_);
        return check(out<T>(each), 0, g_.size(), salt, count_.wrong(), stream_, me * each);
    }
    for (std::size_t r = 0; r < ranks; ++r) {
      auto const rank = static_cast<int>(r);
      check(out<T>(each * ranks).subspan(r * each, each), rank, rank + 1, salt, count_.wrong(),
            stream_);
    }
  }

  group& g_;
  cudaStream_t stream_;
  arena memory_;
  counters count_;
  communicator<PeerDirect, Auto> peer_;
  communicator<PeerDirect, Auto> streamed_;  // with areas so small that messages are streamed
  communicator<PeerDirect, Ring> ring_;
  communicator<PeerDirect, Tree> tree_;
  communicator<HostPinned, Auto> host_;
  communicator<HostPinned, Ring> host_ring_;
  std::byte* in_;
  std::byte* out_;
};

struct result {
  std::uint64_t collectives = 0;
  unsigned long long wrong = 0;
};

/// One rank's run. Rank 0 decides when to stop and tells how it goes.
result soak(group& g, cudaStream_t stream, soak_options const& o) {
  auto run = std::make_unique<rank_of_soak>(g, stream);
  dice alike{o.seed};
  std::mt19937 own{o.seed * 977 + static_cast<unsigned>(g.rank())};
  constexpr std::size_t graphs = 12;
  constexpr std::uint64_t each = 100;  // collectives of a graph
  std::vector<std::unique_ptr<graph>> captured;
  for (std::size_t i = 0; i < graphs; ++i) {
    captured.push_back(std::make_unique<graph>(stream, [&] {
      for (std::uint64_t k = 0; k < each; ++k) {
        auto const kind = static_cast<int>(alike.below(400));
        run->call({run->base(), k}, kind, alike.size(i == 0 ? rank_of_soak::longest() : 8192));
      }
      grow<<<1, 1, 0, stream>>>(run->base(), each);
    }));
  }
  g.exchange(1);

  auto const begun = clock::now();
  auto told = begun;
  auto const seconds = [&](clock::time_point from) {
    return std::chrono::duration<double>(clock::now() - from).count();
  };
  result r;
  std::uint64_t told_collectives = 0;
  std::uint64_t eager = std::uint64_t{1} << 40;
  auto const most = static_cast<std::uint64_t>(o.millions * 1e6);
  while (true) {
    for (int batch = 0; batch < 16; ++batch) {
      if (own() % 8 == 0) { std::this_thread::sleep_for(std::chrono::microseconds{own() % 300}); }
      if (own() % 2000 == 0) { std::this_thread::sleep_for(std::chrono::milliseconds{5}); }
      if (alike.below(4) != 0) {
        captured[alike.below(20) == 0 ? 0 : alike.below(graphs)]->launch(stream);
        r.collectives += each;
      } else {
        for (std::size_t i = 0; i < 20; ++i) {
          if (own() % 16 == 0) {
            std::this_thread::sleep_for(std::chrono::microseconds{own() % 100});
          }
          run->call({.k = eager++}, static_cast<int>(alike.below(400)), alike.size(8192));
        }
        r.collectives += 20;
      }
      if (shared(g.size()) || batch % 4 == 3) { run->check_all(); }
    }
    bool const enough =
      (o.minutes > 0 && seconds(begun) >= o.minutes * 60) || (most > 0 && r.collectives >= most);
    bool const tell = g.rank() == 0 && (enough || seconds(told) >= 10);
    auto const news =
      g.decide(static_cast<std::uint64_t>(enough) * 2 + static_cast<std::uint64_t>(tell));
    if (news == 0) { continue; }
    r.wrong = 0;
    for (auto const w : g.exchange(run->wrong())) { r.wrong += w; }
    if (tell) {
      std::printf("%8.1f s  %12llu collectives on %d GPUs  %8.0f a second  %llu wrong elements\n",
                  seconds(begun), static_cast<unsigned long long>(r.collectives), g.size(),
                  static_cast<double>(r.collectives - told_collectives) / seconds(told), r.wrong);
      std::fflush(stdout);
      told = clock::now();
      told_collectives = r.collectives;
    }
    if (news >= 2 || r.wrong != 0) { break; }
  }
  return r;
}

}  // namespace

int main(int argc, char** argv) {
  soak_options o;
  for (int i = 1; i < argc; ++i) {
    std::string_view const name = argv[i];
    char const* const text = i + 1 < argc ? argv[++i] : "";
    double const number = std::atof(text);
    if (name == "--ranks") {
      o.ranks = static_cast<int>(number);
    } else if (name == "--minutes") {
      o.minutes = number;
    } else if (name == "--millions") {
      o.millions = number;
    } else if (name == "--seed") {
      o.seed = static_cast<unsigned>(number);
    } else {
      std::fprintf(stderr, "soak [--ranks N] [--minutes M] [--millions C] [--seed S]\n");
      return 2;
    }
  }
  if (o.minutes <= 0 && o.millions <= 0) { o.minutes = 1; }
  if (count() == 0) {
    std::fprintf(stderr, "soak: no GPU\n");
    return 4;
  }
  if (job()) {
    o.ranks = job()->size;
  } else if (o.ranks <= 0) {
    o.ranks = std::max(count(), 2);
  }
  try {
    std::mutex mutex;
    result all;
    on_gpus(o.ranks, [&](group& g, cudaStream_t stream) {
      auto const r = soak(g, stream, o);
      std::lock_guard const lock{mutex};
      all = r;
    });
    if (!job() || job()->rank == 0) {
      std::printf("soak: %llu collectives on %d %s, %llu wrong elements, no error\n",
                  static_cast<unsigned long long>(all.collectives), o.ranks,
                  job() ? "processes" : "threads", all.wrong);
    }
    return all.wrong == 0 ? 0 : 1;
  } catch (std::exception const& e) {
    std::fprintf(stderr, "soak: %s\n", e.what());
    return 1;
  }
}
