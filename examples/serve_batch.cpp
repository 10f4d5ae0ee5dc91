// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Continues many texts at once with a Llama or Qwen2 model that is split over several ranks: all
// jobs share its steps and its cache. Prompts come from a file or from standard input, one a line.
#include "llama/options.hpp"

#include <tpx/generator/metrics_text.hpp>
#include <tpx/run_ranks.hpp>

#include <atomic>
#include <chrono>
#include <fstream>
#include <iostream>
#include <unistd.h>

namespace {

struct settings : llama::settings {
  std::string file;
  std::size_t pages = 0;
  std::size_t host_pages = 0;
  std::vector<std::string> stops;
};

std::vector<std::string> lines(std::istream& from) {
  std::vector<std::string> all;
  for (std::string line; std::getline(from, line);) {
    if (!line.empty()) { all.push_back(line); }
  }
  return all;
}

std::vector<std::string> prompts(std::string const& file) {
  if (file == "-") { return lines(std::cin); }
  if (file.empty()) {
    return {"And it came to pass",     "In the beginning", "The LORD is my shepherd",
            "Blessed are they",        "Thou shalt not",   "And Jesus said unto them",
            "Now these are the names", "Behold, I"};
  }
  std::ifstream from{file};
  tpx::expects(from.good(), file + " cannot be read", "name a file with a prompt in each line");
  return lines(from);
}

/// Prints the texts in the prompts' order: the first that has not ended grows, those after it wait.
/// Where standard error is a terminal, its last line says how far all are and how the text goes on,
/// and whole lines of text appear above.
class printer {
 public:
  explicit printer(std::vector<std::string> const& begun) {
    for (auto const& text : begun) { parts_.push_back({text, false}); }
  }
  printer(printer&&) = delete;
  ~printer() { write(std::exchange(line_, {})); }

  void add(std::size_t which, tpx::fresh_output const& news) {
    auto& mine = parts_[which];
    mine.text += news.text;
    if (news.reason != tpx::finish_reason::none) {
      mine.ended = true;
      mine.text += news.error.empty() ? "\n" : "\nfailed: " + std::string{news.error} + '\n';
      mine.text += "---\n";
      ++ended_;
    }
    tokens_ += news.tokens.size();
    for (; first_ < parts_.size(); ++first_) {
      line_ += std::exchange(parts_[first_].text, {});
      if (!parts_[first_].ended) { break; }
    }
    auto const whole = terminal_ ? line_.rfind('\n') + 1 : line_.size();
    write(line_.substr(0, whole));
    line_.erase(0, whole);
    if (terminal_) { progress(); }
  }

 private:
  struct part {
    std::string text;
    bool ended;
  };

  void write(std::string const& text) const {
    if (terminal_) { std::fputs("\r\x1b[K", stderr); }
    llama::show(text);
  }

  void progress() const {
    std::chrono::duration<double> const time = std::chrono::steady_clock::now() - begun_;
    constexpr std::size_t most = 40;
    auto const end = line_.substr(line_.size() - std::min(most, line_.size()));
    std::fprintf(stderr, "%zu of %zu texts, %zu tokens, %.0f a second: %s", ended_, parts_.size(),
                 tokens_, static_cast<double>(tokens_) / time.count(), end.c_str());
  }

  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
  bool terminal_ = ::isatty(STDERR_FILENO) == 1;
  std::vector<part> parts_;
  std::string line_;       // not yet written
  std::size_t first_ = 0;  // that has not ended
  std::size_t ended_ = 0;
  std::size_t tokens_ = 0;
};

/// A job for each text. Errors: invalid_argument, for one that could not be run.
std::vector<llama::generator::options> jobs_of(settings const& s, llama::opened const& model,
                                               std::vector<std::string> const& texts) {
  tpx::expects(!texts.empty(), "there is no prompt", "give one in each line");
  std::vector<llama::generator::options> jobs;
  for (auto const& text : texts) {
    jobs.push_back({.prompt = model.prompt(text, s.tokens),
                    .max_new_tokens = static_cast<int>(s.tokens),
                    .sampling = s.sampling(),
                    .seed = s.seed,
                    .stop_tokens = model.files.config.eos_token_ids,
                    .stop_strings = s.stops});
  }
  return jobs;
}

/// Whether all jobs came to their end; true on ranks other than 0. All ranks call it.
bool serve(tpx::group& g, settings const& s, llama::opened const& model,
           std::vector<std::string> const& texts,
           std::vector<llama::generator::options> const& jobs) {
  std::size_t longest = 0;
  for (auto const& job : jobs) { longest = std::max(longest, job.prompt.size() + s.tokens); }
  std::size_t constexpr page = llama::engine::page_size;
  std::size_t const pages =
    s.pages != 0 ? s.pages : std::min<std::size_t>(jobs.size(), 32) * ((longest + page - 1) / page);
  auto const plan = model.plan(g, pages * page, true);
  auto const own =
    llama::make_engine(s.transport, s.topology, g, model.files, plan,
                       {.max_tokens = longest, .pages = pages, .host_pages = s.host_pages});
  bool done = true;
  llama::serve(g, *own, model.words, {}, [&](llama::generator& serving) {
    {
      printer out{texts};
      for (std::size_t i = 0; i < jobs.size(); ++i) {
        serving.enqueue(jobs[i], [&, i](tpx::fresh_output const& news) { out.add(i, news); });
      }
      serving.drain();
    }
    auto const metrics = serving.metrics();
    llama::show(tpx::metrics_line(metrics) + '\n');
    done = metrics.failed_jobs == 0;
  });
  return done;
}

}  // namespace

int main(int argc, char** argv) try {
  settings s;
  CLI::App app{
    "Continues many texts at once with a Llama or Qwen2 model that is split over several ranks."};
  app.footer(
    "Examples:\n"
    "  serve_batch                              eight texts of its own on two ranks\n"
    "  serve_batch prompts.txt --ranks 4        a text for each line of a file\n"
    "  ls | serve_batch - --temperature 0.8     or of standard input");
  app.get_formatter()->column_width(24);
  llama::add_option(app, "file", s.file, "FILE",
                    "prompts, one a line; -: standard input (default: some of its own)");
  llama::add_options(app, s);
  llama::add_option(app, "--stop", s.stops, "TEXT", "ends a text; may be given several times")
    ->allow_extra_args(false);
  llama::add_option(app, "--pages", s.pages, "N",
                    "pages of 32 tokens in the cache (default: for 32 of the longest texts)");
  llama::add_option(app, "--host-pages", s.host_pages, "N",
                    "pages beside the cache, for what was evicted from it (default: 0)");
  try {
    app.parse(argc, argv);
  } catch (CLI::ParseError const& e) { return app.exit(e) == 0 ? 0 : 2; }
  auto const texts = prompts(s.file);
  auto const model = llama::opened::open(s.model);
  auto const jobs = jobs_of(s, model, texts);
  std::atomic<bool> done = true;
  tpx::run_ranks(s.ranks, [&](tpx::group& g) {
    if (!serve(g, s, model, texts, jobs)) { done = false; }
  });
  return done ? 0 : 1;
} catch (std::exception const& e) {
  std::fprintf(stderr, "serve_batch: %s\n", e.what());
  return 1;
}
