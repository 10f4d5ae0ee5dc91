// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Continues a text with a Llama or Qwen2 model that is split over several ranks: threads of this
// program, or the processes that tpx-run or another launcher starts.
#include "child.hpp"
#include "generate.hpp"
#include "options.hpp"
#include "progress_bar.hpp"

#include <tpx/run_ranks.hpp>
#include <tpx/runtime/launch_environment.hpp>

#include <sstream>

namespace {

using llama::show;

struct settings : llama::settings {
  std::string prompt = "And it came to pass";
  bool compare = false;
  bool worker = false;  // a process of a row of the comparison: print a line of figures, no text
};

constexpr char const* worker_line = "llama-worker:";

struct opened {
  llama::opened model;
  llama::generator::options job;
};

opened open(settings const& s) {
  auto model = llama::opened::open(s.model);
  auto prompt = model.prompt(s.prompt, s.tokens);
  auto ending = model.files.config.eos_token_ids;
  return {std::move(model),
          {.prompt = std::move(prompt),
           .max_new_tokens = static_cast<int>(s.tokens),
           .sampling = s.sampling(),
           .seed = s.seed,
           .stop_tokens = std::move(ending)}};
}

/// Generates on as many ranks as `s` says; what it returns is rank 0's in a process of rank 0.
llama::result run(settings const& s, opened const& o, bool stream) {
  llama::result result;
  tpx::run_ranks(s.ranks, [&](tpx::group& g) {
    auto const& files = o.model.files;
    auto const plan = o.model.plan(g, o.job.prompt.size() + s.tokens, stream);
    bool const speaks = stream && g.rank() == 0;
    std::unique_ptr<llama::engine> model;
    {
      llama::progress_bar bar{files.tensors.total_bytes()};
      std::function<void(double)> loading;
      if (speaks) {
        loading = [&](double part) { bar.show(part); };
      }
      model = llama::make_engine(s.transport, s.topology, g, files, plan,
                                 {.max_tokens = plan.options().tokens, .loading = loading});
    }
    if (speaks) { show(s.prompt); }
    auto done = llama::generate(g, *model, o.model.words, o.job, [&](std::string_view text) {
      if (stream) { show(text); }
    });
    if (g.rank() != 0) { return; }
    if (stream) { show("\n"); }
    result = std::move(done);
  });
  return result;
}

void print_worker_line(llama::result const& r) {
  std::ostringstream line;
  line << worker_line << ' ' << r.steps << ' ' << r.seconds << ' ' << r.collectives << ' '
       << r.seconds_in_collectives;
  for (auto const token : r.tokens) { line << ' ' << token; }
  show(line.str() + '\n');
}

llama::result read_worker_line(std::string const& output) {
  auto const at = output.find(worker_line);
  if (at == output.npos) {
    throw tpx::error{tpx::errc::io, "a worker ended without its line of figures"};
  }
  std::istringstream line{output.substr(at + std::strlen(worker_line))};
  llama::result r;
  line >> r.steps >> r.seconds >> r.collectives >> r.seconds_in_collectives;
  for (std::int32_t token = 0; line >> token;) { r.tokens.push_back(token); }
  return r;
}

/// The same as run(), with a process for each rank.
llama::result run_processes(settings const& s) {
  auto const number = [](char const* name, double value) {
    std::ostringstream text;
    text.precision(17);
    text << name << value;
    return text.str();
  };
  auto const out = llama::run_child(
    {llama::program_folder() + "/tpx-run", "-n", std::to_string(s.ranks), llama::program_path(),
     "--worker", "--model=" + s.model, "--prompt=" + s.prompt,
     "--tokens=" + std::to_string(s.tokens), number("--temperature=", s.temperature),
     "--top-k=" + std::to_string(s.top_k), number("--top-p=", s.top_p), number("--min-p=", s.min_p),
     "--seed=" + std::to_string(s.seed), "--transport=" + s.transport, "--topology=" + s.topology});
  if (out.status != 0) {
    throw tpx::error{tpx::errc::rank_failed, "tpx-run with " + std::to_string(s.ranks) +
                                               " ranks failed; its errors stand above"};
  }
  return read_worker_line(out.text);
}

/// Prints a line for each of many configurations. Whether all gave the tokens `first`.
bool compare(settings s, opened const& o, std::vector<std::int32_t> const& first) {
  bool same = true;
  show("\nranks  as         topology  tokens/s  collectives a token  time in them  text\n");
  for (int const ranks : {1, 2, 4}) {
    for (bool const processes : {false, true}) {
      for (char const* const topology : {"Ring", "Tree", "AllPairs"}) {
        if (ranks == 1 && topology != std::string_view{"AllPairs"}) { continue; }
        s.ranks = ranks;
        s.topology = topology;
        auto const r = processes ? run_processes(s) : run(s, o, false);
        bool const equal = r.tokens == first;
        same = same && equal;
        double const steps = std::max(1.0, static_cast<double>(r.steps));
        std::printf("%5d  %-9s  %-8s  %8.0f  %19.1f  %10.0f %%  %s\n", ranks,
                    processes ? "processes" : "threads", ranks == 1 ? "-" : topology,
                    steps / r.seconds, static_cast<double>(r.collectives) / steps,
                    100 * r.seconds_in_collectives / r.seconds, equal ? "the same" : "DIFFERENT");
        std::fflush(stdout);
      }
    }
  }
  return same;
}

/// Reads the command line. Errors: CLI::ParseError, which also carries --help.
settings parse(CLI::App& app, int argc, char** argv, std::optional<tpx::launch> const& launch) {
  settings s;
  app.description(
    "Continues a text with a Llama or Qwen2 model that is split over several ranks: threads of\n"
    "this program, or processes where tpx-run, torchrun, mpirun or srun starts it.");
  app.footer(
    "Examples:\n"
    "  llama                                        the model that has read the King James Bible\n"
    "  llama --prompt \"In the beginning\" --ranks 4  one line of text on four ranks\n"
    "  llama --temperature 0.8 --seed 7             a text of its own, the same each time\n"
    "  llama --model ~/Llama-3.2-1B --tokens 64     a folder as Hugging Face lays it out\n"
    "  tpx-run -n 2 llama --topology Ring           each rank a process");
  app.get_formatter()->column_width(24);
  llama::add_option(app, "--prompt", s.prompt, "TEXT",
                    "the text to continue (default: And it came to pass)");
  llama::add_options(app, s);
  bool wanted = false;
  bool unwanted = false;
  auto* const compare =
    app.add_flag("--compare", wanted,
                 "then do the same on 1, 2 and 4 ranks, as threads and as processes,\n"
                 "with each topology, and fail if any text differs\n"
                 "(default where neither --model nor a launcher is used)");
  app.add_flag("--no-compare", unwanted, "only generate the text")->excludes(compare);
  app.add_flag("--worker", s.worker)->group("");
  app.parse(argc, argv);
  s.compare = wanted || (!unwanted && !launch && app.count("--model") == 0);
  if (launch) {
    if (app.count("--ranks") != 0 && s.ranks != launch->size) {
      throw CLI::ValidationError{"--ranks", std::to_string(s.ranks) + ", but " +
                                              std::string{launch->launcher} + " started " +
                                              std::to_string(launch->size) + " ranks"};
    }
    s.ranks = launch->size;
    if (s.compare) {  // a launcher's variables would reach the ranks that it starts
      throw CLI::ValidationError{"--compare", "starts ranks itself: run it without a launcher"};
    }
  }
  return s;
}

/// Streams the text, then compares. The exit code.
int generate_text(settings const& s, opened const& o, bool leader) {
  auto const r = run(s, o, !s.worker);
  if (!leader) { return 0; }
  if (s.worker) {
    print_worker_line(r);
    return 0;
  }
  std::printf("\n%zu tokens on %d rank%s, %.0f a second\n", r.tokens.size(), s.ranks,
              s.ranks == 1 ? "" : "s", static_cast<double>(r.steps) / r.seconds);
  std::fflush(stdout);
  return !s.compare || compare(s, o, r.tokens) ? 0 : 1;
}

int fail(std::exception const& e) {
  std::fprintf(stderr, "llama: %s\n", e.what());
  return 1;
}

}  // namespace

int main(int argc, char** argv) try {
  auto const launch = tpx::launch_from_environment();
  bool const leader = !launch || launch->rank == 0;
  std::optional<opened> files;
  settings chosen;
  CLI::App app;
  try {
    chosen = parse(app, argc, argv, launch);
    files = open(chosen);
  } catch (CLI::ParseError const& e) {
    std::ostringstream nowhere;
    int const code = leader ? app.exit(e) : app.exit(e, nowhere, nowhere);
    return code == 0 ? 0 : 2;
  } catch (tpx::error const& e) {  // all ranks find the same, so one says it
    return leader ? fail(e) : 1;
  }
  return generate_text(chosen, *files, leader);
} catch (std::exception const& e) { return fail(e); }
