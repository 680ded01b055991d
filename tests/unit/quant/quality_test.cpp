// Perplexity, document NLL and KL divergence against values worked out by hand or by other formulas in this file: which
// positions are scored, what the model is shown, and the sums.
#include "quant/quality.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "support/expect_error.h"

namespace bittern::quant {
namespace {

/// A model whose logits are a function of the sequence so far; it remembers what it was asked.
class FakeSource : public LogitSource {
 public:
  using Function = std::function<std::vector<float>(std::span<const std::int32_t> prefix)>;
  struct Call {
    std::vector<std::int32_t> tokens;
    std::vector<std::int64_t> wanted;
  };

  FakeSource(std::int64_t vocab, Function logits, std::int64_t max_context = 1024)
      : vocab_(vocab), max_context_(max_context), logits_(std::move(logits)) {}

  void run(std::span<const std::int32_t> tokens, const std::vector<bool>& want, const Sink& sink) override {
    calls.push_back({{tokens.begin(), tokens.end()}, {}});
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (!want[i]) continue;
      calls.back().wanted.push_back(static_cast<std::int64_t>(i));
      sink(static_cast<std::int64_t>(i), logits_(tokens.first(i + 1)));
    }
  }
  std::int64_t vocab() const override { return vocab_; }
  std::int64_t max_context() const override { return max_context_; }

  std::vector<Call> calls;

 private:
  std::int64_t vocab_, max_context_;
  Function logits_;
};

FakeSource uniform(std::int64_t vocab, std::int64_t max_context = 1024) {
  return {vocab, [vocab](auto) { return std::vector<float>(static_cast<std::size_t>(vocab), 3.5f); }, max_context};
}

/// Logits that depend on everything: the last token, the length and the vocabulary entry.
FakeSource wavy(std::int64_t vocab, float amplitude) {
  return {vocab, [vocab, amplitude](std::span<const std::int32_t> prefix) {
            std::vector<float> logits(static_cast<std::size_t>(vocab));
            for (std::size_t v = 0; v < logits.size(); ++v) {
              const double phase =
                  1.7 * static_cast<double>(v) + 0.9 * prefix.back() + 0.3 * static_cast<double>(prefix.size());
              logits[v] = static_cast<float>(amplitude * std::sin(phase));
            }
            return logits;
          }};
}

std::vector<std::int32_t> counting(int n, int vocab) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(n));
  for (int i = 0; i < n; ++i) ids[static_cast<std::size_t>(i)] = i % vocab;
  return ids;
}

std::vector<long double> log_probabilities(const std::vector<float>& logits) {
  long double sum = 0;
  for (const float l : logits) sum += expl(l);
  std::vector<long double> result;
  for (const float l : logits) result.push_back(l - logl(sum));
  return result;
}

TEST(Perplexity, OfUniformLogitsIsTheVocabulary) {
  FakeSource source = uniform(50);
  PplOptions options;
  options.context = 16;
  const PplResult result = perplexity(source, counting(40, 50), options);
  EXPECT_NEAR(result.perplexity(), 50.0, 1e-12);
  EXPECT_NEAR(result.nll.error, 0.0, 1e-12);
  EXPECT_EQ(result.windows, 2);
  EXPECT_EQ(result.tokens, 2 * (16 - 8 - 1));
}

TEST(Perplexity, ScoresTheSecondHalfOfEachWindowAndOpensItWithBos) {
  FakeSource source = uniform(50);
  PplOptions options;
  options.context = 8;
  options.bos = 49;
  perplexity(source, counting(19, 40), options);
  ASSERT_EQ(source.calls.size(), 2u);  // the last 3 tokens make no window
  EXPECT_EQ(source.calls[0].tokens, (std::vector<std::int32_t>{49, 1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(source.calls[1].tokens, (std::vector<std::int32_t>{49, 9, 10, 11, 12, 13, 14, 15}));
  EXPECT_EQ(source.calls[0].wanted, (std::vector<std::int64_t>{4, 5, 6}));
  EXPECT_EQ(source.calls[1].wanted, (std::vector<std::int64_t>{4, 5, 6}));
}

TEST(Perplexity, WithoutBosShowsTheTextAsItIs) {
  FakeSource source = uniform(50);
  PplOptions options;
  options.context = 8;
  perplexity(source, counting(16, 40), options);
  EXPECT_EQ(source.calls[1].tokens.front(), 8);
}

TEST(Perplexity, AveragesTheNllOfTheNextTokens) {
  // In every window token 5 is certain to 3/4 at positions 4 and 6 and token 6 to 1/4 at position 5.
  FakeSource source(2, [](std::span<const std::int32_t>) { return std::vector<float>{std::log(3.0f), 0.0f}; });
  PplOptions options;
  options.context = 8;
  const std::vector<std::int32_t> ids = {0, 0, 0, 0, 0, 0, 1, 0};
  const PplResult result = perplexity(source, ids, options);
  const double a = -std::log(0.75), b = -std::log(0.25);
  const double mean = (a + b + a) / 3;
  EXPECT_NEAR(result.nll.mean, mean, 1e-7);
  // llama.cpp: sqrt((mean of squares - square of mean) / (n - 1)).
  const double spread = (a * a + b * b + a * a) / 3 - mean * mean;
  EXPECT_NEAR(result.nll.error, std::sqrt(spread / 2), 1e-7);
  EXPECT_NEAR(result.perplexity_error(), std::sqrt(spread / 2) * std::exp(mean), 1e-6);
}

TEST(Perplexity, EqualsAnotherFormulaInLongDouble) {
  FakeSource source = wavy(37, 4.0f);
  const auto ids = counting(100, 37);
  PplOptions options;
  options.context = 32;
  options.bos = 3;
  const PplResult result = perplexity(source, ids, options);
  long double sum = 0;
  int count = 0;
  for (int w = 0; w < 3; ++w) {
    std::vector<std::int32_t> tokens(ids.begin() + w * 32, ids.begin() + w * 32 + 32);
    tokens[0] = 3;
    for (std::size_t p = 16; p <= 30; ++p, ++count) {
      std::vector<float> logits;
      std::vector<bool> want(p + 1, false);
      want[p] = true;
      source.run(std::span(tokens).first(p + 1), want, [&](auto, auto row) { logits.assign(row.begin(), row.end()); });
      sum -= log_probabilities(logits)[static_cast<std::size_t>(tokens[p + 1])];
    }
  }
  EXPECT_EQ(result.tokens, count);
  EXPECT_NEAR(result.nll.mean, static_cast<double>(sum / count), 1e-12);
}

TEST(Perplexity, StridedScoresEveryTokenOnceInTheFirstWindowThatHasIt) {
  FakeSource source = uniform(50);
  PplOptions options;
  options.context = 8;
  options.stride = 4;
  const PplResult result = perplexity(source, counting(15, 40), options);
  ASSERT_EQ(source.calls.size(), 3u);
  EXPECT_EQ(source.calls[0].wanted, (std::vector<std::int64_t>{0, 1, 2, 3, 4, 5, 6}));  // predicts 1..7
  EXPECT_EQ(source.calls[1].tokens.front(), 4);
  EXPECT_EQ(source.calls[1].wanted, (std::vector<std::int64_t>{3, 4, 5, 6}));  // predicts 8..11
  EXPECT_EQ(source.calls[2].tokens, (std::vector<std::int32_t>{8, 9, 10, 11, 12, 13, 14}));
  EXPECT_EQ(source.calls[2].wanted, (std::vector<std::int64_t>{3, 4, 5}));  // predicts 12..14
  EXPECT_EQ(result.tokens, 14);
}

TEST(Perplexity, StridedWithoutOverlapCannotScoreTheFirstTokenOfAWindow) {
  FakeSource source = uniform(50);
  PplOptions options;
  options.context = 8;
  options.stride = 8;
  EXPECT_EQ(perplexity(source, counting(17, 40), options).tokens, 14);  // the 17th has nothing before it
  EXPECT_EQ(source.calls.size(), 2u);
}

TEST(Perplexity, StopsAfterTheWindowsAskedForAndReportsProgress) {
  FakeSource source = uniform(10);
  PplOptions options;
  options.context = 8;
  options.max_windows = 2;
  std::vector<std::int64_t> seen;
  options.progress = [&](std::int64_t done, std::int64_t total, double mean) {
    seen.insert(seen.end(), {done, total});
    EXPECT_NEAR(mean, std::log(10.0), 1e-12);
  };
  EXPECT_EQ(perplexity(source, counting(80, 10), options).windows, 2);
  EXPECT_EQ(seen, (std::vector<std::int64_t>{1, 2, 2, 2}));
}

TEST(Perplexity, RefusesWhatItCannotScore) {
  FakeSource source = uniform(10, 64);
  const auto ids = counting(80, 10);
  const auto run = [&](std::span<const std::int32_t> text, auto change) {
    PplOptions options;
    options.context = 8;
    change(options);
    perplexity(source, text, options);
  };
  constexpr auto kInvalid = ErrorCode::invalid_argument;
  EXPECT_ERROR(kInvalid, "64 tokens", run(ids, [](auto& o) { o.context = 65; }));
  EXPECT_ERROR(kInvalid, "least is 4", run(ids, [](auto& o) { o.context = 3; }));
  EXPECT_ERROR(kInvalid, "bos is 10", run(ids, [](auto& o) { o.bos = 10; }));
  EXPECT_ERROR(kInvalid, "stride is 9", run(ids, [](auto& o) { o.stride = 9; }));
  EXPECT_ERROR(kInvalid, "bos cannot", run(ids, [](auto& o) { o.stride = 4, o.bos = 1; }));
  EXPECT_ERROR(kInvalid, "max_windows", run(ids, [](auto& o) { o.max_windows = -1; }));
  EXPECT_ERROR(kInvalid, "7 tokens", run(std::span(ids).first(7), [](auto&) {}));
  const std::vector<std::int32_t> foreign = {0, 1, 2, 3, 4, 5, 6, 10};
  EXPECT_ERROR(kInvalid, "token 7 of the text has id 10", run(foreign, [](auto&) {}));
  EXPECT_TRUE(source.calls.empty());  // refused before the model ran
}

TEST(Perplexity, RefusesLogitsThatAreNotFinite) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    FakeSource source(4, [bad](auto prefix) { return std::vector<float>{0, prefix.size() == 6 ? bad : 0.0f, 0, 0}; });
    PplOptions options;
    options.context = 8;
    EXPECT_ERROR(ErrorCode::invalid_checkpoint, "token 5", perplexity(source, counting(8, 4), options));
  }
}

TEST(DocumentNll, ScoresEveryTokenAfterBosAndCutsLongDocuments) {
  FakeSource source = uniform(10, 6);
  const std::vector<std::vector<std::int32_t>> documents = {{1, 2, 3}, {1, 2, 3, 4, 5, 6, 7, 8}, {}};
  DocumentOptions options;
  options.bos = 9;
  const DocumentResult result = document_nll(source, documents, options);
  ASSERT_EQ(source.calls.size(), 2u);  // an empty document has nothing to score
  EXPECT_EQ(source.calls[0].tokens, (std::vector<std::int32_t>{9, 1, 2, 3}));
  EXPECT_EQ(source.calls[1].tokens, (std::vector<std::int32_t>{9, 1, 2, 3, 4, 5}));
  EXPECT_EQ(result.documents[0].tokens, 3);
  EXPECT_FALSE(result.documents[0].cut);
  EXPECT_EQ(result.documents[1].tokens, 5);
  EXPECT_TRUE(result.documents[1].cut);
  EXPECT_EQ(result.documents[2].tokens, 0);
  EXPECT_EQ(result.tokens, 8);
  EXPECT_NEAR(result.perplexity(), 10.0, 1e-12);
}

TEST(DocumentNll, MeanOverTokensAndMeanOverDocumentsDiffer) {
  // NLL ln 2 for token 0 and ln 4 for tokens 1 and 2.
  FakeSource source(3, [](auto) { return std::vector<float>{std::log(2.0f), 0, 0}; });
  const std::vector<std::vector<std::int32_t>> documents = {{0, 0}, {0, 1, 1, 1}};
  const DocumentResult result = document_nll(source, documents, {});
  EXPECT_NEAR(result.nll.mean, (std::log(2.0) + 3 * std::log(4.0)) / 4, 1e-7);
  EXPECT_NEAR(result.mean_of_documents, (std::log(2.0) + std::log(4.0)) / 2, 1e-7);
  EXPECT_NEAR(result.documents[1].nll, 3 * std::log(4.0), 1e-6);
}

TEST(DocumentNll, RefusesWhatItCannotScore) {
  FakeSource source = uniform(10, 6);
  const std::vector<std::vector<std::int32_t>> single = {{1}}, foreign = {{1, 2}, {3, -1}};
  EXPECT_ERROR(ErrorCode::invalid_argument, "no document", document_nll(source, single, {}));
  EXPECT_ERROR(ErrorCode::invalid_argument, "document 1 has id -1", document_nll(source, foreign, {}));
  DocumentOptions options;
  options.context = 7;
  EXPECT_ERROR(ErrorCode::invalid_argument, "context is 7", document_nll(source, single, options));
}

TEST(KlDivergence, OfAModelWithItselfIsZero) {
  FakeSource a = wavy(37, 3.0f), b = wavy(37, 3.0f);
  PplOptions options;
  options.context = 32;
  const KlResult result = kl_divergence(a, b, counting(64, 37), options);
  EXPECT_EQ(result.kl.mean, 0.0);
  EXPECT_EQ(result.max_kl, 0.0);
  EXPECT_EQ(result.same_top.mean, 1.0);
  EXPECT_EQ(result.reference.nll.mean, result.candidate.nll.mean);
}

TEST(KlDivergence, EqualsTheDefinitionInLongDouble) {
  FakeSource p = wavy(37, 3.0f), q = wavy(37, 2.5f);
  const auto ids = counting(64, 37);
  PplOptions options;
  options.context = 32;
  options.bos = 0;
  const KlResult result = kl_divergence(p, q, ids, options);
  const PplResult alone = perplexity(q, ids, options);
  EXPECT_EQ(result.candidate.nll.mean, alone.nll.mean);  // the very same positions and sums
  ASSERT_EQ(result.position_kl.size(), 30u);

  long double total = 0, largest = 0;
  std::size_t row = 0;
  for (int w = 0; w < 2; ++w) {
    std::vector<std::int32_t> tokens(ids.begin() + w * 32, ids.begin() + w * 32 + 32);
    tokens[0] = 0;
    std::vector<bool> want(32, false);
    for (std::size_t i = 16; i < 31; ++i) want[i] = true;
    std::vector<std::vector<float>> ps, qs;
    p.run(tokens, want, [&](auto, auto l) { ps.emplace_back(l.begin(), l.end()); });
    q.run(tokens, want, [&](auto, auto l) { qs.emplace_back(l.begin(), l.end()); });
    for (std::size_t i = 0; i < ps.size(); ++i) {
      const auto lp = log_probabilities(ps[i]), lq = log_probabilities(qs[i]);
      long double kl = 0;
      for (std::size_t v = 0; v < lp.size(); ++v) kl += expl(lp[v]) * (lp[v] - lq[v]);
      EXPECT_NEAR(result.position_kl[row++], static_cast<double>(kl), 1e-13);
      total += kl;
      largest = std::max(largest, kl);
    }
  }
  EXPECT_NEAR(result.kl.mean, static_cast<double>(total / 30), 1e-14);
  EXPECT_NEAR(result.max_kl, static_cast<double>(largest), 1e-13);
  EXPECT_GT(result.kl.mean, 0.0);
}

TEST(KlDivergence, CountsPositionsWithTheSameMostLikelyToken) {
  FakeSource p(3, [](auto) { return std::vector<float>{2, 1, 0}; });
  FakeSource q(3, [](auto prefix) {
    return prefix.back() == 1 ? std::vector<float>{1, 2, 0} : std::vector<float>{1, 1, 0};
  });
  PplOptions options;
  options.context = 10;  // positions 5..8, tokens 2 0 1 2 of the count below: one is a 1
  const KlResult result = kl_divergence(p, q, counting(10, 3), options);
  EXPECT_EQ(result.reference.tokens, 4);
  EXPECT_DOUBLE_EQ(result.same_top.mean, 0.75);  // equal logits: the lowest id counts
}

TEST(KlDivergence, TellsOfEveryPosition) {
  FakeSource p(2, [](auto) { return std::vector<float>{std::log(3.0f), 0}; });  // 3/4, 1/4
  FakeSource q(2, [](auto) { return std::vector<float>{0, std::log(4.0f)}; });  // 1/5, 4/5
  PplOptions options;
  options.context = 6;
  const std::vector<std::int32_t> ids = {0, 0, 0, 0, 1, 0, /**/ 0, 0, 0, 0, 0, 1};
  const KlResult result = kl_divergence(p, q, ids, options);
  ASSERT_EQ(result.positions.size(), 4u);
  const double kl = 0.75 * std::log(0.75 / 0.2) + 0.25 * std::log(0.25 / 0.8);
  const int windows[] = {0, 0, 1, 1}, indices[] = {3, 4, 3, 4}, next[] = {1, 0, 0, 1};
  for (std::size_t i = 0; i < 4; ++i) {
    const KlPosition& seen = result.positions[i];
    EXPECT_EQ(seen.window, windows[i]);
    EXPECT_EQ(seen.index, indices[i]);
    EXPECT_NEAR(seen.kl, kl, 1e-7);
    EXPECT_NEAR(seen.delta_p, next[i] == 0 ? 0.2 - 0.75 : 0.8 - 0.25, 1e-7);
    EXPECT_FALSE(seen.same_top);
  }
  ASSERT_EQ(result.reference.window_nll.size(), 2u);
  EXPECT_NEAR(result.reference.window_nll[0].sum, -std::log(0.25) - std::log(0.75), 1e-7);
  EXPECT_EQ(result.candidate.window_nll[1].weight, 2);
}

TEST(KlDivergence, RowsOnDiskGiveTheSameBits) {
  const auto ids = counting(96, 37);
  std::vector<KlResult> results;
  for (const std::int64_t bytes :
       {std::int64_t{1} << 20, std::int64_t{37 * 4 * 5}, std::int64_t{0}}) {  // 15 rows a window
    FakeSource p = wavy(37, 3.0f), q = wavy(37, 2.5f);
    PplOptions options;
    options.context = 32;
    options.row_bytes = bytes;
    results.push_back(kl_divergence(p, q, ids, options));
  }
  EXPECT_GT(results[0].kl.mean, 0);
  EXPECT_EQ(results[1].position_kl, results[0].position_kl);
  EXPECT_EQ(results[2].position_kl, results[0].position_kl);
}

TEST(Perplexity, StoppedEarlyKeepsWhatIsDoneAndSaysSo) {
  FakeSource source = uniform(10);
  PplOptions options;
  options.context = 8;
  int asked = 0;
  options.stop = [&] { return asked++ == 2; };
  const PplResult result = perplexity(source, counting(80, 10), options);
  EXPECT_TRUE(result.stopped);
  EXPECT_EQ(result.windows, 2);
  EXPECT_EQ(result.tokens, 6);
  FakeSource other = uniform(10);
  asked = 0;
  const KlResult kl = kl_divergence(source, other, counting(80, 10), options);
  EXPECT_TRUE(kl.reference.stopped);
  EXPECT_EQ(kl.positions.size(), 6u);
  options.stop = [] { return true; };
  EXPECT_ERROR(ErrorCode::cancelled, "first window", perplexity(source, counting(80, 10), options));
  options.stop = nullptr;
  EXPECT_FALSE(perplexity(source, counting(80, 10), options).stopped);
}

TEST(KlDivergence, SurvivesLogitsFarApart) {
  FakeSource p(3, [](auto) { return std::vector<float>{0, -2000, 1000}; });
  FakeSource q(3, [](auto) { return std::vector<float>{1000, 0, 0}; });
  PplOptions options;
  options.context = 8;
  const KlResult result = kl_divergence(p, q, counting(8, 3), options);
  EXPECT_NEAR(result.kl.mean, 1000.0, 1e-9);
}

TEST(KlDivergence, RefusesDifferentVocabularies) {
  FakeSource a = uniform(10), b = uniform(11);
  EXPECT_ERROR(ErrorCode::invalid_argument, "the candidate 11", kl_divergence(a, b, counting(512, 10), {}));
}

TEST(QualityJson, StatesTheProtocolBesideTheFigures) {
  FakeSource source = uniform(10);
  PplOptions options;
  options.context = 8;
  const Json json = to_json(perplexity(source, counting(16, 10), options));
  EXPECT_EQ(json["protocol"], "llama.cpp");
  EXPECT_EQ(json["context"], 8);
  EXPECT_TRUE(json["bos"].is_null());
  EXPECT_NEAR(json["perplexity"].get<double>(), 10.0, 1e-9);
  options.stride = 8;
  EXPECT_EQ(to_json(perplexity(source, counting(16, 10), options))["protocol"], "strided");
}

}  // namespace
}  // namespace bittern::quant
