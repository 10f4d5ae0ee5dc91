// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "config.hpp"
#include "safetensors.hpp"

#include <tpx/split_budget.hpp>

#include <string>

namespace llama {

/// A model's folder, opened: what it is, and its tensors where they lie in the mapped files.
struct checkpoint {
  model_config config;
  safetensors tensors;

  /// Reads config.json and the headers of the safetensors files. Errors: file_error.
  [[nodiscard]] static checkpoint open(std::string const& folder);
};

/// What a split_plan must know of the model. Weights are bf16, keys and values fp32.
[[nodiscard]] tpx::model_shape shape_of(model_config const& config);

/// Quanta that fit weights which are plain rows: 32 MLP columns, 32 tokens; and room for `tokens`.
[[nodiscard]] tpx::split_options plan_options(std::size_t tokens);

}  // namespace llama
