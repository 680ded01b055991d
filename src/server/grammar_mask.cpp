// One piece of work for each mask, taken by whoever comes first: a helper, or the engine when it needs the result.
#include "server/grammar_mask.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <thread>
#include <utility>

#include "base/sysinfo.h"

namespace bittern::server {
namespace {

constexpr std::size_t kKeptGrammars = 32;

/// A matcher, and the mask that it is asked for. The engine's side calls request(), then result(); run() may come from
/// any thread in between, and the first to call it does the work.
class MaskWork {
 public:
  explicit MaskWork(std::shared_ptr<const text::Grammar> grammar) : matcher_(std::move(grammar)) {}

  /// Asks for the mask after `token`, or with -1 for the first one.
  void request(std::int32_t token) {
    const std::lock_guard lock(mutex_);
    token_ = token;
    phase_ = Phase::asked;
  }

  void run() {
    if (!begin()) return;
    try {
      if (token_ >= 0) matcher_.accept(token_);
      matcher_.mask(allowed_);
    } catch (...) {
      failure_ = std::current_exception();
    }
    const std::lock_guard lock(mutex_);
    phase_ = Phase::done;
    done_.notify_all();
  }

  /// Valid until the next request. Throws what went wrong inside.
  const std::vector<std::uint32_t>& result() {
    run();
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return phase_ == Phase::done; });
    if (failure_) std::rethrow_exception(failure_);
    return allowed_;
  }

  /// Nobody will ask for the result.
  void abandon() {
    const std::lock_guard lock(mutex_);
    if (phase_ == Phase::asked) phase_ = Phase::done;
  }

 private:
  enum class Phase { asked, running, done };

  bool begin() {
    const std::lock_guard lock(mutex_);
    if (phase_ != Phase::asked) return false;
    phase_ = Phase::running;
    return true;
  }

  std::mutex mutex_;
  std::condition_variable done_;
  Phase phase_ = Phase::done;
  // Touched by whoever made the phase `running`, else by the engine's side.
  text::GrammarMatcher matcher_;
  std::int32_t token_ = -1;
  std::vector<std::uint32_t> allowed_;
  std::exception_ptr failure_;
};

}  // namespace

/// Threads that run MaskWork. One can fall behind without harm: the engine does what is not begun.
class MaskWorkers {
 public:
  explicit MaskWorkers(unsigned threads) {
    for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this] { run(); });
  }

  ~MaskWorkers() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    posted_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  void post(std::shared_ptr<MaskWork> work) {
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(std::move(work));
    }
    posted_.notify_one();
  }

 private:
  void run() {
    while (const std::shared_ptr<MaskWork> work = next()) work->run();
  }

  std::shared_ptr<MaskWork> next() {
    std::unique_lock lock(mutex_);
    posted_.wait(lock, [this] { return closed_ || !queue_.empty(); });
    if (closed_) return nullptr;
    std::shared_ptr<MaskWork> work = std::move(queue_.front());
    queue_.pop_front();
    return work;
  }

  std::mutex mutex_;
  std::condition_variable posted_;
  std::deque<std::shared_ptr<MaskWork>> queue_;
  bool closed_ = false;
  std::vector<std::thread> threads_;
};

namespace {

class GrammarMask final : public TokenMask {
 public:
  GrammarMask(std::shared_ptr<const text::Grammar> grammar, std::shared_ptr<MaskWorkers> workers)
      : grammar_(std::move(grammar)), workers_(std::move(workers)), work_(std::make_shared<MaskWork>(grammar_)) {
    ask(-1);
  }
  ~GrammarMask() override { work_->abandon(); }

  void restrict(std::vector<std::uint32_t>& allowed) override {
    const std::vector<std::uint32_t>& mask = work_->result();
    const std::size_t shared = std::min(mask.size(), allowed.size());
    for (std::size_t i = 0; i < shared; ++i) allowed[i] &= mask[i];
    std::fill(allowed.begin() + static_cast<std::ptrdiff_t>(shared), allowed.end(), 0u);
  }

  void accept(std::int32_t token) override { ask(token); }

  std::shared_ptr<TokenMask> clone() const override { return std::make_shared<GrammarMask>(grammar_, workers_); }

 private:
  void ask(std::int32_t token) {
    work_->request(token);
    workers_->post(work_);
  }

  std::shared_ptr<const text::Grammar> grammar_;
  std::shared_ptr<MaskWorkers> workers_;
  std::shared_ptr<MaskWork> work_;
};

}  // namespace

GuidedDecoding::GuidedDecoding(const text::Tokenizer& tokenizer, std::vector<std::int32_t> end_ids)
    : tokenizer_(tokenizer), end_ids_(std::move(end_ids)) {}

GuidedDecoding::~GuidedDecoding() = default;

std::shared_ptr<TokenMask> GuidedDecoding::mask(text::GrammarKind kind, std::string_view source) {
  std::shared_ptr<const text::Grammar> compiled = grammar(kind, source);
  return std::make_shared<GrammarMask>(std::move(compiled), workers_);
}

std::shared_ptr<const text::TokenTrie> GuidedDecoding::trie() {
  const std::lock_guard lock(trie_mutex_);
  if (!trie_) {
    trie_ = std::make_shared<text::TokenTrie>(tokenizer_, end_ids_);
    workers_ = std::make_shared<MaskWorkers>(static_cast<unsigned>(std::clamp(usable_cores() / 2, 1, 4)));
  }
  return trie_;
}

// Compiled outside the lock: two requests may compile the same source at once, and one of the results is kept.
std::shared_ptr<const text::Grammar> GuidedDecoding::grammar(text::GrammarKind kind, std::string_view source) {
  std::shared_ptr<const text::TokenTrie> shared_trie = trie();
  if (auto found = find(kind, source)) return found;
  std::shared_ptr<const text::Grammar> made = text::Grammar::compile(std::move(shared_trie), kind, source);
  const std::lock_guard lock(compiled_mutex_);
  compiled_.push_front({kind, std::string(source), made});
  if (compiled_.size() > kKeptGrammars) compiled_.pop_back();
  return made;
}

std::shared_ptr<const text::Grammar> GuidedDecoding::find(text::GrammarKind kind, std::string_view source) {
  const std::lock_guard lock(compiled_mutex_);
  const auto found = std::find_if(compiled_.begin(), compiled_.end(),
                                  [&](const Compiled& c) { return c.kind == kind && c.source == source; });
  if (found == compiled_.end()) return nullptr;
  compiled_.splice(compiled_.begin(), compiled_, found);
  return found->grammar;
}

}  // namespace bittern::server
