// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Runs a fuzz target where there is no libFuzzer: mutates the target's seeds for some seconds.
//
//   safetensors_fuzz 20           20 seconds from a fixed seed
//   safetensors_fuzz 20 7         the same with seed 7
//   safetensors_fuzz 0 7 12345    input 12345 of seed 7 again: what a failure prints
//   safetensors_fuzz 0 7 12345 f  and writes that input to the file f
//
// Input i depends on the seed and i alone.
#include "fuzz.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <fstream>
#include <limits>

// A sanitizer's finding ends in abort(), so that the handler below says which input it was.
extern "C" char const* __asan_default_options() {
  return "abort_on_error=1:handle_abort=0";
}
extern "C" char const* __ubsan_default_options() {
  return "abort_on_error=1:print_stacktrace=1";
}

namespace {

constexpr std::size_t longest_input = 1 << 16;

std::atomic<std::uint64_t> current_seed;
std::atomic<std::uint64_t> current_input;

extern "C" void say_which(int signal) {
  std::cerr << "\nto run it again: 0 " << current_seed << ' ' << current_input << '\n';
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

/// SplitMix64: starts in no time, which a generator that is made anew for each input must.
class random_source {
 public:
  explicit random_source(std::uint64_t seed) : state_{seed} {}

  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  std::size_t below(std::size_t bound) { return bound == 0 ? 0 : next() % bound; }
  template <class T>
  T const& pick(std::vector<T> const& list) {
    return list[below(list.size())];
  }

 private:
  std::uint64_t state_;
};

std::string interesting_number(random_source& random) {
  constexpr std::array<std::string_view, 16> numbers{
    "0",     "1",     "-1",         "2",          "3",          "127",      "128",   "255",
    "65535", "65536", "2147483647", "2147483648", "4294967296", "16777217", "1e308", "0.5"};
  constexpr std::array<std::string_view, 5> huge{"9223372036854775807", "9223372036854775808",
                                                 "18446744073709551615", "18446744073709551616",
                                                 "-9223372036854775808"};
  return std::string{random.below(3) == 0 ? huge[random.below(huge.size())]
                                          : numbers[random.below(numbers.size())]};
}

/// Replaces a run of digits, if there is one after a random place.
void change_number(std::string& input, random_source& random) {
  auto const digits = "0123456789";
  auto const begin = input.find_first_of(digits, random.below(input.size()));
  if (begin == input.npos) { return; }
  auto const end = std::min(input.find_first_not_of(digits, begin), input.size());
  input.replace(begin, end - begin, interesting_number(random));
}

void mutate(std::string& input, std::vector<std::string> const& seeds,
            std::vector<std::string> const& words, random_source& random) {
  auto const at = random.below(input.size() + 1);
  auto const left = input.size() - at;
  auto const length = 1 + random.below(random.below(4) == 0 ? 64 : 4);
  switch (random.below(10)) {
    case 0:
      if (left > 0) { input[at] = static_cast<char>(input[at] ^ (1 << random.below(8))); }
      break;
    case 1:
      if (left > 0) { input[at] = static_cast<char>(random.next()); }
      break;
    case 2:
      input.insert(at, length, static_cast<char>(random.next()));
      break;
    case 3:
      input.erase(at, length);
      break;
    case 4:
      input.insert(random.below(input.size() + 1), input.substr(at, length));
      break;
    case 5:
      input.insert(at, random.pick(words));
      break;
    case 6:
      input.replace(at, std::min(left, length), random.pick(words));
      break;
    case 7: {
      auto const& other = random.pick(seeds);
      auto const from = random.below(other.size());
      input.insert(at, other.substr(from, 1 + random.below(other.size() - from)));
      break;
    }
    case 8:
      input.resize(at);
      break;
    default:
      change_number(input, random);
      break;
  }
  input.resize(std::min(input.size(), longest_input));
}

std::string make_input(std::uint64_t seed, std::uint64_t number,
                       std::vector<std::string> const& seeds,
                       std::vector<std::string> const& words) {
  if (number < seeds.size()) { return seeds[number]; }
  random_source random{seed * 0x2545f4914f6cdd1du + number};
  auto input = random.pick(seeds);
  for (auto steps = 1 + random.below(random.below(2) == 0 ? 2 : 8); steps > 0; --steps) {
    mutate(input, seeds, words, random);
  }
  return input;
}

void run(std::string const& input) {
  // Of its exact size on the heap, so that a read past the end is seen.
  std::vector<std::uint8_t> const bytes(input.begin(), input.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

}  // namespace

int main(int argc, char** argv) {
  auto const argument = [&](int i, char const* otherwise) {
    return std::stoull(i < argc ? argv[i] : otherwise);
  };
  auto const seconds = argument(1, "20");
  current_seed = argument(2, "1");
  for (int const signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE}) { std::signal(signal, say_which); }
  auto const seeds = fuzz::seeds();
  auto const words = fuzz::words();
  if (argc > 3) {
    current_input = argument(3, "0");
    auto const input = make_input(current_seed, current_input, seeds, words);
    if (argc > 4) { std::ofstream{argv[4], std::ios::binary} << input; }
    run(input);
    return 0;
  }
  auto const end = std::chrono::steady_clock::now() + std::chrono::seconds{seconds};
  std::uint64_t done = 0;
  for (; std::chrono::steady_clock::now() < end; ++done) {
    current_input = done;
    run(make_input(current_seed, done, seeds, words));
  }
  std::cout << done << " inputs of seed " << current_seed << " in " << seconds << " s\n";
  fuzz::must(done > seeds.size(), "every seed has run");
}
