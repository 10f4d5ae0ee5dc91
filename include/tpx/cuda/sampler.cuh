// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/sample_kernel.cuh>
#include <tpx/cuda/sample_launch.cuh>
#include <tpx/cuda/sample_memory.cuh>
#include <tpx/cuda/sample_seen.cuh>
#include <tpx/generator/sampler.hpp>

namespace tpx {

/// `sampler` on the current GPU: the same stages, parameters, states and seeds give the same
/// tokens.
///
///     tpx::cuda_sampler<Penalties, TopK, TopP, Temperature, Gumbel> sampler{
///       {.columns = vocab, .rows = 64}};
///     sampler.set(row, {.seed = 42}, {TopP{0.95f}}, {}, stream);  // when a request takes a row
///     sampler.sample(logits, rows, stream);  // each step; graphs may hold it
///     sampler.results()[row].token;          // once the stream has come by
///
/// Tokens are those of the Cpu space where that is compiled without fusing multiplications into
/// additions (-ffp-contract=off, or a target without FMA): sums are of integers. Logarithms are the
/// two libraries', of 53 bits rounded to 24: where two scores, or a logit and a limit, agree to
/// 2^-24, one in 2^28 of these may go the other way.
///
/// Lists that parameters show (LogitBias, Dry, Xtc) are copied by `set`.
///
/// Cost    one kernel, and one before it where a stage looks at the history. A cluster of blocks
///         holds a row in its shared memory, and what does not fit in global: it is read once.
///         Before sm_90 one block works on a row. The next kernel may begin before these end, if
///         it is launched so and waits (programmatic dependent launch).
template <sampler_stage... Stages>
class cuda_sampler {
  using last = std::tuple_element_t<sizeof...(Stages) - 1, std::tuple<Stages...>>;
  static_assert(picking_stage<last>, "a chain ends with a stage that picks: Argmax or Gumbel");
  static_assert((detail::gpu_stage<Stages> && ...),
                "a stage of this chain is of the Cpu space alone: use tpx::sampler, or mark its "
                "functions TPX_HD and say on_any_space = true");
  static_assert((std::is_trivially_copyable_v<Stages> && ...));
  using lists = detail::list_layout<Stages...>;

 public:
  using parameters = sample_parameters<Stages...>;
  using state = sample_state<Stages...>;
  using request = cuda_sample_request;

  explicit cuda_sampler(cuda_sampler_options const& options) : options_{options} {
    expects(options.columns > 0 && options.columns < (std::size_t{1} << 31) && options.rows > 0,
            "cuda_sampler: columns and rows must be positive");
    expects(
      std::has_single_bit(options.blocks | (options.blocks == 0 ? 1u : 0u)) && options.blocks <= 16,
      "cuda_sampler: blocks is 0, 1, 2, 4, 8 or 16");
    options_.vocab = std::min(options.vocab, options.columns);
    int device = 0;
    int major = 0;
    detail::cuda_check(cudaGetDevice(&device), "asking for the current device");
    auto const ask = [device](int& to, cudaDeviceAttr what) {
      detail::cuda_check(cudaDeviceGetAttribute(&to, what, device), "asking what a device can");
    };
    ask(major, cudaDevAttrComputeCapabilityMajor);
    ask(shared_limit_, cudaDevAttrMaxSharedMemoryPerBlockOptin);
    clusters_ = major >= 9;
    results_ = detail::make_pinned_array<cuda_sampled>(options.rows);
    states_ = detail::make_pinned_array<state>(options.rows);
    tops_ = detail::make_pinned_array<token_logprob>(options.rows * 2 * options.max_top);
    rows_ = detail::make_device_array<row>(options.rows);
    std::size_t const all = options.rows * lists::count;
    listed_ = detail::make_device_array<detail::seen_token>(all * options.max_history);
    listed_count_ = detail::make_device_array<std::uint32_t>(all);
    if constexpr (lists::looking > 0) {
      if (detail::slots_for(options.max_history) > inside_slots) {
        slots_ = detail::make_device_array<detail::seen_slot>(
          options.rows * lists::looking * detail::slots_for(options.max_history));
      }
    }
    if constexpr ((detail::looking_back<Stages> || ...)) {
      before_ = detail::make_device_array<float>(options.rows * options_.vocab);
    }
    for (std::size_t r = 0; r < options.rows; ++r) { set(r, {}, {}, {}, nullptr); }
    prepare<float>();
    prepare<bfloat16>();
    if (clusters_) { count_clusters(); }
    std::size_t outside = 0;
    for (std::size_t n = 1; n <= options.rows; ++n) {
      plan const p = layout(n);
      outside = std::max(outside, n * p.blocks * (p.part - p.inside));
    }
    if (outside > 0) { outside_ = detail::make_device_array<float>(outside); }
    detail::cuda_check(cudaStreamSynchronize(nullptr), "making a sampler");
  }

  /// Gives a row a request, its parameters and what its stages remember, in the stream's order; it
  /// keeps them until another `set`. Throws invalid_argument for what does not fit.
  void set(std::size_t r, request const& asked, parameters const& chosen, state const& memory,
           cudaStream_t stream) {
    expects(r < options_.rows, [&] {
      return "cuda_sampler: row " + std::to_string(r) + " of " + std::to_string(options_.rows);
    });
    detail::check_request(asked, options_, lists::looking > 0);
    (put_given<Stages>(r, chosen, stream), ...);
    row const next{.chosen = {{chosen.template get<Stages>()}...},
                   .memory = memory,
                   .history = asked.history.data(),
                   .mask = asked.mask.empty() ? nullptr : asked.mask.data(),
                   .history_size = static_cast<std::uint32_t>(asked.history_size),
                   .history_room = static_cast<std::uint32_t>(asked.history.size()),
                   .end = end_of(asked.mask),
                   .seed = asked.seed,
                   .step = asked.step,
                   .top = asked.top,
                   .raw_top = asked.raw_top,
                   .logprobs = asked.logprobs};
    detail::put_row<<<1, 1, 0, stream>>>(rows_.get() + r, next);
    detail::cuda_check(cudaGetLastError(), "setting a row of a sampler");
  }

  /// Another mask for a row, in the stream's order; empty: none.
  void mask(std::size_t r, std::span<std::uint32_t const> mask, cudaStream_t stream) {
    detail::put_mask<<<1, 1, 0, stream>>>(rows_.get() + r, mask.empty() ? nullptr : mask.data(),
                                          end_of(mask));
    detail::cuda_check(cudaGetLastError(), "setting a mask of a sampler");
  }

  /// Samples the first `rows` rows of logits (rows, stride) in device memory, float or bfloat16;
  /// stride 0 is columns. Neither waits nor allocates.
  template <class T>
  void sample(T const* logits, std::size_t rows, cudaStream_t stream, std::size_t stride = 0) {
    sample(logits, stride == 0 ? options_.columns : stride, nullptr, rows, stream);
  }
  /// The same for rows that lie anywhere, no two of one slot; `batch` is device memory.
  void sample(batch_row const* batch, std::size_t rows, cudaStream_t stream) {
    sample<float>(nullptr, 0, batch, rows, stream);
  }

  /// What came of each row of the last batch, once the stream has come by. Page-locked memory.
  [[nodiscard]] std::span<cuda_sampled const> results() const {
    return {results_.get(), options_.rows};
  }
  /// A row's likeliest tokens after all stages, likeliest first, and those before the first stage;
  /// token -1 where there were fewer.
  [[nodiscard]] std::span<token_logprob const> top(std::size_t r) const {
    return {tops_.get() + 2 * r * options_.max_top, options_.max_top};
  }
  [[nodiscard]] std::span<token_logprob const> raw_top(std::size_t r) const {
    return {tops_.get() + (2 * r + 1) * options_.max_top, options_.max_top};
  }
  /// What each row's stages remember after it.
  [[nodiscard]] std::span<state const> states() const { return {states_.get(), options_.rows}; }

 private:
  using row = detail::device_row<Stages...>;
  static_assert(sizeof(row) <= 4096);
  static constexpr std::uint32_t inside_slots = 2048;

  [[nodiscard]] detail::token_lists all_lists() const {
    return {listed_.get(), listed_count_.get(), static_cast<std::uint32_t>(options_.max_history)};
  }

  template <class S>
  void put_given(std::size_t r, parameters const& chosen, cudaStream_t stream) {
    if constexpr (detail::listing_stage<S>) {
      detail::put_list_of(all_lists(), r * lists::count + lists::template given<S>,
                          detail::given_to(chosen.template get<S>()), stream);
    }
  }

  /// Tokens that are no padding, and in the mask.
  [[nodiscard]] std::uint32_t end_of(std::span<std::uint32_t const> mask) const {
    return static_cast<std::uint32_t>(mask.empty() ? options_.vocab
                                                   : std::min(options_.vocab, 32 * mask.size()));
  }

  template <class T>
  void sample(T const* logits, std::size_t stride, batch_row const* batch, std::size_t rows,
              cudaStream_t stream) {
    expects(rows <= options_.rows, [&] {
      return "cuda_sampler: " + std::to_string(rows) + " rows, made for " +
             std::to_string(options_.rows);
    });
    if (rows == 0) { return; }
    if constexpr (lists::looking > 0) { see(batch, rows, stream); }
    plan const p = layout(rows);
    detail::sample_launch<T, Stages...> const work{
      .logits = logits,
      .stride = stride,
      .batch = batch,
      .rows = rows_.get(),
      .results = results_.get(),
      .states = states_.get(),
      .tops = tops_.get(),
      .max_top = static_cast<std::uint32_t>(options_.max_top),
      .lists = all_lists(),
      .before = before_.get(),
      .vocab = static_cast<std::uint32_t>(options_.vocab),
      .part = p.part,
      .inside = p.inside,
      .outside = outside_.get()};
    launch(detail::sample_rows<T, Stages...>, static_cast<unsigned>(rows) * p.blocks, p, stream,
           work);
  }

  using plan = detail::sample_plan;

  [[nodiscard]] plan shared_by(unsigned blocks) const {
    constexpr std::size_t chunk = detail::chunk_size;
    std::size_t const part = (options_.columns + blocks * chunk - 1) / (blocks * chunk) * chunk;
    std::size_t const rest =
      sizeof(detail::sample_shared) + part / detail::chunk_rows * sizeof(float);
    std::size_t const room = (static_cast<std::size_t>(shared_limit_) - rest) / sizeof(float);
    std::size_t const inside =
      part <= room ? part : room / detail::part_stride * detail::part_stride;
    return {blocks, static_cast<std::uint32_t>(part), static_cast<std::uint32_t>(inside),
            static_cast<unsigned>(rest + inside * sizeof(float))};
  }

  /// As many blocks a row as let all rows run at once, and two if they cannot.
  [[nodiscard]] plan layout(std::size_t rows) const {
    unsigned blocks = options_.blocks != 0 && clusters_ ? options_.blocks : 1;
    if (options_.blocks == 0 && clusters_) {
      for (blocks = 16; blocks > 2 && rows > static_cast<std::size_t>(at_once_[blocks]);
           blocks /= 2) {}
    }
    while (blocks > 1 && (blocks - 1) * detail::chunk_size >= options_.columns) { blocks /= 2; }
    return shared_by(blocks);
  }

  void see(batch_row const* batch, std::size_t rows, cudaStream_t stream) {
    detail::seen_launch<Stages...> const work{
      .rows = rows_.get(),
      .batch = batch,
      .lists = all_lists(),
      .outside = slots_.get(),
      .inside = std::min(detail::slots_for(options_.max_history), inside_slots),
      .vocab = static_cast<std::uint32_t>(options_.vocab)};
    plan const alone{.blocks = 1,
                     .bytes = static_cast<unsigned>(work.inside * sizeof(detail::seen_slot))};
    launch(detail::see_rows<Stages...>, static_cast<unsigned>(rows) * lists::looking, alone, stream,
           work);
  }

  template <class Kernel, class Work>
  void launch(Kernel* kernel, unsigned grid, plan const& p, cudaStream_t stream,
              Work const& work) const {
    detail::sample_launch_config config{p, grid, stream};
    if (!clusters_) { config.value.numAttrs = 0; }
    detail::cuda_check(cudaLaunchKernelEx(&config.value, kernel, work), "launching a sampler");
  }

  /// Loads the kernels for a type of logits, which a launch in a graph cannot do.
  template <class T>
  void prepare() {
    auto const allow = [this](auto* kernel) {
      detail::cuda_check(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_limit_),
        "preparing a sampler's shared memory");
      if (clusters_) {
        detail::cuda_check(
          cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1),
          "preparing a sampler's clusters");
      }
    };
    allow(detail::sample_rows<T, Stages...>);
  }

  /// Clusters of so many blocks that the GPU holds.
  void count_clusters() {
    for (unsigned blocks = 1; blocks <= 16; blocks *= 2) {
      detail::sample_launch_config config{shared_by(blocks), blocks, nullptr};
      detail::cuda_check(cudaOccupancyMaxActiveClusters(
                           &at_once_[blocks], detail::sample_rows<float, Stages...>, &config.value),
                         "asking how many clusters a GPU holds");
    }
  }

  cuda_sampler_options options_;
  int shared_limit_ = 0;
  bool clusters_ = false;
  int at_once_[17]{};  // rows, by blocks that share one
  detail::pinned_array<cuda_sampled> results_;
  detail::pinned_array<state> states_;
  detail::pinned_array<token_logprob> tops_;  // (rows, 2, max_top)
  detail::device_array<row> rows_;
  detail::device_array<detail::seen_token> listed_;
  detail::device_array<std::uint32_t> listed_count_;
  detail::device_array<detail::seen_slot> slots_;
  detail::device_array<float> before_;
  detail::device_array<float> outside_;
};

}  // namespace tpx
