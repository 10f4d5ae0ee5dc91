// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "device.cuh"
#include "options.hpp"
#include "row.cuh"

#include <tpx/cuda.cuh>
#include <tpx/run_ranks.hpp>

namespace bench {

/// The types that have every topology and epilogue: each more is minutes of nvcc.
#if defined(TPX_BENCH_FULL)
template <class>
inline constexpr bool has_everything = true;
#else
template <class T>
inline constexpr bool has_everything = std::is_same_v<T, tpx::bfloat16>;
#endif

/// The row of an all-reduce with residual and RMSNorm. Only the new residual is checked here; the
/// norm is tests/cuda's. The weight is the residual's first row.
template <class Collective, class T, class Comm>
void add_normed_row(std::vector<row>& rows, row plain, std::shared_ptr<Comm> const& comm,
                    options const& o, T const* residual) {
  auto const most = o.end / sizeof(T);
  auto const output = std::make_shared<device_memory>(most * sizeof(T));
  auto const scales = std::make_shared<device_memory>((most / o.columns + 1) * sizeof(float));
  bool const fp8 = o.epilogue == "rmsnorm-fp8";
  plain.provider = "tpx + " + o.epilogue;
  plain.residual = true;
  plain.enqueue = [=, columns = o.columns](call const& c) {
    auto const run = [&](auto epilogue) { Collective::template run<T>(*comm, c, epilogue); };
    if (fp8) {
      auto* const to = static_cast<tpx::float8_e4m3*>(output->get());
      run(tpx::add_rms_norm_fp8{tpx::add_rms_norm{residual, residual, to, columns},
                                tpx::scale_per_row{static_cast<float*>(scales->get())}});
    } else {
      run(tpx::add_rms_norm{residual, residual, static_cast<T*>(output->get()), columns});
    }
  };
  rows.push_back(plain);
}

/// tpx's rows, by the command line.
template <class Collective, class T, class Transport>
void add_tpx_rows(std::vector<row>& rows, tpx::group& g, options const& o,
                  std::shared_ptr<arrays> const& memory, void* residual) {
  tpx::communicator_options settings{.max_bytes = o.max_bytes};
  settings.tune.one_shot_bytes = o.one_shot;
  if (o.blocks != 0) { settings.tune.most_blocks = static_cast<unsigned>(o.blocks); }
  auto const add = [&]<class Topology>(Topology) {
    auto const comm = std::make_shared<tpx::communicator<Transport, Topology>>(g, settings);
    row plain{.provider = "tpx",
              .memory = memory,
              .enqueue = [comm](call const& c) { Collective::template run<T>(*comm, c); },
              .settle = [comm] { comm->check(); }};
    rows.push_back(plain);
    if constexpr (Collective::has_epilogue && has_everything<T>) {
      if (o.epilogue == "add") {
        plain.provider = "tpx + residual";
        plain.enqueue = [comm, values = static_cast<T const*>(residual)](call const& c) {
          Collective::template run<T>(*comm, c, tpx::add_residual{values});
        };
        plain.residual = true;
        rows.push_back(plain);
      }
      if (o.epilogue == "rmsnorm" || o.epilogue == "rmsnorm-fp8") {
        add_normed_row<Collective, T>(rows, plain, comm, o, static_cast<T const*>(residual));
      }
    }
  };
  if (o.topology == "auto") { add(tpx::Auto{}); }
  if constexpr (has_everything<T>) {
    if (o.topology == "all") { add(tpx::AllPairs{}); }
    if (o.topology == "ring") { add(tpx::Ring{}); }
    if (o.topology == "tree") { add(tpx::Tree{}); }
  }
}

}  // namespace bench
