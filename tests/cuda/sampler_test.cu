// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// The sampler on a GPU against that of the Cpu space: the same token, status and scores.
#include "generator/sampler_oracle.hpp"
#include "stream.cuh"

#include <tpx/cuda/sample_mask.cuh>
#include <tpx/cuda/sampler.cuh>

#include <catch2/catch_test_macros.hpp>

#include <optional>

namespace {

using namespace tpx;
using namespace tpx::sample;
using tpx::detail::cuda_check;

float const inf = std::numeric_limits<float>::infinity();

// As compilers of both sides see it.
static_assert(detail::list_layout<LogitBias, Penalties, Dry, TopK, Xtc, Gumbel>::count == 5);

bool no_gpu() {
  int n = 0;
  return cudaGetDeviceCount(&n) != cudaSuccess || n == 0;
}

/// Device memory that starts as a copy.
template <class T>
class on_gpu {
 public:
  explicit on_gpu(std::vector<T> const& from)
      : memory_{detail::make_device_array<T>(std::max<std::size_t>(from.size(), 1))},
        size_{from.size()} {
    put(from);
  }
  void put(std::vector<T> const& from) {
    cuda_check(cudaMemcpy(memory_.get(), from.data(), from.size() * sizeof(T), cudaMemcpyDefault),
               "copying to a GPU");
    cuda_check(cudaStreamSynchronize(nullptr),
               "copying to a GPU");  // staged bytes are on their way
  }
  [[nodiscard]] std::vector<T> get() const {
    std::vector<T> all(size_);
    cuda_check(cudaMemcpy(all.data(), memory_.get(), size_ * sizeof(T), cudaMemcpyDefault),
               "copying from a GPU");
    return all;
  }
  [[nodiscard]] T* data() const { return memory_.get(); }

 private:
  detail::device_array<T> memory_;
  std::size_t size_;
};

/// What differs, the first few of it.
struct differences {
  std::size_t rows = 0;
  std::size_t wrong = 0;
  std::string first;

  void add(std::string const& what) {
    if (++wrong <= 8) { first += "\n  " + what; }
  }
  [[nodiscard]] std::string all() const {
    return wrong == 0 ? "" : std::to_string(wrong) + " of " + std::to_string(rows) + first;
  }
};

std::string text(cuda_sampled const& s) {
  return std::to_string(s.token) + " status " + std::to_string(static_cast<int>(s.status)) +
         " logprob " + std::to_string(s.logprob) + " raw " + std::to_string(s.raw_logprob) +
         " rank " + std::to_string(s.rank);
}

/// What the Cpu space makes of a row.
template <class Chain>
cuda_sampled expected(Chain& chain, sample_request const& asked,
                      typename Chain::parameters const& chosen, typename Chain::state& memory) {
  auto const before = memory;
  try {
    auto const s = chain.sample(asked, chosen, memory);
    return {s.token, sample_status::ok, s.logprob, s.raw_logprob,
            static_cast<std::uint32_t>(s.rank)};
  } catch (error const& e) {
    memory = before;
    bool const none = std::string{e.what()}.find("allows no token") != std::string::npos;
    return {.status = none ? sample_status::nothing_allowed : sample_status::not_a_number};
  }
}

/// Equal but for logarithms of doubles, rounded to floats.
bool alike(cuda_sampled const& a, cuda_sampled const& b) {
  auto const near = [](float x, float y) {
    return x == y || std::abs(x - y) <= 1e-6f * (1 + std::abs(x));
  };
  return a.token == b.token && a.status == b.status && a.rank == b.rank &&
         near(a.logprob, b.logprob) && near(a.raw_logprob, b.raw_logprob);
}

/// Whether a list is the first of what a GPU wrote.
bool alike(std::vector<token_logprob> const& list, std::span<token_logprob const> written) {
  return std::equal(list.begin(), list.end(), written.begin(), [](auto const& a, auto const& b) {
    return a.token == b.token &&
           std::abs(a.logprob - b.logprob) <= 1e-6f * (1 + std::abs(a.logprob));
  });
}

/// Rows of every kind and some that are errors.
std::vector<oracle::logits> rows_of(std::size_t columns, unsigned seed) {
  auto all = oracle::rows(columns, seed);
  auto const spoiled = [&](char const* name, float with) {
    all.push_back(all[0]);
    all.back().name = name;
    all.back().values[seed % columns] = with;
  };
  spoiled("NaN", std::numeric_limits<float>::quiet_NaN());
  spoiled("infinite", inf);
  spoiled("too large", 2e30f);
  spoiled("-infinite", -inf);
  all.push_back({"nothing", std::vector<float>(columns, -inf)});
  return all;
}

struct shape {
  std::size_t columns;
  std::size_t rows;
  int steps;
  unsigned blocks = 0;
};

template <class T>
std::vector<T> as(std::vector<float> const& from) {
  std::vector<T> to(from.size());
  for (std::size_t i = 0; i < from.size(); ++i) { to[i] = static_cast<T>(from[i]); }
  return to;
}

/// Batches of rows of all kinds, masked and not, with histories, each with parameters by choose(n),
/// sampled for some steps on the GPU and by the Cpu space.
template <class T, class... Stages, class Choose>
void compare(differences& found, shape const& s, Choose choose, std::string const& name) {
  using gpu_chain = cuda_sampler<Stages...>;
  using cpu_chain = sampler<Stages...>;
  constexpr std::size_t room = 96;
  std::mt19937 random{static_cast<unsigned>(s.columns * 31 + s.rows)};
  std::size_t const vocab = s.columns > 300 ? s.columns - 5 : s.columns;
  std::size_t const words = (s.columns + 31) / 32;
  auto const kinds = rows_of(s.columns, static_cast<unsigned>(s.columns + s.rows));

  std::vector<float> logits;
  std::vector<std::uint32_t> mask;
  std::vector<token_id> history;
  for (std::size_t r = 0; r < s.rows; ++r) {
    auto const& kind = kinds[(r + s.columns) % kinds.size()].values;
    for (float const x : kind) {
      logits.push_back(static_cast<float>(static_cast<T>(x + 0.01f * static_cast<float>(r))));
    }
    for (std::size_t w = 0; w < words; ++w) {
      mask.push_back(static_cast<std::uint32_t>(random()) & static_cast<std::uint32_t>(random()));
    }
    for (std::size_t i = 0; i < room; ++i) {
      history.push_back(static_cast<token_id>(random() % std::min<std::size_t>(vocab, 64)));
    }
  }
  on_gpu<T> const gpu_logits{as<T>(logits)};
  on_gpu<std::uint32_t> const gpu_mask{mask};
  on_gpu<token_id> const gpu_history{history};

  stream const on;
  gpu_chain gpu{{.columns = s.columns,
                 .rows = s.rows,
                 .vocab = vocab,
                 .max_history = 512,
                 .max_top = 9,
                 .blocks = s.blocks}};
  cpu_chain cpu{{.columns = s.columns, .vocab = vocab}};
  std::vector<typename cpu_chain::state> states(s.rows);
  std::vector<std::size_t> sizes(s.rows);
  std::vector<std::uint64_t> steps(s.rows);
  auto const masked = [&](std::size_t r) { return r % 3 == 1; };
  auto const tops = [&](std::size_t r) { return r % 5 == 2 ? 9 : r % 5 == 4 ? 1 : 0; };
  auto const raw_tops = [&](std::size_t r) { return r % 7 == 2 ? 5 : r % 7 == 4 ? 9 : 0; };
  for (std::size_t r = 0; r < s.rows; ++r) {
    sizes[r] = random() % room;
    steps[r] = random();
    gpu.set(r,
            {.history = {gpu_history.data() + r * room, room},
             .history_size = sizes[r],
             .mask = {gpu_mask.data() + r * words, masked(r) ? words : 0},
             .seed = r * 7 + 1,
             .step = steps[r],
             .logprobs = r % 2 == 0,
             .top = static_cast<std::uint32_t>(tops(r)),
             .raw_top = static_cast<std::uint32_t>(raw_tops(r))},
            choose(r), {}, on);
  }
  for (int step = 0; step < s.steps; ++step) {
    gpu.sample(gpu_logits.data(), s.rows, on);
    on.sync();
    for (std::size_t r = 0; r < s.rows; ++r) {
      std::vector<token_logprob> top(static_cast<std::size_t>(tops(r)), {-1, 0});
      std::vector<token_logprob> raw_top(static_cast<std::size_t>(raw_tops(r)), {-1, 0});
      sample_request const asked{.logits = {logits.data() + r * s.columns, s.columns},
                                 .history = {history.data() + r * room, sizes[r]},
                                 .mask = {mask.data() + r * words, masked(r) ? words : 0},
                                 .seed = r * 7 + 1,
                                 .step = steps[r],
                                 .logprobs = r % 2 == 0,
                                 .top = top,
                                 .raw_top = raw_top};
      auto const right = expected(cpu, asked, choose(r), states[r]);
      auto const got = gpu.results()[r];
      ++found.rows;

      bool const lists = right.status != sample_status::ok ||
                         (alike(top, gpu.top(r)) && alike(raw_top, gpu.raw_top(r)));
      if (!lists || !alike(right, got)) {
        found.add(name + (lists ? ", " : ", lists, ") + std::to_string(s.columns) + " columns, " +
                  std::to_string(s.blocks) + " blocks, row " + std::to_string(r) + " of " +
                  std::to_string(s.rows) + " (" + kinds[(r + s.columns) % kinds.size()].name +
                  (masked(r) ? ", masked" : "") + "), step " + std::to_string(step) + ": " +
                  text(got) + ", not " + text(right));
      }
      if (right.status != sample_status::ok) { continue; }
      ++steps[r];
      if (sizes[r] < room) { history[r * room + sizes[r]++] = right.token; }
    }
  }
}

constexpr shape shapes[]{{1, 1, 2},         {17, 3, 3},         {256, 14, 3},      {700, 64, 4},
                         {4097, 64, 4, 1},  {4097, 64, 4, 2},   {4100, 28, 4, 4},  {4096, 28, 4, 8},
                         {9001, 28, 4, 16}, {128'256, 14, 3},   {128'257, 14, 2},  {128'256, 1, 3},
                         {32'000, 64, 2},   {128'256, 3, 2, 1}, {128'256, 3, 2, 2}};

/// All shapes, with float and bfloat16 logits.
template <class... Stages, class Choose>
std::string everywhere(std::string const& name, Choose choose) {
  differences found;
  for (auto const& s : shapes) {
    compare<float, Stages...>(found, s, choose, name);
    if (s.columns != 128'257) {
      compare<bfloat16, Stages...>(found, s, choose, name + " of bfloat16");
    }
  }
  return found.all();
}

/// One of these, by row.
template <class... V>
float among(std::size_t r, V... values) {
  float const all[]{static_cast<float>(values)...};
  return all[r % sizeof...(values)];
}

}  // namespace

TEST_CASE("a GPU takes the first of the largest logits", "[cuda]") {
  if (no_gpu()) { SKIP("no GPU"); }
  using chain = sampler<Argmax>::parameters;
  REQUIRE(everywhere<Argmax>("greedy", [](std::size_t) { return chain{}; }) == "");
}

TEST_CASE("a GPU draws what the Cpu space draws", "[cuda]") {
  if (no_gpu()) { SKIP("no GPU"); }
  using chain = sampler<Temperature, Gumbel>::parameters;
  REQUIRE(everywhere<Temperature, Gumbel>("drawn", [](std::size_t r) {
            return chain{Temperature{among(r, 1, 0.7, 1.5, 0, 100)}};
          }) == "");
}

TEST_CASE("a GPU cuts off by min-p as the Cpu space does", "[cuda]") {
  if (no_gpu()) { SKIP("no GPU"); }
  using chain = sampler<Temperature, MinP, Gumbel>::parameters;
  REQUIRE(everywhere<Temperature, MinP, Gumbel>("min-p", [](std::size_t r) {
            return chain{Temperature{among(r, 1, 0.7, 1.5)}, MinP{among(r, 0.05, 0, 1, 1e-3, 0.5)}};
          }) == "");
}

TEST_CASE("a GPU keeps the k largest as the Cpu space does", "[cuda]") {
  if (no_gpu()) { SKIP("no GPU"); }
  using chain = sampler<TopK, Temperature, Gumbel>::parameters;
  REQUIRE(everywhere<TopK, Temperature, Gumbel>("top-k", [](std::size_t r) {
            return chain{TopK{static_cast<int>(among(r, 40, 1, 0, 7, 300, 1000000))},
                         Temperature{among(r, 1, 0.7)}};
          }) == "");
}

TEST_CASE("a GPU keeps the likeliest as the Cpu space does", "[cuda]") {
  if (no_gpu()) { SKIP("no GPU"); }
  using chain = sampler<Temperature, TopP, Gumbel>::parameters;
  REQUIRE(
    everywhere<Temperature, TopP, Gumbel>("top-p", [](std::size_t r) {
      return chain{Temperature{among(r, 1, 0.8, 2)}, TopP{among(r, 0.95, 0.5, 0, 0.999999, 1)}};
    }) == "");
}

TEST_CASE("a GPU takes penalties from tokens of the history as the Cpu space does", "[cuda]") {
  if (no_gpu()) { SKIP("no GPU"); }
  using chain = sampler<Penalties, Gumbel>::parameters;
  REQUIRE(everywhere<Penalties, Gumbel>("penalties", [](std::size_t r) {
            return chain{Penalties{.repetition = among(r, 1.1, 1, 3),
                                   .presence = among(r, 0, 0.5),
                                   .frequency = among(r, 0.3, 0, 0, 1),
                                   .range = static_cast<int>(among(r, 1e6, 20, 0)),
                                   .decay = static_cast<int>(among(r, 0, 30))}};
          }) == "");
}

TEST_CASE("a GPU goes through a usual chain as the Cpu space does", "[cuda]") {
  if (no_gpu()) { SKIP("no GPU"); }
  using chain = sampler<Penalties, TopK, TopP, MinP, Temperature, Gumbel>::parameters;
  REQUIRE(everywhere<Penalties, TopK, TopP, MinP, Temperature, Gumbel>("usual", [](std::size_t r) {
            return chain{Penalties{.repetition = among(r, 1.1, 1)},
                         TopK{static_cast<int>(among(r, 40, 0, 5))}, TopP{among(r, 0.95, 1, 0.6)},
                         MinP{among(r, 0.05, 0, 0.2, 0)}, Temperature{among(r, 0.8, 1, 1.3, 0)}};
          }) == "");
}

TEST_CASE("a GPU adds biases as the Cpu space does", "[cuda]") {
  if (no_gpu()) { SKIP("no GPU"); }
  using chain = sampler<Temperature, LogitBias, TopK, Gumbel>::parameters;
  std::vector<token_bias> biases{{3, 2}, {0, -inf}, {100'000, 9}, {16, 0}, {250, 1.5f}, {-1, 3}};
  for (token_id t = 300; t < 1500; t += 3) {
    biases.push_back({t, 0.001f * static_cast<float>(t)});
  }
  REQUIRE(everywhere<Temperature, LogitBias, TopK, Gumbel>("biases", [&](std::size_t r) {
            std::size_t const some[]{0, 1, 6, biases.size()};
            return chain{Temperature{among(r, 1, 0.7)}, TopK{static_cast<int>(among(r, 0, 5, 0))},
                         LogitBias{std::span{biases}.first(some[r % 4])}};
          }) == "");
}

TEST_CASE("a GPU finds repetitions as the Cpu space does", "[cuda]") {
  if (no_gpu()) { SKIP("no GPU"); }
  using chain = sampler<Penalties, Dry, Temperature, Argmax>::parameters;
  std::vector<token_id> const breakers{1, 5, 17, 40};
  REQUIRE(everywhere<Penalties, Dry, Temperature, Argmax>("repetitions", [&](std::size_t r) {
            return chain{Penalties{.presence = among(r, 0, 0.5)},
                         Dry{.multiplier = among(r, 0.8, 0, 1, 1, 5),
                             .base = among(r, 1.75, 1, 2),
                             .allowed_length = static_cast<int>(among(r, 0, 1, 0, 2, 0)),
                             .range = static_cast<int>(among(r, 0, 0, 20)),
                             .breakers = {breakers.data(), r % 2 == 0 ? breakers.size() : 0}},
                         Temperature{among(r, 1, 0.7)}};
          }) == "");
}

TEST_CASE("a GPU finds long repetitions as the Cpu space does", "[cuda]") {
  if (no_gpu()) { SKIP("no GPU"); }
  constexpr std::size_t columns = 300;
  constexpr std::size_t rows = 12;
  constexpr std::size_t room = 4000;
  using chain = sampler<Dry, Gumbel>;
  std::mt19937 random{5};
  std::vector<token_id> history(rows * room);
  for (std::size_t i = 0; i < history.size(); ++i) {  // of a row, period 1 to 12, with a few faults
    bool const odd = random() % 1000 == 0 && i / room % 2 == 0;
    history[i] = static_cast<token_id>(odd ? random() % 20 : i % room % (1 + i / room));
  }
  on_gpu<token_id> const there{history};
  std::vector<float> const logits(rows * columns, 1.0f);
  on_gpu<float> const logits_there{logits};
  stream const on;
  chain cpu{{.columns = columns}};
  cuda_sampler<Dry, Gumbel> gpu{{.columns = columns, .rows = rows, .max_history = room}};
  std::vector<token_id> const breakers{7};
  auto const chosen = [&](std::size_t r) {
    return chain::parameters{Dry{.multiplier = 0.01f,
                                 .base = r % 3 == 0 ? 1.0f : 1.02f,
                                 .allowed_length = static_cast<int>(r % 4),
                                 .breakers = {breakers.data(), r % 2}}};
  };
  for (std::size_t r = 0; r < rows; ++r) {
    gpu.set(r, {.history = {there.data() + r * room, room}, .history_size = room, .logprobs = true},
            chosen(r), {}, on);
  }
  differences found;
  for (std::uint64_t step = 0; step < 20; ++step) {
    gpu.sample(logits_there.data(), rows, on);
    on.sync();
    for (std::size_t r = 0; r < rows; ++r) {
      chain::state none;
      auto const right = expected(cpu,
                                  {.logits = {logits.data(), columns},
                                   .history = {history.data() + r * room, room},
                                   .step = step,
                                   .logprobs = true},
                                  chosen(r), none);
      ++found.rows;
      if (!alike(right, gpu.results()[r])) {
        found.add("row " + std::to_string(r) + ": " + text(gpu.results()[r]) + ", not " +
                  text(right));
      }
    }
  }
  REQUIRE(found.all() == "");
}

TEST_CASE("a GPU excludes top choices as the Cpu space does", "[cuda]") {
  if (no_gpu()) { SKIP("no GPU"); }
  using chain = sampler<Temperature, MinP, Xtc, Gumbel>::parameters;
  std::vector<token_id> const keep{0, 2, 3, 11, 64, 90, 300, 1000, 4000};
  REQUIRE(everywhere<Temperature, MinP, Xtc, Gumbel>("xtc", [&](std::size_t r) {
            return chain{Temperature{among(r, 1, 0.5, 2)}, MinP{among(r, 0, 0, 0.05)},
                         Xtc{.probability = among(r, 0.5, 0.9, 1, 0),
                             .threshold = among(r, 0.1, 0.01, 0.3, 0.001, 0),
                             .keep = {keep.data(), r % 3 == 0 ? keep.size() : 0}}};
          }) == "");
}

TEST_CASE("a GPU remembers what mirostat does", "[cuda]") {
  if (no_gpu()) { SKIP("no GPU"); }
  using chain = sampler<TopA, Mirostat2, Gumbel>::parameters;
  REQUIRE(everywhere<TopA, Mirostat2, Gumbel>("mirostat", [](std::size_t r) {
            return chain{TopA{among(r, 0, 0.1, 0.01)}, Mirostat2{.tau = among(r, 4, 0, 1, 8)}};
          }) == "");
}

TEST_CASE("a GPU aims at probabilities as the Cpu space does", "[cuda]") {
  if (no_gpu()) { SKIP("no GPU"); }
  using chain = sampler<Temperature, MinP, AdaptiveP, Gumbel>::parameters;
  REQUIRE(everywhere<Temperature, MinP, AdaptiveP, Gumbel>("aims", [](std::size_t r) {
            return chain{
              Temperature{among(r, 1, 0.7)}, MinP{among(r, 0.05, 0, 0)},
              AdaptiveP{.target = among(r, 0.5, 0.1, 1, 0.9), .decay = among(r, 0.9, 0.5)}};
          }) == "");
}

TEST_CASE("a GPU sums over candidates as the Cpu space does", "[cuda]") {
  if (no_gpu()) { SKIP("no GPU"); }
  using chain = sampler<DynamicTemperature, TopNSigma, Typical, Gumbel>::parameters;
  REQUIRE(everywhere<DynamicTemperature, TopNSigma, Typical, Gumbel>("sums", [](std::size_t r) {
            return chain{DynamicTemperature{.low = among(r, 1, 0.5), .high = among(r, 1, 2)},
                         TopNSigma{among(r, 0, 1, 0.5)}, Typical{among(r, 0.9, 1, 0.5, 0.99, 0)}};
          }) == "");
}

TEST_CASE("a chain may cut, scale and edit in any order on a GPU", "[cuda]") {
  if (no_gpu()) { SKIP("no GPU"); }
  using chain = sampler<Temperature, MinP, Penalties, TopP, TopK, Argmax>::parameters;
  REQUIRE(everywhere<Temperature, MinP, Penalties, TopP, TopK, Argmax>("edits", [](std::size_t r) {
            return chain{Temperature{among(r, 0.7, 1, 1.4)}, MinP{among(r, 0.3, 0.01)},
                         Penalties{.repetition = 1.3f, .presence = 1, .range = 50},
                         TopP{among(r, 0.9, 1)}, TopK{static_cast<int>(among(r, 0, 3))}};
          }) == "");
}

TEST_CASE("thousands of random rows give the Cpu space's tokens on a GPU", "[cuda]") {
  if (no_gpu()) { SKIP("no GPU"); }
  differences found;
  constexpr std::size_t columns = 2000;
  constexpr std::size_t rows = 64;
  using stages = sampler<TopK, TopP, MinP, Temperature, Gumbel>;
  stages cpu{{.columns = columns}};
  cuda_sampler<TopK, TopP, MinP, Temperature, Gumbel> gpu{{.columns = columns, .rows = rows}};
  stream const on;
  std::mt19937 random{11};
  std::normal_distribution<float> normal;
  for (std::uint64_t round = 0; round < 100; ++round) {
    std::vector<float> logits(rows * columns);
    std::vector<stages::parameters> chosen;
    for (std::size_t r = 0; r < rows; ++r) {
      float const wide = std::exp(normal(random));
      for (std::size_t i = 0; i < columns; ++i) { logits[r * columns + i] = wide * normal(random); }
      auto const some = [&](float most) {
        return most * static_cast<float>(random() % 1000) / 1000;
      };
      chosen.push_back({TopK{static_cast<int>(some(500))}, TopP{some(1)},
                        MinP{random() % 2 == 0 ? 0 : some(0.2f)}, Temperature{0.1f + some(2)}});
      gpu.set(r, {.seed = round, .step = r}, chosen.back(), {}, on);
    }
    on_gpu<float> const there{logits};
    gpu.sample(there.data(), rows, on);
    on.sync();
    for (std::size_t r = 0; r < rows; ++r) {
      stages::state none;
      auto const right =
        expected(cpu, {.logits = {logits.data() + r * columns, columns}, .seed = round, .step = r},
                 chosen[r], none);
      ++found.rows;
      if (!alike(right, gpu.results()[r])) {
        found.add("round " + std::to_string(round) + ", row " + std::to_string(r) + ": " +
                  text(gpu.results()[r]) + ", not " + text(right));
      }
    }
  }
  REQUIRE(found.all() == "");
}

TEST_CASE("a graph of one sample draws a whole text on a GPU", "[cuda]") {
  if (no_gpu()) { SKIP("no GPU"); }
  constexpr std::size_t columns = 5000;
  constexpr std::size_t rows = 3;
  constexpr std::size_t room = 200;
  using chain = sampler<Penalties, TopP, Mirostat2, Gumbel>;
  chain::parameters const chosen{Penalties{.presence = 2, .range = 40}, TopP{0.9f},
                                 Mirostat2{.tau = 3}};
  auto const kinds = oracle::rows(columns, 3);
  std::vector<float> logits;
  for (std::size_t r = 0; r < rows; ++r) {
    logits.insert(logits.end(), kinds[r].values.begin(), kinds[r].values.end());
  }
  on_gpu<float> const there{logits};
  on_gpu<token_id> const history{std::vector<token_id>(rows * room, -1)};
  cuda_sampler<Penalties, TopP, Mirostat2, Gumbel> gpu{
    {.columns = columns, .rows = rows, .max_history = room}};
  stream const on;
  for (std::size_t r = 0; r < rows; ++r) {
    gpu.set(r, {.history = {history.data() + r * room, room}, .seed = r}, chosen, {}, on);
  }
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  cuda_check(cudaStreamBeginCapture(on, cudaStreamCaptureModeThreadLocal), "capturing");
  gpu.sample(there.data(), rows, on);
  cuda_check(cudaStreamEndCapture(on, &graph), "capturing");
  cuda_check(cudaGraphInstantiate(&exec, graph, 0), "a graph");
  for (std::size_t i = 0; i < room; ++i) { cuda_check(cudaGraphLaunch(exec, on), "a graph"); }
  on.sync();
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  auto const written = history.get();
  chain cpu{{.columns = columns}};
  for (std::size_t r = 0; r < rows; ++r) {
    std::vector<token_id> text;
    chain::state memory;
    for (std::size_t i = 0; i < room; ++i) {
      text.push_back(cpu
                       .sample({.logits = kinds[r].values, .history = text, .seed = r, .step = i},
                               chosen, memory)
                       .token);
    }
    INFO("row " << r);
    REQUIRE(std::vector<token_id>(written.begin() + static_cast<std::ptrdiff_t>(r * room),
                                  written.begin() + static_cast<std::ptrdiff_t>((r + 1) * room)) ==
            text);
    auto const& there_now = gpu.states()[r];
    auto copy = there_now;
    REQUIRE(std::abs(copy.get<Mirostat2>().mu - memory.get<Mirostat2>().mu) < 1e-5f);
  }
}

TEST_CASE("masks leave what they allow and nothing else on a GPU", "[cuda]") {
  if (no_gpu()) { SKIP("no GPU"); }
  std::mt19937 random{3};
  auto const check = [&]<class T>(T, std::size_t columns, std::size_t words, bool one) {
    constexpr std::size_t rows = 3;
    std::vector<T> logits(rows * columns);
    for (T& x : logits) { x = static_cast<T>(static_cast<float>(random() % 100)); }
    std::vector<std::uint32_t> masks(one ? words : rows * words);
    for (auto& w : masks) { w = random() % 4 == 0 ? ~0u : static_cast<std::uint32_t>(random()); }
    on_gpu<T> const there{logits};
    on_gpu<std::uint32_t> const masks_there{masks};
    apply_masks(std::span<T>{there.data(), logits.size()}, columns,
                std::span<std::uint32_t const>{masks_there.data(), masks.size()}, words, nullptr);
    auto const got = there.get();
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      std::span const mask{masks.data() + (one ? 0 : i / columns * words), words};
      bool const allowed = mask_allows(mask, static_cast<token_id>(i % columns));
      float const right = allowed ? static_cast<float>(logits[i]) : -inf;
      wrong += static_cast<float>(got[i]) != right;
    }
    INFO(columns << " columns, " << words << " words");
    REQUIRE(wrong == 0);
  };
  for (std::size_t const columns : {1u, 31u, 33u, 1000u, 128'257u}) {
    for (std::size_t const words : {std::size_t{1}, (columns + 31) / 32}) {
      check(float{}, columns, words, false);
      check(bfloat16{}, columns, words, true);
    }
  }
  std::vector<std::uint32_t> words(3);
  std::vector<float> logits(100);
  REQUIRE_THROWS_AS(
    apply_masks(std::span{logits}, 33, std::span<std::uint32_t const>{words}, 2, nullptr), error);
}

TEST_CASE("masses on a GPU are those of sixteen lanes", "[cuda]") {
  std::size_t differing = 0;
  for (std::uint32_t bits = 0x80000000u; bits < 0xc2c00000u; bits += 61) {
    auto const logit = __builtin_bit_cast(float, bits);
    differing += detail::fixed_of(detail::mass_of(logit, 0)) != detail::fixed_mass(logit, 0);
  }
  REQUIRE(differing == 0);
}

TEST_CASE("a sampler on a GPU refuses what does not fit", "[cuda]") {
  if (no_gpu()) { SKIP("no GPU"); }
  using chain = cuda_sampler<Penalties, Gumbel>;
  chain gpu{{.columns = 100, .rows = 2, .max_history = 8}};
  std::vector<token_id> room(9);
  REQUIRE_THROWS_AS(gpu.set(2, {}, {}, {}, nullptr), error);
  REQUIRE_THROWS_AS(gpu.set(0, {.history = room}, {}, {}, nullptr), error);
  REQUIRE_THROWS_AS(gpu.set(0, {.history = {room.data(), 3}, .history_size = 4}, {}, {}, nullptr),
                    error);
  REQUIRE_THROWS_AS(gpu.set(0, {.top = 1}, {}, {}, nullptr), error);
  REQUIRE_THROWS_AS(gpu.sample(static_cast<float const*>(nullptr), 3, nullptr), error);
  using biased = cuda_sampler<LogitBias, Gumbel>;
  biased with_biases{{.columns = 100, .max_history = 2}};
  std::vector<token_bias> const twice{{5, 1}, {5, 1}};
  std::vector<token_bias> const many{{5, 1}, {6, 1}, {7, 1}};
  REQUIRE_THROWS_AS(with_biases.set(0, {}, {LogitBias{twice}}, {}, nullptr), error);
  REQUIRE_THROWS_AS(with_biases.set(0, {}, {LogitBias{many}}, {}, nullptr), error);
  REQUIRE_THROWS_AS((chain{{.columns = 0}}), error);
  REQUIRE_THROWS_AS((chain{{.columns = 10, .blocks = 3}}), error);
}
