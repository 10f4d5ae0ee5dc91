// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// The kernels of the shipped collectives and of some samplers, for the test that records what each
// costs: compiled, never run.
#include <tpx/cuda/page_copier.cuh>
#include <tpx/cuda/sampler.cuh>
#include <tpx/cuda/space.cuh>
#include <tpx/op.hpp>
#include <tpx/protocol/add_rms_norm.hpp>
#include <tpx/protocol/allreduce.hpp>
#include <tpx/protocol/barrier.hpp>
#include <tpx/protocol/gather.hpp>
#include <tpx/protocol/pushed_allreduce.hpp>
#include <tpx/protocol/pushed_movement.hpp>
#include <tpx/protocol/pushed_rows.hpp>
#include <tpx/protocol/scatter.hpp>
#include <tpx/protocol/streamed.hpp>
#include <tpx/topology/all_pairs.hpp>
#include <tpx/topology/ring.hpp>
#include <tpx/topology/tree.hpp>

namespace {

using namespace tpx;

template <class... Protocols>
void const* const* kernels_of() {
  static void const* const all[]{reinterpret_cast<void const*>(&detail::run<Protocols>)...};
  return all;
}

template <class T, int Peers>
void const* const* pushed() {
  using one = pushed_one_shot<T, Sum, no_epilogue, Peers>;
  using two = pushed_two_shot<T, Sum, no_epilogue, Peers>;
  if constexpr (Peers == 2) {
    return kernels_of<at_once<one>, streamed<one>>();
  } else {
    return kernels_of<at_once<one>, streamed<one>, at_once<two>, streamed<two>>();
  }
}

template <class Epilogue, int Peers>
void const* const* normed() {
  using one = rowwise<pushed_one_shot<bfloat16, Sum, Epilogue, Peers>>;
  if constexpr (Peers == 2) {
    return kernels_of<one>();
  } else {
    return kernels_of<one, rowwise<pushed_two_shot<bfloat16, Sum, Epilogue, Peers>>>();
  }
}
using norm_row = add_rms_norm<bfloat16, bfloat16, bfloat16>;
using norm_row_fp8 = add_rms_norm_fp8<bfloat16, bfloat16, scale_per_row>;

template <class T, class Topology, bool Shared>
void const* const* moved() {
  return kernels_of<broadcast_protocol<Topology, T, Shared>,
                    allgather_protocol<Topology, T, Shared>,
                    reduce_scatter_protocol<Topology, T, Sum, no_epilogue, Shared>>();
}

template <class T, class... Stages>
void const* const* sampler_of() {
  static void const* const all[]{reinterpret_cast<void const*>(&detail::sample_rows<T, Stages...>)};
  return all;
}

}  // namespace

/// Keeps the instantiations above.
void const* const* const all_kernels[]{
  pushed<bfloat16, 2>(),
  pushed<bfloat16, 4>(),
  pushed<bfloat16, 8>(),
  pushed<bfloat16, 16>(),
  pushed<float, 8>(),
  normed<norm_row, 2>(),
  normed<norm_row, 4>(),
  normed<norm_row, 8>(),
  normed<norm_row_fp8, 4>(),
  kernels_of<row_pass<bfloat16, norm_row>>(),
  moved<bfloat16, Auto, true>(),
  moved<bfloat16, Auto, false>(),
  moved<bfloat16, Ring, false>(),
  moved<bfloat16, Tree, false>(),
  kernels_of<at_once<pushed_copy<bfloat16, 8>>, streamed<pushed_copy<bfloat16, 8>>,
             at_once<pushed_reduce_scatter<bfloat16, Sum, no_epilogue, 8>>,
             streamed<pushed_reduce_scatter<bfloat16, Sum, no_epilogue, 8>>,
             scattered_allreduce<Ring, bfloat16, Sum, no_epilogue, false>,
             rooted_allreduce<Tree, bfloat16, Sum, no_epilogue, false>>(),
  kernels_of<gather_protocol<Auto, bfloat16>, gather_protocol<Ring, bfloat16>,
             gather_protocol<Tree, bfloat16>>(),
  kernels_of<turn_barrier, barrier_arrive<Auto>, barrier_wait<Auto>, whole_barrier<Ring>,
             whole_barrier<Tree>>()};
void const* const page_copies[]{reinterpret_cast<void const*>(&detail::copy_pages<256, 4, 1>),
                                reinterpret_cast<void const*>(&detail::copy_pages<256, 1, 4>)};
void const* const* const samplers[]{
  sampler_of<float, sample::Argmax>(), sampler_of<bfloat16, sample::Argmax>(),
  sampler_of<float, sample::MinP, sample::Temperature, sample::Gumbel>(),
  sampler_of<float, sample::TopP, sample::Gumbel>(),
  sampler_of<float, sample::Penalties, sample::TopK, sample::TopP, sample::MinP,
             sample::Temperature, sample::Gumbel>()};
void const* const histories[]{reinterpret_cast<void const*>(
  &detail::see_rows<sample::Penalties, sample::TopK, sample::Gumbel>)};
