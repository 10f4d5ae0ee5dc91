// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/split_plan.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace tpx {

/// "832 B", "4.2 GiB": binary units, rounded to one decimal.
[[nodiscard]] inline std::string human_bytes(std::size_t bytes) {
  constexpr char const* units[]{" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};
  if (bytes < 1024) { return std::to_string(bytes) + units[0]; }
  std::size_t unit = 0;
  auto size = static_cast<double>(bytes);
  for (; size >= 1023.95; size /= 1024) { ++unit; }
  auto const tenths = static_cast<std::size_t>(size * 10 + 0.5);
  return std::to_string(tenths / 10) + '.' + std::to_string(tenths % 10) + units[unit];
}

/// Bytes on one rank.
struct rank_holding {
  std::size_t weights = 0;       // its shards
  std::size_t replicated = 0;    // embedding and norms; none on a rank without shards
  std::size_t cache = 0;         // keys and values of options().tokens
  std::size_t communicator = 0;  // options().communicator_bytes
  std::size_t reserve = 0;       // its budget's
  std::size_t memory = 0;        // its budget's

  [[nodiscard]] std::size_t total() const noexcept {
    return weights + replicated + cache + communicator + reserve;
  }
  /// Bytes that are missing; 0 if all fits.
  [[nodiscard]] std::size_t lacking() const noexcept {
    return total() > memory ? total() - memory : 0;
  }
  [[nodiscard]] std::size_t free() const noexcept {
    return memory > total() ? memory - total() : 0;
  }
};

/// What a plan puts on every rank and whether it fits: known before anything is loaded.
class split_report {
 public:
  /// Throws invalid_argument unless there is a budget for every rank of the plan.
  split_report(split_plan const& plan, std::span<device_budget const> budgets)
      : plan_{plan}, budgets_{budgets.begin(), budgets.end()} {
    if (static_cast<int>(budgets.size()) != plan.world()) {
      detail::refuse_split(std::to_string(budgets.size()) + " budgets were given for a plan of " +
                             std::to_string(plan.world()) + " ranks",
                           "give one budget a rank, those that the plan was made for");
    }
    for (int rank = 0; rank < plan.world(); ++rank) { ranks_.push_back(hold(rank)); }
  }

  /// For ranks without limits.
  explicit split_report(split_plan const& plan)
      : split_report{plan, std::vector<device_budget>(static_cast<std::size_t>(plan.world()))} {}

  [[nodiscard]] rank_holding const& holding(int rank) const {
    return ranks_.at(static_cast<std::size_t>(rank));
  }

  [[nodiscard]] bool fits() const { return ranks_[tightest()].lacking() == 0; }

  /// The most cache tokens with which a new plan for these budgets fits; 0 if none does.
  [[nodiscard]] std::size_t most_tokens() const {
    std::size_t low = 0, high = std::size_t{1} << 40;
    while (high - low > 1) {
      std::size_t const middle = low + (high - low) / 2;
      (fits_with(middle) ? low : high) = middle;
    }
    return low;
  }

  /// Which rank lacks how much, and how to mend it; "" if all fits.
  [[nodiscard]] std::string why() const { return fits() ? "" : fault() + " (" + remedy() + ')'; }

  /// Throws out_of_memory unless all fits.
  void require() const {
    if (!fits()) {
      throw error{
        errc::out_of_memory,
        fault(),
        {.peer = static_cast<int>(tightest()), .operation = "split_plan", .remedy = remedy()}};
    }
  }

  /// A table of ranges and bytes, a line a rank, and a verdict. Lines end in '\n'.
  [[nodiscard]] std::string text() const {
    table rows{{"rank", "Kv", "Q", "Id", "Vc", "Rs", "weights", "replicated", "cache",
                "communicator", "reserve", "free"}};
    for (int rank = 0; rank < plan_.world(); ++rank) {
      rank_holding const& h = holding(rank);
      bool const limited = h.memory != device_budget::unlimited;
      rows.push_back({std::to_string(rank), show<split::Kv>(rank), show<split::Q>(rank),
                      show<split::Id>(rank), show<split::Vc>(rank), show<split::Rs>(rank),
                      human_bytes(h.weights), human_bytes(h.replicated), human_bytes(h.cache),
                      human_bytes(h.communicator), human_bytes(h.reserve),
                      !limited          ? "-"
                      : h.lacking() > 0 ? '-' + human_bytes(h.lacking())
                                        : human_bytes(h.free())});
    }
    return headline() + align(rows) + verdict();
  }

 private:
  using table = std::vector<std::vector<std::string>>;

  [[nodiscard]] rank_holding hold(int rank) const {
    model_shape const& s = plan_.shape();
    auto const units = [&](shard_range range) { return static_cast<double>(range.size()); };
    auto const whole = [](double bytes) {
      return static_cast<std::size_t>(bytes) +
             (bytes > static_cast<double>(static_cast<std::size_t>(bytes)) ? 1 : 0);
    };
    double const kv = units(plan_.range<split::Kv>(rank));
    double const columns = units(plan_.range<split::Id>(rank));
    double const logits = units(plan_.range<split::Vc>(rank));
    double const heads = units(plan_.range<split::Q>(rank));
    bool const any = heads + columns + logits + units(plan_.range<split::Rs>(rank)) > 0;
    device_budget const& budget = budgets_[static_cast<std::size_t>(rank)];
    bool const out = !any && budget.memory == 0;
    return {
      .weights = whole(heads * s.q_head_bytes() + kv * s.kv_head_bytes() +
                       columns * s.id_column_bytes() + logits * s.vc_column_held_bytes()),
      .replicated = any ? whole(s.replicated_bytes()) : 0,
      .cache = whole(kv * s.kv_head_cache_bytes() * static_cast<double>(plan_.options().tokens)),
      .communicator = out ? 0 : plan_.options().communicator_bytes,
      .reserve = out ? 0 : budget.reserve,
      .memory = budget.memory};
  }

  /// The rank that lacks most, or has least free where none lacks anything.
  [[nodiscard]] std::size_t tightest() const {
    auto const tighter = [](rank_holding const& a, rank_holding const& b) {
      bool const a_in = a.memory > 0 || a.total() > 0;
      bool const b_in = b.memory > 0 || b.total() > 0;
      if (a_in != b_in) { return a_in; }
      return a.lacking() != b.lacking() ? a.lacking() > b.lacking() : a.free() < b.free();
    };
    return static_cast<std::size_t>(std::min_element(ranks_.begin(), ranks_.end(), tighter) -
                                    ranks_.begin());
  }

  [[nodiscard]] bool fits_with(std::size_t tokens) const {
    split_options options = plan_.options();
    options.tokens = tokens;
    if (static_cast<double>(tokens) * plan_.shape().cache_bytes_per_token() > 0x1p61) {
      return false;
    }
    return split_report{split_plan::fit(plan_.shape(), budgets_, options), budgets_}.fits();
  }

  [[nodiscard]] std::string fault() const {
    rank_holding const& h = ranks_[tightest()];
    return "rank " + std::to_string(tightest()) + " lacks " + human_bytes(h.lacking()) + " (" +
           std::to_string(h.lacking()) + " bytes): it would hold " + human_bytes(h.total()) +
           " of " + human_bytes(h.memory);
  }

  [[nodiscard]] std::string remedy() const {
    std::size_t const now = plan_.options().tokens;
    std::size_t const most = std::min(most_tokens(), now);
    if (most == now) { return "split_plan::fit makes a plan that fits these budgets"; }
    if (most > 0) {
      return "keep at most " + std::to_string(most) + " tokens of cache instead of " +
             std::to_string(now) + ", or add ranks";
    }
    return "no cache size helps: add ranks or memory, or take weights of fewer bits than " +
           std::to_string(static_cast<int>(plan_.shape().weight_bytes * 8));
  }

  [[nodiscard]] std::string headline() const {
    model_shape const& s = plan_.shape();
    auto const n = [](std::size_t value) { return std::to_string(value); };
    return "split plan: " + n(ranks_.size()) + (ranks_.size() == 1 ? " rank, " : " ranks, ") +
           n(s.layers) + " layers, hidden " + n(s.hidden) + ", " + n(s.query_heads) +
           " query and " + n(s.kv_heads) + " key/value heads of " + n(s.head_dim) + ", MLP " +
           n(s.intermediate) + ", vocabulary " + n(s.vocab) + ", " + n(plan_.options().tokens) +
           " tokens of cache" + (plan_.replicated() ? ", key/value heads replicated" : "") + '\n';
  }

  [[nodiscard]] std::string verdict() const {
    rank_holding const& h = ranks_[tightest()];
    if (h.lacking() > 0) { return "does not fit: " + why() + '\n'; }
    if (h.memory == device_budget::unlimited) { return "fits: no rank has a limit\n"; }
    return "fits: rank " + std::to_string(tightest()) + " is the fullest, with " +
           human_bytes(h.free()) + " free\n";
  }

  template <split_kind Kind>
  [[nodiscard]] std::string show(int rank) const {
    shard_range const range = plan_.range<Kind>(rank);
    return range.empty()
             ? "-"
             : '[' + std::to_string(range.begin) + ',' + std::to_string(range.end) + ')';
  }

  static std::string align(table const& rows) {
    std::vector<std::size_t> width(rows.front().size());
    for (auto const& row : rows) {
      for (std::size_t c = 0; c < row.size(); ++c) { width[c] = std::max(width[c], row[c].size()); }
    }
    std::string lines;
    for (auto const& row : rows) {
      for (std::size_t c = 0; c < row.size(); ++c) {
        lines += std::string(width[c] - row[c].size() + (c == 0 ? 0 : 2), ' ') + row[c];
      }
      lines += '\n';
    }
    return lines;
  }

  split_plan plan_;
  std::vector<device_budget> budgets_;
  std::vector<rank_holding> ranks_;
};

}  // namespace tpx
