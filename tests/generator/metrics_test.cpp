// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "counting_new.hpp"

#include <tpx/generator/metrics.hpp>
#include <tpx/generator/metrics_json.hpp>
#include <tpx/generator/metrics_prometheus.hpp>
#include <tpx/generator/metrics_text.hpp>
#include <tpx/generator/page_picture.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace {

tpx::generator_metrics busy() {
  tpx::generator_metrics m;
  for (int i = 0; i < 10; ++i) {
    tpx::job_metrics job;
    job.first_token_seconds = 0.02 * (i + 1);
    job.prompt_tokens = 100;
    job.cached_tokens = 75;
    job.new_tokens = 20;
    job.accepted_drafts = 6;
    job.rejected_drafts = 2;
    job.preemptions = i == 3 ? 2 : 0;
    job.requeues = i == 3 ? 5 : 0;
    m.add(job, &tpx::generator_metrics::finished_jobs);
    m.add_step(static_cast<std::size_t>(i + 1), 0.003, 4e-6);
  }
  m.add({}, &tpx::generator_metrics::failed_jobs);
  m.fragmentation = 0.125;
  m.evicted_pages = std::numeric_limits<std::uint64_t>::max();
  return m;
}

// All samples of a text in Prometheus' format; fails on what breaks the format.
class exposition {
 public:
  struct sample {
    std::string name;
    std::map<std::string, std::string> labels;
    double value;
  };
  std::vector<sample> samples;
  std::map<std::string, std::string> types, helps;

  explicit exposition(std::string_view text) : rest_{text} {
    while (!rest_.empty()) { line(); }
  }

  double value(std::string const& name, std::string const& le = "") const {
    for (auto const& s : samples) {
      if (s.name == name && (le.empty() || s.labels.at("le") == le)) { return s.value; }
    }
    FAIL("no sample " << name);
    return 0;
  }

 private:
  void line() {
    std::string family;
    if (take("# HELP ")) {
      family = word();
      need(" ");
      REQUIRE(helps.emplace(family, until_line_end()).second);
    } else if (take("# TYPE ")) {
      family = word();
      need(" ");
      auto const type = until_line_end();
      REQUIRE(std::set<std::string>{"counter", "gauge", "histogram"}.contains(type));
      REQUIRE(types.emplace(family, type).second);
    } else {
      sample s{word(), {}, 0};
      if (take("{")) {
        do {
          auto const label = word();
          need("=\"");
          REQUIRE(s.labels.emplace(label, quoted()).second);
        } while (take(","));
        need("}");
      }
      need(" ");
      auto const number = until_line_end();
      if (number == "+Inf") {
        s.value = std::numeric_limits<double>::infinity();
      } else if (number == "NaN") {
        s.value = std::numeric_limits<double>::quiet_NaN();
      } else {
        auto const [end, error] =
          std::from_chars(number.data(), number.data() + number.size(), s.value);
        REQUIRE((error == std::errc{} && end == number.data() + number.size()));
      }
      // A sample belongs to the family that was named last.
      REQUIRE(s.name.starts_with(last_));
      samples.push_back(s);
      return;
    }
    last_ = family;
  }

  bool take(std::string_view text) {
    if (!rest_.starts_with(text)) { return false; }
    rest_.remove_prefix(text.size());
    return true;
  }
  void need(std::string_view text) { REQUIRE(take(text)); }
  std::string word() {
    auto const end =
      rest_.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:");
    REQUIRE((end != 0 && end != rest_.npos));
    REQUIRE_FALSE((rest_[0] >= '0' && rest_[0] <= '9'));
    std::string const w{rest_.substr(0, end)};
    rest_.remove_prefix(end);
    return w;
  }
  std::string until_line_end() {
    auto const end = rest_.find('\n');
    REQUIRE(end != rest_.npos);
    std::string const text{rest_.substr(0, end)};
    rest_.remove_prefix(end + 1);
    return text;
  }
  std::string quoted() {
    std::string text;
    for (;;) {
      REQUIRE(!rest_.empty());
      char c = rest_.front();
      rest_.remove_prefix(1);
      if (c == '"') { return text; }
      REQUIRE(c != '\n');
      if (c == '\\') {
        REQUIRE(!rest_.empty());
        c = rest_.front();
        rest_.remove_prefix(1);
        REQUIRE((c == 'n' || c == '\\' || c == '"'));
        if (c == 'n') { c = '\n'; }
      }
      text += c;
    }
  }

  std::string_view rest_;
  std::string last_;
};

tpx::metric_label const nasty[]{{"model", "a \"quoted\" \\ name\nof two lines, é"},
                                {"rank_0", "}="}};

// Names of elements as they open and the texts between; fails on what is not well-formed.
class xml {
 public:
  std::vector<std::string> elements;
  std::vector<std::string> texts;

  explicit xml(std::string_view text) {
    std::vector<std::string> open;
    while (!text.empty()) {
      auto const tag = text.find('<');
      auto const words = text.substr(0, tag);
      check(words);
      if (words.find_first_not_of("\n ") != words.npos) {
        REQUIRE(!open.empty());
        texts.emplace_back(words);
      }
      if (tag == text.npos) { break; }
      text.remove_prefix(tag + 1);
      auto const end = text.find('>');
      REQUIRE(end != text.npos);
      std::string_view inside = text.substr(0, end);
      text.remove_prefix(end + 1);
      if (inside.starts_with('/')) {
        REQUIRE(!open.empty());
        REQUIRE(open.back() == inside.substr(1));
        open.pop_back();
        continue;
      }
      bool const closed = inside.ends_with('/');
      if (closed) { inside.remove_suffix(1); }
      std::string const name{inside.substr(0, inside.find(' '))};
      if (elements.empty()) {
        REQUIRE(name == "svg");
      } else {
        REQUIRE(!open.empty());
      }
      elements.push_back(name);
      attributes(inside.substr(name.size()));
      if (!closed) { open.push_back(name); }
    }
    REQUIRE(open.empty());
  }

 private:
  static void attributes(std::string_view text) {
    while (!text.empty()) {
      REQUIRE(text.front() == ' ');
      auto const equals = text.find("=\"");
      REQUIRE(equals != text.npos);
      auto const end = text.find('"', equals + 2);
      REQUIRE(end != text.npos);
      check(text.substr(equals + 2, end - equals - 2));
      text.remove_prefix(end + 1);
    }
  }
  static void check(std::string_view text) {
    for (auto at = text.find('&'); at != text.npos; at = text.find('&', at + 1)) {
      auto const rest = text.substr(at);
      REQUIRE((rest.starts_with("&amp;") || rest.starts_with("&lt;") || rest.starts_with("&gt;") ||
               rest.starts_with("&quot;")));
    }
    REQUIRE(std::ranges::none_of(text, [](char c) { return c >= 0 && c < 0x20 && c != '\n'; }));
  }
};

constexpr double tens[]{10, 20, 30};

}  // namespace

TEST_CASE("a histogram counts up to each bound and interpolates between", "[metrics]") {
  tpx::histogram<tens> h;
  CHECK(h.quantile(.5) == 0);
  for (double const value : {1.0, 10.0, 10.5, 20.0, 29.0, 31.0, 1000.0}) { h.add(value); }
  CHECK(std::ranges::equal(h.counts(), std::vector<std::uint64_t>{2, 2, 1, 2}));
  CHECK(h.count() == 7);
  CHECK(h.sum() == 1101.5);
  CHECK(h.quantile(1) == 30);
  tpx::histogram<tens> even;
  for (int i = 1; i <= 3000; ++i) { even.add(i / 100.0); }
  for (double part : {.01, .25, .5, .75, .99}) {
    CHECK(std::abs(even.quantile(part) - 30 * part) < 0.02);
  }
}

TEST_CASE("metrics as JSON hold every value", "[metrics]") {
  auto const m = busy();
  auto const json = nlohmann::json::parse(tpx::metrics_json(m));
  CHECK(json.at("finished_jobs") == 10);
  CHECK(json.at("failed_jobs") == 1);
  CHECK(json.at("preemptions") == 2);
  CHECK(json.at("requeues") == 5);
  CHECK(json.at("cache_hit_ratio") == 0.75);
  CHECK(json.at("draft_acceptance_ratio") == 0.75);
  CHECK(json.at("fragmentation_ratio") == 0.125);
  CHECK(json.at("evicted_pages") == std::numeric_limits<std::uint64_t>::max());
  CHECK_FALSE(json.contains("labels"));
  auto const& steps = json.at("step_seconds");
  CHECK(steps.at("count") == 10);
  CHECK(std::abs(steps.at("sum").get<double>() - 0.03) < 1e-12);
  CHECK(steps.at("counts").size() == steps.at("bounds").size() + 1);
  std::size_t values = 0;
  describe(m, [&](tpx::metric const& about, auto const&) {
    CHECK(json.contains(about.name));
    ++values;
  });
  CHECK(json.size() == values);

  auto const labelled = nlohmann::json::parse(tpx::metrics_json(tpx::job_metrics{}, nasty));
  CHECK(labelled.at("labels").at("model") == std::string{nasty[0].value});
  CHECK(labelled.at("labels").at("rank_0") == "}=");
}

TEST_CASE("JSON has null for what is no number, and escapes control characters", "[metrics]") {
  tpx::job_metrics job;
  job.queue_seconds = std::numeric_limits<double>::infinity();
  job.decode_seconds = std::numeric_limits<double>::quiet_NaN();
  std::string every;
  for (char c = 1; c > 0; ++c) {
    every += c;
    if (c == 127) { break; }
  }
  tpx::metric_label const label{"all", every};
  auto const json = nlohmann::json::parse(tpx::metrics_json(job, {&label, 1}));
  CHECK(json.at("queue_seconds").is_null());
  CHECK(json.at("decode_seconds").is_null());
  CHECK(json.at("labels").at("all") == every);
}

TEST_CASE("metrics for Prometheus keep its format", "[metrics]") {
  exposition const plain{tpx::metrics_prometheus(busy())};
  CHECK(plain.value("tpx_finished_jobs_total") == 10);
  CHECK(plain.types.at("tpx_finished_jobs_total") == "counter");
  CHECK(plain.types.at("tpx_running_jobs") == "gauge");
  CHECK(plain.types.at("tpx_first_token_seconds") == "histogram");
  CHECK(plain.types.size() == plain.helps.size());
  CHECK(plain.value("tpx_fragmentation_ratio") == 0.125);

  // Buckets are cumulative and end with all; 0.02 to 0.2 by 0.02.
  CHECK(plain.value("tpx_first_token_seconds_bucket", "0.01") == 0);
  CHECK(plain.value("tpx_first_token_seconds_bucket", "0.05") == 2);
  CHECK(plain.value("tpx_first_token_seconds_bucket", "0.25") == 10);
  CHECK(plain.value("tpx_first_token_seconds_bucket", "+Inf") == 10);
  CHECK(plain.value("tpx_first_token_seconds_count") == 10);
  CHECK(std::abs(plain.value("tpx_first_token_seconds_sum") - 1.1) < 1e-12);
  CHECK(plain.value("tpx_batch_size_bucket", "8") == 8);

  exposition const labelled{tpx::metrics_prometheus(busy(), nasty, "engine")};
  CHECK(labelled.samples.size() == plain.samples.size());
  for (auto const& s : labelled.samples) {
    CHECK(s.name.starts_with("engine_"));
    CHECK(s.labels.at("model") == nasty[0].value);
    CHECK(s.labels.at("rank_0") == "}=");
    CHECK(s.labels.contains("le") == s.name.ends_with("_bucket"));
  }

  tpx::job_metrics job;
  job.queue_seconds = std::numeric_limits<double>::infinity();
  job.decode_seconds = std::numeric_limits<double>::quiet_NaN();
  exposition const odd{tpx::metrics_prometheus(job)};
  CHECK(std::isinf(odd.value("tpx_queue_seconds")));
  CHECK(std::isnan(odd.value("tpx_decode_seconds")));
}

TEST_CASE("labels that Prometheus forbids are refused", "[metrics]") {
  for (std::string_view name : {"", "1st", "a-b", "le", "é", "a b"}) {
    tpx::metric_label const label{name, "x"};
    CHECK_THROWS_AS(tpx::metrics_prometheus(tpx::job_metrics{}, {&label, 1}), tpx::error);
  }
}

TEST_CASE("metrics are one line for a log", "[metrics]") {
  tpx::job_metrics job;
  job.queue_seconds = 0.00123456;
  job.decode_seconds = 2;
  job.new_tokens = 101;
  tpx::metric_label const label{"job", "a b"};
  auto const line = tpx::metrics_line(job, {&label, 1});
  CHECK(line.starts_with("job=\"a b\" queue_seconds=0.001235 prefill_seconds=0 "));
  CHECK(line.find(" tokens_per_second=50 ") != line.npos);
  CHECK(line.find(" new_tokens=101 ") != line.npos);
  CHECK(line.find('\n') == line.npos);
  auto const whole = tpx::metrics_line(busy());
  CHECK(whole.starts_with("finished_jobs=10 "));
  CHECK(whole.find(" step_seconds.p50=") != whole.npos);
  CHECK(whole.find(" step_seconds.p99=") != whole.npos);
}

TEST_CASE("to count allocates nothing", "[metrics]") {
  tpx::generator_metrics m;
  auto const before = allocations;
  for (int i = 0; i < 100; ++i) {
    m.add_step(3, 0.01, 1e-5);
    m.add({}, &tpx::generator_metrics::cancelled_jobs);
  }
  CHECK(allocations == before);
  CHECK(m.cancelled_jobs == 100);
}

TEST_CASE("a picture of the page table is well-formed and shows every page", "[metrics]") {
  for (std::size_t const count : {0u, 1u, 7u, 40u}) {
    std::vector<tpx::page_drawing> pages(count);
    for (std::size_t i = 0; i < count; ++i) {
      pages[i] = {static_cast<tpx::page_look>(i % 4), i % 3 == 0 ? "<&>" : "", "job \"7\"\t& more"};
    }
    xml const picture{tpx::page_picture(pages, {.columns = 8, .title = "pages of <a> & b"})};
    auto const number = [&](std::string_view element) {
      return static_cast<std::size_t>(std::ranges::count(picture.elements, element));
    };
    CHECK(number("rect") == count + 4);
    CHECK(number("title") == count);
    CHECK(number("text") == 1 + (count + 2) / 3 + 4);
    CHECK(std::ranges::count(picture.texts, "pages of &lt;a&gt; &amp; b") == 1);
    for (std::size_t look = 0; look < 4; ++look) {
      auto const legend = std::string{name(static_cast<tpx::page_look>(look))} + ": " +
                          std::to_string((count + 3 - look) / 4);
      CHECK(std::ranges::count(picture.texts, legend) == 1);
    }
  }
  CHECK_THROWS_AS(tpx::page_picture({}, {.columns = 0}), tpx::error);
}
