// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Compiled without sanitizers: what it shares among the ranks is not theirs to race for.
#include "explorer.hpp"

#include "fiber.hpp"

#include <array>
#include <utility>

namespace explore {
namespace {

scheduler* running = nullptr;  // whose fibers begin

std::uint64_t value_of(std::uint64_t const& flag) {
  return *static_cast<std::uint64_t const volatile*>(&flag);
}

/// By volatile words: a sanitizer would see what std::memset does.
void fill(std::byte* at, std::size_t bytes, unsigned char with) {
  auto volatile* words = reinterpret_cast<std::uint64_t volatile*>(at);
  for (std::size_t i = 0; i < bytes / 8; ++i) { words[i] = with * 0x0101010101010101u; }
}

}  // namespace

struct scheduler::fiber {
  enum class waiting { nothing, flag, team };

  explicit fiber(void (*main)()) : own{main} {}
  stack own;
  explorer_thread me;
  waiting on = waiting::nothing;
  bool done = true;
  std::uint64_t* flag = nullptr;
  std::uint64_t value = 0;
  int peer = 0;
  std::uint64_t round = 0;  // of the team
  std::int64_t priority = 0;
};

struct scheduler::state {
  stack main;
  std::array<std::unique_ptr<fiber>, most> fibers;
  int count = 0;
  int live = 0;
  int current = 0;
  bool stopped = false;

  setting where{};
  strategy how = strategy::uniform;
  generator random{0};
  std::array<std::uint64_t, 8> changes{};
  std::int64_t lowest = 0;
  entry body = nullptr;
  void* argument = nullptr;
  outcome result;

  struct team {
    unsigned here = 0;
    std::uint64_t round = 0;
    bool ok = true;
    bool said = true;
  };
  std::array<team, most> teams{};
  // Messages whose slots are poisoned already: by owner of `out`, channel and peer.
  std::array<std::array<std::array<std::uint64_t, tpx::max_ranks>, 4>, tpx::max_ranks> freed{};
};

unsigned explorer_thread::size() const {
  owner_->step();
  return threads_;
}
bool explorer_thread::all(bool ok) const {
  return owner_->meet(*this, ok);
}
void explorer_thread::sync() const {
  (void)owner_->meet(*this, true);
}
bool explorer_thread::stopped() const {
  return owner_->s_->stopped;
}

bool explorer_thread::pause(unsigned, std::uint64_t& flag, std::uint64_t value, int peer) const {
  auto& s = *owner_->s_;
  if (s.stopped) { return false; }
  auto& f = *s.fibers[static_cast<std::size_t>(fiber_)];
  f.on = scheduler::fiber::waiting::flag;
  f.flag = &flag;
  f.value = value;
  f.peer = peer;
  owner_->step();
  f.on = scheduler::fiber::waiting::nothing;
  return !s.stopped;
}

void explorer_thread::ring(int peer) const {
  owner_->freed(*this, peer);
  owner_->step();
}

void explorer_thread::mismatch(int peer, std::uint64_t signature) const {
  owner_->fail(verdict::mismatch, "rank " + std::to_string(rank_) + " was told that rank " +
                                    std::to_string(peer) + " called " + std::to_string(signature));
}

scheduler::scheduler() : s_{new state} {}
scheduler::~scheduler() {
  delete s_;
}

outcome scheduler::run(setting const& where, strategy how, std::uint64_t seed, entry body,
                       void* argument) {
  auto& s = *s_;
  s.where = where;
  s.how = how;
  s.random = generator{seed};
  s.body = body;
  s.argument = argument;
  s.result = {};
  s.stopped = false;
  s.teams = {};
  s.freed = {};
  auto const& layout = where.layout;
  s.count = layout.ranks * layout.channels * static_cast<int>(where.threads);
  if (s.count > most || layout.channels > 4) { return {verdict::endless, "too many threads"}; }

  auto const slots = layout.slot_offset(0, 0, 0);
  for (int r = 0; r < layout.ranks; ++r) {
    fill(where.windows[r], slots, 0);
    fill(where.windows[r] + slots, layout.bytes() - slots, poison);
  }
  running = this;
  for (int i = 0; i < s.count; ++i) { start_fiber(i); }
  if (how == strategy::pct) {
    // The scale is unknown, so it is drawn too: early or late, near or far from each other.
    std::uint64_t const scale = std::uint64_t{32} << s.random.below(8);
    std::size_t const depth = s.random.below(s.changes.size() + 1);
    for (std::size_t i = 0; i < s.changes.size(); ++i) {
      s.changes[i] = i < depth ? 1 + s.random.below(scale) : 0;
    }
    for (int i = s.count - 1; i > 0; --i) {
      auto const j = s.random.below(static_cast<std::size_t>(i) + 1);
      std::swap(s.fibers[static_cast<std::size_t>(i)]->priority, s.fibers[j]->priority);
    }
    s.lowest = 0;
  }
  if (__tsan_release != nullptr) { __tsan_release(&s.live); }
  s.live = s.count;
  s.current = choose();
  s.main.switch_to(s.fibers[static_cast<std::size_t>(s.current)]->own);
  if (__tsan_acquire != nullptr) { __tsan_acquire(&s.live); }
  running = nullptr;
  return std::move(s.result);
}

void scheduler::start_fiber(int index) {
  auto& slot = s_->fibers[static_cast<std::size_t>(index)];
  if (!slot) { slot = std::make_unique<fiber>(&scheduler::fiber_main); }
  auto const i = static_cast<unsigned>(index);
  auto const channels = static_cast<unsigned>(s_->where.layout.channels);
  slot->done = false;
  slot->on = fiber::waiting::nothing;
  slot->round = 0;
  slot->priority = index + 1;
  slot->me.owner_ = this;
  slot->me.fiber_ = index;
  slot->me.thread_ = i % s_->where.threads;
  slot->me.threads_ = s_->where.threads;
  slot->me.channel_ = i / s_->where.threads % channels;
  slot->me.channels_ = channels;
  slot->me.rank_ = static_cast<int>(i / s_->where.threads / channels);
}

void scheduler::fiber_main() {
  stack::arrived();
  for (;;) {  // a turn a run
    auto& s = *running->s_;
    auto& f = *s.fibers[static_cast<std::size_t>(s.current)];
    if (__tsan_acquire != nullptr) { __tsan_acquire(&s.live); }
    s.body(s.argument, f.me);
    if (__tsan_release != nullptr) { __tsan_release(&s.live); }
    f.done = true;
    running->leave();
  }
}

void scheduler::leave() {
  auto& s = *s_;
  auto& own = s.fibers[static_cast<std::size_t>(s.current)]->own;
  if (--s.live == 0) {
    own.switch_to(s.main);
  } else {
    go_to(choose());
  }
}

void scheduler::step() {
  auto& s = *s_;
  if (s.stopped) { return; }
  if (++s.result.steps > 1'000'000) {
    fail(verdict::endless, "no end after a million steps");
    return;
  }
  if (s.how == strategy::pct) {
    for (auto const change : s.changes) {
      if (change == s.result.steps) {
        s.fibers[static_cast<std::size_t>(s.current)]->priority = --s.lowest;
      }
    }
  }
  go_to(choose());
}

void scheduler::go_to(int next) {
  auto& s = *s_;
  s.result.order = (s.result.order ^ static_cast<std::uint64_t>(next)) * 0x100000001b3u;
  if (next == s.current) { return; }
  auto& own = s.fibers[static_cast<std::size_t>(s.current)]->own;
  s.current = next;
  own.switch_to(s.fibers[static_cast<std::size_t>(next)]->own);
}

bool scheduler::can_run(fiber const& f) const {
  if (f.done) { return false; }
  if (s_->stopped) { return true; }
  switch (f.on) {
    case fiber::waiting::flag:
      return value_of(*f.flag) >= f.value;
    case fiber::waiting::team:
      return s_->teams[static_cast<std::size_t>(f.me.fiber_) / s_->where.threads].round > f.round;
    default:
      return true;
  }
}

int scheduler::choose() {
  auto& s = *s_;
  for (;;) {
    std::array<int, most> ready;
    std::size_t n = 0;
    for (int i = 0; i < s.count; ++i) {
      if (can_run(*s.fibers[static_cast<std::size_t>(i)])) { ready[n++] = i; }
    }
    if (n == 0) {
      fail(verdict::deadlock, "deadlock: " + who_waits());
      continue;
    }
    if (s.how == strategy::uniform) { return ready[s.random.below(n)]; }
    int best = ready[0];
    for (std::size_t i = 1; i < n; ++i) {
      if (s.fibers[static_cast<std::size_t>(ready[i])]->priority >
          s.fibers[static_cast<std::size_t>(best)]->priority) {
        best = ready[i];
      }
    }
    return best;
  }
}

bool scheduler::meet(explorer_thread const& me, bool ok) {
  auto& s = *s_;
  if (s.stopped) { return false; }
  if (s.where.threads > 1) {
    auto& team = s.teams[static_cast<std::size_t>(me.fiber_) / s.where.threads];
    if (__tsan_release != nullptr) { __tsan_release(&team); }
    team.ok = team.ok && ok;
    if (++team.here == s.where.threads) {
      team.here = 0;
      team.said = std::exchange(team.ok, true);
      ++team.round;
    }
    auto& f = *s.fibers[static_cast<std::size_t>(me.fiber_)];
    f.on = fiber::waiting::team;
    step();
    f.on = fiber::waiting::nothing;
    ++f.round;
    if (__tsan_acquire != nullptr) { __tsan_acquire(&team); }
    // Nobody can say anything else before all have read this: they meet again first.
    return !s.stopped && team.said;
  }
  step();
  return ok && !s.stopped;
}

void scheduler::poison_slot(int owner, int channel, int peer, std::uint64_t message) {
  auto const& layout = s_->where.layout;
  auto const slot = static_cast<int>(message % tpx::window_layout::slots);
  fill(s_->where.windows[owner] + layout.slot_offset(channel, peer, slot), layout.slot_bytes,
       poison);
}

/// Poisons what rank `me` has just given back to rank `peer`.
void scheduler::freed(explorer_thread const& me, int peer) {
  auto& s = *s_;
  if (s.stopped) { return; }
  auto const& layout = s.where.layout;
  auto const channel = static_cast<int>(me.channel());
  auto const flag = [&](tpx::window_layout::kind kind, int from) {
    auto const* const at = s.where.windows[peer] + layout.line_offset(channel, kind, from);
    return value_of(reinterpret_cast<tpx::window_layout::line const*>(at)->flag);
  };
  auto const p = static_cast<std::size_t>(peer);
  auto& pair = s.freed[p][me.channel()][static_cast<std::size_t>(me.rank())];
  auto const message = flag(tpx::window_layout::freed, me.rank());
  if (message != pair) { poison_slot(me.rank(), channel, peer, pair = message); }

  std::uint64_t least = ~std::uint64_t{0};
  for (int r = 0; r < layout.ranks; ++r) {
    if (r != peer) {
      auto const seen = flag(tpx::window_layout::freed_all, r);
      least = seen < least ? seen : least;
    }
  }
  auto& all = s.freed[p][me.channel()][p];
  if (least != all) { poison_slot(peer, channel, peer, all = least); }
}

void scheduler::fail(verdict kind, std::string what) {
  auto& s = *s_;
  if (s.stopped) { return; }
  s.stopped = true;
  s.result.kind = kind;
  s.result.what = std::move(what);
}

std::string scheduler::who_waits() const {
  std::string all;
  for (int i = 0; i < s_->count; ++i) {
    auto const& f = *s_->fibers[static_cast<std::size_t>(i)];
    if (f.done) { continue; }
    all += (all.empty() ? "rank " : "; rank ") + std::to_string(f.me.rank());
    if (s_->where.threads > 1) { all += " thread " + std::to_string(f.me.thread_rank()); }
    if (f.me.channels() > 1) { all += " channel " + std::to_string(f.me.channel()); }
    all += f.on == fiber::waiting::team
             ? std::string{" waits for its own threads"}
             : " waits for rank " + std::to_string(f.peer) + " to raise " + name_of(f.flag) +
                 " from " + std::to_string(*f.flag) + " to " + std::to_string(f.value);
  }
  return all;
}

std::string scheduler::name_of(std::uint64_t const* flag) const {
  static constexpr char const* names[] = {"sent", "freed", "sent_all", "freed_all", "arrived"};
  auto const& layout = s_->where.layout;
  for (int r = 0; r < layout.ranks; ++r) {
    auto const* const line =
      reinterpret_cast<tpx::window_layout::line const*>(s_->where.windows[r]);
    auto const n = reinterpret_cast<tpx::window_layout::line const*>(flag) - line;
    if (n >= 0 && n < layout.channels * tpx::window_layout::kinds * layout.ranks) {
      return std::string{"its `"} + names[n / layout.ranks % tpx::window_layout::kinds] + "`";
    }
  }
  return "a flag";
}

}  // namespace explore
