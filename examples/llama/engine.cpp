// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "engine.hpp"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

namespace llama {
namespace {

template <class Transport, class Topology>
class engine_of final : public engine {
 public:
  engine_of(tpx::group& g, checkpoint const& files, tpx::split_plan const& plan,
            model_options const& options)
      : comm_{g}, model_{comm_, files, plan, options} {}

  std::span<float> forward(std::span<tpx::step_part const> parts) override {
    return model_.forward(parts);
  }
  std::span<float> forward_own(std::span<tpx::step_part const> parts) override {
    return model_.forward_own(parts);
  }
  std::span<float> own_logits() const override { return model_.own_logits(); }
  tpx::shard_range own() const override { return model_.own(); }
  void max(std::span<std::uint64_t> values) override { model_.max(values); }
  void sum(std::span<std::uint64_t> values) override { model_.sum(values); }
  std::size_t check(std::span<tpx::step_part const> parts) const override {
    return model_.check(parts);
  }
  void copy(std::span<tpx::page_copy const> copies) override { model_.copy(copies); }
  void store(tpx::page_id page, std::uint32_t host, std::size_t tokens) override {
    model_.store(page, host, tokens);
  }
  void fetch(std::uint32_t host, tpx::page_id page, std::size_t tokens) override {
    model_.fetch(host, page, tokens);
  }
  std::size_t vocab_size() const override { return model_.vocab_size(); }
  std::size_t pages() const override { return model_.pages(); }
  std::size_t max_tokens() const override { return model_.max_tokens(); }
  std::size_t host_pages() const override { return model_.host_pages(); }
  counts collectives() const override { return {comm_.stats().calls, comm_.stats().ns}; }

 private:
  using communicator = tpx::communicator<Transport, Topology, tpx::Cpu>;
  communicator comm_;
  model<communicator, page_size> model_;
};

template <class Transport>
std::unique_ptr<engine> make(std::string_view topology, tpx::group& g, checkpoint const& files,
                             tpx::split_plan const& plan, model_options const& options) {
  if (topology == "Ring") {
    return std::make_unique<engine_of<Transport, tpx::Ring>>(g, files, plan, options);
  }
  if (topology == "Tree") {
    return std::make_unique<engine_of<Transport, tpx::Tree>>(g, files, plan, options);
  }
  if (topology == "AllPairs") {
    return std::make_unique<engine_of<Transport, tpx::AllPairs>>(g, files, plan, options);
  }
  return std::make_unique<engine_of<Transport, tpx::Auto>>(g, files, plan, options);
}

template <std::size_t N>
void expect_one_of(std::string_view const (&names)[N], std::string_view name) {
  if (std::ranges::find(names, name) != std::end(names)) { return; }
  std::string all;
  for (auto const& n : names) { all += (all.empty() ? "" : ", ") + std::string{n}; }
  throw tpx::error{tpx::errc::invalid_argument,
                   "there is no '" + std::string{name} + "'",
                   {.remedy = "one of " + all}};
}

}  // namespace

std::unique_ptr<engine> make_engine(std::string_view transport, std::string_view topology,
                                    tpx::group& g, checkpoint const& files,
                                    tpx::split_plan const& plan, model_options const& options) {
  expect_one_of(transports, transport);
  expect_one_of(topologies, topology);
  return transport == "PeerDirect" ? make<tpx::PeerDirect>(topology, g, files, plan, options)
                                   : make<tpx::HostPinned>(topology, g, files, plan, options);
}

}  // namespace llama
