// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/model.hpp>
#include <tpx/generator/page_hash.hpp>
#include <tpx/generator/page_stats.hpp>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tpx {

/// How a page is drawn.
enum class page_look : std::uint8_t {
  free,      ///< it holds nothing
  cached,    ///< it holds tokens that no sequence uses
  shared,    ///< sequences read it
  writable,  ///< one sequence writes it
};

[[nodiscard]] constexpr std::string_view name(page_look look) noexcept {
  constexpr std::string_view names[]{"free", "cached", "shared", "writable"};
  return names[static_cast<std::size_t>(look)];
}

struct page_drawing {
  page_look look = page_look::free;
  std::string_view label = {};  // two or three characters within the page: its readers, its job
  std::string_view note = {};   // shown where the pointer rests on the page
};

struct page_picture_options {
  std::size_t columns = 32;
  std::string_view title = {};
};

namespace detail {

inline constexpr std::string_view page_colours =
  "<style>rect{width:22px;height:22px;stroke:#555}text{font:9px sans-serif}"
  ".free{fill:#f4f4f4}.cached{fill:#9ecae1}.shared{fill:#4292c6}.writable{fill:#fd8d3c}</style>\n";

/// As XML's text and attributes want it; control characters, which it cannot hold, as '?'.
inline void append_xml(std::string& to, std::string_view text) {
  constexpr std::string_view special = "&<>\"";
  constexpr char const* names[]{"&amp;", "&lt;", "&gt;", "&quot;"};
  for (char const c : text) {
    if (auto const at = special.find(c); at != special.npos) {
      to += names[at];
    } else {
      to += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
    }
  }
}

inline void append_square(std::string& to, std::size_t x, std::size_t y, page_look look) {
  to += "<rect x=\"" + std::to_string(x) + "\" y=\"" + std::to_string(y);
  ((to += "\" class=\"") += name(look)) += "\"/>";
}

inline void append_words(std::string& to, std::size_t x, std::size_t y, std::string_view words) {
  to += "<text x=\"" + std::to_string(x) + "\" y=\"" + std::to_string(y) + "\">";
  append_xml(to, words);
  to += "</text>";
}

}  // namespace detail

/// An SVG picture of a page table: a square a page, in the order of their ids, coloured by what the
/// page is, and a legend that counts them. So a design can be drawn without a table. Labels are
/// UTF-8. Throws invalid_argument for 0 columns.
[[nodiscard]] inline std::string page_picture(std::span<page_drawing const> pages,
                                              page_picture_options const& how = {}) {
  expects(how.columns > 0, "a picture of 0 columns", "give it at least one");
  constexpr std::size_t cell = 24;
  constexpr std::size_t legend = 110;  // units a word of it
  std::size_t const top = how.title.empty() ? 4 : cell + 4;
  std::size_t const rows = (pages.size() + how.columns - 1) / how.columns;
  std::size_t const bottom = top + rows * cell + 8;
  std::size_t const width = std::max(how.columns * cell, 4 * legend) + 8;

  std::string svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 ";
  svg += std::to_string(width) + ' ' + std::to_string(bottom + cell) + "\">";
  svg += detail::page_colours;
  if (!how.title.empty()) { detail::append_words(svg, 4, 16, how.title); }
  std::array<std::size_t, 4> counts{};
  for (std::size_t i = 0; i < pages.size(); ++i) {
    auto const& page = pages[i];
    ++counts[static_cast<std::size_t>(page.look)];
    std::size_t const x = 4 + i % how.columns * cell;
    std::size_t const y = top + i / how.columns * cell;
    svg += "<g><title>page " + std::to_string(i) + ": ";
    svg += name(page.look);
    if (!page.note.empty()) { detail::append_xml(svg += ", ", page.note); }
    svg += "</title>";
    detail::append_square(svg, x, y, page.look);
    if (!page.label.empty()) { detail::append_words(svg, x + 3, y + 14, page.label); }
    svg += "</g>\n";
  }
  for (std::size_t i = 0; i < counts.size(); ++i) {
    auto const look = static_cast<page_look>(i);
    detail::append_square(svg, 4 + i * legend, bottom, look);
    detail::append_words(svg, 30 + i * legend, bottom + 14,
                         std::string{name(look)} + ": " + std::to_string(counts[i]));
  }
  return svg += "</svg>\n";
}

/// The same of a table as it is now: a page_table, or what has its size() and info(page). A label
/// tells how many sequences share a page, and a note all that info() does.
template <class Pages>
requires requires(Pages const& pages, page_id page) {
  { pages.info(page) } -> std::same_as<page_info>;
}
[[nodiscard]] std::string page_picture(Pages const& pages, page_picture_options const& how = {}) {
  std::vector<page_drawing> drawings(pages.size());
  std::vector<std::string> words(2 * pages.size());
  for (std::size_t i = 0; i < pages.size(); ++i) {
    page_info const info = pages.info(static_cast<page_id>(i));
    std::string& label = words[2 * i];
    std::string& note = words[2 * i + 1];
    if (info.refs > 1) { label = std::to_string(info.refs); }
    if (info.tokens > 0) {
      note =
        std::to_string(info.tokens) + " tokens, " + std::to_string(info.depth) + " pages before";
    }
    if (info.on_host) { note += ", on the host too"; }
    bool const read = info.refs > 1 || info.key != hash128{};
    drawings[i] = {info.state == page_state::blank          ? page_look::free
                   : info.state == page_state::idle         ? page_look::cached
                   : info.state == page_state::used && read ? page_look::shared
                                                            : page_look::writable,
                   label, note};
  }
  return page_picture(std::span<page_drawing const>{drawings}, how);
}

}  // namespace tpx
