// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/sample/chunk.hpp>
#include <tpx/generator/sample/request.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

namespace tpx {

/// What part of a vocabulary a sampler sees.
struct sampler_options {
  std::size_t columns;                                       // logits of a row, of this rank
  std::size_t first = 0;                                     // token of the first one
  std::size_t vocab = std::numeric_limits<token_id>::max();  // tokens from here on are padding
};

namespace detail {

/// What a token's occurrences in the history come to. The sum is exact, so that it is the same in
/// any order.
struct occurrences {
  float most = 0;
  double sum = 0;
};

/// The memory in which a sampler works on one row at a time, allocated once: 9 bytes a token for
/// the row, 12 for selections and 20 for penalties.
class sampler_memory {
 public:
  static constexpr std::size_t buckets = 2048;

  sampler_memory(sampler_options const& options, bool keeps_before)
      : options_{options},
        origin_{options.first / chunk_size * chunk_size},
        chunks_{(options.first - origin_ + options.columns + chunk_size - 1) / chunk_size},
        own(chunks_),
        at(chunks_),
        blocks(chunks_),
        top(chunks_),
        active(chunks_),
        logits(whole_lanes(options.columns)),
        weights(logits.size()),
        keys(logits.size()),
        occurred(options.columns),
        touched(options.columns),
        histogram(buckets),
        before(keeps_before ? chunks_ : 0) {
    expects(options.first + options.columns <= std::size_t{std::numeric_limits<token_id>::max()},
            [&] {
              return "sampler: tokens " + std::to_string(options.first) + " to " +
                     std::to_string(options.first + options.columns) + " do not fit a token_id";
            });
  }

  [[nodiscard]] sampler_options const& options() const { return options_; }
  /// The first token of chunk 0.
  [[nodiscard]] std::size_t origin() const { return origin_; }
  [[nodiscard]] std::size_t chunks() const { return chunks_; }

 private:
  sampler_options options_;
  std::size_t origin_;
  std::size_t chunks_;

 public:
  std::vector<chunk> own;              // room for a copy of each chunk
  std::vector<float const*> at;        // where each chunk's logits are: the caller's row, or own
  std::vector<block_maxima> blocks;    // largest logit of each block
  std::vector<float> top;              // and of each chunk
  std::vector<std::uint32_t> active;   // chunks that may have candidates, ascending
  std::vector<float> logits;           // some candidates' logits
  std::vector<std::uint64_t> weights;  // what they weigh
  std::vector<std::uint32_t> keys;     // and order_key of their places in an order
  std::vector<occurrences> occurred;
  std::vector<std::uint32_t> touched;  // columns whose `occurred` is not 0
  std::vector<std::uint64_t> histogram;
  std::vector<chunk> before;  // room for logits that a stage wants to see again, if one does
};

}  // namespace detail
}  // namespace tpx
