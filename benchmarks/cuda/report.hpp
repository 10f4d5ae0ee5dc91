// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include "options.hpp"

#include <cmath>
#include <cstdio>
#include <memory>

namespace bench {

/// One line of the table.
struct line {
  std::size_t bytes;
  std::string provider;
  double us;
  double p99;
  double algbw;  // GB/s
  double busbw;
  double share;  // of the link
  bool checked;
  unsigned long long wrong;
  double ratio;  // of the time to the fastest peer's; 0: no peer
};

inline double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v.size() % 2 != 0 ? v[v.size() / 2] : (v[v.size() / 2 - 1] + v[v.size() / 2]) / 2;
}

inline double percentile(std::vector<double> v, double p) {
  std::sort(v.begin(), v.end());
  auto const rank = static_cast<std::size_t>(std::ceil(p * static_cast<double>(v.size())));
  return v[std::clamp<std::size_t>(rank, 1, v.size()) - 1];
}

/// Writes the table to the terminal as it grows, to a CSV file and, at its end, to a JSON file.
class report {
 public:
  /// `facts`: what holds for every line, such as the number of ranks.
  report(options const& o, std::string collective,
         std::vector<std::pair<std::string, std::string>> facts)
      : options_{o}, facts_{std::move(facts)} {
    facts_.insert(facts_.begin(), {"collective", std::move(collective)});
    std::printf("# %s\n#", o.command.c_str());
    for (auto const& [name, value] : facts_) { std::printf(" %s=%s", name.c_str(), value.c_str()); }
    std::printf("\n%11s  %-16s %10s %10s %9s %9s %6s  %-7s %7s\n", "bytes", "provider", "us median",
                "us p99", "algbw", "busbw", "link", "correct", "vs peer");
    std::fflush(stdout);
    if (!o.csv.empty()) {
      csv_ = open(o.csv, "a");
      std::fprintf(csv_.get(), "# %s\n", o.command.c_str());
      for (auto const& [name, value] : facts_) { std::fprintf(csv_.get(), "%s,", name.c_str()); }
      std::fprintf(csv_.get(),
                   "bytes,provider,us_median,us_p99,algbw,busbw,link_share,correct,"
                   "ratio_to_best_peer\n");
    }
  }

  void add(line const& l) {
    lines_.push_back(l);
    std::printf("%11zu  %-16s %10.2f %10.2f %9.1f %9.1f %5.1f%%  %-7s ", l.bytes,
                l.provider.c_str(), l.us, l.p99, l.algbw, l.busbw, 100 * l.share, verdict(l));
    l.ratio == 0 ? std::printf("%7s\n", "") : std::printf("%7.2f\n", l.ratio);
    std::fflush(stdout);
    if (csv_) {
      for (auto const& fact : facts_) { std::fprintf(csv_.get(), "%s,", fact.second.c_str()); }
      std::fprintf(csv_.get(), "%zu,%s,%.3f,%.3f,%.3f,%.3f,%.4f,%s,", l.bytes, l.provider.c_str(),
                   l.us, l.p99, l.algbw, l.busbw, l.share, verdict(l));
      l.ratio == 0 ? std::fprintf(csv_.get(), "\n") : std::fprintf(csv_.get(), "%.3f\n", l.ratio);
      std::fflush(csv_.get());
    }
  }

  /// True if no line was wrong.
  [[nodiscard]] bool finish() const {
    if (!options_.json.empty()) { write_json(); }
    return std::none_of(lines_.begin(), lines_.end(), [](auto const& l) { return l.wrong != 0; });
  }

 private:
  struct closer {
    void operator()(std::FILE* f) const { std::fclose(f); }
  };
  using file = std::unique_ptr<std::FILE, closer>;

  static file open(std::string const& path, char const* mode) {
    file f{std::fopen(path.c_str(), mode)};
    if (!f) { throw tpx::error{tpx::errc::io, "cannot write " + path}; }
    return f;
  }

  static char const* verdict(line const& l) {
    return !l.checked ? "-" : l.wrong == 0 ? "yes" : "NO";
  }

  void write_json() const {
    std::string command;
    for (char const c : options_.command) { command += c == '"' || c == '\\' ? '\'' : c; }
    auto const f = open(options_.json, "w");
    std::fprintf(f.get(), "{\n  \"command\": \"%s\"", command.c_str());
    for (auto const& [name, value] : facts_) {
      std::fprintf(f.get(), ",\n  \"%s\": \"%s\"", name.c_str(), value.c_str());
    }
    std::fprintf(f.get(), ",\n  \"rows\": [");
    char const* separator = "\n";
    for (auto const& l : lines_) {
      std::fprintf(f.get(),
                   "%s    {\"bytes\": %zu, \"provider\": \"%s\", \"us_median\": %.3f, "
                   "\"us_p99\": %.3f, \"algbw\": %.3f, \"busbw\": %.3f, \"link_share\": %.4f, "
                   "\"correct\": %s, \"ratio_to_best_peer\": ",
                   separator, l.bytes, l.provider.c_str(), l.us, l.p99, l.algbw, l.busbw, l.share,
                   !l.checked     ? "null"
                   : l.wrong == 0 ? "true"
                                  : "false");
      l.ratio == 0 ? std::fprintf(f.get(), "null}") : std::fprintf(f.get(), "%.3f}", l.ratio);
      separator = ",\n";
    }
    std::fprintf(f.get(), "\n  ]\n}\n");
  }

  options options_;
  std::vector<std::pair<std::string, std::string>> facts_;
  file csv_;
  std::vector<line> lines_;
};

}  // namespace bench
