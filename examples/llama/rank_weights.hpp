// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "checkpoint.hpp"

#include <tpx/layer/attention.hpp>
#include <tpx/layer/embedding.hpp>
#include <tpx/layer/mlp.hpp>
#include <tpx/layer/rms_norm.hpp>
#include <tpx/layer/sharded_head.hpp>
#include <tpx/split_plan.hpp>

#include <functional>
#include <list>
#include <vector>

namespace llama {

/// Called now and then while weights are loaded, with the part done, from 0 to 1.
using progress = std::function<void(double)>;

/// One rank's share of a checkpoint, as layers.
///
/// Slices of rows, and the whole embedding, stay where they are in the mapped files, so ranks of
/// one host share them; slices of columns are copied, close together. F32 and F16 tensors are
/// rounded to bf16 as they are copied. Norms and biases become fp32.
/// Errors  file_error: missing_tensor, wrong_dtype, wrong_shape. invalid_argument: the plan is for
///         another shape.
class rank_weights {
 public:
  struct layer {
    tpx::rms_norm attention_norm;
    tpx::attention attention;
    tpx::rms_norm mlp_norm;
    tpx::mlp mlp;
  };

  /// `files` must outlive this.
  rank_weights(checkpoint const& files, tpx::split_plan const& plan, int rank,
               progress const& report);

  tpx::embedding<tpx::split::All> embedding;
  std::vector<layer> layers;
  tpx::rms_norm norm;
  tpx::sharded_head head;

 private:
  class loader;

  std::list<std::vector<tpx::bfloat16>> matrices_;  // that were copied
  std::list<std::vector<float>> vectors_;
};

}  // namespace llama
