// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

// The generator with all that is used beside it. What is needed alone is cheaper to include alone.
#include <tpx/generator/allowed_tokens.hpp>
#include <tpx/generator/any_sampler.hpp>
#include <tpx/generator/generator.hpp>
#include <tpx/generator/json_schema_filter.hpp>
#include <tpx/generator/metrics_json.hpp>
#include <tpx/generator/metrics_prometheus.hpp>
#include <tpx/generator/metrics_text.hpp>
#include <tpx/generator/model_draft.hpp>
#include <tpx/generator/ngram_draft.hpp>
#include <tpx/generator/page_picture.hpp>
#include <tpx/generator/regex_filter.hpp>
#include <tpx/generator/sample_order.hpp>
#include <tpx/generator/sampler.hpp>
