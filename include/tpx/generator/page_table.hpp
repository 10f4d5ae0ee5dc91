// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/error.hpp>
#include <tpx/generator/page_admission.hpp>
#include <tpx/generator/page_audit.hpp>
#include <tpx/generator/page_defragment.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>

namespace tpx {

/// Which pages of a model's cache hold which tokens of which sequences. Pages that sequences leave
/// stay as a cache: a later one that begins with the same tokens gets them, in part too.
///
/// A sequence's life, in which everything happens between two forwards:
///
///   open()        claims pages; `cached` tokens are there already
///   grow()        more pages, where open() had not enough room
///   carry_out()   the model does what copies() and host_moves() say
///   prepare()     the block table for a forward, and which positions that will write
///   (forward)
///   append()      the tokens that were written and are kept: all, or of a draft the accepted ones
///   rewind()      drops tokens from the end
///   close()       the pages stay, as cache
///
/// **Order of copies.** copies() and host_moves() are one list in order of time, which the model
/// must have carried out, one after the other, before the next forward begins; a stream's order
/// will do. Whatever writes to a page is a later entry of that list or a later forward. So a page
/// that is a source may be evicted and claimed at once: it is read before it is overwritten. For
/// the same reason a page that was evicted to the host may be written by the next forward.
///
/// **Merged pages.** When append() completes a page that is there already, the sequence's block
/// table names that one from then on and its own page is free. So pages() must be read anew for
/// every forward, and a forward in flight must not read pages of sequences that were appended to
/// since. The keys and values must be a function of the tokens (and the salt): the salt keeps apart
/// what differs in more, such as adapters, images and tenants.
///
/// **Reservation.** A page that was claimed and not yet prepared for writing keeps what it held,
/// and still serves as cache: whoever asks for that gets the page, and its owner another one.
///
/// Nothing is allocated after construction, as long as the lists are emptied before they have
/// 2 x pages entries. For one thread. What throws has changed nothing.
template <std::size_t PageSize = 256, page_hash Hash = MultiplyMix>
class page_table {
 public:
  static_assert(PageSize > 0, "a page has at least one position");
  static constexpr std::size_t page_size = PageSize;

  /// 0, 1, ... < max_sequences, so good as a slot too.
  using sequence_id = std::uint32_t;

  struct opened {
    sequence_id sequence;
    std::size_t cached;  // tokens whose keys and values are there; less than all
  };

  explicit page_table(page_table_options const& options)
      : sequences_{checked(options)}, defragmenter_{options.pages} {}

  /// Opens a sequence that begins with `tokens` and has pages for `room` positions after them. The
  /// first `cached` tokens are there, at least one is not: its forward gives the first logits.
  /// nullopt: not enough pages or sequences now, and nothing has changed. Throws if there never
  /// will be.
  ///
  /// Costs O(pages taken), and a hash and a comparison for each whole page that is found.
  [[nodiscard]] std::optional<opened> open(std::span<token_id const> tokens, std::size_t room,
                                           std::uint64_t salt = 0) {
    expects(!tokens.empty(), "a sequence of no tokens", "begin with at least one");
    check_length(tokens.size(), room);
    auto const s = sequences_.open({tokens, room, salt});
    if (!s) {
      ++pool().stats.refused;
      return std::nullopt;
    }
    return opened{*s, sequences_[*s].length};
  }

  /// What there is, after open() has returned nullopt; and whether there is more by now that might
  /// let it succeed: pages or sequences have come free, or the first page that it lacked is there.
  [[nodiscard]] page_shortage shortage() const { return sequences_.shortage(); }
  [[nodiscard]] bool eased(page_shortage const& since) const { return sequences_.eased(since); }

  /// Whether open() of all of `wanted` would succeed after close() of all of `closing`. What
  /// several of `wanted` have in common is counted for each. Costs O(pages of both).
  [[nodiscard]] bool fit_without(std::span<page_wish const> wanted,
                                 std::span<sequence_id const> closing) {
    return sequences_.fit_without(wanted, closing);
  }

  /// Brings back pages of a prompt that only the host tier has, at most `most` and as far as there
  /// are pages that nobody has, so that a later open() finds them. Returns how many of its first
  /// tokens are there in whole pages.
  std::size_t prefetch(std::span<token_id const> tokens, std::uint64_t salt = 0,
                       std::size_t most = detail::no_page) {
    if (tokens.empty()) { return 0; }
    auto const s = sequences_.scratch();
    auto found =
      sequences_.find(s, tokens.first(std::min(tokens.size() - 1, sequences_.max_length())), salt);
    std::size_t const spare = pool().available() - found.idle;
    if (found.reserved > spare) { return 0; }
    found.host = std::min({found.host, spare - found.reserved, most});
    found.common = 0;
    sequences_.begin(s, found, salt, false);
    std::size_t const there = sequences_[s].length;
    sequences_.end(s);
    return there;
  }

  /// Pages for `room` positions after length(). false: not enough now, and nothing has changed.
  [[nodiscard]] bool grow(sequence_id s, std::size_t room) {
    detail::page_sequence const& q = at(s);
    check_length(q.length, room);
    std::size_t const pages = std::max(sequences_.pages_for(q.length + room), q.pages);
    bool const copies = sequences_.tail_is_shared(s);
    if (pages - q.pages + (copies ? 1 : 0) > pool().available()) {
      ++pool().stats.refused;
      return false;
    }
    sequences_.own_tail(s);
    sequences_.reserve(s, pages);
    return true;
  }

  /// The next forward writes `tokens` positions after length(), for which there must be room: what
  /// their pages held before is gone. Returns the block table.
  std::span<page_id const> prepare(sequence_id s, std::size_t tokens) {
    detail::page_sequence& q = at(s);
    expects(
      sequences_.tail_is_own(s) && tokens <= q.pages * PageSize - q.length,
      [&] {
        return number(s) + " has " + std::to_string(q.length) + " positions in " +
               std::to_string(q.pages) + " pages and no room for " + std::to_string(tokens) +
               " more";
      },
      "call grow() first, after a rewind() that returned false too");
    sequences_.prepare(s, tokens);
    return pages(s);
  }

  /// These tokens lie in the cache now, after length(); at most as many as were prepared. Pages
  /// that they complete get their keys, and give way to pages that hold the same.
  void append(sequence_id s, std::span<token_id const> tokens) {
    detail::page_sequence const& q = at(s);
    expects(
      tokens.size() <= q.writable - q.length,
      [&] {
        return std::to_string(tokens.size()) + " tokens for " + number(s) + ", prepared for " +
               std::to_string(q.writable - q.length);
      },
      "call prepare() before the forward that writes them");
    sequences_.append(s, tokens);
  }

  /// Keeps the first `length` tokens and, as far as possible, the room that there was for more:
  /// false if pages lack for that, because others use some that were dropped. Then grow() must
  /// succeed before the next prepare().
  bool rewind(sequence_id s, std::size_t length) {
    detail::page_sequence const& q = at(s);
    expects(
      length <= q.length,
      [&] {
        return "rewind of " + number(s) + " to " + std::to_string(length) + ", it has " +
               std::to_string(q.length) + " positions";
      },
      "rewind to at most length()");
    std::size_t const end = q.pages * PageSize;
    sequences_.drop(s, length);
    return grow(s, end - length);
  }

  /// Ends a sequence. Pages with tokens are now the most recently used; pages never prepared are
  /// again what they were.
  void close(sequence_id s) {
    static_cast<void>(at(s));
    sequences_.close(s);
  }

  /// The block table: position p lies in page pages(s)[p / page_size]. Valid until the next call.
  [[nodiscard]] std::span<page_id const> pages(sequence_id s) const {
    return {sequences_.row(s), at(s).pages};
  }
  [[nodiscard]] std::size_t length(sequence_id s) const { return at(s).length; }

  /// Stands for all tokens up to the end of a full page, and the salt.
  [[nodiscard]] hash128 key(sequence_id s, std::size_t page_index) const {
    std::size_t const full = at(s).length / PageSize;
    expects(
      page_index < full,
      [&] {
        return "key of page " + std::to_string(page_index) + " of " + number(s) + ", which has " +
               std::to_string(full) + " full pages";
      },
      "ask for full pages");
    return pool().contents.identity(sequences_.row(s)[page_index]).key;
  }

  [[nodiscard]] std::span<page_copy const> copies() const { return pool().moves.copies(); }
  [[nodiscard]] std::span<host_move const> host_moves() const { return pool().moves.host_moves(); }

  /// The caller has carried out all of copies() and host_moves().
  void copies_done() { pool().moves.clear(); }

  /// Has a model do so, in order, and what keeps pages beside it: see page_moves::carry_out().
  template <class Model, class... Others>
  void carry_out(Model& model, Others&... others) {
    pool().moves.carry_out(model, others...);
  }

  /// Keys that neither tier has any more, in order; what was stored under them (recurrent states)
  /// can go. Of more than pages + host_pages the oldest may be missing, so ask as often.
  [[nodiscard]] std::span<hash128 const> evicted() const { return pool().gone(); }
  void evicted_done() { pool().clear_gone(); }

  /// Adds at most `max_moves` copies that bring pages which follow each other side by side, and
  /// returns how many; 0: all lie so, or nobody's pages lack. Not between a forward and its
  /// append(). One call in pages / 64 may make a plan, in O(pages); the others cost O(max_moves).
  std::size_t defragment(std::size_t max_moves) { return defragmenter_.run(sequences_, max_moves); }

  /// Checks every invariant; throws with which is broken and where. For tests and debugging.
  void validate() const { detail::page_audit<PageSize, Hash>{sequences_}.run(); }

  /// Costs O(pages).
  [[nodiscard]] page_table_stats stats() {
    page_table_stats now = pool().count();
    now.fragmentation = defragmenter_.fragmentation(sequences_);
    return now;
  }

  [[nodiscard]] std::size_t size() const { return pool().contents.size(); }  // pages
  [[nodiscard]] page_info info(page_id page) const {
    expects(
      page < pool().contents.size(), [&] { return "no page " + std::to_string(page); },
      "ask for pages that the cache has");
    return pool().info(page);
  }

 private:
  using sequences = detail::page_admission<PageSize, Hash>;

  static page_table_options const& checked(page_table_options const& options) {
    expects(options.pages > 0 && options.pages < detail::no_page && options.max_sequences > 0 &&
              options.host_pages < detail::no_page && options.max_sequences < detail::no_page,
            "a page table of " + std::to_string(options.pages) + " pages and " +
              std::to_string(options.host_pages) + " host pages for " +
              std::to_string(options.max_sequences) + " sequences",
            "give it at least one page and one sequence, and fewer than 2^32 - 1 of each");
    return options;
  }

  static std::string number(sequence_id s) { return "sequence " + std::to_string(s); }

  [[nodiscard]] auto& pool() { return sequences_.pool; }
  [[nodiscard]] auto const& pool() const { return sequences_.pool; }

  [[nodiscard]] detail::page_sequence& at(sequence_id s) {
    static_cast<void>(std::as_const(*this).at(s));
    return sequences_[s];
  }
  [[nodiscard]] detail::page_sequence const& at(sequence_id s) const {
    expects(
      s < sequences_.scratch() && sequences_[s].open, [&] { return number(s) + " is not open"; },
      "use what open() returned, until close()");
    return sequences_[s];
  }

  void check_length(std::size_t tokens, std::size_t room) const {
    std::size_t const most = sequences_.max_length();
    expects(
      tokens <= most && room <= most - tokens,
      [&] {
        return std::to_string(tokens) + " tokens and room for " + std::to_string(room) +
               " more are longer than the cache, " + std::to_string(most) + " positions";
      },
      "shorten the sequence, or give the cache more pages");
  }

  sequences sequences_;
  detail::page_defragmenter defragmenter_;
};

}  // namespace tpx
