// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "counting_new.hpp"
#include "llama/sequence.hpp"
#include "llama/tokenizer.hpp"
#include "llama_world.hpp"

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <new>
#include <nlohmann/json.hpp>
#include <sstream>

namespace {

using namespace world;
using json = nlohmann::json;

constexpr int worlds[]{1, 2, 3, 4, 8};

std::string text_of(std::string const& path) {
  std::ifstream file{path, std::ios::binary};
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

template <class Comm>
using sequence_t = llama::sequence<llama::model<Comm>>;

/// Runs f(sequence, comm) on n ranks.
template <class Comm, class F>
void on_model(llama::checkpoint const& files, int n, F f) {
  auto const plan = plan_of(files, n);
  on_ranks(n, [&](group& g) {
    Comm comm{g};
    llama::model<Comm> model{comm, files, plan};
    sequence_t<Comm> alone{model};
    f(alone, comm);
  });
}

template <class Model>
ids continuation(Model& model, ids const& prompt, std::size_t n) {
  model.rewind();
  ids out{model.greedy(prompt)};
  while (out.size() < n) { out.push_back(model.greedy({&out.back(), 1})); }
  return out;
}

/// What is wrong with the greedy continuations of `folder` on n ranks; "" if nothing is.
template <class Comm>
std::string greedy_faults(std::string const& folder, int n, std::size_t prompts) {
  auto const files = llama::checkpoint::open(folder);
  auto const expected = golden(folder).at("greedy");
  notes found;
  on_model<Comm>(files, n, [&](auto& model, Comm& comm) {
    for (std::size_t i = 0; i < std::min(prompts, expected.size()); ++i) {
      auto const wanted = expected[i].at("ids").get<ids>();
      std::size_t const length = std::min<std::size_t>(wanted.size(), sanitized ? 16 : 64);
      auto const got = continuation(model, expected[i].at("prompt_ids").get<ids>(), length);
      if (!std::equal(got.begin(), got.end(), wanted.begin())) {
        found.add("rank " + std::to_string(comm.rank()) + " of " + std::to_string(n) +
                  " goes on differently after " + expected[i].at("prompt").get<std::string>());
      }
    }
  });
  return found.all();
}

/// The largest distance of a golden logit, or of a logit that should have been among them.
double logits_off(std::string const& folder, int n) {
  auto const files = llama::checkpoint::open(folder);
  auto const expected = golden(folder).at("logits");
  auto const window = expected.at("window_ids").get<ids>();
  double worst = 0;
  on_model<comm_t>(files, n, [&](sequence_t<comm_t>& model, comm_t& comm) {
    std::size_t at = 0;
    for (auto const& top : expected.at("top")) {
      auto const position = top.at("position").get<std::size_t>();
      auto const logits = model.forward(std::span{window}.subspan(at, position + 1 - at));
      at = position + 1;
      if (sanitized && position > 100) { break; }
      if (comm.rank() != n - 1) { continue; }
      auto const best = top.at("ids").get<ids>();
      auto const values = top.at("values").get<std::vector<double>>();
      for (std::size_t i = 0; i < logits.size(); ++i) {
        auto const where = std::find(best.begin(), best.end(), static_cast<std::int32_t>(i));
        double const logit = static_cast<double>(logits[i]);
        double const off =
          where == best.end()
            ? logit - values.back()
            : std::abs(logit -
                       values[static_cast<std::size_t>(std::distance(best.begin(), where))]);
        worst = off <= worst ? worst : off;
        if (logit != logit) { worst = 1e300; }
      }
    }
  });
  return worst;
}

struct loss {
  double mean = 0;
  double worst_window = 0;  // distance of a window's mean from the golden one's
  std::size_t tokens = 0;
};

/// The held-out loss of the first `windows` windows.
loss held_out(int n, std::size_t windows) {
  auto const files = llama::checkpoint::open(bible);
  auto const expected = golden(bible).at("loss");
  auto const text = llama::tokenizer::open(bible).encode(text_of(bible + "/heldout.txt"));
  std::size_t const window = expected.at("window").get<std::size_t>();
  auto const means = expected.at("window_means").get<std::vector<double>>();
  loss all;
  on_model<comm_t>(files, n, [&](sequence_t<comm_t>& model, comm_t& comm) {
    double total = 0;
    std::size_t count = 0;
    double worst = 0;
    for (std::size_t i = 0; i < std::min(windows, means.size()); ++i) {
      std::size_t const some = std::min(window, text.size() - i * window);
      model.rewind();
      double const sum = model.score(std::span{text}.subspan(i * window, some));
      worst = std::max(worst, std::abs(sum / static_cast<double>(some - 1) - means[i]));
      total += sum;
      count += some - 1;
    }
    if (comm.rank() == n - 1) { all = {total / static_cast<double>(count), worst, count}; }
  });
  return all;
}

llama::file_fault fault_of(auto&& f) {
  try {
    f();
  } catch (llama::file_error const& e) { return e.fault(); }
  return {};
}

bool refused(auto&& f) {
  try {
    f();
  } catch (tpx::error const& e) { return e.code() == errc::invalid_argument; }
  return false;
}

/// The tensors of `from` as one safetensors file of type `type`, elements made by `convert`.
template <class T>
std::vector<std::byte> converted(llama::safetensors const& from, char const* type,
                                 T (*convert)(float)) {
  json header;
  std::vector<T> data;
  for (auto const& [name, tensor] : from.tensors()) {
    std::size_t const begin = data.size() * sizeof(T);
    for (bfloat16 const v : tensor.template as<bfloat16>()) {
      data.push_back(convert(static_cast<float>(v)));
    }
    header[name] = {
      {"dtype", type}, {"shape", tensor.shape}, {"data_offsets", {begin, data.size() * sizeof(T)}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::uint64_t const size = text.size();
  std::vector<std::byte> file(sizeof(size) + text.size() + data.size() * sizeof(T));
  std::memcpy(file.data(), &size, sizeof(size));
  std::memcpy(file.data() + sizeof(size), text.data(), text.size());
  std::memcpy(file.data() + sizeof(size) + text.size(), data.data(), data.size() * sizeof(T));
  return file;
}

}  // namespace

TEST_CASE("greedy text is PyTorch's on 1, 2, 3, 4 and 8 ranks") {
  for (int n : worlds) { CHECK(greedy_faults<comm_t>(bible, n, sanitized ? 1 : 8) == ""); }
}

TEST_CASE("a Qwen2 with biases, two files and few heads writes PyTorch's greedy text") {
  for (int n : worlds) { CHECK(greedy_faults<comm_t>(qwen2, n, 2) == ""); }
}

TEMPLATE_LIST_TEST_CASE("greedy text does not depend on transport and topology", "",
                        world::communicators) {
  for (int n : worlds) {
    if (sanitized && n > 3) { continue; }
    CHECK(greedy_faults<TestType>(bible, n, 1) == "");
    CHECK(greedy_faults<TestType>(qwen2, n, 1) == "");
  }
}

TEST_CASE("the eight largest logits are PyTorch's to 2e-4") {
  for (int n : worlds) {
    INFO(n << " ranks");
    CHECK(logits_off(bible, n) < 2e-4);
    CHECK(logits_off(qwen2, n) < 2e-4);
  }
}

TEST_CASE("the held-out loss of the first windows is PyTorch's") {
  for (int n : {1, 3}) {
    auto const got = held_out(n, sanitized ? 1 : 3);
    INFO(n << " ranks");
    CHECK(got.worst_window < 1e-3);
    CHECK(got.mean > 2);
  }
}

TEST_CASE("the loss of the whole held-out text is PyTorch's", "[.long]") {
  auto const expected = golden(bible).at("loss");
  for (int n : {1, 2}) {
    auto const got = held_out(n, 1000);
    INFO(n << " ranks: " << got.mean);
    CHECK(got.tokens == expected.at("tokens").get<std::size_t>());
    CHECK(std::abs(got.mean - expected.at("nats_per_token").get<double>()) < 1e-3);
    CHECK(got.worst_window < 1e-3);
    CHECK(got.mean < 3.20);
  }
}

TEST_CASE("logits have the same bits however a text is cut into calls, on every rank") {
  auto const files = llama::checkpoint::open(bible);
  auto const text = golden(bible).at("logits").at("window_ids").get<ids>();
  std::span const some = std::span{text}.first(150);
  for (int n : {1, 3}) {
    std::vector<std::vector<float>> of_rank(static_cast<std::size_t>(n));
    notes found;
    on_model<comm_t>(files, n, [&](sequence_t<comm_t>& model, comm_t& comm) {
      auto const once = model.forward(some);
      auto& kept = of_rank[static_cast<std::size_t>(comm.rank())];
      kept.assign(once.begin(), once.end());
      for (auto const& cuts : {std::vector<std::size_t>{1, 2, 5, 70, 71, 149, 150},
                               std::vector<std::size_t>{64, 128, 150}}) {
        model.rewind();
        std::span<float const> logits;
        for (std::size_t end : cuts) {
          logits = model.forward(some.subspan(model.length(), end - model.length()));
        }
        if (!std::equal(logits.begin(), logits.end(), kept.begin())) { found.add("cuts show"); }
      }
      model.rewind(100);  // and another text in between leaves no trace
      model.forward(std::span{text}.subspan(300, 40));
      model.rewind(100);
      auto const again = model.forward(some.subspan(100));
      if (!std::equal(again.begin(), again.end(), kept.begin())) { found.add("rewind shows"); }
    });
    CHECK(found.all() == "");
    for (auto const& logits : of_rank) { CHECK(logits == of_rank[0]); }
  }
}

TEST_CASE("steps allocate nothing and make two collectives a layer and one for the head") {
  constexpr std::uint64_t collectives_per_token = 2 * 3 + 1;
  auto const files = llama::checkpoint::open(bible);
  auto const text = golden(bible).at("logits").at("window_ids").get<ids>();
  for (int n : {1, 2, 3}) {
    notes found;
    on_model<comm_t>(files, n, [&](sequence_t<comm_t>& model, comm_t& comm) {
      auto const expect_none = [&](char const* what, auto&& f) {
        auto const before = allocations;
        f();
        if (allocations != before) {
          found.add(std::string{what} + " allocates " + std::to_string(allocations - before) +
                    " times");
        }
      };
      expect_none("prefill", [&] { model.forward(std::span{text}.first(100)); });
      auto const calls = comm.stats().calls;
      expect_none("forward", [&] { model.forward(std::span{text}.subspan(100, 1)); });
      if (comm.stats().calls - calls != collectives_per_token) {
        found.add("forward made " + std::to_string(comm.stats().calls - calls) + " collectives");
      }
      std::int32_t next = 0;
      expect_none("greedy", [&] { next = model.greedy(std::span{text}.subspan(101, 1)); });
      if (comm.stats().calls - calls != 2 * collectives_per_token) {
        found.add("greedy made another number of collectives");
      }
      expect_none("score", [&] { model.score(std::span{text}.subspan(102, 100)); });
    });
    INFO(n << " ranks");
    CHECK(found.all() == "");
  }
  auto const before = allocations;
  ::operator delete(::operator new(1));
  auto const after = allocations;
  CHECK(after == before + 1);  // the counter counts
}

TEST_CASE("a call that is refused changes nothing") {
  auto const files = llama::checkpoint::open(qwen2);
  auto const plan = plan_of(files, 1);
  bool all_refused = true, unchanged = true;
  on_ranks(1, [&](group& g) {
    comm_t comm{g};
    llama::model<comm_t> whole{comm, files, plan, {.max_tokens = 20, .loading = {}}};
    sequence_t<comm_t> model{whole};
    ids const start{5, 6, 7};
    auto const next = model.greedy(start);
    for (ids const& bad : {ids{}, ids{5, 2048}, ids{-1}, ids(18, 5)}) {
      all_refused = all_refused && refused([&] { model.forward(bad); }) &&
                    refused([&] { model.greedy(bad); }) && refused([&] { model.score(bad); });
      unchanged = unchanged && model.length() == 3;
    }
    all_refused = all_refused && refused([&] { model.rewind(4); });
    model.rewind(2);
    unchanged = unchanged && model.greedy(std::span{start}.last(1)) == next;
    model.forward(ids(17, 5));
    unchanged = unchanged && model.length() == 20 && comm.stats().calls > 0;
  });
  CHECK(all_refused);
  CHECK(unchanged);
}

TEST_CASE("a plan for another model or another number of ranks is refused") {
  auto const files = llama::checkpoint::open(qwen2);
  auto const other = llama::checkpoint::open(bible);
  bool ranks = false, shape = false;
  on_ranks(1, [&](group& g) {
    comm_t comm{g};
    ranks = refused([&] { llama::model<comm_t>{comm, files, plan_of(files, 2)}; });
    shape = refused([&] { llama::model<comm_t>{comm, files, plan_of(other, 1)}; });
  });
  CHECK(ranks);
  CHECK(shape);
}

TEST_CASE("F32 and F16 checkpoints are rounded to bf16; other types are refused by name") {
  auto const files = llama::checkpoint::open(qwen2);
  auto const expected = golden(qwen2).at("greedy")[0];
  auto const f32 = converted<float>(files.tensors, "F32", [](float v) { return v; });
  auto const f16 = converted<float16>(files.tensors, "F16", [](float v) { return float16{v}; });
  auto const i16 =
    converted<std::int16_t>(files.tensors, "I16", [](float) { return std::int16_t{1}; });
  for (auto const* const bytes : {&f32, &f16}) {
    llama::checkpoint const made{files.config, llama::safetensors::from_bytes(*bytes)};
    for (int n : {1, 3}) {
      ids got;
      double last = 0;
      on_model<comm_t>(made, n, [&](sequence_t<comm_t>& model, comm_t& comm) {
        auto const text = continuation(model, expected.at("prompt_ids").get<ids>(), 16);
        if (comm.rank() == 0) { got = text; }
      });
      llama::rank_weights const weights{made, plan_of(made, n), 0, [&](double done) {
                                          last = done > last && done <= 1 ? done : -1;
                                        }};
      CHECK(got == expected.at("ids").get<ids>());
      CHECK(last == 1.0);
    }
  }
  llama::checkpoint const made{files.config, llama::safetensors::from_bytes(i16)};
  CHECK(fault_of([&] { llama::rank_weights(made, plan_of(made, 1), 0, {}); }) ==
        llama::file_fault::wrong_dtype);
}
