// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/cuda/sample_guide.cuh>
#include <tpx/cuda/sample_writes.cuh>
#include <tpx/cuda/sampler.cuh>
#include <tpx/generator/batch_sampler.hpp>
#include <tpx/generator/mask.hpp>

#include <algorithm>
#include <string>
#include <vector>

namespace tpx {

/// A cuda_sampler's rows for a generator's batch_sampler. The model's logits are float in device
/// memory, written in the order of the stream; what `forward` returns is not looked at on the host.
///
///     tpx::cuda_sampler_rows<TopP, Temperature, Gumbel> rows{
///       {.columns = model.vocab_size(), .rows = how.max_batch}, stream};
///     tpx::batch_sampler sampler{rows};
///     tpx::generator<my_model, decltype(sampler), my_vocabulary> gen{model, sampler, vocabulary,
///                                                                    how};
///
/// A guess that was drawn by chance is accepted where the sampled token is the same one: see
/// sample_request::drawn_from.
///
/// Cost    the sampler's kernels and a wait a batch; one kernel before them where rows are new or
///         masked, were moved or taken back. No allocation after construction.
template <sampler_stage... Stages>
class cuda_sampler_rows {
  using chain = cuda_sampler<Stages...>;

 public:
  using parameters = typename chain::parameters;
  using state = typename chain::state;

  /// options.max_history: of a prompt and its text, at most, where a stage looks at these.
  cuda_sampler_rows(cuda_sampler_options const& options, cudaStream_t stream)
      : options_{options},
        stream_{stream},
        chain_{options},
        mask_words_{(mask_words(options.columns) + 3) / 4 * 4},
        masked_(options.rows),
        batch_{detail::make_device_array<batch_row>(options.rows)},
        masks_{detail::make_device_array<std::uint32_t>(options.rows * mask_words_)},
        writes_{options.rows * mask_words_ + 4 * options.rows} {
    last_.reserve(options.rows);
    if constexpr (looks) {
      history_ = detail::make_device_array<token_id>(options.rows * options.max_history);
    }
  }

  [[nodiscard]] std::size_t size() const { return options_.rows; }

  void set(std::uint32_t slot, sample_request const& request, parameters const& chosen,
           state const& memory) {
    std::span<token_id> const room = history(slot);
    if constexpr (looks) {
      check_room(request);
      writes_.write(room.data(), request.history, stream_);
    }
    chain_.set(slot,
               {.history = room,
                .history_size = looks ? request.history.size() : 0,
                .seed = request.seed,
                .step = request.step,
                .logprobs = request.logprobs,
                .top = static_cast<std::uint32_t>(request.top.size()),
                .raw_top = static_cast<std::uint32_t>(request.raw_top.size())},
               chosen, memory, stream_);
    masked_[slot] = false;
  }

  void mask(std::uint32_t slot, std::span<std::uint32_t const> mask) {
    auto* const to = masks_.get() + slot * mask_words_;
    auto const some = mask.first(std::min(mask.size(), mask_words_));
    writes_.write(to, some, stream_);
    if (masked_[slot] == !some.empty()) { return; }
    chain_.mask(slot, {to, some.size()}, stream_);
    masked_[slot] = !some.empty();
  }

  void guide(std::span<float> logits, std::span<float const> negative, float strength) {
    detail::guide_on_gpu(logits, negative, strength, stream_);
  }

  void sample(std::span<batch_row const> rows) {
    if (!std::equal(rows.begin(), rows.end(), last_.begin(), last_.end())) {
      last_.assign(rows.begin(), rows.end());
      writes_.write(batch_.get(), rows, stream_);
    }
    writes_.send(stream_);
    chain_.sample(batch_.get(), rows.size(), stream_);
  }

  void wait() {
    detail::cuda_check(cudaStreamSynchronize(stream_), "sampling");
    writes_.sent();
  }

  /// Throws invalid_argument as a sampler on the host does.
  [[nodiscard]] sampled result(std::uint32_t slot, sample_request const& request) const {
    if constexpr (looks) { check_room(request); }
    cuda_sampled const& r = chain_.results()[slot];
    expects(r.status == sample_status::ok, [&] {
      return "sampler: request " + std::to_string(request.id) +
             (r.status == sample_status::nothing_allowed
                ? " allows no token: all are masked, banned or -infinity"
                : " has a logit that is not a number, or too large");
    });
    return {.token = r.token,
            .logprob = r.logprob,
            .raw_logprob = r.raw_logprob,
            .rank = r.rank,
            .top = list(chain_.top(slot), request.top),
            .raw_top = list(chain_.raw_top(slot), request.raw_top)};
  }

  [[nodiscard]] state memory(std::uint32_t slot) const { return chain_.states()[slot]; }

 private:
  static constexpr bool looks = (detail::looking_stage<Stages> || ...);

  [[nodiscard]] std::span<token_id> history(std::uint32_t slot) const {
    if constexpr (!looks) { return {}; }
    return {history_.get() + slot * options_.max_history, options_.max_history};
  }

  static std::span<token_logprob const> list(std::span<token_logprob const> from,
                                             std::span<token_logprob> to) {
    std::size_t n = 0;
    for (; n < to.size() && from[n].token >= 0; ++n) { to[n] = from[n]; }
    return to.first(n);
  }

  /// A row on the GPU goes on alone while there is room.
  void check_room(sample_request const& request) const {
    expects(
      request.history.size() <= options_.max_history,
      [&] {
        return "cuda_sampler_rows: request " + std::to_string(request.id) + " has come to " +
               std::to_string(request.history.size()) + " tokens of at most " +
               std::to_string(options_.max_history);
      },
      "raise max_history");
  }

  cuda_sampler_options options_;
  cudaStream_t stream_;
  chain chain_;
  std::size_t mask_words_;       // of a slot, in multiples of 16 bytes
  std::vector<char> masked_;     // by slot
  std::vector<batch_row> last_;  // what batch_ holds
  detail::device_array<batch_row> batch_;
  detail::device_array<std::uint32_t> masks_;
  detail::device_array<token_id> history_;
  detail::sample_writes writes_;
};

}  // namespace tpx
