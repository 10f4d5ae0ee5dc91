// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/histogram.hpp>
#include <tpx/generator/metrics.hpp>
#include <tpx/generator/metrics_text.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace tpx {
namespace detail {

// What the text format of Prometheus wants before \, line feeds and, within labels, quotes.
inline void append_escaped(std::string& to, std::string_view text, std::string_view special) {
  for (char const c : text) {
    if (c == '\n') {
      to += "\\n";
    } else {
      if (special.find(c) != std::string_view::npos) { to += '\\'; }
      to += c;
    }
  }
}

inline bool is_metric_name(std::string_view name) {
  auto const letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  };
  return !name.empty() && letter(name.front()) &&
         std::ranges::all_of(name, [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

// One line: name{labels} value.
template <class T>
void append_sample(std::string& to, std::string_view name, std::string_view labels, T value) {
  to += name;
  if (!labels.empty()) { (to += '{').append(labels) += '}'; }
  to += ' ';
  if constexpr (std::is_same_v<T, double>) {
    if (std::isinf(value)) {
      to += value > 0 ? "+Inf" : "-Inf";
    } else if (std::isnan(value)) {
      to += "NaN";
    } else {
      append_number(to, value);
    }
  } else {
    append_number(to, value);
  }
  to += '\n';
}

template <auto const& Bounds>
void append_sample(std::string& to, std::string const& name, std::string const& labels,
                   histogram<Bounds> const& h) {
  std::uint64_t sum = 0;
  std::string const comma = labels.empty() ? "" : ",";
  for (std::size_t i = 0; i < h.counts().size(); ++i) {
    std::string bucket = labels + comma + "le=\"";
    if (i < h.bounds().size()) {
      append_number(bucket, h.bounds()[i]);
    } else {
      bucket += "+Inf";
    }
    append_sample(to, name + "_bucket", bucket + '"', sum += h.counts()[i]);
  }
  append_sample(to, name + "_sum", labels, h.sum());
  append_sample(to, name + "_count", labels, h.count());
}

template <class T>
constexpr char const* kind_of(T const&, bool total) {
  return total ? "counter" : "gauge";
}
template <auto const& Bounds>
constexpr char const* kind_of(histogram<Bounds> const&, bool) {
  return "histogram";
}

inline std::string prometheus_labels(std::span<metric_label const> labels) {
  std::string text;
  for (auto const& [name, value] : labels) {
    expects(
      is_metric_name(name) && name != "le",
      [&] { return '"' + std::string{name} + "\" is no name for a label of metrics"; },
      "use letters, digits and _, no digit first, and not le");
    if (!text.empty()) { text += ','; }
    text.append(name) += "=\"";
    append_escaped(text, value, "\\\"");
    text += '"';
  }
  return text;
}

}  // namespace detail

/// The text format 0.0.4 of Prometheus, as served under /metrics: `prefix`_name, with _total where
/// the number only grows. Throws invalid_argument for a label's name that it forbids.
template <class M>
[[nodiscard]] std::string metrics_prometheus(M const& metrics,
                                             std::span<metric_label const> labels = {},
                                             std::string_view prefix = "tpx") {
  std::string const given = detail::prometheus_labels(labels);
  std::string text;
  describe(metrics, [&](metric const& m, auto const& value) {
    std::string name{prefix};
    (name += '_') += m.name;
    if (m.total) { name += "_total"; }
    (text += "# HELP ").append(name) += ' ';
    detail::append_escaped(text, m.help, "\\");
    (text += "\n# TYPE ").append(name) += ' ';
    (text += detail::kind_of(value, m.total)) += '\n';
    detail::append_sample(text, name, given, value);
  });
  return text;
}

}  // namespace tpx
