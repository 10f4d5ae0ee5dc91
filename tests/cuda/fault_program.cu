// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What faults_test starts as ranks that are processes: fault_program <peer|host> <fault> <deadline
// in ms>. Works until something ends the group, says what, and goes on with the ranks that live.
// Each fact is one line on standard output.
#include "work.cuh"

#include <tpx/run_ranks.hpp>

#include <unistd.h>

namespace {

using namespace gpus;

template <class... Words>
void tell(Words const&... words) {
  std::string line;
  auto const add = [&](auto const& w) {
    if constexpr (std::is_arithmetic_v<std::decay_t<decltype(w)>>) {
      line += std::to_string(w) + ' ';
    } else {
      line += std::string{w} + ' ';
    }
  };
  (add(words), ...);
  line += '\n';
  [[maybe_unused]] auto const n = ::write(STDOUT_FILENO, line.data(), line.size());
}

/// An illegal address: the device's context is lost.
__global__ void poke(int* nowhere) {
  *nowhere = 1;
}

template <class Transport>
void work(group& g, std::string const& fault, cudaStream_t stream) {
  worker const mine{stream};
  bool const odd = g.rank() == 1;
  try {
    communicator<Transport, Auto> comm{g, fitting(g.size())};
    mine.reduce_many(comm, 100);
    graph const replayed{stream, [&] {
                           for (std::uint64_t i = 0; i < 10; ++i) {
                             mine.reduce(comm, i % 2 == 0 ? worker::most : 1000, i);
                           }
                         }};
    g.exchange(1);
    tell("ready", g.rank());
    for (int i = 0;; ++i) {
      replayed.launch(stream);
      mine.reduce(comm, 5000, 99);
      settle(comm, stream);
      if (odd && fault == "illegal" && i == 20) {
        poke<<<1, 1, 0, stream>>>(nullptr);
        sync(stream);
      }
      if (odd && fault == "exit" && i == 20) { std::_Exit(7); }
    }
  } catch (error const& e) {
    tell("caught", tpx::detail::now_ns(), name(e.code()), e.peer(), e.what());
    if (odd && fault == "illegal") { throw; }
  }
  auto const context = mine.context();
  tell("context", context.empty() ? "works" : context);
  g.reset();
  communicator<Transport, Auto> again{g, fitting(g.size())};
  mine.reduce_many(again, 1000);
  tell("again", g.rank(), g.size(), mine.wrong());
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) { return 2; }
  bool const host = std::string_view{arguments[1]} == "host";
  std::string const fault = arguments[2];
  try {
    on_gpus(
      job() ? job()->size : 1,
      [&](group& g, cudaStream_t stream) {
        host ? work<HostPinned>(g, fault, stream) : work<PeerDirect>(g, fault, stream);
      },
      std::chrono::milliseconds{std::atoi(arguments[3])});
    tell("done");
    return 0;
  } catch (error const& e) {
    tell("error", name(e.code()), e.peer(), e.what());
    return 3;
  } catch (std::exception const& e) {
    tell("exception", e.what());
    return 4;
  }
}
