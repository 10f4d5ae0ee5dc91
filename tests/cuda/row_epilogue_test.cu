// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// All-reduces with an epilogue of rows on GPUs: against sums in fp64, and against the bits of the
// Cpu space.
#include "gpus.cuh"
#include "row_epilogues.hpp"

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

namespace {

using namespace gpus;
using row_epilogues::operands;
using row_epilogues::output;

using some_communicators =
  std::tuple<communicator<PeerDirect, Auto>, communicator<PeerDirect, Ring>,
             communicator<HostPinned, Auto>, communicator<HostPinned, Tree>>;

struct way {
  communicator_options options;
  bool smallest;
};

/// As users have it; and one shot or two, streamed.
std::vector<way> ways(int n) {
  constexpr std::size_t all = std::size_t{1} << 40;
  return {
    {fitting(n), false},
    {fitting(n, {.max_bytes = 1024, .tune = {.one_shot_bytes = 1, .most_blocks = 8}}), true},
    {fitting(n, {.max_bytes = 1024, .tune = {.one_shot_bytes = all, .most_blocks = 12}}), true}};
}

struct shape {
  std::size_t rows;
  std::size_t columns;
};
constexpr shape shapes[]{{0, 8}, {1, 1}, {3, 7}, {1, 8192}, {33, 1024}, {5, 20'011}, {2, 8193}};

/// One call on the GPUs and the same on the CPU: "" if it is right and, where both add in the same
/// order, every bit is the same.
template <class T, class Comm, class Twin>
std::string compare(Comm& comm, Twin& twin, arena& memory, cudaStream_t stream, shape s,
                    output what, bool same_order, unsigned salt) {
  memory.clear();
  operands<T> o{comm.rank(), s.rows, s.columns, salt};
  std::size_t const n = s.rows * s.columns;
  std::size_t const offset = salt % 2;
  guarded_array<T> const x{memory, n, offset, stream};
  guarded_array<T> const residual{memory, n, 0, stream};
  guarded_array<T> const weight{memory, s.columns, 1, stream};
  guarded_array<T> const normed{memory, n, offset, stream};
  guarded_array<float8_e4m3> const small{memory, n, offset, stream};
  guarded_array<float> const scales{memory, s.rows + 1, 0, stream};
  x.put(o.x, stream);
  residual.put(o.residual, stream);
  weight.put(o.weight, stream);
  normed.put(o.normed, stream);
  small.put(o.small, stream);
  scales.put(o.scales, stream);
  row_epilogues::with_epilogue(
    residual.span().data(), weight.span().data(), x.span().data(), normed.span().data(),
    small.span().data(), scales.span().data(), s.rows, s.columns, what,
    [&](auto epilogue) { allreduce(comm, x.span(), residual.span(), Sum{}, epilogue, stream); });
  settle(comm, stream);
  bool intact = true;
  o.x = x.get(stream, intact);
  o.residual = residual.get(stream, intact);
  o.normed = normed.get(stream, intact);
  o.small = small.get(stream, intact);
  o.scales = scales.get(stream, intact);
  std::uint64_t bits = 0;
  auto wrong = row_epilogues::compare_rows<T>(twin, s.rows, s.columns, what, salt, &bits);
  if (wrong.empty()) {
    wrong = row_epilogues::differs(o, comm.size(), s.rows, s.columns, what, salt);
  }
  if (wrong.empty() && same_order && sizeof(T) == 2 && bits != row_epilogues::bits_of(o, what)) {
    wrong = "other bits than on the CPU";
  }
  if (!intact) { wrong += "wrote outside an array"; }
  return wrong.empty() ? wrong
                       : wrong + ", rank " + std::to_string(comm.rank()) + ", (" +
                           std::to_string(s.rows) + ", " + std::to_string(s.columns) + ')';
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("rows are normed on GPUs as they are on the CPU", "[cuda]",
                        some_communicators) {
  NEED_GPUS(1);
  notes found;
  for (int const n : worlds()) {
    for (auto const& w : ways(n)) {
      on_gpus(n, [&](group& g, cudaStream_t stream) {
        arena memory{std::size_t{8} << 20};
        TestType comm{g, w.options};
        communicator<HostPinned, typename TestType::topology_type, Cpu> twin{
          g, {.max_bytes = w.smallest ? std::size_t{1024} : std::size_t{8} << 20}};
        constexpr bool ring = std::is_same_v<typename TestType::topology_type, Ring>;
        unsigned salt = 0;
        for (auto const& s : shapes) {
          for (auto const what :
               {output::normed, output::over_input, output::fp8, output::static_fp8}) {
            auto wrong = compare<bfloat16>(comm, twin, memory, stream, s, what, !ring, ++salt);
            if (wrong.empty() && what != output::fp8) {
              wrong = compare<float>(comm, twin, memory, stream, s, what, !ring, ++salt);
            }
            if (!wrong.empty()) { found.add(wrong); }
          }
        }
      });
    }
  }
  REQUIRE(found.all() == "");
}

TEST_CASE("rows are normed in every replay of a graph", "[cuda]") {
  NEED_GPUS(1);
  notes found;
  for (int const n : worlds()) {
    on_gpus(n, [&](group& g, cudaStream_t stream) {
      constexpr std::size_t rows = 5;
      constexpr std::size_t columns = 4096;
      arena memory{std::size_t{4} << 20};
      communicator<PeerDirect, Auto> comm{g, fitting(n)};
      operands<bfloat16> o{g.rank(), rows, columns, 3};
      guarded_array<bfloat16> const x{memory, rows * columns, 0, stream};
      guarded_array<bfloat16> const added{memory, rows * columns, 0, stream};
      guarded_array<bfloat16> const out{memory, rows * columns, 0, stream};
      guarded_array<bfloat16> const weight{memory, columns, 0, stream};
      guarded_array<bfloat16> const normed{memory, rows * columns, 0, stream};
      x.put(o.x, stream);
      added.put(o.residual, stream);
      weight.put(o.weight, stream);
      sync(stream);
      graph const replayed{stream, [&] {
                             add_rms_norm const norm{added.span().data(), weight.span().data(),
                                                     normed.span().data(), columns,
                                                     row_epilogues::epsilon};
                             allreduce(comm, x.span(), out.span(), Sum{}, norm, stream);
                           }};
      g.exchange(1);
      for (int i = 0; i < 20; ++i) {
        replayed.launch(stream);
        settle(comm, stream);
        bool intact = true;
        o.residual = out.get(stream, intact);
        o.normed = normed.get(stream, intact);
        auto const wrong = row_epilogues::differs(o, n, rows, columns, output::normed, 3);
        if (!wrong.empty() || !intact) { found.add(wrong); }
        cuda_check(cudaMemsetAsync(normed.span().data(), 0xa5, normed.span().size_bytes(), stream),
                   "poisoning");
      }
      g.exchange(2);
    });
  }
  REQUIRE(found.all() == "");
}
