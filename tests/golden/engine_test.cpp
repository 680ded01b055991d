// The engine on real models: greedy answers are the reference's, and an answer depends on its request alone. It is the
// same token for token and bit for bit of its log-probabilities however it is chunked, batched, preempted or shared,
// for every KV format, on the CPU backend in its deterministic mode.
#include <bittern/engine.h>
#include <bittern/error.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "base/random.h"
#include "golden/golden_case.h"
#include "models/model.h"
#include "support/expect_error.h"
#include "tensor/checkpoint.h"
#include "tensor/convert.h"

namespace bittern::golden {
namespace {

/// One sample as the client sees it.
struct Answer {
  std::vector<std::int32_t> tokens;  // the end token included
  std::vector<float> logprobs;
  FinishReason finish = FinishReason::none;
  bool operator==(const Answer&) const = default;
};

std::vector<Answer> read_all(TokenStream& stream, int n) {
  std::vector<Answer> answers(static_cast<std::size_t>(n));
  while (auto event = stream.next()) {
    EXPECT_EQ(event->error, "");
    Answer& answer = answers[static_cast<std::size_t>(event->sample)];
    if (event->finish == FinishReason::stop) event->token = event->stop_token;
    answer.finish = event->finish;
    if (event->token < 0) continue;
    answer.tokens.push_back(event->token);
    answer.logprobs.push_back(event->logprob);
  }
  return answers;
}

/// A model on a backend of its own.
struct Loaded {
  explicit Loaded(const std::string& name, const std::string& backend_name = "cpu") {
    BackendOptions options;
    options.threads = backend_name == "ref" ? 0 : 2;
    options.deterministic = true;
    backend = make_backend(backend_name, options);
    model = load_model(ModelFiles::from_directory(models_folder() / name), *backend);
  }
  std::unique_ptr<Engine> engine(const EngineOptions& options) { return make_engine(*model, *backend, options); }

  std::unique_ptr<Backend> backend;
  std::unique_ptr<Model> model;
};

EngineOptions options_of(const std::string& kv_cache, int sequences, int step_tokens) {
  EngineOptions options;
  options.kv_cache = kv_cache;
  options.block_tokens = 8;
  options.context = 64;
  options.max_sequences = sequences;
  options.max_step_tokens = step_tokens;
  return options;
}

std::vector<Request> sampled_requests(const ModelConfig& config, int count) {
  std::vector<Request> requests;
  Random random(7);
  for (int i = 0; i < count; ++i) {
    Request request;
    const std::uint32_t length = 3 + random.next_below(30);
    for (std::uint32_t t = 0; t < length; ++t) {
      request.prompt.push_back(static_cast<std::int32_t>(random.next_below(static_cast<std::uint32_t>(config.vocab))));
    }
    request.sampling.seed = random.next_u64();
    request.sampling.max_tokens = 24;
    request.sampling.ignore_eos = i % 2 == 0;
    request.sampling.top_p = i % 3 == 0 ? 0.8 : 1.0;
    request.sampling.repetition_penalty = i % 4 == 0 ? 1.2 : 1.0;
    request.sampling.logprobs = 0;
    request.n = i % 3 == 1 ? 3 : 1;
    requests.push_back(std::move(request));
  }
  return requests;
}

/// Every request by itself, one sample after another, whole prompts in one step.
std::vector<std::vector<Answer>> answers_alone(Loaded& loaded, const std::string& kv,
                                               const std::vector<Request>& requests) {
  EngineOptions options = options_of(kv, 1, 64);
  options.prefix_cache = false;
  auto engine = loaded.engine(options);
  std::vector<std::vector<Answer>> answers;
  for (const Request& request : requests) answers.push_back(read_all(*engine->submit(request), request.n));
  return answers;
}

std::vector<std::vector<Answer>> answers_together(Engine& engine, const std::vector<Request>& requests) {
  std::vector<std::unique_ptr<TokenStream>> streams;
  for (const Request& request : requests) streams.push_back(engine.submit(request));
  std::vector<std::vector<Answer>> answers;
  for (std::size_t i = 0; i < requests.size(); ++i) answers.push_back(read_all(*streams[i], requests[i].n));
  return answers;
}

void expect_same(const std::vector<std::vector<Answer>>& got, const std::vector<std::vector<Answer>>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    for (std::size_t s = 0; s < got[i].size(); ++s) {
      EXPECT_EQ(got[i][s].tokens, expected[i][s].tokens) << "request " << i << " sample " << s;
      EXPECT_EQ(got[i][s].logprobs, expected[i][s].logprobs) << "request " << i << " sample " << s;
      EXPECT_EQ(got[i][s].finish, expected[i][s].finish) << "request " << i << " sample " << s;
    }
  }
}

class GoldenEngine : public ::testing::TestWithParam<std::string> {};

std::string case_of(const ::testing::TestParamInfo<std::string>& info) { return info.param; }

// All prompts at once, so that this covers batching with what the reference computed alone.
TEST_P(GoldenEngine, GreedyAnswersAreTheReferences) {
  for (const char* backend : {"ref", "cpu"}) {
    Loaded loaded(GetParam(), backend);
    auto engine = loaded.engine(options_of("f32", 4, 7));
    const std::vector<Prompt> prompts = load_prompts(GetParam());
    std::vector<std::unique_ptr<TokenStream>> streams;
    for (const Prompt& prompt : prompts) {
      Request request;
      request.prompt = prompt.ids;
      request.sampling.temperature = 0;
      request.sampling.ignore_eos = true;
      request.sampling.max_tokens = static_cast<int>(prompt.generate.size());
      streams.push_back(engine->submit(request));
    }
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      EXPECT_EQ(read_all(*streams[i], 1)[0].tokens, prompts[i].generate) << backend << ", prompt " << i;
    }
  }
}

TEST_P(GoldenEngine, BatchedChunkedAndPreemptedAnswersAreThoseAlone) {
  Loaded loaded(GetParam());
  const std::vector<Request> requests = sampled_requests(loaded.model->config(), 8);
  std::int64_t preemptions = 0;
  for (const char* kv : {"f32", "bf16", "int8", "int4"}) {
    SCOPED_TRACE(kv);
    const auto expected = answers_alone(loaded, kv, requests);
    EngineOptions options = options_of(kv, 6, 11);
    expect_same(answers_together(*loaded.engine(options), requests), expected);

    const KvSpec spec = loaded.model->kv_spec(parse_kv_format(kv, *loaded.backend), options.block_tokens);
    options.kv_cache_bytes = loaded.backend->kv_block_bytes(spec) * 9;
    auto tight = loaded.engine(options);
    ASSERT_EQ(tight->plan().kv_blocks, 9);
    expect_same(answers_together(*tight, requests), expected);
    preemptions += tight->stats().preemptions;
  }
  EXPECT_GT(preemptions, 0) << "the pool is too roomy to test preemption";
}

INSTANTIATE_TEST_SUITE_P(All, GoldenEngine, ::testing::ValuesIn(case_names()), case_of);

TEST(GoldenEngineChunks, EveryChunkSizeGivesTheSameBits) {
  for (const char* name : {"llama_plain", "gemma2_plain", "llama_rope_dynamic"}) {
    Loaded loaded(name);
    const std::vector<Request> requests = sampled_requests(loaded.model->config(), 3);
    for (const char* kv : {"f32", "int8", "int4"}) {
      const auto expected = answers_alone(loaded, kv, requests);
      for (int chunk = 1; chunk <= 34; ++chunk) {
        SCOPED_TRACE(::testing::Message() << name << " " << kv << " chunk " << chunk);
        ASSERT_NO_FATAL_FAILURE(
            expect_same(answers_together(*loaded.engine(options_of(kv, 1, chunk)), requests), expected));
      }
    }
  }
}

// The scores of a prompt are the log-softmax of the logits that the reference recorded.
TEST(GoldenEngineScores, PromptLogprobsAreTheReferences) {
  Loaded loaded("llama_plain");
  auto engine = loaded.engine(options_of("f32", 2, 5));
  const Prompt prompt = load_prompts("llama_plain")[0];
  Request request;
  request.prompt = prompt.ids;
  request.sampling.prompt_logprobs = 1;
  request.sampling.max_tokens = 1;
  auto stream = engine->submit(request);
  read_all(*stream, 1);
  const std::vector<TokenEvent>& scores = stream->prompt_logprobs();
  ASSERT_EQ(scores.size(), prompt.ids.size());
  const auto vocab = static_cast<std::size_t>(loaded.model->config().vocab);
  for (std::size_t i = 1; i < scores.size(); ++i) {
    const std::span<const float> row = std::span(prompt.logits).subspan((i - 1) * vocab, vocab);
    double sum = 0;
    for (float x : row) sum += std::exp(static_cast<double>(x));
    EXPECT_NEAR(scores[i].logprob, row[static_cast<std::size_t>(prompt.ids[i])] - std::log(sum), 1e-4);
    EXPECT_EQ(scores[i].top[0].token, argmax(row));
  }
}

// Every request twice, and between the rounds others that begin like it or go on where its answer ended: what comes
// from the prefix cache gives the bits that computing gives.
TEST_P(GoldenEngine, CachedPrefixesGiveTheSameBits) {
  Loaded loaded(GetParam());
  std::vector<Request> requests = sampled_requests(loaded.model->config(), 6);
  for (std::size_t i = 0; i < 3; ++i) {
    Request longer = requests[i];
    longer.prompt.insert(longer.prompt.end(), {5, 9, 11, 3, 8, 21, 4});
    requests.push_back(longer);
  }
  const std::vector<Request> again = requests;
  requests.insert(requests.end(), again.begin(), again.end());
  const bool cacheable = !loaded.model->config().rope.depends_on_length();
  for (const char* kv : {"f32", "bf16", "int8", "int4"}) {
    SCOPED_TRACE(kv);
    const auto expected = answers_alone(loaded, kv, requests);
    auto engine = loaded.engine(options_of(kv, 3, 11));
    EXPECT_EQ(engine->plan().prefix_cache, cacheable);
    expect_same(answers_together(*engine, requests), expected);
    EXPECT_EQ(engine->stats().prefix_hits > 0, cacheable);
  }
}

// logits = head * state, so the head times a pooled state is the pooled logits that transformers recorded.
void expect_pooled(const std::string& name, Pooling pooling, const std::vector<float>& vector, const Prompt& prompt) {
  const auto files = ModelFiles::from_directory(models_folder() / name);
  const auto checkpoint = open_checkpoint(files, nullptr);
  const bool tied = !checkpoint->contains("lm_head.weight");
  const Weight head = checkpoint->dense(tied ? "model.embed_tokens.weight" : "lm_head.weight");
  ASSERT_EQ(static_cast<std::int64_t>(vector.size()), head.in);
  std::vector<float> matrix(static_cast<std::size_t>(head.out * head.in));
  convert_to_f32(head.data.data, head.data.dtype, head.out * head.in, matrix.data());
  const auto rows = prompt.ids.size();
  const auto vocab = static_cast<std::size_t>(head.out);
  std::vector<float> got, wanted;
  for (std::size_t v = 0; v < vocab; ++v) {
    double dot = 0, sum = 0;
    for (std::size_t i = 0; i < vector.size(); ++i) {
      dot += static_cast<double>(matrix[v * vector.size() + i]) * static_cast<double>(vector[i]);
    }
    for (std::size_t t = pooling == Pooling::last ? rows - 1 : 0; t < rows; ++t) {
      sum += static_cast<double>(prompt.logits[t * vocab + v]);
    }
    got.push_back(static_cast<float>(dot));
    wanted.push_back(static_cast<float>(pooling == Pooling::last ? sum : sum / static_cast<double>(rows)));
  }
  EXPECT_LT(distance(got, wanted).norm, 1e-4) << name;
}

TEST(GoldenEngineEmbeddings, ArePooledStatesOfTheReference) {
  for (const char* name : {"llama_plain", "llama_tied", "qwen2_untied", "qwen3_plain", "mistral_window"}) {
    Loaded loaded(name);
    const std::vector<Prompt> prompts = load_prompts(name);
    for (const int chunk : {3, 64}) {
      auto engine = loaded.engine(options_of("f32", 3, chunk));
      for (const Pooling pooling : {Pooling::mean, Pooling::last}) {
        std::vector<std::unique_ptr<TokenStream>> streams;
        for (const Prompt& prompt : prompts) {
          Request request;
          request.prompt = prompt.ids;
          request.pooling = pooling;
          streams.push_back(engine->submit(request));
        }
        for (std::size_t i = 0; i < prompts.size(); ++i) {
          const auto end = streams[i]->next();
          ASSERT_TRUE(end && end->finish == FinishReason::stop && end->token < 0);
          ASSERT_NO_FATAL_FAILURE(expect_pooled(name, pooling, streams[i]->embedding(), prompts[i]));
        }
      }
    }
  }
}

TEST(GoldenEnginePlan, SaysWhatItIsAndWhy) {
  Loaded loaded("llama_plain");
  EngineOptions options = options_of("int8", 3, 16);
  std::string seen;
  options.on_plan = [&](const MemoryPlan& plan) { seen = describe(plan); };
  loaded.engine(options);
  EXPECT_NE(seen.find("24 blocks of 8 tokens in int8, prefixes cached"), std::string::npos) << seen;
  EXPECT_NE(seen.find("longest sequence 64 tokens; 3 of that length at once"), std::string::npos) << seen;
  EXPECT_NE(seen.find("holds max_sequences = 3"), std::string::npos) << seen;
  options.context = 0;
  options.kv_cache_blocks = 2;
  loaded.engine(options);
  EXPECT_NE(seen.find("the context is cut from"), std::string::npos) << seen;
  options.kv_cache_bytes = 1;
  EXPECT_ERROR(ErrorCode::invalid_argument, "kv_cache_blocks", loaded.engine(options));
  options = options_of("f32", 3, 16);
  options.kv_cache_blocks = std::int64_t{1} << 34;
  EXPECT_ERROR(ErrorCode::out_of_memory, "are free", loaded.engine(options));
}

TEST(GoldenEnginePlan, CountsWhatIsAllocated) {
  Loaded loaded("llama_plain");
  const EngineOptions options = options_of("int8", 3, 16);
  const MemoryPlan plan = plan_memory(*loaded.model, *loaded.backend, options);
  EXPECT_EQ(plan.kv_format, "int8");
  EXPECT_EQ(plan.context, 64);
  EXPECT_EQ(plan.kv_blocks, 3 * 8);
  EXPECT_EQ(plan.weights, weight_bytes(*loaded.model));
  EXPECT_GT(plan.weights, 0);
  EXPECT_GT(plan.arena, 0);
  EXPECT_EQ(plan.total(), plan.weights + plan.arena + plan.kv_block * 24);
  EXPECT_LT(plan.kv_block, plan_memory(*loaded.model, *loaded.backend, options_of("f32", 3, 16)).kv_block);
}

TEST(GoldenEnginePlan, AutoIsBf16AndF32OnTheReference) {
  Loaded cpu("llama_plain"), ref("llama_plain", "ref");
  EXPECT_EQ(plan_memory(*cpu.model, *cpu.backend, options_of("auto", 1, 8)).kv_format, "bf16");
  EXPECT_EQ(plan_memory(*ref.model, *ref.backend, options_of("auto", 1, 8)).kv_format, "f32");
}

TEST(GoldenEnginePlan, AContextThatDoesNotFitIsRefusedOrShrunk) {
  Loaded loaded("llama_plain");
  EngineOptions options = options_of("f32", 4, 16);
  options.kv_cache_bytes = plan_memory(*loaded.model, *loaded.backend, options).kv_block * 5;
  EXPECT_ERROR(ErrorCode::out_of_memory, "a context of 40 fits", plan_memory(*loaded.model, *loaded.backend, options));
  options.context = 0;
  EXPECT_EQ(plan_memory(*loaded.model, *loaded.backend, options).context, 40);
  options.kv_cache_bytes = 10;
  EXPECT_ERROR(ErrorCode::out_of_memory, "one block of 8 tokens", plan_memory(*loaded.model, *loaded.backend, options));
}

TEST(GoldenEnginePlan, BlocksAndShareOfTheMemoryBoundTheCache) {
  Loaded loaded("llama_plain");
  EngineOptions options = options_of("f32", 4, 16);
  options.context = 0;
  options.kv_cache_blocks = 5;
  EXPECT_EQ(plan_memory(*loaded.model, *loaded.backend, options).kv_blocks, 5);
  EXPECT_EQ(plan_memory(*loaded.model, *loaded.backend, options).context, 40);
  options.context = 64;
  EXPECT_ERROR(ErrorCode::out_of_memory, "kv_cache_blocks is 5", plan_memory(*loaded.model, *loaded.backend, options));
  options.kv_cache_blocks = 0;
  options.kv_cache_share = 1e-12;
  EXPECT_ERROR(ErrorCode::out_of_memory, "1e-10 % of the free memory",
               plan_memory(*loaded.model, *loaded.backend, options));
}

TEST(GoldenEnginePlan, BadOptionsAreRefusedByName) {
  Loaded loaded("llama_plain");
  const auto plan = [&](auto change) {
    EngineOptions options = options_of("auto", 4, 16);
    change(options);
    return plan_memory(*loaded.model, *loaded.backend, options);
  };
  const ErrorCode invalid = ErrorCode::invalid_argument;
  EXPECT_ERROR(invalid, "max_step_tokens is 3", plan([](EngineOptions& o) { o.max_step_tokens = 3; }));
  EXPECT_ERROR(invalid, "max_sequences", plan([](EngineOptions& o) { o.max_sequences = 0; }));
  EXPECT_ERROR(invalid, "max_queued", plan([](EngineOptions& o) { o.max_queued = 0; }));
  EXPECT_ERROR(invalid, "block_tokens", plan([](EngineOptions& o) { o.block_tokens = 0; }));
  EXPECT_ERROR(invalid, "kv_cache_bytes", plan([](EngineOptions& o) { o.kv_cache_bytes = -1; }));
  EXPECT_ERROR(invalid, "kv_cache_blocks", plan([](EngineOptions& o) { o.kv_cache_blocks = -1; }));
  EXPECT_ERROR(invalid, "kv_cache_share is 0", plan([](EngineOptions& o) { o.kv_cache_share = 0; }));
  EXPECT_ERROR(invalid, "kv_cache_share is 1.5", plan([](EngineOptions& o) { o.kv_cache_share = 1.5; }));
  EXPECT_ERROR(invalid, "context is 1000000", plan([](EngineOptions& o) { o.context = 1000000; }));
  EXPECT_ERROR(invalid, "int3", plan([](EngineOptions& o) { o.kv_cache = "int3"; }));
}

}  // namespace
}  // namespace bittern::golden
