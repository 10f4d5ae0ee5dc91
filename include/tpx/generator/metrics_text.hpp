// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/generator/histogram.hpp>
#include <tpx/generator/metrics.hpp>

#include <charconv>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tpx {

/// Says whose metrics they are: {"model", "llama"}. UTF-8.
struct metric_label {
  std::string_view name;
  std::string_view value;
};

namespace detail {

/// The shortest decimal that reads back as the same number.
template <class T>
void append_number(std::string& to, T value) {
  char text[32];
  auto const end = std::to_chars(text, text + sizeof(text), value).ptr;
  to.append(text, end);
}

/// To four digits, for people.
inline void append_rounded(std::string& to, double value) {
  char text[32];
  auto const end =
    std::to_chars(text, text + sizeof(text), value, std::chars_format::general, 4).ptr;
  to.append(text, end);
}

/// In quotes.
inline void append_json_string(std::string& to, std::string_view text) {
  constexpr char const* digits = "0123456789abcdef";
  to += '"';
  for (char const c : text) {
    if (auto const byte = static_cast<unsigned char>(c); byte < 0x20) {
      to += "\\u00";
      to += digits[byte >> 4];
      to += digits[byte & 15];
    } else {
      if (c == '"' || c == '\\') { to += '\\'; }
      to += c;
    }
  }
  to += '"';
}

inline void append_logged(std::string& to, std::string_view name, double value) {
  ((to += ' ') += name) += '=';
  append_rounded(to, value);
}
inline void append_logged(std::string& to, std::string_view name, std::uint64_t value) {
  ((to += ' ') += name) += '=';
  append_number(to, value);
}
template <auto const& Bounds>
void append_logged(std::string& to, std::string_view name, histogram<Bounds> const& h) {
  append_logged(to, std::string{name} + ".p50", h.quantile(.5));
  append_logged(to, std::string{name} + ".p99", h.quantile(.99));
}

}  // namespace detail

/// One line of name=value for people and for grep: `M` is job_metrics, generator_metrics or what
/// else has a describe(). Histograms give their median and their 99th percentile.
template <class M>
[[nodiscard]] std::string metrics_line(M const& metrics,
                                       std::span<metric_label const> labels = {}) {
  std::string line;
  for (auto const& [name, value] : labels) {
    ((line += ' ') += name) += '=';
    detail::append_json_string(line, value);
  }
  describe(metrics,
           [&](metric const& m, auto const& value) { detail::append_logged(line, m.name, value); });
  return line.empty() ? line : line.substr(1);
}

}  // namespace tpx
