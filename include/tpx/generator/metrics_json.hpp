// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/histogram.hpp>
#include <tpx/generator/metrics.hpp>
#include <tpx/generator/metrics_text.hpp>

#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tpx {
namespace detail {

// JSON knows no infinity.
inline void append_json(std::string& to, double value) {
  if (std::isfinite(value)) {
    append_number(to, value);
  } else {
    to += "null";
  }
}
inline void append_json(std::string& to, std::uint64_t value) {
  append_number(to, value);
}

/// The next member of an object or element of an array comes.
inline void append_comma(std::string& to) {
  if (to.back() != '{' && to.back() != '[') { to += ','; }
}
inline void append_member(std::string& to, std::string_view name) {
  append_comma(to);
  append_json_string(to, name);
  to += ':';
}
template <class T>
void append_member(std::string& to, std::string_view name, T value) {
  append_member(to, name);
  append_json(to, value);
}
template <class Values>
void append_members(std::string& to, std::string_view name, Values const& values) {
  append_member(to, name);
  to += '[';
  for (auto const value : values) {
    append_comma(to);
    append_json(to, value);
  }
  to += ']';
}

template <auto const& Bounds>
void append_json(std::string& to, histogram<Bounds> const& h) {
  to += '{';
  append_member(to, "count", h.count());
  append_member(to, "sum", h.sum());
  append_member(to, "p50", h.quantile(.5));
  append_member(to, "p99", h.quantile(.99));
  append_members(to, "bounds", h.bounds());
  append_members(to, "counts", h.counts());
  to += '}';
}

}  // namespace detail

/// One object of name: value; a histogram is an object of count, sum, p50, p99, bounds and counts,
/// which has one count more. What is no finite number is null. Labels, if any, are the object
/// "labels".
template <class M>
[[nodiscard]] std::string metrics_json(M const& metrics,
                                       std::span<metric_label const> labels = {}) {
  std::string text{"{"};
  if (!labels.empty()) {
    detail::append_member(text, "labels");
    text += '{';
    for (auto const& [name, value] : labels) {
      detail::append_member(text, name);
      detail::append_json_string(text, value);
    }
    text += '}';
  }
  describe(metrics, [&](metric const& m, auto const& value) {
    detail::append_member(text, m.name);
    detail::append_json(text, value);
  });
  return text += '}';
}

}  // namespace tpx
