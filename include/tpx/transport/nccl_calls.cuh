// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/transport/nccl_state.cuh>

#include <algorithm>
#include <type_traits>

namespace tpx::detail {

/// The collectives of one call on a stream, by NCCL; what NCCL lacks is made of what it has, in
/// pieces that fit the scratch. Every rank cuts the same pieces.
class nccl_calls {
 public:
  nccl_calls(nccl_state& state, int ranks, cudaStream_t stream)
      : state_{state}, ranks_{ranks}, me_{state.rank()}, stream_{stream} {}

  template <class T, class Op, class Epilogue>
  void allreduce(T const* in, T* out, std::size_t n, Op op, Epilogue epilogue) const {
    using A = accumulate_t<T>;
    if constexpr (std::is_same_v<Epilogue, no_epilogue> && nccl_op<Op, T> >= 0) {
      call("all-reduce", [&](ncclComm_t comm) {
        return ncclAllReduce(in, out, n, nccl_type_v<T>, nccl_op_v<Op, T>, comm, stream_);
      });
    } else if constexpr (!std::is_same_v<Epilogue, no_epilogue> && nccl_op<Op, A> >= 0) {
      load<nccl_widen<T, A>>();
      load<nccl_finish<T, A, Epilogue>>();
      A* const sums = scratch<A>();
      pieces(n, fit<A>(1), [&](std::size_t first, std::size_t some) {
        if constexpr (!std::is_same_v<T, A>) { launch(nccl_widen<T, A>{in + first, sums}, some); }
        call("all-reduce", [&](ncclComm_t comm) {
          void const* from = sums;
          if constexpr (std::is_same_v<T, A>) { from = in + first; }
          return ncclAllReduce(from, sums, some, nccl_type_v<A>, nccl_op_v<Op, A>, comm, stream_);
        });
        launch(nccl_finish<T, A, Epilogue>{sums, out + first, first, epilogue}, some);
      });
    } else {
      load<nccl_fold<T, Op, Epilogue>>();
      T* const all = scratch<T>();
      pieces(n, fit<T>(slots()), [&](std::size_t first, std::size_t some) {
        gather_all(in + first, all, some);
        launch(nccl_fold<T, Op, Epilogue>{all, some, ranks_, out + first, first, op, epilogue},
               some);
      });
    }
  }

  template <class T>
  void broadcast(T* x, std::size_t n, int root) const {
    call("broadcast", [&](ncclComm_t comm) {
      return ncclBroadcast(x, x, n * sizeof(T), ncclUint8, root, comm, stream_);
    });
  }

  /// `held`: whose columns are whose, each column named once.
  template <class T>
  void allgather(columns const& held, std::size_t rows, T const* in, std::size_t in_pitch, T* out,
                 std::size_t out_pitch) const {
    std::size_t const each = held.size(me_);
    if (rows == 1 && tiled(held, each)) {
      gather_all(in, out, each);
    } else if (rows == 1) {
      group("all-gather", [&](ncclComm_t comm, auto&& ask) {
        for (int r = 0; r < ranks_; ++r) {
          if (held.size(r) == 0) { continue; }
          T* const to = out + held.begin[r];
          ask(ncclBroadcast(r == me_ ? in : to, to, held.size(r) * sizeof(T), ncclUint8, r, comm,
                            stream_));
        }
      });
    } else {
      load<nccl_pack<T, T>>();
      load<nccl_unpack<T>>();
      columns own{};
      own.end[0] = each;
      T* const all = scratch<T>();
      pieces(rows * widest(held), fit<T>(slots()), [&](std::size_t first, std::size_t some) {
        T* const mine = all + static_cast<std::size_t>(me_) * some;
        launch(nccl_pack<T, T>{{own, rows, in_pitch, first, some}, in, mine}, some);
        gather_all(mine, all, some);
        launch(nccl_unpack<T>{{held, rows, out_pitch, first, some}, all, out}, slots() * some);
      });
    }
  }

  template <class T, class Op, class Epilogue>
  void reduce_scatter(columns const& cut, std::size_t rows, T const* in, std::size_t in_pitch,
                      T* out, Op op, Epilogue epilogue) const {
    constexpr bool plain = std::is_same_v<Epilogue, no_epilogue>;
    using W = std::conditional_t<plain, T, accumulate_t<T>>;
    std::size_t const own = rows * cut.size(me_);
    std::size_t const longest = rows * widest(cut);
    auto const mine = [&](std::size_t first, std::size_t some) {
      return first < own ? std::min(some, own - first) : 0;
    };
    if constexpr (nccl_op<Op, W> >= 0) {
      auto const scatter = [&](W const* from, W* to, std::size_t each) {
        call("reduce-scatter", [&](ncclComm_t comm) {
          return ncclReduceScatter(from, to, each, nccl_type_v<W>, nccl_op_v<Op, W>, comm, stream_);
        });
      };
      if constexpr (plain) {
        if (rows == 1 && tiled(cut, own)) { return scatter(in, out, own); }
      }
      load<nccl_pack<T, W>>();
      load<nccl_finish<T, W, Epilogue>>();
      W* const sums = scratch<W>();
      pieces(longest, fit<W>(slots() + 1), [&](std::size_t first, std::size_t some) {
        W* const packed = sums + some;
        launch(nccl_pack<T, W>{{cut, rows, in_pitch, first, some}, in, packed}, slots() * some);
        scatter(packed, sums, some);
        launch(nccl_finish<T, W, Epilogue>{sums, out + first, first, epilogue}, mine(first, some));
      });
    } else {
      load<nccl_pack<T, T>>();
      load<nccl_fold<T, Op, Epilogue>>();
      columns shares{};  // by rank: what comes from there
      for (int r = 0; r < ranks_; ++r) { shares.end[r] = cut.size(me_); }
      T* const got = scratch<T>();
      pieces(longest, fit<T>(2 * slots()), [&](std::size_t first, std::size_t some) {
        T* const packed = got + slots() * some;
        launch(nccl_pack<T, T>{{cut, rows, in_pitch, first, some}, in, packed}, slots() * some);
        exchange("reduce-scatter", packed, apart(some).begin, got, apart(some).begin, cut, shares,
                 rows, first, some);
        launch(nccl_fold<T, Op, Epilogue>{got, some, ranks_, out + first, first, op, epilogue},
               mine(first, some));
      });
    }
  }

  /// Rank r's columns `source` of the matrix go to whom `target` gives them. `in` begins with
  /// column `in_begin`.
  template <class T>
  void gather(columns const& source, columns const& target, std::size_t rows, T const* in,
              std::size_t in_pitch, std::size_t in_begin, T* out, std::size_t out_pitch) const {
    columns to{};    // by rank: what goes there, as columns of `in`
    columns from{};  // by rank: what comes from there, as columns of `out`
    std::size_t longest = 0;
    for (int a = 0; a < ranks_; ++a) {
      for (int b = 0; b < ranks_; ++b) {
        std::size_t const begin = std::max(source.begin[a], target.begin[b]);
        std::size_t const end = std::max(begin, std::min(source.end[a], target.end[b]));
        if (begin == end) { continue; }
        longest = std::max(longest, rows * (end - begin));
        if (a == me_) {
          to.begin[b] = begin - in_begin;
          to.end[b] = end - in_begin;
        }
        if (b == me_) {
          from.begin[a] = begin - target.begin[b];
          from.end[a] = end - target.begin[b];
        }
      }
    }
    if (rows == 1) {
      exchange("gather", in, to.begin, out, from.begin, to, from, 1, 0, longest);
      return;
    }
    load<nccl_pack<T, T>>();
    load<nccl_unpack<T>>();
    T* const got = scratch<T>();
    pieces(longest, fit<T>(2 * slots()), [&](std::size_t first, std::size_t some) {
      T* const packed = got + slots() * some;
      launch(nccl_pack<T, T>{{to, rows, in_pitch, first, some}, in, packed}, slots() * some);
      exchange("gather", packed, apart(some).begin, got, apart(some).begin, to, from, rows, first,
               some);
      launch(nccl_unpack<T>{{from, rows, out_pitch, first, some}, got, out}, slots() * some);
    });
  }

  void barrier() const {
    float* const word = state_.memory().barrier_word();
    call("run a barrier", [&](ncclComm_t comm) {
      return ncclAllReduce(word, word, 1, ncclFloat32, ncclSum, comm, stream_);
    });
  }

 private:
  template <class F>
  void call(char const* attempted, F&& f) const {
    state_.call(attempted, f);
  }

  /// f(comm, ask): ask(result of an NCCL call) for each call of the group.
  template <class F>
  void group(char const* attempted, F&& f) const {
    state_.call(attempted, [&](ncclComm_t comm) {
      ncclResult_t worst = ncclGroupStart();
      if (worst != ncclSuccess) { return worst; }
      f(comm, [&](ncclResult_t result) {
        if (worst == ncclSuccess && result != ncclInProgress) { worst = result; }
      });
      ncclResult_t const ended = ncclGroupEnd();
      return worst == ncclSuccess ? ended : worst;
    });
  }

  template <class T>
  void gather_all(T const* in, T* out, std::size_t each) const {
    call("all-gather", [&](ncclComm_t comm) {
      return ncclAllGather(in, out, each * sizeof(T), ncclUint8, comm, stream_);
    });
  }

  /// Elements [first, first + some) of each pair's message; `sent[r]`, `got[r]`: where those for
  /// and from rank r lie.
  template <class T>
  void exchange(char const* attempted, T const* in, std::size_t const* sent, T* out,
                std::size_t const* got, columns const& to, columns const& from, std::size_t rows,
                std::size_t first, std::size_t some) const {
    auto const bytes = [&](columns const& c, int r) {
      std::size_t const total = rows * c.size(r);
      return (first < total ? std::min(some, total - first) : 0) * sizeof(T);
    };
    if (std::size_t const n = bytes(to, me_); n != 0) {
      cuda_check(
        cudaMemcpyAsync(out + got[me_], in + sent[me_], n, cudaMemcpyDeviceToDevice, stream_),
        "copying a rank's own part");
    }
    bool any = false;
    for (int r = 0; r < ranks_; ++r) {
      any = any || (r != me_ && (bytes(to, r) != 0 || bytes(from, r) != 0));
    }
    if (!any) { return; }
    group(attempted, [&](ncclComm_t comm, auto&& ask) {
      for (int r = 0; r < ranks_; ++r) {
        if (r == me_) { continue; }
        if (std::size_t const n = bytes(to, r); n != 0) {
          ask(ncclSend(in + sent[r], n, ncclUint8, r, comm, stream_));
        }
        if (std::size_t const n = bytes(from, r); n != 0) {
          ask(ncclRecv(out + got[r], n, ncclUint8, r, comm, stream_));
        }
      }
    });
  }

  /// Where slots of `some` elements lie.
  [[nodiscard]] columns apart(std::size_t some) const {
    return columns::even(some * slots(), ranks_);
  }
  /// Whether the ranks' columns have `each` elements and lie side by side.
  [[nodiscard]] bool tiled(columns const& c, std::size_t each) const {
    for (int r = 0; r < ranks_; ++r) {
      if (c.begin[r] != static_cast<std::size_t>(r) * each || c.size(r) != each) { return false; }
    }
    return true;
  }
  [[nodiscard]] std::size_t widest(columns const& c) const {
    std::size_t most = 0;
    for (int r = 0; r < ranks_; ++r) { most = std::max(most, c.size(r)); }
    return most;
  }

  [[nodiscard]] std::size_t slots() const { return static_cast<std::size_t>(ranks_); }
  template <class T>
  [[nodiscard]] T* scratch() const {
    return state_.memory().template scratch<T>();
  }
  /// How many elements each of `parts` equal parts of the scratch holds.
  template <class T>
  [[nodiscard]] std::size_t fit(std::size_t parts) const {
    std::size_t const most = state_.memory().scratch_bytes() / (parts * sizeof(T));
    return most / 16 * 16;
  }
  template <class F>
  static void pieces(std::size_t n, std::size_t step, F&& f) {
    for (std::size_t first = 0; first < n; first += step) { f(first, std::min(step, n - first)); }
  }
  template <class F>
  void load() const {
    nccl_load<F>(state_.device());
  }
  template <class F>
  void launch(F const& f, std::size_t n) const {
    nccl_launch(f, n, stream_);
  }

  nccl_state& state_;
  int ranks_;
  int me_;
  cudaStream_t stream_;
};

}  // namespace tpx::detail
