// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Compiled without sanitizers: what it shares among the ranks is not theirs to race for.
#include "explorer.hpp"

#include "fiber.hpp"
#include "stepping_atomic.hpp"

#include <array>
#include <utility>
#include <vector>

namespace explore {

bool stepping = false;

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

bool is_lower(void const* at) {
  return reinterpret_cast<std::uintptr_t>(at) % sizeof(tpx::cell) == 0;
}

/// Whether the word at an address is a mark of a streamed turn, not of a cell.
bool is_mark(setting const& where, void const* at) {
  for (int r = 0; r < where.layout.ranks; ++r) {
    auto const* const window = where.windows[r];
    if (at >= window + where.layout.marks_offset() && at < window + where.layout.bytes()) {
      return where.layout.area_cells != 0;
    }
  }
  return false;
}

bool full(std::uint64_t upper) {
  return upper >> 32 != tpx::cells::nothing;
}

struct run_ended {};  // thrown out of loops over loads once a run has failed

constexpr std::uint64_t any_change = ~std::uint64_t{0};  // what a mere poll waits for

}  // namespace

struct scheduler::fiber {
  enum class waiting { nothing, flag, team };

  explicit fiber(void (*main)()) : own{main} {}
  stack own;
  explorer_thread me;
  waiting on = waiting::nothing;
  bool done = true;
  std::uint64_t* flag = nullptr;
  tpx::goal wanted{0};
  int peer = 0;
  std::uint64_t stores = 0;  // carried out when it began to wait
  std::uint64_t round = 0;   // of the team
  std::int64_t priority = 0;
  std::uint64_t lower = 0;  // of the cell that it stores
};

struct scheduler::late_store {
  std::byte* at;
  std::size_t bytes;  // 1, 8, or a cell's
  std::uint64_t lower;
  std::uint64_t upper;
  int fiber;
  std::uint64_t due;  // the step at which it is seen at last

  [[nodiscard]] bool touches(void const* address) const {
    auto const mine = reinterpret_cast<std::uintptr_t>(at);
    return reinterpret_cast<std::uintptr_t>(address) - mine < bytes;
  }
};

struct scheduler::state {
  stack main;
  std::array<std::unique_ptr<fiber>, most> fibers;
  int count = 0;
  int live = 0;
  int current = 0;
  bool stopped = false;
  std::uint64_t stores = 0;
  std::vector<late_store> late;  // in the order of the program, for each fiber

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

bool explorer_thread::pause(unsigned, std::uint64_t& flag, tpx::goal wanted, int peer) const {
  auto& s = *owner_->s_;
  if (s.stopped) { return false; }
  auto& f = *s.fibers[static_cast<std::size_t>(fiber_)];
  f.on = scheduler::fiber::waiting::flag;
  f.flag = &flag;
  f.wanted = wanted;
  f.peer = peer;
  f.stores = s.stores;
  owner_->step();
  f.on = scheduler::fiber::waiting::nothing;
  return !s.stopped;
}

void explorer_thread::ring(int peer) const {
  owner_->freed(*this, peer);
  owner_->step();
}

void explorer_thread::settle() const {
  owner_->settle_of(fiber_, nullptr);
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

  clear_windows();
  s.stores = 0;
  s.late.clear();
  stepping = where.seen != memory::coarse;
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
  stepping = false;
  return std::move(s.result);
}

void scheduler::clear_windows() {
  auto const& layout = s_->where.layout;
  auto const slots = layout.slot_offset(0, 0, 0);
  auto const end = layout.slot_offset(layout.channels, 0, 0);
  auto const cells = layout.cells_offset(0);
  auto const asides = layout.asides_offset(0);
  for (int r = 0; r < layout.ranks; ++r) {
    auto* const window = s_->where.windows[r];
    fill(window, slots, 0);
    fill(window + slots, end - slots, poison);
    if (layout.area_cells == 0) { continue; }
    fill(window + end, cells - end, 0);
    fill(window + cells, asides - cells, tpx::cells::empty_byte);
    fill(window + asides, layout.bytes() - asides, 0);
  }
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
    try {
      s.body(s.argument, f.me);
    } catch (run_ended const&) {}
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
  settle_due();
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
      if (f.wanted.value == any_change) { return f.stores != s_->stores; }
      return f.wanted.reached(value_of(*f.flag));
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
    if (n == 0 && !s.late.empty() && !s.stopped) {
      settle(s.random.below(s.late.size()));
      continue;
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

void before_load(void const* at, std::size_t bytes) {
  auto const& s = *running->s_;
  bool const lower = bytes == 8 && is_lower(at) && !is_mark(s.where, at);
  if (s.where.seen == memory::device && lower) { return; }  // with its upper
  running->step();
  if (s.stopped) { throw run_ended{}; }
  running->settle_of(s.current, at);
}

bool take_store(void* at, std::size_t bytes, std::uint64_t value, bool release) {
  auto& s = *running->s_;
  bool const device = s.where.seen == memory::device && !is_mark(s.where, at);
  bool const sanitized = __tsan_acquire != nullptr;
  auto& f = *s.fibers[static_cast<std::size_t>(s.current)];
  auto* const first = static_cast<std::byte*>(at);
  bool const lower = device && bytes == 8 && is_lower(at);
  bool const upper = device && bytes == 8 && !lower;
  // The two stores of a cell are one: at the upper's, or as both come if they must not be taken.
  if (sanitized ? !upper : !lower) { running->step(); }
  if (sanitized) {
    ++s.stores;
    return false;
  }
  if (lower) {
    f.lower = value;
    return true;
  }
  scheduler::late_store store{first, bytes, value, 0, s.current, 0};
  if (upper) { store = {first - 8, 16, f.lower, value, s.current, 0}; }
  bool const orders = release && !device;
  running->settle_of(s.current, orders ? nullptr : at);
  auto const delay = orders || s.stopped ? 0 : running->draw_delay();
  if (delay == 0) {
    running->carry_out(store);
  } else {
    store.due = delay == any_change ? delay : s.result.steps + delay;
    s.late.push_back(store);
  }
  return true;
}

/// In steps: none, a few, many, or until nobody can go on without it.
std::uint64_t scheduler::draw_delay() {
  auto& random = s_->random;
  switch (random.below(8)) {
    case 0:
      return any_change;
    case 1:
      return 1 + random.below(256);
    case 2:
    case 3:
      return 1 + random.below(16);
    default:
      return 0;
  }
}

void scheduler::carry_out(late_store const& store) {
  auto& s = *s_;
  ++s.stores;
  if (store.bytes == 1) {
    *reinterpret_cast<unsigned char volatile*>(store.at) = static_cast<unsigned char>(store.lower);
    return;
  }
  auto volatile* const words = reinterpret_cast<std::uint64_t volatile*>(store.at);
  auto const& layout = s.where.layout;
  bool const whole = store.bytes == sizeof(tpx::cell);
  auto const upper = whole ? store.upper : store.lower;
  for (int r = 0; r < layout.ranks && (whole || !is_lower(store.at)); ++r) {
    auto const* const cells = s.where.windows[r] + layout.cells_offset(0);
    bool const inside =
      store.at >= cells && store.at < s.where.windows[r] + layout.asides_offset(0);
    if (inside && full(upper) && full(words[whole ? 1 : 0])) {
      auto const place = static_cast<std::size_t>(store.at - cells) / sizeof(tpx::cell);
      fail(verdict::wrong, "a full cell was filled: " + std::to_string(place % layout.area_cells) +
                             " of area " + std::to_string(place / layout.area_cells) + " of rank " +
                             std::to_string(r));
    }
  }
  words[0] = store.lower;
  if (whole) { words[1] = store.upper; }
}

void scheduler::settle(std::size_t index) {
  auto& late = s_->late;
  auto const store = late[index];
  late.erase(late.begin() + static_cast<std::ptrdiff_t>(index));
  carry_out(store);
}

void scheduler::settle_due() {
  auto const& late = s_->late;
  for (std::size_t i = 0; i < late.size();) {
    if (late[i].due <= s_->result.steps) {
      settle(i);
    } else {
      ++i;
    }
  }
}

/// Carries out a fiber's stores to an address, or all.
void scheduler::settle_of(int whose, void const* at) {
  auto const& late = s_->late;
  for (std::size_t i = 0; i < late.size();) {
    if (late[i].fiber == whose && (at == nullptr || late[i].touches(at))) {
      settle(i);
    } else {
      ++i;
    }
  }
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
  std::string others;
  std::string own;  // said only if nobody waits for another rank
  for (int i = 0; i < s_->count; ++i) {
    auto const& f = *s_->fibers[static_cast<std::size_t>(i)];
    if (f.done) { continue; }
    bool const alone = f.on == fiber::waiting::team || f.peer == f.me.rank();
    auto& all = alone ? own : others;
    all += (all.empty() ? "rank " : "; rank ") + std::to_string(f.me.rank());
    if (s_->where.threads > 1) { all += " thread " + std::to_string(f.me.thread_rank()); }
    if (f.me.channels() > 1) { all += " channel " + std::to_string(f.me.channel()); }
    all += alone ? " waits for its own threads" : " waits for " + wish_of(f);
  }
  return others.empty() ? own : others;
}

std::string scheduler::wish_of(fiber const& f) const {
  static constexpr char const* names[] = {"sent", "freed", "sent_all", "freed_all", "arrived"};
  auto const& layout = s_->where.layout;
  auto const to = std::to_string(f.wanted.value);
  auto const at = static_cast<std::size_t>(reinterpret_cast<std::byte const*>(f.flag) -
                                           s_->where.windows[f.me.rank()]);
  auto const peer = "rank " + std::to_string(f.peer);
  if (layout.area_cells != 0 && at >= layout.marks_offset()) {
    static constexpr char const* steps[] = {"given", "taken", "collected"};
    auto const place = (at - layout.marks_offset()) / sizeof(std::uint64_t);
    auto const step = place / static_cast<std::size_t>(layout.ranks) % tpx::window_layout::steps;
    return peer + " to have " + steps[step] + ' ' + std::to_string(f.wanted.value % (1u << 24)) +
           " rounds of turn " + std::to_string(f.wanted.value >> 24);
  }
  if (at >= layout.slot_offset(0, 0, 0)) {
    if (at < layout.turns_offset()) { return peer + " to begin turn " + to; }
    auto const place = (at - layout.cells_offset(0)) / sizeof(tpx::cell);
    return peer + (f.wanted.value == any_change ? " to say what it masked in" : " to fill") +
           " cell " + std::to_string(place % layout.area_cells) + " of area " +
           std::to_string(place / layout.area_cells);
  }
  auto const line = static_cast<int>(at / sizeof(tpx::window_layout::line));
  return peer + " to raise its `" + names[line / layout.ranks % tpx::window_layout::kinds] +
         "` from " + std::to_string(value_of(*f.flag)) + " to " + to;
}

}  // namespace explore
