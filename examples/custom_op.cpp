// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A reduction of one's own: the softmax normaliser log(sum(exp(logit))) of a vocabulary whose
// logits lie on four ranks, from one all-reduce of eight bytes instead of a gather of all logits.
#include <tpx/allreduce.hpp>
#include <tpx/run_ranks.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>

struct exp_sum {
  float max = std::numeric_limits<float>::lowest();
  float sum = 0;  // of exp(logit - max), which cannot overflow
};

struct LogSumExp {
  TPX_HD exp_sum operator()(exp_sum a, exp_sum b) const {
    float const max = std::max(a.max, b.max);
    return {max, a.sum * std::exp(a.max - max) + b.sum * std::exp(b.max - max)};
  }
};

int main() {
  tpx::run_ranks(4, [](tpx::group& g) {
    tpx::communicator<tpx::HostPinned, tpx::Auto, tpx::Cpu> comm{g};
    std::array<exp_sum, 1> total;
    for (int id = g.rank(); id < 10'000; id += g.size()) {  // this rank's logits
      total[0] = LogSumExp{}(total[0], {90 + std::sin(static_cast<float>(id)), 1});
    }
    tpx::allreduce(comm, total, LogSumExp{});
    if (g.rank() == 0) { std::printf("%.3f\n", total[0].max + std::log(total[0].sum)); }
  });
}
