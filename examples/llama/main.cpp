// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Continues a text with a Llama or Qwen2 model that is split over several ranks: threads of this
// program, or the processes that tpx-run or another launcher starts.
#include "child.hpp"
#include "generate.hpp"
#include "progress_bar.hpp"
#include "tokenizer.hpp"

#include <tpx/communicator.hpp>
#include <tpx/run_ranks.hpp>
#include <tpx/runtime/launch_environment.hpp>
#include <tpx/split_report.hpp>

#include <CLI/CLI.hpp>
#include <fstream>
#include <sstream>

namespace {

struct settings {
  std::string model = LLAMA_MODEL;
  std::string prompt = "And it came to pass";
  int ranks = 2;
  std::size_t tokens = 128;
  double temperature = 0;
  std::uint64_t seed = 0;
  std::string transport = "HostPinned";
  std::string topology = "Auto";
  bool compare = false;
  bool worker = false;  // a process of a row of the comparison: print a line of figures, no text
};

constexpr char const* worker_line = "llama-worker:";

struct opened {
  llama::checkpoint files;
  llama::tokenizer words;
  llama::request request;
};

opened open(settings const& s) {
  auto files = llama::checkpoint::open(s.model);
  auto const& config = files.config;
  auto words = llama::tokenizer::open(s.model);
  tpx::expects(words.size() <= config.vocab_size,
               s.model + ": the tokenizer has " + std::to_string(words.size()) +
                 " tokens, the model only " + std::to_string(config.vocab_size),
               "take tokenizer.json and config.json of the same model");
  llama::request r{.prompt = {},
                   .tokens = s.tokens,
                   .temperature = s.temperature,
                   .seed = s.seed,
                   .ending = config.eos_token_ids};
  auto const prefix = words.prefix();
  r.prompt.assign(prefix.begin(), prefix.end());
  auto const text = words.encode(s.prompt);
  r.prompt.insert(r.prompt.end(), text.begin(), text.end());
  if (r.prompt.empty() && config.bos_token_id) { r.prompt.push_back(*config.bos_token_id); }
  tpx::expects(!r.prompt.empty(), "the prompt is empty", "give --prompt some text to continue");
  auto const room = config.max_position_embeddings;
  auto const number = [](std::size_t n) { return std::to_string(n); };
  tpx::expects(r.prompt.size() < room,
               "the prompt has " + number(r.prompt.size()) +
                 " tokens, and this model reads at most " + number(room),
               "shorten --prompt");
  tpx::expects(r.prompt.size() + r.tokens <= room,
               "a prompt of " + number(r.prompt.size()) + " tokens and " + number(r.tokens) +
                 " more are over this model's " + number(room),
               "ask for at most --tokens " + number(room - r.prompt.size()));
  return {std::move(files), std::move(words), std::move(r)};
}

void show(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

/// Bytes that the machine has to spare; "unlimited" where it does not say.
std::size_t spare_memory() {
  std::ifstream info{"/proc/meminfo"};
  for (std::string line; std::getline(info, line);) {
    std::size_t kib = 0;
    if (std::sscanf(line.c_str(), "MemAvailable: %zu", &kib) == 1) { return kib * 1024; }
  }
  return tpx::device_budget::unlimited;
}

// All of them need as much memory.
using any_communicator = tpx::communicator<tpx::HostPinned, tpx::Auto, tpx::Cpu>;

/// A plan for ranks that share this machine's memory; rank 0 looks and all follow.
tpx::split_plan make_plan(tpx::group& g, opened const& o, bool print) {
  auto const spare = g.decide(spare_memory());
  auto const ranks = static_cast<std::size_t>(g.size());
  std::vector<tpx::device_budget> const budgets(
    ranks, {.memory = spare == tpx::device_budget::unlimited ? spare : spare / ranks});
  auto options = llama::plan_options(o.request.prompt.size() + o.request.tokens);
  options.communicator_bytes = any_communicator::bytes_needed(g.size());
  auto const plan = tpx::split_plan::fit(llama::shape_of(o.files.config), budgets, options);
  tpx::split_report const report{plan, budgets};
  if (print && g.rank() == 0) { show(report.text() + '\n'); }
  report.require();
  return plan;
}

/// Generates on as many ranks as `s` says; what it returns is rank 0's in a process of rank 0.
llama::result run(settings const& s, opened const& o, bool stream) {
  llama::result result;
  tpx::run_ranks(s.ranks, [&](tpx::group& g) {
    auto const plan = make_plan(g, o, stream);
    bool const speaks = stream && g.rank() == 0;
    std::unique_ptr<llama::engine> model;
    {
      llama::progress_bar bar{o.files.tensors.total_bytes()};
      std::function<void(double)> loading;
      if (speaks) {
        loading = [&](double part) { bar.show(part); };
      }
      model = llama::make_engine(s.transport, s.topology, g, o.files, plan, plan.options().tokens,
                                 loading);
    }
    llama::stream_decoder text{o.words};
    if (speaks) { show(s.prompt); }
    auto done = llama::generate(g, *model, o.request, [&](std::int32_t token) {
      if (stream) { show(text.push(token)); }
    });
    if (g.rank() != 0) { return; }
    if (stream) { show(text.finish() + '\n'); }
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
  char temperature[48];
  std::snprintf(temperature, sizeof(temperature), "--temperature=%.17g", s.temperature);
  auto const out = llama::run_child(
    {llama::program_folder() + "/tpx-run", "-n", std::to_string(s.ranks), llama::program_path(),
     "--worker", "--model=" + s.model, "--prompt=" + s.prompt,
     "--tokens=" + std::to_string(s.tokens), temperature, "--seed=" + std::to_string(s.seed),
     "--transport=" + s.transport, "--topology=" + s.topology});
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
  auto const option = [&](char const* name, auto& value, char const* type, char const* what) {
    return app.add_option(name, value, what)->type_name(type);
  };
  auto const names = [](auto const& all) {
    return CLI::Validator{CLI::IsMember(std::vector<std::string>(std::begin(all), std::end(all)))}
      .description("");
  };
  option("--model", s.model, "DIR",
         "a folder with config.json, model.safetensors and tokenizer.json\n"
         "(default: the model that has read the King James Bible)");
  option("--prompt", s.prompt, "TEXT", "the text to continue (default: And it came to pass)");
  auto* const ranks =
    option("--ranks", s.ranks, "N", "split the model over N ranks, 1 to 16 (default: 2)")
      ->check(CLI::Range(1, tpx::max_ranks).description(""));
  option("--tokens", s.tokens, "N", "generate N tokens, or fewer if the text ends (default: 128)")
    ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 20).description(""));
  option("--temperature", s.temperature, "T",
         "0: the likeliest token each time; 1: drawn as the model says (default: 0)")
    ->check([](std::string const& text) {  // CLI::Range lets NaN through
      double const t = std::strtod(text.c_str(), nullptr);
      return t >= 0 && t <= 100 ? "" : text + " is not a number from 0 to 100";
    });
  option("--seed", s.seed, "N", "which draws; the same seed gives the same text (default: 0)");
  option("--transport", s.transport, "NAME", "HostPinned or PeerDirect (default: HostPinned)")
    ->check(names(llama::transports));
  option("--topology", s.topology, "NAME", "Auto, AllPairs, Ring or Tree (default: Auto)")
    ->check(names(llama::topologies));
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
    if (!ranks->empty() && s.ranks != launch->size) {
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
